//! Constants whose elements are decoded piece by piece, so that a large weight is never there as a whole.

use super::{Constant, Decoder, Form, Raw, expr, lut, unpack};
use crate::shape::count;
use crate::simd;
use crate::tensor::{Array, Buffer};
use crate::{Error, Result};
use gesso_mil::DType;
use std::borrow::Cow;
use std::sync::Arc;

/// The elements of a float constant, row-major.
pub(crate) struct Pieces<'a> {
    form: Stored<'a>,
    len: usize,
}

/// How the elements are held.
pub(super) enum Stored<'a> {
    /// Little-endian fp16.
    Halves(Cow<'a, [u8]>),
    /// Codes of `bits` bits; element i is found in table `i / per_table`.
    Codes {
        bytes: Cow<'a, [u8]>,
        bits: usize,
        /// 2^bits values per table.
        tables: Vec<f32>,
        per_table: usize,
    },
    /// Already decoded.
    Dense(Arc<Vec<f32>>),
}

impl<'a> Pieces<'a> {
    /// Of a constant; forms that cannot be decoded in pieces are decoded here as a whole.
    ///
    /// Errors: those of [`Constant::decoded`]; a constant that is not of floats.
    pub(crate) fn of(constant: &'a Constant, decoder: &'a Decoder<'a>) -> Result<Self> {
        if constant.kept.is_none() {
            let stored = match &constant.form {
                Form::Value(value) => match constant.raw(value, decoder)? {
                    (ty, shape, Raw::Bytes(bytes)) if ty.dtype == DType::Fp16 => {
                        count(&shape).map(|len| (Stored::Halves(bytes), len))
                    }
                    _ => None,
                },
                Form::Expr {
                    kind,
                    operands,
                    ty,
                    output,
                } => lut::stored(
                    &expr::Site {
                        name: &constant.name,
                        operands,
                        ty,
                        output: *output,
                        decoder,
                    },
                    kind,
                )?,
            };
            if let Some((form, len)) = stored {
                return Ok(Self { form, len });
            }
        }
        Self::dense(&constant.name, &constant.decoded(decoder)?)
    }

    /// Of a value that is there already.
    ///
    /// Errors: [`Error::Constant`] when it is not of floats.
    pub(crate) fn dense(name: &str, array: &Array) -> Result<Self> {
        match &array.buffer {
            Buffer::F32(v) => Ok(Self {
                form: Stored::Dense(v.clone()),
                len: v.len(),
            }),
            _ => Err(Error::Constant {
                name: name.into(),
                reason: format!("expected floats, found {:?}", array.class()),
            }),
        }
    }

    /// Number of elements.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Elements `from..from + n`, decoded into the front of `scratch` (of at least `n` elements) where they are not there
    /// as they are. Positions beyond the end are left out.
    pub(crate) fn get<'s>(&'s self, from: usize, n: usize, scratch: &'s mut [f32]) -> &'s [f32] {
        let from = from.min(self.len);
        let n = n.min(self.len - from);
        if let Stored::Dense(v) = &self.form {
            return v.get(from..from + n).unwrap_or(&[]);
        }
        let out = scratch.get_mut(..n).unwrap_or(&mut []);
        match &self.form {
            Stored::Halves(bytes) => {
                simd::widen(bytes.get(from * 2..).unwrap_or(&[]), out);
            }
            Stored::Codes {
                bytes,
                bits,
                tables,
                per_table,
            } => {
                unpack::tables(bytes, *bits, (tables, *per_table), from, out);
            }
            Stored::Dense(_) => {}
        }
        out
    }
}
