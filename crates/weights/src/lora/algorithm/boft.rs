//! BOFT: several stages of block-wise rotations, each on differently grouped rows.
//!
//! ```text
//! oft_blocks [m, n, b, b], n·b = O
//! stage i: rows (c, g = 2, k = 2^i·b/2) → (c, k, g); block j of rows times R_ij; rows back
//! ```
//! Source: KohakuBlueleaf/LyCORIS `modules/boft.py`.

use super::Delta;
use super::oft::{Rotation, difference, rotations};
use crate::lora::factor::Factor;
use crate::lora::matrix::{product, widened};

#[derive(Debug)]
pub(super) struct Boft {
    pub(super) blocks: Factor,
    pub(super) rescale: Option<Factor>,
    pub(super) block: usize,
    pub(super) rotation: Rotation,
}

/// Whether `stages` stages of blocks of `block` rows fit `outputs` rows.
pub(super) fn butterfly(stages: usize, block: usize, outputs: usize) -> bool {
    block.is_multiple_of(2)
        && (0..stages).all(|i| {
            let half = u32::try_from(i)
                .ok()
                .and_then(|i| 1usize.checked_shl(i))
                .and_then(|p| p.checked_mul(block / 2));
            half.is_some_and(|k| k > 0 && outputs.is_multiple_of(2 * k))
        })
}

/// For each row of the permuted order, the row that it comes from.
fn permutation(outputs: usize, half: usize) -> Vec<usize> {
    let mut order = Vec::with_capacity(outputs);
    for start in (0..outputs).step_by(2 * half) {
        for k in 0..half {
            order.extend([start + k, start + half + k]);
        }
    }
    order
}

impl Delta for Boft {
    fn delta(&self, base: &[f32]) -> Vec<f32> {
        let b = self.block;
        let per_stage = self.blocks.rest();
        let outputs = per_stage / b;
        let columns = base.len().checked_div(outputs).unwrap_or(0);
        let rotations = rotations(&self.blocks, b, self.rotation);
        let mut rows = widened(base);
        for (stage, rotations) in rotations.chunks_exact(per_stage.max(1)).enumerate() {
            let order = permutation(outputs, (b / 2) << stage);
            let row = |r: usize| rows.get(r * columns..(r + 1) * columns).unwrap_or_default();
            let grouped: Vec<f64> = order.iter().flat_map(|&r| row(r).iter().copied()).collect();
            let turned: Vec<f64> = rotations
                .chunks_exact(b * b)
                .zip(grouped.chunks_exact((b * columns).max(1)))
                .flat_map(|(r, w)| product(r, w, b, b, columns))
                .collect();
            for (&to, from) in order.iter().zip(turned.chunks_exact(columns.max(1))) {
                if let Some(row) = rows.get_mut(to * columns..(to + 1) * columns) {
                    row.copy_from_slice(from);
                }
            }
        }
        difference(&rows, base, self.rescale.as_ref(), outputs)
    }

    fn reads_base(&self) -> bool {
        true
    }
}
