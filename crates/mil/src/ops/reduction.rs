//! Reductions along axes.

use super::context::Context;
use super::dims::one;
use super::row::{BOOL, Default, INT, Opset, Param, Row, STRING, T_NUMBER, constant_or, op, var};
use crate::{DType, Dim, Result, TensorType, ValueType};

const AXES: &[Param] = &[
    var("x", T_NUMBER),
    constant_or("axes", INT, Default::Absent),
    constant_or("keep_dims", BOOL, Default::Bool(false)),
];
const AXIS: &[Param] = &[
    var("x", T_NUMBER),
    constant_or("axis", INT, Default::Int(-1)),
    constant_or("keep_dims", BOOL, Default::Bool(false)),
];
const AXIS_DTYPE: &[Param] = &[
    var("x", T_NUMBER),
    constant_or("axis", INT, Default::Int(-1)),
    constant_or("keep_dims", BOOL, Default::Bool(false)),
    constant_or("output_dtype", STRING, Default::String("int32")),
];

const fn reduction(name: &'static str, summary: &'static str) -> Row {
    op(
        name,
        Opset::CoreML5,
        AXES,
        reduce,
        summary,
        "`x [*]` → `[*]` without `axes`, or with 1 there when `keep_dims`; all axes when left out",
    )
}

const fn position(name: &'static str, since: Opset, params: &'static [Param]) -> Row {
    op(
        name,
        since,
        params,
        argument,
        "position of the extreme element along an axis",
        "`x [*]` → int `[*]` without `axis`, or with 1 there when `keep_dims`",
    )
}

pub(super) const OPS: &[Row] = &[
    reduction("reduce_mean", "arithmetic mean"),
    reduction("reduce_sum", "sum"),
    reduction("reduce_max", "largest element"),
    reduction("reduce_min", "smallest element"),
    reduction("reduce_prod", "product"),
    reduction("reduce_l1_norm", "sum of absolute values"),
    reduction("reduce_l2_norm", "square root of the sum of squares"),
    reduction("reduce_log_sum", "logarithm of the sum"),
    reduction("reduce_log_sum_exp", "logarithm of the sum of exponentials"),
    reduction("reduce_sum_square", "sum of squares"),
    position("reduce_argmax", Opset::CoreML5, AXIS),
    position("reduce_argmax", Opset::CoreML7, AXIS_DTYPE),
    position("reduce_argmin", Opset::CoreML5, AXIS),
    position("reduce_argmin", Opset::CoreML7, AXIS_DTYPE),
];

fn reduced(x: &TensorType, axes: &[usize], keep: bool) -> Vec<Dim> {
    x.dims
        .iter()
        .enumerate()
        .filter(|(i, _)| keep || !axes.contains(i))
        .map(|(i, d)| if axes.contains(&i) { Dim::Fixed(1) } else { *d })
        .collect()
}

/// Reduction over `axes`, over all when left out.
///
/// Errors: `Parameter` for axes that repeat or lie outside [-rank, rank).
/// Source: Core ML reduction ops (iOS15).
fn reduce(c: &Context<'_>) -> Result<Vec<ValueType>> {
    let x = c.tensor("x")?;
    let axes = c
        .axes("axes", x.rank())?
        .unwrap_or_else(|| (0..x.rank()).collect());
    one(x.dtype, reduced(x, &axes, c.flag("keep_dims", false)?))
}

/// Position along one axis, as int32 or `output_dtype`.
///
/// Errors: `Parameter` for an axis outside [-rank, rank), an output dtype other than int32, int16, uint16.
/// Source: Core ML ops `reduce_argmax`, `reduce_argmin` (iOS15, iOS17).
fn argument(c: &Context<'_>) -> Result<Vec<ValueType>> {
    let x = c.tensor("x")?;
    let axis = c.axis("axis", c.int("axis", -1)?, x.rank())?;
    let word = c.choice("output_dtype", &["int32", "int16", "uint16"])?;
    let dtype = DType::from_word(word).unwrap_or(DType::Int32);
    one(dtype, reduced(x, &[axis], c.flag("keep_dims", false)?))
}
