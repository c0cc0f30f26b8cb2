//! A PEFT folder: `base_model.model.<path>`, for one component that the folder's configuration names.
//!
//! Source: huggingface/peft `utils/save_and_load.py`.

use super::prefixed;
use crate::Component;
use crate::lora::module::ModuleInfo;

pub(super) fn spell(module: &ModuleInfo, _ldm: Option<&str>) -> Vec<String> {
    let path = module.path.as_str();
    match module.component {
        Component::Vae => Vec::new(),
        _ => {
            let short = path.strip_prefix("text_model.").unwrap_or(path);
            prefixed(&["base_model.model."], &[path, short])
        }
    }
}
