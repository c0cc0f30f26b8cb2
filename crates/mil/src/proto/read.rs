//! Messages to program.

use super::{deeper, wrong};
use crate::{
    Binding, Block, DType, Dim, Function, Literal, NamedType, Operation, Program, Result,
    TensorType, Value, ValueData, ValueType,
};
use gesso_coreml::proto::mil_spec::{
    self as spec, argument, dimension, tensor_value, value, value_type,
};
use gesso_coreml::proto::specification::{Model, model};
use std::collections::BTreeMap;

/// The program of a model.
///
/// Errors: [`Error::Proto`] when the model holds no ML Program, and those of [`from_proto`].
pub fn from_model(model: &Model) -> Result<Program> {
    match &model.r#type {
        Some(model::Type::MlProgram(p)) => from_proto(p),
        _ => Err(wrong(
            "model",
            "expected an ML Program, found another model kind",
        )),
    }
}

/// A program from its message.
///
/// Types are taken as declared and literals as stored; whether they fit is the business of [`crate::verify`].
///
/// Errors: [`Error::Proto`] for doc strings and tensor type attributes (the program cannot hold them), missing members,
/// unknown dtypes, a rank that is not the number of dimensions, nesting beyond [`crate::MAX_DEPTH`].
pub fn from_proto(p: &spec::Program) -> Result<Program> {
    no_doc("program", &p.doc_string)?;
    let mut functions = BTreeMap::new();
    for (name, f) in &p.functions {
        functions.insert(name.clone(), function(&format!("function `{name}`"), f)?);
    }
    Ok(Program {
        version: p.version,
        functions,
        attributes: attributes("program", &p.attributes, 0)?,
    })
}

fn no_doc(place: &str, doc: &str) -> Result<()> {
    if doc.is_empty() {
        return Ok(());
    }
    Err(wrong(place, "expected no doc string, found one"))
}

fn member<'a, T>(place: &str, what: &str, member: Option<&'a T>) -> Result<&'a T> {
    member.ok_or_else(|| wrong(place, format!("expected {what}, found none")))
}

fn function(place: &str, f: &spec::Function) -> Result<Function> {
    let mut blocks = BTreeMap::new();
    for (opset, b) in &f.block_specializations {
        blocks.insert(opset.clone(), block(place, b, 0)?);
    }
    Ok(Function {
        inputs: named(place, &f.inputs)?,
        opset: f.opset.clone(),
        blocks,
        attributes: attributes(place, &f.attributes, 0)?,
    })
}

fn block(place: &str, b: &spec::Block, depth: usize) -> Result<Block> {
    let depth = deeper(place, depth)?;
    let operations = b.operations.iter().map(|o| operation(place, o, depth));
    Ok(Block {
        inputs: named(place, &b.inputs)?,
        outputs: b.outputs.clone(),
        operations: operations.collect::<Result<_>>()?,
        attributes: attributes(place, &b.attributes, 0)?,
    })
}

fn named(place: &str, types: &[spec::NamedValueType]) -> Result<Vec<NamedType>> {
    types
        .iter()
        .map(|t| {
            let place = format!("{place}, variable `{}`", t.name);
            Ok(NamedType {
                name: t.name.clone(),
                ty: value_type(&place, member(&place, "a type", t.r#type.as_ref())?, 0)?,
            })
        })
        .collect()
}

fn operation(place: &str, o: &spec::Operation, depth: usize) -> Result<Operation> {
    let name = o
        .outputs
        .first()
        .map(|v| v.name.as_str())
        .unwrap_or_default();
    let here = format!("{place}, op `{name}` (`{}`)", o.r#type);
    let mut inputs = BTreeMap::new();
    for (parameter, argument) in &o.inputs {
        let place = format!("{here}, parameter `{parameter}`");
        let bindings = argument.arguments.iter().map(|b| binding(&place, b));
        inputs.insert(parameter.clone(), bindings.collect::<Result<_>>()?);
    }
    Ok(Operation {
        kind: o.r#type.clone(),
        inputs,
        outputs: named(place, &o.outputs)?,
        blocks: o
            .blocks
            .iter()
            .map(|b| block(&here, b, depth))
            .collect::<Result<_>>()?,
        attributes: attributes(&here, &o.attributes, 0)?,
    })
}

fn binding(place: &str, b: &argument::Binding) -> Result<Binding> {
    Ok(
        match member(place, "a name or a value", b.binding.as_ref())? {
            argument::binding::Binding::Name(name) => Binding::Name(name.clone()),
            argument::binding::Binding::Value(v) => Binding::Value(self::value(place, v, 0)?),
        },
    )
}

fn attributes(
    place: &str,
    map: &BTreeMap<String, spec::Value>,
    depth: usize,
) -> Result<BTreeMap<String, Value>> {
    map.iter()
        .map(|(name, v)| {
            let place = format!("{place}, attribute `{name}`");
            Ok((name.clone(), value(&place, v, depth)?))
        })
        .collect()
}

fn value(place: &str, v: &spec::Value, depth: usize) -> Result<Value> {
    let depth = deeper(place, depth)?;
    no_doc(place, &v.doc_string)?;
    let ty = value_type(place, member(place, "a type", v.r#type.as_ref())?, 0)?;
    let data = match member(place, "a literal or a blob", v.value.as_ref())? {
        value::Value::BlobFileValue(b) => ValueData::Blob {
            file: b.file_name.clone(),
            offset: b.offset,
        },
        value::Value::ImmediateValue(i) => immediate(place, i, depth)?,
    };
    Ok(Value { ty, data })
}

fn immediate(place: &str, i: &value::ImmediateValue, depth: usize) -> Result<ValueData> {
    use value::immediate_value::Value as I;
    let values = |v: &[spec::Value]| -> Result<Vec<Value>> {
        v.iter().map(|v| value(place, v, depth)).collect()
    };
    Ok(
        match member(place, "an immediate value", i.value.as_ref())? {
            I::Tensor(t) => ValueData::Tensor(literal(member(
                place,
                "elements of a tensor",
                t.value.as_ref(),
            )?)),
            I::Tuple(t) => ValueData::Tuple(values(&t.values)?),
            I::List(t) => ValueData::List(values(&t.values)?),
            I::Dictionary(d) => {
                let mut pairs = Vec::with_capacity(d.values.len());
                for pair in &d.values {
                    let key = value(place, member(place, "a key", pair.key.as_ref())?, depth)?;
                    let entry = member(place, "a dictionary value", pair.value.as_ref())?;
                    pairs.push((key, value(place, entry, depth)?));
                }
                ValueData::Dictionary(pairs)
            }
        },
    )
}

fn literal(v: &tensor_value::Value) -> Literal {
    use tensor_value::Value as T;
    match v {
        T::Floats(v) => Literal::Floats(v.values.clone()),
        T::Ints(v) => Literal::Ints(v.values.clone()),
        T::Bools(v) => Literal::Bools(v.values.clone()),
        T::Strings(v) => Literal::Strings(v.values.clone()),
        T::LongInts(v) => Literal::LongInts(v.values.clone()),
        T::Doubles(v) => Literal::Doubles(v.values.clone()),
        T::Bytes(v) => Literal::Bytes(v.values.clone()),
    }
}

fn value_type(place: &str, t: &spec::ValueType, depth: usize) -> Result<ValueType> {
    use value_type::Type as T;
    let depth = deeper(place, depth)?;
    let inner = |what: &str, t: Option<&Box<spec::ValueType>>| -> Result<Box<ValueType>> {
        Ok(Box::new(value_type(place, member(place, what, t)?, depth)?))
    };
    Ok(match member(place, "a kind of type", t.r#type.as_ref())? {
        T::TensorType(t) => ValueType::Tensor(tensor_type(place, t)?),
        T::ListType(l) => ValueType::List(
            inner("an element type", l.r#type.as_ref())?,
            dim(place, member(place, "a length", l.length.as_ref())?)?,
        ),
        T::TupleType(t) => ValueType::Tuple(
            t.types
                .iter()
                .map(|t| value_type(place, t, depth))
                .collect::<Result<_>>()?,
        ),
        T::DictionaryType(d) => ValueType::Dictionary(
            inner("a key type", d.key_type.as_ref())?,
            inner("a value type", d.value_type.as_ref())?,
        ),
        T::StateType(s) => ValueType::State(inner("a wrapped type", s.wrapped_type.as_ref())?),
    })
}

fn tensor_type(place: &str, t: &spec::TensorType) -> Result<TensorType> {
    if let Some(name) = t.attributes.keys().next() {
        return Err(wrong(
            place,
            format!("expected a tensor type without attributes, found `{name}`"),
        ));
    }
    let dtype = DType::from_proto(t.data_type).ok_or_else(|| {
        wrong(
            place,
            format!("expected a data type, found number {}", t.data_type),
        )
    })?;
    let dims: Vec<Dim> = t
        .dimensions
        .iter()
        .map(|d| dim(place, d))
        .collect::<Result<_>>()?;
    if super::write::rank(&dims) != Some(t.rank) {
        return Err(wrong(
            place,
            format!(
                "expected the rank of {} dimensions, found rank {}",
                dims.len(),
                t.rank
            ),
        ));
    }
    Ok(TensorType { dtype, dims })
}

fn dim(place: &str, d: &spec::Dimension) -> Result<Dim> {
    Ok(match member(place, "a dimension", d.dimension.as_ref())? {
        dimension::Dimension::Constant(c) => Dim::Fixed(
            usize::try_from(c.size)
                .map_err(|_| wrong(place, format!("dimension {} is too large", c.size)))?,
        ),
        dimension::Dimension::Unknown(u) => Dim::Unknown {
            variadic: u.variadic,
        },
    })
}
