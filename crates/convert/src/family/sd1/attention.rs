//! The UNet's attention on `[B, C, 1, S]`.

use crate::Result;
use crate::family::Attention;
use crate::family::adapted::{Channels, Input, Layer, Site};
use crate::family::graph::{Graph, Kernel, dim, value_name};
use gesso_mil::Var;

/// Attention of `x [B, C, 1, Sq]` over `context [B, D, 1, Sk]` with `heads` heads, projections included → `[B, C, 1, Sq]`.
///
/// The scale d^-½ is applied to q and k before their product.
pub(super) fn attention(
    g: &mut Graph,
    path: &str,
    x: &Var,
    context: &Var,
    heads: usize,
    flavour: Attention,
) -> Result<Var> {
    let name = value_name(path);
    let channels = dim(x, 1)?;
    let mut queries = Input::from(x);
    let mut own_context;
    let layer = |part: &str, bias| (format!("{path}.{part}"), format!("{name}_{part}"), bias);
    let project = |g: &mut Graph, part: &str, input: &mut Input| {
        let (path, name, bias) = layer(part, false);
        let layer = Layer {
            path: &path,
            name: &name,
            outputs: channels,
            channels: Channels::Second,
            kernel: Kernel::POINT,
            site: Site::Attention,
            bias,
        };
        g.adaptable(layer, input)
    };
    let q = project(g, "to_q", &mut queries)?;
    let keys = if context == x {
        &mut queries
    } else {
        own_context = Input::from(context);
        &mut own_context
    };
    let k = project(g, "to_k", keys)?;
    let v = project(g, "to_v", keys)?;
    let width = channels / heads.max(1);
    let (q, k) = g.scaled_pair(&name, &q, &k, (width as f64).powf(-0.5))?;
    let heads = Heads {
        name: &name,
        heads,
        width,
    };
    let o = match flavour {
        Attention::Original => heads.original(g, &q, &k, &v)?,
        Attention::SplitEinsum => heads.split_einsum(g, &q, &k, &v)?,
    };
    let out = Layer {
        path: &format!("{path}.to_out.0"),
        name: &name,
        outputs: channels,
        channels: Channels::Second,
        kernel: Kernel::POINT,
        site: Site::Attention,
        bias: true,
    };
    g.adaptable(out, &mut Input::from(&o))
}

struct Heads<'a> {
    name: &'a str,
    heads: usize,
    width: usize,
}

impl Heads<'_> {
    /// All heads by two `matmul`s: A = softmax_k(qᵀ·k) `[B, H, Sq, Sk]`, O = v·Aᵀ `[B, H, d, Sq]`.
    fn original(&self, g: &mut Graph, q: &Var, k: &Var, v: &Var) -> Result<Var> {
        let name = self.name;
        let mut split = |part: &str, x: &Var| -> Result<Var> {
            let shape = [dim(x, 0)?, self.heads, self.width, dim(x, 3)?];
            g.reshape(&format!("{name}_{part}_heads"), x, &shape)
        };
        let (q4, k4, v4) = (split("q", q)?, split("k", k)?, split("v", v)?);
        let scores = g.matmul(&format!("{name}_scores"), &q4, &k4, [true, false])?;
        let weights = g.softmax(&format!("{name}_weights"), &scores, -1)?;
        let o = g.matmul(&format!("{name}_heads"), &v4, &weights, [false, true])?;
        g.reshape(&format!("{name}_joined"), &o, &q.shape()?)
    }

    /// Head by head: A = softmax_k(k·q) `[B, Sk, 1, Sq]`, O = v·A `[B, d, 1, Sq]`, joined along the channels.
    ///
    /// The `einsum` op accepts only operands of the form `nchw,nwhu->nchu`, hence `(k, q)` and `(v, A)`.
    fn split_einsum(&self, g: &mut Graph, q: &Var, k: &Var, v: &Var) -> Result<Var> {
        let name = self.name;
        let k = g.transpose(&format!("{name}_k_transposed"), k, &[0, 3, 2, 1])?;
        let (batch, queries, keys) = (dim(q, 0)?, dim(q, 3)?, dim(v, 3)?);
        let mut joined = Vec::with_capacity(self.heads);
        for head in 0..self.heads {
            let name = format!("{name}_head_{head}");
            let (from, to) = (head * self.width, (head + 1) * self.width);
            let mut cut = |part: &str, x: &Var, begin: [usize; 4], end: [usize; 4]| {
                g.slice(&format!("{name}_{part}"), x, &begin, &end)
            };
            let k = cut("k", &k, [0, 0, 0, from], [batch, keys, 1, to])?;
            let q = cut("q", q, [0, from, 0, 0], [batch, to, 1, queries])?;
            let v = cut("v", v, [0, from, 0, 0], [batch, to, 1, keys])?;
            let scores = einsum(g, &format!("{name}_scores"), "bkhc,bchq->bkhq", &k, &q)?;
            let weights = g.softmax(&format!("{name}_weights"), &scores, 1)?;
            joined.push(einsum(g, &name, "bchk,bkhq->bchq", &v, &weights)?);
        }
        g.concat(&format!("{name}_joined"), joined)
    }
}

fn einsum(g: &mut Graph, name: &str, equation: &str, a: &Var, b: &Var) -> Result<Var> {
    let args = [
        ("values", vec![a.clone(), b.clone()].into()),
        ("equation", equation.into()),
    ];
    g.op("einsum", name, &args)
}
