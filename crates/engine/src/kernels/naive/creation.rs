//! `fill`, `fill_like`, `range_1d`, `shape`.

use crate::call::Call;
use crate::tensor::{Array, Class, Outputs};

fn filled(call: &Call<'_>, shape: &[usize]) -> Outputs {
    let n = call.count(shape)?;
    let value = call.number("value", 0.0)?;
    Ok(vec![match call.class() {
        Class::F32 => Array::f32(shape, vec![value as f32; n]),
        Class::I32 => Array::i32(shape, vec![value as i32; n]),
        Class::Bool => Array::bool(shape, vec![value != 0.0; n]),
    }])
}

/// A tensor of `shape` with one value.
pub(crate) fn fill(call: &mut Call<'_>) -> Outputs {
    let shape = call.sizes("shape")?;
    filled(call, &shape)
}

/// The same in the shape of another tensor.
pub(crate) fn fill_like(call: &mut Call<'_>) -> Outputs {
    let shape = call.shape("ref_tensor")?;
    filled(call, &shape)
}

/// start, start + step, … below `end` (above it with a negative step).
pub(crate) fn range_1d(call: &mut Call<'_>) -> Outputs {
    let start = call.number("start", 0.0)?;
    let end = call.number("end", 0.0)?;
    let step = call.number("step", 1.0)?;
    let n = ((end - start) / step).ceil();
    if !n.is_finite() || n > 1e9 {
        return Err(call.wrong(format!("from {start} to {end} in steps of {step}")));
    }
    let n = n.max(0.0) as usize;
    let values = (0..n).map(|i| start + i as f64 * step);
    Ok(vec![match call.class() {
        Class::I32 => Array::i32(&[n], values.map(|v| v as i32).collect()),
        _ => Array::f32(&[n], values.map(|v| v as f32).collect()),
    }])
}

/// The shape of a tensor as int32.
pub(crate) fn shape(call: &mut Call<'_>) -> Outputs {
    let shape = call.shape("x")?;
    let sizes: Vec<i32> = shape
        .iter()
        .map(|&d| i32::try_from(d).unwrap_or(i32::MAX))
        .collect();
    Ok(vec![Array::i32(&[sizes.len()], sizes)])
}
