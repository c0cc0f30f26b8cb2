//! The VAE.

use super::{Fit, Naming, NoConfig, Row, Rows, Shapes, first_dim};
use crate::VaeConfig;

/// Every tensor of a VAE with this configuration.
pub(crate) fn vae_rows(config: &VaeConfig) -> Vec<Row> {
    let mut rows = Rows::default();
    let blocks = &config.block_out_channels;
    let first = blocks.first().copied().unwrap_or(0);
    let deepest = blocks.last().copied().unwrap_or(0);
    let last = blocks.len().saturating_sub(1);
    let latent = config.latent_channels;

    let mut both = |name: &str, shape: &[usize]| rows.layer(name, name, shape);
    both("encoder.conv_in", &[first, config.in_channels, 3, 3]);
    both("encoder.conv_out", &[2 * latent, deepest, 3, 3]);
    both("quant_conv", &[2 * latent, 2 * latent, 1, 1]);
    both("post_quant_conv", &[latent, latent, 1, 1]);
    both("decoder.conv_in", &[deepest, latent, 3, 3]);
    both("decoder.conv_out", &[config.out_channels, first, 3, 3]);
    rows.layer("encoder.conv_norm_out", "encoder.norm_out", &[deepest]);
    rows.layer("decoder.conv_norm_out", "decoder.norm_out", &[first]);
    for half in ["encoder", "decoder"] {
        mid(&mut rows, half, deepest);
    }

    let mut channels = first;
    for (i, &out) in blocks.iter().enumerate() {
        let (path, ldm) = (
            format!("encoder.down_blocks.{i}"),
            format!("encoder.down.{i}"),
        );
        for j in 0..config.layers_per_block {
            let resnet = format!("{path}.resnets.{j}");
            resnet_rows(
                &mut rows,
                &resnet,
                &format!("{ldm}.block.{j}"),
                channels,
                out,
            );
            channels = out;
        }
        if i < last {
            let conv = format!("{path}.downsamplers.0.conv");
            rows.layer(&conv, &format!("{ldm}.downsample.conv"), &[out, out, 3, 3]);
        }
    }
    let mut channels = deepest;
    for (i, &out) in blocks.iter().rev().enumerate() {
        // An LDM file counts the up blocks from the highest resolution.
        let (path, ldm) = (
            format!("decoder.up_blocks.{i}"),
            format!("decoder.up.{}", last - i),
        );
        for j in 0..=config.layers_per_block {
            let resnet = format!("{path}.resnets.{j}");
            resnet_rows(
                &mut rows,
                &resnet,
                &format!("{ldm}.block.{j}"),
                channels,
                out,
            );
            channels = out;
        }
        if i < last {
            let conv = format!("{path}.upsamplers.0.conv");
            rows.layer(&conv, &format!("{ldm}.upsample.conv"), &[out, out, 3, 3]);
        }
    }
    rows.0
}

fn resnet_rows(rows: &mut Rows, path: &str, ldm: &str, i: usize, o: usize) {
    let parts: [(&str, &[usize]); 4] = [
        ("norm1", &[i]),
        ("conv1", &[o, i, 3, 3]),
        ("norm2", &[o]),
        ("conv2", &[o, o, 3, 3]),
    ];
    for (part, shape) in parts {
        rows.layer(&format!("{path}.{part}"), &format!("{ldm}.{part}"), shape);
    }
    if i != o {
        let shortcut = format!("{path}.conv_shortcut");
        rows.layer(&shortcut, &format!("{ldm}.nin_shortcut"), &[o, i, 1, 1]);
    }
}

/// Parts of the attention: diffusers, LDM, diffusers before 0.18.
const ATTENTION: [(&str, &str, &str); 4] = [
    ("to_q", "q", "query"),
    ("to_k", "k", "key"),
    ("to_v", "v", "value"),
    ("to_out.0", "proj_out", "proj_attn"),
];

fn mid(rows: &mut Rows, half: &str, c: usize) {
    let (path, ldm) = (format!("{half}.mid_block"), format!("{half}.mid"));
    for j in 0..2 {
        let resnet = format!("{path}.resnets.{j}");
        resnet_rows(rows, &resnet, &format!("{ldm}.block_{}", j + 1), c, c);
    }
    let (path, ldm) = (format!("{path}.attentions.0"), format!("{ldm}.attn_1"));
    let at = rows.0.len();
    rows.layer(&format!("{path}.group_norm"), &format!("{ldm}.norm"), &[c]);
    for (part, theirs, _) in ATTENTION {
        let name = format!("{path}.{part}");
        rows.projection(&name, &format!("{ldm}.{theirs}"), [c, c], Fit::Linear);
    }
    for row in rows.0.iter_mut().skip(at) {
        let Some(tail) = row.name.strip_prefix(&format!("{path}.")) else {
            continue;
        };
        // Community files that carry diffusers' words inside LDM's frame, and old diffusers folders.
        let mut aliases = vec![format!("{ldm}.{tail}")];
        for (part, _, old) in ATTENTION {
            if let Some(end) = tail.strip_prefix(part) {
                aliases.push(format!("{path}.{old}{end}"));
            }
        }
        row.aliases = aliases;
    }
}

/// The configuration as far as keys and shapes tell it; `norm_groups` is given.
pub(crate) fn vae_config(
    shapes: &Shapes<'_>,
    naming: Naming,
    norm_groups: usize,
) -> Result<VaeConfig, NoConfig> {
    let (down, resnet) = match naming {
        Naming::Diffusers => ("encoder.down_blocks.", "resnets"),
        Naming::Ldm => ("encoder.down.", "block"),
    };
    let mut block_out_channels = Vec::new();
    for i in 0..shapes.count(down) {
        let keys = ["conv1.weight", "conv1.bias", "norm2.weight"]
            .map(|part| format!("{down}{i}.{resnet}.0.{part}"));
        block_out_channels.push(first_dim(shapes, &keys, 0)?);
    }
    let dim = |key: &str, axis| first_dim(shapes, &[key.to_string()], axis);
    Ok(VaeConfig {
        in_channels: dim("encoder.conv_in.weight", 1)?,
        out_channels: dim("decoder.conv_out.weight", 0)?,
        latent_channels: dim("decoder.conv_in.weight", 1)?,
        block_out_channels,
        layers_per_block: shapes.count(&format!("{down}0.{resnet}.")),
        norm_groups,
        scaling_factor: 0.18215,
    })
}
