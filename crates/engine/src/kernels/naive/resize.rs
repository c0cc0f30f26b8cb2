//! `upsample_nearest_neighbor`, `upsample_bilinear`, `resize_nearest_neighbor`, `pixel_shuffle`, `space_to_depth`.

use super::view::copied;
use crate::Result;
use crate::call::Call;
use crate::tensor::{Array, Outputs, each_class};

/// The last two sizes and the product of those before.
fn maps(call: &Call<'_>, shape: &[usize]) -> Result<(usize, usize, usize)> {
    match shape {
        [outer @ .., h, w] => Ok((outer.iter().product(), *h, *w)),
        _ => Err(call.wrong(format!("x has shape {shape:?}"))),
    }
}

fn scaled(size: usize, factor: f64) -> usize {
    (size as f64 * factor).floor() as usize
}

/// `out[y][x] = in[floor(y / scale)][floor(x / scale)]`.
///
/// Source: Core ML op `upsample_nearest_neighbor` (iOS15).
pub(crate) fn upsample_nearest_neighbor(call: &mut Call<'_>) -> Outputs {
    let x = call.array("x")?;
    let (_, h, w) = maps(call, &x.shape)?;
    let out_h = scaled(h, call.number("scale_factor_height", 1.0)?);
    let out_w = scaled(w, call.number("scale_factor_width", 1.0)?);
    nearest(call, &x, out_h, out_w)
}

/// The same with sizes given.
pub(crate) fn resize_nearest_neighbor(call: &mut Call<'_>) -> Outputs {
    let x = call.array("x")?;
    let size = |p| -> Result<usize> { Ok(call.sizes(p)?.first().copied().unwrap_or(0)) };
    let (h, w) = (size("target_size_height")?, size("target_size_width")?);
    nearest(call, &x, h, w)
}

fn nearest(call: &Call<'_>, x: &Array, out_h: usize, out_w: usize) -> Outputs {
    let (outer, h, w) = maps(call, &x.shape)?;
    let mut shape = x.shape.clone();
    let rank = shape.len();
    shape[rank - 2] = out_h;
    shape[rank - 1] = out_w;
    call.count(&shape)?;
    let rows: Vec<usize> = (0..out_h).map(|y| y * h / out_h).collect();
    let columns: Vec<usize> = (0..out_w).map(|x| x * w / out_w).collect();
    Ok(vec![each_class!(x, &shape, |v| {
        let mut out = Vec::with_capacity(outer * out_h * out_w);
        for m in 0..outer {
            for &y in &rows {
                let row = &v[(m * h + y) * w..(m * h + y + 1) * w];
                out.extend(columns.iter().map(|&c| row[c]));
            }
        }
        out
    })])
}

/// Bilinear enlargement.
///
/// Position of output o in the input: with `align_corners` o·(in−1)/(out−1); with `half_pixel_centers`
/// (o + ½)·in/out − ½, not below 0; else o·in/out.
/// Source: Core ML op `upsample_bilinear` (iOS15; `half_pixel_centers` from iOS16, by default not `align_corners`).
pub(crate) fn upsample_bilinear(call: &mut Call<'_>) -> Outputs {
    let (xs, x) = call.floats("x")?;
    let (outer, h, w) = maps(call, &xs)?;
    let factors = (
        call.number("scale_factor_height", 1.0)?,
        call.number("scale_factor_width", 1.0)?,
    );
    let (out_h, out_w) = (scaled(h, factors.0), scaled(w, factors.1));
    let align = call.flag("align_corners", true)?;
    let half = call.flag("half_pixel_centers", !align)?;
    let taps = |size: usize, out: usize, factor: f64| -> Vec<(usize, usize, f64)> {
        (0..out)
            .map(|o| {
                let o = o as f64;
                let p = match (align, half) {
                    (true, _) if out > 1 => o * (size as f64 - 1.0) / (out as f64 - 1.0),
                    (true, _) => 0.0,
                    (false, true) => ((o + 0.5) / factor - 0.5).max(0.0),
                    (false, false) => o / factor,
                };
                let low = (p.floor() as usize).min(size.saturating_sub(1));
                (low, (low + 1).min(size.saturating_sub(1)), p - low as f64)
            })
            .collect()
    };
    let (rows, columns) = (taps(h, out_h, factors.0), taps(w, out_w, factors.1));
    let mut shape = xs.clone();
    let rank = shape.len();
    shape[rank - 2] = out_h;
    shape[rank - 1] = out_w;
    let mut out = Vec::with_capacity(call.count(&shape)?);
    for m in 0..outer {
        let at = |y: usize, c: usize| f64::from(x[(m * h + y) * w + c]);
        for &(y0, y1, fy) in &rows {
            for &(x0, x1, fx) in &columns {
                let top = at(y0, x0) * (1.0 - fx) + at(y0, x1) * fx;
                let bottom = at(y1, x0) * (1.0 - fx) + at(y1, x1) * fx;
                out.push((top * (1.0 - fy) + bottom * fy) as f32);
            }
        }
    }
    Ok(vec![Array::f32(&shape, out)])
}

/// `[N, C·r², H, W]` → `[N, C, H·r, W·r]`, channel c·r² + i·r + j at (y·r + i, x·r + j).
pub(crate) fn pixel_shuffle(call: &mut Call<'_>) -> Outputs {
    let x = call.array("x")?;
    let r = call.sizes("upscale_factor")?.first().copied().unwrap_or(0);
    let &[n, c, h, w] = &x.shape[..] else {
        return Err(call.wrong(format!("x has shape {:?}", x.shape)));
    };
    if r == 0 || !c.is_multiple_of(r * r) {
        return Err(call.wrong(format!("factor {r} for x {:?}", x.shape)));
    }
    let c = c / (r * r);
    let view = [n, c, h, r, w, r];
    let (hw, w_) = ((h * w) as isize, w as isize);
    let r_ = r as isize;
    let strides = [c as isize * r_ * r_ * hw, r_ * r_ * hw, w_, r_ * hw, 1, hw];
    let shape = [n, c, h * r, w * r];
    Ok(vec![each_class!(x, &shape, |v| copied(
        v, &view, &strides, 0
    ))])
}

/// `[N, C, H, W]` → `[N, C·b², H/b, W/b]`, channel (i·b + j)·C + c from (y·b + i, x·b + j).
pub(crate) fn space_to_depth(call: &mut Call<'_>) -> Outputs {
    let x = call.array("x")?;
    let b = call.sizes("block_size")?.first().copied().unwrap_or(0);
    let &[n, c, h, w] = &x.shape[..] else {
        return Err(call.wrong(format!("x has shape {:?}", x.shape)));
    };
    if b == 0 || !h.is_multiple_of(b) || !w.is_multiple_of(b) {
        return Err(call.wrong(format!("block {b} for x {:?}", x.shape)));
    }
    let view = [n, b, b, c, h / b, w / b];
    let (hw, w_, b_) = ((h * w) as isize, w as isize, b as isize);
    let strides = [c as isize * hw, w_, 1, hw, w_ * b_, b_];
    let shape = [n, c * b * b, h / b, w / b];
    Ok(vec![each_class!(x, &shape, |v| copied(
        v, &view, &strides, 0
    ))])
}
