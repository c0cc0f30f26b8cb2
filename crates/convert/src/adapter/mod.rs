//! Adapter assets from LoRAs: factors per slot, the package that hands them out, the archive around it.

mod difference;
mod factors;
mod measure;
mod merge;
mod program;
mod refused;
mod stack;
mod weights;

pub(crate) use factors::ignored;
pub use factors::{AdapterReport, TruncatedModule};
pub(crate) use merge::agreed;
pub use merge::write_merged;
pub use stack::{Factors, SlotTensor, stack};
pub use weights::BaseWeights;

use crate::asset::{self, ComponentInfo, Manifest};
use crate::built::Built;
use crate::describe::About;
use crate::emit::{Progress, emit, weight_bytes};
use crate::folder::FolderInfo;
use crate::hint::SchedulerHint;
use crate::place::Bits;
use crate::recipe::PALETTIZE_ABOVE;
use crate::{Error, Result};
use difference::Limits;
use factors::{ComponentFactors, Computed, Term};
use gesso_coreml::stage::{Overwrite, Staging, require_space};
use gesso_weights::lora::ResolvedLora;
use std::collections::BTreeMap;
use std::path::Path;

/// Slots come in multiples of this rank: a matmul with another inner size is reported to give zeros on the neural engine.
pub const RANK_STEP: usize = 32;

/// How an adapter asset is made.
#[derive(Clone, Debug)]
pub struct AdapterOptions<'a> {
    /// Name of the adapter; `None` is the LoRA's own.
    pub name: Option<String>,
    /// Strength that an app starts with.
    pub default_strength: f32,
    /// Refuse a rank above the base's, and a difference without exact factors, instead of approximating them.
    pub exact: bool,
    /// Highest rank of the asset, for a smaller file; `None` is the rank of the base's slots.
    pub rank: Option<usize>,
    /// Bits per factor, 4, 6 or 8, by one palette per width; 16 keeps them in fp16.
    pub bits: u8,
    /// Weights of the base's source, for what depends on them (DoRA, OFT and others).
    pub weights: Option<BaseWeights<'a>>,
}

impl Default for AdapterOptions<'_> {
    fn default() -> Self {
        Self {
            name: None,
            default_strength: 1.0,
            exact: false,
            rank: None,
            bits: 16,
            weights: None,
        }
    }
}

/// Writes the adapter asset `file` from `lora` for the converted folder that `base` describes.
///
/// Every module of the LoRA must have a slot. alpha / rank is folded into the factors; column i of `up` and row i of `down` are
/// balanced by a power of two, which changes no digit, so that both lie in the middle of fp16's range. A module whose rank is
/// above the slots', or that has no exact factors at all, is approximated by its largest singular values, with the lost energy
/// in the report. When any difference was taken from the base's weights, the asset fits no other base.
///
/// Errors: [`Error::NoAdaptable`], [`Error::NoSlot`], [`Error::NeedsBase`] without the weights that a module depends on,
/// [`Error::Rank`] and [`Error::NotLowRank`] when `exact`, those of writing.
pub fn write_adapter(
    lora: &ResolvedLora,
    base: &FolderInfo,
    options: &AdapterOptions<'_>,
    file: &Path,
    progress: &mut dyn Progress,
) -> Result<AdapterReport> {
    let term = Term {
        lora,
        unet: 1.0,
        text_encoder: 1.0,
    };
    let name = options
        .name
        .clone()
        .unwrap_or_else(|| lora.name().to_string());
    let about = Author {
        name,
        trigger_words: lora.release.trigger_words.clone(),
        scheduler_hint: SchedulerHint::of(&lora.release),
        author: lora.release.author.clone(),
        license: lora.release.licence.clone(),
        metadata: lora.release.metadata.clone(),
    };
    write(&[term], about, base, options, file, progress)
}

/// What an asset says about who made it.
struct Author {
    name: String,
    trigger_words: Vec<String>,
    scheduler_hint: Option<SchedulerHint>,
    author: Option<String>,
    license: Option<String>,
    metadata: BTreeMap<String, String>,
}

fn write(
    terms: &[Term<'_>],
    author: Author,
    base: &FolderInfo,
    options: &AdapterOptions<'_>,
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
    if ![4, 6, 8, 16].contains(&options.bits) {
        return Err(Error::Recipe {
            option: "the number of bits per factor".into(),
            expected: "4, 6, 8 or 16".into(),
            found: options.bits.to_string(),
        });
    }
    let name = &author.name;
    let slots = base.slot_tables()?;
    let limits = Limits {
        name,
        exact: options.exact,
        rank: options.rank,
        weights: options.weights,
    };
    let Computed {
        components,
        exact,
        mut report,
        reads_base,
    } = factors::compute(terms, base, &slots, limits)?;
    let packages = components
        .iter()
        .map(|(component, factors)| Ok((component.clone(), program::build(factors)?)))
        .collect::<Result<BTreeMap<_, _>>>()?;
    let plans: BTreeMap<String, Bits> = packages
        .iter()
        .map(|(component, built)| (component.clone(), bits(built, options.bits)))
        .collect();
    report.losses = measure::losses(&exact, &components, &plans)?;
    let bytes = packages
        .values()
        .map(|built| weight_bytes(built, &bits(built, options.bits)))
        .sum::<Result<u64>>()?;
    // The packages exist twice for a moment: as folders and in the archive.
    require_space(file, 2 * bytes + (1 << 20))?;
    progress.begin(name, bytes);

    let mut scratch = file.as_os_str().to_owned();
    scratch.push(".parts");
    let scratch = Staging::new(Path::new(&scratch), Overwrite::Force)?;
    std::fs::create_dir_all(scratch.path()).map_err(|e| Error::io(scratch.path(), e))?;
    for (component, built) in &packages {
        let dir = scratch.path().join(asset::package_name(component));
        let about = About {
            short_description: format!("Adapter `{name}` for the {component} of a base with slots"),
            version: name.clone(),
            author: author.author.clone().unwrap_or_default(),
            license: author.license.clone().unwrap_or_default(),
            user_defined: BTreeMap::from([(
                "gesso.version".to_string(),
                env!("CARGO_PKG_VERSION").to_string(),
            )]),
        };
        let plan = bits(built, options.bits);
        let emitted = emit(built, &built.generated, &plan, &about, &dir, progress)?;
        let lowest = emitted
            .tensors
            .iter()
            .filter_map(|t| t.snr_db)
            .reduce(f64::min);
        if let Some(lowest) = lowest {
            report.snr_db.insert(component.clone(), lowest);
        }
    }
    let source = reads_base.then(|| base.source_hash.clone());
    let manifest = manifest(author, options, source, &report, &components, &slots);
    asset::write(file, scratch.path(), manifest)?;
    Ok(report)
}

/// The palettes of an adapter package: one per tensor that is large enough to gain by it.
fn bits(built: &Built, bits: u8) -> Bits {
    built
        .generated
        .iter()
        .filter(|(_, elements)| bits < 16 && elements.len() > PALETTIZE_ABOVE)
        .map(|(key, _)| (key.clone(), bits))
        .collect()
}

fn manifest(
    author: Author,
    options: &AdapterOptions<'_>,
    base_source_hash: Option<String>,
    report: &AdapterReport,
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
    let has_taps = components
        .values()
        .any(|c| c.rows.iter().any(|row| row.taps > 1));
    Manifest {
        schema: asset::SCHEMA,
        min_reader: match base_source_hash {
            _ if has_taps => asset::READER_OF_TAPS,
            Some(_) => asset::READER_OF_SOURCE,
            None => asset::MIN_READER,
        },
        kind: asset::KIND.into(),
        name: author.name,
        rank: components.values().map(|c| c.rank).max().unwrap_or(0),
        default_strength: options.default_strength,
        trigger_words: author.trigger_words,
        scheduler_hint: author.scheduler_hint,
        author: author.author,
        license: author.license,
        metadata: author.metadata,
        ignored: report.ignored.clone(),
        base_source_hash,
        components: infos,
        rows: components.values().flat_map(|c| c.rows.clone()).collect(),
        members: BTreeMap::new(),
        signature: None,
    }
}
