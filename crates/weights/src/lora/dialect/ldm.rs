//! Paths of UNet modules in the LDM (CompVis, sgm) layout.

use std::collections::BTreeSet;

/// Modules outside the blocks: (canonical, LDM).
const OUTSIDE: &[(&str, &str)] = &[
    ("conv_in", "input_blocks.0.0"),
    ("conv_norm_out", "out.0"),
    ("conv_out", "out.2"),
    ("time_embedding.linear_1", "time_embed.0"),
    ("time_embedding.linear_2", "time_embed.2"),
    ("add_embedding.linear_1", "label_emb.0.0"),
    ("add_embedding.linear_2", "label_emb.0.2"),
];

/// Layers of a residual block: (canonical, LDM).
const RESNET: &[(&str, &str)] = &[
    ("norm1", "in_layers.0"),
    ("conv1", "in_layers.2"),
    ("time_emb_proj", "emb_layers.1"),
    ("norm2", "out_layers.0"),
    ("conv2", "out_layers.3"),
    ("conv_shortcut", "skip_connection"),
];

/// The LDM path of the UNet module `path`, where `all` holds every module path of that UNet (block lengths are read off it).
///
/// ```text
/// conv_in                     input_blocks.0.0
/// down_blocks.B.<layer>.J     input_blocks.(1 + B·(L+1) + J).{0: resnets, 1: attentions}
/// down_blocks.B.downsamplers  input_blocks.(1 + B·(L+1) + L).0.op
/// mid_block                   middle_block.{0, 1, 2}
/// up_blocks.B.<layer>.J       output_blocks.(B·(L+1) + J).{0, 1}
/// up_blocks.B.upsamplers      output_blocks.(B·(L+1) + L).{2 after an attention, else 1}.conv
/// ```
/// with `L` the number of residual blocks of a down block. `None` when the path has no place in that layout.
pub(crate) fn ldm_path(all: &BTreeSet<&str>, path: &str) -> Option<String> {
    if let Some((_, ldm)) = OUTSIDE.iter().find(|(canonical, _)| *canonical == path) {
        return Some((*ldm).to_string());
    }
    let layers = resnets(all, "down_blocks.0");
    let (head, rest) = path.split_once('.')?;
    match head {
        "mid_block" => {
            let (list, number, layer) = layer_of(rest)?;
            let place = match (list, number) {
                ("resnets", 0) => 0,
                ("attentions", 0) => 1,
                // Without an attention the second residual block moves up.
                ("resnets", 1) if contains(all, "mid_block.attentions.0.") => 2,
                ("resnets", 1) => 1,
                _ => return None,
            };
            Some(format!("middle_block.{place}.{}", inner(list, layer)?))
        }
        "down_blocks" => {
            let (block, rest) = rest.split_once('.')?;
            let (list, number, layer) = layer_of(rest)?;
            let start = 1 + block.parse::<usize>().ok()? * (layers + 1);
            match list {
                "resnets" => Some(format!(
                    "input_blocks.{}.0.{}",
                    start + number,
                    inner(list, layer)?
                )),
                "attentions" => Some(format!("input_blocks.{}.1.{layer}", start + number)),
                "downsamplers" if layer == "conv" => {
                    Some(format!("input_blocks.{}.0.op", start + layers))
                }
                _ => None,
            }
        }
        "up_blocks" => {
            let (block, rest) = rest.split_once('.')?;
            let (list, number, layer) = layer_of(rest)?;
            let start = block.parse::<usize>().ok()? * (layers + 1);
            match list {
                "resnets" => Some(format!(
                    "output_blocks.{}.0.{}",
                    start + number,
                    inner(list, layer)?
                )),
                "attentions" => Some(format!("output_blocks.{}.1.{layer}", start + number)),
                "upsamplers" if layer == "conv" => {
                    let attends = contains(all, &format!("up_blocks.{block}.attentions.0."));
                    let place = if attends { 2 } else { 1 };
                    Some(format!("output_blocks.{}.{place}.conv", start + layers))
                }
                _ => None,
            }
        }
        _ => None,
    }
}

fn layer_of(rest: &str) -> Option<(&str, usize, &str)> {
    let (list, rest) = rest.split_once('.')?;
    let (number, layer) = rest.split_once('.')?;
    Some((list, number.parse().ok()?, layer))
}

fn inner<'a>(list: &str, layer: &'a str) -> Option<&'a str> {
    match list {
        "resnets" => RESNET
            .iter()
            .find(|(canonical, _)| *canonical == layer)
            .map(|(_, ldm)| *ldm),
        _ => Some(layer),
    }
}

fn resnets(all: &BTreeSet<&str>, block: &str) -> usize {
    (0..)
        .take_while(|n| contains(all, &format!("{block}.resnets.{n}.")))
        .count()
}

fn contains(all: &BTreeSet<&str>, prefix: &str) -> bool {
    all.range(prefix..)
        .next()
        .is_some_and(|path| path.starts_with(prefix))
}
