//! An op bound to its row: parameters checked, typed access to operands.

use super::{Default, Operand, Operands, Opset, Param, Row, Site};
use crate::{DType, Error, Literal, Result, TensorType, Value, ValueData, ValueType};
use std::collections::BTreeMap;

/// What an inference function sees.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    site: &'a Site<'a>,
    inputs: BTreeMap<&'a str, Vec<Operand<'a>>>,
    opset: Opset,
}

impl<'a> Context<'a> {
    /// Checks presence, names, number of operands, constness, dtypes and the dtype classes.
    pub(crate) fn bind(site: &'a Site<'a>, row: &'static Row, opset: Opset) -> Result<Self> {
        let mut inputs = site.inputs.clone();
        if row.operands == Operands::Attributes {
            for (name, value) in site.attributes.iter().filter(|(n, _)| *n != "name") {
                let operand = Operand {
                    ty: &value.ty,
                    value: Some(value),
                    constant: true,
                };
                if inputs.insert(name, vec![operand]).is_some() {
                    return Err(Self {
                        site,
                        inputs,
                        opset,
                    }
                    .wrong(name, "one value", "both an input and an attribute"));
                }
            }
        }
        let this = Self {
            site,
            inputs,
            opset,
        };
        for name in this.inputs.keys() {
            if row.param(name).is_none() {
                let known: Vec<String> =
                    row.params.iter().map(|p| format!("`{}`", p.name)).collect();
                let expected = format!("one of the parameters {}", known.join(", "));
                return Err(this.wrong(name, &expected, "an unknown parameter"));
            }
        }
        let mut classes: BTreeMap<char, (&str, DType)> = BTreeMap::new();
        for param in row.params {
            this.check(param, &mut classes)?;
        }
        Ok(this)
    }

    fn check(
        &self,
        param: &'static Param,
        classes: &mut BTreeMap<char, (&'a str, DType)>,
    ) -> Result<()> {
        let operands = match self.inputs.get(param.name) {
            Some(operands) => operands,
            None if param.default == Default::Required => {
                return Err(self.wrong(
                    param.name,
                    "a value",
                    "nothing: the parameter is required",
                ));
            }
            None => return Ok(()),
        };
        if operands.is_empty() || (operands.len() > 1 && !param.variadic) {
            let expected = if param.variadic {
                "at least one operand"
            } else {
                "one operand"
            };
            return Err(self.wrong(param.name, expected, &operands.len().to_string()));
        }
        for operand in operands {
            if param.constant && !operand.constant {
                return Err(self.wrong(
                    param.name,
                    "a constant",
                    &format!("a variable of type {}", operand.ty),
                ));
            }
            if param.domain.types.is_empty() {
                continue;
            }
            let words = || -> String {
                let words: Vec<&str> = param.domain.types.iter().map(|t| t.word()).collect();
                words.join(", ")
            };
            let dtype = match operand.ty.as_tensor() {
                Some(t) if param.domain.types.contains(&t.dtype) => t.dtype,
                _ => {
                    let expected = format!("a tensor of dtype {}", words());
                    return Err(self.wrong(param.name, &expected, &operand.ty.to_string()));
                }
            };
            let Some(class) = param.domain.class else {
                continue;
            };
            let (first, want) = *classes.entry(class).or_insert((param.name, dtype));
            if want != dtype {
                let expected = format!("dtype {want} as parameter `{first}`");
                return Err(self.wrong(param.name, &expected, &operand.ty.to_string()));
            }
        }
        Ok(())
    }

    /// Opset of the function.
    pub(crate) fn opset(&self) -> Opset {
        self.opset
    }

    /// Op name.
    pub(crate) fn kind(&self) -> &str {
        self.site.kind
    }

    /// An error about the op as a whole.
    pub(crate) fn fail(&self, reason: impl Into<String>) -> Error {
        Error::Op {
            op: self.site.op.into(),
            kind: self.site.kind.into(),
            reason: reason.into(),
        }
    }

    /// An error about one parameter.
    pub(crate) fn wrong(&self, parameter: &str, expected: &str, found: &str) -> Error {
        Error::Parameter {
            op: self.site.op.into(),
            kind: self.site.kind.into(),
            parameter: parameter.into(),
            expected: expected.into(),
            found: found.into(),
        }
    }

    /// An attribute of the op.
    pub(crate) fn attribute(&self, name: &str) -> Option<&'a Value> {
        self.site.attributes.get(name)
    }

    /// Operands of a parameter; none when it is left out.
    pub(crate) fn operands(&self, parameter: &str) -> &[Operand<'a>] {
        self.inputs.get(parameter).map_or(&[], Vec::as_slice)
    }

    /// The operand of a parameter, if it is given.
    pub(crate) fn operand(&self, parameter: &str) -> Option<Operand<'a>> {
        self.operands(parameter).first().copied()
    }

    /// Whether a parameter is given.
    pub(crate) fn has(&self, parameter: &str) -> bool {
        self.inputs.contains_key(parameter)
    }

    /// Type of any kind of a required parameter.
    pub(crate) fn ty(&self, parameter: &str) -> Result<&'a ValueType> {
        self.operand(parameter)
            .map(|o| o.ty)
            .ok_or_else(|| self.wrong(parameter, "a value", "nothing"))
    }

    /// Tensor type of a required parameter.
    pub(crate) fn tensor(&self, parameter: &str) -> Result<&'a TensorType> {
        self.as_tensor(parameter, self.ty(parameter)?)
    }

    /// Tensor type of a parameter that may be left out.
    pub(crate) fn optional_tensor(&self, parameter: &str) -> Result<Option<&'a TensorType>> {
        self.operand(parameter)
            .map(|o| self.as_tensor(parameter, o.ty))
            .transpose()
    }

    /// Tensor types of a variadic parameter.
    pub(crate) fn tensors(&self, parameter: &str) -> Result<Vec<&'a TensorType>> {
        self.operands(parameter)
            .iter()
            .map(|o| self.as_tensor(parameter, o.ty))
            .collect()
    }

    fn as_tensor(&self, parameter: &str, ty: &'a ValueType) -> Result<&'a TensorType> {
        ty.as_tensor()
            .ok_or_else(|| self.wrong(parameter, "a tensor", &ty.to_string()))
    }

    /// Tensor type of a required parameter with this rank.
    pub(crate) fn ranked(&self, parameter: &str, rank: usize) -> Result<&'a TensorType> {
        let t = self.tensor(parameter)?;
        if t.rank() == rank {
            return Ok(t);
        }
        Err(self.wrong(parameter, &format!("rank {rank}"), &t.to_string()))
    }

    /// Elements of an integer constant, scalar or vector. `None` when it is left out or is a variable.
    ///
    /// Errors: a constant whose elements are not immediate integers.
    pub(crate) fn known_ints(&self, parameter: &str) -> Result<Option<Vec<i64>>> {
        let Some(value) = self.operand(parameter).and_then(|o| o.value) else {
            return Ok(None);
        };
        elements(value).map(Some).ok_or_else(|| {
            self.wrong(
                parameter,
                "immediate integers of rank 0 or 1",
                &value.ty.to_string(),
            )
        })
    }

    /// Elements of an integer constant with exactly `n` elements, or `default` repeated.
    pub(crate) fn ints(&self, parameter: &str, n: usize, default: i64) -> Result<Vec<i64>> {
        let Some(v) = self.known_ints(parameter)? else {
            return Ok(vec![default; n]);
        };
        if v.len() == n {
            return Ok(v);
        }
        Err(self.wrong(parameter, &format!("{n} elements"), &format!("{v:?}")))
    }

    /// Elements of a bool constant with exactly `n` elements, or all false.
    pub(crate) fn flags(&self, parameter: &str, n: usize) -> Result<Vec<bool>> {
        let Some(value) = self.operand(parameter).and_then(|o| o.value) else {
            return Ok(vec![false; n]);
        };
        match value.as_bools() {
            Some(v) if v.len() == n => Ok(v.to_vec()),
            _ => Err(self.wrong(parameter, &format!("{n} bools"), &value.ty.to_string())),
        }
    }

    /// An integer scalar, or `default` when the parameter is left out.
    pub(crate) fn int(&self, parameter: &str, default: i64) -> Result<i64> {
        match self.known_ints(parameter)?.as_deref() {
            None => Ok(default),
            Some([i]) => Ok(*i),
            Some(v) => Err(self.wrong(parameter, "one integer", &format!("{v:?}"))),
        }
    }

    /// A bool scalar, or `default` when the parameter is left out.
    pub(crate) fn flag(&self, parameter: &str, default: bool) -> Result<bool> {
        let Some(value) = self.operand(parameter).and_then(|o| o.value) else {
            return Ok(default);
        };
        match value.as_bools() {
            Some([b]) => Ok(*b),
            _ => Err(self.wrong(parameter, "one bool", &value.ty.to_string())),
        }
    }

    /// A string, or `default` when the parameter is left out.
    pub(crate) fn string(&self, parameter: &str, default: &'a str) -> Result<&'a str> {
        let Some(value) = self.operand(parameter).and_then(|o| o.value) else {
            return Ok(default);
        };
        value
            .as_string()
            .ok_or_else(|| self.wrong(parameter, "one string", &value.ty.to_string()))
    }

    /// A string out of a list; the first is the default.
    pub(crate) fn choice(&self, parameter: &str, words: &[&'static str]) -> Result<&'static str> {
        let first = words.first().copied().unwrap_or_default();
        let given = self.string(parameter, first)?;
        words.iter().copied().find(|w| *w == given).ok_or_else(|| {
            let list: Vec<String> = words.iter().map(|w| format!("`{w}`")).collect();
            self.wrong(
                parameter,
                &format!("one of {}", list.join(", ")),
                &format!("`{given}`"),
            )
        })
    }
}

/// Integer elements of an immediate tensor of rank 0 or 1.
fn elements(value: &Value) -> Option<Vec<i64>> {
    let t = value.ty.as_tensor()?;
    if t.rank() > 1 {
        return None;
    }
    match (&value.data, t.dtype) {
        (ValueData::Tensor(Literal::Ints(v)), _) => Some(v.iter().map(|&i| i64::from(i)).collect()),
        (ValueData::Tensor(Literal::LongInts(v)), _) => Some(v.clone()),
        (ValueData::Tensor(Literal::Bytes(b)), DType::UInt8) => {
            Some(b.iter().map(|&i| i64::from(i)).collect())
        }
        (ValueData::Tensor(Literal::Bytes(b)), DType::Int8) => {
            Some(b.iter().map(|&i| i64::from(i.cast_signed())).collect())
        }
        (ValueData::Tensor(Literal::Bytes(b)), DType::UInt32) => Some(
            b.chunks_exact(4)
                .map(|c| i64::from(u32::from_le_bytes([c[0], c[1], c[2], c[3]])))
                .collect(),
        ),
        _ => None,
    }
}
