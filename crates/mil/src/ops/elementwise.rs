//! Element by element: arithmetic, comparison, logic, unary functions, casts.

use super::context::Context;
use super::dims::one;
use super::row::{
    Default, Opset, Param, Row, STRING, T_ANY, T_BOOL, T_FLOAT, T_NUMBER, T_WIDE, constant,
    constant_or, op, var,
};
use crate::{DType, Result, ValueType};

const XY: &[Param] = &[var("x", T_NUMBER), var("y", T_NUMBER)];
const XY_BOOL: &[Param] = &[var("x", T_BOOL), var("y", T_BOOL)];
const X: &[Param] = &[var("x", T_FLOAT)];
const X_NUMBER: &[Param] = &[var("x", T_NUMBER)];
const X_EPSILON_4: &[Param] = &[
    var("x", T_FLOAT),
    constant_or("epsilon", T_FLOAT, Default::Float(1e-4)),
];
const X_EPSILON_12: &[Param] = &[
    var("x", T_FLOAT),
    constant_or("epsilon", T_FLOAT, Default::Float(1e-12)),
];
const X_EPSILON_45: &[Param] = &[
    var("x", T_FLOAT),
    constant_or("epsilon", T_FLOAT, Default::Float(1e-45)),
];

const fn arithmetic(name: &'static str, summary: &'static str) -> Row {
    op(
        name,
        Opset::CoreML5,
        XY,
        binary,
        summary,
        "`x`, `y` broadcast → `[*]`",
    )
}

const fn comparison(name: &'static str, summary: &'static str) -> Row {
    op(
        name,
        Opset::CoreML5,
        XY,
        compare,
        summary,
        "`x`, `y` broadcast → bool `[*]`",
    )
}

const fn logic(name: &'static str, summary: &'static str) -> Row {
    op(
        name,
        Opset::CoreML5,
        XY_BOOL,
        compare,
        summary,
        "`x`, `y` broadcast → bool `[*]`",
    )
}

const fn function(name: &'static str, params: &'static [Param], summary: &'static str) -> Row {
    op(
        name,
        Opset::CoreML5,
        params,
        unary,
        summary,
        "`x [*]` → `[*]`",
    )
}

pub(super) const OPS: &[Row] = &[
    arithmetic("add", "x + y"),
    arithmetic("sub", "x - y"),
    arithmetic("mul", "x · y"),
    arithmetic(
        "real_div",
        "x / y; for integers the quotient is truncated by Core ML",
    ),
    arithmetic("floor_div", "floor(x / y)"),
    arithmetic("mod", "x - floor(x / y) · y"),
    arithmetic("pow", "x to the power y"),
    arithmetic("maximum", "the larger of x and y"),
    arithmetic("minimum", "the smaller of x and y"),
    comparison("equal", "x = y"),
    comparison("not_equal", "x ≠ y"),
    comparison("greater", "x > y"),
    comparison("greater_equal", "x ≥ y"),
    comparison("less", "x < y"),
    comparison("less_equal", "x ≤ y"),
    logic("logical_and", "x and y"),
    logic("logical_or", "x or y"),
    logic("logical_xor", "x exclusive-or y"),
    function("logical_not", &[var("x", T_BOOL)], "not x"),
    function("abs", X_NUMBER, "absolute value"),
    function("sign", X_NUMBER, "-1, 0 or 1"),
    function("square", X_NUMBER, "x²"),
    function("exp2", X_NUMBER, "2 to the power x"),
    function("exp", X, "e to the power x"),
    function("sqrt", X, "square root"),
    function("erf", X, "error function"),
    function("ceil", X, "smallest integer not below x"),
    function("floor", X, "largest integer not above x"),
    function("round", X, "nearest integer, ties to even"),
    function("sin", X, "sine"),
    function("cos", X, "cosine"),
    function("tan", X, "tangent"),
    function("asin", X, "arc sine"),
    function("acos", X, "arc cosine"),
    function("atan", X, "arc tangent"),
    function("sinh", X, "hyperbolic sine"),
    function("cosh", X, "hyperbolic cosine"),
    function("tanh", X, "hyperbolic tangent"),
    function("atanh", X, "inverse hyperbolic tangent"),
    function("inverse", X_EPSILON_4, "1 / (x + epsilon)"),
    function("rsqrt", X_EPSILON_12, "1 / sqrt(x + epsilon)"),
    function("log", X_EPSILON_45, "natural logarithm of x + epsilon"),
    function(
        "clip",
        &[
            var("x", T_FLOAT),
            constant("alpha", T_FLOAT),
            constant("beta", T_FLOAT),
        ],
        "min(max(x, alpha), beta)",
    ),
    function(
        "threshold",
        &[var("x", T_NUMBER), constant("alpha", T_NUMBER)],
        "max(x, alpha)",
    ),
    op(
        "cast",
        Opset::CoreML5,
        &[var("x", T_ANY), constant("dtype", STRING)],
        cast,
        "converts elements to another dtype",
        "`x [*]` → `[*]` of `dtype`",
    ),
    op(
        "cast",
        Opset::CoreML7,
        &[var("x", T_WIDE), constant("dtype", STRING)],
        cast_wide,
        "converts elements to another dtype",
        "`x [*]` → `[*]` of `dtype`",
    ),
];

/// Broadcast of x and y in their dtype.
///
/// Errors: `Op` when the shapes do not broadcast.
/// Source: Core ML elementwise binary ops (iOS15).
fn binary(c: &Context<'_>) -> Result<Vec<ValueType>> {
    let (x, y) = (c.tensor("x")?, c.tensor("y")?);
    one(x.dtype, c.broadcast(x, y)?)
}

/// Broadcast of x and y as bool.
///
/// Errors: `Op` when the shapes do not broadcast.
/// Source: Core ML comparison and logical ops (iOS15).
fn compare(c: &Context<'_>) -> Result<Vec<ValueType>> {
    let (x, y) = (c.tensor("x")?, c.tensor("y")?);
    one(DType::Bool, c.broadcast(x, y)?)
}

/// Type of x; other parameters are scalars.
///
/// Errors: `Parameter` when `alpha`, `beta` or `epsilon` is not a scalar.
/// Source: Core ML elementwise unary ops (iOS15).
pub(super) fn unary(c: &Context<'_>) -> Result<Vec<ValueType>> {
    for parameter in ["alpha", "beta", "epsilon"] {
        if c.has(parameter) {
            c.ranked(parameter, 0)?;
        }
    }
    Ok(vec![c.tensor("x")?.clone().into()])
}

/// Shape of x with another dtype out of {bool, fp16, fp32, int32}.
///
/// Errors: `Parameter` for any other dtype.
/// Source: Core ML op `cast` (iOS15).
fn cast(c: &Context<'_>) -> Result<Vec<ValueType>> {
    cast_to(c, &["bool", "fp16", "fp32", "int32"])
}

/// As [`cast`], also to int8, uint8, int16, uint16.
///
/// Source: Core ML op `cast` (iOS17).
fn cast_wide(c: &Context<'_>) -> Result<Vec<ValueType>> {
    cast_to(
        c,
        &[
            "bool", "fp16", "fp32", "int32", "int8", "uint8", "int16", "uint16",
        ],
    )
}

fn cast_to(c: &Context<'_>, words: &[&'static str]) -> Result<Vec<ValueType>> {
    let word = c.choice("dtype", words)?;
    let dtype = DType::from_word(word).ok_or_else(|| c.wrong("dtype", "a dtype", word))?;
    one(dtype, c.tensor("x")?.dims.clone())
}
