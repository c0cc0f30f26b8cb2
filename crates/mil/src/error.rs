//! Errors of this crate.

/// What can be wrong with a program.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An operation as a whole does not fit its inputs.
    #[error("op `{op}` (`{kind}`): {reason}")]
    Op {
        /// Name of the op's first output.
        op: String,
        /// Op name, for instance `conv`.
        kind: String,
        /// What was expected and what was found.
        reason: String,
    },
    /// The text form cannot be read.
    #[error("line {line} of the program text: {reason}")]
    Text {
        /// Line, from 1.
        line: usize,
        /// What was expected and what was found.
        reason: String,
    },
    /// One parameter of an operation is missing, unknown or wrong.
    #[error("op `{op}` (`{kind}`), parameter `{parameter}`: expected {expected}, found {found}")]
    Parameter {
        /// Name of the op's first output.
        op: String,
        /// Op name, for instance `conv`.
        kind: String,
        /// Parameter name.
        parameter: String,
        /// What the op takes.
        expected: String,
        /// What it was given.
        found: String,
    },
    /// A message of the file format cannot be read into a program, or a program not be written.
    #[error("{place}: {reason}")]
    Proto {
        /// Function, op, parameter.
        place: String,
        /// What was expected and what was found.
        reason: String,
    },
    /// A value still waits for its place in a weight file.
    #[error(
        "{place}: expected a literal or a blob, found external value `{key}`, which is not placed yet"
    )]
    External {
        /// Function and op.
        place: String,
        /// Key of the value.
        key: String,
    },
    /// A model cannot be compiled, or a compiled model not be taken back.
    #[error("{0}")]
    Compile(String),
}
