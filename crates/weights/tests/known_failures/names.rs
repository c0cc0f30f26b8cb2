//! Entries about names, families and files.

use crate::lora_files::{
    Desk, Numbers, conv, family, files, message, module, pair, pattern, resolve, resolved, scale,
    sd1, table_of_folder,
};
use gesso_testkit::{fixture, shared};
use gesso_weights::Component;
use gesso_weights::lora::ModuleTable;

const K: &str = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q";
const D: &str = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q";
const TEXT_Q: &str = "text_model.encoder.layers.0.self_attn.q_proj";

/// A LoRA of one cross attention, `width` being that of the text states.
fn cross_attention(block: &str, outputs: usize, width: usize) -> Vec<(String, Numbers)> {
    let name = format!("lora_unet_{block}_attentions_0_transformer_blocks_0_attn2_to_k");
    pair(&name, outputs, width, 8, None)
}

#[test]
fn known_failure_04_alphas_of_the_text_encoders() {
    let name = TEXT_Q.replace('.', "_");
    let tensors = [
        pair(&format!("lora_te1_{name}"), 768, 768, 8, Some(1.0)),
        pair(&format!("lora_te2_{name}"), 1280, 1280, 8, Some(8.0)),
    ]
    .concat();
    let lora = files(&tensors, &family("sdxl"));
    assert_eq!(scale(&lora, Component::TextEncoder, TEXT_Q), 0.125);
    assert_eq!(scale(&lora, Component::TextEncoder2, TEXT_Q), 1.0);
    assert_eq!(lora.modules.len(), 2);
    assert_eq!(lora.applied, lora.tensors);
}

#[test]
fn known_failure_05_modules_outside_the_blocks() {
    let tensors = [
        conv("lora_unet_conv_in", 320, 4, 4, 3),
        conv("lora_unet_conv_out", 4, 320, 4, 3),
        pair("lora_unet_time_embedding_linear_1", 1280, 320, 4, None),
    ]
    .concat();
    let lora = files(&tensors, &sd1());
    for path in ["conv_in", "conv_out", "time_embedding.linear_1"] {
        assert!(lora.adapter(Component::Unet, path).is_some(), "{path}");
    }
    let tensors = [
        conv("lora_unet_input_blocks_0_0", 320, 4, 4, 3),
        conv("lora_unet_out_2", 4, 320, 4, 3),
        pair("lora_unet_time_embed_0", 1280, 320, 4, None),
        pair("lora_unet_label_emb_0_0", 1280, 2816, 4, None),
    ]
    .concat();
    let lora = files(&tensors, &family("sdxl"));
    let paths: Vec<_> = lora.modules.keys().map(|(_, path)| path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "add_embedding.linear_1",
            "conv_in",
            "conv_out",
            "time_embedding.linear_1"
        ]
    );
}

#[test]
fn known_failure_09_half_converted_dora_names() {
    let dotted = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1.to_q";
    let mut tensors = pair(K, 320, 320, 4, None);
    tensors.push((
        format!("{dotted}.lora_magnitude_vector"),
        (vec![320], vec![1.0; 320]),
    ));
    let lora = files(&tensors, &sd1());
    assert_eq!(lora.modules.len(), 1);
    assert!(lora.adapter(Component::Unet, D).unwrap().is_dora());
}

#[test]
fn known_failure_14_inpainting_base_with_nine_channels() {
    let shape = [320, 9, 3, 3];
    let table = ModuleTable::new([module("conv_in", &shape)]);
    let lora = files(&conv("lora_unet_conv_in", 320, 4, 4, 3), &table);
    assert!(
        lora.warnings[0].contains("9 input channels"),
        "{:?}",
        lora.warnings
    );
    let adapter = lora.adapter(Component::Unet, "conv_in").unwrap();
    let delta = adapter.delta(&pattern(&shape).1, &shape).unwrap();
    for row in delta.chunks(81) {
        assert!(row[..36].iter().any(|x| *x != 0.0));
        assert!(row[36..].iter().all(|x| *x == 0.0));
    }
    assert_eq!(adapter.low_rank().unwrap().delta(), delta);
}

#[test]
fn known_failure_15_kernel_size_comes_from_the_factor() {
    let lora = files(
        &conv(
            "lora_unet_down_blocks_0_downsamplers_0_conv",
            320,
            320,
            4,
            3,
        ),
        &sd1(),
    );
    assert_eq!(
        lora.adapter(Component::Unet, "down_blocks.0.downsamplers.0.conv")
            .unwrap()
            .weight_shape(),
        [320, 320, 3, 3]
    );
    let complaint = message(
        &conv(
            "lora_unet_down_blocks_0_attentions_0_proj_in",
            320,
            320,
            4,
            3,
        ),
        &sd1(),
    );
    assert!(complaint.contains("[4, 320, 3, 3]"), "{complaint}");
    assert!(complaint.contains("[320, 320, 1, 1]"), "{complaint}");
}

#[test]
fn known_failure_16_text_encoder_names_of_sd2() {
    let sd2 = family("sd2");
    let path = "text_model.encoder.layers.3.mlp.fc1";
    let name = "lora_te_text_model_encoder_layers_3_mlp_fc1";
    let lora = files(&pair(name, 4096, 1024, 4, None), &sd2);
    assert!(lora.adapter(Component::TextEncoder, path).is_some());
    // Layer 22 is the last one in use; OpenCLIP's own names are no LoRA's.
    let last = pair(&name.replace("_3_", "_22_"), 4096, 1024, 4, None);
    assert_eq!(files(&last, &sd2).modules.len(), 1);
    let beyond = pair(&name.replace("_3_", "_23_"), 4096, 1024, 4, None);
    let complaint = message(&beyond, &sd2);
    assert!(complaint.contains("nearest known module"), "{complaint}");
}

#[test]
fn known_failure_17_second_text_encoder_dropped() {
    let path = "text_model.encoder.layers.8.self_attn.q_proj";
    let key = |half: &str| format!("text_encoder_2.{path}.lora_linear_layer.{half}.weight");
    let tensors = vec![
        (key("down"), pattern(&[4, 1280])),
        (key("up"), pattern(&[1280, 4])),
    ];
    let lora = files(&tensors, &family("sdxl"));
    let keys: Vec<_> = lora.modules.into_keys().collect();
    assert_eq!(keys, [(Component::TextEncoder2, path.to_string())]);
}

#[test]
fn known_failure_18_base_lora_on_the_refiner() {
    let complaint = message(
        &cross_attention("mid_block", 1280, 2048),
        &family("sdxl-refiner"),
    );
    assert!(
        complaint.contains("was made for SDXL base (2048), the model is SDXL refiner (1280)"),
        "{complaint}"
    );
}

#[test]
fn known_failure_19_sd1_lora_on_sdxl() {
    let sdxl = family("sdxl");
    let complaint = message(&cross_attention("mid_block", 1280, 768), &sdxl);
    assert!(
        complaint.contains("was made for SD1 (768), the model is SDXL base (2048)"),
        "{complaint}"
    );
    assert!(complaint.contains("[8, 768]"), "{complaint}");
    // Names that the model does not have say so as well.
    let complaint = message(&cross_attention("up_blocks_3", 320, 768), &sdxl);
    assert!(
        complaint.contains("was made for SD1 (768), the model is SDXL base (2048)"),
        "{complaint}"
    );
}

#[test]
fn known_failure_20_truncated_files_and_trailing_bytes() {
    let desk = Desk::new();
    let tensors = pair(K, 320, 320, 4, None);
    let tensors: Vec<(&str, Numbers)> = tensors
        .iter()
        .map(|(k, v)| (k.as_str(), v.clone()))
        .collect();
    let path = desk.file("whole.safetensors", &tensors, &[]);
    let bytes = std::fs::read(&path).unwrap();
    let written = |name: &str, bytes: &[u8]| {
        let path = desk.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let complaint = |name: &str, bytes: &[u8]| {
        resolve(&written(name, bytes), &sd1())
            .unwrap_err()
            .to_string()
    };
    let short = complaint("short.safetensors", &bytes[..bytes.len() - 1000]);
    assert!(short.contains("9240") && short.contains("10240"), "{short}");
    assert!(short.contains("short.safetensors"), "{short}");
    let pointer = complaint(
        "pointer.safetensors",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n",
    );
    assert!(pointer.contains("git-lfs pointer"), "{pointer}");
    let stub = complaint("stub.safetensors", b"{}");
    assert!(stub.contains("2 bytes"), "{stub}");

    let long = written("long.safetensors", &[bytes, vec![7; 33]].concat());
    let lora = resolved(&long, &sd1());
    assert_eq!(lora.modules.len(), 1);
    assert!(lora.warnings[0].contains("33 bytes"), "{:?}", lora.warnings);
}

#[test]
fn known_failure_21_old_names_without_a_prefix() {
    let tensors = vec![
        (
            "completely.else.lora_A.weight".to_string(),
            pattern(&[4, 320]),
        ),
        (
            "completely.else.lora_B.weight".to_string(),
            pattern(&[320, 4]),
        ),
    ];
    let complaint = message(&tensors, &sd1());
    assert!(
        complaint.contains("no module of the model is touched"),
        "{complaint}"
    );

    let own = fixture("lora/equiv/lora_old_processor_noprefix.safetensors");
    let small = fixture("lora/equiv/base_diffusers");
    let lora = resolved(&own, &table_of_folder(&small));
    assert_eq!(lora.applied, lora.tensors);

    let Some(path) = shared("lora/real/diffusers_old_noprefix_r4.safetensors") else {
        return;
    };
    let lora = resolved(&path, &sd1());
    assert_eq!((lora.modules.len(), lora.applied), (128, 256));
}
