//! Reading a weight file.

use super::{BlobDType, SENTINEL, UNIT, VERSION};
use crate::error::{Error, Result};

/// A weight file in memory.
#[derive(Clone, Debug)]
pub struct BlobFile<'a> {
    bytes: &'a [u8],
    name: String,
    count: u32,
}

/// One record of a weight file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobRecord<'a> {
    /// Element type.
    pub dtype: BlobDType,
    /// The elements in row-major order, little-endian, types below 8 bits packed least significant bit first.
    pub data: &'a [u8],
    /// Bits at the end of `data` that hold no element, 0 to 7.
    pub unused_bits: u8,
    /// Offset of the record in the file, in bytes: what a program refers to.
    pub offset: u64,
    /// Offset of the data in the file, in bytes.
    pub data_offset: u64,
}

impl BlobRecord<'_> {
    /// Number of elements.
    pub fn elements(&self) -> u64 {
        let bits = self.data.len() as u64 * 8 - u64::from(self.unused_bits);
        bits / u64::from(self.dtype.bits())
    }
}

impl<'a> BlobFile<'a> {
    /// Checks the header of a file. `name` is for messages.
    ///
    /// Errors: `BlobHeader`, `BlobVersion`.
    pub fn new(bytes: &'a [u8], name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        let (Some(count), Some(version), true) = (
            u32_at(bytes, 0),
            u32_at(bytes, 4),
            bytes.len() as u64 >= UNIT,
        ) else {
            return Err(Error::BlobHeader {
                file: name,
                found: bytes.len() as u64,
            });
        };
        if version != VERSION {
            return Err(Error::BlobVersion {
                file: name,
                found: version,
            });
        }
        Ok(Self { bytes, name, count })
    }

    /// Number of records that the header states.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The record at an offset.
    ///
    /// Errors: `BlobAlignment`, `BlobBounds`, `BlobSentinel`, `BlobCode`, `BlobDataOffset`, `BlobSize`.
    pub fn record(&self, offset: u64) -> Result<BlobRecord<'a>> {
        if offset == 0 || !offset.is_multiple_of(UNIT) {
            return Err(self.misaligned(offset));
        }
        let head = self.slice(offset, offset, UNIT)?;
        let word = |at| u32_at(head, at).unwrap_or_default();
        let long = |at| u64_at(head, at).unwrap_or_default();

        if word(0) != SENTINEL {
            return Err(Error::BlobSentinel {
                file: self.name.clone(),
                offset,
                found: word(0),
            });
        }
        let dtype = BlobDType::from_code(word(4)).ok_or_else(|| Error::BlobCode {
            file: self.name.clone(),
            offset,
            code: word(4),
        })?;
        let (size, start) = (long(8), long(16));
        let unused_bits = if dtype.bits() < 8 { long(24) } else { 0 };

        // The slice above shows that `offset + 64` is within the file.
        let expected = offset + UNIT;
        if start < expected {
            return Err(Error::BlobDataOffset {
                file: self.name.clone(),
                offset,
                expected,
                found: start,
            });
        }
        if !start.is_multiple_of(UNIT) {
            return Err(self.misaligned(start));
        }
        let data = self.slice(offset, start, size)?;
        match (dtype.elements(size, unused_bits), u8::try_from(unused_bits)) {
            (Some(_), Ok(unused_bits)) => Ok(BlobRecord {
                dtype,
                data,
                unused_bits,
                offset,
                data_offset: start,
            }),
            _ => Err(Error::BlobSize {
                file: self.name.clone(),
                offset,
                dtype,
                bytes: size,
                unused_bits,
            }),
        }
    }

    /// All records in the order of the file, as many as the header states; ends after the first error.
    pub fn records(&self) -> Records<'a, '_> {
        Records {
            file: self,
            left: self.count,
            offset: Some(UNIT),
        }
    }

    fn misaligned(&self, offset: u64) -> Error {
        Error::BlobAlignment {
            file: self.name.clone(),
            offset,
        }
    }

    /// `length` bytes from `start`, needed by the record at `offset`.
    fn slice(&self, offset: u64, start: u64, length: u64) -> Result<&'a [u8]> {
        let range = || {
            let from = usize::try_from(start).ok()?;
            let to = from.checked_add(usize::try_from(length).ok()?)?;
            self.bytes.get(from..to)
        };
        range().ok_or_else(|| Error::BlobBounds {
            file: self.name.clone(),
            offset,
            start,
            length,
            found: self.bytes.len() as u64,
        })
    }
}

/// Iterator of [`BlobFile::records`].
#[derive(Debug)]
pub struct Records<'a, 'f> {
    file: &'f BlobFile<'a>,
    left: u32,
    offset: Option<u64>,
}

impl<'a> Iterator for Records<'a, '_> {
    type Item = Result<BlobRecord<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let record = self.file.record(self.offset?);
        self.offset = record.as_ref().ok().and_then(|record| {
            let end = record.data_offset.checked_add(record.data.len() as u64)?;
            end.checked_next_multiple_of(UNIT)
        });
        Some(record)
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}
