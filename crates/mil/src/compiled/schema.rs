//! Inputs, outputs and states, as `metadata.json` shows them.

use super::json::{Json, Pairs};
use crate::{Error, Result};
use gesso_coreml::proto::specification::array_feature_type::{ArrayDataType, ShapeFlexibility};
use gesso_coreml::proto::specification::feature_type::Type;
use gesso_coreml::proto::specification::image_feature_type::ColorSpace;
use gesso_coreml::proto::specification::{
    ArrayFeatureType, FeatureDescription, state_feature_type,
};

/// One object per feature.
///
/// Errors: [`Error::Compile`] for a feature that is neither an array, an image nor a state.
pub(super) fn schema(features: &[FeatureDescription]) -> Result<Json> {
    Ok(Json::Array(
        features.iter().map(feature).collect::<Result<_>>()?,
    ))
}

fn feature(feature: &FeatureDescription) -> Result<Json> {
    let ty = feature.r#type.as_ref();
    let optional = if ty.is_some_and(|t| t.is_optional) {
        "1"
    } else {
        "0"
    };
    let mut pairs: Pairs = vec![
        ("name".into(), feature.name.as_str().into()),
        (
            "shortDescription".into(),
            feature.short_description.as_str().into(),
        ),
        ("isOptional".into(), optional.into()),
    ];
    match ty.and_then(|t| t.r#type.as_ref()) {
        Some(Type::MultiArrayType(array)) => pairs.extend(multi_array(array, "MultiArray")),
        Some(Type::StateType(state)) => match &state.r#type {
            Some(state_feature_type::Type::ArrayType(array)) => {
                pairs.extend(multi_array(array, "State"));
            }
            None => {
                return Err(Error::Compile(format!(
                    "state `{}` has no array type",
                    feature.name
                )));
            }
        },
        Some(Type::ImageType(image)) => {
            let (colorspace, colour, word) = match ColorSpace::try_from(image.color_space) {
                Ok(ColorSpace::Rgb) => ("RGB", "1", "Color"),
                Ok(ColorSpace::Bgr) => ("BGR", "1", "Color"),
                Ok(ColorSpace::Grayscale) => ("Grayscale", "0", "Grayscale"),
                Ok(ColorSpace::GrayscaleFloat16) => ("GrayscaleFloat16", "0", "GrayscaleFloat16"),
                _ => {
                    return Err(Error::Compile(format!(
                        "image `{}` has no colour space",
                        feature.name
                    )));
                }
            };
            let flexible = if image.size_flexibility.is_some() {
                "1"
            } else {
                "0"
            };
            let shown = format!("Image ({word} {} \u{d7} {})", image.width, image.height);
            pairs.extend([
                ("type".into(), "Image".into()),
                ("width".into(), image.width.to_string().into()),
                ("height".into(), image.height.to_string().into()),
                ("colorspace".into(), colorspace.into()),
                ("isColor".into(), colour.into()),
                ("hasSizeFlexibility".into(), flexible.into()),
                ("formattedType".into(), shown.into()),
            ]);
        }
        _ => {
            return Err(Error::Compile(format!(
                "feature `{}` is neither an array nor an image",
                feature.name
            )));
        }
    }
    Ok(Json::Object(pairs))
}

fn multi_array(array: &ArrayFeatureType, kind: &str) -> Pairs {
    let dtype = match ArrayDataType::try_from(array.data_type) {
        Ok(ArrayDataType::Float16) => "Float16",
        Ok(ArrayDataType::Double) => "Double",
        Ok(ArrayDataType::Int32) => "Int32",
        Ok(ArrayDataType::Int8) => "Int8",
        _ => "Float32",
    };
    let sizes: Vec<String> = array.shape.iter().map(i64::to_string).collect();
    let formatted = format!(
        "{kind} ({dtype}{}{})",
        if sizes.is_empty() { "" } else { " " },
        sizes.join(" \u{d7} ")
    );
    let mut pairs: Pairs = vec![
        ("type".into(), kind.into()),
        ("dataType".into(), dtype.into()),
        ("shape".into(), format!("[{}]", sizes.join(", ")).into()),
        ("formattedType".into(), formatted.into()),
    ];
    let flexible = if array.shape_flexibility.is_some() {
        "1"
    } else {
        "0"
    };
    pairs.push(("hasShapeFlexibility".into(), flexible.into()));
    if let Some(ShapeFlexibility::ShapeRange(range)) = &array.shape_flexibility {
        let bounds: Vec<(i128, i128)> = range
            .size_ranges
            .iter()
            .map(|r| (r.lower_bound.into(), r.upper_bound.into()))
            .collect();
        let dots: Vec<String> = bounds
            .iter()
            .map(|(low, high)| {
                if low == high {
                    low.to_string()
                } else {
                    format!("{low}...{high}")
                }
            })
            .collect();
        let lists: Vec<String> = bounds
            .iter()
            .map(|(low, high)| format!("[{low}, {high}]"))
            .collect();
        pairs.push(("shapeFlexibility".into(), dots.join(" \u{d7} ").into()));
        pairs.push((
            "shapeRange".into(),
            format!("[{}]", lists.join(", ")).into(),
        ));
    }
    pairs
}
