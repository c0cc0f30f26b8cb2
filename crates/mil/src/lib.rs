//! The typed ML Program: types, values, operations, the op table with its inference, a builder and a verifier.
//!
//! Everything here is pure: no files, no printing. Reading and writing packages is the business of `gesso-coreml`;
//! this crate converts between its own program and the protobuf messages of that crate.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod builder;
pub mod compiled;
mod dtype;
mod error;
pub mod lints;
pub mod ops;
mod program;
mod proto;
pub mod text;
mod value;
mod verify;

pub use builder::{Arg, Builder, Var};
pub use dtype::{DType, Dim, TensorType, ValueType};
pub use error::Error;
pub use program::{Binding, Block, Function, NamedType, Operation, Program};
pub use proto::{MAX_DEPTH, from_model, from_proto, to_proto};
pub use value::{Literal, Value, ValueData};
pub use verify::{Finding, Rule, verify};

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
