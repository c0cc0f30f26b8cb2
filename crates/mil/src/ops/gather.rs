//! Gathering by indices.

use super::context::Context;
use super::dims::{one, same, size, text};
use super::row::{
    BOOL, Default, Domain, INT, INTS, INTS_WIDE, Opset, Param, Row, T_NUMBER, T_NUMBER_WIDE,
    constant_or, op, var,
};
use crate::{Dim, Result, ValueType};

const AXIS: Param = constant_or("axis", INT, Default::Int(0));
const BATCH_DIMS: Param = constant_or("batch_dims", INT, Default::Int(0));
const VALIDATE: Param = constant_or("validate_indices", BOOL, Default::Bool(false));

const GATHER: &str = "entries of an axis picked by index";
const GATHER_SHAPES: &str = "`x [B.., *, d, *]`, `indices [B.., I..]` → `d` replaced by `I..`";
const ALONG: &str = "elements along an axis picked by index, other axes in step";
const ALONG_SHAPES: &str = "`x [*]`, `indices` equal but for `axis` → shape of `indices`";
const ND: &str = "slices picked by tuples of indices";
const ND_SHAPES: &str =
    "`x [B.., d1..dK, S..]`, `indices [B.., I.., K]` → `[B.., I.., S..]`, B of `batch_dims` axes";

const X_15: Domain = T_NUMBER;
const X_17: Domain = T_NUMBER_WIDE;

pub(super) const OPS: &[Row] = &[
    op(
        "gather",
        Opset::CoreML5,
        &[var("x", X_15), var("indices", INT), AXIS],
        gather,
        GATHER,
        GATHER_SHAPES,
    ),
    op(
        "gather",
        Opset::CoreML6,
        &[var("x", X_15), var("indices", INTS), AXIS, BATCH_DIMS],
        gather,
        GATHER,
        GATHER_SHAPES,
    ),
    op(
        "gather",
        Opset::CoreML7,
        &[
            var("x", T_NUMBER_WIDE),
            var("indices", INTS_WIDE),
            AXIS,
            BATCH_DIMS,
            VALIDATE,
        ],
        gather,
        GATHER,
        GATHER_SHAPES,
    ),
    op(
        "gather_along_axis",
        Opset::CoreML5,
        &[var("x", X_15), var("indices", INT), AXIS],
        along,
        ALONG,
        ALONG_SHAPES,
    ),
    op(
        "gather_along_axis",
        Opset::CoreML6,
        &[var("x", X_15), var("indices", INTS), AXIS],
        along,
        ALONG,
        ALONG_SHAPES,
    ),
    op(
        "gather_along_axis",
        Opset::CoreML7,
        &[var("x", X_17), var("indices", INTS_WIDE), AXIS, VALIDATE],
        along,
        ALONG,
        ALONG_SHAPES,
    ),
    op(
        "gather_nd",
        Opset::CoreML5,
        &[var("x", X_15), var("indices", INT)],
        gather_nd,
        ND,
        ND_SHAPES,
    ),
    op(
        "gather_nd",
        Opset::CoreML6,
        &[var("x", X_15), var("indices", INTS), BATCH_DIMS],
        gather_nd,
        ND,
        ND_SHAPES,
    ),
    op(
        "gather_nd",
        Opset::CoreML7,
        &[
            var("x", X_17),
            var("indices", INTS_WIDE),
            BATCH_DIMS,
            VALIDATE,
        ],
        gather_nd,
        ND,
        ND_SHAPES,
    ),
];

/// `batch_dims`, with the leading axes of x and indices checked to be equal.
fn batch(c: &Context<'_>, most: usize) -> Result<usize> {
    let (x, indices) = (c.tensor("x")?, c.tensor("indices")?);
    let n = c.non_negative("batch_dims", c.int("batch_dims", 0)?)?;
    if n > most || n >= x.rank().max(1) {
        return Err(c.wrong(
            "batch_dims",
            &format!("at most {most} and below the rank of `x`"),
            &n.to_string(),
        ));
    }
    let equal = x
        .dims
        .iter()
        .zip(&indices.dims)
        .take(n)
        .all(|(a, b)| same(*a, *b).is_some());
    if !equal {
        let expected = format!("{n} leading axes as `x` {}", text(&x.dims));
        return Err(c.wrong("indices", &expected, &text(&indices.dims)));
    }
    Ok(n)
}

/// The axis replaced by the axes of the indices past the batch axes.
///
/// Errors: `Parameter` for a bad axis or batch axes, an axis inside the batch axes, indices outside an axis are not seen.
/// Source: Core ML op `gather` (iOS15, iOS16, iOS17).
fn gather(c: &Context<'_>) -> Result<Vec<ValueType>> {
    let (x, indices) = (c.tensor("x")?, c.tensor("indices")?);
    let axis = c.axis("axis", c.int("axis", 0)?, x.rank())?;
    let n = batch(c, indices.rank())?;
    if axis < n {
        return Err(c.wrong(
            "axis",
            &format!("an axis past {n} batch axes"),
            &axis.to_string(),
        ));
    }
    let mut dims: Vec<Dim> = x.dims.iter().take(axis).copied().collect();
    dims.extend(indices.dims.iter().skip(n));
    dims.extend(x.dims.iter().skip(axis + 1));
    one(x.dtype, dims)
}

/// Shape of the indices.
///
/// Errors: `Parameter` for a bad axis, indices of another rank or of other sizes beside the axis.
/// Source: Core ML op `gather_along_axis` (iOS15, iOS16, iOS17).
fn along(c: &Context<'_>) -> Result<Vec<ValueType>> {
    let (x, indices) = (c.tensor("x")?, c.tensor("indices")?);
    let axis = c.axis("axis", c.int("axis", 0)?, x.rank())?;
    let fits = x.rank() == indices.rank()
        && x.dims
            .iter()
            .zip(&indices.dims)
            .enumerate()
            .all(|(i, (a, b))| i == axis || same(*a, *b).is_some());
    if !fits {
        let expected = format!("the shape {} of `x` but for axis {axis}", text(&x.dims));
        return Err(c.wrong("indices", &expected, &text(&indices.dims)));
    }
    one(x.dtype, indices.dims.clone())
}

/// The leading axes of the indices, then the axes of x past the tuple.
///
/// Errors: `Parameter` when the last axis of the indices is unknown or longer than what x has past the batch axes.
/// Source: Core ML op `gather_nd` (iOS15, iOS16, iOS17).
fn gather_nd(c: &Context<'_>) -> Result<Vec<ValueType>> {
    let (x, indices) = (c.tensor("x")?, c.tensor("indices")?);
    let Some((last, lead)) = indices.dims.split_last() else {
        return Err(c.wrong("indices", "rank 1 or more", &indices.to_string()));
    };
    let n = batch(c, lead.len())?;
    let Some(k) = size(*last).filter(|k| k.checked_add(n).is_some_and(|s| s <= x.rank())) else {
        let expected = format!("a last axis of at most {}", x.rank().saturating_sub(n));
        return Err(c.wrong("indices", &expected, &indices.to_string()));
    };
    let mut dims = lead.to_vec();
    dims.extend(x.dims.iter().skip(n + k));
    one(x.dtype, dims)
}
