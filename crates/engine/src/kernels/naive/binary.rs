//! Elementwise ops of two operands with broadcasting, and `select`.

use crate::Result;
use crate::call::Call;
use crate::shape::{Walk, broadcast, broadcast_strides};
use crate::tensor::{Array, Buffer, Class, Outputs};

/// Float and integer form of an op.
#[derive(Clone, Copy)]
pub(crate) struct Arithmetic {
    pub(crate) float: fn(f64, f64) -> f64,
    pub(crate) int: fn(i64, i64) -> i64,
}

/// Broadcast shape, and the offsets of both operands per element.
type Paired = (Vec<usize>, Vec<(usize, usize)>);

fn pairs(call: &Call<'_>, x: &Array, y: &Array) -> Result<Paired> {
    let shape = broadcast(&x.shape, &y.shape)
        .ok_or_else(|| call.wrong(format!("x {:?} and y {:?} do not fit", x.shape, y.shape)))?;
    call.count(&shape)?;
    let offsets = |a: &Array| Walk::unsigned(&shape, &broadcast_strides(&a.shape, &shape));
    let pairs = offsets(x).zip(offsets(y)).collect();
    Ok((shape, pairs))
}

/// Integers stay integers when the output is declared so; else everything is f64 inside.
pub(crate) fn arithmetic(call: &mut Call<'_>, op: Arithmetic) -> Outputs {
    let (x, y) = (call.array("x")?, call.array("y")?);
    let (shape, pairs) = pairs(call, &x, &y)?;
    if call.class() == Class::I32 {
        let (x, y) = (x.to_i64(), y.to_i64());
        let wrapped = |(i, j): (usize, usize)| (op.int)(x[i], y[j]) as i32;
        return Ok(vec![Array::i32(
            &shape,
            pairs.into_iter().map(wrapped).collect(),
        )]);
    }
    let (x, y) = (x.to_f64(), y.to_f64());
    let out = pairs
        .into_iter()
        .map(|(i, j)| (op.float)(x[i], y[j]) as f32);
    Ok(vec![Array::f32(&shape, out.collect())])
}

/// Comparison; the result is bool.
pub(crate) fn compared(call: &mut Call<'_>, f: fn(f64, f64) -> bool) -> Outputs {
    let (x, y) = (call.array("x")?, call.array("y")?);
    let (shape, pairs) = pairs(call, &x, &y)?;
    let (x, y) = (x.to_f64(), y.to_f64());
    let out = pairs.into_iter().map(|(i, j)| f(x[i], y[j]));
    Ok(vec![Array::bool(&shape, out.collect())])
}

/// Logical op of two bools.
pub(crate) fn logical(call: &mut Call<'_>, f: fn(bool, bool) -> bool) -> Outputs {
    let (x, y) = (call.array("x")?, call.array("y")?);
    let (shape, pairs) = pairs(call, &x, &y)?;
    let (x, y) = (x.to_i64(), y.to_i64());
    let out = pairs.into_iter().map(|(i, j)| f(x[i] != 0, y[j] != 0));
    Ok(vec![Array::bool(&shape, out.collect())])
}

/// `a` where `cond` holds, else `b`; all three broadcast.
pub(crate) fn select(call: &mut Call<'_>) -> Outputs {
    let (cond, a, b) = (call.array("cond")?, call.array("a")?, call.array("b")?);
    let shape = broadcast(&a.shape, &b.shape)
        .and_then(|s| broadcast(&s, &cond.shape))
        .ok_or_else(|| {
            let shapes = (&cond.shape, &a.shape, &b.shape);
            call.wrong(format!("cond, a, b {shapes:?} do not fit"))
        })?;
    call.count(&shape)?;
    let offsets = |a: &Array| Walk::unsigned(&shape, &broadcast_strides(&a.shape, &shape));
    let chosen = cond.to_i64();
    let picks = offsets(&cond).zip(offsets(&a).zip(offsets(&b)));
    let picks = picks.map(|(c, (i, j))| (chosen[c] != 0, i, j));
    macro_rules! picked {
        ($a:ident, $b:ident) => {
            picks
                .map(|(c, i, j)| if c { $a[i] } else { $b[j] })
                .collect()
        };
    }
    Ok(vec![match (&a.buffer, &b.buffer) {
        (Buffer::F32(a), Buffer::F32(b)) => Array::f32(&shape, picked!(a, b)),
        (Buffer::I32(a), Buffer::I32(b)) => Array::i32(&shape, picked!(a, b)),
        (Buffer::Bool(a), Buffer::Bool(b)) => Array::bool(&shape, picked!(a, b)),
        _ => return Err(call.wrong("a and b differ in dtype")),
    }])
}
