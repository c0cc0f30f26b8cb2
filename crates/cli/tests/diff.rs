//! `gesso diff`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::path::Path;
use support::{gesso, lora, said, shapes, succeeds};

fn diff(a: &Path, b: &Path) -> (i32, serde_json::Value) {
    let output = gesso()
        .args(["diff", "--json"])
        .arg(a)
        .arg(b)
        .output()
        .unwrap();
    assert!(output.status.code().unwrap() < 2, "{}", said(&output));
    (
        output.status.code().unwrap(),
        serde_json::from_slice(&output.stdout).unwrap(),
    )
}

#[test]
fn precision_bits_and_baked_loras_show() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    let convert = |name: &str, more: &[&str]| {
        succeeds(
            gesso()
                .args(["convert", "--adapter-rank", "0", "-o"])
                .arg(at(name))
                .args(more)
                .arg(shapes()),
        );
    };
    convert("full", &[]);
    convert("four", &["--bits", "4"]);
    let baked = format!("{}:1.0", lora("sketch").display());
    convert("baked", &["--lora", &baked]);
    let unet = |name: &str| at(name).join("Unet.mlpackage");

    let (code, same) = diff(&unet("full"), &unet("full"));
    assert_eq!(
        (
            code,
            &same["different"],
            same["changes"].as_array().unwrap().len()
        ),
        (0, &false.into(), 0)
    );

    let (code, bits) = diff(&unet("full"), &unet("four"));
    assert_eq!(code, 1);
    let changes = bits["changes"].as_array().unwrap();
    let weights: Vec<_> = changes
        .iter()
        .filter(|c| c["area"] == "weight" && c["db"].is_number())
        .collect();
    assert!(weights.len() >= 100, "{}", weights.len());
    for w in &weights {
        let db = w["db"].as_f64().unwrap();
        assert!((10.0..90.0).contains(&db), "{w}");
        assert!(
            w["after"]
                .as_str()
                .unwrap()
                .contains("constexpr_lut_to_dense by tensor<fp16, [16]>"),
            "{w}"
        );
    }
    assert!(
        !changes
            .iter()
            .any(|c| c["area"] == "op" || c["area"] == "feature"),
        "{bits:#}"
    );
    assert!(
        changes
            .iter()
            .any(|c| c["area"] == "metadata" && c["name"] == "gesso.bits"),
        "{bits:#}"
    );

    let (code, lora) = diff(&unet("full"), &unet("baked"));
    assert_eq!(code, 1);
    let changes = lora["changes"].as_array().unwrap();
    assert!(
        changes
            .iter()
            .any(|c| c["area"] == "weight" && c["before"] == c["after"]),
        "{lora:#}"
    );
}

#[test]
fn ops_and_features_show() {
    let sample =
        |name: &str| gesso_testkit::fixture(&format!("formats/samples/{name}/{name}.mlpackage"));
    let output = gesso()
        .arg("diff")
        .arg(sample("base_fp16_ios16"))
        .arg(sample("optional_input_ios17"))
        .output()
        .unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for part in [
        "version : 7 → 8",
        "opset main: CoreML6 → CoreML7",
        "ops of kind conv: removed (1)",
        "feature main/input x:",
    ] {
        assert!(text.contains(part), "`{part}` is not in {text}");
    }
}
