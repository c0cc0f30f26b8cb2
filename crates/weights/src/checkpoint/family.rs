//! Which family a checkpoint belongs to, by its tensors.

use super::tensors::Pool;
use crate::{Error, Result};
use std::path::Path;

/// A model family that can be converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Family {
    /// Stable Diffusion 1.x and its fine-tunes.
    Sd1,
    /// Stable Diffusion 2.x and its fine-tunes.
    Sd2,
}

impl Family {
    /// Its name: `sd1`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sd1 => "sd1",
            Self::Sd2 => "sd2",
        }
    }
}

/// What tells families apart, taken from names and shapes.
#[derive(Clone, Debug, Default)]
pub(super) struct Signs {
    /// Names in the file or, of a folder, `<component>.<name>`.
    names: Vec<String>,
    /// Channels that the UNet takes and its first convolution makes.
    conv_in: Option<[usize; 2]>,
    /// Width of the text states.
    context: Option<usize>,
    /// Input width of the added embedding (`label_emb`, `add_embedding`).
    added: Option<usize>,
    /// The UNet's `proj_in` is stored as [C, C].
    linear: bool,
}

impl Signs {
    /// Signs of tensors; `unet` is the prefix of the UNet's names.
    pub(super) fn read(pool: &Pool, unet: &str) -> Self {
        let under_unet = |tails: &[&str]| -> Option<Vec<usize>> {
            let name = pool.names().find(|n| {
                n.strip_prefix(unet)
                    .is_some_and(|rest| tails.iter().any(|tail| rest.ends_with(tail)))
            })?;
            Some(pool.get(name)?.shape.to_vec())
        };
        let conv_in = ["input_blocks.0.0.weight", "conv_in.weight"]
            .iter()
            .find_map(|tail| pool.get(&format!("{unet}{tail}")))
            .and_then(|t| Some([*t.shape.get(1)?, *t.shape.first()?]));
        let added = under_unet(&["label_emb.0.0.weight", "add_embedding.linear_1.weight"]);
        Self {
            conv_in,
            context: under_unet(&[".attn2.to_k.weight"]).and_then(|s| s.get(1).copied()),
            added: added.and_then(|s| s.get(1).copied()),
            linear: under_unet(&[".proj_in.weight"]).is_some_and(|s| s.len() == 2),
            names: pool.names().map(str::to_string).collect(),
        }
    }

    /// Adds the names of a folder's own folders, each with a dot behind it.
    ///
    /// Errors: `Io`.
    pub(super) fn folders(&mut self, path: &Path) -> Result<()> {
        let entries = std::fs::read_dir(path).map_err(|e| Error::io("list", path, e))?;
        for entry in entries {
            let entry = entry.map_err(|e| Error::io("list", path, e))?;
            if entry.path().is_dir() {
                self.names
                    .push(format!("{}.", entry.file_name().to_string_lossy()));
            }
        }
        self.names.sort();
        Ok(())
    }

    fn has(&self, part: &str) -> Option<String> {
        let name = self.names.iter().find(|n| n.contains(part))?;
        Some(format!("it holds `{name}`"))
    }

    fn begins(&self, prefix: &str) -> Option<String> {
        let name = self.names.iter().find(|n| n.starts_with(prefix))?;
        Some(format!("it holds `{name}`"))
    }

    fn input_channels(&self, n: usize) -> Option<String> {
        let [found, _] = self.conv_in?;
        (found == n).then(|| format!("its UNet takes {n} channels"))
    }

    fn text_width(&self, n: usize) -> Option<String> {
        (self.context? == n).then(|| format!("its UNet takes text states of width {n}"))
    }

    fn added_width(&self) -> Option<String> {
        let width = self.added?;
        Some(format!("its added embedding takes {width} values"))
    }
}

/// One family: its name, the sign by which it is known, and what it is here.
struct Row {
    name: &'static str,
    sign: fn(&Signs) -> Option<String>,
    family: Option<Family>,
}

const fn refused(name: &'static str, sign: fn(&Signs) -> Option<String>) -> Row {
    Row {
        name,
        sign,
        family: None,
    }
}

/// First match wins.
const FAMILIES: &[Row] = &[
    refused("an adapter (LoRA), not a model", |s| {
        s.begins("lora_")
            .or_else(|| s.has(".lora_A."))
            .or_else(|| s.has(".lora.down."))
            .or_else(|| s.has(".lora_down."))
    }),
    refused("a scaled 8-bit file", |s| {
        s.has(".scale_weight")
            .or_else(|| s.has(".weight_scale"))
            .or_else(|| s.has("scaled_fp8"))
    }),
    refused("Flux", |s| s.has("double_blocks.0.")),
    refused("Stable Diffusion 3", |s| s.has("joint_blocks.0.")),
    refused("a diffusion transformer", |s| s.begins("transformer.")),
    refused("a video model", |s| {
        s.has("time_stack.")
            .or_else(|| s.has("temporal_transformer"))
            .or_else(|| s.has("motion_modules."))
    }),
    refused("Zero123", |s| s.begins("cc_projection.")),
    refused("a ControlNet", |s| {
        s.begins("control_model.")
            .or_else(|| s.has("controlnet_cond_embedding."))
            .or_else(|| s.begins("controlnet.").filter(|_| s.conv_in.is_none()))
    }),
    refused("a consistency model with guidance embedding (LCM)", |s| {
        s.has("time_embedding.cond_proj.")
            .or_else(|| s.has("time_embed_condition."))
    }),
    refused("Stable Diffusion 2 unCLIP", |s| {
        s.added_width()
            .filter(|_| matches!(s.added, Some(1536 | 2048)))
    }),
    refused("the Stable Diffusion XL refiner", |s| {
        let by_width = s.added == Some(2560) || s.conv_in.is_some_and(|c| c[1] == 384);
        let only_second = s.begins("text_encoder_2.").is_some()
            && s.begins("text_encoder.").is_none()
            || s.begins("conditioner.embedders.0.model.").is_some();
        s.added_width().filter(|_| by_width || only_second)
    }),
    refused("Stable Diffusion XL", Signs::added_width),
    refused("Stable Diffusion XL", |s| s.text_width(2048)),
    refused("an inpainting model", |s| s.input_channels(9)),
    refused("InstructPix2Pix", |s| s.input_channels(8)),
    refused("a depth-to-image model", |s| s.input_channels(5)),
    refused("an upscaler", |s| s.input_channels(7)),
    refused("a model with other inputs", |s| {
        s.input_channels(s.conv_in?[0])
            .filter(|_| s.conv_in.is_some_and(|c| c[0] != 4))
    }),
    Row {
        name: "Stable Diffusion 2",
        sign: |s| {
            let other = || match s.context {
                Some(768) => None,
                _ => s.begins("cond_stage_model.model."),
            };
            let linear = || {
                (s.linear && s.context? != 768)
                    .then(|| "its UNet projects by linear layers".to_string())
            };
            s.text_width(1024).or_else(other).or_else(linear)
        },
        family: Some(Family::Sd2),
    },
    Row {
        name: "Stable Diffusion 1",
        sign: |s| s.text_width(s.context?),
        family: Some(Family::Sd1),
    },
];

/// The family of these signs and the sign that tells it; `None` when no UNet is there.
///
/// Errors: `Family` for one that is recognised and not converted.
pub(super) fn family(path: &Path, signs: &Signs) -> Result<Option<(Family, String)>> {
    for row in FAMILIES {
        let Some(sign) = (row.sign)(signs) else {
            continue;
        };
        return match row.family {
            Some(family) => Ok(Some((family, sign))),
            None => Err(Error::Family {
                path: path.into(),
                family: row.name,
                reason: format!("{sign}; only Stable Diffusion 1.x and 2.x are converted"),
            }),
        };
    }
    Ok(None)
}
