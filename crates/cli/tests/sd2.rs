//! Stable Diffusion 2 on the command line: recognised, converted, sampled with what it predicts and with its padding.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use serde_json::Value;
use std::path::{Path, PathBuf};
use support::{gesso, shapes, succeeds};

fn sd2() -> PathBuf {
    gesso_testkit::fixture("goldens/models/sd2")
}

#[test]
fn inspect_says_what_it_is_and_why() {
    let file = sd2().join("single_file.safetensors");
    let text = succeeds(gesso().arg("inspect").arg(&file).arg("--config").arg(sd2()));
    for part in [
        "family: sd2\n",
        "because: it holds `cond_stage_model.model.",
        "predicts: v_prediction\n",
        "unused: cond_stage_model.model.text_projection (",
        "unused: cond_stage_model.model.transformer.resblocks.3.attn.in_proj_weight (last block of OpenCLIP",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let text = succeeds(
        gesso()
            .arg("inspect")
            .arg(&file)
            .arg("--config")
            .arg(sd2())
            .args(["--prediction-type", "epsilon"]),
    );
    assert!(text.contains("predicts: epsilon\n"), "{text}");
}

/// Converts with the tokenizer of the shapes model, whose ids the text encoder has rows for.
fn converted(scratch: &Path, prediction: &str) -> PathBuf {
    let out = scratch.join(prediction);
    succeeds(
        gesso()
            .arg("convert")
            .arg(sd2())
            .arg("-o")
            .arg(&out)
            .arg("--tokenizer")
            .arg(shapes().join("tokenizer"))
            .args([
                "--size",
                "64x64",
                "--format",
                "mlpackage",
                "--prediction-type",
                prediction,
            ]),
    );
    out
}

#[test]
fn generate_samples_what_the_folder_predicts_and_pads_with_id_0() {
    let scratch = tempfile::tempdir().unwrap();
    let pictures = ["v_prediction", "epsilon"].map(|prediction| {
        let folder = converted(scratch.path(), prediction);
        let picture = folder.with_extension("png");
        let output = gesso()
            .arg("generate")
            .arg(&folder)
            .arg("-o")
            .arg(&picture)
            .args(["--prompt", "a red circle", "--steps", "3", "--json"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let d: Value = serde_json::from_slice(&output.stdout).unwrap();
        let ids: Vec<u64> = serde_json::from_value(d["tokens"].clone()).unwrap();
        assert_eq!(ids.len(), 77);
        assert_eq!(ids[0], 652);
        let end = ids.iter().position(|&id| id == 653).unwrap();
        assert!(ids[end + 1..].iter().all(|&id| id == 0), "{ids:?}");
        std::fs::read(picture).unwrap()
    });
    assert!(pictures[0] != pictures[1]);
}
