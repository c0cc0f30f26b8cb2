//! The kernel table: one row per op.

#[cfg(test)]
mod agreement;
pub(crate) mod fast;
mod naive;
mod table;

use crate::call::Call;
use crate::gemm::{Matrix, Sizes, Target, parallel_product};
use crate::tensor::{Array, Outputs};

/// The judge: f64 inside, deterministic on every CPU.
pub(crate) type Naive = fn(&mut Call<'_>) -> Outputs;
/// The fast one; `None` when it does not cover this form of the op.
pub(crate) type Fast = fn(&mut Call<'_>) -> crate::Result<Option<Vec<Array>>>;

/// A row of the table.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// Op name.
    pub(crate) name: &'static str,
    pub(crate) naive: Naive,
    pub(crate) fast: Option<Fast>,
}

/// The row of an op.
pub(crate) fn kernel(name: &str) -> Option<&'static Kernel> {
    table::KERNELS.iter().find(|k| k.name == name)
}

/// Names of the ops that run, in table order, and whether each has a fast kernel.
pub fn names() -> impl Iterator<Item = (&'static str, bool)> {
    table::KERNELS.iter().map(|k| (k.name, k.fast.is_some()))
}

/// `out = a · b` on the `gemm` crate and in the tiles that the fast kernels use, in the current rayon pool; for
/// measurements.
///
/// Shapes: `a [m, k]`, `b [k, n]`, `out [m, n]`, row-major. Panics when a slice is shorter than its shape.
pub fn product(out: &mut [f32], [m, k, n]: [usize; 3], a: &[f32], b: &[f32]) {
    let mut target = Target {
        data: out,
        step: n,
        add: false,
    };
    let (a, b) = (Matrix::packed(a, k), Matrix::packed(b, n));
    parallel_product(&mut target, Sizes { m, k, n }, a, b);
}
