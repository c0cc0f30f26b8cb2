//! The time embedding: sinusoids in fp32, then two linear layers.

use crate::Result;
use crate::family::adapted::{Input, Layer};
use crate::family::graph::{Graph, Kernel, dim};
use gesso_mil::{DType, Var};

/// Settings of the sinusoids.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sinusoids {
    /// Channels of the embedding: half of them cosines, half sines.
    pub(super) channels: usize,
    /// Cosines first.
    pub(super) flip_sin_to_cos: bool,
    /// Shift in the exponent's denominator.
    pub(super) freq_shift: f32,
}

/// Frequencies exp(−ln(10000)·i / (half − shift)) for i < half, with the f32 steps of diffusers' `get_timestep_embedding`.
pub(super) fn frequencies(s: Sinusoids) -> Vec<f32> {
    let half = s.channels / 2;
    let max_period = -(9.210_340_371_976_184_f64) as f32;
    (0..half)
        .map(|i| {
            let exponent = max_period * i as f32 / (half as f32 - s.freq_shift);
            libm::exp(f64::from(exponent)) as f32
        })
        .collect()
}

/// `timestep [B]` → `time_embedding [B, outputs, 1, 1]`: sin and cos of timestep · frequency, all fp32, then `linear_1`, silu,
/// `linear_2` in the graph's type.
pub(super) fn time_embedding(
    g: &mut Graph,
    timestep: &Var,
    s: Sinusoids,
    outputs: usize,
) -> Result<Var> {
    let (batch, half) = (dim(timestep, 0)?, s.channels / 2);
    let t = g.cast("timestep_fp32", timestep, DType::Fp32)?;
    let t = g.reshape("timestep_column", &t, &[batch, 1])?;
    let table = g.generated("time_frequencies", DType::Fp32, &[1, half], frequencies(s));
    let angle = g.binary("mul", "time_angle", &t, &table)?;
    let cos = g.unary("cos", "time_cos", &angle)?;
    let sin = g.unary("sin", "time_sin", &angle)?;
    let order = if s.flip_sin_to_cos {
        vec![cos, sin]
    } else {
        vec![sin, cos]
    };
    let waves = g.concat("time_proj_fp32", order)?;
    let waves = g.cast("time_proj", &waves, g.dtype)?;
    let x = g.reshape("time_proj_column", &waves, &[batch, 2 * half, 1, 1])?;
    let (path, name) = ("time_embedding.linear_1", "time_embedding_linear_1");
    let first = Layer::conv(path, name, outputs, Kernel::POINT);
    let x = g.adaptable(first, &mut Input::from(&x))?;
    let x = g.unary("silu", "time_embedding_act", &x)?;
    let (path, name) = ("time_embedding.linear_2", "time_embedding");
    let second = Layer::conv(path, name, outputs, Kernel::POINT);
    g.adaptable(second, &mut Input::from(&x))
}
