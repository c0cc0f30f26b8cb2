//! Same elements in another arrangement: reshape, transpose, axes of size 1, pixel shuffles.

use super::context::Context;
use super::dims::{UNKNOWN, one, product, size, text};
use super::row::{
    Default, INT, Opset, Param, Row, T_ANY, T_FLOAT, T_WIDE, U_INTS, constant, constant_or, op, var,
};
use crate::{Dim, Result, TensorType, ValueType};

const RESHAPE: &str = "the same elements in row-major order under another shape";
const RESHAPE_SHAPES: &str = "`x [*]`, `shape [K]` → K axes; 0 keeps the axis of x (then K is its rank), one -1 takes what is left";
const TRANSPOSE: &str = "axes in another order";
const TRANSPOSE_SHAPES: &str = "`x [d0, d1, …]`, `perm [rank]` → axis i is axis `perm[i]` of x";
const EXPAND: &str = "new axes of size 1";
const EXPAND_SHAPES: &str = "`x` of rank r, `axes [K]` as positions in the result → rank r + K";
const SQUEEZE: &str = "without axes of size 1";
const SQUEEZE_SHAPES: &str = "`x [*]` → without `axes`; without every axis of size 1 when left out";
const REVERSE: &str = "elements in reverse order along axes";

const fn axes_or_all(name: &'static str, since: Opset, params: &'static [Param]) -> Row {
    op(name, since, params, reverse, REVERSE, "`x [*]` → `[*]`")
}

pub(super) const OPS: &[Row] = &[
    op(
        "reshape",
        Opset::CoreML5,
        &[var("x", T_ANY), var("shape", INT)],
        reshape,
        RESHAPE,
        RESHAPE_SHAPES,
    ),
    op(
        "reshape",
        Opset::CoreML7,
        &[var("x", T_WIDE), var("shape", U_INTS)],
        reshape,
        RESHAPE,
        RESHAPE_SHAPES,
    ),
    op(
        "transpose",
        Opset::CoreML5,
        &[var("x", T_ANY), constant("perm", INT)],
        transpose,
        TRANSPOSE,
        TRANSPOSE_SHAPES,
    ),
    op(
        "transpose",
        Opset::CoreML7,
        &[var("x", T_WIDE), constant("perm", INT)],
        transpose,
        TRANSPOSE,
        TRANSPOSE_SHAPES,
    ),
    op(
        "expand_dims",
        Opset::CoreML5,
        &[var("x", T_ANY), constant("axes", INT)],
        expand_dims,
        EXPAND,
        EXPAND_SHAPES,
    ),
    op(
        "expand_dims",
        Opset::CoreML7,
        &[var("x", T_WIDE), constant("axes", INT)],
        expand_dims,
        EXPAND,
        EXPAND_SHAPES,
    ),
    op(
        "squeeze",
        Opset::CoreML5,
        &[var("x", T_ANY), constant_or("axes", INT, Default::Absent)],
        squeeze,
        SQUEEZE,
        SQUEEZE_SHAPES,
    ),
    op(
        "squeeze",
        Opset::CoreML7,
        &[var("x", T_WIDE), constant_or("axes", INT, Default::Absent)],
        squeeze,
        SQUEEZE,
        SQUEEZE_SHAPES,
    ),
    axes_or_all(
        "reverse",
        Opset::CoreML5,
        &[var("x", T_ANY), constant_or("axes", INT, Default::Absent)],
    ),
    axes_or_all(
        "reverse",
        Opset::CoreML7,
        &[var("x", T_WIDE), constant_or("axes", INT, Default::Absent)],
    ),
    op(
        "flatten2d",
        Opset::CoreML5,
        &[var("x", T_ANY), constant_or("axis", INT, Default::Int(1))],
        flatten2d,
        "a matrix: axes before `axis` and axes from it on",
        "`x [*]` → `[product before, product after]`",
    ),
    op(
        "pixel_shuffle",
        Opset::CoreML5,
        &[var("x", T_FLOAT), constant("upscale_factor", INT)],
        pixel_shuffle,
        "channels to pixels",
        "`x [N, C · f², H, W]` → `[N, C, H · f, W · f]`",
    ),
];

/// Shape given by values, with 0 and -1 resolved; unknown axes where the shape is a variable.
///
/// Errors: `Parameter` for a `shape` that is no vector, has several -1, a 0 at another rank or past the end, or holds
/// another number of elements than x.
/// Source: Core ML op `reshape` (iOS15, iOS17).
fn reshape(c: &Context<'_>) -> Result<Vec<ValueType>> {
    let (x, shape) = (c.tensor("x")?, c.ranked("shape", 1)?);
    let Some(given) = c.known_ints("shape")? else {
        let length = size(c.dim("shape", shape, 0)?);
        // More axes than any op may have come from a hostile file.
        return match length {
            Some(n) if n <= super::MAX_RANK => one(x.dtype, vec![UNKNOWN; n]),
            Some(n) => Err(c.wrong(
                "shape",
                &format!("at most {} axes", super::MAX_RANK),
                &n.to_string(),
            )),
            None => one(x.dtype, vec![Dim::Unknown { variadic: true }]),
        };
    };
    let zero = given.contains(&0) && given.len() != x.rank();
    if zero || given.iter().any(|n| *n < -1) || given.iter().filter(|n| **n == -1).count() > 1 {
        let expected = "sizes, at most one -1, and 0 only with as many axes as `x`";
        return Err(c.wrong(
            "shape",
            expected,
            &format!("{given:?} with `x` {}", text(&x.dims)),
        ));
    }
    let mut dims = Vec::with_capacity(given.len());
    let mut free = None;
    for (i, n) in given.iter().enumerate() {
        dims.push(match n {
            0 => c.dim("x", x, i)?,
            -1 => {
                free = Some(i);
                Dim::Fixed(1)
            }
            n => Dim::Fixed(c.positive("shape", *n)?),
        });
    }
    let overflow = || c.fail("the number of elements is too large");
    let total = product(&x.dims).ok_or_else(overflow)?;
    let rest = product(&dims).ok_or_else(overflow)?;
    let misfit = || {
        let expected = format!("a shape of the elements of {}", text(&x.dims));
        c.wrong("shape", &expected, &format!("{given:?}"))
    };
    match (size(total), size(rest), free.and_then(|i| dims.get_mut(i))) {
        (Some(n), Some(m), Some(d)) => {
            if m == 0 || n % m != 0 {
                return Err(misfit());
            }
            *d = Dim::Fixed(n / m);
        }
        (Some(n), Some(m), None) if n != m => return Err(misfit()),
        (_, _, Some(d)) => *d = UNKNOWN,
        _ => {}
    }
    one(x.dtype, dims)
}

/// Axes reordered.
///
/// Errors: `Parameter` when `perm` is not a permutation of all axes.
/// Source: Core ML op `transpose` (iOS15, iOS17).
fn transpose(c: &Context<'_>) -> Result<Vec<ValueType>> {
    let x = c.tensor("x")?;
    let perm = c.axes("perm", x.rank())?.unwrap_or_default();
    if perm.len() != x.rank() {
        return Err(c.wrong("perm", &format!("{} axes", x.rank()), &format!("{perm:?}")));
    }
    let dims = perm
        .iter()
        .map(|p| c.dim("x", x, *p))
        .collect::<Result<_>>()?;
    one(x.dtype, dims)
}

/// Axes of size 1 inserted at positions of the result.
///
/// Errors: `Parameter` for positions that repeat or lie outside the result.
/// Source: Core ML op `expand_dims` (iOS15, iOS17).
fn expand_dims(c: &Context<'_>) -> Result<Vec<ValueType>> {
    let x = c.tensor("x")?;
    let added = c.known_ints("axes")?.map_or(0, |a| a.len());
    let rank = x.rank().saturating_add(added);
    let axes = c.axes("axes", rank)?.unwrap_or_default();
    let mut rest = x.dims.iter();
    let dims = (0..rank)
        .filter_map(|i| {
            if axes.contains(&i) {
                Some(Dim::Fixed(1))
            } else {
                rest.next().copied()
            }
        })
        .collect();
    one(x.dtype, dims)
}

/// Axes of size 1 removed.
///
/// Errors: `Parameter` for an axis of another size.
/// Source: Core ML op `squeeze` (iOS15, iOS17).
fn squeeze(c: &Context<'_>) -> Result<Vec<ValueType>> {
    let x = c.tensor("x")?;
    let axes = match c.axes("axes", x.rank())? {
        Some(axes) => axes,
        None => (0..x.rank())
            .filter(|i| x.dims.get(*i) == Some(&Dim::Fixed(1)))
            .collect(),
    };
    for a in &axes {
        if size(c.dim("x", x, *a)?).is_some_and(|n| n != 1) {
            return Err(c.wrong(
                "axes",
                "axes of size 1",
                &format!("axis {a} of {}", text(&x.dims)),
            ));
        }
    }
    let dims = x
        .dims
        .iter()
        .enumerate()
        .filter(|(i, _)| !axes.contains(i))
        .map(|(_, d)| *d)
        .collect();
    one(x.dtype, dims)
}

/// Type of x.
///
/// Errors: `Parameter` for bad axes.
/// Source: Core ML op `reverse` (iOS15, iOS17).
fn reverse(c: &Context<'_>) -> Result<Vec<ValueType>> {
    let x: &TensorType = c.tensor("x")?;
    c.axes("axes", x.rank())?;
    Ok(vec![x.clone().into()])
}

/// Two axes.
///
/// Errors: `Parameter` for an axis outside [-rank, rank]; `Op` when the number of elements is too large.
/// Source: Core ML op `flatten2d` (iOS15).
fn flatten2d(c: &Context<'_>) -> Result<Vec<ValueType>> {
    let x = c.tensor("x")?;
    let axis = c.int("axis", 1)?;
    let at = if usize::try_from(axis) == Ok(x.rank()) {
        x.rank()
    } else {
        c.axis("axis", axis, x.rank())?
    };
    let (before, after) = x.dims.split_at_checked(at).unwrap_or((&x.dims, &[]));
    match (product(before), product(after)) {
        (Some(a), Some(b)) => one(x.dtype, vec![a, b]),
        _ => Err(c.fail("the number of elements is too large")),
    }
}

/// Channels divided by f², both spatial axes times f.
///
/// Errors: `Parameter` for a rank other than 4 or a channel count that is no multiple of f².
/// Source: Core ML op `pixel_shuffle` (iOS15).
fn pixel_shuffle(c: &Context<'_>) -> Result<Vec<ValueType>> {
    let x = c.ranked("x", 4)?;
    let f = c.positive("upscale_factor", c.int("upscale_factor", 1)?)?;
    let large = || c.fail("the output is too large");
    let squared = f.checked_mul(f).ok_or_else(large)?;
    let mut dims = vec![c.dim("x", x, 0)?];
    dims.push(match size(c.dim("x", x, 1)?) {
        Some(n) if n % squared == 0 => Dim::Fixed(n / squared),
        Some(n) => {
            let expected = format!("channels divisible by {squared}");
            return Err(c.wrong("x", &expected, &n.to_string()));
        }
        None => UNKNOWN,
    });
    for i in [2, 3] {
        dims.push(product(&[c.dim("x", x, i)?, Dim::Fixed(f)]).ok_or_else(large)?);
    }
    one(x.dtype, dims)
}
