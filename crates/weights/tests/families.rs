//! Families that are recognised and refused by name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use gesso_testkit::{fixture, shared};
use gesso_weights::{Checkpoint, Error, OpenOptions, StDType, StWriter};
use std::collections::BTreeMap;
use std::path::Path;

#[track_caller]
fn refused(path: &Path, family: &str, sign: &str) {
    let error = Checkpoint::open(path, &OpenOptions::default()).unwrap_err();
    let text = error.to_string();
    assert!(
        matches!(&error, Error::Family { family: f, .. } if *f == family),
        "{}: {text}",
        path.display()
    );
    assert!(text.contains(sign), "{text}");
    assert!(
        text.ends_with("only Stable Diffusion 1.x and 2.x are converted"),
        "{text}"
    );
}

/// A file with zeros of these names and shapes.
fn zeros(path: &Path, tensors: &[(&str, &[usize])]) {
    let rows = tensors
        .iter()
        .map(|(name, shape)| (name.to_string(), StDType::U8, shape.to_vec()));
    let mut writer = StWriter::create(path, &BTreeMap::new(), rows.collect::<Vec<_>>()).unwrap();
    let sizes: BTreeMap<_, usize> = tensors
        .iter()
        .map(|(name, shape)| (name.to_string(), shape.iter().product()))
        .collect();
    while let Some(name) = writer.next_name().map(str::to_string) {
        writer.write(&vec![0; sizes[&name]]).unwrap();
    }
    writer.finish().unwrap();
}

const CONV_IN: &str = "model.diffusion_model.input_blocks.0.0.weight";
const TO_K: &str = "model.diffusion_model.input_blocks.2.1.transformer_blocks.0.attn2.to_k.weight";
const DEEP_TO_K: &str =
    "model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight";
const LABEL: &str = "model.diffusion_model.label_emb.0.0.weight";

#[test]
fn by_published_shapes() {
    type Case = (
        &'static [(&'static str, &'static [usize])],
        &'static str,
        &'static str,
    );
    let cases: &[Case] = &[
        (
            &[(
                "model.diffusion_model.double_blocks.0.img_attn.qkv.weight",
                &[3, 1],
            )],
            "Flux",
            "double_blocks.0.",
        ),
        (
            &[("double_blocks.0.img_attn.qkv.weight", &[3, 1])],
            "Flux",
            "double_blocks.0.",
        ),
        (
            &[(
                "model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight",
                &[3, 1],
            )],
            "Stable Diffusion 3",
            "joint_blocks.0.",
        ),
        (
            &[(CONV_IN, &[384, 4, 3, 3]), (LABEL, &[1, 2560])],
            "the Stable Diffusion XL refiner",
            "2560 values",
        ),
        (
            &[
                (CONV_IN, &[320, 4, 3, 3]),
                (LABEL, &[1, 2816]),
                (DEEP_TO_K, &[1, 2048]),
            ],
            "Stable Diffusion XL",
            "2816 values",
        ),
        (
            &[(CONV_IN, &[320, 4, 3, 3]), (DEEP_TO_K, &[1, 2048])],
            "Stable Diffusion XL",
            "width 2048",
        ),
        (
            &[
                (CONV_IN, &[320, 4, 3, 3]),
                (LABEL, &[1, 2048]),
                (TO_K, &[1, 1024]),
            ],
            "Stable Diffusion 2 unCLIP",
            "2048 values",
        ),
        (
            &[(CONV_IN, &[320, 9, 3, 3]), (TO_K, &[320, 768])],
            "an inpainting model",
            "9 channels",
        ),
        (
            &[(CONV_IN, &[320, 8, 3, 3]), (TO_K, &[320, 768])],
            "InstructPix2Pix",
            "8 channels",
        ),
        (
            &[
                (CONV_IN, &[320, 8, 3, 3]),
                ("cc_projection.weight", &[768, 772]),
            ],
            "Zero123",
            "cc_projection.weight",
        ),
        (
            &[(CONV_IN, &[320, 5, 3, 3]), (TO_K, &[320, 1024])],
            "a depth-to-image model",
            "5 channels",
        ),
        (
            &[(CONV_IN, &[256, 7, 3, 3]), (TO_K, &[320, 1024])],
            "an upscaler",
            "7 channels",
        ),
        (
            &[(CONV_IN, &[320, 6, 3, 3]), (TO_K, &[320, 768])],
            "a model with other inputs",
            "6 channels",
        ),
        (
            &[(CONV_IN, &[320, 4, 3, 3]), ("scaled_fp8", &[0])],
            "a scaled 8-bit file",
            "scaled_fp8",
        ),
        (
            &[("lora_unet_mid_block.lora_down.weight", &[4, 8])],
            "an adapter (LoRA), not a model",
            "lora_unet_mid_block",
        ),
    ];
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    for (tensors, family, sign) in cases {
        zeros(&path, tensors);
        refused(&path, family, sign);
    }
}

#[test]
fn by_tiny_models_of_other_libraries() {
    let cases = [
        ("sdxl", "Stable Diffusion XL", "added embedding"),
        (
            "sdxl/single_file.safetensors",
            "Stable Diffusion XL",
            "added embedding",
        ),
        (
            "sdxl-refiner",
            "the Stable Diffusion XL refiner",
            "80 values",
        ),
        (
            "sdxl-refiner/single_file.safetensors",
            "the Stable Diffusion XL refiner",
            "80 values",
        ),
        ("sd1-inpaint", "an inpainting model", "9 channels"),
        ("sd1-ip2p", "InstructPix2Pix", "8 channels"),
        (
            "lcm",
            "a consistency model with guidance embedding (LCM)",
            "time_embedding.cond_proj.",
        ),
    ];
    for (model, family, sign) in cases {
        let Some(path) = shared(&format!("goldens/models/{model}")) else {
            return;
        };
        refused(&path, family, sign);
    }
}

#[test]
fn controlnets_and_adapters_of_our_fixtures() {
    let controlnet = fixture("goldens/models/controlnet-sd1");
    refused(&controlnet, "a ControlNet", "`controlnet.`");
    refused(
        &controlnet.join("single_file.safetensors"),
        "a ControlNet",
        "control_model.",
    );
    refused(
        &fixture("goldens/lora/sd1/a.safetensors"),
        "an adapter (LoRA), not a model",
        "lora_",
    );
}
