//! Whether the data of a value is what its type asks for.

use crate::{DType, Dim, Literal, MAX_DEPTH, TensorType, Value, ValueData, ValueType};

/// What is wrong with a value, if something is.
pub(super) fn misfit(value: &Value) -> Option<String> {
    check(value, 0)
}

fn check(value: &Value, depth: usize) -> Option<String> {
    if depth >= MAX_DEPTH {
        return Some(format!("values are nested deeper than {MAX_DEPTH}"));
    }
    match (&value.ty, &value.data) {
        (ValueType::Tensor(t), ValueData::Tensor(l)) => elements(t, l),
        (ValueType::Tensor(t), ValueData::Blob { file, .. }) => {
            if file.is_empty() {
                return Some("the blob has no file name".into());
            }
            size(t).err()
        }
        (ValueType::Tensor(t), ValueData::External { .. }) => size(t).err(),
        (ValueType::Tuple(types), ValueData::Tuple(values)) => {
            if types.len() != values.len() {
                return Some(format!(
                    "expected {} members, found {}",
                    types.len(),
                    values.len()
                ));
            }
            types
                .iter()
                .zip(values)
                .find_map(|(t, v)| member(t, v, depth))
        }
        (ValueType::List(t, length), ValueData::List(values)) => {
            if let Dim::Fixed(n) = length
                && *n != values.len()
            {
                return Some(format!(
                    "expected {n} list elements, found {}",
                    values.len()
                ));
            }
            values.iter().find_map(|v| member(t, v, depth))
        }
        (ValueType::Dictionary(k, v), ValueData::Dictionary(pairs)) => pairs
            .iter()
            .find_map(|(key, value)| member(k, key, depth).or_else(|| member(v, value, depth))),
        (t, _) => Some(format!("the data is not of type {t}")),
    }
}

fn member(ty: &ValueType, value: &Value, depth: usize) -> Option<String> {
    if value.ty != *ty {
        return Some(format!(
            "expected a member of type {ty}, found {}",
            value.ty
        ));
    }
    check(value, depth + 1)
}

/// Number of elements, which a literal must know.
fn size(t: &TensorType) -> Result<usize, String> {
    t.count()
        .ok_or_else(|| format!("the shape of {t} is unknown or too large"))
}

/// Elements a literal holds for a dtype: by which member of the format, and how many.
fn elements(t: &TensorType, literal: &Literal) -> Option<String> {
    let count = match size(t) {
        Ok(n) => n,
        Err(text) => return Some(text),
    };
    let (found, fits) = match literal {
        Literal::Floats(v) => (v.len(), t.dtype == DType::Fp32),
        Literal::Doubles(v) => (v.len(), t.dtype == DType::Fp64),
        Literal::Ints(v) => (
            v.len(),
            matches!(t.dtype, DType::Int32 | DType::Int16 | DType::UInt16),
        ),
        Literal::LongInts(v) => (v.len(), matches!(t.dtype, DType::Int64 | DType::UInt64)),
        Literal::Bools(v) => (v.len(), t.dtype == DType::Bool),
        Literal::Strings(v) => (v.len(), t.dtype == DType::String),
        Literal::Bytes(v) => return bytes(t, count, v.len()),
    };
    if !fits {
        return Some(format!("the elements of {t} are stored as another dtype"));
    }
    (found != count).then(|| format!("expected {count} elements for {t}, found {found}"))
}

fn bytes(t: &TensorType, count: usize, found: usize) -> Option<String> {
    let packed = match t.dtype {
        DType::Bool
        | DType::String
        | DType::Fp32
        | DType::Fp64
        | DType::Int32
        | DType::Int16
        | DType::UInt16
        | DType::Int64
        | DType::UInt64 => return Some(format!("the elements of {t} are stored as bytes")),
        dtype => dtype.bits(),
    };
    match count.checked_mul(packed).map(|bits| bits.div_ceil(8)) {
        Some(n) if n == found => None,
        Some(n) => Some(format!("expected {n} bytes for {t}, found {found}")),
        None => Some(format!("{t} is too large")),
    }
}
