//! `layer_norm`, `instance_norm` and reductions over contiguous rows or over a middle axis.

use crate::Result;
use crate::call::Call;
use crate::kernels::naive::reduce::reduced_shape;
use crate::simd::{self, Binary, Lane, PIECE};
use crate::tensor::{Array, Buffer};
use rayon::prelude::*;

/// Over trailing axes.
pub(crate) fn layer_norm(call: &mut Call<'_>) -> Result<Option<Vec<Array>>> {
    let shape = call.shape("x")?;
    let axes = call.axes("axes", shape.len())?;
    let first = shape.len() - axes.len();
    if axes.iter().enumerate().any(|(i, &a)| a != first + i) {
        return Ok(None);
    }
    let n: usize = shape.iter().skip(first).product();
    normalized(call, n, |v, _| Lane::Each(v))
}

pub(crate) fn instance_norm(call: &mut Call<'_>) -> Result<Option<Vec<Array>>> {
    let shape = call.shape("x")?;
    let channels = shape.get(1).copied().unwrap_or(1).max(1);
    let n: usize = shape.iter().skip(2).product();
    normalized(call, n, move |v, row| {
        Lane::Same(v.get(row % channels).copied().unwrap_or(f32::NAN))
    })
}

fn normalized(
    call: &mut Call<'_>,
    n: usize,
    lane: impl for<'a> Fn(&'a [f32], usize) -> Lane<'a> + Sync,
) -> Result<Option<Vec<Array>>> {
    let gamma = call.optional_floats("gamma")?;
    let beta = call.optional_floats("beta")?;
    let epsilon = call.number("epsilon", 1e-5)?;
    let (shape, x) = call.floats("x")?;
    if n == 0 {
        return Ok(None);
    }
    let mut out = call.buffer(x.len());
    let rows = out.par_chunks_mut(n).zip(x.par_chunks(n)).enumerate();
    rows.with_min_len(PIECE.div_ceil(n))
        .for_each(|(row, (out, x))| {
            out.copy_from_slice(x);
            let exact = simd::power_sum(x, 0.0, false) / n as f64;
            let mean = exact as f32;
            let rest = exact - f64::from(mean);
            let variance = simd::power_sum(x, mean, true) / n as f64 - rest * rest;
            let scale = (1.0 / (variance.max(0.0) + epsilon).sqrt()) as f32;
            let g = gamma
                .as_ref()
                .map_or(Lane::Same(1.0), |(_, v)| lane(v, row));
            let b = beta.as_ref().map_or(Lane::Same(0.0), |(_, v)| lane(v, row));
            simd::normalize(out, (mean, rest as f32), scale, g, b);
        });
    Ok(Some(vec![Array::f32(&shape, out)]))
}

/// What is summed, and what the sum is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sum {
    Plain,
    Mean,
    Squares,
}

/// Sums over adjacent axes.
pub(crate) fn reduce_sum(call: &mut Call<'_>, sum: Sum) -> Result<Option<Vec<Array>>> {
    let x = call.array("x")?;
    let axes = call.axes("axes", x.shape.len())?;
    let keep = call.flag("keep_dims", false)?;
    let Buffer::F32(v) = &x.buffer else {
        return Ok(None);
    };
    let (Some(&first), Some(&last)) = (axes.first(), axes.last()) else {
        return Ok(None);
    };
    if last - first + 1 != axes.len() {
        return Ok(None);
    }
    let size: usize = x.shape.iter().take(last + 1).skip(first).product();
    let after: usize = x.shape.iter().skip(last + 1).product();
    if size == 0 || after == 0 {
        return Ok(None);
    }
    let shape = reduced_shape(&x.shape, &axes, keep);
    let factor = if sum == Sum::Mean {
        1.0 / size as f64
    } else {
        1.0
    };
    let mut out = call.buffer(call.count(&shape)?);
    if after == 1 {
        let rows = out.par_iter_mut().zip(v.par_chunks(size));
        rows.with_min_len(PIECE.div_ceil(size))
            .for_each(|(out, row)| {
                *out = (simd::power_sum(row, 0.0, sum == Sum::Squares) * factor) as f32;
            });
    } else {
        let blocks = out.par_chunks_mut(after).zip(v.par_chunks(size * after));
        blocks.for_each(|(out, block)| down(out, block, sum, factor as f32));
    }
    Ok(Some(vec![Array::f32(&shape, out)]))
}

/// Sums down the columns of a row-major block.
fn down(out: &mut [f32], block: &[f32], sum: Sum, factor: f32) {
    const BAND: usize = 1024;
    let width = out.len();
    out.par_chunks_mut(BAND)
        .enumerate()
        .for_each(|(band, out)| {
            let (first, n) = (band * BAND, out.len());
            let mut part = vec![0f32; n];
            let mut squares = vec![0f32; n];
            out.fill(0.0);
            // Partial sums of 64 rows, so that long columns keep their precision.
            for rows in block.chunks(width * 64) {
                part.fill(0.0);
                for row in rows.chunks_exact(width) {
                    let row = row.get(first..first + n).unwrap_or(&[]);
                    if sum == Sum::Squares {
                        simd::binary(Binary::Mul, &mut squares, Lane::Each(row), Lane::Each(row));
                        simd::binary_in_place(Binary::Add, &mut part, Lane::Each(&squares));
                    } else {
                        simd::binary_in_place(Binary::Add, &mut part, Lane::Each(row));
                    }
                }
                simd::binary_in_place(Binary::Add, out, Lane::Each(&part));
            }
            simd::binary_in_place(Binary::Mul, out, Lane::Same(factor));
        });
}
