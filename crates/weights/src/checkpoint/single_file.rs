//! One file that holds all components.

use super::tensors::Pool;
use crate::layout::Naming;
use crate::{Component, Error, Result, StFile};
use std::path::Path;
use std::sync::Arc;

/// Wrapper that some training tools put before every name.
const WRAPPER: &str = "state_dict.";

/// Prefixes of a text encoder in OpenCLIP's words, in LDM and in sgm files.
pub(super) const OPEN_CLIP: [&str; 2] =
    ["cond_stage_model.model.", "conditioner.embedders.0.model."];

/// Where a component may lie in a file.
struct Source {
    component: Component,
    prefix: &'static str,
    /// A component of this kind has a name that begins so, behind the prefix.
    marker: &'static str,
    naming: Naming,
}

const fn source(
    component: Component,
    prefix: &'static str,
    marker: &'static str,
    naming: Naming,
) -> Source {
    Source {
        component,
        prefix,
        marker,
        naming,
    }
}

/// The first that fits is taken, for each component; files of one bare component come last.
const SOURCES: &[Source] = &[
    source(Component::Unet, "model.diffusion_model.", "", Naming::Ldm),
    source(
        Component::TextEncoder,
        "cond_stage_model.transformer.",
        "",
        Naming::Ldm,
    ),
    source(Component::TextEncoder, OPEN_CLIP[0], "", Naming::Diffusers),
    source(Component::TextEncoder, OPEN_CLIP[1], "", Naming::Diffusers),
    source(Component::Vae, "first_stage_model.", "", Naming::Ldm),
    source(Component::Vae, "vae.", "", Naming::Ldm),
    source(Component::Unet, "", "input_blocks.", Naming::Ldm),
    source(Component::Unet, "", "down_blocks.", Naming::Diffusers),
    source(Component::TextEncoder, "", "text_model.", Naming::Diffusers),
    source(Component::Vae, "", "encoder.down.", Naming::Ldm),
    source(
        Component::Vae,
        "",
        "encoder.down_blocks.",
        Naming::Diffusers,
    ),
];

/// One component of the file.
pub(super) struct Part {
    pub(super) component: Component,
    pub(super) naming: Naming,
    pub(super) prefix: &'static str,
    pub(super) pool: Pool,
}

/// The file's tensors without wrapper.
///
/// Errors: `Duplicate` when the wrapper hides a second tensor of one name.
pub(super) fn pool(file: &Arc<StFile>) -> Result<Pool> {
    let mut pool = Pool::default();
    for key in file.names() {
        pool.add(file, key.strip_prefix(WRAPPER).unwrap_or(key), key)?;
    }
    Ok(pool)
}

/// Prefix of the UNet's names, empty when there is none.
pub(super) fn unet_prefix(pool: &Pool) -> &'static str {
    SOURCES
        .iter()
        .filter(|s| s.component == Component::Unet)
        .find(|s| has(pool, s))
        .map_or("", |s| s.prefix)
}

fn has(pool: &Pool, source: &Source) -> bool {
    let start = format!("{}{}", source.prefix, source.marker);
    pool.names().any(|name| name.starts_with(&start))
}

/// Takes the components out of `pool`; what stays belongs to none.
///
/// Errors: `NotACheckpoint` when there is none.
pub(super) fn parts(path: &Path, pool: &mut Pool) -> Result<Vec<Part>> {
    let mut parts: Vec<Part> = Vec::new();
    for source in SOURCES {
        let taken = parts.iter().any(|p| p.component == source.component);
        if taken || !has(pool, source) {
            continue;
        }
        parts.push(Part {
            component: source.component,
            naming: source.naming,
            prefix: source.prefix,
            pool: pool.split_prefix(source.prefix),
        });
    }
    if parts.is_empty() {
        return Err(Error::NotACheckpoint {
            path: path.into(),
            reason: "no tensor of a UNet, text encoder or VAE is in it".into(),
        });
    }
    Ok(parts)
}
