//! Writing: bytes depend on the tensors and the metadata only.

use super::{StDType, TensorRef};
use crate::{Error, Result};
use serde_json::{Map, Value, json};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Writes a file tensor by tensor, so that none need be in memory as a whole.
///
/// Order: wider element types first (so that every tensor is aligned), then by name; the header has the same order.
#[derive(Debug)]
pub struct StWriter {
    path: PathBuf,
    out: BufWriter<File>,
    /// Name and byte count of the tensors to come, the next one last.
    pending: Vec<(String, u64)>,
    /// Bytes of the next tensor written so far.
    written: u64,
}

impl StWriter {
    /// Creates (or empties) `path` and writes the header for tensors of these names, types and shapes.
    ///
    /// Errors: `Io`, `Duplicate`, `ByteCount` for a shape whose size overflows.
    pub fn create(
        path: impl AsRef<Path>,
        metadata: &BTreeMap<String, String>,
        tensors: impl IntoIterator<Item = (String, StDType, Vec<usize>)>,
    ) -> Result<Self> {
        let path = path.as_ref();
        let mut tensors: Vec<_> = tensors.into_iter().collect();
        tensors.sort_by(|a, b| (Reverse(a.1.size()), &a.0).cmp(&(Reverse(b.1.size()), &b.0)));
        let mut names = BTreeSet::new();
        let mut header = Vec::from(b"{");
        if !metadata.is_empty() {
            let object: Map<_, _> = metadata
                .iter()
                .map(|(k, v)| (k.clone(), Value::from(v.as_str())))
                .collect();
            push_member(&mut header, "__metadata__", &Value::Object(object));
        }
        let mut pending = Vec::new();
        let mut at = 0u64;
        for (name, dtype, shape) in tensors {
            let size = shape
                .iter()
                .try_fold(dtype.size() as u64, |n, &d| n.checked_mul(d as u64));
            let Some((size, end)) = size.and_then(|n| Some((n, at.checked_add(n)?))) else {
                return Err(Error::ByteCount {
                    file: path.into(),
                    tensor: name,
                    dtype: dtype.as_str(),
                    shape,
                    expected: "more than an address can count".into(),
                    found: 0,
                });
            };
            if !names.insert(name.clone()) {
                return Err(Error::Duplicate {
                    file: path.into(),
                    tensor: name,
                });
            }
            let entry = format!(
                r#"{{"dtype":"{dtype}","shape":{},"data_offsets":[{at},{end}]}}"#,
                json!(shape)
            );
            push_raw(&mut header, &name, &entry);
            pending.push((name, size));
            at = end;
        }
        header.push(b'}');
        header.resize(header.len().next_multiple_of(8), b' ');
        pending.reverse();
        let file = File::create(path).map_err(|e| Error::io("create", path, e))?;
        let mut writer = Self {
            path: path.into(),
            out: BufWriter::with_capacity(1 << 20, file),
            pending,
            written: 0,
        };
        writer.put(&(header.len() as u64).to_le_bytes())?;
        writer.put(&header)?;
        writer.skip_empty();
        Ok(writer)
    }

    /// Name of the tensor that the next bytes belong to.
    pub fn next_name(&self) -> Option<&str> {
        self.pending.last().map(|(name, _)| name.as_str())
    }

    /// Writes bytes of the next tensor; several calls may share one tensor, one call may not span two.
    ///
    /// Errors: `Io`; `Written` for more bytes than the tensor has.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let (tensor, expected) = self
            .pending
            .last()
            .cloned()
            .unwrap_or_else(|| ("(none)".into(), 0));
        let found = self.written + bytes.len() as u64;
        if found > expected {
            return Err(Error::Written {
                file: self.path.clone(),
                tensor,
                expected,
                found,
            });
        }
        self.put(bytes)?;
        self.written = found;
        if found == expected {
            self.pending.pop();
            self.written = 0;
            self.skip_empty();
        }
        Ok(())
    }

    /// Ends the file.
    ///
    /// Errors: `Io`; `Written` when a tensor lacks bytes.
    pub fn finish(mut self) -> Result<()> {
        if let Some((tensor, expected)) = self.pending.pop() {
            return Err(Error::Written {
                file: self.path,
                tensor,
                expected,
                found: self.written,
            });
        }
        self.out
            .flush()
            .map_err(|e| Error::io("write", &self.path, e))
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out
            .write_all(bytes)
            .map_err(|e| Error::io("write", &self.path, e))
    }

    fn skip_empty(&mut self) {
        while self.pending.last().is_some_and(|(_, size)| *size == 0) {
            self.pending.pop();
        }
    }
}

/// Writes all `tensors` to `path`, in the order of [`StWriter`].
///
/// Errors: `Io`, `Duplicate`, `Written` when a tensor's bytes do not fit its shape.
pub fn write_safetensors(
    path: impl AsRef<Path>,
    metadata: &BTreeMap<String, String>,
    tensors: &[TensorRef<'_>],
) -> Result<()> {
    let path = path.as_ref();
    let rows = tensors
        .iter()
        .map(|t| (t.name.to_string(), t.dtype, t.shape.to_vec()));
    let mut writer = StWriter::create(path, metadata, rows)?;
    let mut order: Vec<_> = tensors.iter().collect();
    order.sort_by_key(|t| (Reverse(t.dtype.size()), t.name));
    for tensor in order {
        let expected = tensor
            .shape
            .iter()
            .fold(tensor.dtype.size(), |n, &d| n.saturating_mul(d));
        if tensor.bytes.len() != expected {
            return Err(Error::Written {
                file: path.into(),
                tensor: tensor.name.into(),
                expected: expected as u64,
                found: tensor.bytes.len() as u64,
            });
        }
        if expected > 0 {
            writer.write(tensor.bytes)?;
        }
    }
    writer.finish()
}

fn push_member(header: &mut Vec<u8>, name: &str, value: &Value) {
    push_raw(header, name, &value.to_string());
}

fn push_raw(header: &mut Vec<u8>, name: &str, json: &str) {
    if header.len() > 1 {
        header.push(b',');
    }
    header.extend(Value::from(name).to_string().into_bytes());
    header.push(b':');
    header.extend(json.as_bytes());
}
