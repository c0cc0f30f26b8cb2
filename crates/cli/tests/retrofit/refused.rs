//! What gets no slots, with the reason.

use super::changed::{change_program, rename};
use super::folders::foreign;
use super::*;
use gesso_mil::Program;
use support::{names, refuses};

#[test]
fn what_cannot_be_matched_is_refused_by_name() {
    let root = tempfile::tempdir().unwrap();
    let unet = |change: &dyn Fn(&mut Program)| {
        let package = root.path().join(UNET);
        copy(&fixture("apple").join(UNET), &package);
        change_program(&package, |program| change(program));
        package
    };
    let refused = |package: &Path, parts: &[&str]| {
        let out = root.path().join("out.mlpackage");
        refuses(
            gesso().arg("retrofit").arg(package).arg("-o").arg(&out),
            parts,
        );
        assert_eq!(names(root.path()), [UNET]);
        std::fs::remove_dir_all(package).unwrap();
    };
    let q = "mid_block_attentions_0_transformer_blocks_0_attn1_to_q_weight_to_fp16";
    refused(
        &unet(&|p| rename(p, |n| (n == q).then(|| "stranger".into()))),
        &["no weight is named like `mid_block.attentions.0.transformer_blocks.0.attn1.to_q`"],
    );
    let k = q.replace("to_q", "to_k");
    refused(
        &unet(&|p| {
            rename(p, |n| (n == q).then(|| "stranger".into()));
            rename(p, |n| (n == k).then(|| q.into()));
        }),
        &["no weight is named like `mid_block.attentions.0.transformer_blocks.0.attn1.to_k`"],
    );
    refused(
        &unet(&|p| {
            for input in &mut p.functions.get_mut("main").unwrap().inputs {
                if input.name == "sample" {
                    input.name = "x".into();
                }
            }
            rename(p, |n| (n == "sample").then(|| "x".into()));
        }),
        &["a part of a UNet or a ControlNet", "`x`"],
    );
    refused(
        &unet(&|p| {
            let main = p.functions["main"].clone();
            p.functions.insert("other".into(), main);
        }),
        &["it has 2 functions"],
    );
    refused(
        &unet(&|p| {
            let main = p.functions.get_mut("main").unwrap();
            let body = main.blocks.remove("CoreML6").unwrap();
            main.blocks.insert("CoreML5".into(), body);
            main.opset = "CoreML5".into();
        }),
        &["its opset is CoreML5"],
    );
    // The first resnet takes the name of a projection: a layer that is no product at each position.
    refused(
        &unet(&|p| {
            let from = "down_blocks_0_resnets_0_conv1_weight_to_fp16";
            let to = "down_blocks_0_attentions_0_proj_in_weight_to_fp16";
            rename(p, |n| (n == to).then(|| "stranger".into()));
            rename(p, |n| (n == from).then(|| to.into()));
        }),
        &[
            "`down_blocks.0.attentions.0.proj_in` gets no slot",
            "its kernel is 3×3",
        ],
    );
    let apple = fixture("apple").join(UNET);
    let out = root.path().join("out.mlpackage");
    let command = |rank: &str, out: &Path| {
        let mut command = gesso();
        command.args(["retrofit", "--adapter-rank", rank]);
        command.arg(&apple).arg("-o").arg(out);
        command
    };
    refuses(
        &mut command("8", &out),
        &["`--adapter-rank` is 8, expected a multiple of 32"],
    );
    refuses(&mut command("0", &out), &["`--adapter-rank` is 0"]);
    refuses(
        &mut command("32", &root.path().join("out")),
        &[".mlpackage or .mlmodelc"],
    );
    succeeds(&mut command("32", &out));
    refuses(&mut command("32", &out), &["exists"]);
    let again = root.path().join("again.mlpackage");
    let mut command = gesso();
    refuses(
        command.arg("retrofit").arg(&out).arg("-o").arg(&again),
        &["it has the input `adapter_16` already"],
    );
    assert_eq!(names(root.path()), ["out.mlpackage"]);
}

#[test]
fn models_of_other_kinds_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let vae = foreign(root.path()).join("VAEDecoder.mlpackage");
    let out = root.path().join("out.mlpackage");
    let refused = |package: &Path, parts: &[&str]| {
        refuses(
            gesso().arg("retrofit").arg(package).arg("-o").arg(&out),
            parts,
        );
        assert!(!out.exists());
    };
    refused(
        &vae,
        &[
            "VAEDecoder",
            "gets no adapter slots: its weights do not tell modules",
        ],
    );
    let Some(samples) = gesso_testkit::shared("formats/mlpackage-samples") else {
        return;
    };
    for sample in [
        "bisenet/model.mlpackage",
        "dtln-aec-128-part1/DTLN_AEC_128_Part1.mlpackage",
        "kokoro-duration/kokoro_duration.mlpackage",
        "mankai-siamese/model.mlpackage",
    ] {
        refused(&samples.join(sample), &["gets no adapter slots: "]);
    }
}

#[test]
fn a_lora_on_layers_without_slots_is_refused_with_the_ways_out() {
    let root = tempfile::tempdir().unwrap();
    let out = retrofitted(&folder(root.path(), "split"));
    let asset = root.path().join("b.mlmodelcassets");
    let lora = fixture(LORA).join("b.safetensors");
    let mut command = gesso();
    let command = command.arg("adapter").arg(lora).arg("--base").arg(&out);
    refuses(
        command.arg("-o").arg(&asset),
        &["conv_in", "--adapter-sites all"],
    );
    assert!(!asset.exists());
}
