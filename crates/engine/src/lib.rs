//! The reference engine: an interpreter for ML Programs that judges what the converter wrote.
//!
//! It reads packages from disk (through `gesso-coreml`), never a converter's memory, compares declared types with
//! computed ones, and unpacks compressed weights with code of its own.
//!
//! # Values
//!
//! Every floating-point value is held as f32, every integer value as i32, bool as bool.
//!
//! # Compute modes
//!
//! - [`Compute::Fp32`]: a value declared fp16 is *not* rounded; a `cast` to fp16 changes nothing. Constants are what the
//!   file says: an fp16 constant has fp16 values, and a compressed constant (`constexpr_*`) is evaluated in f32 and
//!   rounded once to its declared type.
//! - [`Compute::Fp16`]: each element of each value that is declared fp16 (inputs and op outputs) is rounded to the
//!   nearest fp16, ties to even, after its op; overflow gives infinity. Inside an op nothing is rounded: sums are
//!   accumulated in f32 by fast kernels and in f64 by naive ones.
//!
//! [`Precision`] pairs them with kernels as people use them; `docs/engine.md` has the whole rule.
//!
//! # Kernels
//!
//! Each op has a row in the table of [`kernels`]: a naive kernel (f64 inside, transcendental functions from `libm`, the
//! same bits on every CPU and at any thread count) and, where it matters, a fast one (f32, gemm, vectors; the same bits
//! at any thread count of one CPU). A float that becomes an integer is truncated towards zero.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod accumulate;
mod call;
mod constant;
mod constants;
mod error;
mod gemm;
pub mod kernels;
mod model;
mod modules;
mod package;
mod plan;
mod pool;
mod run;
mod shape;
mod simd;
mod source;
mod state;
mod tap;
mod tensor;

pub use constants::Constants;
pub use error::Error;
pub use model::{Feature, Interface, Model};
pub use modules::ValueInfo;
pub use run::{Compute, Kernels, Precision, RunOptions};
pub use source::WeightSource;
pub use state::State;
pub use tap::{Seen, Tap, Taps};
pub use tensor::{Data, Tensor};

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
