//! One tensor of an adapter file.

use crate::StFile;
use std::path::Path;
use std::sync::Arc;

/// One tensor of an adapter file, widened when it is read, with the per-tensor scale that some fp8 files have beside it.
#[derive(Clone, Debug)]
pub(crate) struct Factor {
    file: Arc<StFile>,
    pub(crate) key: String,
    pub(crate) shape: Vec<usize>,
    multiplier: Option<f32>,
}

impl Factor {
    /// The tensor `key`, or `None` when the file has none of that name.
    pub(crate) fn new(file: &Arc<StFile>, key: &str, multiplier: Option<f32>) -> Option<Self> {
        Some(Self {
            file: Arc::clone(file),
            key: key.to_string(),
            shape: file.get(key)?.shape.to_vec(),
            multiplier,
        })
    }

    /// File that it comes from.
    pub(crate) fn file(&self) -> &Path {
        self.file.path()
    }

    /// Elements, row-major.
    pub(crate) fn values(&self) -> Vec<f32> {
        let Some(tensor) = self.file.get(&self.key) else {
            return Vec::new();
        };
        let mut values = tensor.to_f32().into_owned();
        if let Some(m) = self.multiplier {
            values.iter_mut().for_each(|v| *v *= m);
        }
        values
    }

    /// How many elements.
    pub(crate) fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Size of the first axis, 1 for a scalar.
    pub(crate) fn first(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Elements per entry of the first axis.
    pub(crate) fn rest(&self) -> usize {
        self.shape.iter().skip(1).product()
    }

    /// Its only element, when it has just one.
    pub(crate) fn scalar(&self) -> Option<f32> {
        match self.elements() {
            1 => self.values().first().copied(),
            _ => None,
        }
    }
}
