//! kohya-ss/sd-scripts, LyCORIS and kohya's OFT: `<prefix>_<path with underscores>`.
//!
//! Dots in these spellings are written as underscores in files; the table compares the two as equal.
//! Source: kohya-ss/sd-scripts `networks/lora.py`, `networks/oft.py`; KohakuBlueleaf/LyCORIS `lycoris/wrapper.py`.

use super::{paths, prefixed};
use crate::Component;
use crate::lora::module::ModuleInfo;

const UNET: &[&str] = &["lora_unet_", "lycoris_", "lycoris_unet_", "oft_unet_"];
/// A file for a model with one encoder may also say `te1`.
const FIRST: &[&str] = &[
    "lora_te_",
    "lora_te1_",
    "lycoris_",
    "lycoris_te_",
    "lycoris_te1_",
    "oft_te_",
    "oft_te1_",
];
const SECOND: &[&str] = &["lora_te2_", "lycoris_", "lycoris_te2_", "oft_te2_"];

pub(super) fn spell(module: &ModuleInfo, ldm: Option<&str>) -> Vec<String> {
    let prefixes = match module.component {
        Component::Unet => UNET,
        Component::TextEncoder => FIRST,
        Component::TextEncoder2 => SECOND,
        _ => &[],
    };
    prefixed(prefixes, &paths(module, ldm))
}
