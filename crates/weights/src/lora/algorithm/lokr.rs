//! LoKr: a Kronecker product.
//!
//! ```text
//! w1 [a, c] or w1_a [a, r] · w1_b [r, c]
//! w2 [O/a, I/c, k, k] or w2_a [O/a, r] · w2_b [r, I/c·k·k] or core t2 [r, r, k, k], w2_a [r, O/a], w2_b [r, I/c]
//! dW = s · w1 ⊗ w2
//! ```
//! With both w1 and w2 whole the scale is 1 in LyCORIS files, whatever alpha says, and alpha / r in PEFT's.
//! Source: KohakuBlueleaf/LyCORIS `modules/lokr.py` (forward pass); huggingface/peft `tuners/lokr`.

use super::lora::core_times_down;
use super::site::{Dims, shape_error};
use super::{Built, Delta, Fault, ScaleRule, Site};
use crate::lora::factor::Factor;
use crate::lora::low_rank::LowRank;
use crate::lora::matrix::{product, rounded, transposed, widened};
use crate::lora::part::Part;

/// One of the two matrices.
#[derive(Debug)]
enum Matrix {
    Whole(Factor),
    Split { a: Factor, b: Factor },
    Core { a: Factor, b: Factor, core: Factor },
}

#[derive(Debug)]
struct Lokr {
    w1: Matrix,
    w2: Matrix,
    /// Shape of w1, one kernel position.
    outer: Dims,
    /// Shape of w2.
    inner: Dims,
    scale: f32,
}

pub(super) fn build(site: &mut Site<'_>) -> Result<Built, Fault> {
    let dims = site.dims();
    let w1 = matrix(site, [Part::LokrW1, Part::LokrW1A, Part::LokrW1B], None)?;
    let w2 = matrix(
        site,
        [Part::LokrW2, Part::LokrW2A, Part::LokrW2B],
        Some(Part::LokrT2),
    )?;
    let (a, c) = w1.outer_size();
    let example = w1.example();
    if a == 0 || c == 0 || !dims.outputs.is_multiple_of(a) || !dims.inputs.is_multiple_of(c) {
        return Err(site.misfit(example, "factors of its sizes"));
    }
    let outer = Dims {
        outputs: a,
        inputs: c,
        kernel: 1,
    };
    let inner = Dims {
        outputs: dims.outputs / a,
        inputs: dims.inputs / c,
        kernel: dims.kernel,
    };
    w1.check(site, outer)?;
    w2.check(site, inner)?;
    let rank = w2.rank().or_else(|| w1.rank());
    let scale = match (rank, site.rule) {
        (None, ScaleRule::Tensors) => {
            site.take(Part::Alpha);
            1.0
        }
        _ => site.scale(rank)?,
    };
    Ok(Built {
        word: "lokr",
        rank,
        scale,
        delta: Box::new(Lokr {
            w1,
            w2,
            outer,
            inner,
            scale,
        }),
    })
}

fn matrix(
    site: &mut Site<'_>,
    [whole, a, b]: [Part; 3],
    core: Option<Part>,
) -> Result<Matrix, Fault> {
    if let Some(whole) = site.take(whole) {
        return Ok(Matrix::Whole(whole));
    }
    let have = "another part of LoKr";
    let a = site.need(a, "`lokr_w1` or `lokr_w2` (whole, or its `_a`)", have)?;
    let b = site.need(b, "`lokr_w1_b` or `lokr_w2_b`", have)?;
    if b.first() == 0 {
        return Err(shape_error(&b, "a rank of at least 1"));
    }
    Ok(match core.and_then(|part| site.take(part)) {
        Some(core) => Matrix::Core { a, b, core },
        None => Matrix::Split { a, b },
    })
}

impl Matrix {
    fn rank(&self) -> Option<usize> {
        match self {
            Self::Whole(_) => None,
            Self::Split { b, .. } | Self::Core { b, .. } => Some(b.first()),
        }
    }

    fn example(&self) -> &Factor {
        match self {
            Self::Whole(f) => f,
            Self::Split { a, .. } | Self::Core { a, .. } => a,
        }
    }

    /// Rows and columns of w1.
    fn outer_size(&self) -> (usize, usize) {
        match self {
            Self::Whole(f) => (f.first(), f.rest()),
            Self::Split { a, b } | Self::Core { a, b, .. } => (a.first(), b.rest()),
        }
    }

    fn check(&self, site: &Site<'_>, dims: Dims) -> Result<(), Fault> {
        let Dims {
            outputs,
            inputs,
            kernel,
        } = dims;
        match self {
            Self::Whole(f) => site.expect(f, &[outputs, inputs, kernel]),
            Self::Split { a, b } => {
                site.expect(a, &[outputs, b.first()])?;
                site.expect(b, &[b.first(), inputs, kernel])
            }
            Self::Core { a, b, core } => {
                site.expect(a, &[a.first(), outputs])?;
                site.expect(b, &[b.first(), inputs])?;
                site.expect(core, &[a.first(), b.first(), kernel])
            }
        }
    }

    /// `(left [O, r], right [r, I·k], r)`; a whole matrix takes the identity on its shorter side.
    fn factors(&self, dims: Dims) -> (Vec<f64>, Vec<f64>, usize) {
        let columns = dims.columns();
        match self {
            Self::Whole(f) => {
                let m = widened(&f.values());
                if dims.outputs <= columns {
                    (identity(dims.outputs), m, dims.outputs)
                } else {
                    (m, identity(columns), columns)
                }
            }
            Self::Split { a, b } => (widened(&a.values()), widened(&b.values()), b.first()),
            Self::Core { a, b, core } => {
                let m = a.first();
                let right = core_times_down(
                    &widened(&core.values()),
                    &widened(&b.values()),
                    m,
                    b.first(),
                    dims,
                );
                let left = transposed(&widened(&a.values()), m, dims.outputs);
                (left, right, m)
            }
        }
    }

    fn dense(&self, dims: Dims) -> Vec<f64> {
        match self {
            Self::Whole(f) => widened(&f.values()),
            _ => {
                let (left, right, r) = self.factors(dims);
                product(&left, &right, dims.outputs, r, dims.columns())
            }
        }
    }
}

fn identity(n: usize) -> Vec<f64> {
    let mut m = vec![0.0; n * n];
    m.iter_mut().step_by(n + 1).for_each(|x| *x = 1.0);
    m
}

/// `w1 [a, c] ⊗ w2 [o, i]`: `[a·o, c·i]`, where a row of w2 keeps its kernel positions together.
fn kronecker(w1: &[f64], w2: &[f64], c: usize, columns: usize) -> Vec<f64> {
    let mut out = Vec::with_capacity(w1.len() * w2.len());
    for row1 in w1.chunks_exact(c.max(1)) {
        for row2 in w2.chunks_exact(columns.max(1)) {
            for x in row1 {
                out.extend(row2.iter().map(|y| x * y));
            }
        }
    }
    out
}

impl Delta for Lokr {
    fn delta(&self, _base: &[f32]) -> Vec<f32> {
        let mut w1 = self.w1.dense(self.outer);
        w1.iter_mut().for_each(|x| *x *= f64::from(self.scale));
        let w2 = self.w2.dense(self.inner);
        rounded(&kronecker(
            &w1,
            &w2,
            self.outer.inputs,
            self.inner.columns(),
        ))
    }

    /// The product of the two ranks.
    fn low_rank(&self) -> Option<LowRank> {
        let (l1, r1, n1) = self.w1.factors(self.outer);
        let (l2, r2, n2) = self.w2.factors(self.inner);
        Some(LowRank {
            rank: n1 * n2,
            up: rounded(&kronecker(&l1, &l2, n1, n2)),
            down: rounded(&kronecker(
                &r1,
                &r2,
                self.outer.columns(),
                self.inner.columns(),
            )),
            scale: self.scale,
        })
    }
}
