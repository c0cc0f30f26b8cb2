//! The op table: one row per Core ML op, with the inference of its output types.

use crate::{Error, Result, Value, ValueType};
use std::collections::BTreeMap;

/// One bound input: its type and, when it is a constant, its value.
#[derive(Clone, Copy, Debug)]
pub struct Operand<'a> {
    /// Type of the bound variable or literal.
    pub ty: &'a ValueType,
    /// Its value, when it is known before the program runs. Blob and external values are given too: look at `data`.
    pub value: Option<&'a Value>,
}

/// An op in its place: what inference may look at.
#[derive(Debug)]
pub struct Site<'a> {
    /// Name of the op's first output, for messages.
    pub op: &'a str,
    /// Op name, for instance `conv`.
    pub kind: &'a str,
    /// Opset of the function, for instance `CoreML6`.
    pub opset: &'a str,
    /// Inputs by parameter; several operands for a variadic parameter.
    pub inputs: BTreeMap<&'a str, Vec<Operand<'a>>>,
    /// Attributes of the op.
    pub attributes: &'a BTreeMap<String, Value>,
}

/// Output types of an op.
///
/// Errors: [`Error::Op`] for an unknown op, a missing or unknown parameter, types or shapes that do not fit.
pub fn infer(site: &Site<'_>) -> Result<Vec<ValueType>> {
    Err(Error::Op {
        op: site.op.into(),
        kind: site.kind.into(),
        reason: "unknown op".into(),
    })
}
