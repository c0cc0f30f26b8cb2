//! The description of a model as JSON.

use std::ffi::{CString, c_char};

use gesso_coreml::proto::specification::array_feature_type::ShapeFlexibility;
use gesso_coreml::proto::specification::image_feature_type::{ColorSpace, SizeFlexibility};
use gesso_coreml::proto::specification::{FeatureDescription, feature_type};
use gesso_engine::Feature;
use gesso_mil::Dim;
use serde_json::{Map, Value, json};

use crate::model::{GessoModel, c_string};
use crate::pointer::{read, write};
use crate::status::{GessoStatus, Outcome, guard};

/// Describes a model as JSON; the caller frees it with `gesso_string_free`. The same model gives the same bytes.
///
/// ```json
/// {"default_function": "main",
///  "functions": [{"name": "main",
///    "inputs": [{"name": "x", "dtype": "fp32", "shape": [1, -1], "optional": false, "default": null,
///                "description": "", "shape_ranges": [[1, 1], [1, null]]}],
///    "outputs": [...], "states": [...]}],
///  "metadata": {"author": "", "description": "", "license": "", "version": "", "user_defined": {}}}
/// ```
///
/// A size that is not fixed is -1; what it may be stands in `shape_ranges` (lowest and highest, null = no limit) or in
/// `enumerated_shapes`, which are there for flexible arrays only. A feature that the description calls an image has
/// `"image": {"width": 64, "height": 64, "color": "rgb"}` beside the array that the program declares (`grayscale`, `rgb`,
/// `bgr`, `grayscale_float16`), with `size_ranges` (width, height) or `enumerated_sizes` where it is flexible.
///
/// # Safety
///
/// `model` is a model; `json` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gesso_model_describe(
    model: *const GessoModel,
    json: *mut *mut c_char,
) -> GessoStatus {
    guard(|| {
        // SAFETY: the caller's promise.
        unsafe {
            write(json, std::ptr::null_mut(), "json")?;
            let text = c_string(&describe(read(model, "model")?)?.to_string())?;
            write(json, text.into_raw(), "json")
        }
    })
}

/// Frees a string that this library made and sets the variable to null; null is fine.
///
/// # Safety
///
/// `string` is null or points to null or to a string of `gesso_model_describe`, unchanged.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gesso_string_free(string: *mut *mut c_char) -> GessoStatus {
    guard(|| {
        // SAFETY: the caller's promise.
        if let Some(variable) = unsafe { string.as_mut() } {
            let text = std::mem::replace(variable, std::ptr::null_mut());
            if !text.is_null() {
                // SAFETY: `into_raw` made it, and it passes here once, since the variable is null now.
                drop(unsafe { CString::from_raw(text) });
            }
        }
        Ok(())
    })
}

fn describe(model: &GessoModel) -> Outcome<Value> {
    let description = &model.description;
    let mut functions = Vec::new();
    for name in model.engine.functions() {
        let own = description.functions.iter().find(|f| f.name == name);
        let (inputs, outputs, states) = match own {
            Some(f) => (&f.input, &f.output, &f.state),
            None => (&description.input, &description.output, &description.state),
        };
        functions.push(json!({
            "name": name,
            "inputs": features(model.engine.inputs(Some(name))?, inputs),
            "outputs": features(model.engine.outputs(Some(name))?, outputs),
            "states": features(model.engine.states(Some(name))?, states),
        }));
    }
    let metadata = description.metadata.clone().unwrap_or_default();
    Ok(json!({
        "default_function": model.engine.default_function(),
        "functions": functions,
        "metadata": {
            "author": metadata.author,
            "description": metadata.short_description,
            "license": metadata.license,
            "version": metadata.version_string,
            "user_defined": metadata.user_defined,
        },
    }))
}

fn features(features: &[Feature], described: &[FeatureDescription]) -> Vec<Value> {
    features
        .iter()
        .map(|feature| {
            let described = described.iter().find(|d| d.name == feature.name);
            let shape = feature.ty.dims.iter().map(|dim| match dim {
                Dim::Fixed(n) => json!(n),
                Dim::Unknown { .. } => json!(-1),
            });
            let mut object = Map::new();
            object.insert("name".into(), json!(feature.name));
            object.insert("dtype".into(), json!(feature.ty.dtype.word()));
            object.insert("shape".into(), shape.collect());
            object.insert("optional".into(), json!(feature.default.is_some()));
            object.insert("default".into(), json!(feature.default));
            let text = described.map(|d| d.short_description.as_str());
            object.insert("description".into(), json!(text.unwrap_or_default()));
            object.extend(described.and_then(flexible));
            object.extend(described.and_then(image).map(|i| ("image".into(), i)));
            Value::Object(object)
        })
        .collect()
}

/// Which shapes an array may have, when its description gives more than one.
fn flexible(described: &FeatureDescription) -> Option<(String, Value)> {
    let Some(feature_type::Type::MultiArrayType(array)) =
        described.r#type.as_ref()?.r#type.as_ref()
    else {
        return None;
    };
    match array.shape_flexibility.as_ref()? {
        ShapeFlexibility::EnumeratedShapes(shapes) => {
            let shapes = shapes.shapes.iter().map(|s| json!(s.shape));
            Some(("enumerated_shapes".into(), shapes.collect()))
        }
        ShapeFlexibility::ShapeRange(ranges) => {
            let ranges = ranges.size_ranges.iter().map(|r| {
                let upper = u64::try_from(r.upper_bound).ok();
                json!([r.lower_bound, upper])
            });
            Some(("shape_ranges".into(), ranges.collect()))
        }
    }
}

/// What the description says of an image.
fn image(described: &FeatureDescription) -> Option<Value> {
    let Some(feature_type::Type::ImageType(image)) = described.r#type.as_ref()?.r#type.as_ref()
    else {
        return None;
    };
    let color = match image.color_space() {
        ColorSpace::Grayscale => "grayscale",
        ColorSpace::Rgb => "rgb",
        ColorSpace::Bgr => "bgr",
        ColorSpace::GrayscaleFloat16 => "grayscale_float16",
        ColorSpace::InvalidColorSpace => "unknown",
    };
    let mut object = Map::new();
    object.insert("width".into(), json!(image.width));
    object.insert("height".into(), json!(image.height));
    object.insert("color".into(), json!(color));
    match &image.size_flexibility {
        Some(SizeFlexibility::EnumeratedSizes(sizes)) => {
            let sizes = sizes.sizes.iter().map(|s| json!([s.width, s.height]));
            object.insert("enumerated_sizes".into(), sizes.collect());
        }
        Some(SizeFlexibility::ImageSizeRange(range)) => {
            let ranges = [&range.width_range, &range.height_range].map(|r| {
                let r = r.as_ref()?;
                Some(json!([r.lower_bound, u64::try_from(r.upper_bound).ok()]))
            });
            object.insert("size_ranges".into(), json!(ranges));
        }
        None => {}
    }
    Some(Value::Object(object))
}
