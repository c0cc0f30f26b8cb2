//! Values: immediate literals, references into a blob file, and weights that are not placed yet.

use crate::{DType, TensorType, ValueType};

/// Elements of an immediate tensor, one variant per member of `MILSpec.TensorValue`.
///
/// Which dtype uses which variant: fp32 `Floats`; fp64 `Doubles`; int32, int16, uint16 `Ints`; int64, uint64 `LongInts`;
/// bool `Bools`; string `Strings`; fp16, int8, uint8, uint32 and the sub-byte types `Bytes` (little-endian; sub-byte
/// types packed least significant bit first).
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // the variants are the format's own words
pub enum Literal {
    Floats(Vec<f32>),
    Doubles(Vec<f64>),
    Ints(Vec<i32>),
    LongInts(Vec<i64>),
    Bools(Vec<bool>),
    Strings(Vec<String>),
    Bytes(Vec<u8>),
}

/// Where the elements of a value are.
#[derive(Clone, Debug, PartialEq)]
pub enum ValueData {
    /// Elements of a tensor, inline.
    Tensor(Literal),
    /// Members of a tuple.
    Tuple(Vec<Value>),
    /// Members of a list.
    List(Vec<Value>),
    /// Pairs of a dictionary, in file order.
    Dictionary(Vec<(Value, Value)>),
    /// A record of a blob file: file name as written (`@model_path/weights/weight.bin`), offset of the 64-byte record.
    Blob {
        /// File name as written in the program.
        file: String,
        /// Offset of the record, not of its data.
        offset: u64,
    },
    /// A tensor that a converter still has to place, named by a key of its own. It cannot be written to a package.
    External {
        /// Key under which the converter finds the elements.
        key: String,
    },
}

/// A typed value.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// Type of the value.
    pub ty: ValueType,
    /// Elements or where they are.
    pub data: ValueData,
}

impl Value {
    /// A string scalar.
    pub fn string(s: impl Into<String>) -> Self {
        Self::tensor(
            TensorType::scalar(DType::String),
            Literal::Strings(vec![s.into()]),
        )
    }

    /// A bool scalar.
    pub fn bool(b: bool) -> Self {
        Self::tensor(TensorType::scalar(DType::Bool), Literal::Bools(vec![b]))
    }

    /// An int32 scalar.
    pub fn int(i: i32) -> Self {
        Self::tensor(TensorType::scalar(DType::Int32), Literal::Ints(vec![i]))
    }

    /// An int32 vector `[n]`.
    pub fn ints(v: &[i32]) -> Self {
        Self::tensor(
            TensorType::new(DType::Int32, &[v.len()]),
            Literal::Ints(v.to_vec()),
        )
    }

    /// A bool vector `[n]`.
    pub fn bools(v: &[bool]) -> Self {
        Self::tensor(
            TensorType::new(DType::Bool, &[v.len()]),
            Literal::Bools(v.to_vec()),
        )
    }

    /// A float scalar; `dtype` is fp16 (rounded to nearest even) or fp32.
    pub fn float(dtype: DType, x: f32) -> Self {
        Self::floats(dtype, &[], &[x])
    }

    /// A float tensor; `dtype` is fp16 (each element rounded to nearest even) or fp32; any other dtype is taken as fp32.
    pub fn floats(dtype: DType, shape: &[usize], x: &[f32]) -> Self {
        match dtype {
            DType::Fp16 => Self::tensor(
                TensorType::new(DType::Fp16, shape),
                Literal::Bytes(
                    x.iter()
                        .flat_map(|&v| half::f16::from_f32(v).to_le_bytes())
                        .collect(),
                ),
            ),
            _ => Self::tensor(
                TensorType::new(DType::Fp32, shape),
                Literal::Floats(x.to_vec()),
            ),
        }
    }

    /// An immediate tensor.
    pub fn tensor(ty: TensorType, elements: Literal) -> Self {
        Self {
            ty: ty.into(),
            data: ValueData::Tensor(elements),
        }
    }

    /// A tensor to be placed later under `key`.
    pub fn external(ty: TensorType, key: impl Into<String>) -> Self {
        Self {
            ty: ty.into(),
            data: ValueData::External { key: key.into() },
        }
    }

    /// The int32 elements, if this is an immediate int32 tensor.
    pub fn as_ints(&self) -> Option<&[i32]> {
        match &self.data {
            ValueData::Tensor(Literal::Ints(v)) => Some(v),
            _ => None,
        }
    }

    /// The bool elements, if this is an immediate bool tensor.
    pub fn as_bools(&self) -> Option<&[bool]> {
        match &self.data {
            ValueData::Tensor(Literal::Bools(v)) => Some(v),
            _ => None,
        }
    }

    /// The one string, if this is an immediate string scalar.
    pub fn as_string(&self) -> Option<&str> {
        match &self.data {
            ValueData::Tensor(Literal::Strings(v)) if v.len() == 1 => v.first().map(String::as_str),
            _ => None,
        }
    }

    /// The elements widened to f32, if this is an immediate fp16 or fp32 tensor.
    pub fn as_floats(&self) -> Option<Vec<f32>> {
        let dtype = self.ty.as_tensor()?.dtype;
        match (&self.data, dtype) {
            (ValueData::Tensor(Literal::Floats(v)), DType::Fp32) => Some(v.clone()),
            (ValueData::Tensor(Literal::Bytes(b)), DType::Fp16) => Some(
                b.chunks_exact(2)
                    .map(|c| half::f16::from_le_bytes([c[0], c[1]]).to_f32())
                    .collect(),
            ),
            _ => None,
        }
    }
}
