//! Made-up numbers: the same on every machine, and exact in fp16.

/// `count` multiples of 1/64 in -1..1.
pub(super) fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..count)
        .map(|_| {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            let bits = state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 57;
            bits as f32 / 64.0 - 1.0
        })
        .collect()
}

/// The same, times a power of two.
pub(super) fn scaled(seed: u64, count: usize, scale: f32) -> Vec<f32> {
    numbers(seed, count).iter().map(|x| x * scale).collect()
}

/// `count` codes of four bits, packed with the low half first; `count` is even.
pub(super) fn nibbles(seed: u64, count: usize) -> Vec<u8> {
    let codes = numbers(seed, count);
    codes
        .chunks(2)
        .map(|pair| pair.iter().rev().fold(0, |byte, x| byte << 4 | code(*x)))
        .collect()
}

fn code(x: f32) -> u8 {
    ((x + 1.0) * 8.0) as u8 & 15
}
