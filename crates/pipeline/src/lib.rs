//! The text-to-image pipeline around the networks: CLIP tokenizer, schedulers, random numbers and the sampling loop.
//!
//! Pure: no files, no printing, no dependency on the other crates. Whoever calls [`generate`] brings the networks as a
//! [`Networks`] and the files as strings. Results depend on the
//! arguments only; every transcendental function comes from `libm`, so they are equal on every CPU.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod error;
mod generate;
mod output;
pub mod prompt;
pub mod rng;
pub mod schedulers;
mod text;
pub mod tokenizer;

pub use error::{BoxError, Error, Result};
pub use generate::{Networks, Request, Step, generate};
pub use output::{EncodedPrompt, Output, rgb8};
pub use prompt::Prompt;
pub use tokenizer::Tokenizer;
