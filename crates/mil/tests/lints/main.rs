//! Every checked lint finds what it is for, in a package that is clean but for one change.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod edit;

use edit::*;
use gesso_coreml::proto::mil_spec as spec;
use gesso_coreml::proto::mil_spec::argument::binding::Binding;
use gesso_coreml::proto::specification::array_feature_type::DefaultOptionalValue;
use gesso_coreml::proto::specification::{ImageFeatureType, Model, feature_type};
use gesso_mil::lints::{self, Check, Facts};
use std::collections::BTreeSet;

const FLOAT16: i32 = 65552;
const FLOAT32: i32 = 65568;
const INT32: i32 = 131_104;

const LUT: &str = "lut4_grouped8_ios18";
const OLD: &str = "base_fp16_ios16";
const NEW: &str = "base_fp16_ios18";

type Case = (
    &'static str,
    &'static str,
    &'static str,
    fn(&mut Model, &mut Facts),
);

/// Rule, what is changed, sample, change.
const CASES: &[Case] = &[
    ("L1", "no version", LUT, |m, _| m.specification_version = 0),
    ("L2", "version 11", LUT, |m, _| m.specification_version = 11),
    ("L2", "version 4", OLD, |m, _| m.specification_version = 4),
    ("L3", "opset of iOS 18 under version 8", LUT, |m, _| {
        m.specification_version = 8
    }),
    ("L3", "unknown opset", LUT, |m, _| opset(m, "CoreML99")),
    (
        "L3",
        "opset string without a block of that name",
        LUT,
        |m, _| main(m).opset = "CoreML7".into(),
    ),
    ("L4", "unknown op type", LUT, |m, _| {
        op(m, "relu").r#type = "relu7".into()
    }),
    ("L4", "missing required input", LUT, |m, _| {
        drop(op(m, "conv").inputs.remove("weight"))
    }),
    ("L4", "unknown input name", LUT, |m, _| {
        let x = op(m, "relu").inputs["x"].clone();
        op(m, "relu").inputs.insert("y".into(), x);
    }),
    ("L4", "constexpr from iOS18 under spec 7", LUT, |m, _| {
        m.specification_version = 7;
        opset(m, "CoreML6");
    }),
    ("L5", "identifier `1a-b`", LUT, |m, _| {
        rename(m, "relu", "1a-b")
    }),
    ("L6", "variable named `tensor`", LUT, |m, _| {
        rename(m, "relu", "tensor")
    }),
    ("L7", "feature with a dot", LUT, |m, _| {
        input(m).name = "a.b".into()
    }),
    ("L8", "rank 6", LUT, |m, _| {
        let t = output(m, "relu");
        t.dimensions.extend([t.dimensions[0]; 2]);
        t.rank = 6;
    }),
    ("L9", "no input below version 9", OLD, |m, _| {
        m.description.as_mut().unwrap().input.clear()
    }),
    ("L10", "no output", LUT, |m, _| {
        m.description.as_mut().unwrap().output.clear()
    }),
    ("L11", "weight file missing", LUT, |_, f| f.files.clear()),
    ("L11", "weight file is a pointer", LUT, |_, f| {
        f.files.values_mut().for_each(|f| f.pointer = true)
    }),
    ("L12", "weight file of 2 GiB", LUT, |_, f| {
        f.files.values_mut().for_each(|f| f.bytes = 1 << 31)
    }),
    ("L12", "model file of 2 GiB", LUT, |_, f| {
        f.model_bytes = 1 << 31
    }),
    ("L13", "weight file of 4 GiB", LUT, |_, f| {
        f.files.values_mut().for_each(|f| f.bytes = 1 << 32)
    }),
    ("L14", "dtype of record differs", LUT, |m, f| {
        let key = (blob(m).file_name.clone(), blob(m).offset);
        f.records.get_mut(&key).unwrap().as_mut().unwrap().dtype =
            gesso_coreml::blob::BlobDType::Int32;
    }),
    ("L14", "size of record differs", LUT, |m, f| {
        let key = (blob(m).file_name.clone(), blob(m).offset);
        f.records.get_mut(&key).unwrap().as_mut().unwrap().elements += 1;
    }),
    ("L15", "feature without a name", LUT, |m, _| {
        input(m).name.clear()
    }),
    ("L15", "feature without a type", LUT, |m, _| {
        input(m).r#type = None
    }),
    ("L16", "FLOAT16 under version 6", OLD, |m, _| {
        m.specification_version = 6;
        array(input(m)).data_type = FLOAT16;
    }),
    ("L16", "INT8 below version 10", LUT, |m, _| {
        array(input(m)).data_type = 131_080
    }),
    ("L17", "bool input", LUT, |m, _| {
        tensor(main(m).inputs[0].r#type.as_mut().unwrap()).data_type = 1;
    }),
    ("L18", "default not among the shapes", NEW, |m, _| {
        array(input(m)).shape_flexibility = shapes(&[&[1, 16, 9, 9]]);
    }),
    (
        "L18",
        "range that does not hold the default",
        NEW,
        |m, _| {
            array(input(m)).shape_flexibility = ranges(&[(1, 1), (1, 8), (1, 8), (1, 8)]);
        },
    ),
    ("L19", "enumerated and ranged inputs", NEW, |m, _| {
        let mut second = input(m).clone();
        second.name = "second".into();
        array(&mut second).shape_flexibility = ranges(&[(1, 1), (16, 16), (1, 8), (1, 8)]);
        array(input(m)).shape_flexibility = shapes(&[&[1, 16, 8, 8]]);
        m.description.as_mut().unwrap().input.push(second);
    }),
    ("L20", "image without a size", NEW, |m, _| {
        input(m).r#type.as_mut().unwrap().r#type =
            Some(feature_type::Type::ImageType(ImageFeatureType {
                color_space: 20,
                ..Default::default()
            }));
    }),
    ("L21", "int default of a float input", NEW, |m, _| {
        array(input(m)).default_optional_value = Some(DefaultOptionalValue::IntDefaultValue(0));
    }),
    ("L21", "optional output", NEW, |m, _| {
        returned(m).r#type.as_mut().unwrap().is_optional = true
    }),
    ("L22", "FLOAT32 state", "stateful_ios18", |m, _| {
        array(&mut m.description.as_mut().unwrap().state[0]).data_type = FLOAT32;
    }),
    ("L22", "state below version 9", "stateful_ios18", |m, _| {
        m.specification_version = 8
    }),
    (
        "L23",
        "description input with another dtype",
        LUT,
        |m, _| array(input(m)).data_type = INT32,
    ),
    ("L23", "description with another shape", LUT, |m, _| {
        array(input(m)).shape[1] += 1
    }),
    ("L23", "missing input", LUT, |m, _| {
        m.description.as_mut().unwrap().input.clear()
    }),
    ("L23", "other output name", LUT, |m, _| {
        returned(m).name = "other".into()
    }),
    ("L23", "state among the inputs", "stateful_ios18", |m, _| {
        let d = m.description.as_mut().unwrap();
        let mut state = d.state.remove(0);
        let a = array(&mut state).clone();
        state.r#type.as_mut().unwrap().r#type = Some(feature_type::Type::MultiArrayType(a));
        d.input.push(state);
    }),
    (
        "L24",
        "output is what a state was given",
        "stateful_ios18",
        |m, _| {
            let Binding::Name(data) = op(m, "write_state").inputs["data"].arguments[0]
                .binding
                .clone()
                .unwrap()
            else {
                panic!("a literal")
            };
            block(m).outputs[0] = data;
        },
    ),
    ("L25", "state of width 8", "stateful_ios18", |_, _| {}),
    (
        "L26",
        "default function that is none",
        "multifunction_ios18",
        |m, _| {
            m.description.as_mut().unwrap().default_function_name = "main".into();
        },
    ),
    (
        "L26",
        "functions below version 9",
        "multifunction_ios18",
        |m, _| m.specification_version = 8,
    ),
    (
        "L26",
        "features at the top",
        "multifunction_ios18",
        |m, _| {
            let d = m.description.as_mut().unwrap();
            d.input = d.functions[0].input.clone();
        },
    ),
    ("L27", "two functions", "multifunction_ios18", |_, _| {}),
    ("L28", "text that cannot be read", LUT, |_, f| {
        f.text.push("line 3".into())
    }),
    ("L29", "undefined variable", LUT, |m, _| {
        op(m, "relu").inputs.get_mut("x").unwrap().arguments[0].binding =
            Some(Binding::Name("nobody".into()));
    }),
    ("L29", "undefined block output", LUT, |m, _| {
        block(m).outputs[0] = "nobody".into()
    }),
    ("L29", "ops out of order", LUT, |m, _| {
        let ops = &mut block(m).operations;
        let i = ops.iter().position(|o| o.r#type == "relu").unwrap();
        let relu = ops.remove(i);
        ops.insert(0, relu);
    }),
    ("L29", "duplicate output name", LUT, |m, _| {
        let name = op(m, "conv").outputs[0].name.clone();
        op(m, "relu").outputs[0].name = name;
    }),
    ("L30", "wrong dtype on an output", LUT, |m, _| {
        output(m, "relu").data_type = 11
    }),
    ("L30", "wrong dtype on the last output", LUT, |m, _| {
        output(m, "linear").data_type = 11
    }),
    ("L30", "wrong shape on an output", LUT, |m, _| {
        *size(&mut output(m, "conv").dimensions[1]) = 33
    }),
    ("L30", "wrong shape on the last output", LUT, |m, _| {
        *size(&mut output(m, "linear").dimensions[1]) = 25
    }),
    ("L30", "bad enum value", LUT, |m, _| {
        let Binding::Name(n) = op(m, "conv").inputs["pad_type"].arguments[0]
            .binding
            .clone()
            .unwrap()
        else {
            panic!("a literal")
        };
        let o = block(m)
            .operations
            .iter_mut()
            .find(|o| o.outputs.iter().any(|v| v.name == n))
            .unwrap();
        let Some(spec::value::Value::ImmediateValue(i)) =
            &mut o.attributes.get_mut("val").unwrap().value
        else {
            panic!("no literal")
        };
        let Some(spec::value::immediate_value::Value::Tensor(t)) = &mut i.value else {
            panic!("no tensor")
        };
        t.value = Some(spec::tensor_value::Value::Strings(
            spec::tensor_value::RepeatedStrings {
                values: vec!["sane".into()],
            },
        ));
    }),
    (
        "L30",
        "LUT with the wrong number of entries",
        LUT,
        |m, _| {
            *size(&mut operand(m, "constexpr_lut_to_dense", "lut").dimensions[4]) = 15;
        },
    ),
    ("L31", "output that is the input", LUT, |m, _| {
        let name = input(m).name.clone();
        block(m).outputs[0] = name;
    }),
    ("L31", "input that nothing uses", LUT, |m, _| {
        let mut unused = main(m).inputs[0].clone();
        unused.name = "unused".into();
        main(m).inputs.push(unused);
    }),
    ("L32", "variable as weight of `linear`", LUT, |m, _| {
        let x = op(m, "cast").outputs[0].name.clone();
        op(m, "linear").inputs.get_mut("weight").unwrap().arguments[0].binding =
            Some(Binding::Name(x));
    }),
    ("L33", "operands of two float dtypes", LUT, |m, _| {
        let x = main(m).inputs[0].name.clone();
        op(m, "conv").inputs.get_mut("x").unwrap().arguments[0].binding = Some(Binding::Name(x));
    }),
    ("L34", "dimension of 0", LUT, |m, _| {
        *size(&mut output(m, "relu").dimensions[1]) = 0
    }),
    ("L34", "convolution of 65536", LUT, |m, _| {
        *size(&mut output(m, "conv").dimensions[3]) = 65536
    }),
    ("L35", "groups below iOS 18", LUT, |m, _| {
        opset(m, "CoreML7")
    }),
    (
        "L35",
        "3 bits below iOS 18",
        "lut4_pertensor_ios16",
        |m, _| {
            *size(&mut operand(m, "constexpr_lut_to_dense", "lut").dimensions[0]) = 8;
        },
    ),
    (
        "L35",
        "palette with a scale",
        "lut4_grouped8_scale_ios18",
        |_, _| {},
    ),
    ("L36", "LUT with the wrong number of groups", LUT, |m, _| {
        *size(&mut operand(m, "constexpr_lut_to_dense", "lut").dimensions[0]) = 5;
    }),
    (
        "L37",
        "scale longer than its axis",
        "lin8_perchannel_ios16",
        |m, _| {
            *size(&mut operand(m, "constexpr_affine_dequantize", "scale").dimensions[0]) = 7;
        },
    ),
    ("L38", "fp8 constant", "lin8_perchannel_ios18", |m, _| {
        operand(m, "constexpr_blockwise_shift_scale", "data").data_type = 40;
    }),
    ("L41", "FLOAT16 output of width 24", NEW, |m, _| {
        array(returned(m)).data_type = FLOAT16
    }),
    ("L42", "FLOAT16 output for iOS 16", OLD, |m, _| {
        array(returned(m)).data_type = FLOAT16
    }),
    ("L43", "manifest", LUT, |_, f| {
        f.manifest.push("an item is missing".into())
    }),
    ("L44", "opset CoreML7 inside spec 9", NEW, |m, _| {
        opset(m, "CoreML7")
    }),
    ("L45", "op without `name` attribute", LUT, |m, _| {
        drop(op(m, "relu").attributes.remove("name"))
    }),
    ("L46", "rank field not matching dims", LUT, |m, _| {
        output(m, "relu").rank = 5
    }),
    ("L46", "program version 2", LUT, |m, _| {
        program(m).version = 2
    }),
    ("L46", "const length not matching its shape", LUT, |m, _| {
        let Binding::Name(n) = op(m, "conv").inputs["strides"].arguments[0]
            .binding
            .clone()
            .unwrap()
        else {
            panic!("a literal")
        };
        let o = block(m)
            .operations
            .iter_mut()
            .find(|o| o.outputs.iter().any(|v| v.name == n))
            .unwrap();
        let t = tensor(
            o.attributes
                .get_mut("val")
                .unwrap()
                .r#type
                .as_mut()
                .unwrap(),
        );
        *size(&mut t.dimensions[0]) = 3;
    }),
];

#[test]
fn every_change_is_found_by_its_rule() {
    for (id, what, sample, change) in CASES {
        let package = package(sample);
        let (mut model, mut facts) = (package.model.clone(), Facts::of(&package));
        change(&mut model, &mut facts);
        let found = lints::run(&model, &facts);
        assert!(
            found.iter().any(|f| f.id == *id),
            "{id}, {what}: {found:#?}"
        );
    }
}

#[test]
fn every_checked_rule_has_a_case() {
    let cases: BTreeSet<&str> = CASES.iter().map(|c| c.0).collect();
    for lint in lints::all() {
        let checked = matches!(lint.check, Check::Static(_));
        assert_eq!(cases.contains(lint.id), checked, "{}", lint.id);
    }
}

#[test]
fn an_offset_beside_the_record_is_found() {
    let mut package = package(LUT);
    blob(&mut package.model).offset += 64;
    let found = lints::run(&package.model, &Facts::of(&package));
    let [finding] = found.as_slice() else {
        panic!("{found:#?}")
    };
    assert_eq!(finding.id, "L14");
    assert!(finding.text.contains("no record at"), "{finding}");
}
