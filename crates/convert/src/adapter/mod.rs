//! Adapter assets from LoRAs: factors per slot, the package that hands them out, the archive around it.

mod factors;
mod program;
mod stack;

pub(crate) use factors::ignored;
pub use factors::{AdapterReport, TruncatedModule};
pub use stack::{Factors, SlotTensor, stack};

use crate::asset::{self, ComponentInfo, Manifest};
use crate::describe::About;
use crate::emit::{Progress, emit, weight_bytes};
use crate::folder::FolderInfo;
use crate::place::Bits;
use crate::{Error, Result};
use factors::ComponentFactors;
use gesso_coreml::stage::{Overwrite, Staging, require_space};
use gesso_weights::lora::ResolvedLora;
use std::collections::BTreeMap;
use std::path::Path;

/// Slots come in multiples of this rank: a matmul with another inner size is reported to give zeros on the neural engine.
pub const RANK_STEP: usize = 32;

/// How an adapter asset is made.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterOptions {
    /// Name of the adapter; `None` is the LoRA's own.
    pub name: Option<String>,
    /// Strength that an app starts with.
    pub default_strength: f32,
    /// Refuse a rank above the base's instead of cutting it.
    pub exact: bool,
}

impl Default for AdapterOptions {
    fn default() -> Self {
        Self {
            name: None,
            default_strength: 1.0,
            exact: false,
        }
    }
}

/// Writes the adapter asset `file` from `lora` for the converted folder that `base` describes.
///
/// Every module of the LoRA must have a slot. alpha / rank is folded into the factors; column i of `up` and row i of `down` are
/// balanced by a power of two, which changes no digit, so that both lie in the middle of fp16's range. A module whose rank is
/// above the slots' is cut by singular values, with the lost energy in the report.
///
/// Errors: [`Error::NoAdaptable`], [`Error::NoSlot`], [`Error::Rank`] when `exact`, those of writing.
pub fn write_adapter(
    lora: &ResolvedLora,
    base: &FolderInfo,
    options: &AdapterOptions,
    file: &Path,
    progress: &mut dyn Progress,
) -> Result<AdapterReport> {
    if !options.default_strength.is_finite() {
        return Err(Error::Recipe {
            option: "the default strength".into(),
            expected: "a number".into(),
            found: options.default_strength.to_string(),
        });
    }
    let name = options
        .name
        .clone()
        .unwrap_or_else(|| lora.name().to_string());
    let slots = base.slot_tables()?;
    let (components, report) = factors::compute(lora, &name, base, &slots, options.exact)?;
    let packages = components
        .iter()
        .map(|(component, factors)| Ok((component.clone(), program::build(factors)?)))
        .collect::<Result<BTreeMap<_, _>>>()?;
    let bytes = packages
        .values()
        .map(|built| weight_bytes(built, &Bits::new()))
        .sum::<Result<u64>>()?;
    // The packages exist twice for a moment: as folders and in the archive.
    require_space(file, 2 * bytes + (1 << 20))?;
    progress.begin(&name, bytes);

    let mut scratch = file.as_os_str().to_owned();
    scratch.push(".parts");
    let scratch = Staging::new(Path::new(&scratch), Overwrite::Force)?;
    std::fs::create_dir_all(scratch.path()).map_err(|e| Error::io(scratch.path(), e))?;
    for (component, built) in &packages {
        let dir = scratch.path().join(asset::package_name(component));
        let about = About {
            short_description: format!("Adapter `{name}` for the {component} of a base with slots"),
            version: name.clone(),
            author: lora.release.author.clone().unwrap_or_default(),
            license: lora.release.licence.clone().unwrap_or_default(),
            user_defined: BTreeMap::from([(
                "gesso.version".to_string(),
                env!("CARGO_PKG_VERSION").to_string(),
            )]),
        };
        emit(
            built,
            &built.generated,
            &Bits::new(),
            &about,
            &dir,
            progress,
        )?;
    }
    let manifest = manifest(lora, &name, options, &components, &slots);
    asset::write(file, scratch.path(), manifest)?;
    Ok(report)
}

fn manifest(
    lora: &ResolvedLora,
    name: &str,
    options: &AdapterOptions,
    components: &BTreeMap<String, ComponentFactors>,
    slots: &BTreeMap<String, crate::slots::SlotTable>,
) -> Manifest {
    let infos = components
        .iter()
        .filter_map(|(component, factors)| {
            let table = slots.get(component)?;
            Some((
                component.clone(),
                ComponentInfo {
                    package: asset::package_name(component),
                    layout_hash: asset::hex(&table.layout_hash()),
                    rank: factors.rank,
                },
            ))
        })
        .collect();
    Manifest {
        schema: asset::SCHEMA,
        min_reader: asset::MIN_READER,
        kind: asset::KIND.into(),
        name: name.into(),
        rank: components.values().map(|c| c.rank).max().unwrap_or(0),
        default_strength: options.default_strength,
        trigger_words: lora.release.trigger_words.clone(),
        author: lora.release.author.clone(),
        license: lora.release.licence.clone(),
        metadata: lora.release.metadata.clone(),
        ignored: ignored(lora),
        components: infos,
        rows: components.values().flat_map(|c| c.rows.clone()).collect(),
        members: BTreeMap::new(),
        signature: None,
    }
}
