//! Whole differences: `diff` like the weight, `set_weight` in place of it, or a bias alone.

use super::{Built, Delta, Fault, Site};
use crate::lora::factor::Factor;
use crate::lora::part::Part;

#[derive(Debug)]
struct Difference(Factor);

#[derive(Debug)]
struct Replacement(Factor);

#[derive(Debug)]
struct Nothing;

pub(super) fn build(site: &mut Site<'_>) -> Result<Built, Fault> {
    let diff = whole(site, Part::Diff)?;
    Ok(built("full", Box::new(Difference(diff))))
}

pub(super) fn build_replacement(site: &mut Site<'_>) -> Result<Built, Fault> {
    let weight = whole(site, Part::SetWeight)?;
    Ok(built("set-weight", Box::new(Replacement(weight))))
}

pub(super) fn build_nothing(_site: &mut Site<'_>) -> Result<Built, Fault> {
    Ok(built("bias", Box::new(Nothing)))
}

/// A tensor of the shape of the weight; an alpha beside it has no meaning and is dropped.
fn whole(site: &mut Site<'_>, part: Part) -> Result<Factor, Fault> {
    let factor = site.need(part, "a whole tensor", "no other tensor")?;
    let shape = site.shape.clone();
    site.expect(&factor, &shape)?;
    site.take(Part::Alpha);
    Ok(factor)
}

fn built(word: &'static str, delta: Box<dyn Delta>) -> Built {
    Built {
        word,
        rank: None,
        scale: 1.0,
        delta,
    }
}

impl Delta for Difference {
    fn delta(&self, _base: &[f32]) -> Vec<f32> {
        self.0.values()
    }
}

impl Delta for Replacement {
    fn delta(&self, base: &[f32]) -> Vec<f32> {
        let new = self.0.values();
        new.iter().zip(base).map(|(n, b)| n - b).collect()
    }

    fn reads_base(&self) -> bool {
        true
    }
}

impl Delta for Nothing {
    fn delta(&self, base: &[f32]) -> Vec<f32> {
        vec![0.0; base.len()]
    }
}
