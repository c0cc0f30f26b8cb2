//! `layer_norm`, `instance_norm`, `batch_norm`, `l2_norm`.

use super::reduce::Groups;
use crate::call::Call;
use crate::shape::around;
use crate::tensor::{Array, Outputs};

/// (x − mean) / sqrt(variance + epsilon) over `axes`, times gamma plus beta, both in the shape of those axes.
///
/// Source: Core ML op `layer_norm` (iOS15); epsilon 1e-5 by default.
pub(crate) fn layer_norm(call: &mut Call<'_>) -> Outputs {
    let (xs, _) = call.floats("x")?;
    let axes = call.axes("axes", xs.len())?;
    normalized(call, &axes, |_, within| within)
}

/// The same over all axes after the channel, per sample and channel; gamma and beta are `[C]`.
///
/// Source: Core ML op `instance_norm` (iOS15); epsilon 1e-5 by default.
pub(crate) fn instance_norm(call: &mut Call<'_>) -> Outputs {
    let (xs, _) = call.floats("x")?;
    let axes: Vec<usize> = (2..xs.len()).collect();
    let channels = xs.get(1).copied().unwrap_or(1).max(1);
    normalized(call, &axes, move |group, _| group % channels)
}

/// `pick(group, element)` is the index into gamma and beta.
fn normalized(
    call: &mut Call<'_>,
    axes: &[usize],
    pick: impl Fn(usize, usize) -> usize,
) -> Outputs {
    let (xs, x) = call.floats("x")?;
    let gamma = call.optional_floats("gamma")?;
    let beta = call.optional_floats("beta")?;
    let epsilon = call.number("epsilon", 1e-5)?;
    let groups = Groups::new(&xs, axes);
    let n = groups.within.len() as f64;
    let mut out = vec![0f32; x.len()];
    for (g, s) in groups.starts.iter().enumerate() {
        let values = || groups.within.iter().map(|w| f64::from(x[s + w]));
        let mean = values().sum::<f64>() / n;
        let variance = values().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n;
        let scale = 1.0 / libm::sqrt(variance + epsilon);
        for (e, w) in groups.within.iter().enumerate() {
            let i = pick(g, e);
            let at = |v: &Option<crate::call::Floats>, default: f64| {
                v.as_ref()
                    .and_then(|(_, v)| v.get(i))
                    .map_or(default, |&v| f64::from(v))
            };
            let y = (f64::from(x[s + w]) - mean) * scale;
            out[s + w] = (y * at(&gamma, 1.0) + at(&beta, 0.0)) as f32;
        }
    }
    Ok(vec![Array::f32(&xs, out)])
}

/// (x − mean[c]) / sqrt(variance[c] + epsilon) · gamma[c] + beta[c], channel axis 1.
///
/// Source: Core ML op `batch_norm` (iOS15); epsilon 1e-5 by default.
pub(crate) fn batch_norm(call: &mut Call<'_>) -> Outputs {
    let (xs, x) = call.floats("x")?;
    let (_, mean) = call.floats("mean")?;
    let (_, variance) = call.floats("variance")?;
    let gamma = call.optional_floats("gamma")?.map(|g| g.1);
    let beta = call.optional_floats("beta")?.map(|b| b.1);
    let epsilon = call.number("epsilon", 1e-5)?;
    let (_, channels, after) = around(&xs, 1);
    if mean.len() != channels || variance.len() != channels {
        return Err(call.wrong(format!("mean of {} for x {xs:?}", mean.len())));
    }
    let element = |(i, &x): (usize, &f32)| {
        let c = i / after.max(1) % channels.max(1);
        let at = |v: Option<&f32>, default: f64| v.map_or(default, |&v| f64::from(v));
        let y =
            (f64::from(x) - at(mean.get(c), 0.0)) / libm::sqrt(at(variance.get(c), 1.0) + epsilon);
        let g = at(gamma.as_ref().and_then(|g| g.get(c)), 1.0);
        let b = at(beta.as_ref().and_then(|b| b.get(c)), 0.0);
        (y * g + b) as f32
    };
    let out = x.iter().enumerate().map(element).collect();
    Ok(vec![Array::f32(&xs, out)])
}

/// x / sqrt(Σ x² + epsilon) over the last three axes.
///
/// Source: Core ML op `l2_norm` (iOS15); epsilon 1e-6 by default.
pub(crate) fn l2_norm(call: &mut Call<'_>) -> Outputs {
    let (xs, x) = call.floats("x")?;
    let epsilon = call.number("epsilon", 1e-6)?;
    let axes: Vec<usize> = (xs.len().saturating_sub(3)..xs.len()).collect();
    let groups = Groups::new(&xs, &axes);
    let mut out = vec![0f32; x.len()];
    for s in &groups.starts {
        let squares = groups.within.iter().map(|w| f64::from(x[s + w]).powi(2));
        let norm = libm::sqrt(squares.sum::<f64>() + epsilon);
        for w in &groups.within {
            out[s + w] = (f64::from(x[s + w]) / norm) as f32;
        }
    }
    Ok(vec![Array::f32(&xs, out)])
}
