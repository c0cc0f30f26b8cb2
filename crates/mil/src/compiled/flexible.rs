//! The function attribute `FlexibleShapeInformation` of inputs with a range of shapes.

use crate::{DType, Dim, Error, Literal, Program, Result, TensorType, Value, ValueData, ValueType};
use gesso_coreml::proto::specification::array_feature_type::ShapeFlexibility;
use gesso_coreml::proto::specification::feature_type::Type;
use gesso_coreml::proto::specification::{ArrayFeatureType, FeatureDescription, ModelDescription};

/// Adds the attribute to every function with flexible inputs.
///
/// Errors: [`Error::Compile`] for enumerated shapes.
pub(super) fn attribute(program: &mut Program, description: &ModelDescription) -> Result<()> {
    for (name, function) in &mut program.functions {
        let inputs = match description.functions.iter().find(|f| f.name == *name) {
            Some(f) => &f.input,
            None => &description.input,
        };
        let mut flexible: Vec<(&str, &ArrayFeatureType, Vec<(i64, i64)>)> = Vec::new();
        for input in inputs {
            if let Some((array, ranges)) = ranges(input)? {
                flexible.push((&input.name, array, ranges));
            }
        }
        flexible.sort_by(|a, b| a.0.cmp(b.0));
        if !flexible.is_empty() {
            function
                .attributes
                .insert(super::FLEXIBLE.into(), information(&flexible));
        }
    }
    Ok(())
}

/// Lower and upper bound of every dimension of a flexible input.
fn ranges(input: &FeatureDescription) -> Result<Option<(&ArrayFeatureType, Vec<(i64, i64)>)>> {
    let Some(Type::MultiArrayType(array)) = input.r#type.as_ref().and_then(|t| t.r#type.as_ref())
    else {
        return Ok(None);
    };
    match &array.shape_flexibility {
        None => Ok(None),
        Some(ShapeFlexibility::EnumeratedShapes(_)) => Err(Error::Compile(format!(
            "input `{}` has enumerated shapes, whose key in the compiled text is not known\n\nhint: ship the package, or use a range",
            input.name
        ))),
        Some(ShapeFlexibility::ShapeRange(range)) => {
            let bounds = range
                .size_ranges
                .iter()
                .map(|r| (r.lower_bound.cast_signed(), r.upper_bound))
                .collect();
            Ok(Some((array, bounds)))
        }
    }
}

fn information(flexible: &[(&str, &ArrayFeatureType, Vec<(i64, i64)>)]) -> Value {
    let string = ValueType::from(TensorType::scalar(DType::String));
    let unknown = Dim::Unknown { variadic: false };
    let shape = TensorType {
        dtype: DType::Int32,
        dims: vec![unknown],
    };
    let pair = ValueType::from(TensorType::new(DType::Int32, &[2]));
    let pairs = ValueType::List(Box::new(pair.clone()), unknown);
    let int = |n: i64| i32::try_from(n).unwrap_or(if n < 0 { -1 } else { i32::MAX });

    let shapes = flexible.iter().map(|(name, array, _)| {
        let sizes = array.shape.iter().map(|&n| int(n)).collect();
        (
            Value::string(*name),
            Value::tensor(shape.clone(), Literal::Ints(sizes)),
        )
    });
    let bounds = flexible.iter().map(|(name, _, ranges)| {
        let items = ranges
            .iter()
            .map(|&(low, high)| Value::ints(&[int(low), int(high)]))
            .collect();
        (
            Value::string(*name),
            Value {
                ty: pairs.clone(),
                data: ValueData::List(items),
            },
        )
    });
    let entry = |name: &str, value: ValueType, pairs: Vec<(Value, Value)>| {
        let ty = ValueType::Dictionary(Box::new(string.clone()), Box::new(value));
        let dictionary = Value {
            ty: ty.clone(),
            data: ValueData::Dictionary(pairs),
        };
        let members = vec![Value::string(name), dictionary];
        Value {
            ty: ValueType::Tuple(vec![string.clone(), ty]),
            data: ValueData::Tuple(members),
        }
    };
    let entries = vec![
        entry("DefaultShapes", shape.clone().into(), shapes.collect()),
        entry("RangeDims", pairs.clone(), bounds.collect()),
    ];
    Value {
        ty: ValueType::Tuple(entries.iter().map(|e| e.ty.clone()).collect()),
        data: ValueData::Tuple(entries),
    }
}
