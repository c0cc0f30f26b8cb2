//! Configuration files of Stable Diffusion 1.5, as diffusers writes them.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// What the full-size model has otherwise than the tiny one under `fixtures/goldens/models/sd1`.
fn differences() -> [(&'static str, Value); 5] {
    [
        (
            "unet/config.json",
            json!({
                "attention_head_dim": 8,
                "block_out_channels": [320, 640, 1280, 1280],
                "cross_attention_dim": 768,
                "norm_num_groups": 32,
                "sample_size": 64,
            }),
        ),
        (
            "text_encoder/config.json",
            json!({
                "hidden_size": 768,
                "intermediate_size": 3072,
                "num_attention_heads": 12,
                "num_hidden_layers": 12,
                "projection_dim": 768,
                "vocab_size": 49408,
            }),
        ),
        (
            "vae/config.json",
            json!({
                "block_out_channels": [128, 256, 512, 512],
                "norm_num_groups": 32,
                "sample_size": 512,
            }),
        ),
        ("scheduler/scheduler_config.json", json!({})),
        (
            "model_index.json",
            json!({ "tokenizer": ["transformers", "CLIPTokenizer"] }),
        ),
    ]
}

/// Every text file of the folder: name and content.
pub(super) fn sd15(root: &Path) -> Result<Vec<(&'static str, String)>> {
    let read = |relative: &str| {
        let path = root.join("fixtures/goldens").join(relative);
        fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))
    };
    let mut files = Vec::new();
    for (name, changes) in differences() {
        let mut config: Value = serde_json::from_str(&read(&format!("models/sd1/{name}"))?)?;
        for (key, value) in changes.as_object().into_iter().flatten() {
            config[key] = value.clone();
        }
        files.push((name, serde_json::to_string_pretty(&config)? + "\n"));
    }
    files.push(("tokenizer/vocab.json", read("tokenizer/vocab.json")?));
    files.push(("tokenizer/merges.txt", read("tokenizer/merges.txt")?));
    Ok(files)
}
