//! IA3: one factor per output row or input column.
//!
//! ```text
//! LyCORIS   weight [C] (convolution [1, C, 1, 1]), on_input   dW = W · w       (w is an offset from 1)
//! PEFT      ia3_l [O, 1] or [1, I]                            dW = W · (l − 1); for [O, 1] the bias as well
//!           convolution [1, C, 1, 1]: inputs for the configuration's `feedforward_modules`, else outputs with the bias
//! ```
//! Source: KohakuBlueleaf/LyCORIS `modules/ia3.py`; huggingface/peft `tuners/ia3`.

use super::site::{Dims, shape_error};
use super::{Built, Delta, Fault, ScaleRule, Site};
use crate::lora::error::LoraError;
use crate::lora::factor::Factor;
use crate::lora::part::Part;

#[derive(Debug)]
struct Ia3 {
    factor: Factor,
    dims: Dims,
    on_input: bool,
    /// Value that means "unchanged": 0 in LyCORIS files, 1 in PEFT's.
    neutral: f32,
}

pub(super) fn build(site: &mut Site<'_>) -> Result<Built, Fault> {
    let factor = site.need(Part::Ia3Weight, "`weight`", "`on_input`")?;
    let on_input = site.number(Part::Ia3OnInput)?.unwrap_or(0.0) != 0.0;
    built(site, factor, on_input, 0.0)
}

pub(super) fn build_peft(site: &mut Site<'_>) -> Result<Built, Fault> {
    let factor = site.need(Part::Ia3L, "`ia3_l`", "no other tensor")?;
    let on_input = match *factor.shape.as_slice() {
        [1, _] => true,
        [_, 1] => false,
        [1, channels, 1, 1] => conv_on_input(site, &factor, channels)?,
        _ => return Err(shape_error(&factor, "[O, 1], [1, I] or [1, C, 1, 1]")),
    };
    built(site, factor, on_input, 1.0)
}

/// Which side a convolution's vector scales: PEFT stores both alike and keeps the answer in its configuration.
fn conv_on_input(site: &Site<'_>, factor: &Factor, channels: usize) -> Result<bool, Fault> {
    let configured = match site.rule {
        ScaleRule::Peft(config) => config.is_feedforward(&site.module.path),
        ScaleRule::Tensors => None,
    };
    let dims = site.dims();
    match configured {
        Some(on_input) => Ok(on_input),
        None if dims.inputs != dims.outputs => Ok(channels == dims.inputs),
        None => Err(Fault::Error(LoraError::Value {
            file: factor.file().to_path_buf(),
            tensor: factor.key.clone(),
            reason: format!(
                "the convolution has {channels} inputs and as many outputs, and no `adapter_config.json` with `feedforward_modules` says which of them are scaled"
            ),
        })),
    }
}

fn built(
    site: &mut Site<'_>,
    factor: Factor,
    on_input: bool,
    neutral: f32,
) -> Result<Built, Fault> {
    let dims = site.dims();
    let channels = if on_input { dims.inputs } else { dims.outputs };
    site.expect(&factor, &[channels])?;
    site.take(Part::Alpha);
    Ok(Built {
        word: "ia3",
        rank: None,
        scale: 1.0,
        delta: Box::new(Ia3 {
            factor,
            dims,
            on_input,
            neutral,
        }),
    })
}

impl Delta for Ia3 {
    fn delta(&self, base: &[f32]) -> Vec<f32> {
        let factors = self.factor.values();
        let kernel = self.dims.kernel;
        let columns = self.dims.columns();
        let mut out = Vec::with_capacity(base.len());
        for (row, w) in base.chunks_exact(columns.max(1)).enumerate() {
            if self.on_input {
                for (x, f) in w.chunks_exact(kernel.max(1)).zip(&factors) {
                    out.extend(x.iter().map(|v| v * (f - self.neutral)));
                }
            } else if let Some(f) = factors.get(row) {
                out.extend(w.iter().map(|v| v * (f - self.neutral)));
            }
        }
        out
    }

    fn reads_base(&self) -> bool {
        true
    }

    fn bias_delta(&self, base: &[f32]) -> Option<Vec<f32>> {
        if self.on_input || self.neutral == 0.0 {
            return None;
        }
        let factors = self.factor.values();
        Some(
            base.iter()
                .zip(&factors)
                .map(|(b, f)| b * (f - self.neutral))
                .collect(),
        )
    }
}
