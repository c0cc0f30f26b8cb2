//! Whole tensors: concat, split, stack, tile, pad.

use super::context::Context;
use super::dims::{UNKNOWN, one, product, same, size, sum, text};
use super::row::{
    BOOL, Default, INT, Opset, Row, STRING, T_ANY, T_FLOAT, T_WIDE, constant, constant_or, many,
    op, var,
};
use crate::{Dim, Result, TensorType, ValueType};

pub(super) const OPS: &[Row] = &[
    op(
        "concat",
        Opset::CoreML5,
        &[
            many("values", T_WIDE),
            constant("axis", INT),
            constant_or("interleave", BOOL, Default::Bool(false)),
        ],
        concat,
        "tensors one after another along an axis, or interleaved",
        "`values [*]`, equal but for `axis` → `[*]` with the sum there; scalars → `[n]`",
    ),
    op(
        "split",
        Opset::CoreML5,
        &[
            var("x", T_ANY),
            constant_or("num_splits", INT, Default::Absent),
            constant_or("split_sizes", INT, Default::Absent),
            constant("axis", INT),
        ],
        split,
        "parts along an axis",
        "`x [*]` → one `[*]` per part, with its size at `axis`",
    ),
    op(
        "stack",
        Opset::CoreML5,
        &[many("values", T_WIDE), constant("axis", INT)],
        stack,
        "tensors of one shape along a new axis",
        "n `values [*]` → `[*]` with n inserted at `axis`",
    ),
    op(
        "tile",
        Opset::CoreML5,
        &[var("x", T_ANY), var("reps", INT)],
        tile,
        "repeats along every axis",
        "`x` of rank r, `reps [r]` → each axis times its repetition",
    ),
    op(
        "pad",
        Opset::CoreML5,
        &[
            var("x", T_FLOAT),
            var("pad", INT),
            constant_or("mode", STRING, Default::String("constant")),
            constant_or("constant_val", T_FLOAT, Default::Float(0.0)),
        ],
        pad,
        "padding before and after the last axes",
        "`x` of rank r, `pad [2 · n]` for the last n axes → those axes plus their padding",
    ),
];

fn misfit(c: &Context<'_>, values: &[&TensorType]) -> crate::Error {
    let shapes: Vec<String> = values.iter().map(|t| text(&t.dims)).collect();
    c.fail(format!("shapes {} do not fit together", shapes.join(", ")))
}

/// Tensors joined along `axis`.
///
/// Errors: `Op` when ranks or the other axes differ (with `interleave` all axes); `Parameter` for a bad axis.
/// Source: Core ML op `concat` (iOS15).
fn concat(c: &Context<'_>) -> Result<Vec<ValueType>> {
    let values = c.tensors("values")?;
    let Some(first) = values.first() else {
        return Err(misfit(c, &values));
    };
    let rank = first.rank();
    if values.iter().any(|v| v.rank() != rank) {
        return Err(misfit(c, &values));
    }
    if rank == 0 {
        return one(first.dtype, vec![Dim::Fixed(values.len())]);
    }
    let axis = c.axis("axis", c.int("axis", 0)?, rank)?;
    let interleave = c.flag("interleave", false)?;
    let mut dims = first.dims.clone();
    for v in &values {
        for (i, (d, e)) in dims.iter_mut().zip(&v.dims).enumerate() {
            if i != axis || interleave {
                *d = same(*d, *e).ok_or_else(|| misfit(c, &values))?;
            }
        }
    }
    let parts: Vec<Dim> = values
        .iter()
        .filter_map(|v| v.dims.get(axis).copied())
        .collect();
    if let Some(d) = dims.get_mut(axis) {
        *d = sum(&parts).ok_or_else(|| c.fail("the output is too large"))?;
    }
    one(first.dtype, dims)
}

/// Parts along `axis`: `split_sizes`, or `num_splits` equal ones.
///
/// Errors: `Parameter` when both or neither are given, the sizes do not sum to the axis, it is not divisible, for more
/// than 4096 equal parts.
/// Source: Core ML op `split` (iOS15).
fn split(c: &Context<'_>) -> Result<Vec<ValueType>> {
    let x = c.tensor("x")?;
    let axis = c.axis("axis", c.int("axis", 0)?, x.rank())?;
    let whole = c.dim("x", x, axis)?;
    let sizes: Vec<Dim> = match (c.known_ints("num_splits")?, c.known_ints("split_sizes")?) {
        (None, Some(given)) => {
            let sizes: Vec<Dim> = given
                .iter()
                .map(|n| c.non_negative("split_sizes", *n).map(Dim::Fixed))
                .collect::<Result<_>>()?;
            if sum(&sizes).and_then(|s| same(s, whole)).is_none() {
                let expected = format!("sizes that sum to {}", text(&[whole]));
                return Err(c.wrong("split_sizes", &expected, &format!("{given:?}")));
            }
            sizes
        }
        (Some(_), None) => {
            let n = c.positive("num_splits", c.int("num_splits", 1)?)?;
            if n > MAX_PARTS {
                let expected = format!("at most {MAX_PARTS}");
                return Err(c.wrong("num_splits", &expected, &n.to_string()));
            }
            match size(whole) {
                Some(w) if w % n != 0 || n > w => {
                    return Err(c.wrong(
                        "num_splits",
                        &format!("a divisor of {w}"),
                        &n.to_string(),
                    ));
                }
                Some(w) => vec![Dim::Fixed(w / n); n],
                None => vec![UNKNOWN; n],
            }
        }
        _ => {
            return Err(c.wrong(
                "num_splits",
                "either it or `split_sizes`",
                "both or neither",
            ));
        }
    };
    let part = |s: Dim| {
        let mut dims = x.dims.clone();
        if let Some(d) = dims.get_mut(axis) {
            *d = s;
        }
        ValueType::Tensor(TensorType {
            dtype: x.dtype,
            dims,
        })
    };
    Ok(sizes.into_iter().map(part).collect())
}

/// Most parts of a split.
const MAX_PARTS: usize = 4096;

/// Tensors of one shape along a new axis.
///
/// Errors: `Op` when shapes differ; `Parameter` for an axis outside [-rank - 1, rank].
/// Source: Core ML op `stack` (iOS15).
fn stack(c: &Context<'_>) -> Result<Vec<ValueType>> {
    let values = c.tensors("values")?;
    let Some(first) = values.first() else {
        return Err(misfit(c, &values));
    };
    let mut dims = first.dims.clone();
    for v in &values {
        if v.rank() != first.rank() {
            return Err(misfit(c, &values));
        }
        for (d, e) in dims.iter_mut().zip(&v.dims) {
            *d = same(*d, *e).ok_or_else(|| misfit(c, &values))?;
        }
    }
    let axis = c.axis("axis", c.int("axis", 0)?, dims.len() + 1)?;
    dims.insert(axis, Dim::Fixed(values.len()));
    one(first.dtype, dims)
}

/// Every axis times its repetition.
///
/// Errors: `Parameter` when `reps` is not one positive number per axis.
/// Source: Core ML op `tile` (iOS15).
fn tile(c: &Context<'_>) -> Result<Vec<ValueType>> {
    let (x, reps) = (c.tensor("x")?, c.ranked("reps", 1)?);
    if size(c.dim("reps", reps, 0)?).is_some_and(|n| n != x.rank()) {
        return Err(c.wrong("reps", &format!("{} elements", x.rank()), &reps.to_string()));
    }
    let Some(given) = c.known_ints("reps")? else {
        return one(x.dtype, vec![UNKNOWN; x.rank()]);
    };
    let mut dims = Vec::with_capacity(x.rank());
    for (d, n) in x.dims.iter().zip(given) {
        let times = Dim::Fixed(c.positive("reps", n)?);
        dims.push(product(&[*d, times]).ok_or_else(|| c.fail("the output is too large"))?);
    }
    one(x.dtype, dims)
}

/// The last `len(pad) / 2` axes plus their padding.
///
/// Errors: `Parameter` for an odd or too long `pad`, a negative number, a mode other than `constant`, `reflect`, `replicate`.
/// Source: Core ML op `pad` (iOS15).
fn pad(c: &Context<'_>) -> Result<Vec<ValueType>> {
    let (x, t) = (c.tensor("x")?, c.ranked("pad", 1)?);
    c.choice("mode", &["constant", "reflect", "replicate"])?;
    if c.has("constant_val") {
        c.ranked("constant_val", 0)?;
    }
    let length = size(c.dim("pad", t, 0)?);
    let Some(n) = length.filter(|n| n % 2 == 0 && n / 2 <= x.rank()) else {
        let expected = format!("two numbers for each of at most {} axes", x.rank());
        return Err(c.wrong("pad", &expected, &t.to_string()));
    };
    let given = c.known_ints("pad")?;
    let skip = x.rank() - n / 2;
    let mut dims = x.dims.clone();
    for (i, d) in dims.iter_mut().skip(skip).enumerate() {
        let Some(g) = &given else {
            *d = UNKNOWN;
            continue;
        };
        let mut parts = vec![*d];
        for n in g.iter().skip(2 * i).take(2) {
            parts.push(Dim::Fixed(c.non_negative("pad", *n)?));
        }
        *d = sum(&parts).ok_or_else(|| c.fail("the output is too large"))?;
    }
    one(x.dtype, dims)
}
