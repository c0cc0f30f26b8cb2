//! OpenCLIP's text encoder in the words of transformers' `CLIPTextModel`.

use super::Unused;
use super::tensors::Pool;

/// Blocks that Stable Diffusion 2 uses of ViT-H's 24, whose width is [`WIDTH`].
const USED: usize = 23;
const WIDTH: usize = 1024;

const BLOCKS: &str = "transformer.resblocks.";
const SKIPPED: &str =
    "last block of OpenCLIP; the UNet was trained with the states that the block before it gives";

/// Names outside of the blocks: OpenCLIP's, and transformers'.
const OUTER: &[(&str, &str)] = &[
    (
        "token_embedding.weight",
        "embeddings.token_embedding.weight",
    ),
    (
        "positional_embedding",
        "embeddings.position_embedding.weight",
    ),
    ("ln_final.weight", "final_layer_norm.weight"),
    ("ln_final.bias", "final_layer_norm.bias"),
];

/// Layers of a block.
const INNER: &[(&str, &str)] = &[
    ("ln_1", "layer_norm1"),
    ("ln_2", "layer_norm2"),
    ("mlp.c_fc", "mlp.fc1"),
    ("mlp.c_proj", "mlp.fc2"),
    ("attn.out_proj", "self_attn.out_proj"),
];

/// A text encoder's tensors under transformers' names, and those that are left out.
pub(super) struct TextEncoder {
    pub(super) pool: Pool,
    pub(super) skipped: Vec<Unused>,
}

/// Renames the tensors of `pool`, whose names stood behind `prefix`, and splits every `in_proj` [3C, C] by rows into query, key and
/// value. Of the blocks `layers` are used when a configuration says so, else 23 of a model of width 1024, else all but the last.
/// What has no name in transformers keeps its own.
pub(super) fn text_encoder(mut pool: Pool, prefix: &str, layers: Option<usize>) -> TextEncoder {
    let names: Vec<String> = pool.names().map(str::to_string).collect();
    let blocks = names.iter().filter_map(|n| Some(block(n)?.0 + 1)).max();
    let blocks = blocks.unwrap_or(0);
    let width = pool
        .get("ln_final.weight")
        .and_then(|t| t.shape.first().copied());
    let used = layers.unwrap_or(match width {
        Some(WIDTH) => USED,
        _ => blocks.saturating_sub(1),
    });
    let mut skipped = Vec::new();
    for name in names {
        if let Some((_, theirs)) = OUTER.iter().find(|(ours, _)| *ours == name) {
            pool.rename(&name, &format!("text_model.{theirs}"));
            continue;
        }
        let Some((index, part)) = block(&name) else {
            continue;
        };
        if index >= used {
            pool.remove(&name);
            skipped.push(Unused {
                name: format!("{prefix}{name}"),
                why: SKIPPED,
            });
            continue;
        }
        let layer = format!("text_model.encoder.layers.{index}");
        if let Some(kind) = part.strip_prefix("attn.in_proj_") {
            let thirds = ["q_proj", "k_proj", "v_proj"]
                .map(|third| format!("{layer}.self_attn.{third}.{kind}"));
            pool.split_rows(&name, &thirds);
            continue;
        }
        let renamed = INNER.iter().find_map(|(ours, theirs)| {
            let kind = part.strip_prefix(ours)?.strip_prefix('.')?;
            Some(format!("{layer}.{theirs}.{kind}"))
        });
        if let Some(renamed) = renamed {
            pool.rename(&name, &renamed);
        }
    }
    TextEncoder { pool, skipped }
}

/// Index of the block of a tensor, and the name within.
fn block(name: &str) -> Option<(usize, &str)> {
    let (index, part) = name.strip_prefix(BLOCKS)?.split_once('.')?;
    let index = index.parse().ok().filter(|&i: &usize| i < 1024)?;
    Some((index, part))
}
