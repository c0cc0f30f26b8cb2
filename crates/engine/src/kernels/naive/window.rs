//! Sliding windows: strides, dilations and padding of convolutions and pools.

use crate::Result;
use crate::call::Call;

/// Geometry of a window over the spatial axes.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    /// Input sizes.
    pub(crate) input: Vec<usize>,
    /// Kernel sizes.
    pub(crate) kernel: Vec<usize>,
    pub(crate) strides: Vec<usize>,
    pub(crate) dilations: Vec<usize>,
    /// Padding before and after per axis.
    pub(crate) pads: Vec<(usize, usize)>,
    /// Output sizes.
    pub(crate) output: Vec<usize>,
}

impl Window {
    /// The window of an op with `strides`, `pad_type`, `pad`, `dilations` and `ceil_mode`.
    ///
    /// Padding: `valid` none; `custom` from `pad` (before, after per axis); `same` so that the output is
    /// ceil(input / stride), the odd element after (`same_lower`: before).
    pub(crate) fn of(call: &Call<'_>, input: &[usize], kernel: &[usize]) -> Result<Self> {
        let n = input.len();
        let strides = call.sizes_or("strides", n, 1)?;
        let dilations = call.sizes_or("dilations", n, 1)?;
        let pad_type = call.string("pad_type", "valid")?;
        let custom = call.sizes_or("pad", 2 * n, 0)?;
        let ceil = call.flag("ceil_mode", false)?;
        let bad = |v: &[usize]| v.contains(&0);
        if kernel.len() != n || bad(&strides) || bad(&dilations) || bad(kernel) {
            return Err(call.wrong(format!("window {kernel:?} over {input:?}")));
        }
        let mut window = Self {
            input: input.to_vec(),
            kernel: kernel.to_vec(),
            strides,
            dilations,
            pads: Vec::new(),
            output: Vec::new(),
        };
        for (a, &size) in input.iter().enumerate() {
            let at = |v: &[usize]| v.get(a).copied().unwrap_or(1);
            let (stride, extent) = (at(&window.strides), window.extent(a));
            let pads = match pad_type {
                "valid" => (0, 0),
                "custom" => (at(&custom_at(&custom, n, 0)), at(&custom_at(&custom, n, 1))),
                "same" | "same_lower" => {
                    let out = size.div_ceil(stride);
                    let total = (out.saturating_sub(1) * stride + extent).saturating_sub(size);
                    let small = total / 2;
                    if pad_type == "same" {
                        (small, total - small)
                    } else {
                        (total - small, small)
                    }
                }
                other => return Err(call.wrong(format!("pad type `{other}` is not known"))),
            };
            let room = (size + pads.0 + pads.1).checked_sub(extent);
            let room = room.ok_or_else(|| {
                call.wrong(format!(
                    "a window of {extent} over {size} with padding {pads:?}"
                ))
            })?;
            let mut out = room / stride + 1;
            if ceil && !room.is_multiple_of(stride) {
                // The last window must start within the input or the padding before it.
                out += usize::from(out * stride < size + pads.0);
            }
            window.pads.push(pads);
            window.output.push(out);
        }
        Ok(window)
    }

    /// Elements that a dilated kernel spans.
    pub(crate) fn extent(&self, axis: usize) -> usize {
        let at = |v: &[usize]| v.get(axis).copied().unwrap_or(1);
        (at(&self.kernel) - 1) * at(&self.dilations) + 1
    }

    /// Input position of kernel element `k` for output position `o`; `None` in the padding.
    pub(crate) fn position(&self, axis: usize, o: usize, k: usize) -> Option<usize> {
        let at = |v: &[usize]| v.get(axis).copied().unwrap_or(1);
        let before = self.pads.get(axis).map_or(0, |p| p.0);
        let p = (o * at(&self.strides) + k * at(&self.dilations)).checked_sub(before)?;
        (p < at(&self.input)).then_some(p)
    }

    /// For output position `o` (row-major over the output): (kernel element, input element) of each pair inside.
    pub(crate) fn pairs(&self, o: usize) -> Vec<(usize, usize)> {
        let mut index = vec![0; self.output.len()];
        let mut rest = o;
        for (slot, &n) in index.iter_mut().zip(&self.output).rev() {
            *slot = rest % n;
            rest /= n;
        }
        let mut pairs = vec![(0, 0)];
        for (a, &at) in index.iter().enumerate() {
            let (k, d) = (
                self.kernel.get(a).copied().unwrap_or(1),
                self.input.get(a).copied().unwrap_or(1),
            );
            pairs = pairs
                .into_iter()
                .flat_map(|(pk, pi)| {
                    (0..k).filter_map(move |kk| {
                        Some((pk * k + kk, pi * d + self.position(a, at, kk)?))
                    })
                })
                .collect();
        }
        pairs
    }
}

/// Before (0) or after (1) of each axis.
fn custom_at(pad: &[usize], n: usize, side: usize) -> Vec<usize> {
    (0..n)
        .map(|a| pad.get(2 * a + side).copied().unwrap_or(0))
        .collect()
}
