//! Inference of single ops: shapes with unknown sizes, and what each op refuses.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod refusals;
mod shapes;

use gesso_mil::ops::{self, Operand, Site};
use gesso_mil::{DType, Dim, Literal, Result, TensorType, Value, ValueType};
use std::collections::BTreeMap;

/// What a parameter is given.
pub(crate) enum Given {
    Variable(ValueType),
    Constant(Value),
    Variables(Vec<ValueType>),
}

/// A tensor type from its text: `fp16 2 ? 77`.
pub(crate) fn ty(text: &str) -> ValueType {
    let mut words = text.split(' ');
    let dtype = DType::from_word(words.next().unwrap()).unwrap();
    let dims = words
        .map(|w| match w {
            "?" => Dim::Unknown { variadic: false },
            n => Dim::Fixed(n.parse().unwrap()),
        })
        .collect();
    ValueType::Tensor(TensorType { dtype, dims })
}

/// A variable.
pub(crate) fn v(text: &str) -> Given {
    Given::Variable(ty(text))
}

/// Variables of a variadic parameter.
pub(crate) fn vs(texts: &[&str]) -> Given {
    Given::Variables(texts.iter().map(|t| ty(t)).collect())
}

/// A constant whose elements do not matter.
pub(crate) fn w(text: &str) -> Given {
    let ValueType::Tensor(t) = ty(text) else {
        panic!("no tensor")
    };
    Given::Constant(Value::external(t, "w"))
}

pub(crate) fn i(n: i32) -> Given {
    Given::Constant(Value::int(n))
}

pub(crate) fn ints(n: &[i32]) -> Given {
    Given::Constant(Value::ints(n))
}

pub(crate) fn bools(n: &[bool]) -> Given {
    Given::Constant(Value::bools(n))
}

pub(crate) fn yes() -> Given {
    Given::Constant(Value::bool(true))
}

pub(crate) fn s(text: &str) -> Given {
    Given::Constant(Value::string(text))
}

pub(crate) fn half(x: f32) -> Given {
    Given::Constant(Value::float(DType::Fp16, x))
}

/// A uint32 vector.
pub(crate) fn uints(n: &[u32]) -> Given {
    let bytes = n.iter().flat_map(|x| x.to_le_bytes()).collect();
    Given::Constant(Value::tensor(
        TensorType::new(DType::UInt32, &[n.len()]),
        Literal::Bytes(bytes),
    ))
}

/// Output types of an op.
pub(crate) fn infer(opset: &str, kind: &str, given: &[(&str, Given)]) -> Result<Vec<ValueType>> {
    let mut inputs = BTreeMap::new();
    for (parameter, g) in given {
        let variable = |ty| Operand {
            ty,
            value: None,
            constant: false,
        };
        let operands = match g {
            Given::Variable(ty) => vec![variable(ty)],
            Given::Variables(types) => types.iter().map(variable).collect(),
            Given::Constant(value) => vec![Operand {
                ty: &value.ty,
                value: Some(value),
                constant: true,
            }],
        };
        inputs.insert(*parameter, operands);
    }
    ops::infer(&Site {
        op: "y",
        kind,
        opset,
        inputs,
        attributes: &BTreeMap::new(),
    })
}
