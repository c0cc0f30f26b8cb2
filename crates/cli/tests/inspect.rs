//! `gesso inspect` on everything that it knows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::path::{Path, PathBuf};
use support::{gesso, lora, refuses, shapes, succeeds};

fn sample(name: &str) -> PathBuf {
    gesso_testkit::fixture(&format!("formats/samples/{name}/{name}.mlpackage"))
}

fn document(path: &Path, more: &[&str]) -> serde_json::Value {
    let text = succeeds(gesso().args(["inspect", "--json"]).arg(path).args(more));
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_package() {
    let d = document(&sample("lut4_grouped8_ios18"), &["--ops", "--tensors"]);
    assert_eq!(
        (&d["kind"], &d["specification_version"]),
        (&"package".into(), &9.into())
    );
    assert_eq!(
        d["functions"]["main"]["inputs"][0]["type"],
        "FLOAT32 [1, 16, 8, 8]"
    );
    assert_eq!(d["histogram"]["constexpr_lut_to_dense"], 2);
    assert_eq!(d["bytes_by_dtype"]["uint4"], 32 * 16 * 9 / 2 + 24 * 32 / 2);
    let palettes = d["palettes"].as_array().unwrap();
    let shown: Vec<_> = palettes
        .iter()
        .map(|p| (p["bits"].as_u64(), p["groups"].as_u64()))
        .collect();
    assert_eq!(shown, [(Some(4), Some(4)), (Some(4), Some(3))]);
    assert!(
        d["ops"]
            .as_array()
            .unwrap()
            .iter()
            .any(|o| o["op"] == "relu" && o["inputs"]["x"].is_array())
    );
    let tensors = d["tensors"].as_array().unwrap();
    assert!(tensors.iter().any(|t| {
        t["parts"]
            .as_array()
            .unwrap()
            .iter()
            .any(|p| p["offset"] == 64)
    }));

    let text = succeeds(gesso().arg("inspect").arg(sample("stateful_ios18")));
    for part in [
        "kind: package",
        "opset: CoreML8",
        "acc",
        "state FLOAT16 [1, 8]",
        "read_state",
    ] {
        assert!(text.contains(part), "`{part}` is not in {text}");
    }
}

#[test]
fn several_functions_and_defaults() {
    let d = document(&sample("multifunction_ios18"), &[]);
    assert_eq!(d["default_function"], "alpha");
    assert!(d["functions"]["beta"]["outputs"][0]["name"].is_string());
    let d = document(&sample("optional_input_ios17"), &[]);
    let types: Vec<&str> = d["functions"]["main"]["inputs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| i["type"].as_str().unwrap())
        .collect();
    assert!(
        types
            .iter()
            .any(|t| t.contains("optional") && t.contains("default")),
        "{types:?}"
    );
}

#[test]
fn a_drawing() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("graph.svg");
    succeeds(
        gesso()
            .arg("inspect")
            .arg(sample("base_fp16_ios16"))
            .arg("--graph")
            .arg(&file),
    );
    let svg = std::fs::read_to_string(file).unwrap();
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    // The input and its cast, conv, relu, mean, linear and the last cast; constants are left out.
    assert_eq!(svg.matches("<rect ").count(), 7, "{svg}");
    assert_eq!(svg.matches("<path class=\"e\"").count(), 6, "{svg}");
    assert!(svg.contains(">conv</text>") && svg.contains("tensor&lt;fp16, [1, 32, 8, 8]&gt;"));
}

#[test]
fn a_compiled_model() {
    let Some(samples) = gesso_testkit::shared("formats/mlmodelc-samples") else {
        return;
    };
    let d = document(&samples.join("silero-vad/silero_vad.mlmodelc"), &[]);
    assert_eq!(
        (&d["kind"], &d["specification_version"]),
        (&"compiled model".into(), &6.into())
    );
    assert!(d["weight_bytes"].as_u64().unwrap() > 900_000);
}

#[test]
fn a_weight_file() {
    let d = document(
        &sample("lut4_pertensor_ios16").join("Data/com.apple.CoreML/weights/weight.bin"),
        &[],
    );
    let first = &d["records"][0];
    assert_eq!(
        (&d["kind"], &first["offset"], &first["dtype"]),
        (&"weight file".into(), &64.into(), &"UInt8".into())
    );
    assert_eq!(first["bytes"], 2304);
}

#[test]
fn a_checkpoint() {
    let d = document(&shapes(), &[]);
    assert_eq!(
        (&d["kind"], &d["family"]),
        (&"checkpoint".into(), &"sd1".into())
    );
    assert_eq!(d["components"].as_array().unwrap().len(), 3);
    assert_eq!(d["hash"].as_str().unwrap().len(), 64);
}

#[test]
fn a_converted_folder_and_its_adapter() {
    let root = tempfile::tempdir().unwrap();
    let (out, asset) = (
        root.path().join("out"),
        root.path().join("a.mlmodelcassets"),
    );
    succeeds(gesso().args(["convert", "-o"]).arg(&out).arg(shapes()));
    succeeds(
        gesso()
            .args(["adapter", "--base"])
            .arg(&out)
            .arg("-o")
            .arg(&asset)
            .arg(lora("sketch")),
    );
    let d = document(&out, &[]);
    assert_eq!(
        (&d["kind"], &d["info"]["family"]),
        (&"converted folder".into(), &"sd1".into())
    );
    let text = succeeds(gesso().arg("inspect").arg(&out));
    assert!(
        text.contains("UnetAdaptable") && text.contains("layout hash"),
        "{text}"
    );
    let d = document(&asset, &[]);
    assert_eq!(
        (&d["kind"], &d["manifest"]["kind"]),
        (&"adapter asset".into(), &"gesso.adapter".into())
    );
    let d = document(&lora("sketch"), &["--base", out.to_str().unwrap()]);
    assert_eq!(d["unmatched"], serde_json::json!([]));
    assert!(!d["modules"].as_array().unwrap().is_empty());
}

#[test]
fn a_lora_with_and_without_a_base() {
    let d = document(&lora("sketch"), &[]);
    assert_eq!(
        (&d["kind"], &d["modules"]),
        (&"lora".into(), &serde_json::Value::Null)
    );
    assert!(!d["ranks"].as_object().unwrap().is_empty());
    let base = shapes();
    let d = document(&lora("sketch"), &["--base", base.to_str().unwrap()]);
    assert_eq!(d["applied"], d["tensors"]);
    assert!(
        d["algorithms"]["lora"].as_u64().unwrap() > 0,
        "{}",
        d["algorithms"]
    );

    // One tensor that no module of the base has.
    let root = tempfile::tempdir().unwrap();
    let stray = root.path().join("stray.safetensors");
    let mut tensors = support::Tensors::open(&lora("sketch"));
    let stray_key = "lora_unet_conv_inn.lora_down.weight";
    tensors.add(stray_key, &[1, 4], 0.5);
    tensors.write(&stray);
    let against = |lora: &Path, more: &[&str]| {
        let mut command = gesso();
        command.arg("inspect").arg(lora).arg("--base").arg(&base);
        command.args(more).output().unwrap()
    };
    let output = against(&stray, &["--json"]);
    assert_eq!(output.status.code(), Some(2));
    let d: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let unmatched = &d["unmatched"];
    assert_eq!(unmatched.as_array().unwrap().len(), 1);
    assert_eq!(unmatched[0]["name"], stray_key);
    let nearest = "lora_unet_conv_in";
    assert_eq!(unmatched[0]["nearest"], nearest);
    assert_eq!(d["modules"].as_array().unwrap().len(), 120);
    let text = support::said(&against(&stray, &[]));
    let parts = [
        "unmatched: lora_unet_conv_inn.lora_down.weight (nearest known module: lora_unet_conv",
        "neither applied nor known to be ignorable",
        "--ignore PATTERN",
        "linears and convolutions of the base: 120 touched, ",
        "scales (alpha / rank): 0.5 (120)",
        "alphas: 4 (120)",
    ];
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
    let output = against(&stray, &["--json", "--ignore", "*conv_inn*"]);
    assert_eq!(output.status.code(), Some(0));
    let d: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(d["unmatched"], serde_json::json!([]));
    assert_eq!(d["ignored"][0]["reason"], "pattern `*conv_inn*`");
    let missed = d["missed"].as_array().unwrap();
    assert!(missed.contains(&"unet:conv_in".into()), "{missed:?}");

    // Nothing applied at all.
    let nothing = root.path().join("nothing.safetensors");
    let mut tensors = support::Tensors {
        header: serde_json::Map::new(),
        data: Vec::new(),
    };
    tensors.add("lora_unet_conv_inn.lora_down.weight", &[1, 4], 0.5);
    tensors.write(&nothing);
    let output = against(&nothing, &[]);
    assert_eq!(output.status.code(), Some(2));
    let text = support::said(&output);
    assert!(
        text.contains("no module of the model is touched") && text.contains("conv"),
        "{text}"
    );
    refuses(
        gesso().arg("inspect").arg(&stray).args(["--ignore", "*"]),
        &["--base"],
    );
}

#[test]
fn trigger_words_and_alphas_of_the_header_are_said() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("words.safetensors");
    let mut tensors = support::Tensors::open(&lora("sketch"));
    tensors.header["__metadata__"]["modelspec.trigger_phrase"] = "sks, ink".into();
    tensors.write(&path);
    let text = succeeds(gesso().arg("inspect").arg(&path));
    assert!(text.contains("trigger words: sks, ink"), "{text}");
    let peft = gesso_testkit::fixture("lora/equiv/lora_peft_metadata_alpha.safetensors");
    let d = document(&peft, &[]);
    let configured = d["configured_alphas"].to_string();
    assert!(
        configured.contains("unet: 2, another one by 13 patterns"),
        "{configured}"
    );
}

#[test]
fn options_that_do_not_fit_are_refused() {
    refuses(
        gesso().args(["inspect", "nowhere"]),
        &["`nowhere` does not exist"],
    );
    refuses(
        gesso().arg("inspect").arg(lora("sketch")).arg("--ops"),
        &["`--ops` is for models"],
    );
    let folder = tempfile::tempdir().unwrap();
    refuses(
        gesso()
            .arg("inspect")
            .arg(sample("base_fp16_ios16"))
            .arg("--graph")
            .arg(folder.path()),
        &["is a folder, expected a file"],
    );
    refuses(
        gesso().arg("inspect").arg(shapes()).args(["--base", "x"]),
        &["`--base` is for LoRA files"],
    );
}
