//! One execution of an op, as its kernel sees it.

use crate::constant::{Constant, Decoder, Pieces};
use crate::plan::Step;
use crate::tensor::{Array, Buffer, Class};
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Shape and elements of a float operand.
pub(crate) type Floats = (Vec<usize>, Arc<Vec<f32>>);

/// What a parameter is bound to.
#[derive(Clone)]
pub(crate) enum Operand<'a> {
    /// A value. Its buffer is not shared when this was its last use.
    Array(Array),
    /// A constant, decoded when a kernel asks for it.
    Constant(&'a Constant),
}

/// An op with its operands.
pub(crate) struct Call<'a> {
    pub(crate) op: &'a str,
    pub(crate) kind: &'a str,
    /// Class of each output as declared.
    pub(crate) outputs: Vec<Class>,
    pub(crate) operands: BTreeMap<&'a str, Vec<Operand<'a>>>,
    pub(crate) decoder: &'a Decoder<'a>,
}

impl<'a> Call<'a> {
    /// A call without operands.
    pub(crate) fn new(step: &'a Step, decoder: &'a Decoder<'a>) -> Self {
        Self {
            op: step.name(),
            kind: &step.kind,
            outputs: step.outputs.iter().map(|o| o.class).collect(),
            operands: BTreeMap::new(),
            decoder,
        }
    }

    /// An error about this op.
    pub(crate) fn wrong(&self, reason: impl Into<String>) -> Error {
        Error::Op {
            op: self.op.into(),
            kind: self.kind.into(),
            reason: reason.into(),
        }
    }

    pub(crate) fn has(&self, parameter: &str) -> bool {
        self.operands.contains_key(parameter)
    }

    /// The operand of a parameter as it is bound.
    pub(crate) fn operand(&self, parameter: &str) -> Option<&Operand<'a>> {
        self.operands.get(parameter).and_then(|list| list.first())
    }

    fn resolved(&self, operand: &Operand<'a>) -> Result<Array> {
        match operand {
            Operand::Array(a) => Ok(a.clone()),
            Operand::Constant(c) => c.decoded(self.decoder),
        }
    }

    /// A required operand.
    pub(crate) fn array(&self, parameter: &str) -> Result<Array> {
        self.optional(parameter)?
            .ok_or_else(|| self.wrong(format!("parameter `{parameter}` is missing")))
    }

    /// An operand that may be left out.
    pub(crate) fn optional(&self, parameter: &str) -> Result<Option<Array>> {
        self.operand(parameter)
            .map(|o| self.resolved(o))
            .transpose()
    }

    /// The operands of a variadic parameter.
    pub(crate) fn many(&self, parameter: &str) -> Result<Vec<Array>> {
        self.operands
            .get(parameter)
            .into_iter()
            .flatten()
            .map(|o| self.resolved(o))
            .collect()
    }

    /// Takes a required operand out of the call, so that its buffer may be changed in place.
    pub(crate) fn take(&mut self, parameter: &str) -> Result<Array> {
        let taken = self
            .operands
            .get_mut(parameter)
            .and_then(|list| (!list.is_empty()).then(|| list.remove(0)));
        match taken {
            Some(Operand::Array(a)) => Ok(a),
            Some(Operand::Constant(c)) => c.decoded(self.decoder),
            None => Err(self.wrong(format!("parameter `{parameter}` is missing"))),
        }
    }

    /// Shape of a required operand, without decoding it.
    pub(crate) fn shape(&self, parameter: &str) -> Result<Vec<usize>> {
        match self.operand(parameter) {
            Some(Operand::Array(a)) => Ok(a.shape.clone()),
            Some(Operand::Constant(c)) => match c.ty().and_then(|t| t.shape()) {
                Some(shape) => Ok(shape),
                None => Ok(c.decoded(self.decoder)?.shape),
            },
            None => Err(self.wrong(format!("parameter `{parameter}` is missing"))),
        }
    }

    /// A required float operand: shape and elements.
    pub(crate) fn floats(&self, parameter: &str) -> Result<Floats> {
        let array = self.array(parameter)?;
        let v = self.as_floats(parameter, &array)?;
        Ok((array.shape, v))
    }

    /// The elements of a required float operand; those of a large constant are decoded as they are asked for.
    pub(crate) fn pieces(&self, parameter: &str) -> Result<Pieces<'a>> {
        match self.operand(parameter) {
            Some(Operand::Constant(c)) => Pieces::of(c, self.decoder),
            _ => Pieces::dense(parameter, &self.array(parameter)?),
        }
    }

    /// A float operand that may be left out.
    pub(crate) fn optional_floats(&self, parameter: &str) -> Result<Option<Floats>> {
        self.has(parameter)
            .then(|| self.floats(parameter))
            .transpose()
    }

    /// The elements of an array that must be floats.
    pub(crate) fn as_floats(&self, parameter: &str, array: &Array) -> Result<Arc<Vec<f32>>> {
        match &array.buffer {
            Buffer::F32(v) => Ok(v.clone()),
            _ => Err(self.wrong(format!(
                "parameter `{parameter}` has class {:?}, expected floats",
                array.class()
            ))),
        }
    }

    /// Integers of a parameter, or nothing when it is left out.
    pub(crate) fn ints(&self, parameter: &str) -> Result<Option<Vec<i64>>> {
        Ok(self.optional(parameter)?.map(|a| a.to_i64()))
    }

    /// Integers of a required parameter.
    pub(crate) fn required_ints(&self, parameter: &str) -> Result<Vec<i64>> {
        Ok(self.array(parameter)?.to_i64())
    }

    /// Sizes of a required parameter.
    pub(crate) fn sizes(&self, parameter: &str) -> Result<Vec<usize>> {
        self.required_ints(parameter)?
            .into_iter()
            .map(|i| usize::try_from(i).map_err(|_| self.wrong(format!("`{parameter}` holds {i}"))))
            .collect()
    }

    /// Sizes of a parameter with `n` elements, or `default` repeated.
    pub(crate) fn sizes_or(&self, parameter: &str, n: usize, default: usize) -> Result<Vec<usize>> {
        if !self.has(parameter) {
            return Ok(vec![default; n]);
        }
        let sizes = self.sizes(parameter)?;
        if sizes.len() == n {
            return Ok(sizes);
        }
        let found = sizes.len();
        Err(self.wrong(format!("`{parameter}` has {found} elements, expected {n}")))
    }

    /// One integer, or a default.
    pub(crate) fn int(&self, parameter: &str, default: i64) -> Result<i64> {
        Ok(self
            .ints(parameter)?
            .and_then(|v| v.first().copied())
            .unwrap_or(default))
    }

    /// One bool, or a default.
    pub(crate) fn flag(&self, parameter: &str, default: bool) -> Result<bool> {
        Ok(self.int(parameter, i64::from(default))? != 0)
    }

    /// One number, or a default.
    pub(crate) fn number(&self, parameter: &str, default: f64) -> Result<f64> {
        Ok(self
            .optional(parameter)?
            .and_then(|a| a.to_f64().first().copied())
            .unwrap_or(default))
    }

    /// One string, or a default.
    pub(crate) fn string(&self, parameter: &str, default: &'a str) -> Result<&'a str> {
        match self.operand(parameter) {
            None => Ok(default),
            Some(Operand::Constant(c)) => c
                .string()
                .ok_or_else(|| self.wrong(format!("parameter `{parameter}` is not a string"))),
            Some(Operand::Array(_)) => {
                Err(self.wrong(format!("parameter `{parameter}` is not a constant")))
            }
        }
    }

    /// An axis given by parameter, counted from the end when negative.
    pub(crate) fn axis(&self, parameter: &str, default: i64, rank: usize) -> Result<usize> {
        let given = self.int(parameter, default)?;
        crate::shape::axis(given, rank)
            .ok_or_else(|| self.wrong(format!("`{parameter}` is {given} for rank {rank}")))
    }

    /// Axes given by parameter, sorted; all of them when it is left out.
    pub(crate) fn axes(&self, parameter: &str, rank: usize) -> Result<Vec<usize>> {
        let Some(given) = self.ints(parameter)? else {
            return Ok((0..rank).collect());
        };
        let mut axes = given
            .iter()
            .map(|&a| {
                crate::shape::axis(a, rank)
                    .ok_or_else(|| self.wrong(format!("`{parameter}` holds {a} for rank {rank}")))
            })
            .collect::<Result<Vec<_>>>()?;
        axes.sort_unstable();
        axes.dedup();
        Ok(axes)
    }

    /// Class of the first output as declared.
    pub(crate) fn class(&self) -> Class {
        self.outputs.first().copied().unwrap_or(Class::F32)
    }

    /// Number of elements of a shape.
    pub(crate) fn count(&self, shape: &[usize]) -> Result<usize> {
        crate::shape::count(shape)
            .ok_or_else(|| self.wrong(format!("shape {shape:?} is too large")))
    }

    /// An f32 buffer with arbitrary contents, recycled where possible.
    pub(crate) fn buffer(&self, len: usize) -> Vec<f32> {
        self.decoder.pool.take(len)
    }

    /// Gives an array's buffer back when nobody else holds it.
    pub(crate) fn recycle(&self, array: Array) {
        recycle(self.decoder, array);
    }
}

/// Gives an array's buffer back when nobody else holds it.
pub(crate) fn recycle(decoder: &Decoder<'_>, array: Array) {
    if let Buffer::F32(v) = array.buffer
        && let Ok(v) = Arc::try_unwrap(v)
    {
        decoder.pool.give(v);
    }
}
