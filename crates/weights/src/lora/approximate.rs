//! The best low-rank factors of a whole matrix, for differences that have none of their own.

use super::decompose::qr;
use super::low_rank::{LowRank, truncate};
use super::matrix::{product, rounded, transposed, widened};

/// Up to this size of the shorter side the decomposition is exact.
const EXACT_SIDE: usize = 160;
/// Columns that the sampled space has beyond the wanted rank.
const OVERSAMPLING: usize = 16;
/// Times that the sampled space is refined, at most.
const MAX_REFINEMENTS: usize = 12;
/// Gain of captured energy, as a share of all energy, below which the space is not refined further.
const ENOUGH: f64 = 1e-7;

/// Factors of rank `rank` or less that come nearest to `delta [outputs, inputs]` (row-major), and the share of the energy
/// `‖dW‖²` that they lose (0 to 1), which is measured on the returned factors.
///
/// A matrix whose shorter side is at most 160 is decomposed exactly: QR, then one-sided Jacobi on the core. A larger one by
/// subspace iteration: a block of `rank + 16` columns that starts with fixed pseudo-random numbers is multiplied with `dW` and
/// its transpose and made orthogonal again until it captures no more energy, then the matrix is decomposed within it. All in
/// f64 with loops in a fixed order, so the result depends on the numbers only.
///
/// Rank 0 gives empty factors that lose everything.
pub fn approximate(delta: &[f32], outputs: usize, inputs: usize, rank: usize) -> (LowRank, f64) {
    let matrix = widened(delta);
    let total: f64 = matrix.iter().map(|x| x * x).sum();
    let side = outputs.min(inputs);
    let rank = rank.min(side);
    if rank == 0 || total == 0.0 || delta.len() != outputs * inputs {
        let zeros = LowRank {
            rank,
            down: vec![0.0; rank * inputs],
            up: vec![0.0; rank * outputs],
            scale: 1.0,
        };
        return (zeros, if total > 0.0 { 1.0 } else { 0.0 });
    }
    let whole = if side <= EXACT_SIDE {
        unfactored(delta, outputs, inputs)
    } else {
        within_subspace(&matrix, outputs, inputs, rank)
    };
    let (factors, _) = truncate(&whole, rank);
    let lost = residual(&matrix, &factors, inputs) / total;
    (factors, lost.min(1.0))
}

/// The matrix as a product with the identity of its shorter side.
fn unfactored(delta: &[f32], outputs: usize, inputs: usize) -> LowRank {
    let identity = |n: usize| -> Vec<f32> {
        (0..n * n)
            .map(|i| if i / n == i % n { 1.0 } else { 0.0 })
            .collect()
    };
    let (rank, up, down) = if outputs <= inputs {
        (outputs, identity(outputs), delta.to_vec())
    } else {
        (inputs, delta.to_vec(), identity(inputs))
    };
    LowRank {
        rank,
        down,
        up,
        scale: 1.0,
    }
}

/// `Q · (Qᵀ · dW)` with the orthogonal columns of Q spanning the space of the largest singular values.
fn within_subspace(matrix: &[f64], outputs: usize, inputs: usize, rank: usize) -> LowRank {
    let block = (rank + OVERSAMPLING).min(outputs.min(inputs));
    let turned = transposed(matrix, outputs, inputs);
    let start = noise(inputs * block);
    let (mut q, _, _) = qr(
        &product(matrix, &start, outputs, inputs, block),
        outputs,
        block,
    );
    let mut captured = 0.0;
    let mut inside = Vec::new();
    for step in 0..=MAX_REFINEMENTS {
        // [I, block]: how the columns of Q see the matrix.
        inside = product(&turned, &q, inputs, outputs, block);
        let energy: f64 = inside.iter().map(|x| x * x).sum();
        let gained = energy - captured;
        captured = energy;
        if step == MAX_REFINEMENTS || gained <= ENOUGH * energy {
            break;
        }
        let (z, _, _) = qr(&inside, inputs, block);
        (q, _, _) = qr(&product(matrix, &z, outputs, inputs, block), outputs, block);
    }
    LowRank {
        rank: block,
        down: rounded(&transposed(&inside, inputs, block)),
        up: rounded(&q),
        scale: 1.0,
    }
}

/// `‖dW − scale · up · down‖²`.
fn residual(matrix: &[f64], factors: &LowRank, inputs: usize) -> f64 {
    let down = widened(&factors.down);
    let mut sum = 0.0;
    for (row, up) in matrix
        .chunks_exact(inputs.max(1))
        .zip(factors.up.chunks_exact(factors.rank.max(1)))
    {
        let made = product(&widened(up), &down, 1, factors.rank, inputs);
        let scale = f64::from(factors.scale);
        sum += row
            .iter()
            .zip(&made)
            .map(|(x, y)| (x - scale * y).powi(2))
            .sum::<f64>();
    }
    sum
}

/// Numbers in [-1, 1) from a fixed linear congruential generator.
fn noise(n: usize) -> Vec<f64> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..n)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `Σ_i falling^i · u_i · v_iᵀ` with `terms` random directions.
    fn falling(outputs: usize, inputs: usize, terms: usize, ratio: f64) -> Vec<f32> {
        let (mut up, down) = (noise(outputs * terms), noise(2 * inputs * terms));
        for (i, u) in up.iter_mut().enumerate() {
            *u *= ratio.powi((i % terms) as i32);
        }
        let down = &down[inputs * terms..];
        rounded(&product(&up, down, outputs, terms, inputs))
    }

    fn squared(x: impl Iterator<Item = f64>) -> f64 {
        x.map(|v| v * v).sum()
    }

    #[test]
    fn a_matrix_of_small_rank_is_found_whole() {
        for (outputs, inputs) in [(40, 30), (30, 40), (200, 320), (320, 200)] {
            let m = falling(outputs, inputs, 6, 0.8);
            let (f, lost) = approximate(&m, outputs, inputs, 8);
            assert_eq!((f.outputs(), f.inputs(), f.rank), (outputs, inputs, 8));
            assert!(lost < 1e-12, "{outputs}x{inputs}: {lost}");
            let wrong = m.iter().zip(f.delta()).map(|(a, b)| f64::from(a - b));
            let share = squared(wrong) / squared(m.iter().map(|&x| f64::from(x)));
            assert!(share < 1e-11, "{share}");
        }
    }

    #[test]
    fn the_subspace_loses_what_the_exact_decomposition_loses() {
        let (outputs, inputs) = (190, 240);
        let m = falling(outputs, inputs, 190, 0.97);
        let (exact, _) = truncate(&unfactored(&m, outputs, inputs), 24);
        let wide = widened(&m);
        let total = squared(wide.iter().copied());
        let best = residual(&wide, &exact, inputs) / total;
        let (found, lost) = approximate(&m, outputs, inputs, 24);
        assert_eq!(found.rank, 24);
        assert!(best > 0.01 && lost >= best * (1.0 - 1e-6), "{best} {lost}");
        assert!(lost <= best * 1.001, "{best} {lost}");
    }

    #[test]
    fn nothing_and_no_rank_are_no_trouble() {
        let (f, lost) = approximate(&[0.0; 12], 3, 4, 2);
        assert_eq!((f.delta(), lost), (vec![0.0; 12], 0.0));
        assert_eq!(approximate(&[1.0; 12], 3, 4, 0).1, 1.0);
        // A rank above the shorter side is as good as that side.
        let (f, lost) = approximate(&[1.0; 12], 3, 4, 9);
        assert!(f.rank <= 3 && lost < 1e-12);
    }
}
