//! The built-in model: our own small trained Stable Diffusion ("shapes") and its three LoRAs.

use anyhow::Context;
use std::path::Path;

macro_rules! shapes {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_bytes!(concat!("../../../fixtures/shapes/", $path)).as_slice())),*]
    };
}

/// (path under `fixtures/shapes/`, bytes).
const FILES: &[(&str, &[u8])] = shapes![
    "base/model_index.json",
    "base/scheduler/scheduler_config.json",
    "base/text_encoder/config.json",
    "base/text_encoder/model.safetensors",
    "base/tokenizer/merges.txt",
    "base/tokenizer/special_tokens_map.json",
    "base/tokenizer/tokenizer_config.json",
    "base/tokenizer/vocab.json",
    "base/unet/config.json",
    "base/unet/diffusion_pytorch_model.safetensors",
    "base/vae/config.json",
    "base/vae/diffusion_pytorch_model.safetensors",
    "lora/pixel.safetensors",
    "lora/sketch.safetensors",
    "lora/watercolor.safetensors",
];

/// Names of the styles, in the order of the demo's columns.
pub(crate) const STYLES: [&str; 3] = ["sketch", "pixel", "watercolor"];

/// Writes the model to `folder/base` (a diffusers folder) and the LoRAs to `folder/lora`.
pub(crate) fn write(folder: &Path) -> anyhow::Result<()> {
    for (path, bytes) in FILES {
        let target = folder.join(path);
        let parent = target
            .parent()
            .context("every built-in file lies in a folder")?;
        std::fs::create_dir_all(parent)
            .with_context(|| format!("cannot create `{}`", parent.display()))?;
        std::fs::write(&target, bytes)
            .with_context(|| format!("cannot write `{}`", target.display()))?;
    }
    Ok(())
}
