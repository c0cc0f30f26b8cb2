//! `gather`, `gather_along_axis`, `gather_nd`, `one_hot`.

use crate::Result;
use crate::call::Call;
use crate::shape::{Walk, around, broadcast_strides};
use crate::tensor::{Array, Class, Outputs, each_class};

/// An index, counted from the end when negative.
pub(crate) fn index(call: &Call<'_>, i: i64, size: usize) -> Result<usize> {
    crate::shape::axis(i, size)
        .ok_or_else(|| call.wrong(format!("index {i} for an axis of size {size}")))
}

/// Whole slices of x along an axis.
///
/// Shapes: `x [B…, P…, D, S…]`, `indices [B…, I…]` → `[B…, P…, I…, S…]`, B the first `batch_dims` axes.
/// Source: Core ML op `gather` (iOS15, `batch_dims` from iOS16); axis 0 by default.
pub(crate) fn gather(call: &mut Call<'_>) -> Outputs {
    let x = call.array("x")?;
    let indices = call.array("indices")?;
    let axis = call.axis("axis", 0, x.shape.len())?;
    let batch = call
        .sizes_or("batch_dims", 1, 0)?
        .first()
        .copied()
        .unwrap_or(0);
    let fits = batch <= axis
        && batch <= indices.shape.len()
        && x.shape.get(..batch) == indices.shape.get(..batch);
    if !fits {
        let shapes = (&x.shape, &indices.shape);
        return Err(call.wrong(format!("x and indices {shapes:?} with {batch} batch axes")));
    }
    let (batch_shape, own) = indices.shape.split_at(batch);
    let batches: usize = batch_shape.iter().product();
    let per_batch: usize = own.iter().product();
    let (before, size, after) = around(&x.shape, axis);
    let middle = before / batches.max(1);
    let mut shape: Vec<usize> = x.shape.get(..axis).unwrap_or(&[]).to_vec();
    shape.extend(own);
    shape.extend(x.shape.get(axis + 1..).unwrap_or(&[]));
    call.count(&shape)?;
    let wanted = indices
        .to_i64()
        .into_iter()
        .map(|i| index(call, i, size))
        .collect::<Result<Vec<usize>>>()?;
    let mut starts = Vec::with_capacity(batches * middle * per_batch);
    for b in 0..batches {
        for m in 0..middle {
            for i in 0..per_batch {
                starts.push(((b * middle + m) * size + wanted[b * per_batch + i]) * after);
            }
        }
    }
    Ok(vec![each_class!(x, &shape, |v| {
        let mut out = Vec::with_capacity(starts.len() * after);
        for &s in &starts {
            out.extend_from_slice(&v[s..s + after]);
        }
        out
    })])
}

/// `out[.., i, ..] = x[.., indices[.., i, ..], ..]` along an axis; the shape is that of the indices.
///
/// Source: Core ML op `gather_along_axis` (iOS15); axis 0 by default.
pub(crate) fn gather_along_axis(call: &mut Call<'_>) -> Outputs {
    let x = call.array("x")?;
    let indices = call.array("indices")?;
    let axis = call.axis("axis", 0, x.shape.len())?;
    let same = x.shape.len() == indices.shape.len()
        && x.shape
            .iter()
            .zip(&indices.shape)
            .enumerate()
            .all(|(a, (d, i))| a == axis || d == i);
    if !same {
        let shapes = (&x.shape, &indices.shape);
        return Err(call.wrong(format!("x and indices {shapes:?} do not fit")));
    }
    let (_, size, after) = around(&x.shape, axis);
    let (_, count, _) = around(&indices.shape, axis);
    let mut from = Vec::with_capacity(indices.len());
    for (p, i) in indices.to_i64().into_iter().enumerate() {
        let before = p / (count * after).max(1);
        from.push((before * size + index(call, i, size)?) * after + p % after.max(1));
    }
    Ok(vec![each_class!(x, &indices.shape, |v| from
        .iter()
        .map(|&i| v[i])
        .collect())])
}

/// Each last-axis row of the indices names a slice of x.
///
/// Shapes: `x [D…]`, `indices [I…, K]` → `[I…, D_K…]`; with `batch_dims` the first axes go along.
/// Source: Core ML op `gather_nd` (iOS15, `batch_dims` from iOS16).
pub(crate) fn gather_nd(call: &mut Call<'_>) -> Outputs {
    let x = call.array("x")?;
    let indices = call.array("indices")?;
    let batch = call
        .sizes_or("batch_dims", 1, 0)?
        .first()
        .copied()
        .unwrap_or(0);
    let k = indices.shape.last().copied().unwrap_or(0);
    if k == 0 || batch + k > x.shape.len() || batch + 1 > indices.shape.len() {
        let shapes = (&x.shape, &indices.shape);
        return Err(call.wrong(format!("x and indices {shapes:?} do not fit")));
    }
    let batches: usize = x.shape.get(..batch).unwrap_or(&[]).iter().product();
    let indexed = x.shape.get(batch..batch + k).unwrap_or(&[]);
    let slice: usize = x.shape.get(batch + k..).unwrap_or(&[]).iter().product();
    let mut shape = indices
        .shape
        .get(..indices.shape.len() - 1)
        .unwrap_or(&[])
        .to_vec();
    shape.extend(x.shape.get(batch + k..).unwrap_or(&[]));
    call.count(&shape)?;
    let rows = indices.to_i64();
    let per_batch = (rows.len() / k / batches.max(1)).max(1);
    let mut starts = Vec::new();
    for (r, row) in rows.chunks_exact(k).enumerate() {
        let mut at = r / per_batch;
        for (&i, &d) in row.iter().zip(indexed) {
            at = at * d + index(call, i, d)?;
        }
        starts.push(at * slice);
    }
    Ok(vec![each_class!(x, &shape, |v| {
        starts
            .iter()
            .flat_map(|&s| v[s..s + slice].iter().copied())
            .collect()
    })])
}

/// A new axis with `on_value` at the index and `off_value` elsewhere.
///
/// Source: Core ML op `one_hot` (iOS15); axis -1 by default.
pub(crate) fn one_hot(call: &mut Call<'_>) -> Outputs {
    let indices = call.array("indices")?;
    let size = call
        .sizes("one_hot_vector_size")?
        .first()
        .copied()
        .unwrap_or(0);
    let axis = call.axis("axis", -1, indices.shape.len() + 1)?;
    let on = call.number("on_value", 1.0)?;
    let off = call.number("off_value", 0.0)?;
    let mut shape = indices.shape.clone();
    shape.insert(axis, size);
    call.count(&shape)?;
    let mut own = indices.shape.clone();
    own.insert(axis, 1);
    let (_, _, after) = around(&shape, axis);
    let given = indices.to_i64();
    let offsets = Walk::unsigned(&shape, &broadcast_strides(&own, &shape));
    let values = offsets.enumerate().map(|(p, o)| {
        let along = (p / after.max(1) % size.max(1)) as i64;
        let i = given[o];
        let i = if i < 0 { i + size as i64 } else { i };
        if along == i { on } else { off }
    });
    Ok(vec![match call.class() {
        Class::F32 => Array::f32(&shape, values.map(|v| v as f32).collect()),
        Class::I32 => Array::i32(&shape, values.map(|v| v as i32).collect()),
        Class::Bool => Array::bool(&shape, values.map(|v| v != 0.0).collect()),
    }])
}
