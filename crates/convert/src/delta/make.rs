//! A delta from LoRAs, a base and the checkpoint that the base was converted from.

use super::base::BaseModel;
use super::manifest::{DeltaLora, Manifest, Patch, WeightFile};
use super::replace::{Outcome, replaced};
use super::{KIND, MIN_READER, SCHEMA, archive};
use crate::adapter::{BaseWeights, agreed, ignored};
use crate::asset::hex;
use crate::emit::{LOOK_AHEAD, Progress};
use crate::folder::FolderInfo;
use crate::hint::SchedulerHint;
use crate::loss::{Energy, Losses};
use crate::merged::{Baked, Merged};
use crate::{Error, Result};
use gesso_coreml::stage::{Overwrite, Staging, require_space};
use gesso_weights::Component;
use rayon::prelude::*;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;

/// How a delta is made.
#[derive(Clone, Debug, Default)]
pub struct DeltaOptions {
    /// Name of the style; `None` is the LoRA's own, of several those joined by ` + `.
    pub name: Option<String>,
}

/// One tensor that a delta replaces.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DeltaTensor {
    /// `<component>:<canonical name>`.
    pub key: String,
    /// Bits per element as stored.
    pub bits: u8,
    /// What the stored values lost against the exact fp32 merge, rounding to fp16 included; [`DeltaReport::losses`] has it in dB.
    #[serde(skip)]
    pub energy: Energy,
    /// Signal to noise ratio of the palette alone, as in `gesso.json`; absent without a palette, or when it lost nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub palette_snr_db: Option<f64>,
}

/// What became of the LoRAs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DeltaReport {
    /// Name of the style.
    pub name: String,
    /// The LoRAs and their strengths.
    pub loras: Vec<DeltaLora>,
    /// Changed weight files: package, number of replaced tensors, replaced bytes.
    pub files: Vec<(String, usize, u64)>,
    /// The component of each of these packages.
    pub components: BTreeMap<String, String>,
    /// What is replaced, in the order of the weight files.
    pub tensors: Vec<DeltaTensor>,
    /// By component, what the new weights lost against the exact fp32 merge; by tensor.
    pub losses: BTreeMap<String, Losses>,
    /// Modules that no model of the base has, or whose strength is 0, as `<component>:<module>`.
    pub not_merged: Vec<String>,
    /// Tensors of the LoRA files that nothing uses, with the reason or the pattern that named them.
    pub ignored: BTreeMap<String, String>,
    /// What a user should know about the files.
    pub warnings: Vec<String>,
}

/// Writes the delta `file`: what `loras` change in the converted folder `dir` that `base` describes, merged in f32 from the pristine
/// weights, rounded once and palettized with the bits of the base. The new bytes are those that `convert` writes for the same
/// checkpoint and recipe with these LoRAs.
///
/// Errors: [`Error::DeltaModel`], [`Error::DeltaOnStyle`] for a base that has LoRAs in its weights already, [`Error::DeltaInline`]
/// for tensors that stand in a program, [`Error::DeltaEmpty`]; those of merging, palettizing and writing.
pub fn write_delta(
    loras: &[Baked],
    dir: &Path,
    base: &FolderInfo,
    weights: BaseWeights<'_>,
    options: &DeltaOptions,
    file: &Path,
    progress: &mut dyn Progress,
) -> Result<DeltaReport> {
    let name = options.name.clone().unwrap_or_else(|| {
        let names: Vec<&str> = loras.iter().map(|b| b.lora.name()).collect();
        names.join(" + ")
    });
    plain(dir, base)?;
    for baked in loras {
        finite(baked)?;
    }
    let models = BaseModel::all(dir, base)?;
    let maker = Maker {
        name: &name,
        loras,
        weights,
        merged: Merged::new(weights.checkpoint(), loras),
    };
    let mut scratch = file.as_os_str().to_owned();
    scratch.push(".parts");
    let scratch = Staging::new(Path::new(&scratch), Overwrite::Force)?;
    let mut made = Made::default();
    let mut total = 0u64;
    let planned = models
        .iter()
        .map(|model| maker.plan(model))
        .collect::<Result<Vec<_>>>()?;
    for (_, bytes) in &planned {
        total = total.saturating_add(*bytes);
    }
    // The new bytes exist twice for a moment: by themselves and in the archive.
    require_space(file, total.saturating_mul(2).saturating_add(1 << 20))?;
    progress.begin(&name, total);
    for (model, (keys, _)) in models.iter().zip(&planned) {
        maker.file(model, keys, scratch.path(), &mut made, progress)?;
    }
    made.refuse_inline(&name)?;
    if made.files.is_empty() {
        return Err(Error::DeltaEmpty { delta: name });
    }
    let report = maker.report(&made);
    archive::write(file, scratch.path(), maker.manifest(base, made, &report))?;
    Ok(report)
}

/// Refuses a base whose weights are not those of its source.
fn plain(dir: &Path, base: &FolderInfo) -> Result<()> {
    let baked = base.recipe.loras.iter().map(|lora| lora.name.clone());
    let styles: Vec<String> = baked
        .chain(base.deltas.iter().map(|delta| delta.name.clone()))
        .collect();
    if styles.is_empty() {
        return Ok(());
    }
    Err(Error::DeltaOnStyle {
        base: dir.display().to_string(),
        styles: styles.join("`, `"),
    })
}

fn finite(baked: &Baked) -> Result<()> {
    let (unet, text_encoder) = (baked.unet_strength, baked.text_encoder_strength);
    if unet.is_finite() && text_encoder.is_finite() {
        return Ok(());
    }
    Err(Error::Recipe {
        option: format!("strength of `{}`", baked.lora.name()),
        expected: "a number".into(),
        found: format!("{unet}, {text_encoder}"),
    })
}

struct Maker<'a> {
    name: &'a str,
    loras: &'a [Baked],
    weights: BaseWeights<'a>,
    merged: Merged<'a>,
}

/// A tensor to be replaced: its place in the file, its key, its elements.
type Planned = (u64, String, usize);

#[derive(Default)]
struct Made {
    files: Vec<WeightFile>,
    tensors: Vec<DeltaTensor>,
    /// Keys that some model has, changed or not.
    found: BTreeSet<String>,
    inline: Vec<String>,
}

impl Maker<'_> {
    /// The tensors of `model` that the LoRAs touch, in the order of the file, and the bytes that they take.
    fn plan(&self, model: &BaseModel) -> Result<(Vec<Planned>, u64)> {
        let tensors = model.tensors();
        let (mut planned, mut bytes) = (Vec::new(), 0u64);
        for key in self.touched(model.component) {
            if let Some(stored) = model.stored(&key, &tensors)? {
                bytes = bytes.saturating_add(stored.bytes());
                planned.push((stored.offset(), key, stored.count));
            }
        }
        planned.sort();
        Ok((planned, bytes))
    }

    /// Keys of the tensors of `component` whose module a LoRA changes.
    fn touched(&self, component: Component) -> Vec<String> {
        let Some(tensors) = self.weights.checkpoint().component(component) else {
            return Vec::new();
        };
        tensors
            .iter()
            .filter(|tensor| {
                let module = module(tensor.name);
                self.loras.iter().any(|baked| {
                    baked.strength(component) != 0.0
                        && baked.lora.adapter(component, module).is_some()
                })
            })
            .map(|tensor| format!("{component}:{}", tensor.name))
            .collect()
    }

    /// Computes the new bytes of one weight file into the folder `scratch`.
    fn file(
        &self,
        model: &BaseModel,
        planned: &[Planned],
        scratch: &Path,
        made: &mut Made,
        progress: &mut dyn Progress,
    ) -> Result<()> {
        if planned.is_empty() {
            return Ok(());
        }
        let data = format!("{}.bin", model.name);
        let path = scratch.join(&data);
        let io = |e| Error::io(&path, e);
        let mut out = std::io::BufWriter::new(std::fs::File::create(&path).map_err(io)?);
        let tensors = model.tensors();
        let base = model.weights()?;
        let (mut after, mut free) = (Sha256::new(), 0usize);
        let mut patches = Vec::new();
        let mut rest = planned;
        while !rest.is_empty() {
            let (group, tail) = rest.split_at(group(rest));
            rest = tail;
            let outcomes: Vec<Result<(Outcome, u64)>> = group
                .par_iter()
                .map(|(_, key, _)| match model.stored(key, &tensors)? {
                    Some(stored) => Ok((replaced(key, &stored, &self.merged)?, stored.bytes())),
                    None => Ok((Outcome::Same, 0)),
                })
                .collect();
            for ((_, key, _), outcome) in group.iter().zip(outcomes) {
                let (outcome, bytes) = outcome?;
                made.found.insert(key.clone());
                progress.advance(bytes);
                match outcome {
                    Outcome::Same => {}
                    Outcome::Inline => made.inline.push(key.clone()),
                    Outcome::Changed { records, tensor } => {
                        for record in records {
                            let offset = usize::try_from(record.offset).unwrap_or(usize::MAX);
                            let kept = base.get(free..offset);
                            after.update(kept.ok_or_else(|| unordered(model, key))?);
                            after.update(&record.bytes);
                            free = offset.saturating_add(record.bytes.len());
                            out.write_all(&record.bytes).map_err(io)?;
                            patches.push(Patch {
                                tensor: key.clone(),
                                offset: record.offset,
                                length: record.bytes.len() as u64,
                                sha256: hex(&Sha256::digest(&record.bytes)),
                            });
                        }
                        made.tensors.push(tensor);
                    }
                }
            }
        }
        out.flush().map_err(io)?;
        if patches.is_empty() {
            return Ok(());
        }
        let kept = base.get(free..);
        after.update(kept.ok_or_else(|| unordered(model, "its end"))?);
        made.files.push(WeightFile {
            component: model.component.as_str().into(),
            package: model.name.clone(),
            data,
            size: base.len() as u64,
            before: hex(&Sha256::digest(base)),
            after: hex(&after.finalize()),
            patches,
        });
        Ok(())
    }

    fn report(&self, made: &Made) -> DeltaReport {
        let mut modules: BTreeSet<(Component, &str)> = BTreeSet::new();
        let (mut ignored_keys, mut warnings) = (BTreeMap::new(), Vec::new());
        for baked in self.loras {
            let keys = baked.lora.modules.keys();
            modules.extend(keys.map(|(component, path)| (*component, path.as_str())));
            for (key, reason) in ignored(&baked.lora) {
                // Of several LoRAs each key follows the name of its LoRA.
                let key = match self.loras {
                    [_] => key,
                    _ => format!("{}:{key}", baked.lora.name()),
                };
                ignored_keys.insert(key, reason);
            }
            warnings.extend(baked.lora.warnings.iter().cloned());
        }
        let merged: BTreeSet<&str> = made.found.iter().map(|key| module(key)).collect();
        DeltaReport {
            name: self.name.into(),
            loras: self
                .loras
                .iter()
                .map(|baked| DeltaLora {
                    name: baked.lora.name().into(),
                    unet: baked.unet_strength,
                    text_encoder: baked.text_encoder_strength,
                    scheduler_hint: SchedulerHint::of(&baked.lora.release),
                })
                .collect(),
            files: made
                .files
                .iter()
                .map(|file| {
                    let tensors: BTreeSet<&str> =
                        file.patches.iter().map(|p| p.tensor.as_str()).collect();
                    let bytes = file.patched().unwrap_or(u64::MAX);
                    (file.package.clone(), tensors.len(), bytes)
                })
                .collect(),
            components: made
                .files
                .iter()
                .map(|file| (file.package.clone(), file.component.clone()))
                .collect(),
            losses: Losses::by_component(made.tensors.iter().map(|t| (t.key.as_str(), t.energy))),
            tensors: made.tensors.clone(),
            not_merged: modules
                .iter()
                .map(|(component, path)| format!("{component}:{path}"))
                .filter(|module| !merged.contains(module.as_str()))
                .collect(),
            ignored: ignored_keys,
            warnings,
        }
    }

    fn manifest(&self, base: &FolderInfo, made: Made, report: &DeltaReport) -> Manifest {
        let mut trigger_words: Vec<String> = Vec::new();
        for word in self
            .loras
            .iter()
            .flat_map(|b| &b.lora.release.trigger_words)
        {
            if !trigger_words.contains(word) {
                trigger_words.push(word.clone());
            }
        }
        let releases = || self.loras.iter().map(|b| &b.lora.release);
        Manifest {
            schema: SCHEMA,
            min_reader: MIN_READER,
            kind: KIND.into(),
            name: self.name.into(),
            loras: report.loras.clone(),
            trigger_words,
            author: agreed(releases().map(|r| r.author.as_ref())),
            license: agreed(releases().map(|r| r.licence.as_ref())),
            metadata: match self.loras {
                [one] => one.lora.release.metadata.clone(),
                _ => BTreeMap::new(),
            },
            ignored: report.ignored.clone(),
            base_source_hash: base.source_hash.clone(),
            files: made.files,
            palettized: made
                .tensors
                .into_iter()
                .filter(|t| t.bits < 16)
                .map(|t| (t.key, (t.bits, t.palette_snr_db)))
                .collect(),
            members: BTreeMap::new(),
            signature: None,
        }
    }
}

impl Made {
    fn refuse_inline(&self, name: &str) -> Result<()> {
        if self.inline.is_empty() {
            return Ok(());
        }
        let mut tensors = self.inline.iter().take(4).cloned().collect::<Vec<_>>();
        if self.inline.len() > tensors.len() {
            tensors.push("…".into());
        }
        Err(Error::DeltaInline {
            delta: name.into(),
            count: self.inline.len(),
            tensors: tensors.join(", "),
        })
    }
}

/// The module of a tensor, with or without its component before it.
fn module(tensor: &str) -> &str {
    tensor.rsplit_once('.').map_or(tensor, |(module, _)| module)
}

/// How many of `rest` are worked on together: at most [`LOOK_AHEAD`] elements, at least one tensor.
fn group(rest: &[Planned]) -> usize {
    let mut sum = 0usize;
    let fitting = rest.iter().take_while(|(_, _, count)| {
        sum = sum.saturating_add(*count);
        sum <= LOOK_AHEAD
    });
    fitting.count().max(1)
}

fn unordered(model: &BaseModel, key: &str) -> Error {
    Error::DeltaModel {
        package: model.name.clone(),
        reason: format!("the record of `{key}` lies within that of another tensor"),
    }
}
