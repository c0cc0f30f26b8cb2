//! The main job on the shapes model, through the command line as a user has it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use support::{gesso, lora, names, refuses, shapes, succeeds};

fn convert(out: &Path, options: &[&str]) {
    succeeds(
        gesso()
            .arg("convert")
            .arg(shapes())
            .arg("-o")
            .arg(out)
            .args(options),
    );
}

fn adapter(style: &str, base: &Path, asset: &Path) {
    succeeds(
        gesso()
            .arg("adapter")
            .arg(lora(style))
            .arg("--base")
            .arg(base)
            .arg("-o")
            .arg(asset),
    );
}

/// SHA-256 of every file below a folder, or of one file, by relative path.
fn hashes(path: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![path.to_path_buf()];
    while let Some(next) = open.pop() {
        if next.is_dir() {
            open.extend(std::fs::read_dir(&next).unwrap().map(|e| e.unwrap().path()));
        } else {
            let digest = Sha256::digest(std::fs::read(&next).unwrap());
            let hex: String = digest.iter().map(|b| format!("{b:02x}")).collect();
            found.insert(next.strip_prefix(path).unwrap().to_path_buf(), hex);
        }
    }
    found
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// The loss of one module in a report of `verify --json`, in dB; infinite where nothing was lost.
fn loss(report: &Value, name: &str, figure: &str) -> f64 {
    let losses = report["losses"].as_array().unwrap();
    let row = losses
        .iter()
        .find(|l| l["name"] == name)
        .unwrap_or_else(|| panic!("no `{name}` in {report}"));
    row[figure].as_f64().unwrap_or(f64::INFINITY)
}

#[test]
fn the_folder_has_what_apps_look_for() {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("out");
    convert(&out, &["--bits", "8"]);
    for name in [
        "TextEncoder",
        "Unet",
        "VAEDecoder",
        "VAEEncoder",
        "UnetAdaptable",
        "TextEncoderAdaptable",
    ] {
        assert!(
            out.join(format!("{name}.mlpackage/Manifest.json"))
                .is_file(),
            "{name}"
        );
    }
    for name in [
        "TextEncoder",
        "Unet",
        "VAEDecoder",
        "VAEEncoder",
        "UnetAdaptable",
    ] {
        assert!(
            out.join(format!("{name}.mlmodelc/model.mil")).is_file(),
            "{name}"
        );
    }
    for name in [
        "vocab.json",
        "merges.txt",
        "gesso.json",
        "selftest.safetensors",
    ] {
        assert!(out.join(name).is_file(), "{name}");
    }
    let info = json(&std::fs::read_to_string(out.join("gesso.json")).unwrap());
    assert_eq!(
        (&info["recipe"]["bits"], &info["recipe"]["width"]),
        (&8.into(), &128.into())
    );
    let hashes = hashes(&out);
    for (twin, plain) in [
        ("UnetAdaptable", "Unet"),
        ("TextEncoderAdaptable", "TextEncoder"),
    ] {
        let weights = |name: &str| {
            let file = format!("{name}.mlpackage/Data/com.apple.CoreML/weights/weight.bin");
            hashes[Path::new(&file)].clone()
        };
        assert_eq!(weights(twin), weights(plain));
    }
    assert_eq!(names(scratch.path()), ["out"]);
}

#[test]
fn the_same_bytes_on_every_run() {
    let scratch = tempfile::tempdir().unwrap();
    let lora = format!("{}:0.5", lora("watercolor").display());
    for options in [
        vec!["--bits", "4"],
        vec!["--bits", "8", "--attention", "original", "--lora", &lora],
    ] {
        let (one, two) = (scratch.path().join("one"), scratch.path().join("two"));
        convert(
            &one,
            &[&options[..], &["--threads", "1", "--force"]].concat(),
        );
        convert(
            &two,
            &[&options[..], &["--threads", "2", "--force"]].concat(),
        );
        assert_eq!(hashes(&one), hashes(&two));
    }
    let base = scratch.path().join("one");
    let assets = ["a", "b"].map(|name| scratch.path().join(name));
    assets
        .iter()
        .for_each(|asset| adapter("sketch", &base, asset));
    assert_eq!(hashes(&assets[0]), hashes(&assets[1]));
}

#[test]
fn losses_are_measured_and_judged() {
    let scratch = tempfile::tempdir().unwrap();
    let verify = |out: &Path, more: &[&str]| {
        let mut command = gesso();
        command
            .arg("verify")
            .arg(out)
            .arg("--against")
            .arg(shapes())
            .args(["--steps", "2", "--json"])
            .args(more);
        command
    };
    let out = scratch.path().join("out");
    for bits in ["16", "8", "4"] {
        convert(&out, &["--bits", bits, "--force"]);
        let report = json(&succeeds(&mut verify(&out, &[])));
        for module in [
            "TextEncoder last_hidden_state",
            "Unet",
            "VAEDecoder",
            "VAEEncoder",
        ] {
            let psnr = loss(&report, module, "psnr_db");
            println!("{bits} bits, {module}: {psnr:.1} dB");
            let floor = if bits == "4" { 10.0 } else { 35.0 };
            assert!(psnr >= floor, "{bits} bits, {module}: {psnr} dB");
        }
        assert!(loss(&report, "image", "psnr_db") > 5.0);
    }
    // A threshold out of reach is a finding, not an error.
    let output = verify(&out, &["--min-psnr", "300"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    // Another checkpoint is an error.
    let other = gesso_testkit::fixture("goldens/models/sd1");
    refuses(
        gesso().arg("verify").arg(&out).arg("--against").arg(other),
        &["source hash"],
    );
}

#[test]
fn slots_equal_merged_weights() {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("out");
    convert(&out, &[]);
    for (style, modules) in [("sketch", 1), ("pixel", 1), ("watercolor", 2)] {
        let asset = scratch.path().join(format!("{style}.mlmodelcassets"));
        adapter(style, &out, &asset);
        let text = succeeds(
            gesso()
                .args([
                    "verify",
                    "--json",
                    "--steps",
                    "0",
                    "--components",
                    "unet,text-encoder",
                ])
                .arg(&out)
                .arg("--against")
                .arg(shapes())
                .arg("--adapter")
                .arg(format!("{}:0.8", asset.display()))
                .arg("--lora")
                .arg(lora(style)),
        );
        let report = json(&text);
        let adapted: Vec<&Value> = report["losses"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|l| l["name"].as_str().unwrap().contains("Adaptable"))
            .collect();
        assert!(adapted.len() >= modules, "{style}: {text}");
        for row in adapted {
            let snr = row["snr_db"].as_f64().unwrap();
            println!("{style}, {}: {snr:.1} dB", row["name"]);
            assert!(snr >= 60.0, "{style}: {row}");
        }
    }
}

#[test]
fn empty_slots_change_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("out");
    convert(&out, &["--bits", "8"]);
    let inputs = scratch.path().join("in.safetensors");
    let mut file = support::Tensors {
        header: Default::default(),
        data: Vec::new(),
    };
    let test = support::Tensors::open(&out.join("selftest.safetensors"));
    for (name, entry) in test
        .header
        .iter()
        .filter(|(n, _)| n.starts_with("unet.") && *n != "unet.noise_pred")
    {
        file.header
            .insert(name.trim_start_matches("unet.").into(), entry.clone());
    }
    file.data = test.data.clone();
    file.write(&inputs);
    let mut results = Vec::new();
    for package in ["Unet", "UnetAdaptable"] {
        let outputs = scratch.path().join(format!("{package}.safetensors"));
        succeeds(
            gesso()
                .arg("run")
                .arg(out.join(format!("{package}.mlpackage")))
                .arg("--inputs")
                .arg(&inputs)
                .arg("--outputs")
                .arg(&outputs),
        );
        results.push(support::Tensors::open(&outputs).data);
    }
    assert_eq!(
        results[0], results[1],
        "a program with empty slots gives other bits"
    );
}

#[test]
fn pictures_carry_their_parameters() {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("out");
    convert(&out, &["--bits", "8"]);
    let (sketch, pixel) = (
        scratch.path().join("sketch.mlmodelcassets"),
        scratch.path().join("pixel.mlmodelcassets"),
    );
    adapter("sketch", &out, &sketch);
    adapter("pixel", &out, &pixel);
    let picture = |name: &str, more: &[String]| {
        let file = scratch.path().join(name);
        succeeds(
            gesso()
                .arg("generate")
                .arg(&out)
                .args(["--seed", "3", "--steps", "4"])
                .args(match more.iter().any(|m| m == "--prompt") {
                    true => &[][..],
                    false => &["--prompt", "a red circle"],
                })
                .args(more)
                .arg("-o")
                .arg(&file),
        );
        let mut reader =
            png::Decoder::new(std::io::BufReader::new(std::fs::File::open(&file).unwrap()))
                .read_info()
                .unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        let text = reader.info().utf8_text[0].get_text().unwrap();
        (pixels, text)
    };
    let asset = |path: &Path, strength: &str| {
        vec![
            "--adapter".to_string(),
            format!("{}:{strength}", path.display()),
        ]
    };
    let (base, text) = picture("base.png", &[]);
    assert!(
        text.contains("a red circle") && text.contains("Seed: 3") && text.contains("Steps: 4"),
        "{text}"
    );
    assert_eq!(base.len(), 128 * 128 * 3);
    let (styled, text) = picture("styled.png", &asset(&sketch, "0.8"));
    assert!(text.contains("sketch.mlmodelcassets:0.8"), "{text}");
    assert_ne!(base, styled);
    assert_eq!(
        base,
        picture("zero.png", &asset(&sketch, "0")).0,
        "strength 0 is the base"
    );
    let (both, _) = picture(
        "both.png",
        &[asset(&sketch, "0.5"), asset(&pixel, "0.5")].concat(),
    );
    assert!(both != styled && both != base);
    let with_prompt = |name: &str, prompt: &str| {
        let folder = scratch.path().display().to_string();
        picture(
            name,
            &[
                "--prompt".into(),
                prompt.into(),
                "--adapter-dir".into(),
                folder,
            ],
        )
        .0
    };
    let mentioned = with_prompt("mentioned.png", "a red circle <lora:sketch:0.8>");
    assert_eq!(mentioned, styled, "an adapter named in the prompt");
    assert_ne!(base, with_prompt("weighted.png", "a (red:1.5) circle"));
    assert_eq!(base, with_prompt("one.png", "a (red circle:1)"));
    let mut unknown = gesso();
    unknown.arg("generate").arg(&out);
    unknown.args(["--prompt", "<lora:sktch:1>", "--adapter-dir"]);
    unknown
        .arg(scratch.path())
        .arg("-o")
        .arg(scratch.path().join("x.png"));
    refuses(&mut unknown, &["sktch", "`pixel`, `sketch`"]);
    let five: Vec<String> = (0..5).flat_map(|_| asset(&sketch, "0.1")).collect();
    let mut command = gesso();
    command
        .arg("generate")
        .arg(&out)
        .args(["--prompt", "x"])
        .args(five)
        .arg("-o")
        .arg(scratch.path().join("x.png"));
    refuses(&mut command, &["40", "64"]);
}

#[test]
fn compiled_models_alone_give_the_same_picture() {
    let scratch = tempfile::tempdir().unwrap();
    let mut pictures = Vec::new();
    for (format, other) in [("mlpackage", "mlmodelc"), ("mlmodelc", "mlpackage")] {
        let out = scratch.path().join(format);
        convert(&out, &["--bits", "4", "--format", format]);
        assert!(!out.join(format!("Unet.{other}")).exists());
        assert!(out.join(format!("Unet.{format}")).exists());
        let file = scratch.path().join(format!("{format}.png"));
        let mut generate = gesso();
        generate.arg("generate").arg(&out);
        generate
            .args(["--prompt", "a red circle", "--steps", "2", "-o"])
            .arg(&file);
        succeeds(&mut generate);
        pictures.push(std::fs::read(&file).unwrap());
    }
    assert!(pictures[0] == pictures[1]);
}

/// A folder as Apple's converter leaves it: its file names, the compiled models in `Resources`, no `gesso.json`.
#[test]
fn folders_of_other_converters_generate_and_verify() {
    let scratch = tempfile::tempdir().unwrap();
    let ours = scratch.path().join("ours");
    convert(&ours, &["--adapter-rank", "0"]);
    let (packages, app) = (scratch.path().join("packages"), scratch.path().join("app"));
    std::fs::create_dir_all(app.join("Resources")).unwrap();
    std::fs::create_dir_all(&packages).unwrap();
    for (name, part) in [
        ("TextEncoder", "text_encoder"),
        ("Unet", "unet"),
        ("VAEDecoder", "vae_decoder"),
        ("VAEEncoder", "vae_encoder"),
    ] {
        let target = format!("Stable_Diffusion_version_a_b_{part}.mlpackage");
        support::copy(
            &ours.join(format!("{name}.mlpackage")),
            &packages.join(target),
        );
        let compiled = format!("{name}.mlmodelc");
        support::copy(
            &ours.join(&compiled),
            &app.join("Resources").join(&compiled),
        );
    }
    for name in ["vocab.json", "merges.txt"] {
        std::fs::copy(ours.join(name), packages.join(name)).unwrap();
        std::fs::copy(ours.join(name), app.join(name)).unwrap();
    }
    for folder in [&packages, &app] {
        let mut verify = gesso();
        verify
            .arg("verify")
            .arg(folder)
            .arg("--against")
            .arg(shapes());
        let report = json(&succeeds(verify.args(["--json", "--steps", "0"])));
        for module in [
            "TextEncoder last_hidden_state",
            "Unet",
            "VAEDecoder",
            "VAEEncoder",
        ] {
            assert!(
                loss(&report, module, "psnr_db") >= 45.0,
                "{module}: {report}"
            );
        }
        let mut generate = gesso();
        generate.arg("generate").arg(folder).args([
            "--prompt",
            "a red circle",
            "--steps",
            "2",
            "-o",
        ]);
        succeeds(generate.arg(scratch.path().join("x.png")).arg("--force"));
    }
    refuses(
        gesso()
            .arg("generate")
            .arg(scratch.path())
            .args(["--prompt", "x", "-o", "x.png"]),
        &["gesso.json"],
    );
}

#[test]
fn help_names_every_command() {
    let text = succeeds(gesso().arg("--help"));
    for command in ["convert", "adapter", "generate", "verify", "run", "demo"] {
        assert!(text.contains(command), "{text}");
    }
}
