//! Constants: `const` and the `constexpr_*` ops, decoded on demand with this crate's own unpacking.

mod expr;
mod lut;
mod pieces;
mod unpack;

use crate::pool::Pool;
use crate::shape::count;
use crate::source::WeightSource;
use crate::tensor::Array;
use crate::{Error, Result};
use gesso_mil::{DType, Literal, Operation, TensorType, Value, ValueData};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) use expr::is_constexpr;
pub(crate) use pieces::Pieces;

/// Constants with at most this many elements are decoded once, when the model is loaded.
const KEPT: usize = 4096;

/// One constant variable of a function.
#[derive(Clone, Debug)]
pub(crate) struct Constant {
    /// Name of the variable.
    pub(crate) name: String,
    form: Form,
    kept: Option<Array>,
}

/// What decoding needs.
pub(crate) struct Decoder<'a> {
    pub(crate) source: &'a dyn WeightSource,
    pub(crate) pool: &'a Pool,
}

#[derive(Clone, Debug)]
enum Form {
    Value(Value),
    /// An output of a `constexpr_*` op.
    Expr {
        kind: String,
        operands: BTreeMap<String, Arc<Constant>>,
        ty: TensorType,
        output: usize,
    },
}

impl Constant {
    /// A literal. Small ones are decoded at once.
    ///
    /// Errors: a small value that cannot be decoded.
    pub(crate) fn literal(name: &str, value: &Value, decoder: &Decoder<'_>) -> Result<Self> {
        Self {
            name: name.into(),
            form: Form::Value(value.clone()),
            kept: None,
        }
        .settled(decoder)
    }

    /// The outputs of a `constexpr_*` op, whose operands are attributes (to opset CoreML7) or inputs.
    ///
    /// Errors: an operand that is not a constant.
    pub(crate) fn expr(
        op: &Operation,
        known: &BTreeMap<String, Arc<Constant>>,
        decoder: &Decoder<'_>,
    ) -> Result<Vec<Self>> {
        let name = op.outputs.first().map_or("", |o| o.name.as_str());
        let mut operands = BTreeMap::new();
        for (parameter, value) in &op.attributes {
            if parameter != "name" {
                let constant = Self::literal(&format!("{name}.{parameter}"), value, decoder)?;
                operands.insert(parameter.clone(), Arc::new(constant));
            }
        }
        for (parameter, bindings) in &op.inputs {
            let constant = match bindings.first() {
                Some(gesso_mil::Binding::Value(value)) => Arc::new(Self::literal(
                    &format!("{name}.{parameter}"),
                    value,
                    decoder,
                )?),
                Some(gesso_mil::Binding::Name(n)) => known
                    .get(n)
                    .cloned()
                    .ok_or_else(|| wrong(name, format!("operand `{n}` is not a constant")))?,
                None => return Err(wrong(name, format!("parameter `{parameter}` is empty"))),
            };
            operands.insert(parameter.clone(), constant);
        }
        op.outputs
            .iter()
            .enumerate()
            .map(|(output, out)| {
                let ty = out
                    .ty
                    .as_tensor()
                    .cloned()
                    .ok_or_else(|| wrong(&out.name, "expected a tensor type".to_string()))?;
                Self {
                    name: out.name.clone(),
                    form: Form::Expr {
                        kind: op.kind.clone(),
                        operands: operands.clone(),
                        ty,
                        output,
                    },
                    kept: None,
                }
                .settled(decoder)
            })
            .collect()
    }

    fn settled(mut self, decoder: &Decoder<'_>) -> Result<Self> {
        let small = self
            .ty()
            .is_some_and(|t| t.dtype != DType::String && t.count().is_some_and(|n| n <= KEPT));
        // A tensor that is still to be placed may never be asked for.
        let placed = !matches!(
            &self.form,
            Form::Value(Value {
                data: ValueData::External { .. },
                ..
            })
        );
        if small && placed {
            self.kept = Some(self.decoded(decoder)?);
        }
        Ok(self)
    }

    /// Type of the dense tensor; `None` for values that are not tensors.
    pub(crate) fn ty(&self) -> Option<&TensorType> {
        match &self.form {
            Form::Value(v) => v.ty.as_tensor(),
            Form::Expr { ty, .. } => Some(ty),
        }
    }

    /// The one string, if this is a string scalar.
    pub(crate) fn string(&self) -> Option<&str> {
        match &self.form {
            Form::Value(v) => v.as_string(),
            Form::Expr { .. } => None,
        }
    }

    /// The dense tensor.
    ///
    /// Errors: [`Error::Constant`] for strings, for data of the wrong length, and for what the source refuses.
    pub(crate) fn decoded(&self, decoder: &Decoder<'_>) -> Result<Array> {
        if let Some(kept) = &self.kept {
            return Ok(kept.clone());
        }
        match &self.form {
            Form::Value(value) => {
                let (ty, shape, bytes) = self.raw(value, decoder)?;
                self.dense(ty.dtype, &shape, bytes, decoder)
            }
            Form::Expr {
                kind,
                operands,
                ty,
                output,
            } => expr::decoded(
                &expr::Site {
                    name: &self.name,
                    operands,
                    ty,
                    output: *output,
                    decoder,
                },
                kind,
            ),
        }
    }

    /// Type and packed bytes of a literal tensor; for the operands of `constexpr_*` ops.
    pub(crate) fn packed<'a>(
        &'a self,
        decoder: &Decoder<'a>,
    ) -> Result<(&'a TensorType, Cow<'a, [u8]>)> {
        match &self.form {
            Form::Value(value) => match self.raw(value, decoder)? {
                (ty, _, Raw::Bytes(bytes)) => Ok((ty, bytes)),
                _ => Err(self.wrong("expected bytes")),
            },
            Form::Expr { .. } => Err(self.wrong("expected a literal tensor")),
        }
    }

    fn wrong(&self, reason: impl Into<String>) -> Error {
        wrong(&self.name, reason.into())
    }

    fn raw<'a>(
        &self,
        value: &'a Value,
        decoder: &Decoder<'a>,
    ) -> Result<(&'a TensorType, Vec<usize>, Raw<'a>)> {
        let ty = value
            .ty
            .as_tensor()
            .ok_or_else(|| self.wrong(format!("expected a tensor, found {}", value.ty)))?;
        let shape = ty
            .shape()
            .ok_or_else(|| self.wrong(format!("expected known dimensions, found {ty}")))?;
        let raw = match &value.data {
            ValueData::Tensor(Literal::Bytes(b)) => Raw::Bytes(Cow::Borrowed(b)),
            ValueData::Tensor(literal) => Raw::Literal(literal),
            ValueData::Blob { file, offset } => Raw::Bytes(
                decoder
                    .source
                    .blob(file, *offset, ty)
                    .map_err(|reason| self.wrong(reason))?,
            ),
            ValueData::External { key } => Raw::Bytes(
                decoder
                    .source
                    .external(key, ty)
                    .map_err(|reason| self.wrong(reason))?,
            ),
            _ => return Err(self.wrong("expected a tensor")),
        };
        if let Raw::Bytes(bytes) = &raw {
            let needed = ty
                .count()
                .and_then(|n| unpack::packed_len(n, ty.dtype.bits()))
                .ok_or_else(|| self.wrong(format!("{ty} is too large")))?;
            if bytes.len() != needed {
                let found = bytes.len();
                return Err(self.wrong(format!("{ty} needs {needed} bytes, found {found}")));
            }
        }
        Ok((ty, shape, raw))
    }

    fn dense(
        &self,
        dtype: DType,
        shape: &[usize],
        raw: Raw<'_>,
        decoder: &Decoder<'_>,
    ) -> Result<Array> {
        let n = count(shape).ok_or_else(|| self.wrong("too large"))?;
        let array = match raw {
            Raw::Literal(Literal::Floats(v)) => Array::f32(shape, v.clone()),
            Raw::Literal(Literal::Doubles(v)) => {
                Array::f32(shape, v.iter().map(|&x| x as f32).collect())
            }
            Raw::Literal(Literal::Ints(v)) => Array::i32(shape, v.clone()),
            Raw::Literal(Literal::LongInts(v)) => {
                Array::i32(shape, v.iter().map(|&x| saturated(x)).collect())
            }
            Raw::Literal(Literal::Bools(v)) => Array::bool(shape, v.clone()),
            Raw::Literal(_) => return Err(self.wrong(format!("a {dtype} is not a number"))),
            Raw::Bytes(bytes) => {
                from_bytes(dtype, shape, n, &bytes, decoder).map_err(|e| self.wrong(e))?
            }
        };
        if array.len() != n {
            let found = array.len();
            return Err(self.wrong(format!("shape {shape:?} needs {n} elements, found {found}")));
        }
        Ok(array)
    }
}

enum Raw<'a> {
    Literal(&'a Literal),
    Bytes(Cow<'a, [u8]>),
}

fn wrong(name: &str, reason: String) -> Error {
    Error::Constant {
        name: name.into(),
        reason,
    }
}

fn saturated(x: i64) -> i32 {
    x.clamp(i32::MIN.into(), i32::MAX.into()) as i32
}

/// Elements from little-endian bytes of the right length.
fn from_bytes(
    dtype: DType,
    shape: &[usize],
    n: usize,
    bytes: &[u8],
    decoder: &Decoder<'_>,
) -> Result<Array, String> {
    fn each<const N: usize, T>(bytes: &[u8], f: impl Fn([u8; N]) -> T) -> Vec<T> {
        bytes.as_chunks::<N>().0.iter().map(|&c| f(c)).collect()
    }
    let ints = |v: Vec<i32>| Ok(Array::i32(shape, v));
    match dtype {
        DType::Fp16 => {
            let mut out = decoder.pool.take(n);
            unpack::widened(bytes, &mut out);
            Ok(Array::f32(shape, out))
        }
        DType::Fp32 => Ok(Array::f32(shape, each(bytes, f32::from_le_bytes))),
        DType::Fp64 => Ok(Array::f32(
            shape,
            each(bytes, |b| f64::from_le_bytes(b) as f32),
        )),
        DType::Bf16 => Ok(Array::f32(
            shape,
            each(bytes, |b| half::bf16::from_le_bytes(b).to_f32()),
        )),
        DType::Bool => Ok(Array::bool(shape, bytes.iter().map(|&b| b != 0).collect())),
        DType::Int8 => ints(bytes.iter().map(|&b| b.cast_signed().into()).collect()),
        DType::UInt8 => ints(bytes.iter().map(|&b| b.into()).collect()),
        DType::Int16 => ints(each(bytes, |b| i16::from_le_bytes(b).into())),
        DType::UInt16 => ints(each(bytes, |b| u16::from_le_bytes(b).into())),
        DType::Int32 => ints(each(bytes, i32::from_le_bytes)),
        DType::UInt32 => ints(each(bytes, |b| saturated(u32::from_le_bytes(b).into()))),
        DType::Int64 => ints(each(bytes, |b| saturated(i64::from_le_bytes(b)))),
        DType::Int4 => ints(
            unpack::codes(bytes, 4, n)
                .into_iter()
                .map(|c| i32::from(c) - if c > 7 { 16 } else { 0 })
                .collect(),
        ),
        DType::UInt1 | DType::UInt2 | DType::UInt3 | DType::UInt4 | DType::UInt6 => ints(
            unpack::codes(bytes, dtype.bits(), n)
                .into_iter()
                .map(i32::from)
                .collect(),
        ),
        other => Err(format!("elements of dtype {other} are not supported")),
    }
}
