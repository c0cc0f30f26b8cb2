//! The constants of a function, for tools that compare weights.

use crate::constant::{Constant, Decoder, is_constexpr};
use crate::pool::Pool;
use crate::source::WeightSource;
use crate::tensor::Class;
use crate::{Error, Result, Tensor};
use gesso_mil::{Function, TensorType};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Every `const` and `constexpr_*` output of a function's body, decoded when asked for.
#[derive(Debug)]
pub struct Constants<'a> {
    known: BTreeMap<String, Arc<Constant>>,
    source: &'a dyn WeightSource,
    pool: Pool,
}

impl<'a> Constants<'a> {
    /// Collects the constants of a function; constants of nested blocks are left out.
    ///
    /// Errors: [`Error::Constant`] for a const without a value and for small ones that cannot be decoded.
    pub fn of(function: &Function, source: &'a dyn WeightSource) -> Result<Self> {
        let pool = Pool::default();
        let decoder = Decoder {
            source,
            pool: &pool,
        };
        let mut known: BTreeMap<String, Arc<Constant>> = BTreeMap::new();
        for op in function.body().iter().flat_map(|b| &b.operations) {
            let name = op.outputs.first().map_or("", |o| o.name.as_str());
            let found = if op.kind == "const" {
                let value = op.attributes.get("val").ok_or_else(|| Error::Constant {
                    name: name.into(),
                    reason: "attribute `val` is missing".into(),
                })?;
                vec![Constant::literal(name, value, &decoder)?]
            } else if is_constexpr(&op.kind) {
                Constant::expr(op, &known, &decoder)?
            } else {
                continue;
            };
            known.extend(found.into_iter().map(|c| (c.name.clone(), Arc::new(c))));
        }
        Ok(Self {
            known,
            source,
            pool,
        })
    }

    /// Names and types of the constants that are tensors of numbers, by name.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &TensorType)> {
        self.known.iter().filter_map(|(name, constant)| {
            let ty = constant.ty()?;
            Class::of(ty.dtype)?;
            Some((name.as_str(), ty))
        })
    }

    /// The dense tensor of a name; `None` when there is no such constant.
    ///
    /// Errors: [`Error::Constant`] for data of the wrong length and for what the source refuses.
    pub fn tensor(&self, name: &str) -> Option<Result<Tensor>> {
        let decoder = Decoder {
            source: self.source,
            pool: &self.pool,
        };
        let constant = self.known.get(name)?;
        Some(constant.decoded(&decoder).map(Tensor::from))
    }
}
