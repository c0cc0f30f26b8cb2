//! The shape of SD1's programs at the size of the real model: features, ops, names, slots; and configurations that are refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use gesso_convert::built::{Built, Feature};
use gesso_convert::family::sd1::{
    TextOptions, UnetOptions, VaeOptions, text_encoder, unet, vae_decoder, vae_encoder,
};
use gesso_convert::family::{Attention, Precision};
use gesso_convert::slots::{Sites, SlotOptions};
use gesso_mil::{DType, Program, ValueData};
use gesso_weights::{TextActivation, TextConfig, UnetConfig, VaeConfig};
use std::collections::{BTreeMap, BTreeSet};

fn unet_config() -> UnetConfig {
    UnetConfig {
        in_channels: 4,
        out_channels: 4,
        block_out_channels: vec![320, 640, 1280, 1280],
        layers_per_block: 2,
        down_attention: vec![true, true, true, false],
        up_attention: vec![false, true, true, true],
        transformer_depth: vec![1; 4],
        heads: vec![8; 4],
        cross_attention_dim: 768,
        norm_groups: 32,
        norm_eps: 1e-5,
        use_linear_projection: false,
        flip_sin_to_cos: true,
        freq_shift: 0.0,
        sample_size: 64,
        mid_attention: true,
    }
}

fn unet_options() -> UnetOptions {
    UnetOptions {
        batch: 2,
        height: 64,
        width: 64,
        tokens: 77,
        precision: Precision::Fp16,
        attention: Attention::SplitEinsum,
        slots: None,
        controlnet_residuals: false,
    }
}

fn text_config() -> TextConfig {
    TextConfig {
        vocab_size: 49408,
        hidden: 768,
        intermediate: 3072,
        layers: 12,
        heads: 12,
        max_positions: 77,
        activation: TextActivation::QuickGelu,
        eps: 1e-5,
        bos: 49406,
        eos: 49407,
        eos_config_id: 2,
    }
}

fn text_options() -> TextOptions {
    TextOptions {
        tokens: 77,
        precision: Precision::Fp16,
        slots: None,
    }
}

fn vae_config() -> VaeConfig {
    VaeConfig {
        in_channels: 3,
        out_channels: 3,
        latent_channels: 4,
        block_out_channels: vec![128, 256, 512, 512],
        layers_per_block: 2,
        norm_groups: 32,
        scaling_factor: 0.18215,
    }
}

fn vae_options() -> VaeOptions {
    VaeOptions {
        height: 64,
        width: 64,
        precision: Precision::Fp16,
    }
}

/// Every program of the family, plain and with slots, in both precisions.
fn all() -> Vec<(String, Built)> {
    let mut all = Vec::new();
    for precision in [Precision::Fp16, Precision::Fp32] {
        for slots in [None, Some(SlotOptions::of_rank(32))] {
            for attention in [Attention::Original, Attention::SplitEinsum] {
                let options = UnetOptions {
                    precision,
                    attention,
                    slots,
                    controlnet_residuals: slots.is_none(),
                    ..unet_options()
                };
                let what = format!("unet {precision:?} {attention:?} {slots:?}");
                all.push((what, unet(&unet_config(), &options).unwrap()));
            }
            let options = TextOptions {
                precision,
                slots,
                ..text_options()
            };
            let what = format!("text encoder {precision:?} {slots:?}");
            all.push((what, text_encoder(&text_config(), &options).unwrap()));
        }
        let options = VaeOptions {
            precision,
            ..vae_options()
        };
        let decoder = vae_decoder(&vae_config(), &options).unwrap();
        all.push((format!("decoder {precision:?}"), decoder));
        let encoder = vae_encoder(&vae_config(), &options).unwrap();
        all.push((format!("encoder {precision:?}"), encoder));
    }
    all
}

fn kinds(built: &Built) -> BTreeMap<&str, usize> {
    let mut kinds = BTreeMap::new();
    for op in &built.function.body().unwrap().operations {
        *kinds.entry(op.kind.as_str()).or_default() += 1;
    }
    kinds
}

/// `name dtype shape`, with `?` for an optional one.
fn shown(features: &[Feature]) -> Vec<String> {
    features
        .iter()
        .map(|f| {
            let optional = if f.default.is_some() { "?" } else { "" };
            format!("{}{optional} {} {:?}", f.name, f.dtype, f.shape)
        })
        .collect()
}

#[test]
fn programs_verify_and_declare_what_they_take_and_return() {
    for (what, built) in all() {
        let function = &built.function;
        let program = Program {
            version: 1,
            functions: BTreeMap::from([("main".into(), function.clone())]),
            attributes: BTreeMap::new(),
        };
        let findings = gesso_mil::verify(&program);
        assert!(findings.is_empty(), "{what}: {findings:?}");
        let inputs: Vec<_> = function.inputs.iter().map(|i| (&*i.name, &i.ty)).collect();
        assert_eq!(inputs.len(), built.inputs.len(), "{what}");
        for ((name, ty), feature) in inputs.iter().zip(&built.inputs) {
            assert_eq!(*name, feature.name);
            let ty = ty.as_tensor().unwrap();
            assert_eq!(
                (ty.dtype, ty.shape().unwrap()),
                (feature.dtype, feature.shape.clone())
            );
        }
        let outputs: Vec<_> = built.outputs.iter().map(|f| f.name.clone()).collect();
        assert_eq!(function.body().unwrap().outputs, outputs, "{what}");
        assert!(
            built.outputs.iter().all(|f| f.dtype == DType::Fp32),
            "{what}"
        );
    }
}

#[test]
fn every_weight_is_a_key_of_its_own() {
    for (what, built) in all() {
        let mut keys = BTreeSet::new();
        for op in &built.function.body().unwrap().operations {
            let Some(value) = op.attributes.get("val") else {
                continue;
            };
            let ty = value.ty.as_tensor().unwrap();
            match &value.data {
                ValueData::External { key } => {
                    assert!(keys.insert(key.clone()), "{what}: `{key}` twice");
                    if let Some(data) = built.generated.get(key) {
                        assert_eq!(Some(data.len()), ty.count(), "{what}: `{key}`");
                    }
                }
                // Only short literals, and the positions of the text (int32 has no place in the weight file).
                _ => assert!(
                    ty.count().unwrap() < 10 || ty.dtype == DType::Int32,
                    "{what}: {ty}"
                ),
            }
        }
        assert!(built.generated.keys().all(|k| keys.contains(k)), "{what}");
        assert!(built.gathered.iter().all(|k| keys.contains(k)), "{what}");
    }
}

#[test]
fn features_are_those_of_the_swift_package() {
    let built = unet(&unet_config(), &unet_options()).unwrap();
    assert_eq!(
        shown(&built.inputs),
        [
            "sample fp16 [2, 4, 64, 64]",
            "timestep fp16 [2]",
            "encoder_hidden_states fp16 [2, 768, 1, 77]"
        ]
    );
    assert_eq!(shown(&built.outputs), ["noise_pred fp32 [2, 4, 64, 64]"]);
    let built = text_encoder(&text_config(), &text_options()).unwrap();
    assert_eq!(shown(&built.inputs), ["input_ids fp32 [1, 77]"]);
    assert_eq!(
        shown(&built.outputs),
        [
            "last_hidden_state fp32 [1, 77, 768]",
            "pooled_outputs fp32 [1, 768]"
        ]
    );
    let built = vae_decoder(&vae_config(), &vae_options()).unwrap();
    assert_eq!(shown(&built.inputs), ["z fp16 [1, 4, 64, 64]"]);
    assert_eq!(shown(&built.outputs), ["image fp32 [1, 3, 512, 512]"]);
    let built = vae_encoder(&vae_config(), &vae_options()).unwrap();
    assert_eq!(shown(&built.inputs), ["x fp16 [1, 3, 512, 512]"]);
    assert_eq!(shown(&built.outputs), ["latent fp32 [1, 8, 64, 64]"]);
}

#[test]
fn controlnet_residuals_have_the_shapes_of_the_skips() {
    let options = UnetOptions {
        controlnet_residuals: true,
        ..unet_options()
    };
    let built = unet(&unet_config(), &options).unwrap();
    let wanted = [
        (320, 64),
        (320, 64),
        (320, 64),
        (320, 32),
        (640, 32),
        (640, 32),
        (640, 16),
        (1280, 16),
        (1280, 16),
        (1280, 8),
        (1280, 8),
        (1280, 8),
        (1280, 8),
    ];
    let wanted: Vec<String> = wanted
        .iter()
        .enumerate()
        .map(|(i, (c, s))| format!("additional_residual_{i} fp16 [2, {c}, {s}, {s}]"))
        .collect();
    assert_eq!(shown(&built.inputs)[3..], wanted);
}

#[test]
fn attention_flavours_differ_in_the_einsum_op() {
    for slots in [None, Some(SlotOptions::of_rank(32))] {
        let of = |attention| {
            let options = UnetOptions {
                attention,
                slots,
                ..unet_options()
            };
            unet(&unet_config(), &options).unwrap()
        };
        assert!(!kinds(&of(Attention::Original)).contains_key("einsum"));
        // 16 transformers, 2 attentions each, 8 heads, 2 products.
        assert_eq!(kinds(&of(Attention::SplitEinsum))["einsum"], 16 * 2 * 8 * 2);
    }
}

#[test]
fn slots_cover_attention_feed_forward_and_projections() {
    let options = UnetOptions {
        slots: Some(SlotOptions::of_rank(32)),
        ..unet_options()
    };
    let built = unet(&unet_config(), &options).unwrap();
    let table = built.slots.unwrap();
    // 16 transformers: 2 projections, 2 × 4 attention layers, 2 feed-forward layers.
    assert_eq!(table.modules().len(), 16 * 12);
    let bytes: usize = table.widths().iter().map(|(w, n)| w * n * 32 * 2).sum();
    // 27 MB at rank 32, as the conventions count it.
    assert_eq!((bytes as f64 / 1e6).round(), 27.0);
    let widths: Vec<_> = table
        .widths()
        .keys()
        .map(|w| format!("adapter_{w}"))
        .collect();
    let declared: Vec<_> = built.inputs[3..].iter().map(|f| f.name.clone()).collect();
    assert_eq!(declared, widths);

    let options = TextOptions {
        slots: Some(SlotOptions::of_rank(32)),
        ..text_options()
    };
    let table = text_encoder(&text_config(), &options)
        .unwrap()
        .slots
        .unwrap();
    assert_eq!(table.modules().len(), 12 * 6);
    let bytes: usize = table.widths().iter().map(|(w, n)| w * n * 32 * 2).sum();
    assert_eq!((bytes as f64 / 1e5).round(), 106.0);
}

#[test]
fn sites_choose_the_modules() {
    let table = |sites| {
        let slots = Some(SlotOptions { rank: 32, sites });
        let options = UnetOptions {
            slots,
            ..unet_options()
        };
        let built = unet(&unet_config(), &options).unwrap();
        let options = TextOptions {
            slots,
            ..text_options()
        };
        let text = text_encoder(&text_config(), &options).unwrap();
        (built.slots.unwrap(), text.slots.unwrap())
    };
    let (attention, text) = table(Sites::Attention);
    assert_eq!(attention.modules().len(), 16 * 2 * 4);
    assert_eq!(text.modules().len(), 12 * 4);
    let (all, text) = table(Sites::All);
    assert_eq!(text.modules().len(), 12 * 6);
    // Every weight of at least two dimensions is that of a module, and every module has one.
    let plain = unet(&unet_config(), &unet_options()).unwrap();
    let layers: Vec<(String, Vec<usize>)> = weights(&plain)
        .filter(|(_, shape)| shape.len() == 4 && shape[0] > 1)
        .collect();
    // Factors `down [R, I·k²]` and `up [O, R]` of every layer, and nothing else.
    let sides = layers
        .iter()
        .map(|(_, s)| s[0] + s[1..].iter().product::<usize>());
    assert_eq!(all.elements(), 32 * sides.sum::<usize>() as u64);
    let mut layers: Vec<String> = layers.into_iter().map(|(key, _)| key).collect();
    let mut modules: Vec<String> = all
        .modules()
        .iter()
        .map(|m| format!("{}:{}.weight", m.component, m.module))
        .collect();
    layers.sort();
    modules.sort();
    assert_eq!(layers, modules);
    let kernels = |k| all.modules().iter().filter(|m| m.kernel == k).count();
    // 22 resnets with two each, 3 downsamplers, 3 upsamplers, conv_in, conv_out.
    assert_eq!(kernels(3), 22 * 2 + 3 + 3 + 2);
    // 16 transformers; time_emb_proj of every resnet, 14 shortcuts, two layers of the time embedding.
    assert_eq!(kernels(1), 16 * 12 + 22 + 14 + 2);
    assert_eq!((all.elements() as f64 * 2.0 / 1e6).round(), 68.0);
    let (default, _) = table(Sites::AttentionFeedForward);
    let hashes = [attention, default, all].map(|t| t.layout_hash());
    assert!(hashes[0] != hashes[1] && hashes[1] != hashes[2]);
}

/// External weights with their shapes.
fn weights(built: &Built) -> impl Iterator<Item = (String, Vec<usize>)> + '_ {
    let body = built.function.body().unwrap();
    body.operations.iter().filter_map(|op| {
        let value = op.attributes.get("val")?;
        match &value.data {
            gesso_mil::ValueData::External { key } => {
                Some((key.clone(), value.ty.as_tensor()?.shape()?))
            }
            _ => None,
        }
    })
}

#[test]
fn the_layout_depends_on_the_modules_alone() {
    let hash = |options: UnetOptions| {
        let built = unet(&unet_config(), &options).unwrap();
        built.slots.unwrap().layout_hash()
    };
    let first = UnetOptions {
        slots: Some(SlotOptions::of_rank(32)),
        ..unet_options()
    };
    let other = UnetOptions {
        slots: Some(SlotOptions::of_rank(64)),
        batch: 1,
        height: 96,
        width: 32,
        precision: Precision::Fp32,
        attention: Attention::Original,
        ..unet_options()
    };
    assert_eq!(hash(first), hash(other));
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let refused =
        |config: UnetConfig, options: UnetOptions| unet(&config, &options).unwrap_err().to_string();
    assert_eq!(
        refused(
            UnetConfig {
                heads: vec![7; 4],
                ..unet_config()
            },
            unet_options()
        ),
        "`unet`: block_out_channels is 320, expected a multiple of heads (7)"
    );
    assert_eq!(
        refused(
            UnetConfig {
                heads: vec![0; 4],
                ..unet_config()
            },
            unet_options()
        ),
        "`unet`: heads is 0, expected 1 to 1048576"
    );
    assert_eq!(
        refused(
            UnetConfig {
                up_attention: vec![true],
                ..unet_config()
            },
            unet_options()
        ),
        "`unet`: up_attention is a list of 1, expected one entry per block (4)"
    );
    assert_eq!(
        refused(
            unet_config(),
            UnetOptions {
                slots: Some(SlotOptions::of_rank(20)),
                ..unet_options()
            }
        ),
        "`unet`: adapter rank is 20, expected a positive multiple of 32"
    );
    let config = TextConfig {
        heads: 5,
        ..text_config()
    };
    assert_eq!(
        text_encoder(&config, &text_options())
            .unwrap_err()
            .to_string(),
        "`text_encoder`: hidden is 768, expected a multiple of heads (5)"
    );
    let options = VaeOptions {
        height: 0,
        ..vae_options()
    };
    assert_eq!(
        vae_decoder(&vae_config(), &options)
            .unwrap_err()
            .to_string(),
        "`vae`: height of the latents is 0, expected 1 to 4096"
    );
}
