//! Tensors: the public one, and the shared one that ops pass on.

use crate::Result;
use gesso_mil::DType;
use std::sync::Arc;

/// Elements of a tensor, row-major.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Any floating-point type, widened to f32.
    F32(Vec<f32>),
    /// Any integer type, as i32.
    I32(Vec<i32>),
    /// bool.
    Bool(Vec<bool>),
}

impl Data {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(v) => v.len(),
            Self::I32(v) => v.len(),
            Self::Bool(v) => v.len(),
        }
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `f32`, `i32` or `bool`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::F32(_) => "f32",
            Self::I32(_) => "i32",
            Self::Bool(_) => "bool",
        }
    }
}

/// A tensor that goes into or comes out of a model: row-major, a scalar has an empty shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
    /// Elements.
    pub data: Data,
}

impl Tensor {
    /// A float tensor.
    pub fn f32(shape: &[usize], data: Vec<f32>) -> Self {
        Self {
            shape: shape.to_vec(),
            data: Data::F32(data),
        }
    }

    /// An integer tensor.
    pub fn i32(shape: &[usize], data: Vec<i32>) -> Self {
        Self {
            shape: shape.to_vec(),
            data: Data::I32(data),
        }
    }

    /// The elements, if they are floats.
    pub fn as_f32(&self) -> Option<&[f32]> {
        match &self.data {
            Data::F32(v) => Some(v),
            _ => None,
        }
    }
}

/// Class of the elements of a value while a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    F32,
    I32,
    Bool,
}

impl Class {
    /// How a value of this dtype is held; `None` for strings.
    pub(crate) fn of(dtype: DType) -> Option<Self> {
        match dtype {
            DType::String => None,
            DType::Bool => Some(Self::Bool),
            d if d.is_float() => Some(Self::F32),
            _ => Some(Self::I32),
        }
    }
}

/// Shared elements.
#[derive(Clone, Debug)]
pub(crate) enum Buffer {
    F32(Arc<Vec<f32>>),
    I32(Arc<Vec<i32>>),
    Bool(Arc<Vec<bool>>),
}

/// A value while a program runs: cheap to clone, elements are shared.
#[derive(Clone, Debug)]
pub(crate) struct Array {
    pub(crate) shape: Vec<usize>,
    pub(crate) buffer: Buffer,
}

impl Array {
    pub(crate) fn f32(shape: &[usize], data: Vec<f32>) -> Self {
        Self {
            shape: shape.to_vec(),
            buffer: Buffer::F32(Arc::new(data)),
        }
    }

    pub(crate) fn i32(shape: &[usize], data: Vec<i32>) -> Self {
        Self {
            shape: shape.to_vec(),
            buffer: Buffer::I32(Arc::new(data)),
        }
    }

    pub(crate) fn bool(shape: &[usize], data: Vec<bool>) -> Self {
        Self {
            shape: shape.to_vec(),
            buffer: Buffer::Bool(Arc::new(data)),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match &self.buffer {
            Buffer::F32(v) => v.len(),
            Buffer::I32(v) => v.len(),
            Buffer::Bool(v) => v.len(),
        }
    }

    pub(crate) fn class(&self) -> Class {
        match &self.buffer {
            Buffer::F32(_) => Class::F32,
            Buffer::I32(_) => Class::I32,
            Buffer::Bool(_) => Class::Bool,
        }
    }

    /// Elements widened to f64, whatever their class.
    pub(crate) fn to_f64(&self) -> Vec<f64> {
        match &self.buffer {
            Buffer::F32(v) => v.iter().map(|&x| f64::from(x)).collect(),
            Buffer::I32(v) => v.iter().map(|&x| f64::from(x)).collect(),
            Buffer::Bool(v) => v.iter().map(|&x| f64::from(u8::from(x))).collect(),
        }
    }

    /// Integer view of the elements; floats are truncated.
    pub(crate) fn to_i64(&self) -> Vec<i64> {
        match &self.buffer {
            Buffer::F32(v) => v.iter().map(|&x| x as i64).collect(),
            Buffer::I32(v) => v.iter().map(|&x| i64::from(x)).collect(),
            Buffer::Bool(v) => v.iter().map(|&x| i64::from(x)).collect(),
        }
    }
}

impl From<Tensor> for Array {
    fn from(t: Tensor) -> Self {
        Self {
            shape: t.shape,
            buffer: match t.data {
                Data::F32(v) => Buffer::F32(Arc::new(v)),
                Data::I32(v) => Buffer::I32(Arc::new(v)),
                Data::Bool(v) => Buffer::Bool(Arc::new(v)),
            },
        }
    }
}

impl From<Array> for Tensor {
    fn from(a: Array) -> Self {
        Self {
            shape: a.shape,
            data: match a.buffer {
                Buffer::F32(v) => Data::F32(Arc::unwrap_or_clone(v)),
                Buffer::I32(v) => Data::I32(Arc::unwrap_or_clone(v)),
                Buffer::Bool(v) => Data::Bool(Arc::unwrap_or_clone(v)),
            },
        }
    }
}

/// Runs the same code over the elements of each class and gives the result that class again.
macro_rules! each_class {
    ($array:expr, $shape:expr, |$v:ident| $body:expr) => {
        match &$array.buffer {
            $crate::tensor::Buffer::F32($v) => $crate::tensor::Array::f32($shape, $body),
            $crate::tensor::Buffer::I32($v) => $crate::tensor::Array::i32($shape, $body),
            $crate::tensor::Buffer::Bool($v) => $crate::tensor::Array::bool($shape, $body),
        }
    };
}
pub(crate) use each_class;

/// What a kernel returns: the op's outputs in order.
pub(crate) type Outputs = Result<Vec<Array>>;
