//! What the packages say about themselves: the keys that existing apps read, and our own.

use crate::asset::hex;
use crate::built::Built;
use crate::describe::About;
use crate::family::{Attention, Precision};
use crate::parts::component;
use crate::recipe::{AdapterIo, Origin, Part, Recipe};
use crate::{Error, Result};
use gesso_weights::{Checkpoint, Component};
use std::collections::{BTreeMap, BTreeSet};

/// Version of Apple's converter whose conventions the packages follow.
const APPLE_VERSION: &str = "1.1.0";

/// The facts behind the metadata.
pub(crate) struct Facts<'a> {
    pub checkpoint: &'a Checkpoint,
    pub recipe: &'a Recipe,
    pub source_hash: &'a str,
}

impl Facts<'_> {
    /// Metadata of the package of `part`; with the row table when `built` has slots.
    pub(crate) fn about(&self, part: Part, built: &Built) -> Result<About> {
        let origin = origin(self.checkpoint, self.recipe);
        let mut keys = BTreeMap::new();
        let mut put = |key: &str, value: String| {
            keys.insert(key.to_string(), value);
        };
        put("gesso.version", env!("CARGO_PKG_VERSION").into());
        put("gesso.component", component(part).as_str().into());
        put("gesso.bits", self.recipe.bits.to_string());
        put(
            "gesso.precision",
            precision_word(self.recipe.precision).into(),
        );
        put("gesso.source_hash", self.source_hash.into());
        put("converter_version", env!("CARGO_PKG_VERSION").into());
        put("identifier", origin.name.clone());
        match part {
            Part::Unet => {
                put(
                    "com.github.apple.ml-stable-diffusion.version",
                    APPLE_VERSION.into(),
                );
                let (attention, unit) = match self.recipe.attention {
                    Attention::SplitEinsum => ("SPLIT_EINSUM", "CPU_AND_NE"),
                    Attention::Original => ("ORIGINAL", "CPU_AND_GPU"),
                };
                put("attention_implementation", attention.into());
                put("compute_unit", unit.into());
                let config = self.checkpoint.unet_config()?;
                put("hidden_size", config.cross_attention_dim.to_string());
                let scheduler = scheduler(self.checkpoint)?;
                for key in [
                    "prediction_type",
                    "timestep_spacing",
                    "steps_offset",
                    "set_alpha_to_one",
                ] {
                    match scheduler.get(key) {
                        Some(serde_json::Value::String(s)) => put(key, s.clone()),
                        Some(serde_json::Value::Null) | None => {}
                        Some(value) => put(key, value.to_string()),
                    }
                }
            }
            Part::VaeDecoder | Part::VaeEncoder => {
                put(
                    "scaling_factor",
                    self.checkpoint.vae_config()?.scaling_factor.to_string(),
                );
            }
            Part::TextEncoder => {
                put(
                    "hidden_size",
                    self.checkpoint.text_config()?.hidden.to_string(),
                );
            }
        }
        if let Some(table) = &built.slots {
            put("gesso.layout_hash", hex(&table.layout_hash()));
            put("gesso.adapter_rank", table.rank().to_string());
            put(
                "gesso.adapter_sites",
                self.recipe.adapter_sites.word().into(),
            );
            if self.recipe.adapter_io != AdapterIo::Input {
                put("gesso.adapter_io", self.recipe.adapter_io.word().into());
            }
            let rows = serde_json::to_string(table.rows()).map_err(|e| Error::Json {
                file: "gesso.rows".into(),
                reason: e.to_string(),
            })?;
            put("gesso.rows", rows);
        }
        let slots = if built.slots.is_some() {
            ", with adapter slots"
        } else {
            ""
        };
        Ok(About {
            short_description: format!("{}{slots}.", description(part)),
            version: origin.name.clone(),
            author: origin.author.clone(),
            license: origin.license.clone(),
            user_defined: keys,
        })
    }
}

fn description(part: Part) -> &'static str {
    match part {
        Part::TextEncoder => {
            "Stable Diffusion text encoder: turns the tokens of a prompt into states for the UNet"
        }
        Part::Unet => {
            "Stable Diffusion UNet: predicts the noise in a latent, given time and text states"
        }
        Part::VaeDecoder => "Stable Diffusion VAE decoder: turns a latent into a picture",
        Part::VaeEncoder => {
            "Stable Diffusion VAE encoder: turns a picture into the distribution of its latent"
        }
    }
}

pub(crate) fn precision_word(precision: Precision) -> &'static str {
    match precision {
        Precision::Fp16 => "fp16",
        Precision::Fp32 => "fp32",
    }
}

/// The scheduler's configuration.
pub(crate) fn scheduler(checkpoint: &Checkpoint) -> Result<serde_json::Value> {
    serde_json::from_str(checkpoint.scheduler_json()).map_err(|e| Error::Json {
        file: "scheduler_config.json".into(),
        reason: e.to_string(),
    })
}

/// Names for the metadata: those of the recipe, else those that the checkpoint's own metadata states.
pub(crate) fn origin(checkpoint: &Checkpoint, recipe: &Recipe) -> Origin {
    let or = |given: &str, stated: Option<&str>| {
        if given.is_empty() {
            stated.unwrap_or_default().to_string()
        } else {
            given.to_string()
        }
    };
    Origin {
        name: or(&recipe.origin.name, checkpoint.title()),
        author: or(&recipe.origin.author, checkpoint.author()),
        license: or(&recipe.origin.license, checkpoint.license()),
    }
}

/// SHA-256 of the source's tensors of the components that `parts` have, in hexadecimal digits.
pub(crate) fn source_hash(
    checkpoint: &Checkpoint,
    parts: impl IntoIterator<Item = Part>,
) -> String {
    let components: BTreeSet<Component> = parts.into_iter().map(component).collect();
    let components: Vec<Component> = components.into_iter().collect();
    hex(&checkpoint.source_hash(&components))
}
