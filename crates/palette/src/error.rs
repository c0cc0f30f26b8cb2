//! What can go wrong with palettes.

use half::f16;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that this crate refuses.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A width that Core ML does not know.
    #[error("codes of {found} bits are not supported, expected 1, 2, 3, 4, 6 or 8")]
    Bits {
        /// The width asked for.
        found: u8,
    },
    /// There are no values.
    #[error("an empty tensor has no palette")]
    Empty,
    /// A value that is no number.
    #[error("element {index} is {value}, and a palette holds finite numbers only")]
    NotFinite {
        /// Which element, counted from 0.
        index: usize,
        /// Its value.
        value: f16,
    },
    /// A code that needs more bits than there are.
    #[error("code {code} at {index} does not fit into {bits} bits")]
    Code {
        /// Which code, counted from 0.
        index: usize,
        /// The code.
        code: u8,
        /// The width.
        bits: u8,
    },
    /// Packed codes of the wrong length.
    #[error("{count} codes of {bits} bits take {expected} bytes, but there are {found}")]
    PackedLength {
        /// Number of codes.
        count: usize,
        /// The width.
        bits: u8,
        /// Bytes that they take; the largest number when it does not fit.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
}
