//! Elementwise ops by vector loops, in place where nobody else reads the operand.

use crate::Result;
use crate::call::Call;
use crate::shape::{Walk, broadcast, broadcast_strides};
use crate::simd::{self, Binary, Lane, PIECE, Unary};
use crate::tensor::{Array, Buffer};
use rayon::prelude::*;
use std::sync::Arc;

/// A float function of `x` without parameters.
pub(crate) fn unary(call: &mut Call<'_>, op: Unary) -> Result<Option<Vec<Array>>> {
    let mut x = call.take("x")?;
    let Buffer::F32(v) = &mut x.buffer else {
        call.operands
            .insert("x", vec![crate::call::Operand::Array(x)]);
        return Ok(None);
    };
    if Arc::get_mut(v).is_none() {
        let mut copy = call.buffer(v.len());
        copy.par_chunks_mut(PIECE)
            .zip(v.par_chunks(PIECE))
            .for_each(|(to, from)| to.copy_from_slice(from));
        *v = Arc::new(copy);
    }
    if let Some(v) = Arc::get_mut(v) {
        simd::unary(op, v);
    }
    Ok(Some(vec![x]))
}

pub(crate) fn with_epsilon(
    call: &mut Call<'_>,
    default: f64,
    op: fn(f32) -> Unary,
) -> Result<Option<Vec<Array>>> {
    let epsilon = call.number("epsilon", default)? as f32;
    unary(call, op(epsilon))
}

pub(crate) fn clip(call: &mut Call<'_>) -> Result<Option<Vec<Array>>> {
    let low = call.number("alpha", 0.0)? as f32;
    let high = call.number("beta", 0.0)? as f32;
    unary(call, Unary::Clip(low, high))
}

pub(crate) fn gelu(call: &mut Call<'_>) -> Result<Option<Vec<Array>>> {
    match call.string("mode", "EXACT")? {
        "EXACT" => unary(call, Unary::GeluExact),
        "TANH_APPROXIMATION" => unary(call, Unary::GeluTanh),
        "SIGMOID_APPROXIMATION" => unary(call, Unary::GeluSigmoid),
        _ => Ok(None),
    }
}

/// Float operands with broadcasting: axes that both operands walk alike are merged, and the innermost is a vector loop.
pub(crate) fn binary(call: &mut Call<'_>, op: Binary) -> Result<Option<Vec<Array>>> {
    let (x, y) = (call.array("x")?, call.array("y")?);
    let (Buffer::F32(xv), Buffer::F32(yv)) = (&x.buffer, &y.buffer) else {
        return Ok(None);
    };
    let Some(shape) = broadcast(&x.shape, &y.shape) else {
        return Ok(None);
    };
    let n = call.count(&shape)?;
    let rows = Rows::new(&shape, &x.shape, &y.shape);
    if x.shape == shape && !Arc::ptr_eq(xv, yv) {
        // The call's own handle and this one are all there are: write into x.
        let yv = yv.clone();
        drop(x);
        let mut x = call.take("x")?;
        let shared = match &mut x.buffer {
            Buffer::F32(v) => Arc::get_mut(v),
            _ => None,
        };
        if let Some(v) = shared {
            rows.in_place(op, v, &yv);
            return Ok(Some(vec![x]));
        }
        let Buffer::F32(v) = &x.buffer else {
            return Ok(None);
        };
        let mut out = call.buffer(n);
        rows.write_new(op, &mut out, v, &yv);
        return Ok(Some(vec![Array::f32(&shape, out)]));
    }
    let mut out = call.buffer(n);
    rows.write_new(op, &mut out, xv, yv);
    Ok(Some(vec![Array::f32(&shape, out)]))
}

/// An elementwise op as rows: per row an offset into each operand, and whether it moves along the row.
struct Rows {
    length: usize,
    x: Vec<usize>,
    y: Vec<usize>,
    x_moves: bool,
    y_moves: bool,
}

impl Rows {
    fn new(shape: &[usize], x: &[usize], y: &[usize]) -> Self {
        let (xs, ys) = (broadcast_strides(x, shape), broadcast_strides(y, shape));
        // From the innermost axis on, merge axes that both operands walk as one.
        let mut axes: Vec<(usize, usize, usize)> = Vec::new();
        for ((&d, &sx), &sy) in shape.iter().zip(&xs).zip(&ys).rev() {
            match axes.last_mut() {
                _ if d == 1 => {}
                Some((size, lx, ly)) if sx == *lx * *size && sy == *ly * *size => *size *= d,
                _ => axes.push((d, sx, sy)),
            }
        }
        let (length, lx, ly) = if axes.is_empty() {
            (1, 0, 0)
        } else {
            axes.remove(0)
        };
        axes.reverse();
        let sizes: Vec<usize> = axes.iter().map(|a| a.0).collect();
        let offsets = |stride: fn(&(usize, usize, usize)) -> usize| -> Vec<usize> {
            let strides: Vec<usize> = axes.iter().map(stride).collect();
            Walk::unsigned(&sizes, &strides).collect()
        };
        let rows = Self {
            length,
            x: offsets(|a| a.1),
            y: offsets(|a| a.2),
            x_moves: lx == 1,
            y_moves: ly == 1,
        };
        if rows.x.len() == 1 { rows.cut() } else { rows }
    }

    /// One long row becomes several, so that they can run in parallel.
    fn cut(mut self) -> Self {
        let pieces = self.length.div_ceil(PIECE);
        let starts = |moves: bool| {
            let step = if moves { PIECE } else { 0 };
            (0..pieces).map(|i| i * step).collect()
        };
        self.x = starts(self.x_moves);
        self.y = starts(self.y_moves);
        self.length = self.length.min(PIECE);
        self
    }

    fn write_new(&self, op: Binary, out: &mut [f32], x: &[f32], y: &[f32]) {
        let rows = self.x.par_iter().zip(&self.y).with_min_len(self.least());
        rows.zip(out.par_chunks_mut(self.length.max(1)))
            .for_each(|((&i, &j), out)| {
                let (x, y) = (
                    lane(x, i, self.x_moves, out.len()),
                    lane(y, j, self.y_moves, out.len()),
                );
                simd::binary(op, out, x, y);
            });
    }

    /// x has the shape of the result and is walked row by row.
    fn in_place(&self, op: Binary, x: &mut [f32], y: &[f32]) {
        let rows = self.y.par_iter().with_min_len(self.least());
        rows.zip(x.par_chunks_mut(self.length.max(1)))
            .for_each(|(&j, x)| {
                let y = lane(y, j, self.y_moves, x.len());
                simd::binary_in_place(op, x, y);
            });
    }

    /// Rows per task.
    fn least(&self) -> usize {
        PIECE.div_ceil(self.length.max(1))
    }
}

/// An operand along a row of `n` elements that starts at `at`.
fn lane(v: &[f32], at: usize, moves: bool, n: usize) -> Lane<'_> {
    if moves {
        Lane::Each(v.get(at..at + n).unwrap_or(&[]))
    } else {
        Lane::Same(v.get(at).copied().unwrap_or(f32::NAN))
    }
}
