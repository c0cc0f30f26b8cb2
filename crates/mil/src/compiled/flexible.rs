//! The function attribute `FlexibleShapeInformation` of inputs with a range of shapes.

use crate::{DType, Dim, Error, Literal, Program, Result, TensorType, Value, ValueData, ValueType};
use gesso_coreml::proto::specification::array_feature_type::ShapeFlexibility;
use gesso_coreml::proto::specification::feature_type::Type;
use gesso_coreml::proto::specification::{FeatureDescription, ModelDescription};

/// An input with a range of shapes.
struct Flexible<'a> {
    name: &'a str,
    /// Default shape.
    sizes: Vec<i32>,
    /// Lower and upper bound of every dimension; -1 above is no bound, as in the description.
    bounds: Vec<[i32; 2]>,
}

/// Adds the attribute to every function with flexible inputs.
///
/// Errors: [`Error::Compile`] for enumerated shapes and images of flexible size.
pub(super) fn attribute(program: &mut Program, description: &ModelDescription) -> Result<()> {
    for (name, function) in &mut program.functions {
        let inputs = match description.functions.iter().find(|f| f.name == *name) {
            Some(f) => &f.input,
            None => &description.input,
        };
        let mut flexible: Vec<Flexible<'_>> = Vec::new();
        for input in inputs {
            flexible.extend(ranges(input)?);
        }
        flexible.sort_by(|a, b| a.name.cmp(b.name));
        if !flexible.is_empty() {
            function
                .attributes
                .insert(super::FLEXIBLE.into(), information(&flexible));
        }
    }
    Ok(())
}

/// The shapes of a flexible input; `None` for one of fixed shape.
fn ranges(input: &FeatureDescription) -> Result<Option<Flexible<'_>>> {
    let array = match input.r#type.as_ref().and_then(|t| t.r#type.as_ref()) {
        Some(Type::MultiArrayType(array)) => array,
        Some(Type::ImageType(image)) if image.size_flexibility.is_some() => {
            return Err(Error::Compile(format!(
                "image `{}` has flexible sizes, whose compiled form is not known\n\nhint: ship the package, or use a fixed size",
                input.name
            )));
        }
        _ => return Ok(None),
    };
    match &array.shape_flexibility {
        None => Ok(None),
        Some(ShapeFlexibility::EnumeratedShapes(_)) => Err(Error::Compile(format!(
            "input `{}` has enumerated shapes, whose key in the compiled text is not known\n\nhint: ship the package, or use a range",
            input.name
        ))),
        Some(ShapeFlexibility::ShapeRange(range)) => {
            let size = |n: i128| {
                i32::try_from(n).map_err(|_| {
                    Error::Compile(format!(
                        "input `{}` has a size of {n}, expected at most {}",
                        input.name,
                        i32::MAX
                    ))
                })
            };
            let sizes = array.shape.iter().map(|&n| size(n.into()));
            let bounds = range.size_ranges.iter().map(|r| {
                let upper = r.upper_bound.max(-1);
                Ok([size(r.lower_bound.into())?, size(upper.into())?])
            });
            Ok(Some(Flexible {
                name: &input.name,
                sizes: sizes.collect::<Result<_>>()?,
                bounds: bounds.collect::<Result<_>>()?,
            }))
        }
    }
}

fn information(flexible: &[Flexible<'_>]) -> Value {
    let string = ValueType::from(TensorType::scalar(DType::String));
    let unknown = Dim::Unknown { variadic: false };
    let shape = TensorType {
        dtype: DType::Int32,
        dims: vec![unknown],
    };
    let pair = ValueType::from(TensorType::new(DType::Int32, &[2]));
    let pairs = ValueType::List(Box::new(pair.clone()), unknown);
    let shapes = flexible.iter().map(|input| {
        (
            Value::string(input.name),
            Value::tensor(shape.clone(), Literal::Ints(input.sizes.clone())),
        )
    });
    let bounds = flexible.iter().map(|input| {
        let items = input.bounds.iter().map(|pair| Value::ints(pair)).collect();
        let list = Value {
            ty: pairs.clone(),
            data: ValueData::List(items),
        };
        (Value::string(input.name), list)
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
