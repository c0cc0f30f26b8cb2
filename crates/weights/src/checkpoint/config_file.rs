//! `config.json` of the components, as diffusers and transformers write them.

use super::json::Fields;
use crate::{Component, Error, Result, TextActivation, TextConfig, UnetConfig, VaeConfig};
use serde_json::Value;
use std::path::Path;

/// Fields that must be absent, null, or one of these JSON values.
type Supported = &'static [(&'static str, &'static [&'static str])];

const UNET: Supported = &[
    ("act_fn", &["\"silu\"", "\"swish\""]),
    ("addition_embed_type", &[]),
    ("attention_type", &["\"default\""]),
    ("center_input_sample", &["false"]),
    ("class_embed_type", &[]),
    ("conv_in_kernel", &["3"]),
    ("conv_out_kernel", &["3"]),
    ("cross_attention_norm", &[]),
    ("downsample_padding", &["1"]),
    ("dual_cross_attention", &["false"]),
    ("encoder_hid_dim", &[]),
    ("encoder_hid_dim_type", &[]),
    ("mid_block_only_cross_attention", &["false"]),
    ("mid_block_scale_factor", &["1", "1.0"]),
    ("num_attention_heads", &[]),
    ("num_class_embeds", &[]),
    ("only_cross_attention", &["false"]),
    ("resnet_out_scale_factor", &["1", "1.0"]),
    ("resnet_skip_time_act", &["false"]),
    ("resnet_time_scale_shift", &["\"default\""]),
    ("reverse_transformer_layers_per_block", &[]),
    ("time_cond_proj_dim", &[]),
    ("time_embedding_act_fn", &[]),
    ("time_embedding_dim", &[]),
    ("time_embedding_type", &["\"positional\""]),
    ("timestep_post_act", &[]),
];

const VAE: Supported = &[
    ("act_fn", &["\"silu\"", "\"swish\""]),
    ("latents_mean", &[]),
    ("latents_std", &[]),
    ("mid_block_add_attention", &["true"]),
    ("shift_factor", &["0", "0.0"]),
    ("use_post_quant_conv", &["true"]),
    ("use_quant_conv", &["true"]),
];

fn check(component: Component, fields: &Fields, supported: Supported) -> Result<()> {
    for (field, values) in supported {
        let Some(found) = fields.value(field).map(Value::to_string) else {
            continue;
        };
        if !values.contains(&found.as_str()) {
            let mut expected = vec!["null"];
            expected.extend(*values);
            return Err(Error::Config {
                component,
                field: format!("`{field}`"),
                expected: expected.join(" or "),
                found,
            });
        }
    }
    Ok(())
}

/// Reads `unet/config.json`.
///
/// Errors: `Io`, `ConfigFile`; `Config` for a field whose value is not supported.
pub(super) fn unet(file: &Path) -> Result<UnetConfig> {
    let f = Fields::open(file)?;
    check(Component::Unet, &f, UNET)?;
    let block_out_channels = f.levels("block_out_channels")?;
    let n = block_out_channels.len();
    let attention = |field: &str, kinds: [&str; 2]| -> Result<Vec<bool>> {
        let words = f.words(field)?;
        let flags: Option<Vec<_>> = words
            .iter()
            .map(|w| kinds.iter().position(|k| k == w).map(|at| at == 0))
            .collect();
        flags
            .filter(|flags| flags.len() == n)
            .ok_or_else(|| Error::Config {
                component: Component::Unet,
                field: format!("`{field}`"),
                expected: format!("{n} of `{}` or `{}`", kinds[0], kinds[1]),
                found: format!("{words:?}"),
            })
    };
    let mid = f.value("mid_block_type").and_then(Value::as_str);
    let mid_attention = match mid {
        None | Some("UNetMidBlock2DCrossAttn") => true,
        Some("UNetMidBlock2D") => false,
        Some(other) => {
            return Err(Error::Config {
                component: Component::Unet,
                field: "`mid_block_type`".into(),
                expected: "`UNetMidBlock2DCrossAttn` or `UNetMidBlock2D`".into(),
                found: format!("`{other}`"),
            });
        }
    };
    Ok(UnetConfig {
        in_channels: f.size("in_channels", Some(4))?,
        out_channels: f.size("out_channels", Some(4))?,
        layers_per_block: f.size("layers_per_block", Some(2))?,
        down_attention: attention("down_block_types", ["CrossAttnDownBlock2D", "DownBlock2D"])?,
        up_attention: attention("up_block_types", ["CrossAttnUpBlock2D", "UpBlock2D"])?,
        transformer_depth: f.sizes("transformer_layers_per_block", n, Some(1))?,
        heads: f.sizes("attention_head_dim", n, Some(8))?,
        cross_attention_dim: f.size("cross_attention_dim", Some(1280))?,
        norm_groups: f.size("norm_num_groups", Some(32))?,
        norm_eps: f.number("norm_eps", 1e-5)? as f32,
        use_linear_projection: f.flag("use_linear_projection", false)?,
        flip_sin_to_cos: f.flag("flip_sin_to_cos", true)?,
        freq_shift: f.number("freq_shift", 0.0)? as f32,
        sample_size: f.size("sample_size", Some(64))?,
        mid_attention,
        block_out_channels,
    })
}

/// Whether `unet/config.json` asks for attention scores in fp32.
///
/// Errors: `Io`, `ConfigFile`.
pub(super) fn upcasts_attention(file: &Path) -> Result<bool> {
    Fields::open(file)?.flag("upcast_attention", false)
}

/// Reads `vae/config.json`.
///
/// Errors: `Io`, `ConfigFile`; `Config` for a field whose value is not supported.
pub(super) fn vae(file: &Path) -> Result<VaeConfig> {
    let f = Fields::open(file)?;
    check(Component::Vae, &f, VAE)?;
    Ok(VaeConfig {
        in_channels: f.size("in_channels", Some(3))?,
        out_channels: f.size("out_channels", Some(3))?,
        latent_channels: f.size("latent_channels", Some(4))?,
        block_out_channels: f.levels("block_out_channels")?,
        layers_per_block: f.size("layers_per_block", Some(1))?,
        norm_groups: f.size("norm_num_groups", Some(32))?,
        scaling_factor: f.number("scaling_factor", 0.18215)? as f32,
    })
}

/// Reads `text_encoder/config.json`. The begin- and end-of-text ids are taken to be the last two of the vocabulary.
///
/// Errors: `Io`, `ConfigFile`; `Config` for an activation that is not supported.
pub(super) fn text(file: &Path) -> Result<TextConfig> {
    let f = Fields::open(file)?;
    let activation = match f.value("hidden_act").and_then(Value::as_str) {
        None | Some("quick_gelu") => TextActivation::QuickGelu,
        Some("gelu") => TextActivation::Gelu,
        Some(other) => {
            return Err(Error::Config {
                component: Component::TextEncoder,
                field: "`hidden_act`".into(),
                expected: "`quick_gelu` or `gelu`".into(),
                found: format!("`{other}`"),
            });
        }
    };
    let vocab_size = f.size("vocab_size", Some(49408))?;
    let id = |back: usize| u32::try_from(vocab_size.saturating_sub(back)).unwrap_or(0);
    let eos = f.number("eos_token_id", 2.0)?;
    Ok(TextConfig {
        vocab_size,
        hidden: f.size("hidden_size", Some(512))?,
        intermediate: f.size("intermediate_size", Some(2048))?,
        layers: f.size("num_hidden_layers", Some(12))?,
        heads: f.size("num_attention_heads", Some(8))?,
        max_positions: f.size("max_position_embeddings", Some(77))?,
        activation,
        eps: f.number("layer_norm_eps", 1e-5)? as f32,
        bos: id(2),
        eos: id(1),
        eos_config_id: eos as u32,
    })
}
