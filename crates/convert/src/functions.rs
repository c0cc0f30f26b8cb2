//! Packages with several functions: one set of weights per style, what is equal stored once.

use crate::built::Built;
use crate::describe::{self, About};
use crate::emit::{self, Emitted, Progress, each, finish, weight_bytes};
use crate::loss::Energy;
use crate::merged::Merged;
use crate::place::{self, Bits, Job, PlaceKey, Placed, Prepared};
use crate::recipe::{Recipe, Style, Target};
use crate::report::{FunctionReport, TensorReport};
use crate::{Error, Result};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

impl Recipe {
    /// Checks names and strengths of the functions, and that the target has them.
    pub(crate) fn check_functions(&self) -> Result<()> {
        let refuse = |expected: &str, found: String| {
            Err(Error::Recipe {
                option: "`--multifunction`".into(),
                expected: expected.into(),
                found,
            })
        };
        if self.functions.is_empty() {
            return Ok(());
        }
        if self.target != Target::Ios18 {
            return refuse(
                "for `--target ios18` (older systems do not load packages with several functions)",
                "for ios16".into(),
            );
        }
        let mut names = BTreeSet::new();
        for style in &self.functions {
            let name = style.name.as_str();
            let first = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
            if !first || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                return refuse(
                    "names of letters, digits and underscores that begin with no digit",
                    format!("`{name}`"),
                );
            }
            if !names.insert(name) {
                return refuse("different names", format!("`{name}` twice"));
            }
            let finite = |x: f32| x.is_finite();
            let mut strengths = style.loras.iter();
            if !strengths.all(|b| finite(b.unet_strength) && finite(b.text_encoder_strength)) {
                return refuse("finite strengths", format!("another one for `{name}`"));
            }
        }
        if names.len() < 2 {
            return refuse("at least two functions", "one".into());
        }
        Ok(())
    }
}

/// Bytes of weights that [`emit_functions`] writes for `built` at most.
///
/// Errors: [`Error::ConstType`].
pub(crate) fn bytes(
    built: &Built,
    merged: Merged<'_>,
    styles: &[Style],
    bits: &Bits,
) -> Result<u64> {
    let mut sum = weight_bytes(built, bits)?;
    for style in styles.iter().skip(1) {
        let merged = merged.with(&style.loras);
        let jobs = place::jobs(&built.function, bits)?;
        let own = jobs.iter().filter(|job| differs(&merged, styles, job));
        let own = own.map(Job::stored_bytes);
        sum = own.fold(sum, u64::saturating_add);
    }
    Ok(sum)
}

/// Whether a function with the weights of `merged` may have another tensor than the default function.
fn differs(merged: &Merged<'_>, styles: &[Style], job: &Job<'_>) -> bool {
    let default = styles.first().map_or(&[][..], |style| &style.loras);
    let key = job.label();
    merged.is_own(key) || merged.with(default).is_own(key)
}

/// What [`emit_functions`] wrote.
pub(crate) struct Functions {
    /// The package, with the weights of its default function.
    pub emitted: Emitted,
    /// The functions in order.
    pub functions: Vec<FunctionReport>,
    /// By function and tensor, what storing a merge lost.
    pub losses: Vec<(String, Vec<(String, Energy)>)>,
}

/// Writes `built` as the package `dir` with a function per style, the default one first.
///
/// The weight file holds the default function's weights in program order, as [`emit`](crate::emit) lays them, then function by
/// function those that no function before it has.
///
/// Errors: as [`emit`](crate::emit).
pub(crate) fn emit_functions(
    built: &Built,
    merged: Merged<'_>,
    styles: &[Style],
    bits: &Bits,
    about: &About,
    dir: &Path,
    progress: &mut dyn Progress,
) -> Result<Functions> {
    let temporary = dir.with_extension("weights");
    let mut writer = emit::writer(&temporary, built)?;
    let mut stored: BTreeMap<(PlaceKey, [u8; 32]), Placed> = BTreeMap::new();
    let mut first: BTreeMap<PlaceKey, Placed> = BTreeMap::new();
    let mut tensors = Vec::new();
    let mut functions = Vec::new();
    let mut reports = Vec::new();
    let mut losses = Vec::new();
    for (index, style) in styles.iter().enumerate() {
        let merged = merged.with(&style.loras);
        let (own, same): (Vec<Job<'_>>, Vec<Job<'_>>) = place::jobs(&built.function, bits)?
            .into_iter()
            .partition(|job| index == 0 || differs(&merged, styles, job));
        let mut places: BTreeMap<PlaceKey, Placed> = BTreeMap::new();
        let mut report = FunctionReport {
            name: style.name.clone(),
            own_bytes: 0,
            shared_bytes: same.iter().map(Job::stored_bytes).sum(),
            own_tensors: 0,
            min_snr_db: None,
        };
        for job in &same {
            if let Some(placed) = first.get(&job.key) {
                places.insert(job.key.clone(), placed.clone());
            }
        }
        let mut lost = Vec::new();
        each(&own, built, &merged, &mut |job, prepared, merge| {
            progress.advance(job.stored_bytes());
            if let Some(energy) = merge {
                lost.push((job.label().to_string(), energy));
            }
            let content = (job.key.clone(), content(prepared));
            if let Some(placed) = stored.get(&content) {
                places.insert(job.key.clone(), placed.clone());
                report.shared_bytes += job.stored_bytes();
                return Ok(());
            }
            let placed = place::place(&mut writer, job, prepared)?;
            places.insert(job.key.clone(), placed.clone());
            stored.insert(content, placed);
            let tensor = TensorReport {
                merge,
                ..emit::report(job, prepared)
            };
            report.own_bytes += job.stored_bytes();
            report.own_tensors += 1;
            let lowest = [report.min_snr_db, tensor.snr_db];
            report.min_snr_db = lowest.into_iter().flatten().reduce(f64::min);
            if index == 0 {
                tensors.push(tensor);
            }
            Ok(())
        })?;
        let function = place::resolve(&built.function, &places)?;
        functions.push((style.name.clone(), function));
        reports.push(report);
        losses.push((style.name.clone(), lost));
        if index == 0 {
            first = places;
        }
    }
    let model = describe::several(functions, built, about)?;
    let weights = finish(writer, &temporary, &model, dir)?;
    Ok(Functions {
        emitted: Emitted {
            places: first,
            weights,
            tensors,
        },
        functions: reports,
        losses,
    })
}

/// SHA-256 of what would be written for a constant.
fn content(prepared: &Prepared<'_>) -> [u8; 32] {
    let mut hash = Sha256::new();
    match prepared {
        Prepared::Dense(bytes) => hash.update(bytes),
        Prepared::Palette(palette) => {
            hash.update(&palette.packed);
            for entry in &palette.lut {
                hash.update(entry.to_le_bytes());
            }
        }
    }
    hash.finalize().into()
}
