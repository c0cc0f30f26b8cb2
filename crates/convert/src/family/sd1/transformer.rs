//! The UNet's spatial transformer.

use super::attention::attention;
use crate::Result;
use crate::family::Attention;
use crate::family::adapted::{Channels, Input, Layer, Site};
use crate::family::graph::{Graph, Kernel, dim, value_name};
use gesso_mil::Var;

const ENTRY_EPS: f32 = 1e-6;
const LAYER_EPS: f32 = 1e-5;

/// What a spatial transformer is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spatial {
    /// Transformer blocks.
    pub(super) depth: usize,
    /// Attention heads.
    pub(super) heads: usize,
    /// Groups of the entry norm.
    pub(super) groups: usize,
    /// Flavour of attention.
    pub(super) flavour: Attention,
}

/// `Transformer2DModel`: `x [B, C, H, W]`, `context [B, D, 1, S]` → `[B, C, H, W]`.
pub(super) fn transformer(
    g: &mut Graph,
    path: &str,
    x: &Var,
    context: &Var,
    s: Spatial,
) -> Result<Var> {
    let name = value_name(path);
    let (b, c, h, w) = (dim(x, 0)?, dim(x, 1)?, dim(x, 2)?, dim(x, 3)?);
    let norm = g.group_norm(
        &format!("{path}.norm"),
        &format!("{name}_norm"),
        x,
        s.groups,
        ENTRY_EPS,
    )?;
    let entered = projection(g, path, "proj_in", &norm, c)?;
    let mut y = g.reshape(&format!("{name}_sequence"), &entered, &[b, c, 1, h * w])?;
    for i in 0..s.depth {
        y = block(g, &format!("{path}.transformer_blocks.{i}"), &y, context, s)?;
    }
    let y = g.reshape(&format!("{name}_picture"), &y, &[b, c, h, w])?;
    let y = projection(g, path, "proj_out", &y, c)?;
    g.binary("add", &name, &y, x)
}

fn projection(g: &mut Graph, path: &str, part: &str, x: &Var, outputs: usize) -> Result<Var> {
    let path = format!("{path}.{part}");
    pointwise(g, &path, &value_name(&path), x, outputs)
}

/// A biased linear layer on the channels, with a slot.
fn pointwise(g: &mut Graph, path: &str, name: &str, x: &Var, outputs: usize) -> Result<Var> {
    let layer = Layer {
        path,
        name,
        outputs,
        channels: Channels::Second,
        kernel: Kernel::POINT,
        site: Site::FeedForward,
        bias: true,
    };
    g.adaptable(layer, &mut Input::from(x))
}

/// `BasicTransformerBlock` on `x [B, C, 1, S]`.
fn block(g: &mut Graph, path: &str, x: &Var, context: &Var, s: Spatial) -> Result<Var> {
    let name = value_name(path);
    let norm = |i: usize, x: &Var, g: &mut Graph| {
        g.channel_norm(
            &format!("{path}.norm{i}"),
            &format!("{name}_norm{i}"),
            x,
            LAYER_EPS,
        )
    };
    let h = norm(1, x, g)?;
    let h = attention(g, &format!("{path}.attn1"), &h, &h, s.heads, s.flavour)?;
    let x = g.binary("add", &format!("{name}_after_attn1"), &h, x)?;
    let h = norm(2, &x, g)?;
    let h = attention(g, &format!("{path}.attn2"), &h, context, s.heads, s.flavour)?;
    let x = g.binary("add", &format!("{name}_after_attn2"), &h, &x)?;
    let h = norm(3, &x, g)?;
    let h = feed_forward(g, &format!("{path}.ff"), &h)?;
    g.binary("add", &name, &h, &x)
}

/// GEGLU: the first layer's output split in two on the channels, a · gelu(gate), then the second layer.
fn feed_forward(g: &mut Graph, path: &str, x: &Var) -> Result<Var> {
    let name = value_name(path);
    let c = dim(x, 1)?;
    let first = format!("{path}.net.0.proj");
    let both = pointwise(g, &first, &value_name(&first), x, 8 * c)?;
    let names = [format!("{name}_value"), format!("{name}_gate")];
    let halves = g.builder.op_many(
        "split",
        &[&names[0], &names[1]],
        &[
            ("x", (&both).into()),
            ("num_splits", 2.into()),
            ("axis", 1.into()),
        ],
    )?;
    let [value, gate] = <[Var; 2]>::try_from(halves).map_err(|v| wrong_count(&name, v.len()))?;
    let gate = g.op(
        "gelu",
        &format!("{name}_gelu"),
        &[("x", (&gate).into()), ("mode", "EXACT".into())],
    )?;
    let gated = g.binary("mul", &format!("{name}_gated"), &value, &gate)?;
    pointwise(g, &format!("{path}.net.2"), &name, &gated, c)
}

fn wrong_count(name: &str, found: usize) -> crate::Error {
    crate::Error::Config {
        component: name.into(),
        field: "outputs of `split`".into(),
        expected: "2".into(),
        found: found.to_string(),
    }
}
