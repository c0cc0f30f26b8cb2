//! Which tensors a network of a given configuration has: canonical name, name in an LDM file, shape.

mod text;
mod unet;
mod vae;

pub(crate) use text::{text_config, text_rows};
pub(crate) use unet::{unet_config, unet_rows};
pub(crate) use vae::{vae_config, vae_rows};

use std::collections::BTreeMap;

/// Whose words a file uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Naming {
    /// diffusers and transformers.
    Diffusers,
    /// The single files of the original latent diffusion code, without the prefix of the component.
    Ldm,
}

/// What shapes a tensor may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// The one of the row.
    Exact,
    /// [O, I] or [O, I, 1, 1], handed on as stored.
    Pointwise,
    /// [O, I] or [O, I, 1, 1], handed on as [O, I].
    Linear,
}

/// One tensor of a network.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// Canonical name.
    pub(crate) name: String,
    /// Name in an LDM file, without the prefix of the component.
    pub(crate) ldm: String,
    /// Other spellings met in files of either naming.
    pub(crate) aliases: Vec<String>,
    pub(crate) shape: Vec<usize>,
    pub(crate) fit: Fit,
}

impl Row {
    /// All spellings in files of this naming, the usual one first.
    pub(crate) fn spellings(&self, naming: Naming) -> impl Iterator<Item = &str> {
        let usual = match naming {
            Naming::Diffusers => &self.name,
            Naming::Ldm => &self.ldm,
        };
        std::iter::once(usual)
            .chain(&self.aliases)
            .map(String::as_str)
    }
}

/// Rows under construction.
#[derive(Debug, Default)]
struct Rows(Vec<Row>);

impl Rows {
    fn tensor(&mut self, name: String, ldm: String, shape: &[usize]) {
        self.0.push(Row {
            name,
            ldm,
            aliases: Vec::new(),
            shape: shape.to_vec(),
            fit: Fit::Exact,
        });
    }

    /// A `weight` of this shape.
    fn weight(&mut self, name: &str, ldm: &str, shape: &[usize]) {
        self.tensor(format!("{name}.weight"), format!("{ldm}.weight"), shape);
    }

    /// A `weight` of this shape, and a `bias` as long as its first dimension.
    fn layer(&mut self, name: &str, ldm: &str, shape: &[usize]) {
        self.weight(name, ldm, shape);
        let out = shape.first().copied().unwrap_or(1);
        self.tensor(format!("{name}.bias"), format!("{ldm}.bias"), &[out]);
    }

    /// As [`Rows::layer`] with a weight [O, I] of this fit.
    fn projection(&mut self, name: &str, ldm: &str, [o, i]: [usize; 2], fit: Fit) {
        let at = self.0.len();
        self.layer(name, ldm, &[o, i]);
        if let Some(row) = self.0.get_mut(at) {
            row.fit = fit;
        }
    }
}

/// Shapes of a component's tensors by key, for reading a structure off the keys.
pub(crate) struct Shapes<'a>(pub(crate) BTreeMap<&'a str, &'a [usize]>);

impl Shapes<'_> {
    /// Whether some key begins like this.
    fn has(&self, prefix: &str) -> bool {
        self.0
            .range(prefix..)
            .next()
            .is_some_and(|(key, _)| key.starts_with(prefix))
    }

    /// Dimension `axis` of a tensor.
    fn dim(&self, key: &str, axis: usize) -> Option<usize> {
        self.0.get(key)?.get(axis).copied()
    }

    /// Rank of a tensor.
    fn rank(&self, key: &str) -> Option<usize> {
        self.0.get(key).map(|shape| shape.len())
    }

    /// One more than the largest N of all keys `<prefix>N.…`; 0 without any.
    fn count(&self, prefix: &str) -> usize {
        self.0
            .range(prefix..)
            .map_while(|(key, _)| key.strip_prefix(prefix))
            .filter_map(|rest| rest.split('.').next()?.parse::<usize>().ok())
            .filter(|&n| n < LARGEST_COUNT)
            .max()
            .map_or(0, |n| n + 1)
    }
}

/// Blocks or layers that are believed.
const LARGEST_COUNT: usize = 1024;

/// Largest width, vocabulary or channel count that is believed; products of three fit an address.
pub(crate) const LARGEST_SIZE: usize = 1 << 20;

/// Why no configuration could be read off the keys.
#[derive(Debug)]
pub(crate) enum NoConfig {
    /// A tensor that tells a size is missing.
    Lacks(String),
    /// Sizes or counts that no network of the family has.
    Odd {
        field: &'static str,
        expected: String,
        found: String,
    },
}

/// The first of `keys` that is there, at `axis`.
fn first_dim(shapes: &Shapes<'_>, keys: &[String], axis: usize) -> Result<usize, NoConfig> {
    keys.iter()
        .find_map(|key| shapes.dim(key, axis))
        .ok_or_else(|| NoConfig::Lacks(keys.first().cloned().unwrap_or_default()))
}

#[cfg(test)]
mod tests;
