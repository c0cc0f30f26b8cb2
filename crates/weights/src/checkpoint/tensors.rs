//! The tensors of one component under canonical names.

use crate::layout::{Fit, Naming, Row};
use crate::{Component, Error, Result, StDType, StFile, TensorRef};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Names that an error lists.
const LISTED: usize = 10;

/// Where a tensor lies.
#[derive(Clone, Debug)]
struct Place {
    file: Arc<StFile>,
    key: String,
    shape: Vec<usize>,
    /// Bytes within the stored tensor, when it is only a part.
    bytes: Option<Range<usize>>,
}

/// The tensors of one component under canonical (diffusers) names.
#[derive(Clone, Debug, Default)]
pub struct Tensors {
    places: BTreeMap<String, Place>,
}

impl Tensors {
    /// A tensor by its canonical name, for instance `down_blocks.0.resnets.0.conv1.weight`.
    pub fn get(&self, name: &str) -> Option<TensorRef<'_>> {
        let (name, place) = self.places.get_key_value(name)?;
        view(name, place)
    }

    /// All tensors, by name.
    pub fn iter(&self) -> impl Iterator<Item = TensorRef<'_>> {
        self.places
            .iter()
            .filter_map(|(name, place)| view(name, place))
    }

    /// Canonical names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    /// The name that a tensor has in its file.
    pub fn source_key(&self, name: &str) -> Option<&str> {
        self.places.get(name).map(|place| place.key.as_str())
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Number of elements of all tensors.
    pub fn parameters(&self) -> usize {
        self.iter().map(|t| t.elements()).sum()
    }
}

fn view<'a>(name: &'a str, place: &'a Place) -> Option<TensorRef<'a>> {
    let stored = place.file.get(&place.key)?;
    let bytes = match &place.bytes {
        Some(range) => stored.bytes.get(range.clone())?,
        None => stored.bytes,
    };
    Some(TensorRef {
        name,
        shape: &place.shape,
        bytes,
        ..stored
    })
}

/// A tensor that nothing has claimed yet.
#[derive(Clone, Debug)]
struct Held {
    file: Arc<StFile>,
    key: String,
    /// Shape and bytes of the part that is meant, where it is not all of it.
    part: Option<(Vec<usize>, Range<usize>)>,
}

impl Held {
    fn tensor(&self) -> Option<TensorRef<'_>> {
        let stored = self.file.get(&self.key)?;
        let Some((shape, range)) = &self.part else {
            return Some(stored);
        };
        Some(TensorRef {
            shape,
            bytes: stored.bytes.get(range.clone())?,
            ..stored
        })
    }
}

/// Tensors that nothing has claimed yet, by the name that rows are compared with.
#[derive(Clone, Debug, Default)]
pub(super) struct Pool(BTreeMap<String, Held>);

impl Pool {
    /// Adds a tensor of `file`; `name` is `key` without a wrapper.
    ///
    /// Errors: `Duplicate`.
    pub(super) fn add(&mut self, file: &Arc<StFile>, name: &str, key: &str) -> Result<()> {
        let held = Held {
            file: Arc::clone(file),
            key: key.to_string(),
            part: None,
        };
        match self.0.insert(name.to_string(), held) {
            None => Ok(()),
            Some(_) => Err(Error::Duplicate {
                file: file.path().into(),
                tensor: name.into(),
            }),
        }
    }

    /// Names, sorted.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// A tensor by name.
    pub(super) fn get(&self, name: &str) -> Option<TensorRef<'_>> {
        self.0.get(name)?.tensor()
    }

    /// Takes a tensor out.
    pub(super) fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// Gives a tensor another name, unless that is taken.
    pub(super) fn rename(&mut self, name: &str, to: &str) {
        if self.0.contains_key(to) {
            return;
        }
        if let Some(held) = self.0.remove(name) {
            self.0.insert(to.to_string(), held);
        }
    }

    /// Replaces a tensor by equal parts of its first dimension under these names. One whose first dimension does not divide so, or
    /// a name that is taken, leaves it as it is.
    pub(super) fn split_rows<const N: usize>(&mut self, name: &str, parts: &[String; N]) {
        let Some(tensor) = self.get(name) else { return };
        let [rows, rest @ ..] = tensor.shape else {
            return;
        };
        let taken = parts.iter().any(|p| self.0.contains_key(p));
        if taken || !rows.is_multiple_of(N) || !tensor.bytes.len().is_multiple_of(N) {
            return;
        }
        let shape = [&[rows / N], rest].concat();
        let size = tensor.bytes.len() / N;
        let Some(whole) = self.0.remove(name) else {
            return;
        };
        for (i, part) in parts.iter().enumerate() {
            let held = Held {
                part: Some((shape.clone(), i * size..(i + 1) * size)),
                ..whole.clone()
            };
            self.0.insert(part.clone(), held);
        }
    }

    /// Shapes by name.
    pub(super) fn shapes(&self) -> BTreeMap<&str, &[usize]> {
        self.0
            .iter()
            .filter_map(|(name, held)| Some((name.as_str(), held.tensor()?.shape)))
            .collect()
    }

    /// All tensors whose names begin with `prefix`, without it; they leave this pool.
    pub(super) fn split_prefix(&mut self, prefix: &str) -> Pool {
        let mut taken = BTreeMap::new();
        self.0
            .retain(|name, place| match name.strip_prefix(prefix) {
                Some(rest) => {
                    taken.insert(rest.to_string(), place.clone());
                    false
                }
                None => true,
            });
        Pool(taken)
    }

    /// Takes every tensor that `rows` name.
    ///
    /// Errors: `Missing` with all that are not there; `Shape`; `DType` for one that holds no floats.
    pub(super) fn claim(
        &mut self,
        path: &Path,
        component: Component,
        naming: Naming,
        rows: &[Row],
    ) -> Result<Tensors> {
        let mut tensors = Tensors::default();
        let mut missing = Vec::new();
        for row in rows {
            let found = row.spellings(naming).find_map(|s| self.0.remove(s));
            let Some(held) = found else {
                missing.push(row.name.clone());
                continue;
            };
            let Some(stored) = held.tensor() else {
                missing.push(row.name.clone());
                continue;
            };
            let shape = fitted(row, stored.shape).ok_or_else(|| Error::Shape {
                component,
                tensor: row.name.clone(),
                expected: expectation(row),
                found: stored.shape.to_vec(),
            })?;
            floats(held.file.path(), stored)?;
            let place = Place {
                bytes: held.part.map(|(_, range)| range),
                file: held.file,
                key: held.key,
                shape,
            };
            tensors.places.insert(row.name.clone(), place);
        }
        if missing.is_empty() {
            return Ok(tensors);
        }
        Err(missing_error(path, component, &missing))
    }
}

/// An [`Error::Missing`] that lists the first ten.
pub(super) fn missing_error(path: &Path, component: Component, missing: &[String]) -> Error {
    Error::Missing {
        path: path.into(),
        component,
        count: missing.len(),
        names: listed(missing.iter().map(String::as_str)),
    }
}

/// The first ten names in backticks.
pub(super) fn listed<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    names.take(LISTED).map(|n| format!("`{n}`")).collect()
}

fn fitted(row: &Row, stored: &[usize]) -> Option<Vec<usize>> {
    let exact = stored == row.shape;
    let as_conv = matches!(stored, [rest @ .., 1, 1] if rest == row.shape);
    match row.fit {
        Fit::Exact => exact.then(|| stored.to_vec()),
        Fit::Pointwise => (exact || as_conv).then(|| stored.to_vec()),
        Fit::Linear => (exact || as_conv).then(|| row.shape.clone()),
    }
}

fn expectation(row: &Row) -> String {
    match (row.fit, row.shape.as_slice()) {
        (Fit::Pointwise | Fit::Linear, [o, i]) => format!("[{o}, {i}] or [{o}, {i}, 1, 1]"),
        (_, shape) => format!("{shape:?}"),
    }
}

fn floats(file: &Path, tensor: TensorRef<'_>) -> Result<()> {
    if tensor.dtype.is_float() {
        return Ok(());
    }
    let all = [
        StDType::F64,
        StDType::F32,
        StDType::F16,
        StDType::BF16,
        StDType::F8E4M3,
        StDType::F8E5M2,
    ];
    Err(Error::DType {
        file: file.into(),
        tensor: tensor.name.into(),
        found: tensor.dtype.to_string(),
        expected: all.map(StDType::as_str).join(", "),
    })
}
