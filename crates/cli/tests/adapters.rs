//! `gesso adapter` on many LoRAs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use support::{gesso, lora, names, refuses, said, shapes, succeeds};

/// The shapes model, converted.
fn base(scratch: &Path) -> PathBuf {
    let out = scratch.join("base");
    let options = ["--format", "mlpackage", "-o"];
    succeeds(gesso().arg("convert").arg(shapes()).args(options).arg(&out));
    out
}

fn adapter(base: &Path, output: &Path) -> Command {
    let mut command = gesso();
    command.arg("adapter").arg("--base").arg(base);
    command.arg("-o").arg(output);
    command
}

/// 21 good files, one cut short, and one that is no LoRA by its name.
fn collection(scratch: &Path) -> PathBuf {
    let folder = scratch.join("loras");
    std::fs::create_dir(&folder).unwrap();
    for i in 0..7 {
        for style in ["pixel", "sketch", "watercolor"] {
            let name = format!("{style}_{i}.safetensors");
            std::fs::copy(lora(style), folder.join(name)).unwrap();
        }
    }
    let whole = std::fs::read(lora("pixel")).unwrap();
    std::fs::write(folder.join("pixel_x.safetensors"), &whole[..2000]).unwrap();
    std::fs::write(folder.join("notes.txt"), "not a LoRA").unwrap();
    folder
}

#[test]
fn one_bad_file_among_many_is_named_and_the_rest_is_built() {
    let scratch = tempfile::tempdir().unwrap();
    let base = base(scratch.path());
    let loras = collection(scratch.path());
    let assets = scratch.path().join("assets");
    let output = adapter(&base, &assets)
        .arg(&loras)
        .args(["--jobs", "3", "--json"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let made = document["adapters"].as_array().unwrap();
    assert_eq!(made.len(), 21);
    let order: Vec<&str> = made.iter().map(|a| a["lora"].as_str().unwrap()).collect();
    assert!(order.is_sorted(), "{order:?}");
    let failed = document["failed"].as_array().unwrap();
    assert_eq!(failed.len(), 1);
    let bad = loras.join("pixel_x.safetensors").display().to_string();
    assert_eq!(failed[0]["lora"], bad.as_str());
    assert!(failed[0]["error"].as_str().unwrap().contains(&bad));

    let written = names(&assets);
    assert_eq!(written.len(), 21, "{written:?}");
    // The file itself names this LoRA, so copies of other names give the same bytes.
    let alone = scratch.path().join("sketch.mlmodelcassets");
    succeeds(adapter(&base, &alone).arg(lora("sketch")));
    let alone = std::fs::read(alone).unwrap();
    for i in 0..7 {
        let asset = assets.join(format!("sketch_{i}.mlmodelcassets"));
        assert!(std::fs::read(asset).unwrap() == alone, "sketch {i}");
    }
}

#[test]
fn the_table_names_what_failed_and_existing_assets_stay() {
    let scratch = tempfile::tempdir().unwrap();
    let base = base(scratch.path());
    let assets = scratch.path().join("assets");
    let missing = scratch.path().join("missing.safetensors");
    let again = scratch.path().join("sketch.safetensors");
    std::fs::copy(lora("pixel"), &again).unwrap();
    let mut command = adapter(&base, &assets);
    command.arg(lora("sketch")).arg(&missing).arg(&again);
    let output = command.output().unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for part in [
        "wrote 1 of 3 assets",
        "failed: `",
        "missing.safetensors",
        "rename one of the two",
    ] {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
    assert_eq!(names(&assets), ["sketch.mlmodelcassets"]);
    let first = std::fs::read(assets.join("sketch.mlmodelcassets")).unwrap();

    let mut two = adapter(&base, &assets);
    two.arg(lora("sketch")).arg(lora("pixel"));
    let output = two.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("exists"), "{}", said(&output));
    let kept = std::fs::read(assets.join("sketch.mlmodelcassets")).unwrap();
    assert_eq!(kept, first);
    succeeds(two.arg("--force"));
    assert_eq!(
        names(&assets),
        ["pixel.mlmodelcassets", "sketch.mlmodelcassets"]
    );
    let made = std::fs::read(assets.join("sketch.mlmodelcassets")).unwrap();
    assert_eq!(made, first);
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let base = base(scratch.path());
    let assets = scratch.path().join("assets");
    let empty = scratch.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    refuses(
        adapter(&base, &assets).arg(&empty),
        &["has no .safetensors file"],
    );
    let styles = [lora("sketch"), lora("pixel")];
    refuses(
        adapter(&base, &assets).args(&styles).args(["--name", "n"]),
        &["`--name` names one adapter"],
    );
    assert!(!assets.exists());
}

#[test]
fn sums_and_smaller_ranks() {
    let scratch = tempfile::tempdir().unwrap();
    let base = base(scratch.path());
    let report = |name: &str, options: &[&str]| {
        let sum = scratch.path().join(name);
        let mut command = adapter(&base, &sum);
        for (style, strength) in [("sketch", ":0.7"), ("pixel", ":unet=0.5,te=0.2")] {
            command.arg(format!("{}{strength}", lora(style).display()));
        }
        let text = succeeds(command.args(["--merge", "--json"]).args(options));
        let document: serde_json::Value = serde_json::from_str(&text).unwrap();
        document
    };
    let exact = report("exact", &["--exact", "--name", "both"]);
    assert_eq!(exact["name"], "both");
    assert_eq!(exact["truncated"].as_array().unwrap().len(), 0);
    let whole = exact["rank"]["unet"].as_u64().unwrap();
    let cut = report("cut", &["--resize", "4"]);
    assert_eq!(cut["name"], "sketch + pixel");
    assert_eq!(cut["rank"]["unet"], 4);
    assert!(whole > 4 && exact["bytes"].as_u64() > cut["bytes"].as_u64());
    let lost = cut["truncated"][0]["lost_energy"].as_f64().unwrap();
    assert!(lost > 0.0 && lost < 1.0, "{lost}");
    let whole = |d: &serde_json::Value| d["losses"]["unet"]["snr_db"].as_f64().unwrap();
    assert!(whole(&exact) > 60.0 && whole(&cut) < 30.0, "{exact} {cut}");
    assert!(cut["losses"]["unet"]["lowest_snr_db"].as_f64().unwrap() <= whole(&cut));
    let mut both = adapter(&base, &scratch.path().join("never"));
    both.arg(lora("sketch"));
    refuses(both.args(["--rank", "4", "--exact"]), &["cannot be used"]);
}

#[test]
fn every_route_says_what_it_loses() {
    let scratch = tempfile::tempdir().unwrap();
    let base = base(scratch.path());
    let line = |text: &str| {
        let line = text
            .lines()
            .find(|l| l.starts_with("loss: ") && l.contains("`unet`"));
        let line = line
            .unwrap_or_else(|| panic!("no loss in {text}"))
            .to_string();
        assert!(
            line.contains("against the exact fp32 merge, lowest "),
            "{line}"
        );
        line
    };
    let asset = scratch.path().join("slots.mlmodelcassets");
    let text = succeeds(adapter(&base, &asset).arg(lora("sketch")));
    assert!(line(&text).contains("the differences"));
    let delta = scratch.path().join("delta.mlmodelcassets");
    let mut command = adapter(&base, &delta);
    command.arg(lora("sketch")).args(["--as", "delta"]);
    let text = succeeds(command.arg("--checkpoint").arg(shapes()));
    let of_delta = line(&text);
    let baked = scratch.path().join("baked");
    let mut command = gesso();
    command
        .arg("convert")
        .arg(shapes())
        .arg("--lora")
        .arg(lora("sketch"));
    let text = succeeds(command.args(["--format", "mlpackage", "-o"]).arg(&baked));
    // A delta holds the weights that baking writes.
    let of_weights = |line: &str| {
        line.split_once("have an SNR")
            .map(|(_, rest)| rest.to_string())
    };
    assert_eq!(of_weights(&line(&text)), of_weights(&of_delta));
}

#[test]
fn the_checkpoint_must_be_the_bases_own() {
    let scratch = tempfile::tempdir().unwrap();
    let base = base(scratch.path());
    let asset = scratch.path().join("sketch.mlmodelcassets");
    let other = gesso_testkit::fixture("goldens/models/sd1");
    let mut command = adapter(&base, &asset);
    command.arg(lora("sketch")).arg("--checkpoint");
    refuses(
        command.arg(other),
        &["is not what the base was converted from"],
    );
    let mut command = adapter(&base, &asset);
    command.arg(lora("sketch")).arg("--checkpoint");
    succeeds(command.arg(shapes()));
    assert!(asset.is_file());
}

#[test]
fn a_thousand_in_one_call_with_one_bad_among_them() {
    let scratch = tempfile::tempdir().unwrap();
    let base = base(scratch.path());
    let loras = scratch.path().join("loras");
    std::fs::create_dir(&loras).unwrap();
    let mut tensors = support::Tensors {
        header: serde_json::Map::new(),
        data: Vec::new(),
    };
    let module = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q";
    tensors.add(&format!("{module}.lora_down.weight"), &[1, 48], 0.25);
    tensors.add(&format!("{module}.lora_up.weight"), &[48, 1], 0.5);
    let first = loras.join("0000.safetensors");
    tensors.write(&first);
    let whole = std::fs::read(&first).unwrap();
    for i in 1..1000 {
        let bytes = if i == 617 { &whole[..100] } else { &whole[..] };
        std::fs::write(loras.join(format!("{i:04}.safetensors")), bytes).unwrap();
    }
    let assets = scratch.path().join("assets");
    let mut command = adapter(&base, &assets);
    let output = command
        .arg(&loras)
        .args(["--jobs", "2", "--json"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["adapters"].as_array().unwrap().len(), 999);
    let failed = document["failed"].as_array().unwrap();
    assert_eq!(failed.len(), 1);
    assert!(
        failed[0]["lora"]
            .as_str()
            .unwrap()
            .ends_with("0617.safetensors")
    );
    let written = names(&assets);
    assert_eq!(written.len(), 999);
    assert!(!written.contains(&"0617.mlmodelcassets".to_string()));
}
