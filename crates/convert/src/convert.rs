//! A whole folder: every package, the tokenizer's files and `gesso.json`.

use crate::built::{Built, Feature};
use crate::emit::{Progress, emit, emit_twin, weight_bytes};
use crate::family::Attention;
use crate::folder::{FOLDER_SCHEMA, FolderInfo, OriginInfo, PackageInfo, RecipeInfo, SlotsInfo};
use crate::functions::{self, emit_functions};
use crate::hint::SchedulerHint;
use crate::loss::Losses;
use crate::merged::{Baked, Merged};
use crate::metadata::{self, Facts};
use crate::parts::{Parts, build, component};
use crate::place::Bits;
use crate::recipe::{AdapterIo, Part, Recipe, Style};
use crate::report::{BakedReport, PackageReport, Report, SlotsReport, StyleReport};
use crate::slots::SlotTable;
use crate::target::as_ios18;
use crate::{Error, Result};
use gesso_coreml::stage::{SpaceProbe, free_space, require_space_in};
use gesso_weights::{Checkpoint, Component, Family};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;

/// Room that a package needs besides its weights: program, manifest, record headers.
const BYTES_PER_PACKAGE: u64 = 8 << 20;

impl Recipe {
    /// Bytes that [`convert`] will write at most. Twins share the weights of their plain packages and count with their programs
    /// only.
    ///
    /// Errors: those of [`Recipe::check`] and of building the programs.
    pub fn bytes_needed(&self, checkpoint: &Checkpoint) -> Result<u64> {
        self.check()?;
        plan(checkpoint, self)?.bytes_needed(checkpoint, self)
    }
}

struct Planned {
    parts: Parts,
    bits: BTreeMap<Part, Bits>,
}

impl Planned {
    fn bytes_needed(&self, checkpoint: &Checkpoint, recipe: &Recipe) -> Result<u64> {
        let merged = Merged::new(checkpoint, &recipe.loras);
        let mut sum = 0u64;
        for (&part, built) in &self.parts.plain {
            let bits = self.bits.get(&part).cloned().unwrap_or_default();
            sum = sum
                .saturating_add(bytes(part, built, merged, recipe, &bits)?)
                .saturating_add(2 * BYTES_PER_PACKAGE);
        }
        Ok(sum)
    }
}

/// Builds the programs and decides on the bits of every weight.
fn plan(checkpoint: &Checkpoint, recipe: &Recipe) -> Result<Planned> {
    let mut parts = build(checkpoint, recipe)?;
    let mut matched = BTreeSet::new();
    let mut bits = BTreeMap::new();
    for (&part, built) in &mut parts.plain {
        let plan = recipe.plan(part, built, &mut matched)?;
        if recipe.shares_palettes_with_states(part, &plan) {
            as_ios18(built)?;
        }
        bits.insert(part, plan);
    }
    match recipe
        .palettize
        .iter()
        .enumerate()
        .find(|(i, _)| !matched.contains(i))
    {
        Some((_, o)) => Err(Error::UnusedOverride {
            pattern: o.pattern.clone(),
        }),
        None => Ok(Planned { parts, bits }),
    }
}

/// Converts `checkpoint` as `recipe` says into the folder `dir`, which must exist.
///
/// Writes `TextEncoder`, `Unet`, `VAEDecoder` and `VAEEncoder` as `.mlpackage`, the adaptable twins of the first two over the same
/// weight files, `vocab.json` and `merges.txt` when the source has them, and `gesso.json`. The bytes depend on checkpoint and
/// recipe only. Memory: see [`emit`]; weights that are stored as they lie in the source are never copied.
///
/// Errors: those of [`Recipe::check`]; `NoSpace` of `gesso-coreml` before anything is written; [`Error::UnusedOverride`]; [`Error::Missing`] for a component that the checkpoint does not
/// have; those of reading, merging, palettizing and writing.
pub fn convert(
    checkpoint: &Checkpoint,
    recipe: &Recipe,
    dir: &Path,
    progress: &mut dyn Progress,
) -> Result<Report> {
    convert_in(checkpoint, recipe, dir, progress, free_space)
}

fn convert_in(
    checkpoint: &Checkpoint,
    recipe: &Recipe,
    dir: &Path,
    progress: &mut dyn Progress,
    probe: SpaceProbe,
) -> Result<Report> {
    recipe.check()?;
    let planned = plan(checkpoint, recipe)?;
    require_space_in(dir, planned.bytes_needed(checkpoint, recipe)?, probe)?;
    let Planned { parts, bits } = planned;
    let source_hash = metadata::source_hash(checkpoint, recipe.parts.iter().copied());
    let facts = Facts {
        checkpoint,
        recipe,
        source_hash: &source_hash,
    };
    let merged = Merged::new(checkpoint, &recipe.loras);
    let mut report = Report {
        loras: baked(recipe, &recipe.loras),
        functions: recipe.functions.iter().map(|s| style(recipe, s)).collect(),
        unused: unused(checkpoint),
        ..Report::default()
    };
    let mut own_losses = Vec::new();
    let mut packages = BTreeMap::new();
    let mut slots = BTreeMap::new();
    for (&part, built) in &parts.plain {
        let start = Instant::now();
        let plan = bits.get(&part).cloned().unwrap_or_default();
        progress.begin(part.package(), bytes(part, built, merged, recipe, &plan)?);
        let about = facts.about(part, built)?;
        let file = format!("{}.mlpackage", part.package());
        let target = dir.join(&file);
        let (emitted, functions) = if part.is_adaptable() && !recipe.functions.is_empty() {
            let styles = &recipe.functions;
            let made = emit_functions(built, merged, styles, &plan, &about, &target, progress)?;
            // Those of the default function are among the losses of all tensors.
            own_losses.extend(made.losses.into_iter().skip(1));
            (made.emitted, made.functions)
        } else {
            let emitted = emit(built, &merged, &plan, &about, &target, progress)?;
            (emitted, Vec::new())
        };
        let seconds = start.elapsed().as_secs_f64();
        let summary =
            PackageReport::new(&file, emitted.tensors.clone(), seconds).with_functions(functions);
        let info = PackageInfo::new(file, built, &summary);
        if let Some(twin) = parts.adaptable.get(&part) {
            let name = format!("{}Adaptable", part.package());
            let file = format!("{name}.mlpackage");
            emit_twin(twin, &emitted, &facts.about(part, twin)?, &dir.join(&file))?;
            packages.insert(name, PackageInfo::twin(file.clone(), &info, twin));
            if let Some(table) = &twin.slots {
                report.slots.push(SlotsReport {
                    package: file,
                    sites: recipe.adapter_sites.word().into(),
                    modules: table.modules().len(),
                    rank: table.rank(),
                    io: recipe.adapter_io.word().into(),
                    bytes: slot_bytes(twin, table),
                });
                slots.insert(component(part).as_str().to_string(), SlotsInfo::from(table));
            }
        }
        packages.insert(part.package().to_string(), info);
        report.packages.push(summary);
    }
    report.losses = losses(&report.packages);
    if recipe.adapter_io == AdapterIo::State {
        report.notes.push(
            "adapter slots as states are unproven until a device has spoken: the engine runs them and coremltools reads them".into(),
        );
        let newer = bits
            .iter()
            .filter(|(part, plan)| recipe.shares_palettes_with_states(**part, plan));
        let newer: Vec<_> = newer
            .map(|(part, _)| format!("`{}`", part.package()))
            .collect();
        if !newer.is_empty() {
            report.notes.push(format!(
                "{} need iOS 18 too, since they share palettes with the packages that have states; apps that tell the attention by `Ios16.einsum` take them for ORIGINAL",
                newer.join(" and ")
            ));
        }
    }
    for (function, tensors) in own_losses {
        let tensors = tensors.iter().map(|(key, energy)| (key.as_str(), *energy));
        let losses = Losses::by_component(tensors).into_iter();
        report
            .losses
            .extend(losses.map(|(component, l)| (format!("{function}:{component}"), l)));
    }
    let tokenizer = copy_tokenizer(checkpoint, dir)?;
    if !tokenizer && recipe.parts.contains(&Part::TextEncoder) {
        report.notes.push(
            "the source has no tokenizer files; apps need `vocab.json` and `merges.txt` in the converted folder".into(),
        );
    }
    report.notes.extend(hints(&report.loras));
    let origin = metadata::origin(checkpoint, recipe);
    let folder = FolderInfo {
        schema: FOLDER_SCHEMA,
        converter: env!("CARGO_PKG_VERSION").into(),
        family: checkpoint.family().unwrap_or(Family::Sd1).as_str().into(),
        origin: OriginInfo {
            name: origin.name,
            author: origin.author,
            license: origin.license,
        },
        source_hash,
        recipe: recipe_info(recipe, &parts, &report),
        packages,
        deltas: Vec::new(),
        slots,
        tokenizer,
        scheduler: metadata::scheduler(checkpoint)?,
        scaling_factor: checkpoint
            .component(Component::Vae)
            .is_some()
            .then(|| checkpoint.vae_config().map(|c| c.scaling_factor))
            .transpose()?,
        tensors: tensors(checkpoint),
        unused: report.unused.clone(),
    };
    folder.write(dir)?;
    Ok(report)
}

/// What the weights that LoRAs change lost.
fn losses(packages: &[PackageReport]) -> BTreeMap<String, Losses> {
    let tensors = packages.iter().flat_map(|package| &package.tensors);
    Losses::by_component(tensors.filter_map(|t| Some((t.key.as_str(), t.merge?))))
}

/// Bytes of the inputs or states `adapter_W` of `built`.
fn slot_bytes(built: &Built, table: &SlotTable) -> u64 {
    let widths = table.widths();
    let of = |f: &&Feature| widths.keys().any(|&w| f.name == SlotTable::input_name(w));
    let features = built.inputs.iter().chain(&built.states);
    let bytes = features.filter(of).map(|feature| {
        let size = (feature.dtype.bits() / 8) as u64;
        feature
            .shape
            .iter()
            .fold(size, |n, &d| n.saturating_mul(d as u64))
    });
    bytes.fold(0, u64::saturating_add)
}

/// Shapes of what a LoRA may touch.
fn tensors(checkpoint: &Checkpoint) -> BTreeMap<String, Vec<usize>> {
    let adaptable = checkpoint
        .components()
        .filter(|(c, _)| *c != Component::Vae);
    adaptable
        .flat_map(|(component, tensors)| {
            tensors
                .iter()
                .map(move |t| (format!("{component}:{}", t.name), t.shape.to_vec()))
        })
        .collect()
}

fn unused(checkpoint: &Checkpoint) -> Vec<(String, String)> {
    checkpoint
        .unused()
        .iter()
        .map(|u| (u.name.clone(), u.why.to_string()))
        .collect()
}

/// Copies the tokenizer's two files; whether there are any.
fn copy_tokenizer(checkpoint: &Checkpoint, dir: &Path) -> Result<bool> {
    let Some((vocab, merges)) = checkpoint.tokenizer() else {
        return Ok(false);
    };
    for (from, name) in [(vocab, "vocab.json"), (merges, "merges.txt")] {
        // Read and written rather than copied: permissions of the source are not ours to keep.
        let bytes = std::fs::read(from).map_err(|e| Error::io(from, e))?;
        let to = dir.join(name);
        std::fs::write(&to, bytes).map_err(|e| Error::io(&to, e))?;
    }
    Ok(true)
}

/// Which modules of every LoRA reach the weights of the converted components.
fn baked(recipe: &Recipe, loras: &[Baked]) -> Vec<BakedReport> {
    let converted: BTreeSet<Component> = recipe.parts.iter().map(|&p| component(p)).collect();
    loras
        .iter()
        .map(|baked| {
            let (merged, rest): (Vec<_>, Vec<_>) = baked
                .lora
                .modules
                .keys()
                .partition(|(c, _)| converted.contains(c) && baked.strength(*c) != 0.0);
            BakedReport {
                name: baked.lora.name().to_string(),
                ignored: crate::adapter::ignored(&baked.lora),
                scheduler_hint: SchedulerHint::of(&baked.lora.release),
                unet_strength: baked.unet_strength,
                text_encoder_strength: baked.text_encoder_strength,
                merged: merged.len(),
                not_merged: rest.iter().map(|(c, path)| format!("{c}:{path}")).collect(),
            }
        })
        .collect()
}

/// What to know about few-step releases in the weights.
fn hints(loras: &[BakedReport]) -> Vec<String> {
    let used = loras.iter().filter(|l| l.unet_strength != 0.0);
    used.filter_map(|l| {
        let hint = l.scheduler_hint.as_ref()?;
        Some(format!(
            "`{}` is {}: sample with `{}`, {} steps, guidance {}; `gesso generate` does",
            l.name, hint.because, hint.scheduler, hint.steps, hint.guidance
        ))
    })
    .collect()
}

fn style(recipe: &Recipe, style: &Style) -> StyleReport {
    StyleReport {
        name: style.name.clone(),
        loras: baked(recipe, &style.loras),
    }
}

/// Bytes of weights that the package of a part will have at most.
fn bytes(
    part: Part,
    built: &Built,
    merged: Merged<'_>,
    recipe: &Recipe,
    bits: &Bits,
) -> Result<u64> {
    match part.is_adaptable() && !recipe.functions.is_empty() {
        true => functions::bytes(built, merged, &recipe.functions, bits),
        false => weight_bytes(built, bits),
    }
}

fn recipe_info(recipe: &Recipe, parts: &Parts, report: &Report) -> RecipeInfo {
    RecipeInfo {
        bits: recipe.bits,
        precision: metadata::precision_word(recipe.precision).into(),
        attention: match recipe.attention {
            Attention::SplitEinsum => "SPLIT_EINSUM".into(),
            Attention::Original => "ORIGINAL".into(),
        },
        width: parts.width,
        height: parts.height,
        adapter_rank: recipe.adapter_rank,
        adapter_sites: recipe.slots().map(|s| s.sites.word().into()),
        adapter_io: (recipe.adapter_io != AdapterIo::Input)
            .then(|| recipe.adapter_io.word().into()),
        palettize: recipe
            .palettize
            .iter()
            .map(|o| (o.pattern.clone(), o.bits))
            .collect(),
        loras: report.loras.clone(),
        functions: report.functions.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emit::Silent;
    use gesso_weights::OpenOptions;

    #[test]
    fn a_full_disk_is_refused_before_anything_is_written() {
        let folder = gesso_testkit::fixture("shapes/base");
        let checkpoint = Checkpoint::open(&folder, &OpenOptions::default()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let recipe = Recipe::default();
        let error = convert_in(&checkpoint, &recipe, dir.path(), &mut Silent, |_| Ok(1000));
        let needed = recipe.bytes_needed(&checkpoint).unwrap();
        let message = error.unwrap_err().to_string();
        assert!(
            message.contains(&format!("{needed} bytes needed, 1000 bytes free")),
            "{message}"
        );
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
