//! Tensors made from shapes, positions and numbers.

use super::context::Context;
use super::dims::{UNKNOWN, one, size};
use super::row::{ANY_VALUE, Default, INT, Opset, Row, T_ANY, T_NUMBER, constant_or, op, var};
use crate::{DType, Dim, Result, ValueType};

pub(super) const OPS: &[Row] = &[
    op(
        "fill",
        Opset::CoreML5,
        &[
            var("shape", INT),
            constant_or("value", ANY_VALUE, Default::Float(0.0)),
        ],
        fill,
        "one value everywhere",
        "`shape [K]` → K axes, of the dtype of `value` (fp32 when left out)",
    ),
    op(
        "fill_like",
        Opset::CoreML6,
        &[
            var("ref_tensor", ANY_VALUE),
            constant_or("value", ANY_VALUE, Default::Float(0.0)),
        ],
        fill_like,
        "one value everywhere, in the shape of another tensor",
        "`ref_tensor [*]` → `[*]`, of the dtype of `value` (fp32 when left out)",
    ),
    op(
        "shape",
        Opset::CoreML5,
        &[var("x", T_ANY)],
        shape,
        "the shape as a vector",
        "`x` of rank r → int32 `[r]`",
    ),
    op(
        "range_1d",
        Opset::CoreML5,
        &[
            var("end", T_NUMBER),
            var("start", T_NUMBER),
            var("step", T_NUMBER),
        ],
        range_1d,
        "start, start + step, … below (above) end",
        "scalars → `[ceil((end - start) / step)]`",
    ),
    op(
        "non_zero",
        Opset::CoreML5,
        &[var("x", T_ANY)],
        non_zero,
        "positions of elements that are not 0",
        "`x` of rank r → int32 `[?, r]`",
    ),
    op(
        "one_hot",
        Opset::CoreML5,
        &[
            var("indices", INT),
            var("one_hot_vector_size", INT),
            constant_or("axis", INT, Default::Int(-1)),
            constant_or("on_value", T_ANY, Default::Int(1)),
            constant_or("off_value", T_ANY, Default::Int(0)),
        ],
        one_hot,
        "vectors with `on_value` at an index and `off_value` elsewhere, along a new axis",
        "`indices [*]` → `[*]` with the vector size inserted at `axis`, of the dtype of the values (int32 when left out)",
    ),
];

fn value_dtype(c: &Context<'_>) -> Result<DType> {
    Ok(if c.has("value") {
        c.ranked("value", 0)?.dtype
    } else {
        DType::Fp32
    })
}

/// Axes given by values, unknown where the shape is a variable.
///
/// Errors: `Parameter` when `shape` is no vector or holds a negative number.
/// Source: Core ML op `fill` (iOS15).
fn fill(c: &Context<'_>) -> Result<Vec<ValueType>> {
    let shape = c.ranked("shape", 1)?;
    let dtype = value_dtype(c)?;
    if let Some(given) = c.known_ints("shape")? {
        let dims = given
            .iter()
            .map(|n| c.non_negative("shape", *n).map(Dim::Fixed));
        return one(dtype, dims.collect::<Result<_>>()?);
    }
    match size(c.dim("shape", shape, 0)?) {
        Some(n) if n <= super::MAX_RANK => one(dtype, vec![UNKNOWN; n]),
        Some(n) => Err(c.wrong(
            "shape",
            &format!("at most {} axes", super::MAX_RANK),
            &n.to_string(),
        )),
        None => one(dtype, vec![Dim::Unknown { variadic: true }]),
    }
}

/// Shape of the reference.
///
/// Source: Core ML op `fill_like` (iOS16).
fn fill_like(c: &Context<'_>) -> Result<Vec<ValueType>> {
    one(value_dtype(c)?, c.tensor("ref_tensor")?.dims.clone())
}

/// One int32 per axis.
///
/// Source: Core ML op `shape` (iOS15).
fn shape(c: &Context<'_>) -> Result<Vec<ValueType>> {
    one(DType::Int32, vec![Dim::Fixed(c.tensor("x")?.rank())])
}

/// Length known when all three are immediate numbers.
///
/// Errors: `Parameter` when one is no scalar or `step` is 0.
/// Source: Core ML op `range_1d` (iOS15).
fn range_1d(c: &Context<'_>) -> Result<Vec<ValueType>> {
    let dtype = c.tensor("start")?.dtype;
    let mut numbers = Vec::with_capacity(3);
    for parameter in ["start", "end", "step"] {
        c.ranked(parameter, 0)?;
        let value = c.operand(parameter).and_then(|o| o.value);
        let number = value.and_then(|v| match v.as_ints() {
            Some(v) => v.first().map(|i| f64::from(*i)),
            None => v.as_floats().and_then(|v| v.first().map(|x| f64::from(*x))),
        });
        numbers.push(number);
    }
    let &[Some(start), Some(end), Some(step)] = numbers.as_slice() else {
        return one(dtype, vec![UNKNOWN]);
    };
    if step == 0.0 {
        return Err(c.wrong("step", "a number other than 0", "0"));
    }
    let n = ((end - start) / step).ceil();
    if !n.is_finite() || n > f64::from(i32::MAX) {
        return Err(c.fail(format!("{n} elements are too many")));
    }
    // Rounded, finite and at most 2^31; the cast takes what is below 0 to 0.
    one(dtype, vec![Dim::Fixed(n as usize)])
}

/// One row of positions for each element that is not 0.
///
/// Source: Core ML op `non_zero` (iOS15).
fn non_zero(c: &Context<'_>) -> Result<Vec<ValueType>> {
    one(
        DType::Int32,
        vec![UNKNOWN, Dim::Fixed(c.tensor("x")?.rank())],
    )
}

/// A new axis of the vector size.
///
/// Errors: `Parameter` for an axis outside [-rank - 1, rank] or a negative size.
/// Source: Core ML op `one_hot` (iOS15).
fn one_hot(c: &Context<'_>) -> Result<Vec<ValueType>> {
    let indices = c.tensor("indices")?;
    c.ranked("one_hot_vector_size", 0)?;
    let depth = match c.known_ints("one_hot_vector_size")?.as_deref() {
        Some([n]) => Dim::Fixed(c.non_negative("one_hot_vector_size", *n)?),
        _ => UNKNOWN,
    };
    let mut dtype = DType::Int32;
    for parameter in ["on_value", "off_value"] {
        if c.has(parameter) {
            dtype = c.ranked(parameter, 0)?.dtype;
        }
    }
    let mut dims = indices.dims.clone();
    let axis = c.axis("axis", c.int("axis", -1)?, dims.len() + 1)?;
    dims.insert(axis, depth);
    one(dtype, dims)
}
