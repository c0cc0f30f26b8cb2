//! Names that torch and coremltools give to the weights of attention layers, looked up in a table of all such layers.

use super::layers::Step;
use super::{Module, Named};
use crate::slots::Sites;
use gesso_weights::Component;
use std::collections::BTreeMap;

/// Layers of one transformer block, in the order of their ops.
pub(super) const BLOCK: [&str; 10] = [
    "attn1.to_q",
    "attn1.to_k",
    "attn1.to_v",
    "attn1.to_out.0",
    "attn2.to_q",
    "attn2.to_k",
    "attn2.to_v",
    "attn2.to_out.0",
    "ff.net.0.proj",
    "ff.net.2",
];

/// Layers of one layer of a text encoder, in the order of their ops.
pub(super) const TEXT: [&str; 6] = [
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.out_proj",
    "mlp.fc1",
    "mlp.fc2",
];

/// Layers around the transformer blocks.
const AROUND: [&str; 2] = ["proj_in", "proj_out"];

/// Layers of a residual block that every one has, in the order of their ops.
const RESNET: [&str; 3] = ["conv1", "time_emb_proj", "conv2"];

/// Layers outside the blocks of a UNet.
const OUTSIDE: [&str; 4] = [
    "time_embedding.linear_1",
    "time_embedding.linear_2",
    "conv_in",
    "conv_out",
];

/// Most blocks of a side, attentions of a block, transformer blocks of an attention, layers of a text encoder.
const LIMITS: [usize; 4] = [4, 4, 12, 40];

/// What may stand before a module's name, where the traced network lies inside another.
const PREFIXES: &[&str] = &["", "unet_", "model_", "text_encoder_"];

/// What coremltools appends.
const ENDINGS: &[&str] = &[
    "_palettized",
    "_quantized",
    "_to_fp16",
    "_to_fp32",
    "_cast_fp16",
];

/// Whether a module is a projection of an attention.
pub(super) fn is_attention(path: &str) -> bool {
    let mut words = path.rsplit('.');
    words.any(|w| matches!(w, "attn1" | "attn2" | "self_attn"))
}

/// Names the layers by their weights; `None` when no weight tells a module.
///
/// Errors: a module that is there twice, has no form that a slot fits, or is missing although others of its block are there; weights
/// of a UNet and of a text encoder in one program.
pub(super) fn named(steps: &[Step], sites: Sites) -> Result<Option<Named>, String> {
    let table = spellings(sites);
    let mut found: Option<Named> = None;
    for step in steps {
        let (weight, layer) = match step {
            Step::Layer(layer) => (&layer.weight, Ok(layer)),
            Step::Conv(layer) => (&layer.weight, Ok(layer)),
            Step::Other(weight, reason) => (weight, Err(reason)),
            Step::Down | Step::Up => continue,
        };
        let Some((component, path)) = find(&table, weight) else {
            continue;
        };
        let layer = layer.map_err(|reason| format!("`{path}` gets no slot: {reason}"))?;
        if !layer.is_point() && !is_convolution(&path) {
            return Err(format!(
                "`{path}` gets no slot: its kernel is {0}×{0}, expected 1×1",
                layer.kernel.size
            ));
        }
        let (first, modules) = found.get_or_insert_with(|| (component, Vec::new()));
        if *first != component {
            return Err("its weights are named like those of a UNet and of a text encoder".into());
        }
        if modules.iter().any(|m| m.path == path) {
            return Err(format!("two layers have weights named like `{path}`"));
        }
        modules.push(Module::new(path, layer));
    }
    if let Some((component, modules)) = &found {
        let present: Vec<&str> = modules.iter().map(|m| m.path.as_str()).collect();
        let outside = OUTSIDE.iter().find(|path| {
            sites == Sites::All && *component == Component::Unet && !present.contains(path)
        });
        if let Some(missing) = outside {
            return Err(format!("no weight is named like `{missing}`"));
        }
        if let Some(missing) = missing(*component, &present) {
            return Err(format!(
                "no weight is named like `{missing}`, although others of its block are there"
            ));
        }
    }
    Ok(found)
}

/// All modules by their path with underscores.
fn spellings(sites: Sites) -> BTreeMap<String, (Component, String)> {
    let [blocks, attentions, depth, layers] = LIMITS;
    let sides = ["down_blocks", "up_blocks"];
    let mut stems = vec!["mid_block.attentions.0".to_string()];
    for side in sides {
        for (block, attention) in (0..blocks).flat_map(|b| (0..attentions).map(move |a| (b, a))) {
            stems.push(format!("{side}.{block}.attentions.{attention}"));
        }
    }
    let mut paths = Vec::new();
    for stem in &stems {
        paths.extend(AROUND.map(|end| (Component::Unet, format!("{stem}.{end}"))));
        for n in 0..depth {
            let block = format!("{stem}.transformer_blocks.{n}");
            paths.extend(BLOCK.map(|end| (Component::Unet, format!("{block}.{end}"))));
        }
    }
    if sites == Sites::All {
        let others = others().into_iter();
        paths.extend(others.map(|path| (Component::Unet, path)));
    }
    for n in 0..layers {
        let layer = format!("text_model.encoder.layers.{n}");
        paths.extend(TEXT.map(|end| (Component::TextEncoder, format!("{layer}.{end}"))));
    }
    paths
        .into_iter()
        .map(|(component, path)| (path.replace('.', "_"), (component, path)))
        .collect()
}

/// Layers of a UNet outside its transformers.
fn others() -> Vec<String> {
    let [blocks, resnets, ..] = LIMITS;
    let mut paths: Vec<String> = OUTSIDE.iter().map(|path| (*path).to_string()).collect();
    let mut put = |block: &str, resnets: usize| {
        for n in 0..resnets {
            let ends = RESNET.iter().chain(&["conv_shortcut"]);
            paths.extend(ends.map(|end| format!("{block}.resnets.{n}.{end}")));
        }
        for sampler in ["downsamplers", "upsamplers"] {
            paths.push(format!("{block}.{sampler}.0.conv"));
        }
    };
    put("mid_block", 2);
    for n in 0..blocks {
        put(&format!("down_blocks.{n}"), resnets);
        put(&format!("up_blocks.{n}"), resnets);
    }
    paths
}

/// Whether a module is a convolution over several positions in every UNet.
fn is_convolution(path: &str) -> bool {
    let last = path.rsplit('.').next().unwrap_or(path);
    matches!(last, "conv" | "conv1" | "conv2" | "conv_in" | "conv_out")
}

/// The module whose weight is called `name`.
fn find(
    spellings: &BTreeMap<String, (Component, String)>,
    name: &str,
) -> Option<(Component, String)> {
    let mut stem = name;
    while let Some(rest) = ENDINGS.iter().find_map(|end| stem.strip_suffix(end)) {
        stem = rest;
    }
    let stem = stem.strip_suffix("_weight")?;
    PREFIXES
        .iter()
        .filter_map(|prefix| stem.strip_prefix(prefix))
        .find_map(|module| spellings.get(module).cloned())
}

/// A layer that is not in `present` although another of its block is.
fn missing(component: Component, present: &[&str]) -> Option<String> {
    let split = |path: &str| -> Option<(String, &'static [&'static str])> {
        let ends: &'static [&'static str] = match component {
            Component::Unet => &BLOCK,
            _ => &TEXT,
        };
        [ends, &AROUND, &RESNET].into_iter().find_map(|ends| {
            let stem = ends.iter().find_map(|end| path.strip_suffix(end))?;
            Some((stem.to_string(), ends))
        })
    };
    present.iter().find_map(|path| {
        let (stem, ends) = split(path)?;
        ends.iter()
            .map(|end| format!("{stem}{end}"))
            .find(|wanted| !present.contains(&wanted.as_str()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_coremltools() {
        let table = spellings(Sites::All);
        let of = |name: &str| find(&table, name).map(|(_, path)| path);
        let q = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q";
        let name = "down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q_weight";
        for end in ["", "_to_fp16", "_to_fp16_palettized"] {
            assert_eq!(of(&format!("{name}{end}")).as_deref(), Some(q), "{end}");
        }
        assert_eq!(
            of("text_encoder_text_model_encoder_layers_3_mlp_fc1_weight_to_fp16").as_deref(),
            Some("text_model.encoder.layers.3.mlp.fc1")
        );
        assert_eq!(of("conv_in_weight_to_fp16").as_deref(), Some("conv_in"));
        assert_eq!(
            of("up_blocks_1_resnets_2_conv_shortcut_weight").as_deref(),
            Some("up_blocks.1.resnets.2.conv_shortcut")
        );
        assert_eq!(find(&spellings(Sites::default()), "conv_in_weight"), None);
        assert_eq!(of("down_blocks_0_attentions_0_proj_in_bias_to_fp16"), None);
    }

    #[test]
    fn a_block_is_whole_or_refused() {
        let whole: Vec<String> = TEXT.iter().map(|end| format!("a.{end}")).collect();
        let mut present: Vec<&str> = whole.iter().map(String::as_str).collect();
        assert_eq!(missing(Component::TextEncoder, &present), None);
        present.pop();
        let found = missing(Component::TextEncoder, &present);
        assert_eq!(found.as_deref(), Some("a.mlp.fc2"));
    }
}
