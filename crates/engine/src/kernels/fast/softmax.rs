//! `softmax` over the last axis by rows, over any other by blocks of columns.

use crate::Result;
use crate::call::Call;
use crate::shape::around;
use crate::simd::{self, Binary, Lane};
use crate::tensor::{Array, Buffer};
use rayon::prelude::*;
use std::sync::Arc;

/// Columns that go through a block together.
const COLUMNS: usize = 64;

pub(crate) fn softmax(call: &mut Call<'_>) -> Result<Option<Vec<Array>>> {
    let shape = call.shape("x")?;
    let axis = call.axis("axis", -1, shape.len())?;
    let (before, size, after) = around(&shape, axis);
    let mut x = call.take("x")?;
    let Buffer::F32(v) = &mut x.buffer else {
        return Err(call.wrong("x is not a float tensor"));
    };
    if Arc::get_mut(v).is_none() {
        let mut copy = call.buffer(v.len());
        copy.copy_from_slice(v);
        *v = Arc::new(copy);
    }
    let Some(v) = Arc::get_mut(v) else {
        return Ok(None);
    };
    if size == 0 || after == 0 {
        return Ok(Some(vec![x]));
    }
    if after == 1 {
        let rows = v
            .par_chunks_mut(size)
            .with_min_len(4096usize.div_ceil(size));
        rows.for_each(row);
    } else if before >= 16 || after < 2 * COLUMNS {
        v.par_chunks_mut(size * after)
            .for_each(|block| columns(block, after));
    } else {
        for block in v.chunks_mut(size * after) {
            wide(block, after);
        }
    }
    Ok(Some(vec![x]))
}

/// Softmax of one contiguous row.
pub(crate) fn row(v: &mut [f32]) {
    let top = simd::max(v);
    simd::exp_shifted(v, top);
    let total = simd::power_sum(v, 0.0, false);
    simd::binary_in_place(Binary::Mul, v, Lane::Same((1.0 / total) as f32));
}

/// Softmax down the columns of a row-major block with `width` columns.
pub(crate) fn columns(block: &mut [f32], width: usize) {
    let mut top = vec![f32::NEG_INFINITY; width];
    for row in block.chunks_exact(width) {
        simd::binary_in_place(Binary::Max, &mut top, Lane::Each(row));
    }
    // Partial sums of 64 rows, so that long columns keep their precision.
    let mut total = vec![0f32; width];
    for rows in block.chunks_mut(width * 64) {
        let mut part = vec![0f32; width];
        for row in rows.chunks_exact_mut(width) {
            simd::exp_columns(row, &top, &mut part);
        }
        simd::binary_in_place(Binary::Add, &mut total, Lane::Each(&part));
    }
    for t in &mut total {
        *t = 1.0 / *t;
    }
    for row in block.chunks_exact_mut(width) {
        simd::binary_in_place(Binary::Mul, row, Lane::Each(&total));
    }
}

/// The same for a wide block: bands of columns are copied out, worked on in cache, and copied back.
fn wide(block: &mut [f32], width: usize) {
    let bands = width.div_ceil(COLUMNS);
    let size = block.len() / width;
    let source = &*block;
    // Few bands at a time, so that the copies stay small.
    let mut results: Vec<Vec<f32>> = Vec::new();
    (0..bands)
        .into_par_iter()
        .map(|band| {
            let first = band * COLUMNS;
            let n = COLUMNS.min(width - first);
            let mut copy = Vec::with_capacity(n * size);
            for row in source.chunks_exact(width) {
                copy.extend_from_slice(row.get(first..first + n).unwrap_or(&[]));
            }
            columns(&mut copy, n);
            copy
        })
        .collect_into_vec(&mut results);
    block
        .par_chunks_exact_mut(width)
        .enumerate()
        .for_each(|(r, row)| {
            for (part, band) in row.chunks_mut(COLUMNS).zip(&results) {
                let n = part.len();
                part.copy_from_slice(band.get(r * n..(r + 1) * n).unwrap_or(&[]));
            }
        });
}
