//! The tensors of one adapter file.

use super::error::LoraError;
use half::{bf16, f16};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A safetensors file in memory: `[u64 header length][JSON header][data]`, little endian.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) path: PathBuf,
    bytes: Vec<u8>,
    entries: BTreeMap<String, Entry>,
    pub(crate) metadata: BTreeMap<String, String>,
    /// Bytes behind the last tensor.
    pub(crate) trailing: usize,
}

#[derive(Clone, Debug)]
struct Entry {
    dtype: ElementType,
    shape: Vec<usize>,
    range: Range<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ElementType {
    F64,
    F32,
    F16,
    BF16,
    F8E4M3,
    F8E5M2,
    I64,
    I32,
    I16,
    I8,
    U8,
}

const ELEMENT_TYPES: &[(&str, ElementType, usize)] = &[
    ("F64", ElementType::F64, 8),
    ("F32", ElementType::F32, 4),
    ("F16", ElementType::F16, 2),
    ("BF16", ElementType::BF16, 2),
    ("F8_E4M3", ElementType::F8E4M3, 1),
    ("F8_E5M2", ElementType::F8E5M2, 1),
    ("I64", ElementType::I64, 8),
    ("I32", ElementType::I32, 4),
    ("I16", ElementType::I16, 2),
    ("I8", ElementType::I8, 1),
    ("U8", ElementType::U8, 1),
];

/// Longest header that is believed.
const MAX_HEADER: u64 = 100_000_000;

impl Store {
    /// Reads `path`.
    pub(crate) fn open(path: &Path) -> Result<Arc<Self>, LoraError> {
        let not = |reason: String| LoraError::NotAnAdapter {
            file: path.to_path_buf(),
            reason,
        };
        let bytes = std::fs::read(path).map_err(|e| not(e.to_string()))?;
        if let Some(reason) = other_kind(&bytes) {
            return Err(not(reason));
        }
        let (header, data_start) = header(&bytes).map_err(not)?;
        let object = header
            .as_object()
            .ok_or_else(|| not("its header is not a JSON object".into()))?;
        let mut entries = BTreeMap::new();
        let mut metadata = BTreeMap::new();
        let mut end = 0;
        for (name, value) in object {
            if name == "__metadata__" {
                for (key, text) in value.as_object().into_iter().flatten() {
                    let text = text
                        .as_str()
                        .map_or_else(|| text.to_string(), str::to_string);
                    metadata.insert(key.clone(), text);
                }
                continue;
            }
            let entry = entry(value).map_err(|why| not(format!("tensor `{name}` {why}")))?;
            end = end.max(entry.range.end);
            entries.insert(name.clone(), entry);
        }
        let present = bytes.len() - data_start;
        if end > present {
            return Err(not(format!(
                "the file is cut short: {present} of {end} bytes of tensor data are there\n\nhint: download it again"
            )));
        }
        for entry in entries.values_mut() {
            entry.range = entry.range.start + data_start..entry.range.end + data_start;
        }
        Ok(Arc::new(Self {
            path: path.to_path_buf(),
            bytes,
            entries,
            metadata,
            trailing: present - end,
        }))
    }

    /// Names of all tensors, sorted.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// How many tensors.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Shape of a tensor.
    pub(crate) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.entries.get(name).map(|e| e.shape.as_slice())
    }

    /// Elements of a tensor as f32; empty when there is none of that name.
    pub(crate) fn values(&self, name: &str) -> Vec<f32> {
        let Some(entry) = self.entries.get(name) else {
            return Vec::new();
        };
        let bytes = self.bytes.get(entry.range.clone()).unwrap_or_default();
        widened(entry.dtype, bytes)
    }
}

/// What the file is when it is plainly something else.
fn other_kind(bytes: &[u8]) -> Option<String> {
    if bytes.starts_with(b"version https://git-lfs") {
        return Some("it is a git-lfs pointer, the file itself was not downloaded\n\nhint: run `git lfs pull`".into());
    }
    if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"\x80\x02") {
        return Some("it is a pickle (.pt, .ckpt, .bin), which can run code and is not loaded\n\nhint: convert it to safetensors first".into());
    }
    if bytes.starts_with(b"<!DOCTYPE") || bytes.starts_with(b"<html") {
        return Some("it is a web page, saved in place of the file".into());
    }
    (bytes.len() < 10).then(|| format!("it has only {} bytes", bytes.len()))
}

fn header(bytes: &[u8]) -> Result<(Value, usize), String> {
    let (length, rest) = bytes
        .split_first_chunk::<8>()
        .ok_or_else(|| format!("it has only {} bytes", bytes.len()))?;
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER {
        return Err("it is not a safetensors file (the header length is out of range)".into());
    }
    let length = usize::try_from(length).map_err(|e| e.to_string())?;
    let text = rest.get(..length).ok_or_else(|| {
        format!(
            "the file is cut short: {} of {length} bytes of the header are there\n\nhint: download it again",
            rest.len()
        )
    })?;
    let value = serde_json::from_slice(text)
        .map_err(|e| format!("it is not a safetensors file (header: {e})"))?;
    Ok((value, 8 + length))
}

fn entry(value: &Value) -> Result<Entry, String> {
    let number = |v: &Value| v.as_u64().and_then(|n| usize::try_from(n).ok());
    let word = value
        .get("dtype")
        .and_then(Value::as_str)
        .ok_or("has no dtype")?;
    let &(_, dtype, size) = ELEMENT_TYPES
        .iter()
        .find(|(name, ..)| *name == word)
        .ok_or_else(|| format!("has dtype `{word}`, which adapters do not use"))?;
    let list = |key: &str| -> Option<Vec<usize>> {
        value.get(key)?.as_array()?.iter().map(number).collect()
    };
    let shape = list("shape").ok_or("has no shape")?;
    let offsets = list("data_offsets").ok_or("has no data offsets")?;
    let &[start, end] = offsets.as_slice() else {
        return Err("has other than two data offsets".into());
    };
    let bytes = shape
        .iter()
        .try_fold(size, |n, &d| n.checked_mul(d))
        .ok_or("has a shape that overflows")?;
    match end.checked_sub(start) {
        Some(n) if n == bytes => Ok(Entry {
            dtype,
            shape,
            range: start..end,
        }),
        _ => Err(format!(
            "lies at bytes {start}..{end}, but its shape {shape:?} of {word} needs {bytes} bytes"
        )),
    }
}

fn widened(dtype: ElementType, bytes: &[u8]) -> Vec<f32> {
    fn each<const N: usize>(bytes: &[u8], f: impl Fn([u8; N]) -> f32) -> Vec<f32> {
        let (chunks, _) = bytes.as_chunks::<N>();
        chunks.iter().map(|&c| f(c)).collect()
    }
    match dtype {
        ElementType::F64 => each(bytes, |b| f64::from_le_bytes(b) as f32),
        ElementType::F32 => each(bytes, f32::from_le_bytes),
        ElementType::F16 => each(bytes, |b| f16::from_le_bytes(b).to_f32()),
        ElementType::BF16 => each(bytes, |b| bf16::from_le_bytes(b).to_f32()),
        ElementType::F8E4M3 => each(bytes, |[b]| f8_e4m3(b)),
        ElementType::F8E5M2 => each(bytes, |[b]| f16::from_bits(u16::from(b) << 8).to_f32()),
        ElementType::I64 => each(bytes, |b| i64::from_le_bytes(b) as f32),
        ElementType::I32 => each(bytes, |b| i32::from_le_bytes(b) as f32),
        ElementType::I16 => each(bytes, |b| i16::from_le_bytes(b).into()),
        ElementType::I8 => each(bytes, |b| i8::from_le_bytes(b).into()),
        ElementType::U8 => each(bytes, |[b]| b.into()),
    }
}

/// One byte `s eeee mmm`, bias 7, no infinity, NaN where all exponent and mantissa bits are set.
fn f8_e4m3(byte: u8) -> f32 {
    let sign = if byte & 0x80 == 0 { 1.0 } else { -1.0 };
    let exponent = (byte >> 3) & 0x0f;
    let mantissa = f32::from(byte & 0x07);
    match (exponent, byte & 0x07) {
        (15, 7) => f32::NAN,
        (0, _) => sign * mantissa / 512.0,
        (e, _) => sign * (1.0 + mantissa / 8.0) * (2.0f32).powi(i32::from(e) - 7),
    }
}

/// One tensor of a store, with the per-tensor scale that some fp8 files have beside it.
#[derive(Clone, Debug)]
pub(crate) struct Factor {
    store: Arc<Store>,
    pub(crate) key: String,
    pub(crate) shape: Vec<usize>,
    multiplier: Option<f32>,
}

impl Factor {
    /// The tensor `key`, or `None` when the store has none of that name.
    pub(crate) fn new(store: &Arc<Store>, key: &str, multiplier: Option<f32>) -> Option<Self> {
        Some(Self {
            store: Arc::clone(store),
            key: key.to_string(),
            shape: store.shape(key)?.to_vec(),
            multiplier,
        })
    }

    /// File that it comes from.
    pub(crate) fn file(&self) -> &Path {
        &self.store.path
    }

    /// Elements, row-major.
    pub(crate) fn values(&self) -> Vec<f32> {
        let mut values = self.store.values(&self.key);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f8_values() {
        assert_eq!(f8_e4m3(0x38), 1.0);
        assert_eq!(f8_e4m3(0x7e), 448.0);
        assert_eq!(f8_e4m3(0x81), -1.0 / 512.0);
        assert!(f8_e4m3(0xff).is_nan());
        assert_eq!(widened(ElementType::F8E5M2, &[0x3c, 0xc0]), [1.0, -2.0]);
    }
}
