//! `gather` of rows of a large constant, of which only those are decoded.

use crate::Result;
use crate::call::{Call, Operand};
use crate::kernels::naive::gather::index;
use crate::tensor::{Array, Class};
use rayon::prelude::*;

/// Elements up to which decoding all of it costs nothing.
const SMALL: usize = 1 << 16;

pub(crate) fn gather(call: &mut Call<'_>) -> Result<Option<Vec<Array>>> {
    let Some(Operand::Constant(table)) = call.operand("x") else {
        return Ok(None);
    };
    let float = table.ty().and_then(|t| Class::of(t.dtype)) == Some(Class::F32);
    let shape = call.shape("x")?;
    let first = call.axis("axis", 0, shape.len())? == 0 && call.int("batch_dims", 0)? == 0;
    let (Some((&rows, rest)), true, true) = (shape.split_first(), float, first) else {
        return Ok(None);
    };
    if call.count(&shape)? <= SMALL {
        return Ok(None);
    }
    let indices = call.array("indices")?;
    let wanted = indices
        .to_i64()
        .into_iter()
        .map(|i| index(call, i, rows))
        .collect::<Result<Vec<usize>>>()?;
    let table = call.pieces("x")?;
    let mut result = indices.shape;
    result.extend(rest);
    let mut out = call.buffer(call.count(&result)?);
    let width = (table.len() / rows.max(1)).max(1);
    out.par_chunks_mut(width).zip(&wanted).for_each_init(
        || vec![0f32; width],
        |scratch, (out, row)| {
            let row = table.get(row * width, width, scratch);
            for (slot, &x) in out.iter_mut().zip(row) {
                *slot = x;
            }
        },
    );
    Ok(Some(vec![Array::f32(&result, out)]))
}
