//! The CLIP text encoder.

use super::{NoConfig, Row, Rows, Shapes, first_dim};
use crate::{TextActivation, TextConfig};

/// What very old or repacked files leave out.
const FRAME: &str = "text_model.";

/// Every tensor of a text encoder with this configuration. The names are the same in both namings.
pub(crate) fn text_rows(config: &TextConfig) -> Vec<Row> {
    let mut rows = Rows::default();
    let (d, ff) = (config.hidden, config.intermediate);
    let mut same = |name: String, shape: &[usize]| rows.layer(&name, &name, shape);
    for i in 0..config.layers {
        let layer = format!("{FRAME}encoder.layers.{i}");
        for part in ["q_proj", "k_proj", "v_proj", "out_proj"] {
            same(format!("{layer}.self_attn.{part}"), &[d, d]);
        }
        same(format!("{layer}.layer_norm1"), &[d]);
        same(format!("{layer}.layer_norm2"), &[d]);
        same(format!("{layer}.mlp.fc1"), &[ff, d]);
        same(format!("{layer}.mlp.fc2"), &[d, ff]);
    }
    same(format!("{FRAME}final_layer_norm"), &[d]);
    for (part, n) in [
        ("token_embedding", config.vocab_size),
        ("position_embedding", config.max_positions),
    ] {
        let name = format!("{FRAME}embeddings.{part}");
        rows.weight(&name, &name, &[n, d]);
    }
    for row in &mut rows.0 {
        row.aliases
            .extend(row.name.strip_prefix(FRAME).map(str::to_string));
    }
    rows.0
}

/// The configuration as far as keys and shapes tell it; `heads` are given. The vocabulary ends with the begin- and the
/// end-of-text token.
pub(crate) fn text_config(
    shapes: &Shapes<'_>,
    heads: Option<usize>,
    activation: TextActivation,
) -> Result<TextConfig, NoConfig> {
    let frame = if shapes.has(FRAME) { FRAME } else { "" };
    let dim = |part: &str, axis| first_dim(shapes, &[format!("{frame}{part}.weight")], axis);
    let vocab_size = dim("embeddings.token_embedding", 0)?;
    let hidden = dim("embeddings.token_embedding", 1)?;
    let id = |back: usize| u32::try_from(vocab_size.saturating_sub(back)).unwrap_or(0);
    Ok(TextConfig {
        vocab_size,
        hidden,
        intermediate: dim("encoder.layers.0.mlp.fc1", 0)?,
        layers: shapes.count(&format!("{frame}encoder.layers.")),
        // Every CLIP text encoder that was published has heads of width 64.
        heads: heads.unwrap_or((hidden / 64).max(1)),
        max_positions: dim("embeddings.position_embedding", 0)?,
        activation,
        eps: 1e-5,
        bos: id(2),
        eos: id(1),
        eos_config_id: 2,
    })
}
