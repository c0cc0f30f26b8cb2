//! Slices.

use super::context::Context;
use super::dims::{UNKNOWN, one, size, text};
use super::row::{
    BOOL, Default, Domain, INT, Opset, Param, Row, T_ANY, T_WIDE, U_INTS, constant_or, op, var,
};
use crate::{Dim, Result, ValueType};

const STRIDE: Param = constant_or("stride", INT, Default::Repeat(1));
const STRIDE_17: Param = constant_or("stride", U_INTS, Default::Repeat(1));
const BEGIN_MASK: Param = constant_or("begin_mask", BOOL, Default::RepeatBool(false));
const END_MASK: Param = constant_or("end_mask", BOOL, Default::RepeatBool(false));
const SQUEEZE_MASK: Param = constant_or("squeeze_mask", BOOL, Default::RepeatBool(false));

const fn by_index(x: Domain, ints: Domain, stride: Param) -> [Param; 7] {
    [
        var("x", x),
        var("begin", ints),
        var("end", ints),
        stride,
        BEGIN_MASK,
        END_MASK,
        SQUEEZE_MASK,
    ]
}

const INDEX: &str = "elements from begin to end along every axis, in steps";
const INDEX_SHAPES: &str = "`x` of rank r, `begin [r]`, `end [r]`, `stride [r]`, masks `[r]` → rank r less the squeezed axes";
const SIZE: &str = "a box of a given size";
const SIZE_SHAPES: &str = "`x` of rank r, `begin [r]`, `size [r]` → `size`; -1 goes to the end";

pub(super) const OPS: &[Row] = &[
    op(
        "slice_by_index",
        Opset::CoreML5,
        &by_index(T_ANY, INT, STRIDE),
        slice_by_index,
        INDEX,
        INDEX_SHAPES,
    ),
    op(
        "slice_by_index",
        Opset::CoreML7,
        &by_index(T_WIDE, U_INTS, STRIDE_17),
        slice_by_index,
        INDEX,
        INDEX_SHAPES,
    ),
    op(
        "slice_by_size",
        Opset::CoreML5,
        &[var("x", T_ANY), var("begin", INT), var("size", INT)],
        slice_by_size,
        SIZE,
        SIZE_SHAPES,
    ),
    op(
        "slice_by_size",
        Opset::CoreML7,
        &[var("x", T_WIDE), var("begin", U_INTS), var("size", U_INTS)],
        slice_by_size,
        SIZE,
        SIZE_SHAPES,
    ),
    op(
        "slice_update",
        Opset::CoreML8,
        &[
            var("x", T_WIDE),
            var("update", T_WIDE),
            var("begin", U_INTS),
            var("end", U_INTS),
            STRIDE_17,
            BEGIN_MASK,
            END_MASK,
            SQUEEZE_MASK,
        ],
        slice_update,
        "x with a slice replaced by `update`",
        "`x` of rank r, `update` of the shape of the slice → shape of x",
    ),
];

/// Positions of one axis, `None` where the file does not tell.
#[derive(Clone, Copy)]
struct Range {
    begin: Option<i64>,
    end: Option<i64>,
    stride: i64,
    from_edge: bool,
    to_edge: bool,
}

impl Range {
    /// Number of positions on an axis of `d`. Negative positions count from the end; positions beyond it are cut.
    fn count(self, d: Dim) -> Dim {
        let whole = self.from_edge && self.to_edge && self.stride.abs() == 1;
        let Some(n) = size(d).and_then(|n| i64::try_from(n).ok()) else {
            return if whole { d } else { UNKNOWN };
        };
        let forward = self.stride > 0;
        // A backward slice runs from n - 1 down to one before 0.
        let (low, high) = if forward { (0, n) } else { (-1, n - 1) };
        let place = |given: Option<i64>, edge: bool, at_edge: i64| match (edge, given) {
            (true, _) => Some(at_edge),
            (false, Some(v)) if v < 0 => Some(v.saturating_add(n).clamp(low, high)),
            (false, Some(v)) => Some(v.clamp(low, high)),
            (false, None) => None,
        };
        let begin = place(self.begin, self.from_edge, if forward { low } else { high });
        let end = place(self.end, self.to_edge, if forward { high } else { low });
        let (Some(b), Some(e)) = (begin, end) else {
            return UNKNOWN;
        };
        let span = if forward { e - b } else { b - e };
        let steps = self.stride.unsigned_abs();
        Dim::Fixed(
            usize::try_from(span)
                .unwrap_or(0)
                .div_ceil(usize::try_from(steps).unwrap_or(usize::MAX)),
        )
    }
}

/// Shape of the slice that `begin`, `end`, `stride` and the masks cut out of `x`.
fn cut(c: &Context<'_>) -> Result<Vec<Dim>> {
    let x = c.tensor("x")?;
    let rank = x.rank();
    for parameter in ["begin", "end"] {
        let t = c.ranked(parameter, 1)?;
        if size(c.dim(parameter, t, 0)?).is_some_and(|n| n != rank) {
            return Err(c.wrong(parameter, &format!("{rank} elements"), &t.to_string()));
        }
    }
    let (begin, end) = (c.known_ints("begin")?, c.known_ints("end")?);
    let stride = c.ints("stride", rank, 1)?;
    let (begin_mask, end_mask) = (c.flags("begin_mask", rank)?, c.flags("end_mask", rank)?);
    let squeeze = c.flags("squeeze_mask", rank)?;
    let mut dims = Vec::with_capacity(rank);
    for (i, d) in x.dims.iter().enumerate() {
        let flag = |mask: &[bool]| mask.get(i).copied().unwrap_or(false);
        let at = |v: &Option<Vec<i64>>| v.as_ref().and_then(|v| v.get(i).copied());
        let range = Range {
            begin: at(&begin),
            end: at(&end),
            stride: at(&Some(stride.clone())).unwrap_or(1),
            from_edge: flag(&begin_mask),
            to_edge: flag(&end_mask),
        };
        if range.stride == 0 {
            return Err(c.wrong("stride", "steps other than 0", &format!("{stride:?}")));
        }
        if !flag(&squeeze) {
            dims.push(range.count(*d));
        } else if let (Some(n), Some(b), false) = (size(*d), range.begin, range.from_edge) {
            c.axis("begin", b, n)?;
        }
    }
    Ok(dims)
}

/// Slice; a squeezed axis takes the one element at `begin`.
///
/// Errors: `Parameter` for vectors of another length than the rank, a stride of 0, a squeezed position outside the axis.
/// Source: Core ML op `slice_by_index` (iOS15, iOS17).
fn slice_by_index(c: &Context<'_>) -> Result<Vec<ValueType>> {
    one(c.tensor("x")?.dtype, cut(c)?)
}

/// Type of x.
///
/// Errors: as `slice_by_index`; `Parameter` when `update` has another shape than the slice.
/// Source: Core ML op `slice_update` (iOS18).
fn slice_update(c: &Context<'_>) -> Result<Vec<ValueType>> {
    let (x, update, dims) = (c.tensor("x")?, c.tensor("update")?, cut(c)?);
    let fits = update.rank() == dims.len()
        && update
            .dims
            .iter()
            .zip(&dims)
            .all(|(a, b)| super::dims::same(*a, *b).is_some());
    if !fits {
        return Err(c.wrong(
            "update",
            &format!("shape {}", text(&dims)),
            &update.to_string(),
        ));
    }
    Ok(vec![x.clone().into()])
}

/// A box.
///
/// Errors: `Parameter` for vectors of another length than the rank, a size below -1, a box that leaves x.
/// Source: Core ML op `slice_by_size` (iOS15, iOS17).
fn slice_by_size(c: &Context<'_>) -> Result<Vec<ValueType>> {
    let x = c.tensor("x")?;
    let rank = x.rank();
    for parameter in ["begin", "size"] {
        let t = c.ranked(parameter, 1)?;
        if size(c.dim(parameter, t, 0)?).is_some_and(|n| n != rank) {
            return Err(c.wrong(parameter, &format!("{rank} elements"), &t.to_string()));
        }
    }
    let begin = c.known_ints("begin")?;
    let Some(sizes) = c.known_ints("size")? else {
        return one(x.dtype, vec![UNKNOWN; rank]);
    };
    let mut dims = Vec::with_capacity(rank);
    for (i, (d, s)) in x.dims.iter().zip(&sizes).enumerate() {
        let start = match (begin.as_ref().and_then(|b| b.get(i)), size(*d)) {
            (Some(b), Some(n)) if *b < 0 => Some(c.axis("begin", *b, n)?),
            (Some(b), _) if *b >= 0 => Some(c.non_negative("begin", *b)?),
            _ => None,
        };
        let room = start.zip(size(*d)).map(|(b, n)| n.saturating_sub(b));
        dims.push(match (*s, room) {
            (-1, Some(room)) => Dim::Fixed(room),
            (-1, None) => UNKNOWN,
            (s, room) => {
                let s = c.non_negative("size", s)?;
                if room.is_some_and(|r| s > r) {
                    let expected = format!("a box inside {}", text(&x.dims));
                    return Err(c.wrong("size", &expected, &format!("{sizes:?} from {begin:?}")));
                }
                Dim::Fixed(s)
            }
        });
    }
    one(x.dtype, dims)
}
