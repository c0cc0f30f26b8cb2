//! Module paths as diffusers and transformers write them.

/// Names that hold underscores themselves, longest first where one begins with another.
const WORDS: &[&str] = &[
    "down_blocks",
    "up_blocks",
    "mid_block",
    "transformer_blocks",
    "time_embedding",
    "add_embedding",
    "linear_1",
    "linear_2",
    "conv_in",
    "conv_out",
    "conv_norm_out",
    "conv_shortcut",
    "time_emb_proj",
    "proj_in",
    "proj_out",
    "to_q",
    "to_k",
    "to_v",
    "to_out",
    "text_model",
    "text_encoder",
    "self_attn",
    "q_proj",
    "k_proj",
    "v_proj",
    "out_proj",
    "layer_norm1",
    "layer_norm2",
    "final_layer_norm",
    "token_embedding",
    "position_embedding",
    "group_norm",
    "post_quant_conv",
    "quant_conv",
    "text_projection",
];

/// Names without underscores.
const PLAIN: &[&str] = &[
    "resnets",
    "attentions",
    "downsamplers",
    "upsamplers",
    "conv",
    "conv1",
    "conv2",
    "norm",
    "norm1",
    "norm2",
    "norm3",
    "proj",
    "attn1",
    "attn2",
    "ff",
    "net",
    "encoder",
    "decoder",
    "layers",
    "mlp",
    "fc1",
    "fc2",
    "embeddings",
    "unet",
    "query",
    "key",
    "value",
];

/// `down_blocks_0_resnets_0_conv1` as `down_blocks.0.resnets.0.conv1`; a name with anything unknown in it stays as it is.
pub(super) fn dotted(name: &str) -> String {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let word = WORDS.iter().find(|w| {
            rest.strip_prefix(**w)
                .is_some_and(|after| after.is_empty() || after.starts_with('_'))
        });
        let first = rest.split('_').next().unwrap_or(rest);
        let part = match word {
            Some(word) => *word,
            None if PLAIN.contains(&first) || first.parse::<u32>().is_ok() => first,
            None => return name.into(),
        };
        parts.push(part);
        rest = rest[part.len()..].strip_prefix('_').unwrap_or_default();
    }
    parts.join(".")
}

#[cfg(test)]
mod tests {
    use super::dotted;

    #[test]
    fn paths_get_their_dots() {
        for path in [
            "down_blocks.0.resnets.1.conv_shortcut",
            "mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0",
            "up_blocks.3.attentions.0.transformer_blocks.0.ff.net.0.proj",
            "time_embedding.linear_1",
            "down_blocks.0.resnets.0.time_emb_proj",
            "text_encoder.text_model.encoder.layers.3.self_attn.out_proj",
            "text_model.final_layer_norm",
            "decoder.mid_block.attentions.0.group_norm",
            "conv_norm_out",
        ] {
            assert_eq!(dotted(&path.replace('.', "_")), path);
        }
        assert_eq!(dotted("input_25"), "input_25");
        assert_eq!(dotted(""), "");
    }
}
