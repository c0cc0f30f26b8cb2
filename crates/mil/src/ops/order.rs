//! Order along an axis: sorting, running sums, bands.

use super::context::Context;
use super::dims::{one, size, text};
use super::row::{
    BOOL, Default, INT, Opset, Param, Row, STRING, T_ANY, T_NUMBER, T_NUMBER_WIDE, U_INTS,
    constant_or, op, var,
};
use crate::{DType, Dim, Result, ValueType};

const AXIS_LAST: Param = constant_or("axis", INT, Default::Int(-1));
const ASCENDING: Param = constant_or("ascending", BOOL, Default::Bool(false));
const K: Param = constant_or("k", INT, Default::Int(1));
const SORT: Param = constant_or("sort", BOOL, Default::Bool(true));
const RETURN_INDICES: Param = constant_or("return_indices", BOOL, Default::Bool(true));
const TOPK: &str = "the k largest (or smallest) elements along an axis, and their positions";
const TOPK_SHAPES: &str = "`x [*]` → `[*]` and int `[*]` with k at `axis`";

pub(super) const OPS: &[Row] = &[
    op(
        "cumsum",
        Opset::CoreML5,
        &[
            var("x", T_NUMBER),
            constant_or("axis", INT, Default::Int(0)),
            constant_or("exclusive", BOOL, Default::Bool(false)),
            constant_or("reverse", BOOL, Default::Bool(false)),
        ],
        along_axis,
        "running sum along an axis",
        "`x [*]` → `[*]`",
    ),
    op(
        "argsort",
        Opset::CoreML5,
        &[var("x", T_NUMBER), AXIS_LAST, ASCENDING],
        argsort,
        "positions in sorted order along an axis",
        "`x [*]` → int32 `[*]`",
    ),
    op(
        "topk",
        Opset::CoreML5,
        &[var("x", T_NUMBER), K, AXIS_LAST, ASCENDING],
        topk,
        TOPK,
        TOPK_SHAPES,
    ),
    op(
        "topk",
        Opset::CoreML6,
        &[
            var("x", T_NUMBER),
            K,
            AXIS_LAST,
            ASCENDING,
            SORT,
            RETURN_INDICES,
        ],
        topk,
        TOPK,
        TOPK_SHAPES,
    ),
    op(
        "topk",
        Opset::CoreML7,
        &[
            var("x", T_NUMBER_WIDE),
            constant_or("k", U_INTS, Default::Int(1)),
            AXIS_LAST,
            ASCENDING,
            SORT,
            RETURN_INDICES,
            constant_or("output_indices_dtype", STRING, Default::String("int32")),
        ],
        topk,
        TOPK,
        TOPK_SHAPES,
    ),
    op(
        "band_part",
        Opset::CoreML5,
        &[
            var("x", T_ANY),
            constant_or("lower", INT, Default::Int(-1)),
            constant_or("upper", INT, Default::Int(-1)),
        ],
        type_of_x,
        "a band around the diagonal of the last two axes, 0 elsewhere",
        "`x [*, M, N]` → `[*, M, N]`",
    ),
];

/// Type of x.
///
/// Errors: `Parameter` for an axis outside [-rank, rank).
/// Source: Core ML op `cumsum` (iOS15).
fn along_axis(c: &Context<'_>) -> Result<Vec<ValueType>> {
    let x = c.tensor("x")?;
    c.axis("axis", c.int("axis", 0)?, x.rank())?;
    Ok(vec![x.clone().into()])
}

/// Type of x.
///
/// Source: Core ML op `band_part` (iOS15).
fn type_of_x(c: &Context<'_>) -> Result<Vec<ValueType>> {
    Ok(vec![c.tensor("x")?.clone().into()])
}

/// Shape of x as int32.
///
/// Errors: `Parameter` for an axis outside [-rank, rank).
/// Source: Core ML op `argsort` (iOS15).
fn argsort(c: &Context<'_>) -> Result<Vec<ValueType>> {
    let x = c.tensor("x")?;
    c.axis("axis", c.int("axis", -1)?, x.rank())?;
    one(DType::Int32, x.dims.clone())
}

/// k elements along `axis`, and their positions unless `return_indices` is false; k = -1 takes all.
///
/// Errors: `Parameter` for a bad axis, k larger than it, an index dtype other than int32, uint16, int16.
/// Source: Core ML op `topk` (iOS15, iOS16, iOS17).
fn topk(c: &Context<'_>) -> Result<Vec<ValueType>> {
    let x = c.tensor("x")?;
    let axis = c.axis("axis", c.int("axis", -1)?, x.rank())?;
    let k = c.int("k", 1)?;
    let mut dims = x.dims.clone();
    if k != -1
        && let Some(d) = dims.get_mut(axis)
    {
        let k = c.positive("k", k)?;
        if size(*d).is_some_and(|n| k > n) {
            return Err(c.wrong("k", &format!("at most {}", text(&[*d])), &k.to_string()));
        }
        *d = Dim::Fixed(k);
    }
    let word = c.choice("output_indices_dtype", &["int32", "uint16", "int16"])?;
    let indices = DType::from_word(word).unwrap_or(DType::Int32);
    let mut out = one(x.dtype, dims.clone())?;
    if c.flag("return_indices", true)? {
        out.extend(one(indices, dims)?);
    }
    Ok(out)
}
