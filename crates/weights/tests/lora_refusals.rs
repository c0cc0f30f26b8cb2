//! What is refused, and the words it is refused with.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod lora_files;

use gesso_weights::Component;
use gesso_weights::lora::{Family, Lora, ModuleTable, ResolveOptions};
use lora_files::{Desk, Numbers, module, pattern, resolve, resolved, scalar, sd1};

const K: &str = "lora_unet_mid_block_attentions_0_proj_in";

fn refused(tensors: &[(&str, Numbers)]) -> String {
    let desk = Desk::new();
    let path = desk.file("case.safetensors", tensors, &[]);
    let complaint = resolve(&path, &sd1()).unwrap_err().to_string();
    assert!(complaint.contains("case.safetensors"), "{complaint}");
    complaint
}

fn assert_says(complaint: &str, pieces: &[&str]) {
    for piece in pieces {
        assert!(
            complaint.contains(piece),
            "`{piece}` is not in: {complaint}"
        );
    }
}

fn halves(down: &str, up: &str) -> Vec<(&'static str, Numbers)> {
    let leak = |s: &str| -> &'static str { s.to_string().leak() };
    vec![
        (leak(down), pattern(&[4, 320])),
        (leak(up), pattern(&[320, 4])),
    ]
}

#[test]
fn an_unknown_name_suggests_the_nearest() {
    let mut tensors = halves(
        "lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight",
        "lora_unet_down_blocks_0_attentions_0_proj_in.lora_up.weight",
    );
    tensors.extend(halves(
        "lora_unet_down_block_0_attentions_1_proj_in.lora_down.weight",
        "lora_unet_down_block_0_attentions_1_proj_in.lora_up.weight",
    ));
    let complaint = refused(&tensors);
    assert_says(
        &complaint,
        &[
            "2 of 4 tensors",
            "`lora_unet_down_block_0_attentions_1_proj_in.lora_down.weight` (nearest known module: `lora_unet_down_blocks.0.attentions.1.proj_in`)",
            "hint: `--ignore PATTERN`",
        ],
    );
}

#[test]
fn zero_applied_is_an_error() {
    let complaint = refused(&halves(
        "elsewhere.lora_A.weight",
        "elsewhere.lora_B.weight",
    ));
    assert_says(
        &complaint,
        &["no module of the model is touched", "2 tensors"],
    );
    // Ignoring everything does not make it a success.
    let desk = Desk::new();
    let tensors = halves("elsewhere.lora_A.weight", "elsewhere.lora_B.weight");
    let path = desk.file("case.safetensors", &tensors, &[]);
    let options = ResolveOptions {
        ignore: vec!["*".into()],
    };
    let error = Lora::open(&path).unwrap().resolve(&sd1(), &options);
    assert_says(
        &error.unwrap_err().to_string(),
        &["no module of the model is touched"],
    );
}

#[test]
fn a_twice_prefixed_file_is_not_half_applied() {
    let complaint = refused(&halves(
        "lora_unet_unet_mid_block_attentions_0_proj_in_lora_down.weight",
        "lora_unet_unet_mid_block_attentions_0_proj_in_lora_up.weight",
    ));
    assert_says(
        &complaint,
        &["none of its tensors has the name of an adapter"],
    );
}

#[test]
fn one_half_missing() {
    let down = format!("{K}.lora_down.weight");
    let complaint = refused(&[(down.as_str(), pattern(&[4, 1280]))]);
    assert_says(
        &complaint,
        &[K, "the down (A) half", "no `the up (B) half`"],
    );
    let up = format!("{K}.lora_up.weight");
    let complaint = refused(&[(up.as_str(), pattern(&[1280, 4]))]);
    assert_says(&complaint, &["`the up (B) half`", "no `the down (A) half`"]);
}

#[test]
fn halves_of_different_ranks() {
    let (down, up) = (
        format!("{K}.lora_down.weight"),
        format!("{K}.lora_up.weight"),
    );
    let complaint = refused(&[
        (down.as_str(), pattern(&[8, 1280])),
        (up.as_str(), pattern(&[1280, 4])),
    ]);
    assert_says(
        &complaint,
        &[
            &format!("tensor `{down}` has rank 8"),
            &format!("`{up}` has rank 4"),
            "hint:",
        ],
    );
}

#[test]
fn empty_tensors() {
    let (a, b, t) = (
        format!("{K}.hada_w1_a"),
        format!("{K}.hada_w1_b"),
        format!("{K}.hada_t1"),
    );
    let complaint = refused(&[
        (a.as_str(), pattern(&[0, 1280])),
        (b.as_str(), pattern(&[4, 1280])),
        (t.as_str(), pattern(&[0, 4])),
    ]);
    assert_says(&complaint, &["at least one element", "[0, "]);
    let (down, up) = (
        format!("{K}.lora_down.weight"),
        format!("{K}.lora_up.weight"),
    );
    let complaint = refused(&[
        (down.as_str(), pattern(&[0, 1280])),
        (up.as_str(), pattern(&[1280, 0])),
    ]);
    assert_says(&complaint, &["at least one element", &down]);
}

#[test]
fn a_shape_that_does_not_fit() {
    let (down, up) = (
        format!("{K}.lora_down.weight"),
        format!("{K}.lora_up.weight"),
    );
    let complaint = refused(&[
        (down.as_str(), pattern(&[4, 640])),
        (up.as_str(), pattern(&[1280, 4])),
    ]);
    assert_says(
        &complaint,
        &["1 modules", &down, "[4, 640]", "[1280, 1280, 1, 1]"],
    );
}

#[test]
fn a_tensor_that_its_algorithm_does_not_use() {
    let (down, up) = (
        format!("{K}.lora_down.weight"),
        format!("{K}.lora_up.weight"),
    );
    let stray = format!("{K}.rescale");
    let complaint = refused(&[
        (down.as_str(), pattern(&[4, 1280])),
        (up.as_str(), pattern(&[1280, 4])),
        (stray.as_str(), pattern(&[1280])),
    ]);
    assert_says(&complaint, &["1 of 3 tensors", &stray]);
    let weight = format!("{K}.weight");
    let complaint = refused(&[
        (down.as_str(), pattern(&[4, 1280])),
        (up.as_str(), pattern(&[1280, 4])),
        (weight.as_str(), pattern(&[1280])),
    ]);
    assert_says(&complaint, &["1 of 3 tensors", &weight]);
}

#[test]
fn one_tensor_under_two_names() {
    let mut tensors = halves(
        "lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight",
        "lora_unet_down_blocks_0_attentions_0_proj_in.lora_up.weight",
    );
    tensors.extend(halves(
        "unet.down_blocks.0.attentions.0.proj_in.lora_A.weight",
        "unet.down_blocks.0.attentions.0.proj_in.lora_B.weight",
    ));
    assert_says(&refused(&tensors), &["name the same tensor", "lora_A"]);
}

#[test]
fn files_of_another_kind() {
    let checkpoint = refused(&[(
        "model.diffusion_model.out.2.weight",
        pattern(&[4, 320, 3, 3]),
    )]);
    assert_says(&checkpoint, &["a checkpoint of a whole model"]);
    for key in ["emb_params", "<style>"] {
        assert_says(
            &refused(&[(key, pattern(&[2, 768]))]),
            &["textual inversion"],
        );
    }
    let both = [
        ("clip_l", pattern(&[2, 768])),
        ("clip_g", pattern(&[2, 1280])),
    ];
    assert_says(&refused(&both), &["textual inversion"]);
    let desk = Desk::new();
    let path = desk.path("empty.safetensors");
    std::fs::write(&path, [&2u64.to_le_bytes()[..], b"{}"].concat()).unwrap();
    assert_says(
        &resolve(&path, &sd1()).unwrap_err().to_string(),
        &["holds no tensors"],
    );
}

#[test]
fn known_kinds_are_refused_by_name() {
    for (key, words) in [
        ("lora_controlnet", "a Control-LoRA"),
        ("ip_adapter.1.to_k_ip.weight", "an IP-Adapter"),
        (
            "lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight",
            "an adapter for Flux",
        ),
        (
            "oft_unet_single_blocks_7_linear1.oft_blocks.0",
            "an adapter for Flux",
        ),
        (
            "transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight",
            "an adapter for Flux",
        ),
        ("lora_unet_context_embedder_.alpha", "SD3 or Flux"),
        (
            "lora_unet_joint_blocks_0_x_block_attn_qkv.lora_down.weight",
            "an adapter for SD3",
        ),
        (
            "transformer.transformer_blocks.0.attn.to_q.lora_A.weight",
            "an adapter for SD3",
        ),
        ("lora_te3_encoder_block_0_layer_0.lora_down.weight", "T5"),
        ("lycoris_noise_refiner_0_attention_to_k.alpha", "Lumina"),
        (
            "mid_block.x.lora_A_1.default_0.weight",
            "wrongly renamed PEFT keys",
        ),
        ("base_model.model.x.oft_R.default", "OFT as PEFT writes it"),
        ("base_model.model.x.vera_lambda_b", "VeRA"),
        ("base_model.model.x.lora_E", "AdaLoRA"),
    ] {
        let complaint = refused(&[(key, pattern(&[4, 320]))]);
        assert_says(&complaint, &[words, "not supported", key]);
    }
}

#[test]
fn peft_kinds_and_settings_that_are_not_read() {
    let tensors = [
        ("base_model.model.conv_in.lora_A.weight", pattern(&[4, 36])),
        ("base_model.model.conv_in.lora_B.weight", pattern(&[320, 4])),
    ];
    for (config, words) in [
        (r#"{"peft_type": "BOFT"}"#, "a PEFT adapter of type BOFT"),
        (
            r#"{"peft_type": "LORA", "fan_in_fan_out": true}"#,
            "fan_in_fan_out",
        ),
        (
            r#"{"peft_type": "LORA", "alpha_pattern": {"x": "y"}}"#,
            "`alpha_pattern` of `x`",
        ),
        ("not json", "adapter_config.json"),
    ] {
        let desk = Desk::new();
        let complaint = Lora::open(desk.peft(&tensors, config))
            .unwrap_err()
            .to_string();
        assert_says(&complaint, &[words]);
    }
    let empty = Desk::new();
    let complaint = Lora::open(empty.path("")).unwrap_err().to_string();
    assert_says(&complaint, &["adapter_model.safetensors"]);
}

#[test]
fn an_alpha_of_zero_is_the_rank_and_warned_about() {
    let (down, up) = (
        format!("{K}.lora_down.weight"),
        format!("{K}.lora_up.weight"),
    );
    let alpha = format!("{K}.alpha");
    let desk = Desk::new();
    let tensors = [
        (down.as_str(), pattern(&[4, 1280])),
        (up.as_str(), pattern(&[1280, 4])),
        (alpha.as_str(), scalar(0.0)),
    ];
    let lora = resolved(&desk.file("zero.safetensors", &tensors, &[]), &sd1());
    assert_says(&lora.warnings[0], &[&alpha, "scale 1"]);
    assert_eq!(lora.scales().into_keys().collect::<Vec<_>>(), ["1"]);
    // `.scale` replaces alpha over rank.
    let scale = format!("{K}.scale");
    let tensors = [&tensors[..], &[(scale.as_str(), scalar(0.3))]].concat();
    let lora = resolved(&desk.file("scale.safetensors", &tensors, &[]), &sd1());
    assert_eq!(lora.scales().into_keys().collect::<Vec<_>>(), ["0.3"]);
    assert_eq!(lora.applied, 4);
    let tensors = [&tensors[..2], &[(alpha.as_str(), scalar(f32::NAN))]].concat();
    let path = desk.file("nan.safetensors", &tensors, &[]);
    let complaint = resolve(&path, &sd1()).unwrap_err().to_string();
    assert_says(&complaint, &[&alpha, "not finite"]);
}

#[test]
fn embeddings_and_leftovers_beside_a_lora_are_listed() {
    let (down, up) = (
        format!("{K}.lora_down.weight"),
        format!("{K}.lora_up.weight"),
    );
    let tensors = [
        (down.as_str(), pattern(&[4, 1280])),
        (up.as_str(), pattern(&[1280, 4])),
        ("bundle_emb.sks.clip_l", pattern(&[2, 768])),
        (
            "lora_unet_mid_block_attentions_0_proj_in.scalar",
            scalar(1.0),
        ),
    ];
    let metadata = [
        ("ss_output_name", "my style"),
        ("modelspec.trigger_phrase", "sks style, oil"),
        ("modelspec.author", "someone"),
        ("modelspec.license", "CC0"),
        (
            "ss_tag_frequency",
            r#"{"10_a": {"cat": 3, "sks": 9}, "5_b": {"cat": 4}}"#,
        ),
    ];
    let desk = Desk::new();
    let lora = resolved(&desk.file("case.safetensors", &tensors, &metadata), &sd1());
    assert_eq!((lora.applied, lora.ignored.len(), lora.tensors), (2, 2, 4));
    assert_says(&lora.ignored[0].reason, &["textual inversion"]);
    let release = &lora.release;
    assert_eq!(release.name, "my style");
    assert_eq!(release.trigger_words, ["sks style", "oil"]);
    assert_eq!(
        release.frequent_tags,
        [("sks".into(), 9), ("cat".into(), 7)]
    );
    assert_eq!(release.author.as_deref(), Some("someone"));
    assert_eq!(release.licence.as_deref(), Some("CC0"));
}

#[test]
fn a_base_weight_of_another_shape_is_refused() {
    let table = ModuleTable::new([module("conv_in", &[4, 3])]);
    let desk = Desk::new();
    let tensors = [
        ("lora_unet_conv_in.lora_down.weight", pattern(&[2, 3])),
        ("lora_unet_conv_in.lora_up.weight", pattern(&[4, 2])),
    ];
    let lora = resolved(&desk.file("case.safetensors", &tensors, &[]), &table);
    let adapter = lora.adapter(Component::Unet, "conv_in").unwrap();
    assert!(adapter.delta(&[0.0; 12], &[4, 3, 1, 1]).is_ok());
    let complaint = adapter.delta(&[0.0; 11], &[11]).unwrap_err().to_string();
    assert_says(&complaint, &["`conv_in`", "11 elements", "[4, 3]"]);
}

#[test]
fn the_family_of_a_file_without_a_model() {
    for (key, width, family) in [
        (
            "unet.mid_block.x.attn2.to_k.lora_A.weight",
            768,
            Some(Family::Sd1),
        ),
        (
            "unet.mid_block.x.attn2.processor.to_k_lora.down.weight",
            1024,
            Some(Family::Sd2),
        ),
        (
            "lora_unet_middle_block_1_transformer_blocks_0_attn2_to_k.lora_down.weight",
            2048,
            Some(Family::Sdxl),
        ),
        (
            "lora_unet_middle_block_1_transformer_blocks_9_attn1_to_k.lora_down.weight",
            1280,
            Some(Family::Sdxl),
        ),
        (
            "lora_te2_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight",
            1280,
            Some(Family::Sdxl),
        ),
        ("unet.mid_block.x.attn1.to_k.lora_A.weight", 1280, None),
    ] {
        let desk = Desk::new();
        let path = desk.file("case.safetensors", &[(key, pattern(&[4, width]))], &[]);
        assert_eq!(Lora::open(&path).unwrap().family(), family, "{key}");
    }
}
