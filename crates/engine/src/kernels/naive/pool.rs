//! `avg_pool`, `max_pool`, `l2_pool`.

use super::window::Window;
use crate::call::Call;
use crate::tensor::{Array, Outputs};

/// Mean over each window; padding counts as zeros unless `exclude_padding_from_average`.
pub(crate) fn avg_pool(call: &mut Call<'_>) -> Outputs {
    let exclude = call.flag("exclude_padding_from_average", false)?;
    pooled(call, |values, taps| {
        let n = if exclude { values.len() } else { taps };
        values.iter().sum::<f64>() / n as f64
    })
}

/// Largest element of each window.
pub(crate) fn max_pool(call: &mut Call<'_>) -> Outputs {
    pooled(call, |values, _| {
        values.iter().copied().fold(
            f64::NEG_INFINITY,
            |a, b| if b.is_nan() { b } else { a.max(b) },
        )
    })
}

/// Square root of the sum of squares of each window.
pub(crate) fn l2_pool(call: &mut Call<'_>) -> Outputs {
    pooled(call, |values, _| {
        libm::sqrt(values.iter().map(|v| v * v).sum())
    })
}

/// Shapes: `x [N, C, D…]` → `[N, C, D'…]`.
fn pooled(call: &mut Call<'_>, f: impl Fn(&[f64], usize) -> f64) -> Outputs {
    let (xs, x) = call.floats("x")?;
    let kernel = call.sizes("kernel_sizes")?;
    let [n, c, input @ ..] = &xs[..] else {
        return Err(call.wrong(format!("x has shape {xs:?}")));
    };
    let window = Window::of(call, input, &kernel)?;
    let taps: usize = kernel.iter().product();
    let size_in: usize = input.iter().product();
    let size_out: usize = window.output.iter().product();
    let pairs: Vec<Vec<(usize, usize)>> = (0..size_out).map(|o| window.pairs(o)).collect();
    let mut out = Vec::with_capacity(n * c * size_out);
    let mut values = Vec::new();
    for map in x.chunks_exact(size_in.max(1)) {
        for pairs in &pairs {
            values.clear();
            values.extend(pairs.iter().map(|&(_, i)| f64::from(map[i])));
            out.push(f(&values, taps) as f32);
        }
    }
    let mut shape = vec![*n, *c];
    shape.extend(&window.output);
    Ok(vec![Array::f32(&shape, out)])
}
