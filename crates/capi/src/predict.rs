//! Predictions into the caller's buffers.

use std::collections::BTreeMap;
use std::ffi::c_char;

use gesso_engine::{Compute, Feature, Kernels, RunOptions, Tensor};

use crate::buffer::{GessoInput, GessoOutput, Target, tensor};
use crate::cancel::GessoToken;
use crate::model::GessoModel;
use crate::pointer::{optional, optional_text, read, slice};
use crate::state::GessoState;
use crate::status::{Failure, GessoStatus, Outcome, guard};

/// What happens to values that the model declares as 16-bit floats.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GessoCompute {
    /// They stay 32-bit floats, unrounded.
    Fp32 = 0,
    /// Each is rounded to 16 bits after its op.
    Fp16 = 1,
}

/// Which kernels run.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GessoKernels {
    /// The fast kernel of an op where there is one.
    Fast = 0,
    /// Naive kernels only: the same bits on every CPU.
    Naive = 1,
}

/// How a prediction runs. All zeros are the defaults.
#[repr(C)]
#[derive(Debug)]
pub struct GessoOptions {
    /// A `GessoCompute`.
    pub compute: i32,
    /// A `GessoKernels`.
    pub kernels: i32,
    /// Number of threads, at most 1024; 0 = as many as the machine has. The result does not depend on it.
    pub threads: u32,
    /// With 1, fail with `EXECUTION` at the first op whose output has a NaN or an infinity.
    pub check_finite: i32,
}

/// Highest number of threads.
const MOST_THREADS: u32 = 1024;

fn run_options(options: Option<&GessoOptions>, token: Option<&GessoToken>) -> Outcome<RunOptions> {
    let mut run = RunOptions {
        cancel: token.map(|token| token.flag.clone()),
        ..RunOptions::default()
    };
    let Some(options) = options else {
        return Ok(run);
    };
    let wrong = |field: &str, found: String| {
        Failure::new(
            GessoStatus::Argument,
            format!("option `{field}` cannot be {found}"),
        )
    };
    run.compute = match options.compute {
        n if n == GessoCompute::Fp32 as i32 => Compute::Fp32,
        n if n == GessoCompute::Fp16 as i32 => Compute::Fp16,
        n => return Err(wrong("compute", n.to_string())),
    };
    run.kernels = match options.kernels {
        n if n == GessoKernels::Fast as i32 => Kernels::Fast,
        n if n == GessoKernels::Naive as i32 => Kernels::Naive,
        n => return Err(wrong("kernels", n.to_string())),
    };
    run.check_finite = match options.check_finite {
        0 => false,
        1 => true,
        n => return Err(wrong("check_finite", n.to_string())),
    };
    if options.threads > MOST_THREADS {
        return Err(wrong("threads", options.threads.to_string()));
    }
    run.threads = options.threads as usize;
    Ok(run)
}

/// A model, a function of it and how to run it.
pub(crate) struct Run<'a> {
    pub(crate) model: &'a GessoModel,
    pub(crate) function: Option<&'a str>,
    pub(crate) outputs: &'a [Feature],
    inputs: &'a [Feature],
    options: RunOptions,
}

impl<'a> Run<'a> {
    /// Reads what all predictions are given.
    ///
    /// # Safety
    ///
    /// Each pointer is null or what its type says, for as long as the result lives.
    pub(crate) unsafe fn new(
        model: *const GessoModel,
        function: *const c_char,
        options: *const GessoOptions,
        token: *const GessoToken,
    ) -> Outcome<Self> {
        // SAFETY: the caller's promise.
        let (model, function, options) = unsafe {
            (
                read(model, "model")?,
                optional_text(function, "function")?,
                run_options(optional(options), optional(token))?,
            )
        };
        Ok(Self {
            inputs: model.engine.inputs(function)?,
            outputs: model.engine.outputs(function)?,
            model,
            function,
            options,
        })
    }

    /// Runs once.
    ///
    /// # Safety
    ///
    /// The pointers of `inputs` are null or as their fields say.
    pub(crate) unsafe fn predict(
        &self,
        inputs: &[GessoInput],
        state: Option<&GessoState>,
    ) -> Outcome<BTreeMap<String, Tensor>> {
        let mut tensors = BTreeMap::new();
        for input in inputs {
            // SAFETY: the caller's promise.
            let (name, tensor) = unsafe { tensor(input, self.inputs, "input") }?;
            if tensors.contains_key(&name) {
                return Err(twice("input", &name));
            }
            tensors.insert(name, tensor);
        }
        let (model, function, options) = (&self.model.engine, self.function, &self.options);
        match state {
            None => Ok(model.predict(function, &tensors, options)?),
            Some(state) => state
                .alone(|state| Ok(model.predict_with_state(function, &tensors, state, options)?)),
        }
    }

    /// Checks the buffers for one run's outputs.
    ///
    /// # Safety
    ///
    /// The pointers of `outputs` are null or as their fields say.
    unsafe fn targets(&self, outputs: &[GessoOutput]) -> Outcome<Vec<Target>> {
        let mut targets: Vec<Target> = Vec::with_capacity(outputs.len());
        for output in outputs {
            // SAFETY: the caller's promise.
            let target = unsafe { Target::new(output, self.outputs, "output") }?;
            if targets.iter().any(|t| t.name == target.name) {
                return Err(twice("output", &target.name));
            }
            targets.push(target);
        }
        Ok(targets)
    }
}

fn twice(what: &str, name: &str) -> Failure {
    Failure::new(
        GessoStatus::Argument,
        format!("{what} `{name}` is given twice"),
    )
}

/// Fills the buffers of one run.
///
/// # Safety
///
/// The buffers are there and nobody else uses them.
unsafe fn fill(targets: &[Target], results: &BTreeMap<String, Tensor>) -> Outcome {
    for target in targets {
        let tensor = results.get(&target.name).ok_or_else(|| {
            let text = format!("output `{}` was not computed", target.name);
            Failure::new(GessoStatus::Execution, text)
        })?;
        // SAFETY: the caller's promise.
        unsafe { target.fill(tensor) }?;
    }
    Ok(())
}

/// Runs a function; null is the default one.
///
/// Inputs that the model declares optional may be left out, and so may any output. Everything is checked before it runs;
/// a buffer whose size the model does not fix is checked after it, see `gesso_predict_outputs`. After a failure the
/// contents of the output buffers are unspecified. `options` and `token` may be null.
///
/// Fails with `NAME`, `MISSING_INPUT`, `SHAPE`, `BUFFER`, `ARGUMENT`, `CANCELLED`, `EXECUTION`.
///
/// # Safety
///
/// `model` is a model; `function` is null or ends with NUL; `inputs` and `outputs` have as many elements as said, and
/// their pointers are as the fields say; no output buffer overlaps another buffer or is used meanwhile; `options` and
/// `token` are null or what their types say.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gesso_predict(
    model: *const GessoModel,
    function: *const c_char,
    inputs: *const GessoInput,
    input_count: usize,
    outputs: *const GessoOutput,
    output_count: usize,
    options: *const GessoOptions,
    token: *const GessoToken,
) -> GessoStatus {
    guard(|| {
        // SAFETY: the caller's promise.
        unsafe {
            let run = Run::new(model, function, options, token)?;
            let inputs = slice(inputs, input_count, "inputs")?;
            let targets = run.targets(slice(outputs, output_count, "outputs")?)?;
            fill(&targets, &run.predict(inputs, None)?)
        }
    })
}

/// Runs a function on a state, which it reads and writes. A function without states leaves it alone.
///
/// The state may have been made for another function or model, if it has the states that this one declares. Other threads
/// that want it wait. After a failure it is as it was before, unless it was the output buffers that failed.
///
/// Else as `gesso_predict`, which refuses functions with states (`MISSING_INPUT`). Fails with `BUSY` when the calling
/// thread holds a buffer of the state.
///
/// # Safety
///
/// As `gesso_predict`; `state` is a state.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gesso_predict_with_state(
    model: *const GessoModel,
    function: *const c_char,
    state: *const GessoState,
    inputs: *const GessoInput,
    input_count: usize,
    outputs: *const GessoOutput,
    output_count: usize,
    options: *const GessoOptions,
    token: *const GessoToken,
) -> GessoStatus {
    guard(|| {
        // SAFETY: the caller's promise.
        unsafe {
            let run = Run::new(model, function, options, token)?;
            let inputs = slice(inputs, input_count, "inputs")?;
            let targets = run.targets(slice(outputs, output_count, "outputs")?)?;
            let state = read(state, "state")?;
            fill(&targets, &run.predict(inputs, Some(state))?)
        }
    })
}

/// Runs a function `batch` times: `inputs` has `batch × input_count` elements, run after run, and `outputs` has
/// `batch × output_count`.
///
/// All output buffers are checked before the first run. It stops at the first failure, whose message names the run; the
/// buffers of the runs before it are filled. Else as `gesso_predict`.
///
/// # Safety
///
/// As `gesso_predict`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gesso_predict_batch(
    model: *const GessoModel,
    function: *const c_char,
    batch: usize,
    inputs: *const GessoInput,
    input_count: usize,
    outputs: *const GessoOutput,
    output_count: usize,
    options: *const GessoOptions,
    token: *const GessoToken,
) -> GessoStatus {
    let total = |count: usize| {
        batch.checked_mul(count).ok_or_else(|| {
            let text = format!("a batch of {batch} × {count} is too large");
            Failure::new(GessoStatus::Argument, text)
        })
    };
    guard(|| {
        // SAFETY: the caller's promise.
        unsafe {
            let run = Run::new(model, function, options, token)?;
            let inputs = slice(inputs, total(input_count)?, "inputs")?;
            let outputs = slice(outputs, total(output_count)?, "outputs")?;
            let part = |count: usize, i: usize| i * count..i * count + count;
            let targets = (0..batch)
                .map(|i| {
                    let outputs = outputs.get(part(output_count, i)).unwrap_or_default();
                    run.targets(outputs).map_err(|e| e.at(&format!("run {i}")))
                })
                .collect::<Outcome<Vec<_>>>()?;
            for (i, targets) in targets.iter().enumerate() {
                let inputs = inputs.get(part(input_count, i)).unwrap_or_default();
                run.predict(inputs, None)
                    .and_then(|results| fill(targets, &results))
                    .map_err(|e| e.at(&format!("run {i}")))?;
            }
            Ok(())
        }
    })
}
