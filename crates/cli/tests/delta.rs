//! `gesso adapter --as delta` and `gesso apply`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use support::{gesso, lora, names, refuses, shapes, succeeds};

fn convert(out: &Path, bits: &str, options: &[&str]) {
    let mut command = gesso();
    command.arg("convert").arg(shapes()).args(["--bits", bits]);
    succeeds(command.args(options).arg("-o").arg(out));
}

fn delta(base: &Path, out: &Path, lora: &str) -> std::process::Command {
    deltas(base, out, &[lora.to_string()])
}

fn deltas(base: &Path, out: &Path, loras: &[String]) -> std::process::Command {
    let mut command = gesso();
    command.arg("adapter").args(loras);
    command.args(["--as", "delta", "--base"]);
    command.arg(base).arg("--checkpoint").arg(shapes());
    command.arg("-o").arg(out);
    command
}

fn apply(delta: &Path, base: &Path, out: &Path) -> std::process::Command {
    let mut command = gesso();
    command.arg("apply").arg(delta).arg("--base").arg(base);
    command.arg("-o").arg(out);
    command
}

/// Every file below a folder.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for name in names(folder) {
        let path = folder.join(&name);
        if path.is_dir() {
            let below = files(&path).into_iter();
            found.extend(below.map(|(k, v)| (Path::new(&name).join(k), v)));
        } else {
            found.insert(name.into(), std::fs::read(path).unwrap());
        }
    }
    found
}

fn json(bytes: &[u8]) -> serde_json::Value {
    serde_json::from_slice(bytes).unwrap()
}

/// A base with the delta is, file by file, what baking writes; only `gesso.json` says how it came about.
fn equals_baking(bits: &str, styles: &[(&str, &str)]) {
    let scratch = tempfile::tempdir().unwrap();
    let at = |name: &str| scratch.path().join(name);
    let arguments: Vec<String> = styles
        .iter()
        .map(|(style, strength)| format!("{}:{strength}", lora(style).display()))
        .collect();
    convert(&at("base"), bits, &[]);
    let options: Vec<&str> = arguments.iter().flat_map(|a| ["--lora", a]).collect();
    convert(&at("baked"), bits, &options);
    let asset = at("x.mlmodelcassets");
    let mut command = deltas(&at("base"), &asset, &arguments);
    if styles.len() > 1 {
        command.arg("--merge");
    }
    succeeds(&mut command);
    let before = files(&at("base"));
    succeeds(&mut apply(&asset, &at("base"), &at("applied")));
    assert!(before == files(&at("base")), "the base changed");

    let mut applied = files(&at("applied"));
    let mut baked = files(&at("baked"));
    let name = Path::new("gesso.json");
    let (mut a, mut b) = (
        json(&applied.remove(name).unwrap()),
        json(&baked.remove(name).unwrap()),
    );
    assert_eq!(a["deltas"].as_array().unwrap().len(), 1);
    a.as_object_mut().unwrap().remove("deltas");
    a["recipe"]["loras"].take();
    b["recipe"]["loras"].take();
    assert_eq!(a, b);
    assert!(applied.keys().eq(baked.keys()));
    for (path, bytes) in &applied {
        assert!(*bytes == baked[path], "{} differs", path.display());
    }
    let differs = |path: &&PathBuf| before[*path] != baked[*path];
    let changed = baked.keys().filter(differs);
    let weights = changed.filter(|p| p.ends_with("weights/weight.bin"));
    assert!(weights.count() >= 4, "the LoRA changes nothing");
}

#[test]
fn applying_a_delta_gives_the_bytes_that_baking_writes() {
    equals_baking("8", &[("sketch", "unet=0.7,te=0.4")]);
    equals_baking("4", &[("watercolor", "1"), ("sketch", "0.5")]);
    equals_baking("16", &[("pixel", "-0.5")]);
}

#[test]
fn many_deltas_in_one_call_with_one_bad_among_them() {
    let scratch = tempfile::tempdir().unwrap();
    let at = |name: &str| scratch.path().join(name);
    convert(&at("base"), "16", &["--format", "mlpackage"]);
    std::fs::create_dir(at("loras")).unwrap();
    for style in ["sketch", "pixel"] {
        let file = at("loras").join(format!("{style}.safetensors"));
        std::fs::copy(lora(style), file).unwrap();
    }
    std::fs::write(at("loras").join("bad.safetensors"), [8; 20]).unwrap();
    let folder = at("loras").display().to_string();
    let output = deltas(&at("base"), &at("assets"), &[folder])
        .args(["--jobs", "2", "--json"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", support::said(&output));
    let document = json(&output.stdout);
    let made = document["adapters"].as_array().unwrap();
    assert_eq!(made.len(), 2);
    assert_eq!(made[0]["report"]["loras"][0]["name"], "pixel");
    let failed = document["failed"].as_array().unwrap();
    assert_eq!(failed.len(), 1);
    assert!(
        failed[0]["lora"]
            .as_str()
            .unwrap()
            .ends_with("bad.safetensors")
    );
    let written = ["pixel.mlmodelcassets", "sketch.mlmodelcassets"];
    assert_eq!(names(&at("assets")), written);
    let alone = at("alone.mlmodelcassets");
    let sketch = lora("sketch").display().to_string();
    succeeds(&mut delta(&at("base"), &alone, &sketch));
    let many = std::fs::read(at("assets").join(written[1])).unwrap();
    assert!(many == std::fs::read(alone).unwrap());

    // Several on the command line, each with its strength, are several deltas too.
    let two = [
        format!("{sketch}:0.5"),
        format!("{}:2", lora("pixel").display()),
    ];
    let text = succeeds(&mut deltas(&at("base"), &at("two"), &two));
    assert!(text.contains("wrote 2 of 2 assets"), "{text}");
    assert_eq!(names(&at("two")), written);
}

#[test]
fn a_delta_refuses_other_bases_and_damage() {
    let scratch = tempfile::tempdir().unwrap();
    let at = |name: &str| scratch.path().join(name);
    let sketch = lora("sketch").display().to_string();
    convert(&at("base"), "8", &["--format", "mlpackage"]);
    convert(&at("other"), "6", &["--format", "mlpackage"]);
    convert(&at("two"), "2", &["--format", "mlpackage"]);
    let asset = at("x.mlmodelcassets");
    succeeds(&mut delta(&at("base"), &asset, &sketch));
    let out = at("out");
    refuses(
        &mut apply(&asset, &at("other"), &out),
        &["does not fit", "SHA-256"],
    );
    // A palette of 2 bits has 4 values, which stand in the program.
    refuses(
        &mut delta(&at("two"), &at("y.mlmodelcassets"), &sketch),
        &["stand in the program", "unet:", "--lora"],
    );
    refuses(
        &mut delta(&at("base"), &at("y.mlmodelcassets"), &format!("{sketch}:0")),
        &["change nothing"],
    );
    let whole = std::fs::read(&asset).unwrap();
    let broken = at("broken.mlmodelcassets");
    for at in [40, whole.len() / 2, whole.len() - 4] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        std::fs::write(&broken, bytes).unwrap();
        refuses(
            &mut apply(&broken, &scratch.path().join("base"), &out),
            &["broken"],
        );
    }
    std::fs::write(&broken, &whole[..whole.len() / 3]).unwrap();
    refuses(&mut apply(&broken, &at("base"), &out), &["broken"]);
    assert!(
        !names(scratch.path())
            .iter()
            .any(|n| n == "out" || n.starts_with('.') || n.starts_with('y'))
    );

    succeeds(&mut apply(&asset, &at("base"), &out));
    refuses(&mut apply(&asset, &at("base"), &out), &["exists"]);
    refuses(&mut apply(&asset, &out, &at("again")), &["does not fit"]);
    refuses(
        &mut delta(&out, &at("y.mlmodelcassets"), &sketch),
        &["not those of its source"],
    );
    let said = succeeds(gesso().arg("inspect").arg(&asset));
    assert!(
        said.contains("kind: delta") && said.contains("Unet"),
        "{said}"
    );
    let mut generate = gesso();
    generate
        .arg("generate")
        .arg(&out)
        .args(["--prompt", "a red circle", "--steps", "1"]);
    succeeds(generate.arg("-o").arg(at("x.png")));
}
