//! `conv` with two spatial axes on gemm: 1×1 directly on [C, H·W], the rest over panels of unfolded input.

use crate::Result;
use crate::call::Call;
use crate::gemm::{Matrix, Sizes, Target, bands, parallel_product};
use crate::kernels::naive::window::Window;
use crate::tensor::Array;
use rayon::prelude::*;

/// Columns (output positions) of a panel.
const COLUMNS: usize = 512;
/// Rows (input channel, kernel element) of a panel, about.
const ROWS: usize = 288;
/// Maps with at most this many positions in all are unfolded together and cut by output channel.
const SMALL: usize = 1024;
/// Elements of such a panel, about.
const PANEL: usize = 1 << 20;

pub(crate) fn conv(call: &mut Call<'_>) -> Result<Option<Vec<Array>>> {
    let (xs, ws) = (call.shape("x")?, call.shape("weight")?);
    let groups = call.int("groups", 1)?;
    let (&[n, channels, h, w], &[out_channels, w_channels, kh, kw]) = (&xs[..], &ws[..]) else {
        return one_axis(call, &xs, &ws);
    };
    let Ok(groups) = usize::try_from(groups) else {
        return Ok(None);
    };
    let fits = groups > 0
        && w_channels * groups == channels
        && out_channels.is_multiple_of(groups)
        && w_channels * h * w > 0;
    if !fits || (groups > 1 && w_channels < 8) {
        return Ok(None);
    }
    let window = Window::of(call, &[h, w], &[kh, kw])?;
    convolved(call, [n, channels, out_channels, groups], window).map(Some)
}

/// One spatial axis: the same with a height of 1.
fn one_axis(call: &mut Call<'_>, xs: &[usize], ws: &[usize]) -> Result<Option<Vec<Array>>> {
    let (&[n, channels, length], &[out_channels, w_channels, k]) = (xs, ws) else {
        return Ok(None);
    };
    if call.int("groups", 1)? != 1 || channels != w_channels || channels * length == 0 {
        return Ok(None);
    }
    let mut window = Window::of(call, &[length], &[k])?;
    let front = |v: &mut Vec<usize>| v.insert(0, 1);
    front(&mut window.input);
    front(&mut window.kernel);
    front(&mut window.strides);
    front(&mut window.dilations);
    front(&mut window.output);
    window.pads.insert(0, (0, 0));
    let mut results = convolved(call, [n, channels, out_channels, 1], window)?;
    for array in &mut results {
        array.shape.remove(2);
    }
    Ok(Some(results))
}

fn convolved(
    call: &mut Call<'_>,
    [n, channels, out_channels, groups]: [usize; 4],
    window: Window,
) -> Result<Vec<Array>> {
    let weight = call.array("weight")?;
    let w = call.as_floats("weight", &weight)?;
    let (_, x) = call.floats("x")?;
    let bias = call.optional_floats("bias")?;
    let mut shape = vec![n, out_channels];
    shape.extend(&window.output);
    let positions: usize = window.output.iter().product();
    let mut out = call.buffer(call.count(&shape)?);
    if positions == 0 {
        return Ok(vec![Array::f32(&shape, out)]);
    }
    out.par_chunks_mut(positions)
        .enumerate()
        .for_each(|(map, row)| {
            let b = bias.as_ref().and_then(|(_, b)| b.get(map % out_channels));
            row.fill(b.copied().unwrap_or(0.0));
        });
    let geometry = Geometry {
        taps: window.kernel.iter().product(),
        size_in: window.input.iter().product(),
        channels: channels / groups,
        out_channels: out_channels / groups,
        positions,
        window,
    };
    let (x_step, out_step) = (channels * geometry.size_in, out_channels * positions);
    let per_group = geometry.out_channels * geometry.channels * geometry.taps;
    for g in 0..groups {
        let w = w.get(g * per_group..(g + 1) * per_group).unwrap_or(&[]);
        let x_from = g * geometry.channels * geometry.size_in;
        let out_from = g * geometry.out_channels * positions;
        let maps = Maps {
            x: &x,
            x_from,
            x_step,
            n,
        };
        if geometry.is_pointwise() {
            geometry.pointwise(w, &maps, &mut out, (out_from, out_step));
        } else if n * positions <= SMALL {
            geometry.small(call, w, &maps, &mut out, (out_from, out_step));
        } else {
            for b in 0..n {
                let from = b * out_step + out_from;
                let out = out.get_mut(from..from + geometry.out_channels * positions);
                geometry.large(w, maps.sample(b), out.unwrap_or(&mut []));
            }
        }
    }
    drop(w);
    call.recycle(weight);
    Ok(vec![Array::f32(&shape, out)])
}

/// The input maps of one group.
struct Maps<'a> {
    x: &'a [f32],
    x_from: usize,
    x_step: usize,
    n: usize,
}

impl<'a> Maps<'a> {
    fn sample(&self, b: usize) -> &'a [f32] {
        self.x.get(b * self.x_step + self.x_from..).unwrap_or(&[])
    }
}

/// One group of a convolution.
struct Geometry {
    window: Window,
    taps: usize,
    size_in: usize,
    channels: usize,
    out_channels: usize,
    positions: usize,
}

impl Geometry {
    fn is_pointwise(&self) -> bool {
        self.taps == 1
            && self.window.strides.iter().all(|&s| s == 1)
            && self.window.pads.iter().all(|&p| p == (0, 0))
    }

    fn pointwise(&self, w: &[f32], maps: &Maps<'_>, out: &mut [f32], (from, step): (usize, usize)) {
        let sizes = Sizes {
            m: self.out_channels,
            k: self.channels,
            n: self.positions,
        };
        for b in 0..maps.n {
            let data = out.get_mut(b * step + from..).unwrap_or(&mut []);
            let mut c = Target {
                data,
                step: self.positions,
                add: true,
            };
            let x = Matrix::packed(maps.sample(b), self.positions);
            parallel_product(&mut c, sizes, Matrix::packed(w, self.channels), x);
        }
    }

    /// Large maps: bands of columns in parallel, each with a panel of its own per block of channels.
    fn large(&self, w: &[f32], x: &[f32], out: &mut [f32]) {
        let k = self.channels * self.taps;
        let block = ROWS.div_ceil(self.taps).clamp(1, self.channels);
        bands(
            out,
            self.positions,
            COLUMNS,
            || vec![0f32; block * self.taps * COLUMNS],
            |panel, band| {
                let n = band.width;
                for from in (0..self.channels).step_by(block) {
                    let channels = block.min(self.channels - from);
                    let rows = channels * self.taps;
                    let panel = panel.get_mut(..rows * n).unwrap_or(&mut []);
                    for (c, rows) in panel.chunks_mut(self.taps * n).enumerate() {
                        let map = (from + c) * self.size_in;
                        let map = x.get(map..map + self.size_in).unwrap_or(&[]);
                        self.unfold(map, band.first, n, n, rows);
                    }
                    let w = Matrix {
                        data: w.get(from * self.taps..).unwrap_or(&[]),
                        rows: k,
                        columns: 1,
                    };
                    band.product(rows, w, Matrix::packed(panel, n), true);
                }
            },
        );
    }

    /// Small maps: all samples side by side in one panel per block of channels, cut by output channel.
    fn small(
        &self,
        call: &Call<'_>,
        w: &[f32],
        maps: &Maps<'_>,
        out: &mut [f32],
        (from, step): (usize, usize),
    ) {
        let columns = maps.n * self.positions;
        let k = self.channels * self.taps;
        let block = (PANEL / (columns * self.taps)).clamp(1, self.channels);
        let mut panel = call.buffer(block * self.taps * columns);
        let mut sums = call.buffer(self.out_channels * columns);
        for first in (0..self.channels).step_by(block) {
            let channels = block.min(self.channels - first);
            let rows = channels * self.taps;
            let panel = panel.get_mut(..rows * columns).unwrap_or(&mut []);
            panel
                .par_chunks_mut(self.taps * columns)
                .enumerate()
                .for_each(|(c, rows)| {
                    for b in 0..maps.n {
                        let map = (first + c) * self.size_in;
                        let map = maps.sample(b).get(map..map + self.size_in).unwrap_or(&[]);
                        let rows = rows.get_mut(b * self.positions..).unwrap_or(&mut []);
                        self.unfold(map, 0, self.positions, columns, rows);
                    }
                });
            let a = Matrix {
                data: w.get(first * self.taps..).unwrap_or(&[]),
                rows: k,
                columns: 1,
            };
            let sizes = Sizes {
                m: self.out_channels,
                k: rows,
                n: columns,
            };
            let mut c = Target {
                data: &mut sums,
                step: columns,
                add: first > 0,
            };
            parallel_product(&mut c, sizes, a, Matrix::packed(panel, columns));
        }
        for b in 0..maps.n {
            let at = b * step + from;
            let own = out
                .get_mut(at..at + self.out_channels * self.positions)
                .unwrap_or(&mut []);
            own.par_chunks_mut(self.positions)
                .zip(sums.par_chunks(columns))
                .for_each(|(out, sums)| {
                    let sums = sums.get(b * self.positions..).unwrap_or(&[]);
                    for (o, s) in out.iter_mut().zip(sums) {
                        *o += s;
                    }
                });
        }
        call.recycle(Array::f32(&[panel.len()], panel));
        call.recycle(Array::f32(&[sums.len()], sums));
    }

    /// Unfolds one input map: row t of `rows` (`step` apart) holds, for kernel element t, the input element that
    /// meets it at output positions `first..first + n`.
    fn unfold(&self, map: &[f32], first: usize, n: usize, step: usize, rows: &mut [f32]) {
        let (&[_, w], &[_, kw], &[_, ow]) = (
            &self.window.input[..],
            &self.window.kernel[..],
            &self.window.output[..],
        ) else {
            return;
        };
        for (t, row) in rows.chunks_mut(step).enumerate().take(self.taps) {
            let mut row = row.get_mut(..n).unwrap_or(&mut []);
            let (ky, kx) = (t / kw, t % kw);
            let mut position = first;
            while !row.is_empty() {
                let (oy, ox) = (position / ow, position % ow);
                let length = (ow - ox).min(row.len());
                let (part, rest) = row.split_at_mut(length);
                match self.window.position(0, oy, ky) {
                    Some(y) => {
                        let line = map.get(y * w..(y + 1) * w).unwrap_or(&[]);
                        self.unfold_line(line, ox, kx, part);
                    }
                    None => part.fill(0.0),
                }
                row = rest;
                position += length;
            }
        }
    }

    fn unfold_line(&self, line: &[f32], ox: usize, kx: usize, out: &mut [f32]) {
        let at = |v: &[usize]| v.get(1).copied().unwrap_or(1);
        let (stride, dilation) = (at(&self.window.strides), at(&self.window.dilations));
        if stride == 1 {
            let before = self.window.pads.get(1).map_or(0, |p| p.0);
            let start = ox + kx * dilation;
            // Positions before `skip` lie in the left padding.
            let skip = before.saturating_sub(start).min(out.len());
            let (left, rest) = out.split_at_mut(skip);
            left.fill(0.0);
            let from = (start + skip).saturating_sub(before).min(line.len());
            let inside = line.get(from..).unwrap_or(&[]);
            let n = inside.len().min(rest.len());
            let (inner, right) = rest.split_at_mut(n);
            inner.copy_from_slice(inside.get(..n).unwrap_or(&[]));
            right.fill(0.0);
        } else {
            for (i, slot) in out.iter_mut().enumerate() {
                let p = self.window.position(1, ox + i, kx);
                *slot = p.and_then(|p| line.get(p)).copied().unwrap_or(0.0);
            }
        }
    }
}
