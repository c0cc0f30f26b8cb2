//! `--adapter-sites`, and LoRAs that the slots of a base cannot take.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{Tensors, gesso, names, refuses, succeeds};

fn model() -> PathBuf {
    gesso_testkit::fixture("goldens/models/sd1")
}

/// A LoRA of the tiny model: `a` changes attention and feed-forward layers, `b` convolutions as well.
fn lora(name: &str) -> PathBuf {
    gesso_testkit::fixture("goldens/lora/sd1").join(format!("{name}.safetensors"))
}

fn convert(out: &Path, options: &[&str]) -> Command {
    let mut command = gesso();
    command.arg("convert").arg(model()).arg("-o").arg(out);
    command.args(["--format", "mlpackage"]).args(options);
    command
}

fn adapter(lora: &Path, base: &Path, asset: &Path) -> Command {
    let mut command = gesso();
    command.arg("adapter").arg(lora).arg("--base").arg(base);
    command.arg("-o").arg(asset);
    command
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn sites_decide_which_loras_fit() {
    let scratch = tempfile::tempdir().unwrap();
    let base = |name: &str| scratch.path().join(name);
    let mut bytes = Vec::new();
    for (name, options) in [
        ("attention", &["--adapter-sites", "attention"][..]),
        ("default", &[]),
        ("all", &["--adapter-sites", "all"]),
    ] {
        let report = json(&succeeds(convert(&base(name), options).arg("--json")));
        let slots = report["slots"].as_array().unwrap();
        assert_eq!(slots.len(), 2, "{report}");
        let sites = match name {
            "default" => "attention+ff",
            other => other,
        };
        let info = json(&std::fs::read_to_string(base(name).join("gesso.json")).unwrap());
        assert_eq!(info["recipe"]["adapter_sites"], sites);
        // What an app binds is what the package declares.
        let unet = &slots[1];
        assert_eq!(
            (&unet["package"], &unet["sites"]),
            (&"UnetAdaptable.mlpackage".into(), &sites.into())
        );
        let declared: u64 = info["packages"]["UnetAdaptable"]["inputs"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|i| i["name"].as_str().unwrap().starts_with("adapter_"))
            .map(|i| {
                assert_eq!(i["dtype"], "fp16");
                let shape = i["shape"].as_array().unwrap();
                2 * shape.iter().map(|d| d.as_u64().unwrap()).product::<u64>()
            })
            .sum();
        assert_eq!(unet["bytes"].as_u64(), Some(declared));
        bytes.push(declared);
    }
    assert!(bytes[0] < bytes[1] && bytes[1] < bytes[2], "{bytes:?}");
    let text = succeeds(convert(&base("all"), &["--adapter-sites", "all"]).arg("--force"));
    assert!(
        text.contains("slots: `UnetAdaptable.mlpackage` has them in"),
        "{text}"
    );

    let asset = scratch.path().join("x.mlmodelcassets");
    refuses(
        &mut adapter(&lora("a"), &base("attention"), &asset),
        &[
            "(no slot)",
            "ff.net.2",
            "--adapter-sites all",
            "convert … --lora",
            "--as delta",
        ],
    );
    refuses(
        &mut adapter(&lora("b"), &base("default"), &asset),
        &[
            "`unet:conv_in` (no slot)",
            "--adapter-sites all",
            "convert … --lora",
            "--as delta",
        ],
    );
    assert_eq!(names(scratch.path()), ["all", "attention", "default"]);
    succeeds(&mut adapter(&lora("b"), &base("all"), &asset));
    succeeds(adapter(&lora("a"), &base("default"), &asset).arg("--force"));

    // An asset of other sites has another layout.
    let mut run = gesso();
    run.arg("verify")
        .arg(base("all"))
        .arg("--against")
        .arg(model());
    run.args(["--steps", "0", "--components", "unet", "--adapter"])
        .arg(&asset);
    refuses(
        run.arg("--lora").arg(lora("a")),
        &["layout hash of", "--adapter-sites"],
    );

    let message = "none has any";
    refuses(
        &mut convert(
            &base("none"),
            &["--adapter-rank", "0", "--adapter-sites", "all"],
        ),
        &[message],
    );
}

#[test]
fn convolutions_in_slots_equal_merged_weights() {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("out");
    succeeds(&mut convert(
        &out,
        &["--adapter-sites", "all", "--bits", "8"],
    ));
    let asset = scratch.path().join("b.mlmodelcassets");
    succeeds(&mut adapter(&lora("b"), &out, &asset));
    let mut verify = gesso();
    verify.arg("verify").arg(&out).arg("--against").arg(model());
    verify.args([
        "--json",
        "--steps",
        "0",
        "--components",
        "unet,text-encoder",
    ]);
    verify
        .arg("--adapter")
        .arg(format!("{}:0.6", asset.display()));
    let report = json(&succeeds(verify.arg("--lora").arg(lora("b"))));
    let losses = report["losses"].as_array().unwrap();
    assert!(
        losses.iter().any(|l| l["name"] == "UnetAdaptable"),
        "{report}"
    );
}

/// A LoRA of rank 40 in one layer.
fn high_rank(file: &Path) {
    let mut tensors = Tensors {
        header: Default::default(),
        data: Vec::new(),
    };
    let name = "lora_unet_mid_block_attentions_0_transformer_blocks_0_ff_net_2";
    tensors.add(&format!("{name}.lora_down.weight"), &[40, 128], 0.01);
    tensors.add(&format!("{name}.lora_up.weight"), &[32, 40], 0.01);
    tensors.write(file);
}

#[test]
fn a_rank_above_the_slots_is_refused_when_nothing_may_be_lost() {
    let scratch = tempfile::tempdir().unwrap();
    let (out, file) = (
        scratch.path().join("out"),
        scratch.path().join("high.safetensors"),
    );
    succeeds(&mut convert(&out, &[]));
    high_rank(&file);
    let asset = scratch.path().join("x.mlmodelcassets");
    refuses(
        adapter(&file, &out, &asset).arg("--exact"),
        &[
            "`unet:mid_block.attentions.0.transformer_blocks.0.ff.net.2` (rank 40)",
            "slots of rank 32",
            "--adapter-rank 64",
            "convert … --lora",
            "--as delta",
        ],
    );
    assert!(!asset.exists());
    let report = json(&succeeds(adapter(&file, &out, &asset).arg("--json")));
    assert_eq!(report["truncated"][0]["rank"], 40);
}

#[test]
fn states_draw_what_inputs_draw() {
    let scratch = tempfile::tempdir().unwrap();
    let convert = |name: &str, options: &[&str]| {
        let mut command = gesso();
        command.arg("convert").arg(support::shapes()).arg("-o");
        command.arg(scratch.path().join(name)).args(options);
        command
    };
    let state = ["--adapter-io", "state"];
    refuses(
        &mut convert("none", &state),
        &["`--target` is ios16", "iOS 18 and macOS 15"],
    );
    succeeds(&mut convert("inputs", &[]));
    let text = succeeds(convert("states", &state).args(["--target", "ios18"]));
    for part in [
        "written once into its states",
        "unproven until a device has spoken",
    ] {
        assert!(text.contains(part), "`{part}` is not in {text}");
    }
    let asset = scratch.path().join("sketch.mlmodelcassets");
    succeeds(&mut adapter(
        &support::lora("sketch"),
        &scratch.path().join("inputs"),
        &asset,
    ));
    let pictures = ["inputs", "states"].map(|name| {
        let file = scratch.path().join(format!("{name}.png"));
        let mut generate = gesso();
        generate.arg("generate").arg(scratch.path().join(name));
        generate.args(["--prompt", "a red circle", "--steps", "2", "--adapter"]);
        generate.arg(format!("{}:0.7", asset.display()));
        succeeds(generate.arg("-o").arg(&file));
        std::fs::read(file).unwrap()
    });
    assert!(pictures[0] == pictures[1]);
    let mut verify = gesso();
    verify
        .arg("verify")
        .arg(scratch.path().join("states"))
        .arg("--against");
    verify
        .arg(support::shapes())
        .args(["--json", "--steps", "0", "--components", "unet"]);
    verify
        .arg("--adapter")
        .arg(&asset)
        .arg("--lora")
        .arg(support::lora("sketch"));
    let report = json(&succeeds(&mut verify));
    assert_eq!(report["losses"][0]["name"], "UnetAdaptable");
    assert!(
        report["losses"][0]["snr_db"].as_f64().unwrap() >= 60.0,
        "{report}"
    );
    let info = std::fs::read_to_string(scratch.path().join("states/gesso.json")).unwrap();
    assert_eq!(json(&info)["recipe"]["adapter_io"], "state");
}
