//! Matching an adapter file to a model: every tensor to its module, every module to its algorithm.

use super::accounting::{Ignored, Unmatched, first_lines, glob, ignorable, listing};
use super::adapter::Adapter;
use super::algorithm::{Fault, ScaleRule, Site, magnitude, recognised};
use super::dialect::{EXTENDED_CLASSES, ordinal};
use super::error::LoraError;
use super::factor::Factor;
use super::family::{of_adapter, of_target};
use super::file::Lora;
use super::format::{Format, index_key};
use super::module::{ModuleInfo, ModuleTable};
use super::part::{Key, Part};
use super::resolved::ResolvedLora;
use crate::Component;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the caller allows.
#[derive(Clone, Debug, Default)]
pub struct ResolveOptions {
    /// Patterns (`*`, `?`) of keys that are left out; what they hit is recorded in [`ResolvedLora::ignored`].
    pub ignore: Vec<String>,
}

/// The tensors of one module.
#[derive(Default)]
struct Group {
    written: String,
    parts: BTreeMap<Part, Factor>,
}

type Groups<'t> = BTreeMap<(Component, String), (&'t ModuleInfo, Group)>;

/// Ends of a tensor that holds the per-tensor scale of an fp8 one.
const SCALE_ENDS: &[&str] = &[".scale_weight", ".weight_scale"];

impl Lora {
    /// Matches every tensor to a module of `table`. Nothing is applied unless all of it fits.
    ///
    /// Errors: see [`LoraError`]; `NothingApplied`, `Unaccounted`, `WrongFamily` and `Shapes` are about the model, the others
    /// about the file.
    pub fn resolve(
        &self,
        table: &ModuleTable,
        options: &ResolveOptions,
    ) -> Result<ResolvedLora, LoraError> {
        let mut run = Run::new(self, table);
        let groups = run.sorted(options)?;
        run.require_known(&groups)?;
        for (_, group) in groups.values() {
            group.parts.values().try_for_each(sound)?;
        }
        let applied = run.scales
            + groups
                .values()
                .map(|(_, group)| group.parts.len())
                .sum::<usize>();
        let mut modules = BTreeMap::new();
        for (key, (module, group)) in groups {
            if let Some(adapter) = run.adapter(module, group)? {
                modules.insert(key, adapter);
            }
        }
        run.require_fitting()?;
        let notes = self.store.notes().iter().map(ToString::to_string);
        run.warnings.extend(notes);
        run.warnings.extend(self.release().speed_note.clone());
        Ok(ResolvedLora {
            release: self.release().clone(),
            format: self.format(),
            family: self.family(),
            modules,
            tensors: self.tensors(),
            applied,
            ignored: run.ignored,
            warnings: run.warnings,
        })
    }
}

impl Lora {
    /// The tensors that [`Self::resolve`] would neither apply to a module of `table` nor leave out, by key.
    ///
    /// Errors: `Duplicate`, `Value` as in [`Self::resolve`].
    pub fn unmatched(
        &self,
        table: &ModuleTable,
        options: &ResolveOptions,
    ) -> Result<Vec<Unmatched>, LoraError> {
        let mut run = Run::new(self, table);
        run.sorted(options)?;
        let keys = run.unknown.iter();
        Ok(keys.map(|key| Unmatched::new(key, table)).collect())
    }
}

struct Run<'a> {
    lora: &'a Lora,
    table: &'a ModuleTable,
    ignored: Vec<Ignored>,
    unknown: Vec<String>,
    warnings: Vec<String>,
    misfits: Vec<Misfit>,
    /// Tensors that were used as scales of others.
    scales: usize,
}

struct Misfit {
    key: String,
    expected: String,
    found: String,
}

impl<'a> Run<'a> {
    fn new(lora: &'a Lora, table: &'a ModuleTable) -> Self {
        Self {
            lora,
            table,
            ignored: Vec::new(),
            unknown: Vec::new(),
            warnings: Vec::new(),
            misfits: Vec::new(),
            scales: 0,
        }
    }

    /// Sorts all tensors by module; what has no module goes to `ignored` or `unknown`.
    fn sorted(&mut self, options: &ResolveOptions) -> Result<Groups<'a>, LoraError> {
        let store = &self.lora.store;
        let scales = self.multipliers(options)?;
        let ordinals = self.ordinals()?;
        let mut groups: Groups<'a> = BTreeMap::new();
        for name in store.names() {
            if let Some(pattern) = options.ignore.iter().find(|p| glob(p, name)) {
                self.ignore(name, &format!("pattern `{pattern}`"));
                continue;
            }
            if scales.values().any(|(scale, _)| scale == name) {
                self.scales += 1;
                continue;
            }
            if let Some(reason) = ignorable(name) {
                self.ignore(name, reason);
                continue;
            }
            if self.is_own_shape(name) {
                self.ignore(name, "shape of the weight, unchanged");
                continue;
            }
            let place = match index_key(name) {
                Some((component, number, part)) => ordinals
                    .iter()
                    .find(|(c, _)| c.as_str() == component)
                    .and_then(|(_, modules)| modules.get(number).copied())
                    .map(|module| (module, part, format!("{component}:{number}"))),
                None => Key::parse(name).and_then(|key| {
                    let module = self.table.find(key.module, self.preferred())?;
                    Some((module, key.part, key.module.to_string()))
                }),
            };
            let multiplier = scales.get(name).map(|(_, value)| *value);
            let factor = Factor::new(store, name, multiplier);
            let (Some((module, part, written)), Some(factor)) = (place, factor) else {
                self.unknown.push(name.to_string());
                continue;
            };
            let id = (module.component, module.path.clone());
            let (_, group) = groups
                .entry(id)
                .or_insert_with(|| (module, Group::default()));
            group.written = written;
            if let Some(other) = group.parts.insert(part, factor) {
                return Err(LoraError::Duplicate {
                    file: store.path().to_path_buf(),
                    first: other.key,
                    second: name.to_string(),
                });
            }
        }
        // A bare `weight` means something only beside IA3's flag.
        for (_, group) in groups.values_mut() {
            if !group.parts.contains_key(&Part::Ia3OnInput) {
                let stray = group.parts.remove(&Part::Ia3Weight);
                self.unknown.extend(stray.map(|f| f.key));
            }
        }
        groups.retain(|_, (_, group)| !group.parts.is_empty());
        Ok(groups)
    }

    fn ignore(&mut self, key: &str, reason: &str) {
        self.ignored.push(Ignored {
            key: key.to_string(),
            reason: reason.to_string(),
        });
    }

    /// Per-tensor scales of fp8 files: tensor → (key of its scale, value).
    fn multipliers(
        &self,
        options: &ResolveOptions,
    ) -> Result<BTreeMap<String, (String, f32)>, LoraError> {
        let store = &self.lora.store;
        let mut found = BTreeMap::new();
        for name in store.names() {
            let Some(stem) = SCALE_ENDS.iter().find_map(|end| name.strip_suffix(end)) else {
                continue;
            };
            if options.ignore.iter().any(|p| glob(p, name)) {
                continue;
            }
            let tensor = [stem.to_string(), format!("{stem}.weight")]
                .into_iter()
                .find(|t| store.get(t).is_some());
            let value = Factor::new(store, name, None).and_then(|f| f.scalar());
            match (tensor, value) {
                (Some(tensor), Some(value)) if value.is_finite() => {
                    found.insert(tensor, (name.to_string(), value));
                }
                (Some(_), _) => {
                    return Err(LoraError::Value {
                        file: store.path().to_path_buf(),
                        tensor: name.to_string(),
                        reason: "a per-tensor scale is one finite number".into(),
                    });
                }
                (None, _) => {}
            }
        }
        Ok(found)
    }

    /// Whether `name` is a `reshape_weight` that says the shape which the weight has anyway.
    fn is_own_shape(&self, name: &str) -> bool {
        let Some(module) = name
            .strip_suffix(".reshape_weight")
            .and_then(|module| self.table.find(module, self.preferred()))
        else {
            return false;
        };
        let own = module.weight_shape.iter().map(|&n| n as f32);
        self.lora
            .store
            .get(name)
            .is_some_and(|t| t.to_f32().iter().copied().eq(own))
    }

    fn preferred(&self) -> Option<Component> {
        self.lora.folder_config.as_ref().and_then(|c| c.component)
    }

    /// The numbered modules of cloneofsimo's format.
    fn ordinals(&self) -> Result<Vec<(Component, Vec<&'a ModuleInfo>)>, LoraError> {
        if self.lora.format != Format::CloneOfSimo {
            return Ok(Vec::new());
        }
        let store = &self.lora.store;
        let classes = store.metadata().get("unet").map_or("", String::as_str);
        if let Some(class) = EXTENDED_CLASSES.iter().find(|c| classes.contains(*c)) {
            return Err(LoraError::Refused {
                file: store.path().to_path_buf(),
                kind: format!("an extended LoRA of cloneofsimo (with {class})"),
                key: "unet".into(),
            });
        }
        Ok([Component::Unet, Component::TextEncoder]
            .map(|c| (c, ordinal(self.table, c)))
            .into())
    }

    /// Stops when a tensor has no module, or nothing has one.
    fn require_known(&self, groups: &Groups<'_>) -> Result<(), LoraError> {
        let file = || self.lora.store.path().to_path_buf();
        if self.unknown.is_empty() && !groups.is_empty() {
            return Ok(());
        }
        self.require_family()?;
        let listing = listing(&self.unknown, self.table);
        if groups.is_empty() {
            return Err(LoraError::NothingApplied {
                file: file(),
                tensors: self.lora.tensors(),
                listing,
            });
        }
        Err(LoraError::Unaccounted {
            file: file(),
            count: self.unknown.len(),
            tensors: self.lora.tensors(),
            listing,
        })
    }

    /// Stops when the adapter is of a known family and the model of another one, or of none by its widths while shapes differ.
    fn require_family(&self) -> Result<(), LoraError> {
        let Some(made) = of_adapter(&self.lora.store) else {
            return Ok(());
        };
        let target = match of_target(self.table) {
            Some(target) if made.family == target => return Ok(()),
            Some(target) => target.to_string(),
            None if self.misfits.is_empty() => return Ok(()),
            None => "a model of other widths".to_string(),
        };
        let misfit = self.misfits.iter().find(|m| m.key == made.key);
        let detail = match misfit.or(self.misfits.first()) {
            Some(m) => format!("`{}` has shape {}, expected {}", m.key, m.found, m.expected),
            None => format!("`{}` has shape {:?}", made.key, made.shape),
        };
        Err(LoraError::WrongFamily {
            file: self.lora.store.path().to_path_buf(),
            made_for: made.family.to_string(),
            target,
            detail,
        })
    }

    /// Stops when a shape did not fit, or an algorithm left tensors over.
    fn require_fitting(&self) -> Result<(), LoraError> {
        if !self.misfits.is_empty() {
            self.require_family()?;
            let lines: Vec<String> = self
                .misfits
                .iter()
                .map(|m| {
                    format!(
                        "  `{}` has shape {}, expected {}",
                        m.key, m.found, m.expected
                    )
                })
                .collect();
            return Err(LoraError::Shapes {
                file: self.lora.store.path().to_path_buf(),
                count: lines.len(),
                listing: first_lines(&lines),
            });
        }
        if self.unknown.is_empty() {
            return Ok(());
        }
        Err(LoraError::Unaccounted {
            file: self.lora.store.path().to_path_buf(),
            count: self.unknown.len(),
            tensors: self.lora.tensors(),
            listing: listing(&self.unknown, self.table),
        })
    }

    /// The adapter of one module; `None` when its shapes do not fit, which is then noted.
    fn adapter(&mut self, module: &ModuleInfo, group: Group) -> Result<Option<Adapter>, LoraError> {
        match self.build(module, group) {
            Ok(adapter) => Ok(adapter),
            Err(Fault::Error(error)) => Err(error),
            Err(Fault::Misfit {
                key,
                expected,
                found,
            }) => {
                self.misfits.push(Misfit {
                    key,
                    expected,
                    found,
                });
                Ok(None)
            }
        }
    }

    fn build(&mut self, module: &ModuleInfo, group: Group) -> Result<Option<Adapter>, Fault> {
        let padded_from = padding(module, &group.parts);
        let mut shape = module.weight_shape.clone();
        if let (Some(channels), Some(inputs)) = (padded_from, shape.get_mut(1)) {
            self.warnings.push(format!(
                "`{}` has {inputs} input channels, the adapter {channels}: zeros for the others",
                module.path
            ));
            *inputs = channels;
        }
        let config = self
            .lora
            .folder_config
            .as_ref()
            .or_else(|| self.lora.configs.get(&module.component));
        let mut site = Site {
            file: self.lora.store.path(),
            module,
            written: &group.written,
            shape,
            parts: group.parts,
            rule: config.map_or(ScaleRule::Tensors, ScaleRule::Peft),
            warnings: &mut self.warnings,
        };
        let biases = biases(&mut site)?;
        let alone = biases.iter().any(|b| !b.scaled);
        let algorithm =
            recognised(|part| site.parts.contains_key(&part) || (alone && part == Part::DiffBias));
        let built = match algorithm {
            Some(algorithm) => {
                let built = (algorithm.build)(&mut site)?;
                Some(magnitude(&mut site, built)?)
            }
            None => None,
        };
        self.unknown.extend(site.parts.into_values().map(|f| f.key));
        let Some((built, dora)) = built else {
            self.unknown
                .extend(biases.into_iter().map(|b| b.factor.key));
            return Ok(None);
        };
        Ok(Some(Adapter {
            path: module.path.clone(),
            word: built.word,
            dora,
            rank: built.rank,
            scale: built.scale,
            weight_shape: module.weight_shape.clone(),
            padded_from,
            delta: Arc::from(built.delta),
            bias: biases
                .into_iter()
                .map(|b| (b.factor, if b.scaled { built.scale } else { 1.0 }))
                .collect(),
        }))
    }
}

/// A change of a module's bias.
struct Bias {
    factor: Factor,
    /// Whether the scale of the weight holds for it.
    scaled: bool,
}

/// Takes the tensors of the bias away.
fn biases(site: &mut Site<'_>) -> Result<Vec<Bias>, Fault> {
    let rows = [
        (Part::UpBias, true),
        (Part::DiffBias, false),
        (Part::NormBias, false),
    ];
    let mut found = Vec::new();
    for (part, scaled) in rows {
        let Some(factor) = site.take(part) else {
            continue;
        };
        if !site.module.has_bias {
            return Err(Fault::Misfit {
                key: factor.key.clone(),
                expected: format!("nothing: `{}` has no bias", site.module.path),
                found: format!("{:?}", factor.shape),
            });
        }
        site.expect(&factor, &[site.module.outputs()])?;
        found.push(Bias { factor, scaled });
    }
    Ok(found)
}

/// Input channels of an adapter of `conv_in` that was made for a model with fewer of them (inpainting models add some).
fn padding(module: &ModuleInfo, parts: &BTreeMap<Part, Factor>) -> Option<usize> {
    let reads_all = [Part::DoraScale, Part::Magnitude]
        .iter()
        .any(|p| parts.contains_key(p));
    if module.path != "conv_in" || module.component != Component::Unet || reads_all {
        return None;
    }
    let factor = parts.get(&Part::Down).or_else(|| parts.get(&Part::Diff))?;
    let channels = *factor.shape.get(1)?;
    (channels < *module.weight_shape.get(1)?).then_some(channels)
}

/// Refuses empty tensors, NaN and infinity.
fn sound(factor: &Factor) -> Result<(), LoraError> {
    if factor.elements() == 0 {
        return Err(LoraError::TensorShape {
            file: factor.file().to_path_buf(),
            tensor: factor.key.clone(),
            expected: "at least one element".into(),
            found: factor.shape.clone(),
        });
    }
    match factor.values().iter().position(|v| !v.is_finite()) {
        None => Ok(()),
        Some(index) => Err(LoraError::NotFinite {
            file: factor.file().to_path_buf(),
            tensor: factor.key.clone(),
            index,
        }),
    }
}
