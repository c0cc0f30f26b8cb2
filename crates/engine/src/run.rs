//! Running a planned function.

use crate::accumulate;
use crate::call::{Call, Operand, recycle};
use crate::constant::Decoder;
use crate::kernels::fast::attention::attention;
use crate::plan::{Access, Out, Place, Plan, Source, Step};
use crate::state;
use crate::tap::{Taps, Watch};
use crate::tensor::{Array, Buffer};
use crate::{Error, Result};
use gesso_mil::{DType, Dim};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What happens to values that are declared fp16.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compute {
    /// They stay in f32, unrounded.
    #[default]
    Fp32,
    /// Each is rounded to fp16 after its op.
    Fp16,
}

/// Which kernels run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kernels {
    /// The fast kernel of an op where there is one that fits, else the naive one.
    #[default]
    Fast,
    /// Naive kernels only: the judge.
    Naive,
}

/// The usual pairs of compute mode and kernels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// Values in f32, fast kernels: sums in f32.
    #[default]
    Fp32,
    /// Values that are declared fp16 are rounded to fp16 after each op, fast kernels: sums inside an op in f32.
    Fp16,
    /// Values in f32, naive kernels: sums and functions in f64, the same bits on every CPU.
    Strict,
}

/// How a prediction runs.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// Compute mode.
    pub compute: Compute,
    /// Kernels.
    pub kernels: Kernels,
    /// Number of threads; 0 = as many as the machine has. The result does not depend on it.
    pub threads: usize,
    /// Names of further values to return beside the outputs. They stay in memory until the end.
    pub probes: Vec<String>,
    /// Shows values while the function runs; nothing stays in memory.
    pub taps: Option<Taps>,
    /// Stop with [`Error::NonFinite`] at the first op whose output has a NaN or an infinity.
    pub check_finite: bool,
    /// Looked at before each op; once it is true the prediction ends with [`Error::Cancelled`].
    pub cancel: Option<Arc<AtomicBool>>,
}

impl RunOptions {
    /// The defaults in a precision.
    pub fn new(precision: Precision) -> Self {
        let (compute, kernels) = match precision {
            Precision::Fp32 => (Compute::Fp32, Kernels::Fast),
            Precision::Fp16 => (Compute::Fp16, Kernels::Fast),
            Precision::Strict => (Compute::Fp32, Kernels::Naive),
        };
        Self {
            compute,
            kernels,
            ..Self::default()
        }
    }
}

/// Runs a plan with one array per function input and per state. States are changed in place, also when it fails.
pub(crate) fn run(
    plan: &Plan,
    inputs: Vec<Array>,
    states: &mut [Array],
    options: &RunOptions,
    decoder: &Decoder<'_>,
) -> Result<BTreeMap<String, Array>> {
    let wanted: BTreeSet<&String> = plan.outputs.iter().chain(&options.probes).collect();
    let watch = Watch::new(plan, options);
    let mut slots: Vec<Option<Array>> = vec![None; plan.slots];
    let places = slots.iter_mut().zip(inputs).zip(&plan.inputs).enumerate();
    for (number, ((slot, mut array), (name, ty))) in places {
        let mut overflows = 0;
        if options.compute == Compute::Fp16 && ty.dtype == DType::Fp16 {
            overflows = watch.overflows(number, &array);
            round(&mut array);
        }
        watch.show(number, (name, "input"), &array, overflows)?;
        *slot = Some(array);
    }
    for name in options.taps.iter().flat_map(|t| &t.names).flatten() {
        if let Some(Place::Constant(c)) = plan.places.get(name) {
            watch.show_constant(name, &c.decoded(decoder)?)?;
        }
    }
    let mut steps = plan.steps.as_slice();
    while let Some((step, rest)) = steps.split_first() {
        steps = rest;
        if let Some(cancel) = &options.cancel
            && cancel.load(Ordering::Relaxed)
        {
            return Err(Error::Cancelled {
                op: step.name().into(),
            });
        }
        if step.attention
            && let [softmax, product, after @ ..] = rest
            && let Some(array) = run_attention(
                [step, softmax, product],
                &mut slots,
                &watch,
                options,
                decoder,
            )?
        {
            let slot = product.outputs.first().and_then(|o| slots.get_mut(o.slot));
            if let Some(slot) = slot {
                *slot = Some(array);
            }
            steps = after;
            continue;
        }
        if step.accumulates
            && fuses(options)
            && let [reshape, add, after @ ..] = rest
            && let Some(out) = add.outputs.first()
            && let Some(sum) = accumulate::run([step, reshape, add], &mut slots, &watch, decoder)?
        {
            check(&Call::new(add, decoder), out, &sum)?;
            watch.show(out.slot, (&out.name, &add.kind), &sum, 0)?;
            if let Some(slot) = slots.get_mut(out.slot) {
                *slot = Some(sum);
            }
            steps = after;
            continue;
        }
        let mut call = bound(step, &mut slots, &watch, decoder)?;
        if let Some(Access::Read(state)) = step.access {
            state::read(states, state, &mut call);
        }
        let mut outputs = computed(step, &mut call, options, decoder)?;
        if let Some(Access::Write(state)) = step.access {
            outputs = state::write(plan, states, state, &call, outputs)?;
            if options.check_finite {
                outputs.iter().try_for_each(|a| check_finite(step, a))?;
            }
            outputs.truncate(step.outputs.len());
        }
        finish(step, &call, &mut outputs, options, &watch)?;
        for (out, array) in step.outputs.iter().zip(outputs) {
            if out.unused && !watch.keeps(out.slot) {
                recycle(decoder, array);
            } else if let Some(slot) = slots.get_mut(out.slot) {
                *slot = Some(array);
            }
        }
    }
    let mut results = BTreeMap::new();
    for name in wanted {
        let array = match plan.places.get(name) {
            Some(Place::Slot(slot)) => slots.get(*slot).cloned().flatten(),
            Some(Place::Constant(c)) => Some(c.decoded(decoder)?),
            None => None,
        };
        let array = array.ok_or_else(|| Error::Unsupported {
            name: name.clone(),
            what: "an output that nothing computes".into(),
        })?;
        results.insert(name.clone(), array);
    }
    for array in slots.into_iter().flatten() {
        recycle(decoder, array);
    }
    Ok(results)
}

/// Whether steps may run as one where nobody sees what lies between.
fn fuses(options: &RunOptions) -> bool {
    options.kernels == Kernels::Fast && options.compute == Compute::Fp32 && !options.check_finite
}

/// Scores, softmax and product in one, where nobody sees what lies between: fast kernels, no rounding in between, no
/// probe and no check on scores or softmax. `None` when it has to be three steps.
fn run_attention(
    steps: [&Step; 3],
    slots: &mut [Option<Array>],
    watch: &Watch<'_>,
    options: &RunOptions,
    decoder: &Decoder<'_>,
) -> Result<Option<Array>> {
    let [scores, softmax, product] = steps;
    let between = scores.outputs.iter().chain(&softmax.outputs);
    let hidden = between.clone().all(|o| watch.hides(o.slot));
    if !fuses(options) {
        return Ok(None);
    }
    let Some(out) = product.outputs.first().filter(|_| hidden) else {
        return Ok(None);
    };
    let calls = steps.map(|step| {
        let mut call = Call::new(step, decoder);
        for (parameter, sources) in &step.operands {
            // Scores and softmax have no value: operands that stand for them stay out.
            let operands = sources.iter().filter_map(|source| match source {
                Source::Constant(c) => Some(Operand::Constant(c)),
                Source::Slot { slot, .. } => {
                    slots.get(*slot).cloned().flatten().map(Operand::Array)
                }
            });
            let operands: Vec<_> = operands.collect();
            if !operands.is_empty() {
                call.operands.insert(parameter, operands);
            }
        }
        call
    });
    let Some(array) = attention(&calls[0], &calls[1], &calls[2])? else {
        return Ok(None);
    };
    check(&calls[2], out, &array)?;
    watch.show(out.slot, (&out.name, &product.kind), &array, 0)?;
    drop(calls);
    let sources = steps
        .iter()
        .flat_map(|s| &s.operands)
        .flat_map(|(_, sources)| sources);
    for source in sources {
        if let Source::Slot { slot, last: true } = source
            && !watch.keeps(*slot)
            && let Some(array) = slots.get_mut(*slot).and_then(Option::take)
        {
            recycle(decoder, array);
        }
    }
    Ok(Some(array))
}

/// The call of a step with its operands; a slot that is read for the last time is emptied.
fn bound<'a>(
    step: &'a Step,
    slots: &mut [Option<Array>],
    watch: &Watch<'_>,
    decoder: &'a Decoder<'a>,
) -> Result<Call<'a>> {
    let mut call = Call::new(step, decoder);
    for (parameter, sources) in &step.operands {
        let mut operands = Vec::with_capacity(sources.len());
        for source in sources {
            operands.push(match source {
                Source::Constant(c) => Operand::Constant(c),
                Source::Slot { slot, last } => {
                    let value = slots.get_mut(*slot);
                    let array = if *last && !watch.keeps(*slot) {
                        value.and_then(Option::take)
                    } else {
                        value.and_then(|v| v.clone())
                    };
                    Operand::Array(array.ok_or_else(|| {
                        call.wrong(format!("the value of `{parameter}` is not computed"))
                    })?)
                }
            });
        }
        call.operands.insert(parameter, operands);
    }
    Ok(call)
}

/// Runs the kernel of a step.
fn computed(
    step: &Step,
    call: &mut Call<'_>,
    options: &RunOptions,
    decoder: &Decoder<'_>,
) -> Result<Vec<Array>> {
    let fast = match (options.kernels, step.kernel.fast) {
        (Kernels::Fast, Some(fast)) => fast(call)?,
        _ => None,
    };
    let outputs = match fast {
        Some(outputs) => outputs,
        None => (step.kernel.naive)(call)?,
    };
    let operands = std::mem::take(&mut call.operands);
    for operand in operands.into_values().flatten() {
        if let Operand::Array(array) = operand {
            recycle(decoder, array);
        }
    }
    Ok(outputs)
}

/// Checks outputs against their declared types and rounds them.
fn finish(
    step: &Step,
    call: &Call<'_>,
    outputs: &mut [Array],
    options: &RunOptions,
    watch: &Watch<'_>,
) -> Result<()> {
    if outputs.len() != step.outputs.len() {
        let (found, expected) = (outputs.len(), step.outputs.len());
        return Err(call.wrong(format!("gives {found} outputs, {expected} are declared")));
    }
    for (out, array) in step.outputs.iter().zip(outputs) {
        check(call, out, array)?;
        let mut overflows = 0;
        if options.compute == Compute::Fp16 && out.ty.dtype == DType::Fp16 {
            // A shared buffer is another value's under a new shape, or a state's, and rounded already; only a cast
            // changes dtype.
            let shared = matches!(&array.buffer, Buffer::F32(v) if Arc::strong_count(v) > 1);
            if !shared || step.kind == "cast" {
                overflows = watch.overflows(out.slot, array);
                round(array);
            }
        }
        watch.show(out.slot, (&out.name, &step.kind), array, overflows)?;
        if options.check_finite {
            check_finite(step, array)?;
        }
    }
    Ok(())
}

/// Rounds each element to fp16.
pub(crate) fn round(array: &mut Array) {
    if let Buffer::F32(v) = &mut array.buffer {
        crate::simd::round_f16(Arc::<Vec<f32>>::make_mut(v));
    }
}

/// The computed class and shape against the declared ones.
fn check(call: &Call<'_>, out: &Out, array: &Array) -> Result<()> {
    let dims_fit = out.ty.dims.len() == array.shape.len()
        && out.ty.dims.iter().zip(&array.shape).all(|(d, &n)| match d {
            Dim::Fixed(f) => *f == n,
            Dim::Unknown { .. } => true,
        });
    if dims_fit
        && array.class() == out.class
        && crate::shape::count(&array.shape) == Some(array.len())
    {
        return Ok(());
    }
    Err(call.wrong(format!(
        "output `{}` is declared {}, computed {:?} {:?}",
        out.name,
        out.ty,
        array.class(),
        array.shape
    )))
}

fn check_finite(step: &Step, array: &Array) -> Result<()> {
    let Buffer::F32(v) = &array.buffer else {
        return Ok(());
    };
    match v.iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(index) => Err(Error::NonFinite {
            op: step.name().into(),
            module: String::new(),
            kind: step.kind.clone(),
            value: v.get(index).copied().unwrap_or_default(),
            index,
            shape: array.shape.clone(),
        }),
    }
}
