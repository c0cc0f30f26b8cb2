//! Core ML files: the messages of `model.mlmodel`, the `.mlpackage` folder and the weight file, and how output reaches
//! its place all at once or not at all.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod blob;
mod error;
pub mod mmap;
pub mod package;
pub mod proto;
pub mod stage;

pub use error::{Error, Result};
