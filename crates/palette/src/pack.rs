//! Codes as a bit stream.

use crate::error::{Error, Result};

/// Packs codes into one bit stream, least significant bit first.
///
/// Code `i` takes the bits `i·bits .. (i+1)·bits`; bit `k` of the stream is bit `k mod 8` of byte `k div 8`. The bits
/// after the last code are zero. This is the data of both `constexpr_lut_to_dense` forms.
///
/// Errors: `Bits`; `Code` when a code does not fit.
pub fn pack(codes: &[u8], bits: u8) -> Result<Vec<u8>> {
    crate::check_bits(bits)?;
    let limit = u8::MAX >> (8 - bits);
    if let Some(index) = codes.iter().position(|&code| code > limit) {
        return Err(Error::Code {
            index,
            code: codes.get(index).copied().unwrap_or_default(),
            bits,
        });
    }
    // Eight codes fill `bits` whole bytes.
    let mut packed = Vec::with_capacity(codes.len().div_ceil(8).saturating_mul(bits.into()));
    for group in codes.chunks(8) {
        let word = group
            .iter()
            .rev()
            .fold(0_u64, |word, &code| word << bits | u64::from(code));
        let bytes = (group.len() * usize::from(bits)).div_ceil(8);
        packed.extend(word.to_le_bytes().iter().take(bytes));
    }
    Ok(packed)
}

/// Unpacks `count` codes; the inverse of [`pack`].
///
/// Errors: `Bits`; `PackedLength` when the bytes are more or fewer than the codes take.
pub fn unpack(packed: &[u8], bits: u8, count: usize) -> Result<Vec<u8>> {
    crate::check_bits(bits)?;
    let expected = count
        .checked_mul(bits.into())
        .map_or(usize::MAX, |bits| bits.div_ceil(8));
    if packed.len() != expected {
        return Err(Error::PackedLength {
            count,
            bits,
            expected,
            found: packed.len(),
        });
    }
    let limit = u64::from(u8::MAX >> (8 - bits));
    let mut codes = Vec::with_capacity(count);
    for group in packed.chunks(bits.into()) {
        let word = group
            .iter()
            .rev()
            .fold(0_u64, |word, &byte| word << 8 | u64::from(byte));
        let left = count - codes.len();
        codes.extend((0..left.min(8)).map(|i| (word >> (i * usize::from(bits)) & limit) as u8));
    }
    Ok(codes)
}
