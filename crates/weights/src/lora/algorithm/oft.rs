//! OFT: block-wise rotations of the output rows.
//!
//! ```text
//! oft_blocks [n, b, b], n·b = O; optional rescale [O, 1…]
//! Q = B − Bᵀ per block; alpha > 0: Q · min(1, alpha·O / ‖Q‖); R = (I + Q)(I − Q)⁻¹
//! W'_k = R_kᵀ W_k on the k-th block of rows; rows times rescale; dW = W' − W
//! oft_diag (old LyCORIS): the blocks are R itself
//! ```
//! Source: KohakuBlueleaf/LyCORIS `modules/diag_oft.py`; kohya-ss/sd-scripts `networks/oft.py`.

use super::boft::{Boft, butterfly};
use super::site::shape_error;
use super::{Built, Delta, Fault, Site};
use crate::lora::error::LoraError;
use crate::lora::factor::Factor;
use crate::lora::matrix::{product, solved, transposed, widened};
use crate::lora::part::Part;

#[derive(Debug)]
struct Oft {
    blocks: Factor,
    rescale: Option<Factor>,
    block: usize,
    rotation: Rotation,
}

/// How blocks become rotations.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rotation {
    /// Cayley's map of the skew part, whose norm may be bounded.
    Cayley {
        /// Bound of the Frobenius norm over all blocks.
        bound: Option<f64>,
    },
    /// The blocks are rotations already.
    Given,
}

pub(super) fn build(site: &mut Site<'_>) -> Result<Built, Fault> {
    let blocks = site.need(Part::OftBlocks, "`oft_blocks`", "no other tensor")?;
    let outputs = site.dims().outputs;
    let bound = site
        .number(Part::Alpha)?
        .filter(|&a| a > 0.0)
        .map(|a| f64::from(a) * outputs as f64);
    let rescale = rescale(site)?;
    let rotation = Rotation::Cayley { bound };
    match *blocks.shape.as_slice() {
        [n, b, c] if b == c && b > 0 => {
            if n * b != outputs {
                return Err(site.misfit(&blocks, &format!("blocks of {outputs} rows together")));
            }
            solvable(&blocks, b, rotation)?;
            Ok(built(
                "oft",
                b,
                Box::new(Oft {
                    blocks,
                    rescale,
                    block: b,
                    rotation,
                }),
            ))
        }
        [_, n, b, c] if b == c && b > 0 => {
            if n * b != outputs {
                return Err(site.misfit(&blocks, &format!("blocks of {outputs} rows together")));
            }
            let stages = blocks.first();
            if !butterfly(stages, b, outputs) {
                return Err(shape_error(
                    &blocks,
                    "stages that divide the rows into pairs of groups",
                ));
            }
            solvable(&blocks, b, rotation)?;
            let boft = Boft {
                blocks,
                rescale,
                block: b,
                rotation,
            };
            Ok(built("boft", b, Box::new(boft)))
        }
        _ => Err(shape_error(
            &blocks,
            "[blocks, b, b] or [stages, blocks, b, b]",
        )),
    }
}

pub(super) fn build_old(site: &mut Site<'_>) -> Result<Built, Fault> {
    let blocks = site.need(Part::OftDiag, "`oft_diag`", "no other tensor")?;
    let outputs = site.dims().outputs;
    site.take(Part::Alpha);
    let rescale = rescale(site)?;
    match *blocks.shape.as_slice() {
        [n, b, c] if b == c && b > 0 => {
            if n * b != outputs {
                return Err(site.misfit(&blocks, &format!("blocks of {outputs} rows together")));
            }
            let oft = Oft {
                blocks,
                rescale,
                block: b,
                rotation: Rotation::Given,
            };
            Ok(built("oft-diag", b, Box::new(oft)))
        }
        _ => Err(shape_error(&blocks, "[blocks, b, b]")),
    }
}

fn rescale(site: &mut Site<'_>) -> Result<Option<Factor>, Fault> {
    let rescale = site.take(Part::Rescale);
    if let Some(r) = &rescale {
        site.expect(r, &[site.dims().outputs])?;
    }
    Ok(rescale)
}

fn built(word: &'static str, block: usize, delta: Box<dyn Delta>) -> Built {
    Built {
        word,
        rank: Some(block),
        scale: 1.0,
        delta,
    }
}

/// Refuses blocks whose map does not exist; a skew matrix of finite numbers always has one.
fn solvable(blocks: &Factor, b: usize, rotation: Rotation) -> Result<(), Fault> {
    let count = blocks.elements() / (b * b);
    if rotations(blocks, b, rotation).len() == count * b * b {
        return Ok(());
    }
    Err(Fault::Error(LoraError::Value {
        file: blocks.file().to_path_buf(),
        tensor: blocks.key.clone(),
        reason: "a block has no rotation (I − Q is singular)".into(),
    }))
}

/// The rotations of all blocks, `[count, b, b]`.
pub(super) fn rotations(blocks: &Factor, b: usize, rotation: Rotation) -> Vec<f64> {
    let values = widened(&blocks.values());
    let bound = match rotation {
        Rotation::Given => return values,
        Rotation::Cayley { bound } => bound,
    };
    let mut skew: Vec<f64> = values
        .chunks_exact(b * b)
        .flat_map(|block| {
            let t = transposed(block, b, b);
            block
                .iter()
                .zip(t)
                .map(|(x, y)| x - y)
                .collect::<Vec<f64>>()
        })
        .collect();
    if let Some(bound) = bound {
        let norm = skew.iter().map(|x| x * x).sum::<f64>().sqrt();
        if norm > bound {
            skew.iter_mut().for_each(|x| *x *= bound / norm);
        }
    }
    skew.chunks_exact(b * b)
        .flat_map(|q| cayley(q, b))
        .collect()
}

/// `(I + Q)(I − Q)⁻¹`; the two commute, so it solves `(I − Q) R = I + Q`.
fn cayley(q: &[f64], b: usize) -> Vec<f64> {
    let mut plus = q.to_vec();
    let mut minus: Vec<f64> = q.iter().map(|x| -x).collect();
    for m in [&mut plus, &mut minus] {
        m.iter_mut().step_by(b + 1).for_each(|x| *x += 1.0);
    }
    solved(minus, plus, b).unwrap_or_default()
}

/// `(new rows · rescale) − base`.
pub(super) fn difference(
    new: &[f64],
    base: &[f32],
    rescale: Option<&Factor>,
    outputs: usize,
) -> Vec<f32> {
    let columns = base.len().checked_div(outputs).unwrap_or(0).max(1);
    let rows = rescale.map(Factor::values);
    new.chunks_exact(columns)
        .zip(base.chunks_exact(columns))
        .enumerate()
        .flat_map(|(row, (n, b))| {
            let factor = rows
                .as_ref()
                .and_then(|r| r.get(row))
                .map_or(1.0, |&f| f64::from(f));
            n.iter()
                .zip(b)
                .map(move |(n, &b)| (n * factor - f64::from(b)) as f32)
        })
        .collect()
}

impl Delta for Oft {
    fn delta(&self, base: &[f32]) -> Vec<f32> {
        let b = self.block;
        let outputs = self.blocks.first() * b;
        let columns = base.len().checked_div(outputs).unwrap_or(0);
        let rotations = rotations(&self.blocks, b, self.rotation);
        let rows: Vec<f64> = rotations
            .chunks_exact(b * b)
            .zip(widened(base).chunks_exact((b * columns).max(1)))
            .flat_map(|(r, w)| product(&transposed(r, b, b), w, b, b, columns))
            .collect();
        difference(&rows, base, self.rescale.as_ref(), outputs)
    }

    fn reads_base(&self) -> bool {
        true
    }
}
