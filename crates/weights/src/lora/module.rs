//! The modules of a target model and every name that an adapter file may give them.

use super::dialect::{DIALECTS, ldm_path};
use crate::{Checkpoint, Component};
use std::collections::{BTreeMap, BTreeSet};

/// What a module computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ModuleKind {
    /// `weight [O, I]`.
    Linear,
    /// `weight [O, I, kH, kW]`.
    Conv,
    /// LayerNorm or GroupNorm, `weight [C]`.
    Norm,
    /// `weight [entries, hidden]`.
    Embedding,
}

/// One module of the target model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleInfo {
    /// Where it lives.
    pub component: Component,
    /// Canonical (diffusers) path, for instance `down_blocks.0.attentions.0.proj_in`.
    pub path: String,
    /// Shape of its weight.
    pub weight_shape: Vec<usize>,
    /// Whether it has a bias (of `weight_shape[0]` elements).
    pub has_bias: bool,
    /// What it computes.
    pub kind: ModuleKind,
}

impl ModuleInfo {
    /// Output channels, the length of a bias.
    pub fn outputs(&self) -> usize {
        self.weight_shape.first().copied().unwrap_or(0)
    }
}

/// The modules of a model, with a dictionary of all their spellings.
///
/// The dictionary is built from the module list alone; a name of a file is looked up in it, never taken apart. Dots and
/// underscores compare equal, since several tools wrote half converted names.
#[derive(Clone, Debug, Default)]
pub struct ModuleTable {
    modules: Vec<ModuleInfo>,
    index: BTreeMap<(Component, String), usize>,
    spellings: BTreeMap<String, Vec<Spelling>>,
}

#[derive(Clone, Debug)]
struct Spelling {
    module: usize,
    written: String,
}

impl ModuleTable {
    /// The table of `modules`; later entries of the same component and path are dropped.
    pub fn new(modules: impl IntoIterator<Item = ModuleInfo>) -> Self {
        let mut table = Self::default();
        for module in modules {
            let key = (module.component, module.path.clone());
            if !table.index.contains_key(&key) {
                table.index.insert(key, table.modules.len());
                table.modules.push(module);
            }
        }
        let unet: BTreeSet<&str> = table
            .modules
            .iter()
            .filter(|m| m.component == Component::Unet)
            .map(|m| m.path.as_str())
            .collect();
        let mut spellings: BTreeMap<String, Vec<Spelling>> = BTreeMap::new();
        for dialect in DIALECTS {
            for (module, info) in table.modules.iter().enumerate() {
                let ldm = match info.component {
                    Component::Unet => ldm_path(&unet, &info.path),
                    _ => None,
                };
                for written in dialect(info, ldm.as_deref()) {
                    let entries = spellings.entry(folded(&written)).or_default();
                    if entries.iter().all(|s| s.module != module) {
                        entries.push(Spelling { module, written });
                    }
                }
            }
        }
        table.spellings = spellings;
        table
    }

    /// The table of all `<path>.weight` tensors (with `<path>.bias` beside them) of a model, given as component, canonical
    /// name and shape. Tensors of other names, and the VAE, are not modules that an adapter can touch.
    pub fn from_tensors<'a>(
        tensors: impl IntoIterator<Item = (Component, &'a str, &'a [usize])>,
    ) -> Self {
        let mut shapes: BTreeMap<(Component, String), Vec<usize>> = BTreeMap::new();
        let mut biases: BTreeSet<(Component, String)> = BTreeSet::new();
        for (component, name, shape) in tensors {
            if component == Component::Vae {
                continue;
            }
            if let Some(path) = name.strip_suffix(".weight") {
                shapes.insert((component, path.to_string()), shape.to_vec());
            } else if let Some(path) = name.strip_suffix(".bias") {
                biases.insert((component, path.to_string()));
            }
        }
        Self::new(shapes.into_iter().filter_map(|(key, weight_shape)| {
            let kind = match weight_shape.len() {
                1 => ModuleKind::Norm,
                2 if key.1.ends_with("_embedding") => ModuleKind::Embedding,
                2 => ModuleKind::Linear,
                4 => ModuleKind::Conv,
                _ => return None,
            };
            let has_bias = biases.contains(&key);
            let (component, path) = key;
            Some(ModuleInfo {
                component,
                path,
                weight_shape,
                has_bias,
                kind,
            })
        }))
    }

    /// The table of a checkpoint's UNet and text encoders.
    pub fn of_checkpoint(checkpoint: &Checkpoint) -> Self {
        Self::from_tensors(checkpoint.components().flat_map(|(component, tensors)| {
            tensors.iter().map(move |t| (component, t.name, t.shape))
        }))
    }

    /// All modules.
    pub fn modules(&self) -> &[ModuleInfo] {
        &self.modules
    }

    /// One module by its canonical path.
    pub fn module(&self, component: Component, path: &str) -> Option<&ModuleInfo> {
        let index = self.index.get(&(component, path.to_string()))?;
        self.modules.get(*index)
    }

    /// The module that `name` spells, in any dialect. A name that two components share goes to `preferred` when that is
    /// one of them, else to the first in the order UNet, first and second text encoder.
    pub fn find(&self, name: &str, preferred: Option<Component>) -> Option<&ModuleInfo> {
        let entries = self.spellings.get(&folded(name))?;
        let modules = || entries.iter().filter_map(|s| self.modules.get(s.module));
        modules()
            .find(|m| Some(m.component) == preferred)
            .or_else(|| modules().min_by_key(|m| m.component))
    }

    /// Every written form, for suggestions.
    pub(crate) fn written(&self) -> impl Iterator<Item = (&str, &str)> {
        self.spellings
            .iter()
            .flat_map(|(f, entries)| entries.iter().map(|s| (f.as_str(), s.written.as_str())))
    }
}

/// `name` with dots and underscores made equal, for comparison only.
pub(crate) fn folded(name: &str) -> String {
    name.replace('.', "_")
}
