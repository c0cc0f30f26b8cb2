//! States.

use super::context::Context;
use super::row::{ANYTHING, Opset, Row, op, var};
use crate::{Result, TensorType, ValueType};

pub(super) const OPS: &[Row] = &[
    op(
        "read_state",
        Opset::CoreML8,
        &[var("input", ANYTHING)],
        read,
        "value of a state",
        "`input state<[*]>` → `[*]`",
    ),
    op(
        "write_state",
        Opset::CoreML8,
        &[var("input", ANYTHING), var("data", ANYTHING)],
        write,
        "writes a state; it has no output",
        "`input state<[*]>`, `data [*]` →",
    ),
    op(
        "coreml_update_state",
        Opset::CoreML8,
        &[var("state", ANYTHING), var("value", ANYTHING)],
        update,
        "writes a state and gives the value written; exists before serialization only",
        "`state state<[*]>`, `value [*]` → `[*]`",
    ),
];

fn wrapped<'a>(c: &Context<'a>, parameter: &str) -> Result<&'a TensorType> {
    let ty = c.ty(parameter)?;
    match ty {
        ValueType::State(t) => t
            .as_tensor()
            .ok_or_else(|| c.wrong(parameter, "a state of a tensor", &ty.to_string())),
        _ => Err(c.wrong(parameter, "a state", &ty.to_string())),
    }
}

fn matching<'a>(c: &Context<'a>, state: &str, value: &str) -> Result<&'a TensorType> {
    let (inner, given) = (wrapped(c, state)?, c.tensor(value)?);
    if inner == given {
        return Ok(given);
    }
    Err(c.wrong(value, &inner.to_string(), &given.to_string()))
}

/// The wrapped tensor type.
///
/// Errors: `Parameter` when `input` is not a state.
/// Source: Core ML op `read_state` (iOS18).
fn read(c: &Context<'_>) -> Result<Vec<ValueType>> {
    Ok(vec![wrapped(c, "input")?.clone().into()])
}

/// No output.
///
/// Errors: `Parameter` when `data` is not of the wrapped type.
/// Source: Core ML op `write_state` (iOS18).
fn write(c: &Context<'_>) -> Result<Vec<ValueType>> {
    matching(c, "input", "data").map(|_| Vec::new())
}

/// The type of the value written.
///
/// Errors: `Parameter` when `value` is not of the wrapped type.
/// Source: coremltools op `coreml_update_state` (iOS18).
fn update(c: &Context<'_>) -> Result<Vec<ValueType>> {
    Ok(vec![matching(c, "state", "value")?.clone().into()])
}
