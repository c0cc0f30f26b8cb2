//! Residual convolution blocks and samplers, shared by UNet and VAE.

use crate::Result;
use crate::family::adapted::{Input, Layer};
use crate::family::graph::{Graph, Kernel, dim, value_name};
use gesso_mil::DType;
use gesso_mil::{Arg, Value, Var};

/// GroupNorm settings of a model.
#[derive(Clone, Copy, Debug)]
pub(super) struct Groups {
    /// Number of groups.
    pub(super) count: usize,
    /// Epsilon.
    pub(super) eps: f32,
}

/// `ResnetBlock2D`: `x [B, C, H, W]` → `[B, outputs, H, W]`, under the name `name`.
///
/// `time [B, T, 1, 1]` is the activated time embedding, absent in a VAE. Every layer can carry an adapter.
pub(super) fn resnet(
    g: &mut Graph,
    path: &str,
    name: &str,
    x: &Var,
    time: Option<&mut Input>,
    outputs: usize,
    groups: Groups,
) -> Result<Var> {
    let at = value_name(path);
    let conv = |part: &str, norm: &str, x: &Var, g: &mut Graph| {
        let h = g.group_norm(
            &format!("{path}.{norm}"),
            &format!("{at}_{norm}"),
            x,
            groups.count,
            groups.eps,
        )?;
        let h = g.unary("silu", &format!("{at}_{norm}_silu"), &h)?;
        let (path, name) = (format!("{path}.{part}"), format!("{at}_{part}"));
        let layer = Layer::conv(&path, &name, outputs, Kernel::SAME);
        g.adaptable(layer, &mut Input::from(&h))
    };
    let mut h = conv("conv1", "norm1", x, g)?;
    if let Some(time) = time {
        let part = "time_emb_proj";
        let (path, name) = (format!("{path}.{part}"), format!("{at}_{part}"));
        let shift = g.adaptable(Layer::conv(&path, &name, outputs, Kernel::POINT), time)?;
        h = g.binary("add", &format!("{at}_timed"), &h, &shift)?;
    }
    let h = conv("conv2", "norm2", &h, g)?;
    let shortcut = if dim(x, 1)? == outputs {
        x.clone()
    } else {
        let part = "conv_shortcut";
        let (path, name) = (format!("{path}.{part}"), format!("{at}_{part}"));
        let layer = Layer::conv(&path, &name, outputs, Kernel::POINT);
        g.adaptable(layer, &mut Input::from(x))?
    };
    g.binary("add", name, &shortcut, &h)
}

/// A stride-2 3×3 convolution `<path>.conv`, padded by `pad` (top, bottom, left, right).
pub(super) fn downsample(g: &mut Graph, path: &str, x: &Var, pad: [i32; 4]) -> Result<Var> {
    let kernel = Kernel {
        size: 3,
        stride: 2,
        pad,
    };
    let channels = dim(x, 1)?;
    let conv = format!("{path}.conv");
    let name = value_name(path);
    let layer = Layer::conv(&conv, &name, channels, kernel);
    g.adaptable(layer, &mut Input::from(x))
}

/// Nearest ×2, cut to `size` (height, width) where that is odd, then a 3×3 convolution `<path>.conv`.
///
/// Twice the size less one row is what nearest interpolation to an odd size gives: its source row ⌊i·n/(2n−1)⌋ is ⌊i/2⌋.
pub(super) fn upsample(g: &mut Graph, path: &str, x: &Var, size: [usize; 2]) -> Result<Var> {
    let name = value_name(path);
    let two = || Arg::Value(Value::float(DType::Fp32, 2.0));
    let mut h = g.op(
        "upsample_nearest_neighbor",
        &format!("{name}_nearest"),
        &[
            ("x", x.into()),
            ("scale_factor_height", two()),
            ("scale_factor_width", two()),
        ],
    )?;
    let (batch, channels) = (dim(x, 0)?, dim(x, 1)?);
    if [dim(&h, 2)?, dim(&h, 3)?] != size {
        let end = [batch, channels, size[0], size[1]];
        h = g.slice(&format!("{name}_cut"), &h, &[0; 4], &end)?;
    }
    let conv = format!("{path}.conv");
    let layer = Layer::conv(&conv, &name, channels, Kernel::SAME);
    g.adaptable(layer, &mut Input::from(&h))
}
