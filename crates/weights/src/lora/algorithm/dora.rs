//! DoRA: the length of each output row or input column of W + dW is set to a stored magnitude.
//!
//! ```text
//! V = W + dW;  W' = V · m / (‖V‖ + ε);  dW' = W' − W
//! LyCORIS   dora_scale [O, 1(, 1, 1)]: per output;  [1, I(, 1, 1)]: per input;  a plain vector: per output
//! PEFT      lora_magnitude_vector [O] or [1, O, 1, 1]: per output
//! ```
//! Source: KohakuBlueleaf/LyCORIS `modules/locon.py`; huggingface/peft `tuners/lora/dora.py`.

use super::site::Dims;
use super::{Built, Delta, Fault, Site};
use crate::lora::factor::Factor;
use crate::lora::part::Part;

#[derive(Debug)]
struct Dora {
    inner: Box<dyn Delta>,
    magnitude: Factor,
    dims: Dims,
    on_input: bool,
}

/// Wraps `built` when the module has a magnitude; whether it has.
pub(crate) fn magnitude(site: &mut Site<'_>, built: Built) -> Result<(Built, bool), Fault> {
    let dims = site.dims();
    let peft = site.take(Part::Magnitude);
    let (magnitude, on_input) = match (peft, site.take(Part::DoraScale)) {
        (Some(m), _) => (m, false),
        (None, Some(m)) => {
            let on_input = matches!(*m.shape.as_slice(), [1, n, ..] if n > 1);
            (m, on_input)
        }
        (None, None) => return Ok((built, false)),
    };
    let channels = if on_input { dims.inputs } else { dims.outputs };
    site.expect(&magnitude, &[channels])?;
    let dora = Dora {
        inner: built.delta,
        magnitude,
        dims,
        on_input,
    };
    Ok((
        Built {
            delta: Box::new(dora),
            ..built
        },
        true,
    ))
}

impl Delta for Dora {
    fn delta(&self, base: &[f32]) -> Vec<f32> {
        let dims = self.dims;
        let value: Vec<f64> = base
            .iter()
            .zip(self.inner.delta(base))
            .map(|(&w, d)| f64::from(w) + f64::from(d))
            .collect();
        let magnitude = self.magnitude.values();
        let channel = |i: usize| {
            if self.on_input {
                i / dims.kernel.max(1) % dims.inputs.max(1)
            } else {
                i / dims.columns().max(1)
            }
        };
        let mut squares = vec![0.0f64; magnitude.len()];
        for (i, v) in value.iter().enumerate() {
            if let Some(sum) = squares.get_mut(channel(i)) {
                *sum += v * v;
            }
        }
        let factors: Vec<f64> = squares
            .iter()
            .zip(&magnitude)
            .map(|(s, &m)| f64::from(m) / (s.sqrt() + f64::from(f32::EPSILON)))
            .collect();
        value
            .iter()
            .zip(base)
            .enumerate()
            .map(|(i, (v, &w))| {
                let factor = factors.get(channel(i)).copied().unwrap_or(1.0);
                (v * factor - f64::from(w)) as f32
            })
            .collect()
    }

    fn reads_base(&self) -> bool {
        true
    }
}
