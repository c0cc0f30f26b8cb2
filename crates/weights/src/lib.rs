//! Weights: safetensors files, checkpoints under canonical names, LoRA files.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod checkpoint;
mod component;
mod config;
mod error;
mod layout;
pub mod lora;
pub mod safetensors;

pub use checkpoint::{
    Checkpoint, Family, ModelIndex, OpenOptions, SchedulerConfig, Tensors, Unused,
};
pub use component::Component;
pub use config::{TextActivation, TextConfig, UnetConfig, VaeConfig};
pub use error::{Error, Result};
pub use safetensors::{StDType, StFile, StNote, StWriter, TensorRef, write_safetensors};
