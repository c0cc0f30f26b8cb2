//! Constants, identity, selection.

use super::context::Context;
use super::dims::{broadcast, one, text};
use super::row::{ANYTHING, BOOL, Opset, Row, T_ANY, op, var};
use crate::{Result, ValueType};

pub(super) const OPS: &[Row] = &[
    op(
        "const",
        Opset::CoreML5,
        &[],
        constant,
        "a constant: its value is the attribute `val`",
        "→ type of `val`",
    ),
    op(
        "identity",
        Opset::CoreML5,
        &[var("x", ANYTHING)],
        identity,
        "its input",
        "`x [*]` → `[*]`",
    ),
    op(
        "select",
        Opset::CoreML5,
        &[var("cond", BOOL), var("a", T_ANY), var("b", T_ANY)],
        select,
        "`a` where `cond` holds, else `b`, element by element",
        "`cond`, `a`, `b` broadcast → `[*]`",
    ),
];

/// Type of the attribute `val`.
///
/// Errors: `Op` when the attribute is missing.
/// Source: Core ML op `const` (iOS15).
fn constant(c: &Context<'_>) -> Result<Vec<ValueType>> {
    match c.attribute("val") {
        Some(value) => Ok(vec![value.ty.clone()]),
        None => Err(c.fail("expected the attribute `val`, found none")),
    }
}

/// Type of the input, whatever it is.
///
/// Source: Core ML op `identity` (iOS15).
fn identity(c: &Context<'_>) -> Result<Vec<ValueType>> {
    Ok(vec![c.ty("x")?.clone()])
}

/// Broadcast of `cond`, `a` and `b`; dtype of `a`.
///
/// Errors: `Op` when the shapes do not broadcast.
/// Source: Core ML op `select` (iOS15).
fn select(c: &Context<'_>) -> Result<Vec<ValueType>> {
    let (cond, a, b) = (c.tensor("cond")?, c.tensor("a")?, c.tensor("b")?);
    let ab = c.broadcast(a, b)?;
    let dims = broadcast(&cond.dims, &ab).ok_or_else(|| {
        c.fail(format!(
            "shape {} of `cond` does not broadcast with {}",
            text(&cond.dims),
            text(&ab)
        ))
    })?;
    one(a.dtype, dims)
}
