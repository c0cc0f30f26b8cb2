//! The header: JSON with every tensor's dtype, shape and place.
//!
//! ```text
//! 0      u64, little endian: length n of the header
//! 8      n bytes of JSON: { "__metadata__": {..}, "<name>": {"dtype", "shape", "data_offsets": [start, end]}, .. }
//! 8 + n  data; offsets count from here
//! ```

use super::{Entry, StDType, StNote};
use crate::{Error, Result};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// Longest header that is believed, in bytes; the limit of the `safetensors` crate.
pub(super) const MAX_HEADER: u64 = 100_000_000;

/// What a header says.
pub(super) struct Header {
    pub(super) entries: BTreeMap<String, Entry>,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) notes: Vec<StNote>,
    /// Offset of the data in the file.
    pub(super) data_start: usize,
}

/// The members of a JSON object in file order, doubles kept.
struct Members(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// Reads and checks the header of a whole file.
pub(super) fn parse(file: &Path, bytes: &[u8]) -> Result<Header> {
    let (text, data) = split(file, bytes)?;
    let Members(members) = serde_json::from_slice(text).map_err(|e| Error::Header {
        file: file.into(),
        reason: e.to_string(),
    })?;
    let mut entries = BTreeMap::new();
    let mut metadata = BTreeMap::new();
    for (name, value) in members {
        if name == "__metadata__" {
            metadata.extend(strings(&value));
            continue;
        }
        let entry = entry(file, &name, &value, data.len())?;
        if entries.contains_key(&name) {
            return Err(Error::Duplicate {
                file: file.into(),
                tensor: name,
            });
        }
        entries.insert(name, entry);
    }
    let notes = layout(file, &entries, data.len())?;
    Ok(Header {
        entries,
        metadata,
        notes,
        data_start: bytes.len() - data.len(),
    })
}

/// The JSON and the data.
fn split<'a>(file: &Path, bytes: &'a [u8]) -> Result<(&'a [u8], &'a [u8])> {
    let (length, rest) = bytes
        .split_first_chunk::<8>()
        .ok_or_else(|| Error::TooShort {
            file: file.into(),
            found: bytes.len(),
        })?;
    let length = u64::from_le_bytes(*length);
    let available = MAX_HEADER.min(rest.len() as u64);
    usize::try_from(length)
        .ok()
        .filter(|_| length <= available)
        .and_then(|n| rest.split_at_checked(n))
        .ok_or_else(|| Error::HeaderLength {
            file: file.into(),
            length,
            available,
        })
}

fn strings(value: &Value) -> impl Iterator<Item = (String, String)> + '_ {
    value.as_object().into_iter().flatten().map(|(key, value)| {
        let text = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_string);
        (key.clone(), text)
    })
}

fn entry(file: &Path, name: &str, value: &Value, available: usize) -> Result<Entry> {
    let wrong = |reason: &str| Error::Entry {
        file: file.into(),
        tensor: name.into(),
        reason: reason.into(),
    };
    let list = |key: &str| -> Option<Vec<usize>> {
        let items = value.get(key)?.as_array()?;
        items
            .iter()
            .map(|v| v.as_u64().and_then(|n| usize::try_from(n).ok()))
            .collect()
    };
    let word = value.get("dtype").and_then(Value::as_str);
    let word = word.ok_or_else(|| wrong("has no dtype"))?;
    let dtype = StDType::from_name(word).ok_or_else(|| Error::DType {
        file: file.into(),
        tensor: name.into(),
        found: word.into(),
        expected: StDType::all_names(),
    })?;
    let shape = list("shape").ok_or_else(|| wrong("has no shape of whole numbers"))?;
    let offsets = list("data_offsets");
    let Some(&[start, end]) = offsets.as_deref() else {
        return Err(wrong("has no pair of data offsets"));
    };
    let Some(found) = end.checked_sub(start) else {
        return Err(Error::Offsets {
            file: file.into(),
            tensor: name.into(),
            start,
            end,
        });
    };
    let expected = shape
        .iter()
        .try_fold(dtype.size(), |n, &d| n.checked_mul(d));
    if expected != Some(found) {
        return Err(Error::ByteCount {
            file: file.into(),
            tensor: name.into(),
            dtype: dtype.as_str(),
            expected: expected.map_or("more than an address can count".into(), |n| n.to_string()),
            shape,
            found,
        });
    }
    if end > available {
        return Err(Error::Truncated {
            file: file.into(),
            tensor: name.into(),
            end,
            found: available,
        });
    }
    Ok(Entry {
        dtype,
        shape,
        range: start..end,
    })
}

/// Refuses tensors that share bytes; notes bytes that no tensor has.
fn layout(file: &Path, entries: &BTreeMap<String, Entry>, available: usize) -> Result<Vec<StNote>> {
    let mut order: Vec<_> = entries
        .iter()
        .filter(|(_, e)| !e.range.is_empty())
        .collect();
    order.sort_by_key(|(_, e)| (e.range.start, e.range.end));
    let mut notes = Vec::new();
    let (mut at, mut previous) = (0, "");
    for (name, Entry { range, .. }) in order {
        if range.start < at {
            return Err(Error::Overlap {
                file: file.into(),
                first: previous.into(),
                second: name.clone(),
                start: range.start,
            });
        }
        if range.start > at {
            notes.push(StNote::Hole {
                at,
                bytes: range.start - at,
            });
        }
        (at, previous) = (range.end, name);
    }
    if at < available {
        notes.push(StNote::Trailing {
            at,
            bytes: available - at,
        });
    }
    Ok(notes)
}
