//! Predictions whose outputs are kept until they are asked for: for outputs whose sizes only the run tells.

use std::ffi::c_char;

use gesso_engine::{Feature, Tensor};
use gesso_mil::Dim;

use crate::buffer::{GessoInput, GessoOutput, Target};
use crate::cancel::GessoToken;
use crate::model::{Entry, GessoFeature, GessoModel, at};
use crate::pointer::{hand_out, read, slice, take_back, write};
use crate::predict::{GessoOptions, Run};
use crate::state::GessoState;
use crate::status::{Failure, GessoStatus, Outcome, guard};

/// The outputs of a prediction. Independent of the model, which may be freed.
#[derive(Debug)]
pub struct GessoOutputs {
    features: Vec<Feature>,
    entries: Vec<Entry>,
    tensors: Vec<Tensor>,
}

impl GessoOutputs {
    /// # Safety
    ///
    /// The pointers of `inputs` are null or as their fields say.
    unsafe fn new(
        run: &Run<'_>,
        inputs: &[GessoInput],
        state: Option<&GessoState>,
    ) -> Outcome<Self> {
        // SAFETY: the caller's promise.
        let mut results = unsafe { run.predict(inputs, state) }?;
        let mut made = Self {
            features: Vec::new(),
            entries: Vec::new(),
            tensors: Vec::new(),
        };
        for feature in run.outputs {
            let Some(tensor) = results.remove(&feature.name) else {
                let text = format!("output `{}` was not computed", feature.name);
                return Err(Failure::new(GessoStatus::Execution, text));
            };
            let mut feature = feature.clone();
            feature.ty.dims = tensor.shape.iter().map(|&n| Dim::Fixed(n)).collect();
            made.entries.push(Entry::new(&feature)?);
            made.features.push(feature);
            made.tensors.push(tensor);
        }
        Ok(made)
    }
}

/// Runs a function and keeps its outputs, in the function's order. Free them with `gesso_outputs_free`.
///
/// Else as `gesso_predict`.
///
/// # Safety
///
/// As `gesso_predict`; `outputs` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gesso_predict_outputs(
    model: *const GessoModel,
    function: *const c_char,
    inputs: *const GessoInput,
    input_count: usize,
    options: *const GessoOptions,
    token: *const GessoToken,
    outputs: *mut *mut GessoOutputs,
) -> GessoStatus {
    guard(|| {
        // SAFETY: the caller's promise.
        unsafe {
            write(outputs, std::ptr::null_mut(), "outputs")?;
            let run = Run::new(model, function, options, token)?;
            let inputs = slice(inputs, input_count, "inputs")?;
            hand_out(outputs, GessoOutputs::new(&run, inputs, None)?, "outputs")
        }
    })
}

/// Runs a function on a state and keeps its outputs, in the function's order. Free them with `gesso_outputs_free`.
///
/// Else as `gesso_predict_with_state`.
///
/// # Safety
///
/// As `gesso_predict_with_state`; `outputs` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gesso_predict_outputs_with_state(
    model: *const GessoModel,
    function: *const c_char,
    state: *const GessoState,
    inputs: *const GessoInput,
    input_count: usize,
    options: *const GessoOptions,
    token: *const GessoToken,
    outputs: *mut *mut GessoOutputs,
) -> GessoStatus {
    guard(|| {
        // SAFETY: the caller's promise.
        unsafe {
            write(outputs, std::ptr::null_mut(), "outputs")?;
            let run = Run::new(model, function, options, token)?;
            let inputs = slice(inputs, input_count, "inputs")?;
            let state = read(state, "state")?;
            let made = GessoOutputs::new(&run, inputs, Some(state))?;
            hand_out(outputs, made, "outputs")
        }
    })
}

/// Number of outputs.
///
/// # Safety
///
/// `outputs` are outputs; `count` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gesso_outputs_count(
    outputs: *const GessoOutputs,
    count: *mut usize,
) -> GessoStatus {
    guard(|| {
        // SAFETY: the caller's promise.
        unsafe { write(count, read(outputs, "outputs")?.entries.len(), "count") }
    })
}

/// Name, dtype and computed shape of an output. What `feature` points to belongs to the outputs.
///
/// # Safety
///
/// `outputs` are outputs; `feature` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gesso_outputs_feature(
    outputs: *const GessoOutputs,
    index: usize,
    feature: *mut GessoFeature,
) -> GessoStatus {
    guard(|| {
        // SAFETY: the caller's promise.
        unsafe {
            let entry = at(&read(outputs, "outputs")?.entries, index, "output")?;
            write(feature, entry.feature(), "feature")
        }
    })
}

/// Copies the output that `output` names into its buffer.
///
/// # Safety
///
/// `outputs` are outputs; the pointers of `output` are as its fields say.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gesso_outputs_copy(
    outputs: *const GessoOutputs,
    output: *const GessoOutput,
) -> GessoStatus {
    guard(|| {
        // SAFETY: the caller's promise.
        unsafe {
            let outputs = read(outputs, "outputs")?;
            let target = Target::new(read(output, "output")?, &outputs.features, "output")?;
            let named = outputs.features.iter().zip(&outputs.tensors);
            for (_, tensor) in named.filter(|(feature, _)| feature.name == target.name) {
                target.fill(tensor)?;
            }
            Ok(())
        }
    })
}

/// Frees outputs and sets the variable to null; null is fine.
///
/// # Safety
///
/// `outputs` is null or points to null or to outputs that no other thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gesso_outputs_free(outputs: *mut *mut GessoOutputs) -> GessoStatus {
    guard(|| {
        // SAFETY: the caller's promise.
        drop(unsafe { take_back(outputs) });
        Ok(())
    })
}
