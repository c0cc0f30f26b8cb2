//! The weight file (`weight.bin`): MIL blob storage, version 2.
//!
//! Little-endian throughout. The file starts with 64 bytes:
//!
//! ```text
//!  0  u32  number of records
//!  4  u32  version = 2
//!  8  56   zero
//! ```
//!
//! Every record stands at a multiple of 64, the first at 64:
//!
//! ```text
//!  0  u32  sentinel 0xDEADBEEF
//!  4  u32  dtype code
//!  8  u64  bytes of data, the padding of a last partial byte included
//! 16  u64  offset of the data in the file = offset of the record + 64
//! 24  u64  unused bits at the end of the data, 0 to 7; only for types below 8 bits
//! 32  32   zero
//! ```
//!
//! The data follows its record; the gap up to the next record is zero, and the file ends after the last data byte.
//! Types below 8 bits are one bit stream, least significant bit first. Some writers leave garbage in bytes 24 to 63 of
//! records with byte-sized types, so those bytes are not looked at there.

mod read;
mod write;

pub use read::{BlobFile, BlobRecord};
pub use write::BlobWriter;

/// Length of the file header and of a record, and the unit of alignment, in bytes.
const UNIT: u64 = 64;
/// First four bytes of a record.
const SENTINEL: u32 = 0xDEAD_BEEF;
/// Version of the file.
const VERSION: u32 = 2;

/// Element type of a record; the discriminant is the code in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
#[allow(
    missing_docs,
    reason = "the names are the element types; the numbers are the codes"
)]
pub enum BlobDType {
    Float16 = 1,
    Float32 = 2,
    UInt8 = 3,
    Int8 = 4,
    BFloat16 = 5,
    Int16 = 6,
    UInt16 = 7,
    Int4 = 8,
    UInt1 = 9,
    UInt2 = 10,
    UInt4 = 11,
    UInt3 = 12,
    UInt6 = 13,
    Int32 = 14,
    UInt32 = 15,
    Float8E4M3FN = 16,
    Float8E5M2 = 17,
}

impl BlobDType {
    /// Every type in the order of the codes.
    pub const ALL: [Self; 17] = [
        Self::Float16,
        Self::Float32,
        Self::UInt8,
        Self::Int8,
        Self::BFloat16,
        Self::Int16,
        Self::UInt16,
        Self::Int4,
        Self::UInt1,
        Self::UInt2,
        Self::UInt4,
        Self::UInt3,
        Self::UInt6,
        Self::Int32,
        Self::UInt32,
        Self::Float8E4M3FN,
        Self::Float8E5M2,
    ];

    /// The code in the file.
    pub const fn code(self) -> u32 {
        self as u32
    }

    /// The type with this code.
    pub fn from_code(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|dtype| dtype.code() == code)
    }

    /// Bits of one element.
    pub const fn bits(self) -> u32 {
        match self {
            Self::UInt1 => 1,
            Self::UInt2 => 2,
            Self::UInt3 => 3,
            Self::Int4 | Self::UInt4 => 4,
            Self::UInt6 => 6,
            Self::UInt8 | Self::Int8 | Self::Float8E4M3FN | Self::Float8E5M2 => 8,
            Self::Float16 | Self::BFloat16 | Self::Int16 | Self::UInt16 => 16,
            Self::Float32 | Self::Int32 | Self::UInt32 => 32,
        }
    }

    /// Bytes of data and unused bits at the end for `elements` elements; `None` on overflow.
    pub fn packed_len(self, elements: u64) -> Option<(u64, u8)> {
        let bits = elements.checked_mul(self.bits().into())?;
        let bytes = bits.div_ceil(8);
        let unused = u8::try_from(bytes.checked_mul(8)?.checked_sub(bits)?).ok()?;
        Some((bytes, unused))
    }

    /// Number of elements in `bytes` bytes of data; `None` when that is no whole number.
    ///
    /// `unused_bits` must be 0 for byte-sized types.
    fn elements(self, bytes: u64, unused_bits: u64) -> Option<u64> {
        let bits = bytes.checked_mul(8)?.checked_sub(unused_bits)?;
        let allowed = if self.bits() < 8 { 8 } else { 1 };
        let width = u64::from(self.bits());
        (unused_bits < allowed && bits.is_multiple_of(width)).then(|| bits / width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_one_to_seventeen() {
        let codes: Vec<u32> = BlobDType::ALL.iter().map(|d| d.code()).collect();
        assert_eq!(codes, (1..=17).collect::<Vec<_>>());
        assert_eq!(BlobDType::from_code(12), Some(BlobDType::UInt3));
        assert_eq!(BlobDType::from_code(0), None);
        assert_eq!(BlobDType::from_code(18), None);
    }

    #[test]
    fn packed_lengths() {
        assert_eq!(BlobDType::UInt4.packed_len(5), Some((3, 4)));
        assert_eq!(BlobDType::UInt3.packed_len(7), Some((3, 3)));
        assert_eq!(BlobDType::UInt6.packed_len(3), Some((3, 6)));
        assert_eq!(BlobDType::Float32.packed_len(3), Some((12, 0)));
        assert_eq!(BlobDType::Float32.packed_len(u64::MAX), None);
        for dtype in BlobDType::ALL {
            for n in 0..40 {
                let (bytes, unused) = dtype.packed_len(n).unwrap();
                assert_eq!(dtype.elements(bytes, unused.into()), Some(n), "{dtype:?}");
            }
        }
    }
}
