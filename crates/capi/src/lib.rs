//! The C ABI over the engine: what `include/gesso.h` declares.
//!
//! Every function catches panics, checks its pointers for null and its strings for UTF-8, and returns a
//! [`GessoStatus`]; the message of the last failure on the calling thread is kept for [`gesso_last_error`]. Nothing of
//! the caller's is kept after a function returns: names are copied, buffers are read and written in between only.
//!
//! # Handles
//!
//! A handle is made by one function and freed by another, which takes the address of the caller's variable and sets it to
//! null: freeing the same variable twice does nothing. A copy of a freed handle must not be used.
//!
//! # Threads
//!
//! Any number of threads may use one model at the same time, share a state, and set one token. A handle is freed when no other thread is
//! inside a function that was given it.
#![allow(unsafe_code)] // Raw pointers of the caller are this crate's business; the rest of it is safe.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod buffer;
mod cancel;
mod compile;
mod describe;
mod layout;
mod model;
mod outputs;
mod pointer;
mod predict;
mod state;
mod status;
mod structure;

pub use buffer::{GessoDtype, GessoInput, GessoOutput};
pub use cancel::{GessoToken, gesso_token_free, gesso_token_new, gesso_token_set};
pub use compile::gesso_compile;
pub use describe::{gesso_model_describe, gesso_string_free};
pub use model::{
    GessoFeature, GessoKind, GessoModel, gesso_model_default_function, gesso_model_feature,
    gesso_model_feature_count, gesso_model_free, gesso_model_function, gesso_model_function_count,
    gesso_model_load,
};
pub use outputs::{
    GessoOutputs, gesso_outputs_copy, gesso_outputs_count, gesso_outputs_feature,
    gesso_outputs_free, gesso_predict_outputs, gesso_predict_outputs_with_state,
};
pub use predict::{
    GessoCompute, GessoKernels, GessoOptions, gesso_predict, gesso_predict_batch,
    gesso_predict_with_state,
};
pub use state::{
    GessoState, GessoStateBuffer, gesso_state_free, gesso_state_lock, gesso_state_new,
    gesso_state_read, gesso_state_unlock, gesso_state_write,
};
pub use status::{GessoStatus, gesso_last_error, gesso_version};
pub use structure::gesso_structure;
