//! Between this crate's program and the messages of `model.mlmodel`.
//!
//! What the program cannot hold is an error, never dropped: doc strings, attributes of tensor types, missing members.

use crate::{Error, Result};

mod read;
mod write;

pub use read::{from_model, from_proto};
pub use write::to_proto;

/// Deepest nesting of types, values and blocks that is read or written.
pub const MAX_DEPTH: usize = 64;

fn wrong(place: &str, reason: impl Into<String>) -> Error {
    Error::Proto {
        place: place.into(),
        reason: reason.into(),
    }
}

/// The depth below, or an error when that is too deep.
fn deeper(place: &str, depth: usize) -> Result<usize> {
    if depth < MAX_DEPTH {
        return Ok(depth + 1);
    }
    Err(wrong(
        place,
        format!("expected at most {MAX_DEPTH} nested levels, found more"),
    ))
}
