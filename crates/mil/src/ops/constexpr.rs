//! Constants that are computed when a program is loaded: compressed weights.

use super::context::Context;
use super::dims::{one, product, size, text};
use super::row::{
    Default, Domain, FLOAT, INT, Operands, Opset, Param, Row, STRING, UINT, constant, constant_or,
};
use crate::DType::{self, Fp16, Fp32, Int4, Int8, UInt1, UInt2, UInt3, UInt4, UInt6, UInt8};
use crate::{Dim, Result, TensorType, ValueType};

const fn free(types: &'static [DType]) -> Domain {
    Domain { types, class: None }
}

const PALETTE: Domain = free(&[Fp16, Fp32, Int8, UInt8]);
const CODES: Domain = free(&[UInt1, UInt2, UInt3, UInt4, UInt6, UInt8]);
const BYTES: Domain = free(&[UInt8]);
const BIT: Domain = free(&[UInt1]);
const EIGHT: Domain = free(&[Int8, UInt8]);
const NONZERO: Domain = free(&[Fp16, Fp32, Int8, UInt8, Int4, UInt4]);
const SHIFTED: Domain = free(&[Int4, UInt4, Int8, UInt8, Fp16, Fp32]);
const ZERO_POINT: Domain = free(&[Int8, UInt8, Fp32]);

const LUT: &str = "dense tensor from codes into a table";
const AFFINE: &str = "scale · (data - zero point)";
const SPARSE: &str = "dense tensor from a mask and the elements that are not 0";
const CAST: &str = "fp32 from fp16";

const fn compressed(
    name: &'static str,
    since: Opset,
    params: &'static [Param],
    infer: super::row::Infer,
    summary: &'static str,
    shapes: &'static str,
) -> Row {
    Row {
        operands: match since {
            Opset::CoreML5 | Opset::CoreML6 | Opset::CoreML7 => Operands::Attributes,
            Opset::CoreML8 | Opset::CoreML9 => Operands::Literals,
        },
        ..super::row::op(name, since, params, infer, summary, shapes)
    }
}

const CAST_PARAMS: &[Param] = &[
    constant("source_val", free(&[Fp16])),
    constant("output_dtype", STRING),
];
const AFFINE_PARAMS: &[Param] = &[
    constant("quantized_data", EIGHT),
    constant("zero_point", ZERO_POINT),
    constant("scale", FLOAT),
    constant("axis", INT),
];
const AFFINE_SHAPES: &str = "`quantized_data [*]`, `scale`, `zero_point` scalar or `[d]` at `axis` → `[*]` in the dtype of `scale`";

pub(super) const OPS: &[Row] = &[
    compressed(
        "constexpr_lut_to_dense",
        Opset::CoreML6,
        &[
            constant("indices", BYTES),
            constant("lut", PALETTE),
            constant("shape", UINT),
        ],
        lut_16,
        LUT,
        "`indices` uint8 `[ceil(n · count / 8)]`, codes of n bits from the least significant bit up; `lut [2^n]`, n ∈ {1, 2, 4, 6, 8}; `shape [K]` → K axes",
    ),
    compressed(
        "constexpr_lut_to_dense",
        Opset::CoreML8,
        &[
            constant("indices", CODES),
            constant("lut", PALETTE),
            constant_or("vector_axis", INT, Default::Absent),
        ],
        lut_18,
        LUT,
        "`indices [d..]` of n bits, `lut [g.., 2^n, V]`, each g a divisor of its dense axis → `[d..]` with V times `vector_axis`",
    ),
    compressed(
        "constexpr_affine_dequantize",
        Opset::CoreML6,
        AFFINE_PARAMS,
        affine,
        AFFINE,
        AFFINE_SHAPES,
    ),
    compressed(
        "constexpr_blockwise_shift_scale",
        Opset::CoreML8,
        &[
            constant("data", SHIFTED),
            constant("scale", FLOAT),
            constant_or("offset", SHIFTED, Default::Absent),
        ],
        shift_scale,
        "scale · (data - offset) by blocks",
        "`data [*]`, `scale` and `offset` of its rank, each axis a divisor → `[*]` in the dtype of `scale`",
    ),
    compressed(
        "constexpr_sparse_to_dense",
        Opset::CoreML6,
        &[
            constant("nonzero_data", PALETTE),
            constant("mask", BYTES),
            constant("shape", UINT),
        ],
        sparse_16,
        SPARSE,
        "`nonzero_data [D]`, `mask` uint8 `[ceil(count / 8)]` from the least significant bit up, `shape [K]` → K axes",
    ),
    compressed(
        "constexpr_sparse_to_dense",
        Opset::CoreML8,
        &[constant("nonzero_data", NONZERO), constant("mask", BIT)],
        sparse_18,
        SPARSE,
        "`nonzero_data [D]`, `mask` uint1 `[*]` → `[*]`",
    ),
    compressed(
        "constexpr_cast",
        Opset::CoreML6,
        CAST_PARAMS,
        cast,
        CAST,
        "`source_val [*]` → fp32 `[*]`",
    ),
    compressed(
        "constexpr_cast",
        Opset::CoreML8,
        CAST_PARAMS,
        cast,
        CAST,
        "`source_val [*]` → fp32 `[*]`",
    ),
];

/// Axes from the constant `shape`, and their product.
fn dense_shape(c: &Context<'_>) -> Result<(Vec<Dim>, usize)> {
    c.ranked("shape", 1)?;
    let given = c.known_ints("shape")?.unwrap_or_default();
    let dims: Vec<Dim> = given
        .iter()
        .map(|n| c.positive("shape", *n).map(Dim::Fixed))
        .collect::<Result<_>>()?;
    let count = product(&dims).and_then(size);
    let count = count.ok_or_else(|| c.fail("the number of elements is too large"))?;
    Ok((dims, count))
}

/// Requires a vector of exactly `n` elements.
fn exactly(c: &Context<'_>, parameter: &str, n: usize) -> Result<()> {
    let t = c.ranked(parameter, 1)?;
    if t.dims.as_slice() == [Dim::Fixed(n)] {
        return Ok(());
    }
    Err(c.wrong(parameter, &format!("{n} elements"), &t.to_string()))
}

/// One table for the whole tensor.
///
/// Errors: `Parameter` for a table of a length other than 2, 4, 16, 64, 256, or packed codes of the wrong length.
/// Source: Core ML op `constexpr_lut_to_dense` (iOS16).
fn lut_16(c: &Context<'_>) -> Result<Vec<ValueType>> {
    let lut = c.ranked("lut", 1)?;
    let bits = match lut.dims.as_slice() {
        [Dim::Fixed(n @ (2 | 4 | 16 | 64 | 256))] => n.trailing_zeros() as usize,
        _ => return Err(c.wrong("lut", "2, 4, 16, 64 or 256 entries", &lut.to_string())),
    };
    let (dims, count) = dense_shape(c)?;
    let total = count
        .checked_mul(bits)
        .ok_or_else(|| c.fail("the number of bits is too large"))?;
    exactly(c, "indices", total.div_ceil(8))?;
    one(lut.dtype, dims)
}

/// Tables by group, with scalar or vector entries.
///
/// Errors: `Parameter` for a table of another rank than K + 2, of another number of entries than 2^n, whose groups do
/// not divide the dense axes; for a missing or bad `vector_axis`.
/// Source: Core ML op `constexpr_lut_to_dense` (iOS18).
fn lut_18(c: &Context<'_>) -> Result<Vec<ValueType>> {
    let (indices, lut) = (c.tensor("indices")?, c.tensor("lut")?);
    let rank = indices.rank();
    let [groups @ .., entries, vector] = lut.dims.as_slice() else {
        return Err(c.wrong("lut", "rank 3 or more", &lut.to_string()));
    };
    if groups.len() != rank || rank == 0 {
        let expected = format!("rank {} with `indices` of rank {rank}", rank + 2);
        return Err(c.wrong("lut", &expected, &lut.to_string()));
    }
    let n = 1usize << indices.dtype.bits().min(8);
    if *entries != Dim::Fixed(n) {
        let expected = format!("{n} entries for {} codes", indices.dtype);
        return Err(c.wrong("lut", &expected, &lut.to_string()));
    }
    let mut dims = indices.dims.clone();
    let axis = match c.known_ints("vector_axis")?.as_deref() {
        Some([a]) => Some(c.axis("vector_axis", *a, rank)?),
        Some(v) => return Err(c.wrong("vector_axis", "one integer", &format!("{v:?}"))),
        None => None,
    };
    match axis.and_then(|a| dims.get_mut(a)) {
        Some(d) => {
            *d = product(&[*d, *vector]).ok_or_else(|| c.fail("the output is too large"))?;
        }
        None if *vector == Dim::Fixed(1) => {}
        None => {
            return Err(c.wrong(
                "vector_axis",
                &format!("an axis for vectors of {}", text(&[*vector])),
                "nothing",
            ));
        }
    }
    divides(c, "lut", groups, &dims)?;
    one(lut.dtype, dims)
}

/// Each of `parts` divides its axis of `dims`.
fn divides(c: &Context<'_>, parameter: &str, parts: &[Dim], dims: &[Dim]) -> Result<()> {
    let fits = |(p, d): (&Dim, &Dim)| match (size(*p), size(*d)) {
        (Some(p), Some(d)) => p != 0 && d % p == 0,
        _ => false,
    };
    if parts.len() == dims.len() && parts.iter().zip(dims).all(fits) {
        return Ok(());
    }
    Err(c.wrong(
        parameter,
        &format!("axes that divide {}", text(dims)),
        &text(parts),
    ))
}

/// One scale and zero point for the tensor or for each entry of an axis.
///
/// Errors: `Parameter` for a bad axis, for a scale or zero point that is neither scalar nor as long as the axis.
/// Source: Core ML op `constexpr_affine_dequantize` (iOS16).
fn affine(c: &Context<'_>) -> Result<Vec<ValueType>> {
    let data = c.tensor("quantized_data")?;
    let axis = c.axis("axis", c.int("axis", 0)?, data.rank())?;
    let length = c.dim("quantized_data", data, axis)?;
    for parameter in ["scale", "zero_point"] {
        let t = c.tensor(parameter)?;
        if t.rank() != 0 && t.dims.as_slice() != [length] {
            let expected = format!("a scalar or shape {}", text(&[length]));
            return Err(c.wrong(parameter, &expected, &t.to_string()));
        }
    }
    let zero = c.tensor("zero_point")?;
    if zero.dtype != data.dtype && zero.dtype != Fp32 {
        let expected = format!("dtype {} or fp32", data.dtype);
        return Err(c.wrong("zero_point", &expected, &zero.to_string()));
    }
    one(c.tensor("scale")?.dtype, data.dims.clone())
}

/// Scale and offset by block.
///
/// Errors: `Parameter` when axes of the scale do not divide those of the data, the offset has another shape than the
/// scale or a dtype that is neither the data's nor a float.
/// Source: Core ML op `constexpr_blockwise_shift_scale` (iOS18).
fn shift_scale(c: &Context<'_>) -> Result<Vec<ValueType>> {
    let (data, scale) = (c.tensor("data")?, c.tensor("scale")?);
    divides(c, "scale", &scale.dims, &data.dims)?;
    if let Some(offset) = c.optional_tensor("offset")? {
        let dtype = offset.dtype == data.dtype || offset.dtype.is_float();
        if offset.dims != scale.dims || !dtype {
            let expected = format!(
                "shape {} in dtype {} or a float",
                text(&scale.dims),
                data.dtype
            );
            return Err(c.wrong("offset", &expected, &offset.to_string()));
        }
    }
    one(scale.dtype, data.dims.clone())
}

/// Mask as packed bytes.
///
/// Errors: `Parameter` for a mask of the wrong length, more elements than the shape has.
/// Source: Core ML op `constexpr_sparse_to_dense` (iOS16).
fn sparse_16(c: &Context<'_>) -> Result<Vec<ValueType>> {
    let (dims, count) = dense_shape(c)?;
    exactly(c, "mask", count.div_ceil(8))?;
    let data = c.ranked("nonzero_data", 1)?;
    at_most(c, data, count)?;
    one(data.dtype, dims)
}

fn at_most(c: &Context<'_>, data: &TensorType, count: usize) -> Result<()> {
    if data.count().is_some_and(|n| n > count) {
        let expected = format!("at most {count} elements");
        return Err(c.wrong("nonzero_data", &expected, &data.to_string()));
    }
    Ok(())
}

/// Mask of one bit per element, in the dense shape.
///
/// Errors: `Parameter` for more elements than the mask has.
/// Source: Core ML op `constexpr_sparse_to_dense` (iOS18).
fn sparse_18(c: &Context<'_>) -> Result<Vec<ValueType>> {
    let (data, mask) = (c.ranked("nonzero_data", 1)?, c.tensor("mask")?);
    let count = product(&mask.dims).and_then(size);
    let count = count.ok_or_else(|| c.fail("the number of elements is too large"))?;
    at_most(c, data, count)?;
    one(data.dtype, mask.dims.clone())
}

/// fp16 to fp32.
///
/// Errors: `Parameter` when `output_dtype` is not `fp32`.
/// Source: Core ML op `constexpr_cast` (iOS16).
fn cast(c: &Context<'_>) -> Result<Vec<ValueType>> {
    c.choice("output_dtype", &["fp32"])?;
    one(Fp32, c.tensor("source_val")?.dims.clone())
}
