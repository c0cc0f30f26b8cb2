//! Whole tensors: concat, split, stack, tile, pad, fill, ranges, sorting.

use super::context::Context;
use super::dims::{UNKNOWN, one, product, same, size, sum, text};
use super::row::{
    ANY_VALUE, ANYTHING, BOOL, Default, INT, INTS, Opset, Param, Row, STRING, T_ANY, T_FLOAT,
    T_NUMBER, T_NUMBER_WIDE, T_WIDE, constant, constant_or, many, op, var,
};
use crate::{DType, Dim, Result, TensorType, ValueType};

const AXIS_LAST: Param = constant_or("axis", INT, Default::Int(-1));
const ASCENDING: Param = constant_or("ascending", BOOL, Default::Bool(false));
const K: Param = constant_or("k", INT, Default::Int(1));
const SORT: Param = constant_or("sort", BOOL, Default::Bool(true));
const RETURN_INDICES: Param = constant_or("return_indices", BOOL, Default::Bool(true));
const TOPK: &str = "the k largest (or smallest) elements along an axis, and their positions";
const TOPK_SHAPES: &str = "`x [*]` → `[*]` and int `[*]` with k at `axis`";

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
        &[var("x", ANYTHING)],
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
            constant_or("k", INTS, Default::Int(1)),
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
            AXIS_LAST,
            constant_or("on_value", T_ANY, Default::Int(1)),
            constant_or("off_value", T_ANY, Default::Int(0)),
        ],
        one_hot,
        "vectors with `on_value` at an index and `off_value` elsewhere, along a new axis",
        "`indices [*]` → `[*]` with the vector size inserted at `axis`, of the dtype of the values (int32 when left out)",
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
/// Errors: `Parameter` when both or neither are given, the sizes do not sum to the axis, it is not divisible.
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
            match size(whole) {
                Some(w) if w % n != 0 || n > w => {
                    return Err(c.wrong(
                        "num_splits",
                        &format!("a divisor of {w}"),
                        &n.to_string(),
                    ));
                }
                Some(w) => vec![Dim::Fixed(w / n); n],
                None if n > MAX_PARTS => {
                    return Err(c.wrong(
                        "num_splits",
                        &format!("at most {MAX_PARTS}"),
                        &n.to_string(),
                    ));
                }
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

/// Most parts of an axis whose size is unknown.
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

/// One row of positions for each element that is not 0.
///
/// Source: Core ML op `non_zero` (iOS15).
fn non_zero(c: &Context<'_>) -> Result<Vec<ValueType>> {
    one(
        DType::Int32,
        vec![UNKNOWN, Dim::Fixed(c.tensor("x")?.rank())],
    )
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
