//! Bad input: a clear message, exit code 2, and nothing left behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::{Path, PathBuf};
use support::{Tensors, copy, gesso, lora, names, refuses, rename_member, shapes, succeeds};

const UNET: &str = "unet/diffusion_pytorch_model.safetensors";

/// A copy of the shapes checkpoint in `scratch`, and where to convert it to.
fn checkpoint(scratch: &Path) -> (PathBuf, PathBuf) {
    let folder = scratch.join("checkpoint");
    copy(&shapes(), &folder);
    (folder, scratch.join("out"))
}

/// Converting must fail with these words and leave nothing.
fn convert_refuses(scratch: &Path, checkpoint: &Path, parts: &[&str]) {
    let out = scratch.join("out");
    refuses(
        gesso().arg("convert").arg(checkpoint).arg("-o").arg(&out),
        parts,
    );
    assert_eq!(names(scratch), ["checkpoint"], "something was left behind");
}

#[test]
fn a_truncated_file() {
    let scratch = tempfile::tempdir().unwrap();
    let (folder, _) = checkpoint(scratch.path());
    let file = folder.join(UNET);
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() - 1000]).unwrap();
    convert_refuses(
        scratch.path(),
        &folder,
        &["diffusion_pytorch_model.safetensors", "cut short"],
    );
}

#[test]
fn a_header_longer_than_the_file() {
    let scratch = tempfile::tempdir().unwrap();
    let (folder, _) = checkpoint(scratch.path());
    let mut bytes = std::fs::read(folder.join(UNET)).unwrap();
    bytes[..8].copy_from_slice(&50_000_000u64.to_le_bytes());
    std::fs::write(folder.join(UNET), bytes).unwrap();
    convert_refuses(
        scratch.path(),
        &folder,
        &["diffusion_pytorch_model.safetensors", "header", "50000000"],
    );
}

#[test]
fn an_unknown_dtype() {
    let scratch = tempfile::tempdir().unwrap();
    let (folder, _) = checkpoint(scratch.path());
    let mut file = Tensors::open(&folder.join(UNET));
    file.header["conv_in.weight"]["dtype"] = "F17".into();
    file.write(&folder.join(UNET));
    convert_refuses(scratch.path(), &folder, &["conv_in.weight", "F17"]);
}

#[test]
fn missing_unet_tensors_are_named() {
    let scratch = tempfile::tempdir().unwrap();
    let (folder, _) = checkpoint(scratch.path());
    let mut file = Tensors::open(&folder.join(UNET));
    let gone = "down_blocks.1.resnets.0.conv2.weight";
    file.header.remove(gone).unwrap();
    file.write(&folder.join(UNET));
    convert_refuses(scratch.path(), &folder, &[gone]);
}

#[test]
fn an_unknown_tensor_is_not_passed_over() {
    let scratch = tempfile::tempdir().unwrap();
    let (folder, _) = checkpoint(scratch.path());
    let mut file = Tensors::open(&folder.join(UNET));
    file.add("some_new_block.weight", &[4], 0.0);
    file.write(&folder.join(UNET));
    convert_refuses(scratch.path(), &folder, &["some_new_block.weight"]);
}

#[test]
fn a_pickle_is_refused_with_the_way_out() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("checkpoint");
    std::fs::create_dir(&folder).unwrap();
    let file = folder.join("model.ckpt");
    std::fs::write(&file, b"PK\x03\x04archive/data.pkl").unwrap();
    convert_refuses(scratch.path(), &file, &["model.ckpt", "safetensors"]);
}

#[test]
fn wrong_options_are_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let (folder, _) = checkpoint(scratch.path());
    let out = scratch.path().join("out");
    for (options, part) in [
        (vec!["--bits", "5"], "--bits"),
        (vec!["--bits", "3"], "3"),
        (vec!["--adapter-rank", "20"], "multiple of 32"),
        (vec!["--size", "100x64"], "multiples of 8"),
        (vec!["--size", "128"], "WIDTHxHEIGHT"),
        (vec!["--palettize", "unet:*.nothing=8"], "unet:*.nothing"),
        (
            vec!["--lora", "nowhere.safetensors:1"],
            "nowhere.safetensors",
        ),
    ] {
        refuses(
            gesso()
                .arg("convert")
                .arg(&folder)
                .arg("-o")
                .arg(&out)
                .args(&options),
            &[part],
        );
    }
    assert_eq!(names(scratch.path()), ["checkpoint"]);
}

/// A converted folder in `scratch`.
fn converted(scratch: &Path) -> PathBuf {
    let out = scratch.join("out");
    succeeds(gesso().arg("convert").arg(shapes()).arg("-o").arg(&out));
    out
}

fn adapter(lora: &Path, base: &Path, asset: &Path) -> std::process::Command {
    let mut command = gesso();
    command
        .arg("adapter")
        .arg(lora)
        .arg("--base")
        .arg(base)
        .arg("-o")
        .arg(asset);
    command
}

#[test]
fn loras_that_do_not_fit() {
    let scratch = tempfile::tempdir().unwrap();
    let base = converted(scratch.path());
    let asset = scratch.path().join("a.mlmodelcassets");
    // Made for SD 1.5: text states of 768, here 64.
    let real = scratch.path().join("sd15.safetensors");
    let mut file = Tensors {
        header: Default::default(),
        data: Vec::new(),
    };
    let module = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k";
    file.add(&format!("{module}.lora_down.weight"), &[4, 2048], 0.1);
    file.add(&format!("{module}.lora_up.weight"), &[640, 4], 0.1);
    file.write(&real);
    refuses(
        &mut adapter(&real, &base, &asset),
        &["sd15.safetensors", "SDXL"],
    );

    let stray = scratch.path().join("stray.safetensors");
    let mut file = Tensors::open(&lora("sketch"));
    file.add(
        "lora_unet_down_blocks_0_attentions_9_proj_in.lora_down.weight",
        &[8, 48],
        0.1,
    );
    file.write(&stray);
    let key = "lora_unet_down_blocks_0_attentions_9_proj_in";
    refuses(
        &mut adapter(&stray, &base, &asset),
        &[key, "stray.safetensors"],
    );
    let text = succeeds(adapter(&stray, &base, &asset).args(["--ignore", "*attentions_9*"]));
    assert!(
        text.contains(key) && text.contains("*attentions_9*"),
        "{text}"
    );
    let archive = std::fs::read(&asset).unwrap();
    let manifest = String::from_utf8_lossy(&archive);
    assert!(
        manifest.contains("*attentions_9*"),
        "the manifest does not record what was left out"
    );
    assert_eq!(
        names(scratch.path()),
        [
            "a.mlmodelcassets",
            "out",
            "sd15.safetensors",
            "stray.safetensors"
        ]
    );
}

#[test]
fn assets_that_were_tampered_with() {
    let scratch = tempfile::tempdir().unwrap();
    let base = converted(scratch.path());
    let asset = scratch.path().join("sketch.mlmodelcassets");
    succeeds(&mut adapter(&lora("sketch"), &base, &asset));
    let bytes = std::fs::read(&asset).unwrap();
    let generate = |asset: &Path, parts: &[&str]| {
        let mut command = gesso();
        command
            .arg("generate")
            .arg(&base)
            .args(["--prompt", "a red circle", "--steps", "1", "--adapter"])
            .arg(asset);
        refuses(command.arg("-o").arg(scratch.path().join("x.png")), parts);
    };
    let broken = scratch.path().join("broken.mlmodelcassets");
    let mut flipped = bytes.clone();
    let at = flipped.len() / 2;
    flipped[at] ^= 1;
    std::fs::write(&broken, flipped).unwrap();
    generate(&broken, &["broken.mlmodelcassets"]);

    let mut escaping = bytes.clone();
    rename_member(
        &mut escaping,
        "unet.mlpackage/Manifest.json",
        "../../escaped/Manifest.json_",
    );
    std::fs::write(&broken, escaping).unwrap();
    generate(&broken, &["broken.mlmodelcassets", "../"]);

    std::fs::write(&broken, &bytes[..bytes.len() / 3]).unwrap();
    generate(&broken, &["broken.mlmodelcassets"]);
    assert_eq!(
        names(scratch.path()),
        ["broken.mlmodelcassets", "out", "sketch.mlmodelcassets"]
    );
}

#[test]
fn an_output_that_exists_is_kept() {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("out");
    std::fs::create_dir(&out).unwrap();
    std::fs::write(out.join("mine.txt"), "keep").unwrap();
    let convert = || {
        let mut command = gesso();
        command.arg("convert").arg(shapes()).arg("-o").arg(&out);
        command
    };
    refuses(&mut convert(), &["out", "exists", "--force"]);
    assert_eq!(names(&out), ["mine.txt"]);
    succeeds(convert().arg("--force"));
    assert!(!out.join("mine.txt").exists() && out.join("gesso.json").exists());
    assert_eq!(names(scratch.path()), ["out"]);
}
