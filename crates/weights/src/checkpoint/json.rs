//! Fields of a configuration file, with its name in every message.

use crate::layout::LARGEST_SIZE;
use crate::{Error, Result};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// The text of a small file.
///
/// Errors: `Io`.
pub(super) fn text(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).map_err(|e| Error::io("read", file, e))
}

/// The object in a file.
///
/// Errors: `Io`, `ConfigFile`.
pub(super) fn object(file: &Path) -> Result<Map<String, Value>> {
    serde_json::from_str(&text(file)?).map_err(|e| Error::ConfigFile {
        file: file.into(),
        reason: e.to_string(),
    })
}

/// A configuration file.
pub(super) struct Fields {
    file: PathBuf,
    object: Map<String, Value>,
}

impl Fields {
    /// Reads `file`.
    ///
    /// Errors: `Io`, `ConfigFile`.
    pub(super) fn open(file: &Path) -> Result<Self> {
        Ok(Self {
            file: file.into(),
            object: object(file)?,
        })
    }

    /// A field that is there and not null.
    pub(super) fn value(&self, field: &str) -> Option<&Value> {
        self.object.get(field).filter(|v| !v.is_null())
    }

    fn wrong(&self, field: &str, expected: &str) -> Error {
        let found = self.object.get(field).unwrap_or(&Value::Null);
        Error::ConfigFile {
            file: self.file.clone(),
            reason: format!("`{field}` is {found}, expected {expected}"),
        }
    }

    /// A size from 1 to 2^20.
    pub(super) fn size(&self, field: &str, default: Option<usize>) -> Result<usize> {
        match self.value(field) {
            None => default.ok_or_else(|| self.wrong(field, "a size")),
            Some(v) => size_of(v).ok_or_else(|| self.wrong(field, "a size from 1 to 2^20")),
        }
    }

    /// `n` sizes: a list of that many, or one for all.
    pub(super) fn sizes(
        &self,
        field: &str,
        n: usize,
        default: Option<usize>,
    ) -> Result<Vec<usize>> {
        match self.value(field).and_then(Value::as_array) {
            None => Ok(vec![self.size(field, default)?; n]),
            Some(list) => {
                let sizes: Option<Vec<_>> = list.iter().map(size_of).collect();
                sizes
                    .filter(|s| s.len() == n)
                    .ok_or_else(|| self.wrong(field, &format!("{n} sizes from 1 to 2^20")))
            }
        }
    }

    /// A list of 1 to 8 sizes.
    pub(super) fn levels(&self, field: &str) -> Result<Vec<usize>> {
        let list = self.value(field).and_then(Value::as_array);
        let n = list.map_or(0, Vec::len);
        if !(1..=8).contains(&n) {
            return Err(self.wrong(field, "a list of 1 to 8 sizes"));
        }
        self.sizes(field, n, None)
    }

    /// A list of words.
    pub(super) fn words(&self, field: &str) -> Result<Vec<&str>> {
        self.value(field)
            .and_then(Value::as_array)
            .and_then(|list| list.iter().map(Value::as_str).collect())
            .ok_or_else(|| self.wrong(field, "a list of words"))
    }

    /// A number.
    pub(super) fn number(&self, field: &str, default: f64) -> Result<f64> {
        match self.value(field) {
            None => Ok(default),
            Some(v) => v.as_f64().ok_or_else(|| self.wrong(field, "a number")),
        }
    }

    /// A flag.
    pub(super) fn flag(&self, field: &str, default: bool) -> Result<bool> {
        match self.value(field) {
            None => Ok(default),
            Some(v) => v
                .as_bool()
                .ok_or_else(|| self.wrong(field, "true or false")),
        }
    }
}

fn size_of(value: &Value) -> Option<usize> {
    let n = usize::try_from(value.as_u64()?).ok()?;
    (1..=LARGEST_SIZE).contains(&n).then_some(n)
}
