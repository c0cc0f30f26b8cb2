//! Reductions, `reduce_argmax`, `softmax`, `cumsum`.

use crate::Result;
use crate::call::Call;
use crate::shape::{Walk, around, strides};
use crate::tensor::{Array, Class, Outputs};

/// A tensor seen as groups: the axes that stay, and within each group the axes that are reduced.
pub(crate) struct Groups {
    /// Offset of each group.
    pub(crate) starts: Vec<usize>,
    /// Offsets within a group, row-major over the reduced axes.
    pub(crate) within: Vec<usize>,
}

impl Groups {
    pub(crate) fn new(shape: &[usize], reduced: &[usize]) -> Self {
        let strides = strides(shape);
        let part = |keep: bool| -> Vec<usize> {
            let chosen = shape.iter().zip(&strides).enumerate();
            let chosen = chosen.filter(|(a, _)| reduced.contains(a) == keep);
            let (sizes, strides): (Vec<usize>, Vec<usize>) =
                chosen.map(|(_, (&d, &s))| (d, s)).unzip();
            Walk::unsigned(&sizes, &strides).collect()
        };
        Self {
            starts: part(false),
            within: part(true),
        }
    }
}

/// Shape after a reduction.
pub(crate) fn reduced_shape(shape: &[usize], axes: &[usize], keep: bool) -> Vec<usize> {
    let sizes = shape.iter().enumerate();
    sizes
        .filter_map(|(a, &d)| match axes.contains(&a) {
            true => keep.then_some(1),
            false => Some(d),
        })
        .collect()
}

/// Applies `f` to the elements of each group.
pub(crate) fn reduce(call: &mut Call<'_>, f: fn(&[f64]) -> f64) -> Outputs {
    let x = call.array("x")?;
    let axes = call.axes("axes", x.shape.len())?;
    let keep = call.flag("keep_dims", false)?;
    let groups = Groups::new(&x.shape, &axes);
    let v = x.to_f64();
    let shape = reduced_shape(&x.shape, &axes, keep);
    let mut members = vec![0.0; groups.within.len()];
    let results = groups.starts.iter().map(|s| {
        for (slot, w) in members.iter_mut().zip(&groups.within) {
            *slot = v[s + w];
        }
        f(&members)
    });
    Ok(vec![match x.class() {
        Class::I32 => Array::i32(&shape, results.map(|x| x as i32).collect()),
        _ => Array::f32(&shape, results.map(|x| x as f32).collect()),
    }])
}

pub(crate) fn sum(v: &[f64]) -> f64 {
    v.iter().sum()
}

pub(crate) fn mean(v: &[f64]) -> f64 {
    sum(v) / v.len() as f64
}

/// The largest element; NaN when there is one.
pub(crate) fn max(v: &[f64]) -> f64 {
    let larger = |a: f64, b: f64| if b > a || b.is_nan() { b } else { a };
    let folded = v.iter().copied().fold(f64::NEG_INFINITY, larger);
    if v.iter().any(|x| x.is_nan()) {
        f64::NAN
    } else {
        folded
    }
}

/// The smallest element; NaN when there is one.
pub(crate) fn min(v: &[f64]) -> f64 {
    -max(&v.iter().map(|x| -x).collect::<Vec<_>>())
}

/// log Σ exp(x), shifted by the largest element.
pub(crate) fn log_sum_exp(v: &[f64]) -> f64 {
    let top = max(v);
    if !top.is_finite() {
        return top;
    }
    top + libm::log(v.iter().map(|x| libm::exp(x - top)).sum())
}

/// Index of the largest (or smallest) element along an axis; the first of equals.
pub(crate) fn reduce_arg(call: &mut Call<'_>, better: fn(f64, f64) -> bool) -> Outputs {
    let x = call.array("x")?;
    let axis = call.axis("axis", -1, x.shape.len())?;
    let keep = call.flag("keep_dims", false)?;
    let groups = Groups::new(&x.shape, &[axis]);
    let v = x.to_f64();
    let best = |s: &usize| {
        let mut best = 0;
        for (i, w) in groups.within.iter().enumerate() {
            if better(v[s + w], v[s + groups.within[best]]) {
                best = i;
            }
        }
        best as i32
    };
    let shape = reduced_shape(&x.shape, &[axis], keep);
    Ok(vec![Array::i32(
        &shape,
        groups.starts.iter().map(best).collect(),
    )])
}

/// exp(x − max) / Σ exp(x − max) along an axis.
pub(crate) fn softmax(call: &mut Call<'_>) -> Outputs {
    let (xs, x) = call.floats("x")?;
    let axis = call.axis("axis", -1, xs.len())?;
    let groups = Groups::new(&xs, &[axis]);
    let mut out = vec![0f32; x.len()];
    for s in &groups.starts {
        let top = groups
            .within
            .iter()
            .map(|w| x[s + w])
            .fold(f32::NEG_INFINITY, f32::max);
        let top = f64::from(top);
        let terms: Vec<f64> = groups
            .within
            .iter()
            .map(|w| libm::exp(f64::from(x[s + w]) - top))
            .collect();
        let total: f64 = terms.iter().sum();
        for (w, t) in groups.within.iter().zip(&terms) {
            out[s + w] = (t / total) as f32;
        }
    }
    Ok(vec![Array::f32(&xs, out)])
}

/// Running sum along an axis; `exclusive` leaves the element itself out, `reverse` starts at the end.
pub(crate) fn cumsum(call: &mut Call<'_>) -> Outputs {
    let x = call.array("x")?;
    let axis = call.axis("axis", 0, x.shape.len())?;
    let exclusive = call.flag("exclusive", false)?;
    let reverse = call.flag("reverse", false)?;
    let (before, size, after) = around(&x.shape, axis);
    let v = x.to_f64();
    let mut out = vec![0.0; v.len()];
    for b in 0..before {
        for a in 0..after {
            let mut total = 0.0;
            for step in 0..size {
                let i = if reverse { size - 1 - step } else { step };
                let p = (b * size + i) * after + a;
                out[p] = if exclusive { total } else { total + v[p] };
                total += v[p];
            }
        }
    }
    Ok(vec![like(&x, out)?])
}

fn like(x: &Array, v: Vec<f64>) -> Result<Array> {
    Ok(match x.class() {
        Class::I32 => Array::i32(&x.shape, v.into_iter().map(|x| x as i32).collect()),
        _ => Array::f32(&x.shape, v.into_iter().map(|x| x as f32).collect()),
    })
}
