//! `linear` and `matmul` on gemm.

use crate::Result;
use crate::call::Call;
use crate::gemm::{Matrix, Sizes, Target, parallel_product, product};
use crate::kernels::naive::linear::Product;
use crate::tensor::Array;
use rayon::prelude::*;

/// Products with less work than this per batch element run one per thread.
const SMALL: usize = 1 << 18;

pub(crate) fn matmul(call: &mut Call<'_>) -> Result<Option<Vec<Array>>> {
    let (xs, x) = call.floats("x")?;
    let (ys, y) = call.floats("y")?;
    let p = Product::of(call, &xs, &ys)?;
    let n = call.count(&p.shape)?;
    let mut out = call.buffer(n);
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
            add: false,
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
    Ok(Some(vec![Array::f32(&p.shape, out)]))
}

pub(crate) fn linear(call: &mut Call<'_>) -> Result<Option<Vec<Array>>> {
    let (xs, x) = call.floats("x")?;
    let ws = call.shape("weight")?;
    let (Some((&inner, outer)), &[out, w_inner]) = (xs.split_last(), &ws[..]) else {
        return Ok(None);
    };
    if inner != w_inner || inner == 0 {
        return Ok(None);
    }
    let weight = call.array("weight")?;
    let w = call.as_floats("weight", &weight)?;
    let mut shape = outer.to_vec();
    shape.push(out);
    let mut y = call.buffer(call.count(&shape)?);
    let bias = call.optional_floats("bias")?;
    if let Some((_, bias)) = &bias {
        if bias.len() != out {
            return Ok(None);
        }
        y.chunks_exact_mut(out.max(1))
            .for_each(|row| row.copy_from_slice(bias));
    }
    let sizes = Sizes {
        m: x.len() / inner,
        k: inner,
        n: out,
    };
    let b = Matrix {
        data: &w,
        rows: 1,
        columns: inner,
    };
    let mut c = Target {
        data: &mut y,
        step: out,
        add: bias.is_some(),
    };
    parallel_product(&mut c, sizes, Matrix::packed(&x, inner), b);
    drop(w);
    call.recycle(weight);
    Ok(Some(vec![Array::f32(&shape, y)]))
}
