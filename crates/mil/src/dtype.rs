//! Element types, tensor types and value types of an ML Program.

use gesso_coreml::blob::BlobDType;
use std::fmt;

/// Element type of a tensor. The names are those of the MIL text format.
///
/// Source: `MILSpec.DataType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)] // the variants are the format's own words
pub enum DType {
    Bool,
    String,
    Fp16,
    Fp32,
    Fp64,
    Bf16,
    Int4,
    Int8,
    Int16,
    Int32,
    Int64,
    UInt1,
    UInt2,
    UInt3,
    UInt4,
    UInt6,
    UInt8,
    UInt16,
    UInt32,
    UInt64,
    Fp8E4M3Fn,
    Fp8E5M2,
}

/// (variant, number in `MILSpec.DataType`, word of the text format, bits per element; 0 bits = no fixed size).
const DTYPES: &[(DType, i32, &str, usize)] = &[
    (DType::Bool, 1, "bool", 8),
    (DType::String, 2, "string", 0),
    (DType::Fp16, 10, "fp16", 16),
    (DType::Fp32, 11, "fp32", 32),
    (DType::Fp64, 12, "fp64", 64),
    (DType::Bf16, 13, "bf16", 16),
    (DType::Int8, 21, "int8", 8),
    (DType::Int16, 22, "int16", 16),
    (DType::Int32, 23, "int32", 32),
    (DType::Int64, 24, "int64", 64),
    (DType::Int4, 25, "int4", 4),
    (DType::UInt8, 31, "uint8", 8),
    (DType::UInt16, 32, "uint16", 16),
    (DType::UInt32, 33, "uint32", 32),
    (DType::UInt64, 34, "uint64", 64),
    (DType::UInt4, 35, "uint4", 4),
    (DType::UInt2, 36, "uint2", 2),
    (DType::UInt1, 37, "uint1", 1),
    (DType::UInt6, 38, "uint6", 6),
    (DType::UInt3, 39, "uint3", 3),
    (DType::Fp8E4M3Fn, 40, "fp8e4m3fn", 8),
    (DType::Fp8E5M2, 41, "fp8e5m2", 8),
];

/// (dtype of the program, dtype of the record).
const RECORDS: &[(DType, BlobDType)] = &[
    (DType::Fp16, BlobDType::Float16),
    (DType::Fp32, BlobDType::Float32),
    (DType::Bf16, BlobDType::BFloat16),
    (DType::Int4, BlobDType::Int4),
    (DType::Int8, BlobDType::Int8),
    (DType::Int16, BlobDType::Int16),
    (DType::Int32, BlobDType::Int32),
    (DType::UInt1, BlobDType::UInt1),
    (DType::UInt2, BlobDType::UInt2),
    (DType::UInt3, BlobDType::UInt3),
    (DType::UInt4, BlobDType::UInt4),
    (DType::UInt6, BlobDType::UInt6),
    (DType::UInt8, BlobDType::UInt8),
    (DType::UInt16, BlobDType::UInt16),
    (DType::UInt32, BlobDType::UInt32),
    (DType::Fp8E4M3Fn, BlobDType::Float8E4M3FN),
    (DType::Fp8E5M2, BlobDType::Float8E5M2),
];

impl DType {
    /// Whether a record of a weight file with elements of type `record` holds tensors of this type.
    pub fn is_stored_as(self, record: BlobDType) -> bool {
        RECORDS.contains(&(self, record))
    }

    fn row(self) -> &'static (DType, i32, &'static str, usize) {
        // Every variant has a row; the unit test walks them all.
        DTYPES
            .iter()
            .find(|row| row.0 == self)
            .unwrap_or(&DTYPES[0])
    }

    /// Number in `MILSpec.DataType`.
    pub fn proto(self) -> i32 {
        self.row().1
    }

    /// The type with this number in `MILSpec.DataType`, if there is one.
    pub fn from_proto(number: i32) -> Option<Self> {
        DTYPES.iter().find(|row| row.1 == number).map(|row| row.0)
    }

    /// Word of the MIL text format, for instance `fp16`.
    pub fn word(self) -> &'static str {
        self.row().2
    }

    /// The type with this word in the MIL text format, if there is one.
    pub fn from_word(word: &str) -> Option<Self> {
        DTYPES.iter().find(|row| row.2 == word).map(|row| row.0)
    }

    /// Bits per element; 0 for strings.
    pub fn bits(self) -> usize {
        self.row().3
    }

    /// fp16, fp32, fp64, bf16 or an 8-bit float.
    pub fn is_float(self) -> bool {
        matches!(
            self,
            Self::Fp16 | Self::Fp32 | Self::Fp64 | Self::Bf16 | Self::Fp8E4M3Fn | Self::Fp8E5M2
        )
    }

    /// Any signed or unsigned integer, sub-byte types included; not bool.
    pub fn is_int(self) -> bool {
        !self.is_float() && !matches!(self, Self::Bool | Self::String)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// One dimension of a tensor type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dim {
    /// A known size.
    Fixed(usize),
    /// A size known only when the program runs; `variadic` as in the format.
    Unknown {
        /// Stands for any number of dimensions.
        variadic: bool,
    },
}

/// Type of a tensor: element type and dimensions. A scalar has no dimensions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TensorType {
    /// Element type.
    pub dtype: DType,
    /// Dimensions, outermost first.
    pub dims: Vec<Dim>,
}

impl TensorType {
    /// A tensor type with known dimensions.
    pub fn new(dtype: DType, shape: &[usize]) -> Self {
        Self {
            dtype,
            dims: shape.iter().map(|&d| Dim::Fixed(d)).collect(),
        }
    }

    /// A scalar (rank 0).
    pub fn scalar(dtype: DType) -> Self {
        Self {
            dtype,
            dims: Vec::new(),
        }
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.dims.len()
    }

    /// The shape, when every dimension is known.
    pub fn shape(&self) -> Option<Vec<usize>> {
        self.dims
            .iter()
            .map(|d| match d {
                Dim::Fixed(n) => Some(*n),
                Dim::Unknown { .. } => None,
            })
            .collect()
    }

    /// Number of elements, when every dimension is known and the product fits.
    pub fn count(&self) -> Option<usize> {
        self.shape()?
            .iter()
            .try_fold(1usize, |n, &d| n.checked_mul(d))
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tensor<{}, [", self.dtype)?;
        for (i, d) in self.dims.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            match d {
                Dim::Fixed(n) => write!(f, "{n}")?,
                Dim::Unknown { variadic: false } => f.write_str("?")?,
                Dim::Unknown { variadic: true } => f.write_str("...")?,
            }
        }
        f.write_str("]>")
    }
}

/// Type of a value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ValueType {
    /// A tensor; scalars are tensors of rank 0.
    Tensor(TensorType),
    /// A list of one element type, with its length.
    List(Box<ValueType>, Dim),
    /// A tuple.
    Tuple(Vec<ValueType>),
    /// A dictionary: key type, value type.
    Dictionary(Box<ValueType>, Box<ValueType>),
    /// A state that wraps a tensor type.
    State(Box<ValueType>),
}

impl ValueType {
    /// A tensor type with known dimensions.
    pub fn tensor(dtype: DType, shape: &[usize]) -> Self {
        Self::Tensor(TensorType::new(dtype, shape))
    }

    /// The tensor type, if this is a tensor.
    pub fn as_tensor(&self) -> Option<&TensorType> {
        match self {
            Self::Tensor(t) => Some(t),
            _ => None,
        }
    }
}

impl From<TensorType> for ValueType {
    fn from(t: TensorType) -> Self {
        Self::Tensor(t)
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tensor(t) => t.fmt(f),
            Self::List(t, Dim::Fixed(n)) => write!(f, "list<{t}, {n}>"),
            Self::List(t, Dim::Unknown { .. }) => write!(f, "list<{t}, ?>"),
            Self::Tuple(ts) => {
                f.write_str("tuple<")?;
                for (i, t) in ts.iter().enumerate() {
                    write!(f, "{}{t}", if i > 0 { ", " } else { "" })?;
                }
                f.write_str(">")
            }
            Self::Dictionary(k, v) => write!(f, "dict<{k}, {v}>"),
            Self::State(t) => write!(f, "state<{t}>"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dtype_has_its_own_row() {
        for &(dtype, number, word, _) in DTYPES {
            assert_eq!(DType::from_proto(number), Some(dtype));
            assert_eq!(DType::from_word(word), Some(dtype));
            assert_eq!(dtype.proto(), number);
            assert_eq!(dtype.word(), word);
        }
    }
}
