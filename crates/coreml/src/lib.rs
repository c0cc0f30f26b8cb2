//! Core ML files: the messages of `model.mlmodel`, the `.mlpackage` folder and the weight file.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod proto;
