//! Few-step releases: recognised, carried in manifests, used by `gesso generate`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Output;
use support::{Tensors, gesso, said, shapes, succeeds};

/// A weak LoRA of rank 1 over every linear and convolution in the UNet's blocks whose name passes `keep`.
fn release(path: &Path, keep: impl Fn(&str) -> bool) {
    let base = shapes().join("unet/diffusion_pytorch_model.safetensors");
    let mut tensors = Tensors {
        header: serde_json::Map::new(),
        data: Vec::new(),
    };
    for (name, entry) in &Tensors::open(&base).header {
        let Some(module) = name.strip_suffix(".weight") else {
            continue;
        };
        let shape: Vec<usize> = serde_json::from_value(entry["shape"].clone()).unwrap();
        if shape.len() < 2 || !module.contains("_block") || !keep(module) {
            continue;
        }
        let written = format!("lora_unet_{}", module.replace('.', "_"));
        let mut down = shape.clone();
        down[0] = 1;
        tensors.add(&format!("{written}.lora_down.weight"), &down, 0.01);
        tensors.add(&format!("{written}.lora_up.weight"), &[shape[0], 1], 0.01);
    }
    tensors.write(path);
}

fn generated(folder: &Path, more: &[&str]) -> Output {
    let picture = folder.with_extension("png");
    let mut command = gesso();
    command.arg("generate").arg(folder).args(["--force", "-o"]);
    command
        .arg(&picture)
        .args(["--prompt", "a red circle", "--json"]);
    command.args(more).output().unwrap()
}

/// Sampler, steps and guidance of a picture, and what was said on stderr.
fn settled(folder: &Path, more: &[&str]) -> (String, u64, f64, String) {
    let output = generated(folder, more);
    assert!(output.status.success(), "{}", said(&output));
    let d: Value = serde_json::from_slice(&output.stdout).unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    let scheduler = d["scheduler"].as_str().unwrap().to_string();
    (
        scheduler,
        d["steps"].as_u64().unwrap(),
        d["guidance"].as_f64().unwrap(),
        words,
    )
}

fn converted(scratch: &Path, name: &str, options: &[&str]) -> PathBuf {
    let out = scratch.join(name);
    let mut command = gesso();
    command
        .arg("convert")
        .arg(shapes())
        .args(["--format", "mlpackage"]);
    succeeds(command.args(options).arg("-o").arg(&out));
    out
}

#[test]
fn a_release_in_the_weights_or_in_a_delta_decides_what_the_user_left_open() {
    let scratch = tempfile::tempdir().unwrap();
    let lcm = scratch.path().join("lcm-lora-sdv1-5.safetensors");
    release(&lcm, |_| true);
    let lcm = lcm.to_str().unwrap();
    let baked = converted(scratch.path(), "baked", &["--lora", lcm]);
    let (scheduler, steps, guidance, words) = settled(&baked, &[]);
    assert_eq!((scheduler.as_str(), steps, guidance), ("lcm", 4, 1.0));
    let wanted = "note: sampler lcm, 4 steps, guidance 1 for `";
    assert!(
        words.contains(wanted) && words.contains("the file's name (`lcm-lora-sdv1-5`)"),
        "{words}"
    );
    let (scheduler, steps, guidance, words) = settled(
        &baked,
        &["--scheduler", "ddim", "--steps", "2", "--guidance", "3"],
    );
    assert_eq!((scheduler.as_str(), steps, guidance), ("ddim", 2, 3.0));
    assert!(!words.contains("note:"), "{words}");
    let text = succeeds(gesso().arg("inspect").arg(&baked));
    assert!(
        text.contains("sampler: lcm, 4 steps, guidance 1 (LCM-LoRA"),
        "{text}"
    );

    // At strength 0 it decides nothing, in a delta it decides again.
    let zero = converted(scratch.path(), "zero", &["--lora", &format!("{lcm}:0")]);
    let (scheduler, ..) = settled(&zero, &["--steps", "1"]);
    assert_eq!(scheduler, "dpmpp-2m");
    let plain = converted(scratch.path(), "plain", &[]);
    let delta = scratch.path().join("lcm.mlmodelcassets");
    let applied = scratch.path().join("applied");
    let mut command = gesso();
    command
        .args(["adapter", lcm, "--as", "delta", "--base"])
        .arg(&plain);
    succeeds(
        command
            .arg("--checkpoint")
            .arg(shapes())
            .arg("-o")
            .arg(&delta),
    );
    let mut command = gesso();
    command.arg("apply").arg(&delta).arg("--base").arg(&plain);
    succeeds(command.arg("-o").arg(&applied));
    let (scheduler, steps, ..) = settled(&applied, &[]);
    assert_eq!((scheduler.as_str(), steps), ("lcm", 4));
}

#[test]
fn an_adapter_in_slots_carries_its_sampler_and_a_name_alone_does_not() {
    let scratch = tempfile::tempdir().unwrap();
    let hyper = scratch.path().join("Hyper-SD15-2steps-lora.safetensors");
    release(&hyper, |_| true);
    let turbo = scratch.path().join("turbo style.safetensors");
    release(&turbo, |module| module.contains("attn"));
    let base = converted(scratch.path(), "base", &["--adapter-sites", "all"]);
    let asset = |lora: &Path| {
        let asset = lora.with_extension("mlmodelcassets");
        let mut command = gesso();
        command.arg("adapter").arg(lora).arg("--base").arg(&base);
        let text = succeeds(command.arg("-o").arg(&asset));
        (asset.to_str().unwrap().to_string(), text)
    };
    let (fast, _) = asset(&hyper);
    let mut command = gesso();
    command.args(["inspect", &fast, "--json"]);
    let d: Value = serde_json::from_str(&succeeds(&mut command)).unwrap();
    let hint = &d["manifest"]["scheduler_hint"];
    assert_eq!(
        (&hint["scheduler"], &hint["timestep_spacing"]),
        (&"ddim".into(), &"trailing".into())
    );
    let (scheduler, steps, guidance, words) = settled(&base, &["--adapter", &fast]);
    assert_eq!((scheduler.as_str(), steps, guidance), ("ddim", 2, 1.0));
    assert!(
        words.contains("sampler ddim (trailing), 2 steps"),
        "{words}"
    );
    let (_, steps, ..) = settled(&base, &["--adapter", &fast, "--steps", "1"]);
    assert_eq!(steps, 1);
    let (scheduler, ..) = settled(&base, &["--adapter", &format!("{fast}:0"), "--steps", "1"]);
    assert_eq!(scheduler, "dpmpp-2m");

    let (slow, text) = asset(&turbo);
    assert!(
        text.contains("has the word of Turbo") && text.contains("residual blocks"),
        "{text}"
    );
    let (scheduler, ..) = settled(&base, &["--adapter", &slow, "--steps", "1"]);
    assert_eq!(scheduler, "dpmpp-2m");
}
