//! The model family that an adapter was made for, and that of a target.

use super::module::{ModuleTable, folded};
use super::part::{Key, Part};
use crate::Component;
use crate::StFile;
use std::fmt;

/// A family of Stable Diffusion models, told apart by the width of the text states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Stable Diffusion 1.x.
    Sd1,
    /// Stable Diffusion 2.x.
    Sd2,
    /// SDXL base.
    Sdxl,
    /// SDXL refiner.
    SdxlRefiner,
}

/// (width of the text states, family).
const WIDTHS: &[(usize, Family)] = &[
    (768, Family::Sd1),
    (1024, Family::Sd2),
    (2048, Family::Sdxl),
    (1280, Family::SdxlRefiner),
];

impl Family {
    fn of_width(width: usize) -> Option<Self> {
        WIDTHS
            .iter()
            .find(|(w, _)| *w == width)
            .map(|(_, family)| *family)
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sd1 => "SD1 (768)",
            Self::Sd2 => "SD2 (1024)",
            Self::Sdxl => "SDXL base (2048)",
            Self::SdxlRefiner => "SDXL refiner (1280)",
        })
    }
}

/// A family and the tensor that shows it.
pub(crate) struct Evidence {
    pub(crate) family: Family,
    pub(crate) key: String,
    pub(crate) shape: Vec<usize>,
}

/// The family that the adapter in `store` was made for, where its tensors tell.
pub(crate) fn of_adapter(store: &StFile) -> Option<Evidence> {
    let tensors = || {
        store.names().filter_map(|name| {
            let key = Key::parse(name)?;
            matches!(key.part, Part::Down | Part::HadaW1B | Part::GloraA2).then(|| {
                (
                    name,
                    folded(key.module),
                    store.get(name).map(|t| t.shape).unwrap_or_default(),
                )
            })
        })
    };
    let evidence = |family, key: &str, shape: &[usize]| Evidence {
        family,
        key: key.to_string(),
        shape: shape.to_vec(),
    };
    let by_cross_attention = tensors().find_map(|(key, module, shape)| {
        let is_cross = module.ends_with("attn2_to_k") || module.ends_with("attn2_processor_to_k");
        let family = Family::of_width(*shape.get(1)?)?;
        is_cross.then(|| evidence(family, key, shape))
    });
    let by_depth = || {
        tensors().find_map(|(key, module, shape)| {
            module
                .contains("_transformer_blocks_9_")
                .then(|| evidence(Family::Sdxl, key, shape))
        })
    };
    let by_text = || {
        tensors().find_map(|(key, module, shape)| {
            let is_second =
                module.starts_with("lora_te2_") || module.starts_with("text_encoder_2_");
            let is_text = module.ends_with("self_attn_q_proj");
            match shape.get(1)? {
                1280 if is_second => Some(evidence(Family::Sdxl, key, shape)),
                1024 if is_text => Some(evidence(Family::Sd2, key, shape)),
                _ => None,
            }
        })
    };
    by_cross_attention.or_else(by_depth).or_else(by_text)
}

/// The family of a target model.
pub(crate) fn of_target(table: &ModuleTable) -> Option<Family> {
    let unet = table
        .modules()
        .iter()
        .find(|m| m.component == Component::Unet && m.path.ends_with("attn2.to_k"));
    let text = || {
        table.module(
            Component::TextEncoder,
            "text_model.encoder.layers.0.self_attn.q_proj",
        )
    };
    let width = *unet.or_else(text)?.weight_shape.get(1)?;
    Family::of_width(width)
}
