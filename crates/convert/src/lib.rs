//! From a checkpoint to Core ML packages: model families, emission, recipes, adapter assets.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod built;
mod error;
pub mod family;
pub mod slots;

pub use error::Error;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
