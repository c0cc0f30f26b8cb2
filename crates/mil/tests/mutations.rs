//! Programs broken in one place each: every mutation is found, and named.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use gesso_coreml::proto::mil_spec as spec;
use gesso_coreml::proto::mil_spec::argument::binding::Binding;
use gesso_coreml::proto::specification::{Model, model};
use gesso_mil::{from_proto, verify};
use prost::Message;

fn sample(name: &str) -> spec::Program {
    let path = gesso_testkit::fixture(&format!(
        "formats/samples/{name}/{name}.mlpackage/Data/com.apple.CoreML/model.mlmodel"
    ));
    let model = Model::decode(std::fs::read(path).unwrap().as_slice()).unwrap();
    match model.r#type {
        Some(model::Type::MlProgram(p)) => p,
        _ => panic!("{name} is no program"),
    }
}

fn main(p: &mut spec::Program) -> &mut spec::Function {
    p.functions.get_mut("main").unwrap()
}

fn block(p: &mut spec::Program) -> &mut spec::Block {
    main(p).block_specializations.values_mut().next().unwrap()
}

/// The first op of a kind.
fn op<'a>(p: &'a mut spec::Program, kind: &str) -> &'a mut spec::Operation {
    block(p)
        .operations
        .iter_mut()
        .find(|o| o.r#type == kind)
        .unwrap()
}

fn output<'a>(p: &'a mut spec::Program, kind: &str) -> &'a mut spec::TensorType {
    tensor(op(p, kind).outputs[0].r#type.as_mut().unwrap())
}

fn tensor(t: &mut spec::ValueType) -> &mut spec::TensorType {
    match t.r#type.as_mut().unwrap() {
        spec::value_type::Type::TensorType(t) => t,
        _ => panic!("no tensor"),
    }
}

fn size(d: &mut spec::Dimension) -> &mut u64 {
    match d.dimension.as_mut().unwrap() {
        spec::dimension::Dimension::Constant(c) => &mut c.size,
        spec::dimension::Dimension::Unknown(_) => panic!("unknown"),
    }
}

fn bound<'a>(p: &'a mut spec::Program, kind: &str, parameter: &str) -> &'a mut Binding {
    let argument = op(p, kind).inputs.get_mut(parameter).unwrap();
    argument.arguments[0].binding.as_mut().unwrap()
}

fn literal<'a>(p: &'a mut spec::Program, kind: &str, parameter: &str) -> &'a mut spec::Value {
    match bound(p, kind, parameter) {
        Binding::Value(v) => v,
        Binding::Name(_) => panic!("a name"),
    }
}

/// The `val` of the const that an op binds to a parameter.
fn constant<'a>(p: &'a mut spec::Program, kind: &str, parameter: &str) -> &'a mut spec::Value {
    let Binding::Name(name) = bound(p, kind, parameter).clone() else {
        panic!("no name")
    };
    let o = block(p)
        .operations
        .iter_mut()
        .find(|o| o.outputs.iter().any(|v| v.name == name));
    o.unwrap().attributes.get_mut("val").unwrap()
}

fn elements(v: &mut spec::Value) -> &mut spec::tensor_value::Value {
    let Some(spec::value::Value::ImmediateValue(i)) = &mut v.value else {
        panic!("not immediate")
    };
    let Some(spec::value::immediate_value::Value::Tensor(t)) = &mut i.value else {
        panic!("no tensor")
    };
    t.value.as_mut().unwrap()
}

/// Renames a variable where it is made and wherever it is used.
fn rename(p: &mut spec::Program, kind: &str, new: &str) {
    let old = op(p, kind).outputs[0].name.clone();
    let b = block(p);
    for o in &mut b.operations {
        for v in o.outputs.iter_mut().filter(|v| v.name == old) {
            v.name = new.into();
        }
        for binding in o.inputs.values_mut().flat_map(|a| &mut a.arguments) {
            if binding.binding == Some(Binding::Name(old.clone())) {
                binding.binding = Some(Binding::Name(new.into()));
            }
        }
    }
}

type Mutation = (&'static str, fn(&mut spec::Program), &'static str);

const FOUND: &[Mutation] = &[
    (
        "unknown op type",
        |p| op(p, "relu").r#type = "relu7".into(),
        "unknown op",
    ),
    (
        "wrong dtype of an output",
        |p| output(p, "relu").data_type = 11,
        "is declared tensor<fp32, [1, 32, 8, 8]>",
    ),
    (
        "wrong dtype of a constexpr output",
        |p| output(p, "constexpr_lut_to_dense").data_type = 11,
        "computed tensor<fp16",
    ),
    (
        "wrong dtype of the last output",
        |p| output(p, "linear").data_type = 11,
        "computed tensor<fp16",
    ),
    (
        "wrong shape of an output",
        |p| *size(&mut output(p, "conv").dimensions[1]) = 33,
        "computed tensor<fp16, [1, 32, 8, 8]>",
    ),
    (
        "wrong shape of the last output",
        |p| *size(&mut output(p, "linear").dimensions[1]) = 25,
        "computed tensor<fp16, [1, 24]>",
    ),
    (
        "wrong dtype of a const",
        |p| output(p, "const").data_type = 23,
        "is declared",
    ),
    (
        "undefined variable",
        |p| *bound(p, "relu", "x") = Binding::Name("nobody".into()),
        "variable `nobody` is not defined",
    ),
    (
        "undefined block output",
        |p| block(p).outputs[0] = "nobody".into(),
        "block output `nobody` is not defined",
    ),
    (
        "ops out of order",
        |p| {
            let ops = &mut block(p).operations;
            let i = ops.iter().position(|o| o.r#type == "relu").unwrap();
            let relu = ops.remove(i);
            ops.insert(0, relu);
        },
        "is used before its definition",
    ),
    (
        "duplicate output name",
        |p| {
            let name = op(p, "conv").outputs[0].name.clone();
            op(p, "relu").outputs[0].name = name;
        },
        "is defined twice",
    ),
    (
        "missing required input",
        |p| drop(op(p, "conv").inputs.remove("weight")),
        "parameter `weight`: expected a value, found nothing",
    ),
    (
        "unknown input name",
        |p| {
            let x = op(p, "relu").inputs["x"].clone();
            op(p, "relu").inputs.insert("y".into(), x);
        },
        "parameter `y`: expected one of the parameters `x`, found an unknown parameter",
    ),
    (
        "bad enum value",
        |p| match elements(constant(p, "conv", "pad_type")) {
            spec::tensor_value::Value::Strings(s) => s.values[0] = "sane".into(),
            _ => panic!("no string"),
        },
        "parameter `pad_type`: expected one of `valid`, `same`, `custom`, `same_lower`, found `sane`",
    ),
    (
        "const length that is not its shape's",
        |p| match elements(constant(p, "conv", "strides")) {
            spec::tensor_value::Value::Ints(v) => v.values.push(1),
            _ => panic!("no ints"),
        },
        "expected 2 elements for tensor<int32, [2]>, found 3",
    ),
    (
        "const elements in another member",
        |p| {
            *elements(constant(p, "conv", "strides")) =
                spec::tensor_value::Value::LongInts(spec::tensor_value::RepeatedLongInts {
                    values: vec![1, 1],
                });
        },
        "are stored as another dtype",
    ),
    (
        "rank 6",
        |p| {
            let t = output(p, "relu");
            t.dimensions.extend([t.dimensions[0]; 2]);
            t.rank = 6;
        },
        "has rank 6, expected at most 5",
    ),
    (
        "opset without a block",
        |p| main(p).opset = "CoreML7".into(),
        "expected a block for opset `CoreML7`, found none",
    ),
    (
        "unknown opset",
        |p| {
            main(p).opset = "CoreML99".into();
            let blocks = &mut main(p).block_specializations;
            let (_, b) = blocks.pop_first().unwrap();
            blocks.insert("CoreML99".into(), b);
        },
        "expected a known opset, found `CoreML99`",
    ),
    (
        "constexpr of iOS18 in the opset of iOS16",
        |p| {
            main(p).opset = "CoreML6".into();
            let blocks = &mut main(p).block_specializations;
            let (_, b) = blocks.pop_first().unwrap();
            blocks.insert("CoreML6".into(), b);
        },
        "(`constexpr_lut_to_dense`), parameter `indices`: expected a tensor of dtype uint8",
    ),
    (
        "table with the wrong number of entries",
        |p| {
            *size(
                &mut tensor(
                    literal(p, "constexpr_lut_to_dense", "lut")
                        .r#type
                        .as_mut()
                        .unwrap(),
                )
                .dimensions[4],
            ) = 15
        },
        "parameter `lut`: expected 16 entries for uint4 codes",
    ),
    (
        "table with the wrong number of groups",
        |p| {
            *size(
                &mut tensor(
                    literal(p, "constexpr_lut_to_dense", "lut")
                        .r#type
                        .as_mut()
                        .unwrap(),
                )
                .dimensions[0],
            ) = 5
        },
        "parameter `lut`: expected axes that divide [32, 16, 3, 3], found [5, 1, 1, 1]",
    ),
    (
        "program version 2",
        |p| p.version = 2,
        "expected program version 1, found 2",
    ),
    (
        "reserved word",
        |p| rename(p, "relu", "tensor"),
        "variable name `tensor` is a reserved word",
    ),
    (
        "identifier that is none",
        |p| rename(p, "relu", "1a-b"),
        "variable name `1a-b` does not match",
    ),
    (
        "no function",
        |p| p.functions.clear(),
        "expected at least one function, found none",
    ),
    (
        "no block output",
        |p| block(p).outputs.clear(),
        "expected at least one block output",
    ),
    (
        "variable where a constant is needed",
        |p| *bound(p, "linear", "weight") = Binding::Name(op(p, "cast").outputs[0].name.clone()),
        "parameter `weight`: expected a constant, found a variable",
    ),
    (
        "operands of two float dtypes",
        |p| {
            let input = main(p).inputs[0].name.clone();
            *bound(p, "conv", "x") = Binding::Name(input);
        },
        "parameter `weight`: expected dtype fp32 as parameter `x`",
    ),
];

#[test]
fn every_mutation_is_found() {
    let good = sample("lut4_grouped8_ios18");
    assert_eq!(verify(&from_proto(&good).unwrap()), []);
    for (name, mutate, text) in FOUND {
        let mut bad = good.clone();
        mutate(&mut bad);
        let findings = verify(&from_proto(&bad).unwrap());
        assert!(
            findings.iter().any(|f| f.text.contains(text)),
            "{name}: no finding with `{text}` in {findings:#?}"
        );
    }
}

const REFUSED: &[Mutation] = &[
    (
        "rank that is not the dimensions'",
        |p| output(p, "relu").rank = 5,
        "expected the rank of 4 dimensions, found rank 5",
    ),
    (
        "negative rank",
        |p| output(p, "relu").rank = -1,
        "found rank -1",
    ),
    (
        "unknown data type",
        |p| output(p, "relu").data_type = 99,
        "expected a data type, found number 99",
    ),
    (
        "doc string",
        |p| p.doc_string = "why".into(),
        "expected no doc string, found one",
    ),
    (
        "doc string of a value",
        |p| constant(p, "conv", "strides").doc_string = "why".into(),
        "expected no doc string, found one",
    ),
    (
        "output without a type",
        |p| op(p, "relu").outputs[0].r#type = None,
        "expected a type, found none",
    ),
    (
        "dimension without a size",
        |p| output(p, "relu").dimensions[0].dimension = None,
        "expected a dimension, found none",
    ),
    (
        "binding of nothing",
        |p| op(p, "relu").inputs.get_mut("x").unwrap().arguments[0].binding = None,
        "expected a name or a value, found none",
    ),
    (
        "value without data",
        |p| constant(p, "conv", "strides").value = None,
        "expected a literal or a blob, found none",
    ),
    (
        "attribute of a tensor type",
        |p| {
            let v = constant(p, "conv", "strides").clone();
            output(p, "relu").attributes.insert("layout".into(), v);
        },
        "expected a tensor type without attributes, found `layout`",
    ),
    (
        "deep nesting of types",
        |p| {
            let mut t = op(p, "relu").outputs[0].r#type.clone().unwrap();
            for _ in 0..100 {
                t = spec::ValueType {
                    r#type: Some(spec::value_type::Type::StateType(Box::new(
                        spec::StateType {
                            wrapped_type: Some(Box::new(t)),
                        },
                    ))),
                };
            }
            op(p, "relu").outputs[0].r#type = Some(t);
        },
        "nested levels, found more",
    ),
];

#[test]
fn what_a_program_cannot_hold_is_refused() {
    let good = sample("lut4_grouped8_ios18");
    for (name, mutate, text) in REFUSED {
        let mut bad = good.clone();
        mutate(&mut bad);
        let error = from_proto(&bad).unwrap_err().to_string();
        assert!(error.contains(text), "{name}: `{error}` lacks `{text}`");
    }
}

#[test]
fn what_apple_takes_is_taken() {
    let mut p = sample("base_fp16_ios18");
    for o in &mut block(&mut p).operations {
        o.attributes.remove("name");
    }
    assert_eq!(verify(&from_proto(&p).unwrap()), []);

    let mut p = sample("base_fp16_ios18");
    main(&mut p).opset = "CoreML7".into();
    let (_, b) = main(&mut p).block_specializations.pop_first().unwrap();
    main(&mut p)
        .block_specializations
        .insert("CoreML7".into(), b);
    assert_eq!(verify(&from_proto(&p).unwrap()), []);
}
