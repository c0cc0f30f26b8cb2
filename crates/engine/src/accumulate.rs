//! A product that is added to another value, written straight onto that value.

use crate::Result;
use crate::call::{Call, Operand, recycle};
use crate::constant::Decoder;
use crate::kernels::fast::linear::accumulated;
use crate::plan::{Plan, Source, Step};
use crate::tap::Watch;
use crate::tensor::{Array, Buffer};
use std::sync::Arc;

/// Marks products that are reshaped, then added to a value that nobody reads later, and read by nobody else:
///
/// ```text
/// p = matmul(x, y); r = reshape(p); out = add(base, r)        (base or r first)
/// ```
pub(crate) fn mark(plan: &mut Plan) {
    let starts: Vec<usize> = plan
        .steps
        .windows(3)
        .enumerate()
        .filter(|(_, steps)| match steps {
            [product, reshape, add] => {
                let consumes = |step: &Step, made: &Step| {
                    let slot = made.outputs.first().map(|o| o.slot);
                    slots(step).any(|(s, last)| last && Some(s) == slot)
                };
                product.kind == "matmul"
                    && reshape.kind == "reshape"
                    && add.kind == "add"
                    && consumes(reshape, product)
                    && consumes(add, reshape)
                    && base(reshape, add).is_some()
            }
            _ => false,
        })
        .map(|(i, _)| i)
        .collect();
    for i in starts {
        if let Some(step) = plan.steps.get_mut(i) {
            step.accumulates = true;
        }
    }
}

/// Slots that a step reads, and whether it is the last to do so.
fn slots(step: &Step) -> impl Iterator<Item = (usize, bool)> {
    let sources = step.operands.iter().flat_map(|(_, sources)| sources);
    sources.filter_map(|source| match source {
        Source::Slot { slot, last } => Some((*slot, *last)),
        Source::Constant(_) => None,
    })
}

/// Slot of what the reshaped product is added to, when this is its last use.
fn base(reshape: &Step, add: &Step) -> Option<usize> {
    let own = reshape.outputs.first()?.slot;
    let mut others = slots(add).filter(|(slot, _)| *slot != own);
    match (others.next(), others.next()) {
        (Some((slot, true)), None) => Some(slot),
        _ => None,
    }
}

/// Runs the three steps as one and gives the sum. `None`, with nothing changed, when somebody looks at a value in
/// between, when the base is shared or of another shape than the reshaped product, or when it is not of floats.
pub(crate) fn run(
    steps: [&Step; 3],
    values: &mut [Option<Array>],
    watch: &Watch<'_>,
    decoder: &Decoder<'_>,
) -> Result<Option<Array>> {
    let [product, reshape, add] = steps;
    let mut between = product.outputs.iter().chain(&reshape.outputs);
    let (Some(slot), true) = (base(reshape, add), between.all(|o| watch.hides(o.slot))) else {
        return Ok(None);
    };
    let declared = reshape.outputs.first().and_then(|o| o.ty.shape());
    let fits = |array: &Array| {
        let own = matches!(&array.buffer, Buffer::F32(v) if Arc::strong_count(v) == 1);
        own && Some(&array.shape) == declared.as_ref()
    };
    let held = values.get(slot).and_then(Option::as_ref);
    if watch.keeps(slot) || !held.is_some_and(fits) {
        return Ok(None);
    }
    let mut call = Call::new(product, decoder);
    for (parameter, sources) in &product.operands {
        let operands = sources.iter().filter_map(|source| match source {
            Source::Constant(c) => Some(Operand::Constant(c)),
            Source::Slot { slot, .. } => values.get(*slot).cloned().flatten().map(Operand::Array),
        });
        call.operands.insert(parameter, operands.collect());
    }
    let Some(mut sum) = values.get_mut(slot).and_then(Option::take) else {
        return Ok(None);
    };
    let done = match &mut sum.buffer {
        Buffer::F32(v) => match Arc::get_mut(v) {
            Some(v) => accumulated(&call, v)?,
            None => false,
        },
        _ => false,
    };
    drop(call);
    if !done {
        if let Some(place) = values.get_mut(slot) {
            *place = Some(sum);
        }
        return Ok(None);
    }
    for (slot, last) in slots(product).filter(|(slot, _)| !watch.keeps(*slot)) {
        if last && let Some(array) = values.get_mut(slot).and_then(Option::take) {
            recycle(decoder, array);
        }
    }
    Ok(Some(sum))
}
