//! The pictures that the Swift runtime is compared with are what `gesso generate` makes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use gesso_testkit::fixture;
use serde_json::Value;
use std::path::Path;
use support::{gesso, succeeds};

fn pixels(file: &Path) -> Vec<u8> {
    let open = std::io::BufReader::new(std::fs::File::open(file).unwrap());
    let mut reader = png::Decoder::new(open).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut pixels).unwrap();
    pixels
}

/// Within one level per channel: other processors add in another order.
#[test]
fn stored_pictures_are_those_of_generate() {
    let folder = fixture("swift");
    let text = std::fs::read_to_string(folder.join("pictures.json")).unwrap();
    let rows: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(rows.len(), 6);
    let scratch = tempfile::tempdir().unwrap();
    for row in rows {
        let file = row["file"].as_str().unwrap();
        let made = scratch.path().join(file);
        let mut command = gesso();
        command.arg("generate").arg(folder.join("base"));
        command.arg("--adapter-dir").arg(&folder);
        command.arg("-o").arg(&made);
        for name in [
            "prompt",
            "negative",
            "steps",
            "scheduler",
            "seed",
            "rng",
            "guidance",
        ] {
            let value = &row[name];
            let value = value.as_str().map_or(value.to_string(), Into::into);
            command.arg(format!("--{name}={value}"));
        }
        for adapter in row["adapters"].as_array().unwrap() {
            let asset = folder.join(format!("{}.mlmodelcassets", adapter[0].as_str().unwrap()));
            command.arg("--adapter");
            command.arg(format!("{}:{}", asset.display(), adapter[1]));
        }
        succeeds(&mut command);
        let (stored, found) = (pixels(&folder.join(file)), pixels(&made));
        assert_eq!(found.len(), 128 * 128 * 3);
        let most = stored.iter().zip(&found).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(most <= Some(1), "{file}: {most:?} levels");
    }
}
