//! Weights as numbers of a counter: every element depends on the tensor's name and its own index only, and is computed with
//! integer operations and IEEE additions, multiplications, divisions and square roots, so its bits are equal on every CPU.

use half::f16;

/// Size of the table of draws.
const DRAWS: usize = 1 << 16;

/// How the elements of a tensor are spread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    /// Added to every element.
    pub(super) mean: f32,
    /// Standard deviation, about.
    pub(super) deviation: f32,
    /// Elements per row; each row has a scale of its own, from 0.6 to 1.4.
    pub(super) row: usize,
}

/// Draws of a heavy-tailed distribution of variance 1, about: a sum of four uniform numbers over the root of a sum of two,
/// whose tails fall as those of Student's t with four degrees of freedom.
pub(super) struct Values {
    draws: Vec<f32>,
}

impl Values {
    pub(super) fn new() -> Self {
        let unit = |bits: u64| (bits & 0xFFFF) as f64 / 65536.0;
        let draws = (0..DRAWS as u64).map(|i| {
            let (a, b) = (mixed(2 * i), mixed(2 * i + 1));
            let sum: f64 = (0..4).map(|k| unit(a >> (16 * k)) - 0.5).sum();
            let under = unit(b) + unit(b >> 16) + 1.0 / 65536.0;
            // Variance of the sum is 1/3, the mean of 1 / under is 2 ln 2.
            (sum / under.sqrt() * 1.471) as f32
        });
        Self {
            draws: draws.collect(),
        }
    }

    /// Writes elements `first..` of the tensor with this seed as little-endian f16 into `out`, with this many threads.
    pub(super) fn fill(
        &self,
        seed: u64,
        spread: Spread,
        first: u64,
        out: &mut [u8],
        threads: usize,
    ) {
        // A multiple of 4 elements, so that no thread begins within a word of the counter.
        let share = out.len().div_ceil(threads.max(1)).next_multiple_of(8);
        std::thread::scope(|scope| {
            for (i, part) in out.chunks_mut(share).enumerate() {
                let first = first + (i * share / 2) as u64;
                scope.spawn(move || self.fill_part(seed, spread, first, part));
            }
        });
    }

    /// As [`Values::fill`] on one thread; `first` is a multiple of 4.
    fn fill_part(&self, seed: u64, spread: Spread, first: u64, out: &mut [u8]) {
        let row = spread.row.max(1) as u64;
        let (mut in_row, mut at) = (first % row, first / row);
        let mut scale = row_scale(seed, at, spread.deviation);
        for (i, quad) in out.chunks_mut(8).enumerate() {
            let mut bits = mixed(seed.wrapping_add(first / 4 + i as u64));
            for element in quad.chunks_mut(2) {
                let draw = self.draws[(bits & 0xFFFF) as usize];
                bits >>= 16;
                let value = f16::from_f32(spread.mean + draw * scale);
                element.copy_from_slice(&value.to_le_bytes());
                in_row += 1;
                if in_row == row {
                    (in_row, at) = (0, at + 1);
                    scale = row_scale(seed, at, spread.deviation);
                }
            }
        }
    }
}

fn row_scale(seed: u64, row: u64, deviation: f32) -> f32 {
    let unit = (mixed(!seed ^ row) & 0xFFFF) as f32 / 65536.0;
    deviation * (0.6 + 0.8 * unit)
}

/// The finalizer of SplitMix64 over a Weyl sequence.
fn mixed(counter: u64) -> u64 {
    let mut x = counter.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// Seed of a tensor: FNV-1a of its name, mixed.
pub(super) fn seed(name: &str) -> u64 {
    let hash = name.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01B3)
    });
    mixed(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    const SPREAD: Spread = Spread {
        mean: 0.0,
        deviation: 1.0,
        row: 100,
    };

    fn filled(threads: usize, pieces: &[usize]) -> Vec<u8> {
        let values = Values::new();
        let mut out = vec![0; 2 * 40_001];
        let (mut rest, mut first) = (out.as_mut_slice(), 0);
        for &piece in pieces {
            let (now, later) = rest.split_at_mut(2 * piece);
            values.fill(seed("x"), SPREAD, first, now, threads);
            first += piece as u64;
            rest = later;
        }
        values.fill(seed("x"), SPREAD, first, rest, threads);
        out
    }

    #[test]
    fn bytes_depend_on_neither_threads_nor_pieces() {
        let whole = filled(1, &[]);
        assert_eq!(filled(3, &[]), whole);
        assert_eq!(filled(2, &[4, 1000, 20_000]), whole);
        let hash = Sha256::digest(&whole);
        assert_eq!(
            &hash[..8],
            PINNED,
            "the generator's bits are part of its contract"
        );
    }

    /// First bytes of the SHA-256 of 40 001 elements.
    const PINNED: &[u8] = &[202, 25, 158, 255, 7, 0, 3, 35];

    #[test]
    fn tails_are_heavy_and_the_variance_is_one() {
        let bytes = filled(1, &[]);
        let x: Vec<f64> = bytes
            .as_chunks::<2>()
            .0
            .iter()
            .map(|&b| f16::from_le_bytes(b).into())
            .collect();
        let moment = |k: i32| x.iter().map(|v| v.powi(k)).sum::<f64>() / x.len() as f64;
        let (variance, mean) = (moment(2), moment(1));
        let kurtosis = moment(4) / variance.powi(2);
        assert!((0.85..1.25).contains(&variance), "{variance}");
        assert!(mean.abs() < 0.02, "{mean}");
        assert!(kurtosis > 4.5, "{kurtosis}");
        assert!(x.iter().all(|v| v.abs() < 300.0));
    }
}
