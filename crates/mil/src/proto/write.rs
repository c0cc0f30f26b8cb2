//! Program to messages.

use super::{deeper, wrong};
use crate::{
    Binding, Block, Dim, Error, Function, Literal, NamedType, Operation, Program, Result,
    TensorType, Value, ValueData, ValueType,
};
use gesso_coreml::proto::mil_spec::{
    self as spec, argument, dictionary_value, dimension, tensor_value, value, value_type,
};
use std::collections::BTreeMap;

/// The message of a program.
///
/// Errors: [`Error::External`] for a value that has no place in a weight file yet, [`Error::Proto`] for nesting beyond
/// [`crate::MAX_DEPTH`] and sizes that the format cannot hold.
pub fn to_proto(p: &Program) -> Result<spec::Program> {
    let mut functions = BTreeMap::new();
    for (name, f) in &p.functions {
        functions.insert(name.clone(), function(&format!("function `{name}`"), f)?);
    }
    Ok(spec::Program {
        version: p.version,
        functions,
        doc_string: String::new(),
        attributes: attributes("program", &p.attributes)?,
    })
}

/// Rank as the format writes it: -1 when one dimension stands for any number of them.
pub(super) fn rank(dims: &[Dim]) -> Option<i64> {
    match dims {
        [Dim::Unknown { variadic: true }] => Some(-1),
        _ => i64::try_from(dims.len()).ok(),
    }
}

fn function(place: &str, f: &Function) -> Result<spec::Function> {
    let mut blocks = BTreeMap::new();
    for (opset, b) in &f.blocks {
        blocks.insert(opset.clone(), block(place, b, 0)?);
    }
    Ok(spec::Function {
        inputs: named(place, &f.inputs)?,
        opset: f.opset.clone(),
        block_specializations: blocks,
        attributes: attributes(place, &f.attributes)?,
    })
}

fn block(place: &str, b: &Block, depth: usize) -> Result<spec::Block> {
    let depth = deeper(place, depth)?;
    let operations = b.operations.iter().map(|o| operation(place, o, depth));
    Ok(spec::Block {
        inputs: named(place, &b.inputs)?,
        outputs: b.outputs.clone(),
        operations: operations.collect::<Result<_>>()?,
        attributes: attributes(place, &b.attributes)?,
    })
}

fn named(place: &str, types: &[NamedType]) -> Result<Vec<spec::NamedValueType>> {
    types
        .iter()
        .map(|t| {
            Ok(spec::NamedValueType {
                name: t.name.clone(),
                r#type: Some(value_type(
                    &format!("{place}, variable `{}`", t.name),
                    &t.ty,
                    0,
                )?),
            })
        })
        .collect()
}

fn operation(place: &str, o: &Operation, depth: usize) -> Result<spec::Operation> {
    let name = o
        .outputs
        .first()
        .map(|v| v.name.as_str())
        .unwrap_or_default();
    let here = format!("{place}, op `{name}` (`{}`)", o.kind);
    let mut inputs = BTreeMap::new();
    for (parameter, bindings) in &o.inputs {
        let arguments = bindings
            .iter()
            .map(|b| binding(&here, b))
            .collect::<Result<_>>()?;
        inputs.insert(parameter.clone(), spec::Argument { arguments });
    }
    Ok(spec::Operation {
        r#type: o.kind.clone(),
        inputs,
        outputs: named(place, &o.outputs)?,
        blocks: o
            .blocks
            .iter()
            .map(|b| block(&here, b, depth))
            .collect::<Result<_>>()?,
        attributes: attributes(&here, &o.attributes)?,
    })
}

fn binding(place: &str, b: &Binding) -> Result<argument::Binding> {
    let binding = match b {
        Binding::Name(name) => argument::binding::Binding::Name(name.clone()),
        Binding::Value(v) => argument::binding::Binding::Value(self::value(place, v, 0)?),
    };
    Ok(argument::Binding {
        binding: Some(binding),
    })
}

fn attributes(place: &str, map: &BTreeMap<String, Value>) -> Result<BTreeMap<String, spec::Value>> {
    map.iter()
        .map(|(name, v)| Ok((name.clone(), value(place, v, 0)?)))
        .collect()
}

fn value(place: &str, v: &Value, depth: usize) -> Result<spec::Value> {
    let depth = deeper(place, depth)?;
    let data = match &v.data {
        ValueData::Blob { file, offset } => value::Value::BlobFileValue(value::BlobFileValue {
            file_name: file.clone(),
            offset: *offset,
        }),
        ValueData::External { key } => {
            return Err(Error::External {
                place: place.into(),
                key: key.clone(),
            });
        }
        data => value::Value::ImmediateValue(value::ImmediateValue {
            value: Some(immediate(place, data, depth)?),
        }),
    };
    Ok(spec::Value {
        doc_string: String::new(),
        r#type: Some(value_type(place, &v.ty, 0)?),
        value: Some(data),
    })
}

fn immediate(place: &str, data: &ValueData, depth: usize) -> Result<value::immediate_value::Value> {
    use value::immediate_value::Value as I;
    let values = |v: &[Value]| -> Result<Vec<spec::Value>> {
        v.iter().map(|v| value(place, v, depth)).collect()
    };
    Ok(match data {
        ValueData::Tensor(l) => I::Tensor(spec::TensorValue {
            value: Some(literal(l)),
        }),
        ValueData::Tuple(v) => I::Tuple(spec::TupleValue { values: values(v)? }),
        ValueData::List(v) => I::List(spec::ListValue { values: values(v)? }),
        ValueData::Dictionary(pairs) => {
            let mut out = Vec::with_capacity(pairs.len());
            for (key, entry) in pairs {
                out.push(dictionary_value::KeyValuePair {
                    key: Some(value(place, key, depth)?),
                    value: Some(value(place, entry, depth)?),
                });
            }
            I::Dictionary(spec::DictionaryValue { values: out })
        }
        ValueData::Blob { .. } | ValueData::External { .. } => {
            return Err(wrong(
                place,
                "expected an immediate value, found a reference",
            ));
        }
    })
}

fn literal(l: &Literal) -> tensor_value::Value {
    use tensor_value::{
        RepeatedBools, RepeatedBytes, RepeatedDoubles, RepeatedFloats, RepeatedInts,
        RepeatedLongInts, RepeatedStrings, Value as T,
    };
    match l {
        Literal::Floats(v) => T::Floats(RepeatedFloats { values: v.clone() }),
        Literal::Doubles(v) => T::Doubles(RepeatedDoubles { values: v.clone() }),
        Literal::Ints(v) => T::Ints(RepeatedInts { values: v.clone() }),
        Literal::LongInts(v) => T::LongInts(RepeatedLongInts { values: v.clone() }),
        Literal::Bools(v) => T::Bools(RepeatedBools { values: v.clone() }),
        Literal::Strings(v) => T::Strings(RepeatedStrings { values: v.clone() }),
        Literal::Bytes(v) => T::Bytes(RepeatedBytes { values: v.clone() }),
    }
}

fn value_type(place: &str, t: &ValueType, depth: usize) -> Result<spec::ValueType> {
    use value_type::Type as T;
    let depth = deeper(place, depth)?;
    let inner = |t: &ValueType| -> Result<Option<Box<spec::ValueType>>> {
        Ok(Some(Box::new(value_type(place, t, depth)?)))
    };
    let kind = match t {
        ValueType::Tensor(t) => T::TensorType(tensor_type(place, t)?),
        ValueType::List(t, length) => T::ListType(Box::new(spec::ListType {
            r#type: inner(t)?,
            length: Some(dim(place, *length)?),
        })),
        ValueType::Tuple(types) => T::TupleType(spec::TupleType {
            types: types
                .iter()
                .map(|t| value_type(place, t, depth))
                .collect::<Result<_>>()?,
        }),
        ValueType::Dictionary(k, v) => T::DictionaryType(Box::new(spec::DictionaryType {
            key_type: inner(k)?,
            value_type: inner(v)?,
        })),
        ValueType::State(t) => T::StateType(Box::new(spec::StateType {
            wrapped_type: inner(t)?,
        })),
    };
    Ok(spec::ValueType { r#type: Some(kind) })
}

fn tensor_type(place: &str, t: &TensorType) -> Result<spec::TensorType> {
    Ok(spec::TensorType {
        data_type: t.dtype.proto(),
        rank: rank(&t.dims).ok_or_else(|| wrong(place, "the rank is too large"))?,
        dimensions: t
            .dims
            .iter()
            .map(|d| dim(place, *d))
            .collect::<Result<_>>()?,
        attributes: BTreeMap::new(),
    })
}

fn dim(place: &str, d: Dim) -> Result<spec::Dimension> {
    let dimension = match d {
        Dim::Fixed(n) => dimension::Dimension::Constant(dimension::ConstantDimension {
            size: u64::try_from(n)
                .map_err(|_| wrong(place, format!("dimension {n} is too large")))?,
        }),
        Dim::Unknown { variadic } => {
            dimension::Dimension::Unknown(dimension::UnknownDimension { variadic })
        }
    };
    Ok(spec::Dimension {
        dimension: Some(dimension),
    })
}
