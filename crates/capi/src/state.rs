//! States of models. The engine runs none, so none can be made.

use crate::model::GessoModel;
use crate::pointer::{read, take_back, write};
use crate::status::{Failure, GessoStatus, guard};

/// What a stateful model keeps between predictions. There is none: the engine runs no states.
#[derive(Debug)]
pub struct GessoState {
    _never: std::convert::Infallible,
}

/// Fails with `GESSO_STATUS_UNSUPPORTED`: the engine runs no states, and a model that has some does not load. `state` is
/// set to null.
///
/// # Safety
///
/// `model` is a model; `state` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gesso_state_new(
    model: *const GessoModel,
    state: *mut *mut GessoState,
) -> GessoStatus {
    guard(|| {
        // SAFETY: the caller's promise.
        unsafe {
            read(model, "model")?;
            write(state, std::ptr::null_mut(), "state")?;
        }
        Err(Failure::new(
            GessoStatus::Unsupported,
            "states are not supported by the engine",
        ))
    })
}

/// Frees a state and sets the variable to null.
///
/// # Safety
///
/// `state` is null or points to null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gesso_state_free(state: *mut *mut GessoState) -> GessoStatus {
    guard(|| {
        // SAFETY: the caller's promise.
        drop(unsafe { take_back(state) });
        Ok(())
    })
}
