//! Elementwise ops of one operand, evaluated in f64.

use crate::call::Call;
use crate::tensor::{Array, Buffer, Outputs};
use std::sync::Arc;

/// Applies `f` to each element, in place where nobody else reads the operand.
pub(crate) fn map(call: &mut Call<'_>, f: impl Fn(f64) -> f64) -> Outputs {
    let mut x = call.take("x")?;
    match &mut x.buffer {
        Buffer::F32(v) => {
            for x in Arc::make_mut(v) {
                *x = f(f64::from(*x)) as f32;
            }
        }
        Buffer::I32(v) => {
            for x in Arc::make_mut(v) {
                *x = f(f64::from(*x)) as i32;
            }
        }
        Buffer::Bool(_) => return Err(call.wrong("x is bool, expected a number")),
    }
    Ok(vec![x])
}

/// `f(x, epsilon)`, epsilon from the parameter or the op's default.
pub(crate) fn with_epsilon(
    call: &mut Call<'_>,
    default: f64,
    f: impl Fn(f64, f64) -> f64,
) -> Outputs {
    let epsilon = call.number("epsilon", default)?;
    map(call, |x| f(x, epsilon))
}

/// `f(x, alpha, beta)`.
pub(crate) fn with_alpha_beta(call: &mut Call<'_>, f: impl Fn(f64, f64, f64) -> f64) -> Outputs {
    let alpha = call.number("alpha", 0.0)?;
    let beta = call.number("beta", 0.0)?;
    map(call, |x| f(x, alpha, beta))
}

/// Bounds of `clip`: alpha ≤ y ≤ beta.
pub(crate) fn clipped(x: f64, low: f64, high: f64) -> f64 {
    if x < low {
        low
    } else if x > high {
        high
    } else {
        x
    }
}

pub(crate) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-x))
}

pub(crate) fn sign(x: f64) -> f64 {
    if x > 0.0 {
        1.0
    } else if x < 0.0 {
        -1.0
    } else {
        x
    }
}

/// Half rounds to even.
pub(crate) fn round(x: f64) -> f64 {
    libm::rint(x)
}

/// `mode`: EXACT x·Φ(x); TANH_APPROXIMATION; SIGMOID_APPROXIMATION x·σ(1.702x).
pub(crate) fn gelu(call: &mut Call<'_>) -> Outputs {
    match call.string("mode", "EXACT")? {
        "EXACT" => map(call, |x| {
            0.5 * x * (1.0 + libm::erf(x * std::f64::consts::FRAC_1_SQRT_2))
        }),
        "TANH_APPROXIMATION" => map(call, |x| {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
            0.5 * x * (1.0 + libm::tanh(inner))
        }),
        "SIGMOID_APPROXIMATION" => map(call, |x| x * sigmoid(1.702 * x)),
        other => Err(call.wrong(format!("mode `{other}` is not known"))),
    }
}

/// Slope `alpha [C]` below zero, per channel (axis 1).
pub(crate) fn prelu(call: &mut Call<'_>) -> Outputs {
    let (xs, x) = call.floats("x")?;
    let (_, alpha) = call.floats("alpha")?;
    let (_, channels, after) = crate::shape::around(&xs, 1);
    let slope = |i: usize| {
        let c = i / after.max(1) % channels.max(1);
        let a = alpha.get(if alpha.len() == 1 { 0 } else { c });
        f64::from(a.copied().unwrap_or(0.0))
    };
    let out = x.iter().enumerate().map(|(i, &x)| {
        let x = f64::from(x);
        (if x < 0.0 { slope(i) * x } else { x }) as f32
    });
    Ok(vec![Array::f32(&xs, out.collect())])
}

/// Between bool, integer and float. To integer truncates towards zero; a float keeps its value whatever its width.
pub(crate) fn cast(call: &mut Call<'_>) -> Outputs {
    let to = call.string("dtype", "")?;
    let x = call.take("x")?;
    let float = |x: Array| match &x.buffer {
        Buffer::F32(_) => x,
        Buffer::I32(v) => Array::f32(&x.shape, v.iter().map(|&i| i as f32).collect()),
        Buffer::Bool(v) => Array::f32(
            &x.shape,
            v.iter().map(|&b| f32::from(u8::from(b))).collect(),
        ),
    };
    let int = |x: Array, low: i64, high: i64| {
        let v = x
            .to_i64()
            .into_iter()
            .map(|i| i.clamp(low, high) as i32)
            .collect();
        Array::i32(&x.shape, v)
    };
    Ok(vec![match to {
        "fp16" | "fp32" | "fp64" => float(x),
        "bool" => Array::bool(&x.shape, x.to_f64().into_iter().map(|v| v != 0.0).collect()),
        "int8" => int(x, -128, 127),
        "uint8" => int(x, 0, 255),
        "int16" => int(x, -32_768, 32_767),
        "uint16" => int(x, 0, 65_535),
        "int32" | "int64" => int(x, i32::MIN.into(), i32::MAX.into()),
        "uint32" | "uint64" => int(x, 0, i32::MAX.into()),
        other => return Err(call.wrong(format!("dtype `{other}` is not known"))),
    }])
}

pub(crate) fn logical_not(call: &mut Call<'_>) -> Outputs {
    let x = call.array("x")?;
    let v = x.to_i64().into_iter().map(|b| b == 0).collect();
    Ok(vec![Array::bool(&x.shape, v)])
}
