//! Exact low-rank factors of an adapter, and their truncation to a smaller rank.

use super::decompose::{qr, svd};
use super::matrix::{product, rounded, scaled_product, transposed, widened};

/// `dW = scale · up · down`, flattened: a convolution's `I` is `in_channels · kH · kW`.
#[derive(Clone, Debug, PartialEq)]
pub struct LowRank {
    /// Inner size `r`.
    pub rank: usize,
    /// `[r, I]`, row-major.
    pub down: Vec<f32>,
    /// `[O, r]`, row-major.
    pub up: Vec<f32>,
    /// alpha / rank, or whatever else the format multiplies with.
    pub scale: f32,
}

impl LowRank {
    /// `O`.
    pub fn outputs(&self) -> usize {
        self.up.len().checked_div(self.rank).unwrap_or(0)
    }

    /// `I`, kernel included.
    pub fn inputs(&self) -> usize {
        self.down.len().checked_div(self.rank).unwrap_or(0)
    }

    /// `dW [O, I]` at strength 1.
    pub fn delta(&self) -> Vec<f32> {
        scaled_product(&self.up, &self.down, self.rank, self.inputs(), self.scale)
    }
}

/// The best approximation of `factors` with at most `rank` columns, and the share of the energy `‖dW‖²` that it loses
/// (0 to 1). Scale is folded into the factors, each of which takes the square root of the singular values.
///
/// Factors whose rank is already small enough come back as they are, with a loss of 0. The result depends on the numbers
/// only: QR of both factors, then one-sided Jacobi on the small core, in f64.
pub fn truncate(factors: &LowRank, rank: usize) -> (LowRank, f64) {
    if factors.rank <= rank {
        return (factors.clone(), 0.0);
    }
    let (outputs, inputs, r) = (factors.outputs(), factors.inputs(), factors.rank);
    let up = widened(&factors.up);
    let down_t = transposed(&widened(&factors.down), r, inputs);
    let (q_up, r_up, k_up) = qr(&up, outputs, r);
    let (q_down, r_down, k_down) = qr(&down_t, inputs, r);
    let mut core = product(&r_up, &transposed(&r_down, k_down, r), k_up, r, k_down);
    core.iter_mut().for_each(|x| *x *= f64::from(factors.scale));
    let d = svd(&core, k_up, k_down);
    let total: f64 = d.values.iter().map(|s| s * s).sum();
    let lost: f64 = d.values.iter().skip(rank).map(|s| s * s).sum();
    let kept = rank.min(d.values.len());

    // Rows of the right factor and columns of the left one, each with the root of its singular value.
    let spread = |vectors: &[f64], length: usize| -> Vec<f64> {
        vectors
            .chunks_exact(length.max(1))
            .zip(&d.values)
            .take(kept)
            .flat_map(|(v, s)| v.iter().map(move |x| x * s.sqrt()))
            .collect()
    };
    let left = transposed(&spread(&d.left, k_up), kept, k_up);
    let right = spread(&d.right, k_down);
    let up = product(&q_up, &left, outputs, k_up, kept);
    let down = product(
        &right,
        &transposed(&q_down, inputs, k_down),
        kept,
        k_down,
        inputs,
    );
    let truncated = LowRank {
        rank: kept,
        down: rounded(&down),
        up: rounded(&up),
        scale: 1.0,
    };
    (truncated, if total > 0.0 { lost / total } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(n: usize, seed: u64) -> Vec<f32> {
        let mut state = seed;
        (0..n)
            .map(|_| {
                state = state
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                (state >> 40) as f32 / 8388608.0 - 1.0
            })
            .collect()
    }

    fn squared(x: &[f32]) -> f64 {
        x.iter().map(|&v| f64::from(v).powi(2)).sum()
    }

    #[test]
    fn truncation_loses_what_it_says() {
        let f = LowRank {
            rank: 6,
            down: noise(6 * 20, 1),
            up: noise(12 * 6, 2),
            scale: 0.5,
        };
        let whole = f.delta();
        let mut before = 1.0;
        for rank in 1..6 {
            let (t, lost) = truncate(&f, rank);
            assert_eq!((t.rank, t.inputs(), t.outputs()), (rank, 20, 12));
            let difference: Vec<f32> = whole.iter().zip(t.delta()).map(|(a, b)| a - b).collect();
            let measured = squared(&difference) / squared(&whole);
            assert!((measured - lost).abs() < 1e-6, "{measured} {lost}");
            assert!(lost < before && lost > 0.0);
            before = lost;
        }
        assert_eq!(truncate(&f, 6), (f.clone(), 0.0));
    }

    #[test]
    fn a_hidden_small_rank_is_found_without_loss() {
        // Two copies of the same rank-2 factors: rank 4 on paper, 2 in truth; more columns than outputs as well.
        let (down, up) = (noise(2 * 9, 3), noise(3 * 2, 4));
        let doubled = LowRank {
            rank: 4,
            down: [down.clone(), down.clone()].concat(),
            up: up.chunks(2).flat_map(|r| [r, r].concat()).collect(),
            scale: 1.0,
        };
        let (t, lost) = truncate(&doubled, 2);
        assert!(lost < 1e-12);
        for (a, b) in doubled.delta().iter().zip(t.delta()) {
            assert!((a - b).abs() < 1e-5);
        }
    }
}
