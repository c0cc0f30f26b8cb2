//! Normalizations, written out in elementwise ops.

use super::graph::{Graph, dim};
use crate::Result;
use gesso_mil::{Arg, Value, Var};

impl Graph {
    /// GroupNorm over `x [B, C, H, W]`: per group z = x − mean, y = z · rsqrt(mean z² + eps) · weight + bias.
    ///
    /// The statistics are taken on `[B, G, C/G, H, W]`, as coremltools lowers torch's `group_norm`; a flat last dimension would
    /// pass the neural engine's limit of 16,384. `path` has the tensors `weight [C]` and `bias [C]`.
    pub(crate) fn group_norm(
        &mut self,
        path: &str,
        name: &str,
        x: &Var,
        groups: usize,
        eps: f32,
    ) -> Result<Var> {
        let shape = x.shape()?;
        let (c, h, w) = (dim(x, 1)?, dim(x, 2)?, dim(x, 3)?);
        let grouped = [dim(x, 0)?, groups, c / groups.max(1), h, w];
        let grouped = self.reshape(&format!("{name}_grouped"), x, &grouped)?;
        let normal = self.normalized(name, &grouped, &[2, 3, 4], eps)?;
        let normal = self.reshape(&format!("{name}_normal"), &normal, &shape)?;
        self.affine(path, name, &normal)
    }

    /// LayerNorm over the channels of `x [B, C, 1, S]`: z = x − mean, y = z · rsqrt(mean z² + eps) · weight + bias.
    pub(crate) fn channel_norm(
        &mut self,
        path: &str,
        name: &str,
        x: &Var,
        eps: f32,
    ) -> Result<Var> {
        let normal = self.normalized(name, x, &[1], eps)?;
        self.affine(path, name, &normal)
    }

    fn normalized(&mut self, name: &str, x: &Var, axes: &[i32], eps: f32) -> Result<Var> {
        let over = |x: &Var| -> [(&'static str, Arg); 3] {
            [
                ("x", x.into()),
                ("axes", axes.into()),
                ("keep_dims", true.into()),
            ]
        };
        let mean = self.op("reduce_mean", &format!("{name}_mean"), &over(x))?;
        let z = self.binary("sub", &format!("{name}_zero_mean"), x, &mean)?;
        let square = self.binary("mul", &format!("{name}_square"), &z, &z)?;
        let variance = self.op("reduce_mean", &format!("{name}_variance"), &over(&square))?;
        let epsilon = Arg::Value(Value::float(self.dtype, eps));
        let args = [("x", (&variance).into()), ("epsilon", epsilon)];
        let r = self.op("rsqrt", &format!("{name}_rsqrt"), &args)?;
        self.binary("mul", &format!("{name}_unit"), &z, &r)
    }

    fn affine(&mut self, path: &str, name: &str, x: &Var) -> Result<Var> {
        let shape = [1, dim(x, 1)?, 1, 1];
        let weight = self.weight(&format!("{path}.weight"), &shape);
        let scaled = self.binary("mul", &format!("{name}_weighted"), x, &weight)?;
        let bias = self.weight(&format!("{path}.bias"), &shape);
        self.binary("add", name, &scaled, &bias)
    }
}
