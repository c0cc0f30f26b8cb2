//! Dotted paths of the LDM layout or of diffusers behind `diffusion_model.`, and text encoders behind `clip_l.` and
//! `clip_g.` (ComfyUI, OneTrainer, SimpleTuner).
//!
//! Source: comfyanonymous/ComfyUI `comfy/lora.py`.

use super::{paths, prefixed};
use crate::Component;
use crate::lora::module::ModuleInfo;

const UNET: &[&str] = &["diffusion_model.", "model.diffusion_model."];
const FIRST: &[&str] = &[
    "clip_l.transformer.",
    "text_encoders.clip_l.transformer.",
    "clip_h.transformer.",
    "text_encoders.clip_h.transformer.",
];
const SECOND: &[&str] = &["clip_g.transformer.", "text_encoders.clip_g.transformer."];

pub(super) fn spell(module: &ModuleInfo, ldm: Option<&str>) -> Vec<String> {
    let prefixes = match module.component {
        Component::Unet => UNET,
        Component::TextEncoder => FIRST,
        Component::TextEncoder2 => SECOND,
        _ => &[],
    };
    prefixed(prefixes, &paths(module, ldm))
}
