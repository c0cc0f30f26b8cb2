//! Packed elements: one bit stream, element i in bits [i·n, (i+1)·n), least significant bit first.

use rayon::prelude::*;

/// Elements per parallel piece: a multiple of 8, so that a piece starts on a byte for every width.
pub(super) const PIECE: usize = 1 << 15;

/// Bytes that hold `count` elements of `bits` bits; `None` when it does not fit.
pub(super) fn packed_len(count: usize, bits: usize) -> Option<usize> {
    Some(count.checked_mul(bits)?.div_ceil(8))
}

/// One unsigned element of at most 8 bits; 0 beyond the end.
pub(super) fn code(bytes: &[u8], bits: usize, i: usize) -> u8 {
    let first = i * bits;
    let (byte, shift) = (first / 8, first % 8);
    let low = bytes.get(byte).copied().unwrap_or(0);
    let high = bytes.get(byte + 1).copied().unwrap_or(0);
    let window = u16::from(low) | u16::from(high) << 8;
    ((window >> shift) & ((1 << bits) - 1)) as u8
}

/// Unsigned elements of at most 8 bits.
pub(super) fn codes(bytes: &[u8], bits: usize, count: usize) -> Vec<u8> {
    (0..count).map(|i| code(bytes, bits, i)).collect()
}

/// Elements from `from` on, in this thread: element i is `tables[i / per_table · 2^bits + code i]`.
pub(super) fn tables(
    bytes: &[u8],
    bits: usize,
    (tables, per_table): (&[f32], usize),
    from: usize,
    mut out: &mut [f32],
) {
    let mut at = from;
    while !out.is_empty() && per_table > 0 {
        let n = (per_table - at % per_table).min(out.len());
        let (part, rest) = out.split_at_mut(n);
        let table = tables.get((at / per_table) << bits..).unwrap_or(&[]);
        looked_up(bytes, bits, table, at, part);
        out = rest;
        at += n;
    }
}

/// `out[i] = table[code (from + i)]`; entries beyond 2^bits are not looked at.
fn looked_up(bytes: &[u8], bits: usize, table: &[f32], from: usize, out: &mut [f32]) {
    // Elements up to the next one that starts on a byte at every width.
    let (head, rest) = out.split_at_mut((from.next_multiple_of(8) - from).min(out.len()));
    for (i, slot) in head.iter_mut().enumerate() {
        let code = usize::from(code(bytes, bits, from + i));
        *slot = table.get(code).copied().unwrap_or(f32::NAN);
    }
    let start = (from + head.len()) * bits / 8;
    piece_looked_up(bytes.get(start..).unwrap_or(&[]), bits, table, rest);
}

fn piece_looked_up(bytes: &[u8], bits: usize, table: &[f32], out: &mut [f32]) {
    let mut full = [0f32; 256];
    for (slot, &x) in full.iter_mut().zip(table) {
        *slot = x;
    }
    match bits {
        8 => {
            for (slot, &b) in out.iter_mut().zip(bytes) {
                *slot = full[usize::from(b)];
            }
        }
        4 => {
            for (pair, &b) in out.chunks_mut(2).zip(bytes) {
                for (slot, code) in pair.iter_mut().zip([b & 15, b >> 4]) {
                    *slot = full[usize::from(code)];
                }
            }
        }
        6 => {
            for (four, b) in out.chunks_mut(4).zip(bytes.chunks(3)) {
                let byte = |i: usize| u32::from(b.get(i).copied().unwrap_or(0));
                let word = byte(0) | byte(1) << 8 | byte(2) << 16;
                for (i, slot) in four.iter_mut().enumerate() {
                    *slot = full[(word >> (6 * i) & 63) as usize];
                }
            }
        }
        _ => {
            for (i, slot) in out.iter_mut().enumerate() {
                *slot = full[usize::from(code(bytes, bits, i))];
            }
        }
    }
}

/// Little-endian fp16 elements as f32.
pub(super) fn widened(bytes: &[u8], out: &mut [f32]) {
    out.par_chunks_mut(PIECE)
        .zip(bytes.par_chunks(PIECE * 2))
        .for_each(|(out, bytes)| crate::simd::widen(bytes, out));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_the_format_notes() {
        assert_eq!(codes(&[0x10, 0x32, 0x04], 4, 5), [0, 1, 2, 3, 4]);
        assert_eq!(codes(&[0x88, 0xc6, 0x1a], 3, 7), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(codes(&[0x05], 1, 3), [1, 0, 1]);
        assert_eq!(codes(&[0x7f, 0x20, 0x00], 6, 3), [63, 1, 2]);
    }

    #[test]
    fn table_look_up_at_every_width() {
        for bits in [1usize, 2, 3, 4, 6, 8] {
            let table: Vec<f32> = (0..1u16 << bits).map(|i| f32::from(i) * 0.5).collect();
            let count = 70_001;
            let bytes: Vec<u8> = (0..count * bits / 8 + 1)
                .map(|i| (i * 37 % 251) as u8)
                .collect();
            let mut out = vec![0.0; count];
            tables(&bytes, bits, (&table, count), 0, &mut out);
            for i in [0, 1, 2, 5, 32_767, 32_768, 65_537, count - 1] {
                let want = table[usize::from(code(&bytes, bits, i))];
                assert_eq!(out[i], want, "{bits} bits, element {i}");
            }
            for from in [0, 1, 7, 8, 30_011] {
                let mut part = vec![0.0; 777];
                tables(&bytes, bits, (&table, count), from, &mut part);
                assert_eq!(part, out[from..from + 777], "{bits} bits, from {from}");
            }
        }
    }
}
