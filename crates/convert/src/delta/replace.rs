//! The new bytes of one tensor, and what they lost.

use super::base::{Form, Place, Stored};
use super::make::DeltaTensor;
use crate::loss::Energy;
use crate::place::{self, Prepared};
use crate::source::{Elements, WeightSource};
use crate::{Error, Result};
use gesso_mil::{DType, ValueData};
use std::borrow::Cow;

/// What becomes of a tensor.
pub(super) enum Outcome {
    /// Its bytes stay as they are.
    Same,
    /// Runs of bytes of the weight file that are replaced, ascending.
    Changed {
        records: Vec<Record>,
        tensor: DeltaTensor,
    },
    /// It changes, but its elements (or its palette's table) stand in the program.
    Inline,
}

/// A run of bytes of the weight file and what replaces it.
pub(super) struct Record {
    pub offset: u64,
    pub bytes: Vec<u8>,
}

/// Computes the tensor `key` from `source` in the form that the base has.
///
/// Errors: those of the source, of rounding and of palettizing; [`Error::Elements`] when the base has another number of elements.
pub(super) fn replaced(
    key: &str,
    stored: &Stored<'_>,
    source: &dyn WeightSource,
) -> Result<Outcome> {
    let elements = source.fetch(key)?;
    if elements.len() != stored.count {
        return Err(Error::Elements {
            key: key.into(),
            expected: stored.count,
            found: elements.len(),
        });
    }
    let exact = elements.to_f32(key)?;
    let borrowed = || Elements::F32(Cow::Borrowed(&exact));
    match &stored.form {
        Form::Dense(place) => {
            let prepared = place::rounded(key, borrowed(), stored.dtype, None)?;
            let energy = Energy::of_prepared(key, &exact, &prepared, stored.dtype, None)?;
            let Prepared::Dense(bytes) = prepared else {
                return Ok(Outcome::Same);
            };
            let Some(record) = record(place, bytes.into_owned(), stored.dtype) else {
                return Ok(Outcome::Inline);
            };
            let Some(record) = record.changed(key)? else {
                return Ok(Outcome::Same);
            };
            let tensor = DeltaTensor {
                key: key.into(),
                bits: stored.dtype.bits() as u8,
                energy,
                palette_snr_db: None,
            };
            Ok(Outcome::Changed {
                records: vec![record],
                tensor,
            })
        }
        Form::Palette { bits, indices, lut } => {
            let prepared = place::rounded(key, borrowed(), stored.dtype, Some(*bits))?;
            let energy = Energy::of_prepared(key, &exact, &prepared, stored.dtype, Some(*bits))?;
            let Prepared::Palette(palette) = prepared else {
                return Ok(Outcome::Same);
            };
            let table = record(lut, place::lut_bytes(&palette, stored.dtype), stored.dtype);
            let tensor = DeltaTensor {
                key: key.into(),
                bits: *bits,
                energy,
                palette_snr_db: palette.snr_db,
            };
            let (Some(indices), Some(table)) =
                (record(indices, palette.packed, DType::UInt8), table)
            else {
                return Ok(Outcome::Inline);
            };
            let mut records: Vec<Record> = [indices.changed(key)?, table.changed(key)?]
                .into_iter()
                .flatten()
                .collect();
            records.sort_by_key(|record| record.offset);
            Ok(if records.is_empty() {
                Outcome::Same
            } else {
                Outcome::Changed { records, tensor }
            })
        }
    }
}

/// New bytes against those of the base.
struct Compared<'a> {
    /// Where the base's bytes are; `None` for the same bytes in the program.
    place: Option<(u64, &'a [u8])>,
    bytes: Vec<u8>,
}

/// `bytes` for `place`; `None` when the program itself holds other ones.
fn record<'a>(place: &Place<'a>, bytes: Vec<u8>, dtype: DType) -> Option<Compared<'a>> {
    match place {
        Place::Record(old) => Some(Compared {
            place: Some((old.data_offset, old.data)),
            bytes,
        }),
        Place::Inline(value) => {
            let ValueData::Tensor(literal) = &value.data else {
                return None;
            };
            let is_float = matches!(dtype, DType::Fp16 | DType::Fp32);
            (is_float && place::literal_bytes(literal) == bytes)
                .then_some(Compared { place: None, bytes })
        }
    }
}

impl Compared<'_> {
    /// The record when it differs from the base's.
    ///
    /// Errors: [`Error::Elements`] when the base has another number of bytes.
    fn changed(self, key: &str) -> Result<Option<Record>> {
        let Some((offset, old)) = self.place else {
            return Ok(None);
        };
        if old.len() != self.bytes.len() {
            return Err(Error::Elements {
                key: format!("{key} (bytes in the weight file)"),
                expected: old.len(),
                found: self.bytes.len(),
            });
        }
        Ok((old != self.bytes).then_some(Record {
            offset,
            bytes: self.bytes,
        }))
    }
}
