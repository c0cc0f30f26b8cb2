//! One asset from the weighted sum of several LoRAs.

use super::factors::Term;
use super::{AdapterOptions, AdapterReport, Author, write};
use crate::emit::Progress;
use crate::folder::FolderInfo;
use crate::hint::SchedulerHint;
use crate::merged::Baked;
use crate::{Error, Result};
use gesso_weights::Component;
use std::path::Path;

/// Key of the metadata that says what was merged.
const MERGED: &str = "gesso.merged";

/// Writes the adapter asset `file` whose difference is Σ strength · ΔW over `loras`, each at its strengths.
///
/// Where all differences of a module have exact factors, these are put side by side along the rank, which loses nothing as long
/// as the sum of the ranks fits; a larger sum is cut by singular values as in [`super::write_adapter`]. Where one has none, the
/// whole sum is approximated at once. The default strength of the result is that of `options`; 1 gives the sum as it was asked
/// for. The metadata of the asset names the LoRAs and strengths under `gesso.merged` and nothing else; author and licence stay
/// where all LoRAs agree.
///
/// Errors: [`Error::Recipe`] without any LoRA; those of [`super::write_adapter`].
pub fn write_merged(
    loras: &[Baked],
    base: &FolderInfo,
    options: &AdapterOptions<'_>,
    file: &Path,
    progress: &mut dyn Progress,
) -> Result<AdapterReport> {
    if loras.is_empty() {
        return Err(Error::Recipe {
            option: "the list of LoRAs to merge".into(),
            expected: "at least one".into(),
            found: "empty".into(),
        });
    }
    let terms: Vec<Term<'_>> = loras
        .iter()
        .map(|baked| Term {
            lora: &baked.lora,
            unet: baked.strength(Component::Unet),
            text_encoder: baked.strength(Component::TextEncoder),
        })
        .collect();
    write(
        &terms,
        author(loras, options),
        base,
        options,
        file,
        progress,
    )
}

fn author(loras: &[Baked], options: &AdapterOptions<'_>) -> Author {
    let names: Vec<&str> = loras.iter().map(|b| b.lora.name()).collect();
    let mut trigger_words: Vec<String> = Vec::new();
    for word in loras.iter().flat_map(|b| &b.lora.release.trigger_words) {
        if !trigger_words.contains(word) {
            trigger_words.push(word.clone());
        }
    }
    let merged: Vec<serde_json::Value> = loras
        .iter()
        .map(|b| {
            serde_json::json!({
                "name": b.lora.name(),
                "unet": shortest(b.unet_strength),
                "text_encoder": shortest(b.text_encoder_strength),
            })
        })
        .collect();
    let of = |b: &Baked| SchedulerHint::of(&b.lora.release).filter(|_| b.unet_strength != 0.0);
    Author {
        scheduler_hint: loras.iter().find_map(of),
        name: options.name.clone().unwrap_or_else(|| names.join(" + ")),
        trigger_words,
        author: agreed(loras.iter().map(|b| b.lora.release.author.as_ref())),
        license: agreed(loras.iter().map(|b| b.lora.release.licence.as_ref())),
        metadata: [(
            MERGED.to_string(),
            serde_json::Value::from(merged).to_string(),
        )]
        .into(),
    }
}

/// The number with the digits that `x` is written with, 0.4 and not 0.4000000059604645.
fn shortest(x: f32) -> f64 {
    x.to_string().parse().unwrap_or_else(|_| f64::from(x))
}

/// What all of them say; `None` when they differ or one says nothing.
pub(crate) fn agreed<'a>(mut said: impl Iterator<Item = Option<&'a String>>) -> Option<String> {
    let first = said.next()??;
    said.all(|other| other == Some(first))
        .then(|| first.clone())
}
