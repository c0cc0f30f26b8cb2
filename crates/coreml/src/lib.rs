//! Core ML files: the messages of `model.mlmodel`, the `.mlpackage` and `.mlmodelc` folders and the weight file, and how output reaches
//! its place all at once or not at all.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod blob;
pub mod compiled;
mod error;
mod files;
pub mod mmap;
pub mod package;
pub mod proto;
pub mod stage;

pub use error::{Error, Result};
pub use files::{MODEL_PATH, ModelFiles};
