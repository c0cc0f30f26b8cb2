//! Norm layers: `w_norm [C]` is added to the weight, `b_norm [C]` to the bias.
//!
//! Source: KohakuBlueleaf/LyCORIS `modules/norms.py`.

use super::{Built, Delta, Fault, Site};
use crate::lora::factor::Factor;
use crate::lora::part::Part;

#[derive(Debug)]
struct Norm(Factor);

pub(super) fn build(site: &mut Site<'_>) -> Result<Built, Fault> {
    let weight = site.need(Part::NormWeight, "`w_norm`", "`b_norm`")?;
    let shape = site.shape.clone();
    site.expect(&weight, &shape)?;
    site.take(Part::Alpha);
    Ok(Built {
        word: "norm",
        rank: None,
        scale: 1.0,
        delta: Box::new(Norm(weight)),
    })
}

impl Delta for Norm {
    fn delta(&self, _base: &[f32]) -> Vec<f32> {
        self.0.values()
    }
}
