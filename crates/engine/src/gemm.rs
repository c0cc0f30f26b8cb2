//! Matrix products on the `gemm` crate, which chooses its microkernel for the CPU at run time.
//!
//! Work is cut into tiles of the output whose size depends on the shape only, and each tile is one single-threaded call:
//! the result has the same bits at any number of threads.
#![allow(unsafe_code)]

use crate::simd::{self, Binary, Lane};
use rayon::prelude::*;

/// A matrix within a slice: element (i, j) is `data[i · rows + j · columns]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<'a> {
    pub(crate) data: &'a [f32],
    /// Step from row to row.
    pub(crate) rows: usize,
    /// Step from column to column.
    pub(crate) columns: usize,
}

impl<'a> Matrix<'a> {
    /// Row-major, without gaps between the rows.
    pub(crate) fn packed(data: &'a [f32], columns: usize) -> Self {
        Self {
            data,
            rows: columns,
            columns: 1,
        }
    }

    /// Whether an `m × n` matrix lies within the slice.
    fn holds(&self, m: usize, n: usize) -> bool {
        let last = |size: usize, step: usize| (size - 1).checked_mul(step);
        m == 0
            || n == 0
            || last(m, self.rows)
                .zip(last(n, self.columns))
                .and_then(|(r, c)| r.checked_add(c))
                .is_some_and(|i| i < self.data.len())
    }
}

/// Sizes of a product `[m, k] · [k, n] → [m, n]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) m: usize,
    pub(crate) k: usize,
    pub(crate) n: usize,
}

/// Where a product goes: row-major, with `step` elements from row to row.
#[derive(Debug)]
pub(crate) struct Target<'a> {
    pub(crate) data: &'a mut [f32],
    pub(crate) step: usize,
    /// Add to what is there instead of overwriting it.
    pub(crate) add: bool,
}

/// `c = a · b` or `c += a · b` in this thread.
pub(crate) fn product(c: &mut Target<'_>, sizes: Sizes, a: Matrix<'_>, b: Matrix<'_>) {
    check(c, sizes, a, b);
    let c_data = c.data.as_mut_ptr();
    // SAFETY: `check` has seen that all three matrices lie within their slices, and `c` is borrowed mutably.
    unsafe { raw(c_data, c.step, c.add, sizes, a, b) }
}

/// The same, cut into tiles that run in parallel.
pub(crate) fn parallel_product(c: &mut Target<'_>, sizes: Sizes, a: Matrix<'_>, b: Matrix<'_>) {
    check(c, sizes, a, b);
    let Sizes { m, k, n } = sizes;
    let (tile_m, tile_n) = tile(m, n);
    let (rows, columns) = (m.div_ceil(tile_m), n.div_ceil(tile_n));
    let base = Shared(c.data.as_mut_ptr());
    let (step, add) = (c.step, c.add);
    (0..rows * columns).into_par_iter().for_each(|t| {
        let (i, j) = (t / columns * tile_m, t % columns * tile_n);
        let part = Sizes {
            m: tile_m.min(m - i),
            k,
            n: tile_n.min(n - j),
        };
        let tail = |data: &'_ [f32], from: usize| -> (*const f32, usize) {
            (
                data.as_ptr().wrapping_add(from),
                data.len().saturating_sub(from),
            )
        };
        let (a_ptr, a_len) = tail(a.data, i * a.rows);
        let (b_ptr, b_len) = tail(b.data, j * b.columns);
        // SAFETY: `check` has seen that [m, k], [k, n] and [m, n] lie within their slices, so every tile does too, with
        // pointer and length taken from the same slice. Tiles of `c` are disjoint: each (i, j) belongs to one of them.
        unsafe {
            let a = Matrix {
                data: std::slice::from_raw_parts(a_ptr, a_len),
                ..a
            };
            let b = Matrix {
                data: std::slice::from_raw_parts(b_ptr, b_len),
                ..b
            };
            raw(base.at(i * step + j), step, add, part, a, b);
        }
    });
}

/// A band of columns of a row-major matrix, for one task.
pub(crate) struct Band<'a> {
    /// Its first column.
    pub(crate) first: usize,
    /// Its number of columns.
    pub(crate) width: usize,
    rows: usize,
    step: usize,
    start: *mut f32,
    whole: std::marker::PhantomData<&'a mut [f32]>,
}

impl Band<'_> {
    /// Adds (or writes, without `add`) `a [rows, k] · b [k, width]`.
    pub(crate) fn product(&mut self, k: usize, a: Matrix<'_>, b: Matrix<'_>, add: bool) {
        let sizes = Sizes {
            m: self.rows,
            k,
            n: self.width,
        };
        assert!(
            a.holds(sizes.m, k) && b.holds(k, sizes.n),
            "a product of {sizes:?} exceeds its operands"
        );
        // SAFETY: `bands` made this band from a matrix that holds all its rows, and no other band has its columns.
        unsafe { raw(self.start, self.step, add, sizes, a, b) }
    }
}

impl Band<'_> {
    /// Multiplies each column by its factor.
    pub(crate) fn scale_columns(&mut self, factors: &[f32]) {
        self.each_row(|_, row| simd::binary_in_place(Binary::Mul, row, Lane::Each(factors)));
    }

    /// Writes column `j` from row `j` of `from`, whose rows are `step` apart, and adds `bias[j]`.
    pub(crate) fn write_transposed(&mut self, from: &[f32], step: usize, bias: Option<&[f32]>) {
        self.each_row(|r, row| {
            let column = from.get(r..).unwrap_or(&[]).iter().step_by(step.max(1));
            match bias {
                Some(bias) => {
                    for ((slot, x), b) in row.iter_mut().zip(column).zip(bias) {
                        *slot = x + b;
                    }
                }
                None => {
                    for (slot, &x) in row.iter_mut().zip(column) {
                        *slot = x;
                    }
                }
            }
        });
    }

    fn each_row(&mut self, f: impl Fn(usize, &mut [f32])) {
        for r in 0..self.rows {
            // SAFETY: as in `product`: row `r` of this band lies within the matrix and is nobody else's.
            let row = unsafe {
                std::slice::from_raw_parts_mut(self.start.wrapping_add(r * self.step), self.width)
            };
            f(r, row);
        }
    }
}

/// Runs `f` in parallel for each band of `width` columns of a matrix with `step` columns; `scratch` makes what a thread
/// reuses from band to band.
pub(crate) fn bands<S>(
    c: &mut [f32],
    step: usize,
    width: usize,
    scratch: impl Fn() -> S + Sync + Send,
    f: impl Fn(&mut S, &mut Band<'_>) + Sync + Send,
) {
    if step == 0 || width == 0 {
        return;
    }
    let rows = c.len() / step;
    let base = Shared(c.as_mut_ptr());
    (0..step.div_ceil(width))
        .into_par_iter()
        .for_each_init(scratch, |scratch, band| {
            let first = band * width;
            let mut band = Band {
                first,
                width: width.min(step - first),
                rows,
                step,
                start: base.at(first),
                whole: std::marker::PhantomData,
            };
            f(scratch, &mut band);
        });
}

/// Tile of the output: a function of the shape only.
fn tile(m: usize, n: usize) -> (usize, usize) {
    let piece = |size: usize, other: usize| {
        let wanted = if other > 1024 { 1024 } else { 512 };
        // At most 8 pieces of at least 128, in whole vectors.
        size.div_ceil(8).next_multiple_of(64).clamp(128, wanted)
    };
    if m > n {
        (piece(m, n), n.max(1))
    } else {
        (m.max(1), piece(n, m))
    }
}

struct Shared(*mut f32);
// SAFETY: the pointer is only used for disjoint tiles.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    fn at(&self, offset: usize) -> *mut f32 {
        self.0.wrapping_add(offset)
    }
}

/// The caller's matrices must lie within their slices; anything else is a mistake of this crate.
fn check(c: &Target<'_>, sizes: Sizes, a: Matrix<'_>, b: Matrix<'_>) {
    let Sizes { m, k, n } = sizes;
    let target = Matrix {
        data: &*c.data,
        rows: c.step,
        columns: 1,
    };
    assert!(
        target.holds(m, n) && (m <= 1 || c.step >= n) && a.holds(m, k) && b.holds(k, n),
        "a product of {sizes:?} exceeds its operands"
    );
}

/// # Safety
/// `c` holds `m` rows of `n` elements, `step` apart, and nobody else touches them; `a` holds [m, k] and `b` [k, n].
unsafe fn raw(c: *mut f32, step: usize, add: bool, s: Sizes, a: Matrix<'_>, b: Matrix<'_>) {
    if s.m == 0 || s.n == 0 {
        return;
    }
    // SAFETY: by this function's contract; strides fit isize since the matrices lie within slices.
    unsafe {
        gemm::gemm(
            s.m,
            s.n,
            s.k,
            c,
            1,
            step as isize,
            add,
            a.data.as_ptr(),
            a.columns as isize,
            a.rows as isize,
            b.data.as_ptr(),
            b.columns as isize,
            b.rows as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_the_output_once() {
        for (m, k, n) in [
            (1, 1, 1),
            (3, 5, 700),
            (700, 5, 3),
            (1030, 2, 1500),
            (0, 3, 4),
            (4, 0, 4),
        ] {
            let a: Vec<f32> = (0..m * k).map(|i| (i % 7) as f32).collect();
            let b: Vec<f32> = (0..k * n).map(|i| (i % 5) as f32).collect();
            let sizes = Sizes { m, k, n };
            let mut out = vec![1.0; m * n];
            let mut c = Target {
                data: &mut out,
                step: n,
                add: true,
            };
            parallel_product(&mut c, sizes, Matrix::packed(&a, k), Matrix::packed(&b, n));
            for i in 0..m {
                for j in 0..n {
                    let sum: f32 = (0..k).map(|x| a[i * k + x] * b[x * n + j]).sum();
                    assert_eq!(out[i * n + j], 1.0 + sum, "{m} {k} {n} at {i} {j}");
                }
            }
        }
    }
}
