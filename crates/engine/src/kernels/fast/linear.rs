//! `linear` and `matmul` on gemm.

use crate::Result;
use crate::call::Call;
use crate::gemm::{Matrix, Sizes, Target, bands, parallel_product, product};
use crate::kernels::naive::linear::Product;
use crate::tensor::Array;
use rayon::prelude::*;

/// Products with less work than this per batch element run one per thread.
const SMALL: usize = 1 << 18;

pub(crate) fn matmul(call: &mut Call<'_>) -> Result<Option<Vec<Array>>> {
    let (xs, x) = call.floats("x")?;
    let (ys, y) = call.floats("y")?;
    let p = Product::of(call, &xs, &ys)?;
    let mut out = call.buffer(call.count(&p.shape)?);
    multiplied(&p, &x, &y, &mut out, false);
    Ok(Some(vec![Array::f32(&p.shape, out)]))
}

/// Adds a `matmul`'s product to `out`; false, with nothing changed, when it has another number of elements.
pub(crate) fn accumulated(call: &Call<'_>, out: &mut [f32]) -> Result<bool> {
    let (xs, x) = call.floats("x")?;
    let (ys, y) = call.floats("y")?;
    let p = Product::of(call, &xs, &ys)?;
    let fits = call.count(&p.shape)? == out.len();
    if fits {
        multiplied(&p, &x, &y, out, true);
    }
    Ok(fits)
}

fn multiplied(p: &Product, x: &[f32], y: &[f32], out: &mut [f32], add: bool) {
    let sizes = Sizes {
        m: p.m,
        k: p.k,
        n: p.n,
    };
    let one = |out: &mut [f32], (x0, y0): (usize, usize), parallel: bool| {
        let a = Matrix {
            data: x.get(x0..).unwrap_or(&[]),
            rows: p.x.0,
            columns: p.x.1,
        };
        let b = Matrix {
            data: y.get(y0..).unwrap_or(&[]),
            rows: p.y.0,
            columns: p.y.1,
        };
        let mut c = Target {
            data: out,
            step: p.n,
            add,
        };
        if parallel {
            parallel_product(&mut c, sizes, a, b);
        } else {
            product(&mut c, sizes, a, b);
        }
    };
    let offsets = p.offsets();
    let size = (p.m * p.n).max(1);
    if p.m * p.n * p.k < SMALL {
        let batches = out.par_chunks_mut(size).zip(offsets);
        batches.for_each(|(out, at)| one(out, at, false));
    } else {
        for (out, at) in out.chunks_mut(size).zip(offsets) {
            one(out, at, true);
        }
    }
}

/// Most rows of x for which the weight streams past them.
const FEW: usize = 256;
/// Elements of a weight panel, about: it stays in a core's cache.
const PANEL: usize = 1 << 16;
/// Elements per vector of the widest units; rows of x are padded to it.
const VECTOR: usize = 16;

pub(crate) fn linear(call: &mut Call<'_>) -> Result<Option<Vec<Array>>> {
    let (xs, x) = call.floats("x")?;
    let ws = call.shape("weight")?;
    let (Some((&inner, outer)), &[out, w_inner]) = (xs.split_last(), &ws[..]) else {
        return Ok(None);
    };
    if inner != w_inner || inner == 0 || out == 0 {
        return Ok(None);
    }
    let bias = call.optional_floats("bias")?;
    if bias.as_ref().is_some_and(|(_, bias)| bias.len() != out) {
        return Ok(None);
    }
    let bias = bias.as_ref().map(|(_, bias)| bias.as_slice());
    let mut shape = outer.to_vec();
    shape.push(out);
    let mut y = call.buffer(call.count(&shape)?);
    let sizes = Sizes {
        m: x.len() / inner,
        k: inner,
        n: out,
    };
    if sizes.m <= FEW {
        few(call, &x, sizes, bias, &mut y)?;
    } else {
        many(call, &x, sizes, bias, &mut y)?;
    }
    Ok(Some(vec![Array::f32(&shape, y)]))
}

fn many(call: &Call<'_>, x: &[f32], s: Sizes, bias: Option<&[f32]>, y: &mut [f32]) -> Result<()> {
    let weight = call.array("weight")?;
    let w = call.as_floats("weight", &weight)?;
    if let Some(bias) = bias {
        y.par_chunks_exact_mut(s.n)
            .for_each(|row| row.copy_from_slice(bias));
    }
    let b = Matrix {
        data: &w,
        rows: 1,
        columns: s.k,
    };
    let mut c = Target {
        data: y,
        step: s.n,
        add: bias.is_some(),
    };
    parallel_product(&mut c, s, Matrix::packed(x, s.k), b);
    drop(w);
    call.recycle(weight);
    Ok(())
}

/// Few rows: `yᵀ = weight · xᵀ` in bands of outputs, so that vectors run along the rows of x, which are laid out for it
/// once, and each element of the weight is decoded and read once.
fn few(call: &Call<'_>, x: &[f32], s: Sizes, bias: Option<&[f32]>, y: &mut [f32]) -> Result<()> {
    let Sizes { m, k, n } = s;
    let weight = call.pieces("weight")?;
    let step = m.next_multiple_of(VECTOR);
    let mut columns = call.buffer(k * step);
    transposed(x, k, step, &mut columns);
    let right = Matrix::packed(&columns, step);
    // Whole groups of six outputs, which the product's inner loop takes.
    let width = (PANEL / k / 6 * 6).clamp(6, 96);
    bands(
        y,
        n,
        width,
        || (vec![0f32; width * k], vec![0f32; width * step]),
        |(panel, sums), band| {
            let left = weight.get(band.first * k, band.width * k, panel);
            let sizes = Sizes {
                m: band.width,
                k,
                n: step,
            };
            let mut c = Target {
                data: sums,
                step,
                add: false,
            };
            product(&mut c, sizes, Matrix::packed(left, k), right);
            let bias = bias.and_then(|b| b.get(band.first..band.first + band.width));
            band.write_transposed(sums, step, bias);
        },
    );
    call.recycle(Array::f32(&[columns.len()], columns));
    Ok(())
}

/// Columns of `x [rows, k]` as rows of `out`, `step` apart and filled up with zeros.
fn transposed(x: &[f32], k: usize, step: usize, out: &mut [f32]) {
    const BLOCK: usize = 64;
    out.par_chunks_mut(BLOCK * step)
        .enumerate()
        .for_each(|(block, out)| {
            let first = block * BLOCK;
            out.fill(0.0);
            for (r, row) in x.chunks_exact(k).enumerate() {
                let row = row.get(first..).unwrap_or(&[]);
                for (column, &x) in out.chunks_exact_mut(step).zip(row) {
                    if let Some(slot) = column.get_mut(r) {
                        *slot = x;
                    }
                }
            }
        });
}
