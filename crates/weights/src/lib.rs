//! Weights: safetensors files, checkpoints under canonical names, LoRA files.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod component;
mod config;
mod error;
pub mod lora;
pub mod safetensors;

pub use component::Component;
pub use config::{TextActivation, TextConfig, UnetConfig, VaeConfig};
pub use error::{Error, Result};
pub use safetensors::{StDType, StFile, StNote, StWriter, TensorRef, write_safetensors};
