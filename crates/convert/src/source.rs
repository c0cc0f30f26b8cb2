//! Where the elements of a program's weights come from.

use crate::{Error, Result};
use half::f16;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Elements of one tensor in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub enum Elements<'a> {
    /// fp16 as it lies in the source, two little-endian bytes per element.
    F16(Cow<'a, [u8]>),
    /// Widened, merged or computed.
    F32(Cow<'a, [f32]>),
}

impl<'a> Elements<'a> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::F16(b) => b.len() / 2,
            Self::F32(v) => v.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As little-endian fp16, each element rounded once to nearest even. `key` is for the message.
    ///
    /// Errors: [`Error::Unrepresentable`] for a value that is not finite, before or after rounding.
    pub fn to_f16_bytes(self, key: &str) -> Result<Cow<'a, [u8]>> {
        let unrepresentable = |value: f32| Error::Unrepresentable {
            key: key.into(),
            value,
            dtype: "fp16",
        };
        match self {
            Self::F16(bytes) => {
                let damaged = halves(&bytes).find(|h| !h.is_finite());
                damaged.map_or(Ok(bytes), |h| Err(unrepresentable(h.to_f32())))
            }
            Self::F32(values) => {
                let mut bytes = Vec::with_capacity(2 * values.len());
                for &v in values.iter() {
                    let h = f16::from_f32(v);
                    if !h.is_finite() {
                        return Err(unrepresentable(v));
                    }
                    bytes.extend(h.to_le_bytes());
                }
                Ok(Cow::Owned(bytes))
            }
        }
    }

    /// Widened to f32, exactly. `key` is for the message.
    ///
    /// Errors: [`Error::Unrepresentable`] for a value that is not finite.
    pub fn to_f32(self, key: &str) -> Result<Cow<'a, [f32]>> {
        let values = match self {
            Self::F16(bytes) => Cow::Owned(halves(&bytes).map(f16::to_f32).collect()),
            Self::F32(values) => values,
        };
        match values.iter().find(|v| !v.is_finite()) {
            Some(&value) => Err(Error::Unrepresentable {
                key: key.into(),
                value,
                dtype: "fp32",
            }),
            None => Ok(values),
        }
    }
}

/// The numbers in little-endian fp16 bytes.
pub(crate) fn halves(bytes: &[u8]) -> impl Iterator<Item = f16> + '_ {
    bytes
        .as_chunks::<2>()
        .0
        .iter()
        .map(|&pair| f16::from_le_bytes(pair))
}

/// Gives the elements of an External key.
pub trait WeightSource: Sync {
    /// The elements of `key` (`<component>:<canonical tensor name>`).
    ///
    /// Errors: [`Error::MissingTensor`], and those of reading and merging.
    fn fetch(&self, key: &str) -> Result<Elements<'_>>;

    /// Whether LoRAs are merged into these elements, so that what storing them loses is measured.
    fn is_merged(&self, _key: &str) -> bool {
        false
    }
}

/// Tensors that are computed, by External key.
impl WeightSource for BTreeMap<String, Vec<f32>> {
    fn fetch(&self, key: &str) -> Result<Elements<'_>> {
        self.get(key)
            .map(|v| Elements::F32(Cow::Borrowed(v)))
            .ok_or_else(|| Error::MissingTensor { key: key.into() })
    }
}
