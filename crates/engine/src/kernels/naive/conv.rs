//! `conv` and `conv_transpose`.

use super::window::Window;
use crate::call::Call;
use crate::tensor::{Array, Outputs};
use rayon::prelude::*;

/// Convolution (cross-correlation).
///
/// Shapes: `x [N, C, D…]`, `weight [O, C/groups, K…]`, `bias [O]` → `[N, O, D'…]` with one to three spatial axes.
/// Source: Core ML op `conv` (iOS15).
pub(crate) fn conv(call: &mut Call<'_>) -> Outputs {
    let (xs, x) = call.floats("x")?;
    let (ws, w) = call.floats("weight")?;
    let groups = call.sizes_or("groups", 1, 1)?.first().copied().unwrap_or(1);
    let bias = call.optional_floats("bias")?;
    let ([n, channels, input @ ..], [out_channels, per_group, kernel @ ..]) = (&xs[..], &ws[..])
    else {
        return Err(call.wrong(format!("x {xs:?} and weight {ws:?}")));
    };
    let (n, channels, out_channels, per_group) = (*n, *channels, *out_channels, *per_group);
    if groups == 0 || per_group * groups != channels || !out_channels.is_multiple_of(groups) {
        return Err(call.wrong(format!("x {xs:?}, weight {ws:?}, {groups} groups")));
    }
    let window = Window::of(call, input, kernel)?;
    let size_in: usize = input.iter().product();
    let size_out: usize = window.output.iter().product();
    let taps: usize = kernel.iter().product();
    let pairs: Vec<Vec<(usize, usize)>> = (0..size_out).map(|o| window.pairs(o)).collect();
    let mut shape = vec![n, out_channels];
    shape.extend(&window.output);
    let mut out = vec![0f32; call.count(&shape)?];
    out.par_chunks_mut(size_out.max(1))
        .enumerate()
        .for_each(|(map, out)| {
            let (batch, o) = (map / out_channels, map % out_channels);
            let first = o / (out_channels / groups) * per_group;
            let b = bias
                .as_ref()
                .and_then(|(_, b)| b.get(o))
                .copied()
                .unwrap_or(0.0);
            for (slot, pairs) in out.iter_mut().zip(&pairs) {
                let mut sum = 0f64;
                for c in 0..per_group {
                    let xc = (batch * channels + first + c) * size_in;
                    let wc = (o * per_group + c) * taps;
                    for &(k, i) in pairs {
                        sum += f64::from(x[xc + i]) * f64::from(w[wc + k]);
                    }
                }
                *slot = (sum + f64::from(b)) as f32;
            }
        });
    Ok(vec![Array::f32(&shape, out)])
}

/// Transposed convolution: every input element adds its weighted kernel to the output.
///
/// Shapes: `x [N, C, D…]`, `weight [C, O/groups, K…]`, `bias [O]` → `[N, O, D'…]`, D' = (D − 1)·stride + extent − pads,
/// or the last sizes of `output_shape`; with `same`, D' = D·stride.
/// Source: Core ML op `conv_transpose` (iOS15).
pub(crate) fn conv_transpose(call: &mut Call<'_>) -> Outputs {
    let (xs, x) = call.floats("x")?;
    let (ws, w) = call.floats("weight")?;
    let groups = call.sizes_or("groups", 1, 1)?.first().copied().unwrap_or(1);
    let bias = call.optional_floats("bias")?;
    let ([n, channels, input @ ..], [w_channels, per_group, kernel @ ..]) = (&xs[..], &ws[..])
    else {
        return Err(call.wrong(format!("x {xs:?} and weight {ws:?}")));
    };
    let (n, channels, per_group) = (*n, *channels, *per_group);
    if groups == 0 || channels != *w_channels || !channels.is_multiple_of(groups) {
        return Err(call.wrong(format!("x {xs:?}, weight {ws:?}, {groups} groups")));
    }
    let forward = transposed_window(call, input, kernel)?;
    let size_in: usize = input.iter().product();
    let size_out: usize = forward.input.iter().product();
    let taps: usize = kernel.iter().product();
    let out_channels = per_group * groups;
    let pairs: Vec<Vec<(usize, usize)>> = (0..size_in).map(|i| forward.pairs(i)).collect();
    let mut shape = vec![n, out_channels];
    shape.extend(&forward.input);
    let mut out = vec![0f32; call.count(&shape)?];
    out.par_chunks_mut(size_out.max(1))
        .enumerate()
        .for_each(|(map, out)| {
            let (batch, o) = (map / out_channels, map % out_channels);
            let (group, within) = (o / per_group, o % per_group);
            let b = bias
                .as_ref()
                .and_then(|(_, b)| b.get(o))
                .copied()
                .unwrap_or(0.0);
            let mut sums = vec![f64::from(b); size_out];
            let in_group = channels / groups;
            for c in group * in_group..(group + 1) * in_group {
                let xc = (batch * channels + c) * size_in;
                let wc = (c * per_group + within) * taps;
                for (i, pairs) in pairs.iter().enumerate() {
                    for &(k, p) in pairs {
                        sums[p] += f64::from(x[xc + i]) * f64::from(w[wc + k]);
                    }
                }
            }
            for (slot, sum) in out.iter_mut().zip(sums) {
                *slot = sum as f32;
            }
        });
    Ok(vec![Array::f32(&shape, out)])
}

/// The forward window whose output is this op's input: its `input` sizes are this op's output sizes.
fn transposed_window(call: &Call<'_>, input: &[usize], kernel: &[usize]) -> crate::Result<Window> {
    let n = input.len();
    let strides = call.sizes_or("strides", n, 1)?;
    let dilations = call.sizes_or("dilations", n, 1)?;
    let custom = call.sizes_or("pad", 2 * n, 0)?;
    let pad_type = call.string("pad_type", "valid")?;
    let wanted = if call.has("output_shape") {
        let given = call.sizes("output_shape")?;
        let from = given.len().checked_sub(n);
        from.and_then(|f| given.get(f..)).map(<[usize]>::to_vec)
    } else {
        None
    };
    if kernel.len() != n || kernel.contains(&0) || strides.contains(&0) {
        return Err(call.wrong(format!("window {kernel:?} over {input:?}")));
    }
    let mut window = Window {
        input: Vec::new(),
        kernel: kernel.to_vec(),
        strides,
        dilations,
        pads: Vec::new(),
        output: input.to_vec(),
    };
    for (a, &size) in input.iter().enumerate() {
        let stride = window.strides.get(a).copied().unwrap_or(1);
        let full = size.saturating_sub(1) * stride + window.extent(a);
        let pad = |side: usize| custom.get(2 * a + side).copied().unwrap_or(0);
        let pads = match pad_type {
            "custom" => (pad(0), pad(1)),
            "same" | "same_lower" => {
                let total = full.saturating_sub(size * stride);
                let small = total / 2;
                if pad_type == "same" {
                    (small, total - small)
                } else {
                    (total - small, small)
                }
            }
            _ => (0, 0),
        };
        let computed = full.checked_sub(pads.0 + pads.1);
        let given = wanted.as_ref().and_then(|w| w.get(a)).copied();
        let out = given.or(computed).ok_or_else(|| {
            call.wrong(format!("padding {pads:?} exceeds the output size {full}"))
        })?;
        window.input.push(out);
        window.pads.push(pads);
    }
    Ok(window)
}
