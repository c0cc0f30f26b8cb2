//! An adapter file matched to a model.

use super::accounting::Ignored;
use super::adapter::Adapter;
use super::family::Family;
use super::format::Format;
use super::release::Release;
use crate::Component;
use std::collections::BTreeMap;

/// An adapter file matched to a model: every tensor is applied or listed as ignored.
#[derive(Clone, Debug)]
pub struct ResolvedLora {
    /// What the file says about itself.
    pub release: Release,
    /// Kind of file.
    pub format: Format,
    /// Family that it was made for, where the shapes tell.
    pub family: Option<Family>,
    /// Adapted modules by component and canonical path.
    pub modules: BTreeMap<(Component, String), Adapter>,
    /// Number of tensors in the file.
    pub tensors: usize,
    /// Number of tensors that are applied (the others are in `ignored`).
    pub applied: usize,
    /// Tensors that were left out, with the reason.
    pub ignored: Vec<Ignored>,
    /// What a user should know: alphas of 0, padded channels, trailing bytes.
    pub warnings: Vec<String>,
}

impl ResolvedLora {
    /// Name of the adapter.
    pub fn name(&self) -> &str {
        &self.release.name
    }

    /// The adapter of one module.
    pub fn adapter(&self, component: Component, path: &str) -> Option<&Adapter> {
        self.modules.get(&(component, path.to_string()))
    }

    /// Whether any module of `component` is adapted.
    pub fn touches(&self, component: Component) -> bool {
        self.modules.keys().any(|(c, _)| *c == component)
    }

    /// Modules per algorithm; those with a DoRA magnitude count as `dora(<algorithm>)`.
    pub fn algorithms(&self) -> BTreeMap<String, usize> {
        self.counted(|a| {
            Some(if a.is_dora() {
                format!("dora({})", a.algorithm())
            } else {
                a.algorithm().to_string()
            })
        })
    }

    /// Modules per rank.
    pub fn ranks(&self) -> BTreeMap<usize, usize> {
        self.counted(Adapter::rank)
    }

    /// Modules per scale, as text that reads back to the same f32.
    pub fn scales(&self) -> BTreeMap<String, usize> {
        self.counted(|a| Some(a.scale().to_string()))
    }

    fn counted<K: Ord>(&self, key: impl Fn(&Adapter) -> Option<K>) -> BTreeMap<K, usize> {
        let mut counts = BTreeMap::new();
        for key in self.modules.values().filter_map(key) {
            *counts.entry(key).or_default() += 1;
        }
        counts
    }
}
