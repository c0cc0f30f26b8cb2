//! The programs of a recipe.

use crate::built::Built;
use crate::family::sd1::{
    TextOptions, UnetOptions, VaeOptions, text_encoder, unet, vae_decoder, vae_encoder,
};
use crate::recipe::{AdapterIo, Part, Recipe};
use crate::slots::SlotOptions;
use crate::states::as_states;
use crate::target::as_ios18;
use crate::{Error, Result};
use gesso_weights::{Checkpoint, Component};
use std::collections::BTreeMap;

/// Length of a text in tokens.
const TOKENS: usize = 77;
/// Conditional and unconditional row in one call.
const BATCH: usize = 2;

/// The programs, and the size of their pictures.
pub(crate) struct Parts {
    /// Plain programs.
    pub plain: BTreeMap<Part, Built>,
    /// The same with slots.
    pub adaptable: BTreeMap<Part, Built>,
    /// Width of the pictures in pixels.
    pub width: usize,
    /// Height of the pictures in pixels.
    pub height: usize,
}

/// Builds the programs that `recipe` asks for.
///
/// Errors: [`Error::Missing`] for a component that the checkpoint does not have; those of the builders.
pub(crate) fn build(checkpoint: &Checkpoint, recipe: &Recipe) -> Result<Parts> {
    for &part in &recipe.parts {
        let component = component(part);
        if checkpoint.component(component).is_none() {
            return Err(Error::Missing {
                missing: format!("component `{component}`"),
                wanted_by: format!("`{}`", part.package()),
            });
        }
    }
    let factor = pixels_per_latent(checkpoint)?;
    let (width, height) = match recipe.size {
        Some(size) => size,
        None => {
            let side = checkpoint.unet_config()?.sample_size * factor;
            (side, side)
        }
    };
    if width % factor != 0 || height % factor != 0 {
        return Err(Error::Recipe {
            option: "`--size`".into(),
            expected: format!("two multiples of {factor}"),
            found: format!("{width}x{height}"),
        });
    }
    let builder = Builder {
        checkpoint,
        recipe,
        width: width / factor,
        height: height / factor,
    };
    let mut parts = Parts {
        plain: BTreeMap::new(),
        adaptable: BTreeMap::new(),
        width,
        height,
    };
    for &part in &recipe.parts {
        parts.plain.insert(part, builder.targeted(part, None)?);
        if part.is_adaptable()
            && let Some(slots) = recipe.slots()
        {
            let mut twin = builder.targeted(part, Some(slots))?;
            if recipe.adapter_io == AdapterIo::State {
                twin = as_states(twin)?;
            }
            parts.adaptable.insert(part, twin);
        }
    }
    Ok(parts)
}

/// The component whose weights a part has.
pub(crate) fn component(part: Part) -> Component {
    match part {
        Part::TextEncoder => Component::TextEncoder,
        Part::Unet => Component::Unet,
        Part::VaeDecoder | Part::VaeEncoder => Component::Vae,
    }
}

/// Pixels per latent along one side: 2 per down block of the VAE after the first, 8 without a VAE.
fn pixels_per_latent(checkpoint: &Checkpoint) -> Result<usize> {
    if checkpoint.component(Component::Vae).is_none() {
        return Ok(8);
    }
    let config = checkpoint.vae_config()?;
    let halvings = config.block_out_channels.len().saturating_sub(1);
    u32::try_from(halvings)
        .ok()
        .and_then(|n| 1usize.checked_shl(n))
        .ok_or_else(|| Error::Config {
            component: "vae".into(),
            field: "block_out_channels".into(),
            expected: "a few blocks".into(),
            found: format!("{halvings} halvings"),
        })
}

struct Builder<'a> {
    checkpoint: &'a Checkpoint,
    recipe: &'a Recipe,
    width: usize,
    height: usize,
}

impl Builder<'_> {
    fn targeted(&self, part: Part, slots: Option<SlotOptions>) -> Result<Built> {
        let mut built = self.build(part, slots)?;
        if part.is_adaptable() && !self.recipe.functions.is_empty() {
            as_ios18(&mut built)?;
        }
        Ok(built)
    }

    fn build(&self, part: Part, slots: Option<SlotOptions>) -> Result<Built> {
        let (checkpoint, precision) = (self.checkpoint, self.recipe.precision);
        let vae = VaeOptions {
            height: self.height,
            width: self.width,
            precision,
        };
        match part {
            Part::TextEncoder => text_encoder(
                checkpoint.text_config()?,
                &TextOptions {
                    tokens: TOKENS,
                    precision,
                    slots,
                },
            ),
            Part::Unet => unet(
                checkpoint.unet_config()?,
                &UnetOptions {
                    batch: BATCH,
                    height: self.height,
                    width: self.width,
                    tokens: TOKENS,
                    precision,
                    attention: self.recipe.attention,
                    slots,
                    controlnet_residuals: false,
                },
            ),
            Part::VaeDecoder => vae_decoder(checkpoint.vae_config()?, &vae),
            Part::VaeEncoder => vae_encoder(checkpoint.vae_config()?, &vae),
        }
    }
}
