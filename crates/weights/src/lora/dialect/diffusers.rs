//! Hugging Face diffusers: `<component>.<path>`, the attention processors of early 2023, and the oldest text encoder names.
//!
//! Source: huggingface/diffusers `loaders/lora_conversion_utils.py`, `utils/state_dict_utils.py`.

use super::prefixed;
use crate::Component;
use crate::lora::module::ModuleInfo;

/// Attention layers of a UNet as `LoRAAttnProcessor` named them: (end of the canonical path, end of the old one).
const PROCESSORS: &[(&str, &str)] = &[
    (".to_q", ".processor.to_q"),
    (".to_k", ".processor.to_k"),
    (".to_v", ".processor.to_v"),
    (".to_out.0", ".processor.to_out"),
];

/// Attention layers of CLIP under the names of the UNet's.
const TEXT_ATTENTION: &[(&str, &str)] = &[
    (".self_attn.q_proj", ".self_attn.to_q"),
    (".self_attn.k_proj", ".self_attn.to_k"),
    (".self_attn.v_proj", ".self_attn.to_v"),
    (".self_attn.out_proj", ".self_attn.to_out"),
];

pub(super) fn spell(module: &ModuleInfo, ldm: Option<&str>) -> Vec<String> {
    let path = module.path.as_str();
    match module.component {
        Component::Unet => {
            let old = renamed(path, PROCESSORS);
            // The `unet.` prefix came later; files without it are in use.
            let mut names = prefixed(
                &["unet.", ""],
                &[Some(path), old.as_deref()].map(|p| p.unwrap_or(path)),
            );
            names.extend(ldm.map(|l| format!("unet.{l}")));
            names
        }
        Component::TextEncoder => text("text_encoder.", path),
        Component::TextEncoder2 => text("text_encoder_2.", path),
        _ => Vec::new(),
    }
}

fn text(prefix: &str, path: &str) -> Vec<String> {
    let old = renamed(path, TEXT_ATTENTION);
    // Newer transformers dropped the `text_model` level.
    let short = path.strip_prefix("text_model.");
    [Some(path), old.as_deref(), short]
        .into_iter()
        .flatten()
        .map(|p| format!("{prefix}{p}"))
        .collect()
}

fn renamed(path: &str, ends: &[(&str, &str)]) -> Option<String> {
    ends.iter()
        .find_map(|(new, old)| path.strip_suffix(new).map(|stem| format!("{stem}{old}")))
}
