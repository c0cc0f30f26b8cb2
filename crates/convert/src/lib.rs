//! From a checkpoint to Core ML packages: model families, emission, recipes, adapter assets.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod adapter;
pub mod asset;
pub mod built;
pub mod compile;
mod convert;
pub mod delta;
mod describe;
mod emit;
mod error;
pub mod family;
pub mod folder;
mod functions;
pub mod hint;
pub mod loss;
pub mod merged;
mod metadata;
mod palettize;
mod parts;
mod place;
pub mod recipe;
pub mod report;
pub mod retrofit;
pub mod slots;
pub mod source;
mod states;
mod target;
mod tree;

pub use compile::{compile_opened, compile_package, decompile_package};
pub use convert::convert;
pub use describe::About;
pub use emit::{Emitted, Progress, Silent, emit, emit_twin, weight_bytes};
pub use error::Error;
pub use palettize::{Palettized, palettize};
pub use place::Bits;
pub use recipe::Recipe;
pub use report::Report;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
