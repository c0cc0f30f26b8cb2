//! Lints on every stored package: what is clean stays clean, what is known to be wrong is found.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use gesso_coreml::package::Package;
use gesso_coreml::proto::specification::Model;
use gesso_mil::lints::{self, Facts, Severity};
use prost::Message;
use std::path::Path;

/// Every package in the folders below `root`, with the numbers of its errors and warnings.
fn found(root: &Path) -> Vec<(String, Vec<&'static str>)> {
    let mut found = Vec::new();
    for folder in std::fs::read_dir(root)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.is_dir())
    {
        for path in std::fs::read_dir(&folder)
            .unwrap()
            .map(|e| e.unwrap().path())
        {
            if path.extension().is_none_or(|e| e != "mlpackage") {
                continue;
            }
            let package = Package::open(&path).unwrap();
            let mut ids: Vec<_> = lints::run(&package.model, &Facts::of(&package))
                .iter()
                .filter(|f| f.severity != Severity::Note)
                .map(|f| f.id)
                .collect();
            ids.dedup();
            found.push((
                folder.file_name().unwrap().to_str().unwrap().to_string(),
                ids,
            ));
        }
    }
    found.sort();
    found
}

#[test]
fn own_samples() {
    let found = found(&gesso_testkit::fixture("formats/samples"));
    assert!(found.len() >= 20, "{}", found.len());
    for (name, ids) in found {
        // An empty folder of weights does not survive in a repository.
        let ids: Vec<_> = ids.into_iter().filter(|id| *id != "L43").collect();
        let expected: &[&str] = match name.as_str() {
            "stateful_ios18" => &["L25", "L41"],
            "lut4_grouped8_scale_ios18" => &["L35"],
            _ => &[],
        };
        assert_eq!(ids, expected, "{name}");
    }
}

/// Damaged models give findings or are refused by the decoder; nothing panics.
#[test]
fn damaged_models() {
    let mut state = 1u64;
    let mut next = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut decoded = 0;
    for name in [
        "lut4_grouped8_ios18",
        "multifunction_ios18",
        "stateful_ios18",
        "lin8_perchannel_ios16",
    ] {
        let path = gesso_testkit::fixture(&format!("formats/samples/{name}/{name}.mlpackage"));
        let package = Package::open(&path).unwrap();
        let (bytes, facts) = (package.model.encode_to_vec(), Facts::of(&package));
        for _ in 0..4000 {
            let mut damaged = bytes.clone();
            for _ in 0..=next(3) {
                let at = next(damaged.len());
                damaged[at] = next(256) as u8;
            }
            if let Ok(model) = Model::decode(damaged.as_slice()) {
                decoded += 1;
                lints::run(&model, &facts);
            }
        }
    }
    assert!(decoded > 1000, "{decoded}");
}

#[test]
fn foreign_samples() {
    let Some(root) = gesso_testkit::shared("formats/mlpackage-samples") else {
        return;
    };
    let found = found(&root);
    assert!(found.len() >= 4, "{}", found.len());
    for (name, ids) in found {
        let expected: &[&str] = match name.as_str() {
            "dtln-aec-128-part1" | "rustnn-weighted-pipeline" => &[],
            // It returns one of its inputs.
            "kokoro-duration" => &["L11", "L31", "L43"],
            // Stored without their weights.
            _ => &["L11", "L43"],
        };
        assert_eq!(ids, expected, "{name}");
    }
}
