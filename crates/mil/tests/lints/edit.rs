//! Changing one thing in a package.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use gesso_coreml::package::Package;
use gesso_coreml::proto::mil_spec as spec;
use gesso_coreml::proto::mil_spec::argument::binding::Binding;
use gesso_coreml::proto::specification::array_feature_type::{
    self, EnumeratedShapes, ShapeFlexibility, ShapeRange,
};
use gesso_coreml::proto::specification::{
    ArrayFeatureType, FeatureDescription, Model, SizeRange, StateFeatureType, feature_type, model,
    state_feature_type,
};

pub(crate) fn package(name: &str) -> Package {
    Package::open(&gesso_testkit::fixture(&format!(
        "formats/samples/{name}/{name}.mlpackage"
    )))
    .unwrap()
}

pub(crate) fn program(m: &mut Model) -> &mut spec::Program {
    match m.r#type.as_mut().unwrap() {
        model::Type::MlProgram(p) => p,
        model::Type::Pipeline(_) => panic!("a pipeline"),
    }
}

pub(crate) fn main(m: &mut Model) -> &mut spec::Function {
    program(m).functions.get_mut("main").unwrap()
}

pub(crate) fn block(m: &mut Model) -> &mut spec::Block {
    main(m).block_specializations.values_mut().next().unwrap()
}

pub(crate) fn op<'a>(m: &'a mut Model, kind: &str) -> &'a mut spec::Operation {
    block(m)
        .operations
        .iter_mut()
        .find(|o| o.r#type == kind)
        .unwrap()
}

pub(crate) fn opset(m: &mut Model, name: &str) {
    main(m).opset = name.into();
    let (_, b) = main(m).block_specializations.pop_first().unwrap();
    main(m).block_specializations.insert(name.into(), b);
}

pub(crate) fn tensor(t: &mut spec::ValueType) -> &mut spec::TensorType {
    match t.r#type.as_mut().unwrap() {
        spec::value_type::Type::TensorType(t) => t,
        _ => panic!("no tensor"),
    }
}

pub(crate) fn output<'a>(m: &'a mut Model, kind: &str) -> &'a mut spec::TensorType {
    tensor(op(m, kind).outputs[0].r#type.as_mut().unwrap())
}

pub(crate) fn size(d: &mut spec::Dimension) -> &mut u64 {
    match d.dimension.as_mut().unwrap() {
        spec::dimension::Dimension::Constant(c) => &mut c.size,
        spec::dimension::Dimension::Unknown(_) => panic!("unknown"),
    }
}

pub(crate) fn rename(m: &mut Model, kind: &str, new: &str) {
    let old = op(m, kind).outputs[0].name.clone();
    for o in &mut block(m).operations {
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

pub(crate) fn input(m: &mut Model) -> &mut FeatureDescription {
    &mut m.description.as_mut().unwrap().input[0]
}

pub(crate) fn returned(m: &mut Model) -> &mut FeatureDescription {
    &mut m.description.as_mut().unwrap().output[0]
}

pub(crate) fn array(f: &mut FeatureDescription) -> &mut ArrayFeatureType {
    match f.r#type.as_mut().unwrap().r#type.as_mut().unwrap() {
        feature_type::Type::MultiArrayType(a) => a,
        feature_type::Type::StateType(StateFeatureType {
            r#type: Some(state_feature_type::Type::ArrayType(a)),
        }) => a,
        _ => panic!("no array"),
    }
}

pub(crate) fn blob(m: &mut Model) -> &mut spec::value::BlobFileValue {
    let operand = op(m, "constexpr_lut_to_dense")
        .inputs
        .get_mut("indices")
        .unwrap();
    match operand.arguments[0].binding.as_mut().unwrap() {
        Binding::Value(spec::Value {
            value: Some(spec::value::Value::BlobFileValue(b)),
            ..
        }) => b,
        _ => panic!("no blob"),
    }
}

/// Type of a literal operand.
pub(crate) fn operand<'a>(m: &'a mut Model, kind: &str, name: &str) -> &'a mut spec::TensorType {
    let o = op(m, kind);
    let value = if o.attributes.contains_key(name) {
        o.attributes.get_mut(name).unwrap()
    } else {
        match o.inputs.get_mut(name).unwrap().arguments[0]
            .binding
            .as_mut()
            .unwrap()
        {
            Binding::Value(v) => v,
            Binding::Name(_) => panic!("a name"),
        }
    };
    tensor(value.r#type.as_mut().unwrap())
}

pub(crate) fn shapes(list: &[&[i64]]) -> Option<ShapeFlexibility> {
    let shapes = list
        .iter()
        .map(|s| array_feature_type::Shape { shape: s.to_vec() })
        .collect();
    Some(ShapeFlexibility::EnumeratedShapes(EnumeratedShapes {
        shapes,
    }))
}

pub(crate) fn ranges(list: &[(u64, i64)]) -> Option<ShapeFlexibility> {
    let size_ranges = list
        .iter()
        .map(|&(lower_bound, upper_bound)| SizeRange {
            lower_bound,
            upper_bound,
        })
        .collect();
    Some(ShapeFlexibility::ShapeRange(ShapeRange { size_ranges }))
}
