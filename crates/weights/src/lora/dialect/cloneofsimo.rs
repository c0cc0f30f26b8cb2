//! The index format of cloneofsimo/lora: `<component>:<ordinal>:<up|down>`.
//!
//! The ordinal counts the Linear children of the target classes in the module order of the diffusers of early 2023: down
//! blocks, up blocks, mid block last; inside a transformer block attn1, the projection of the feed-forward, attn2.
//! Source: cloneofsimo/lora `lora_diffusion/lora.py`.

use crate::Component;
use crate::lora::module::{ModuleInfo, ModuleTable};

/// Classes of the extended set, which number the modules differently.
pub(crate) const EXTENDED_CLASSES: &[&str] = &["ResnetBlock2D"];

const BLOCK: &[&str] = &[
    "attn1.to_q",
    "attn1.to_k",
    "attn1.to_v",
    "attn1.to_out.0",
    "ff.net.0.proj",
    "attn2.to_q",
    "attn2.to_k",
    "attn2.to_v",
    "attn2.to_out.0",
];
const TEXT_LAYER: &[&str] = &["k_proj", "v_proj", "q_proj", "out_proj"];

/// The modules of `component` in the order of that format.
pub(crate) fn ordinal(table: &ModuleTable, component: Component) -> Vec<&ModuleInfo> {
    let mut modules = Vec::new();
    let mut take = |path: String| -> bool {
        let module = table.module(component, &path);
        modules.extend(module);
        module.is_some()
    };
    match component {
        Component::Unet => {
            for list in ["down_blocks", "up_blocks"] {
                for block in 0..MAX_BLOCKS {
                    for attention in 0..MAX_BLOCKS {
                        transformer(&mut take, &format!("{list}.{block}.attentions.{attention}"));
                    }
                }
            }
            transformer(&mut take, "mid_block.attentions.0");
        }
        Component::TextEncoder => {
            for layer in 0.. {
                let found = TEXT_LAYER
                    .iter()
                    .filter(|name| {
                        take(format!(
                            "text_model.encoder.layers.{layer}.self_attn.{name}"
                        ))
                    })
                    .count();
                if found == 0 {
                    break;
                }
            }
        }
        _ => {}
    }
    modules
}

/// More blocks, and attentions per block, than any UNet has.
const MAX_BLOCKS: usize = 8;

fn transformer(take: &mut impl FnMut(String) -> bool, attention: &str) {
    for block in 0.. {
        let found = BLOCK
            .iter()
            .filter(|name| take(format!("{attention}.transformer_blocks.{block}.{name}")))
            .count();
        if found == 0 {
            break;
        }
    }
}
