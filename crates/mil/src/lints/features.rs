//! Features of the description: names, types, images, defaults.

use super::subject::{Feature, Role, types};
use super::{Check, Lint, Report, Severity, Subject};
use crate::{DType, ValueType};
use gesso_coreml::proto::specification::ArrayFeatureType;
use gesso_coreml::proto::specification::array_feature_type::{
    ArrayDataType, DefaultOptionalValue, ShapeFlexibility,
};
use gesso_coreml::proto::specification::feature_type::Type;
use gesso_coreml::proto::specification::image_feature_type::ColorSpace;

/// Apple's published checks of descriptions.
const VALIDATORS: &str = "apple/coremltools mlmodel/src/Validation/InterfaceValidators.cpp";

pub(super) const LINTS: &[Lint] = &[
    Lint {
        id: "L9",
        name: "has-inputs",
        severity: Severity::Error,
        rule: "a model has at least one input, unless its version is 9 or later",
        why: "older systems refuse a model without inputs",
        source: "apple/coremltools mlmodel/src/Validation/Validators.hpp; apple/coremltools PR 2684, issue 2578",
        example: "version 8 and an empty input list; add an input or use version 9",
        check: Check::Static(inputs),
    },
    Lint {
        id: "L10",
        name: "has-outputs",
        severity: Severity::Error,
        rule: "a model and each of its functions have at least one output",
        why: "the loader refuses a model that returns nothing",
        source: "apple/coremltools mlmodel/src/Validation/Validators.hpp; kasper0406/stablehlo-coreml PR 76",
        example: "a function that only writes a state; return a value too",
        check: Check::Static(outputs),
    },
    Lint {
        id: "L15",
        name: "feature-complete",
        severity: Severity::Error,
        rule: "a feature has a name and a type",
        why: "Apple's validator refuses it",
        source: VALIDATORS,
        example: "an input with an empty name",
        check: Check::Static(complete),
    },
    Lint {
        id: "L16",
        name: "array-dtype",
        severity: Severity::Error,
        rule: "arrays are DOUBLE, FLOAT32 or INT32; FLOAT16 from version 7, INT8 from version 10",
        why: "older systems do not know the newer element types",
        source: "apple/coremltools mlmodel/src/Validation/InterfaceValidators.cpp; ultralytics/ultralytics issue 19953; apple/coremltools issue 2495",
        example: "a FLOAT16 input under version 6; declare FLOAT32 and cast inside",
        check: Check::Static(array_dtype),
    },
    Lint {
        id: "L17",
        name: "io-types",
        severity: Severity::Error,
        rule: "no input or output of the program is int64, bool or a 16-bit integer, or has rank 0",
        why: "arrays of a model have no such types; scalars have shape [1]",
        source: "coremltools/converters/mil/backend/mil/load.py; apple/coremltools issues 2365, 1498; pytorch/executorch issue 2769; microsoft/onnxruntime issue 24462",
        example: "output `flag` of type bool; cast it to int32",
        check: Check::Static(io_types),
    },
    Lint {
        id: "L20",
        name: "image",
        severity: Severity::Error,
        rule: "an image has positive width and height and a colour space; GRAYSCALE_FLOAT16 from version 7",
        why: "Apple's validator refuses it",
        source: VALIDATORS,
        example: "an image of 0 × 512",
        check: Check::Static(image),
    },
    Lint {
        id: "L21",
        name: "default-value",
        severity: Severity::Error,
        rule: "a default value has the field of its array's dtype and lies in its range, not with enumerated shapes; no output is optional",
        why: "Apple's validator refuses it",
        source: VALIDATORS,
        example: "an INT32 input with `floatDefaultValue`; use `intDefaultValue`",
        check: Check::Static(default_value),
    },
];

fn inputs(s: &Subject<'_>, r: &mut Report) {
    let version = s.model.specification_version;
    for i in s.interfaces() {
        if i.input.is_empty() && version < 9 {
            let text = format!(
                "expected at least one input below version 9, found none in version {version}"
            );
            r.add(format!("function `{}`", i.function), text);
        }
    }
}

fn outputs(s: &Subject<'_>, r: &mut Report) {
    for i in s.interfaces().iter().filter(|i| i.output.is_empty()) {
        r.add(
            format!("function `{}`", i.function),
            "expected at least one output in the description, found none",
        );
    }
    for (name, f) in s.functions() {
        if f.body().is_some_and(|b| b.outputs.is_empty()) {
            r.add(
                format!("function `{name}`"),
                "expected at least one output of its block, found none",
            );
        }
    }
}

fn complete(s: &Subject<'_>, r: &mut Report) {
    for f in s.features() {
        if f.it.name.is_empty() {
            r.add(f.place(), "expected a name, found an empty one");
        }
        if f.kind().is_none() {
            r.add(f.place(), "expected a type, found none");
        }
    }
}

/// The array behind a feature, states left out.
pub(super) fn array<'a>(f: &Feature<'a>) -> Option<&'a ArrayFeatureType> {
    match f.kind()? {
        Type::MultiArrayType(a) => Some(a),
        _ => None,
    }
}

fn array_dtype(s: &Subject<'_>, r: &mut Report) {
    let version = s.model.specification_version;
    for f in s.features() {
        let Some(a) = array(&f) else { continue };
        let (word, needed) = match ArrayDataType::try_from(a.data_type) {
            Ok(ArrayDataType::Float16) => ("FLOAT16", 7),
            Ok(ArrayDataType::Int8) => ("INT8", 10),
            Ok(ArrayDataType::InvalidArrayDataType) | Err(_) => {
                r.add(
                    f.place(),
                    format!("expected an element type, found number {}", a.data_type),
                );
                continue;
            }
            Ok(_) => continue,
        };
        if version < needed {
            r.add(
                f.place(),
                format!("{word} needs version {needed}, found {version}"),
            );
        }
    }
}

fn io_types(s: &Subject<'_>, r: &mut Report) {
    for f in s.features() {
        let function = s.program.as_ref().and_then(|p| p.functions.get(f.function));
        let (Some(_), Some(function)) = (array(&f), function) else {
            continue;
        };
        let types = types(function);
        let Some(ValueType::Tensor(t)) = types.get(f.it.name.as_str()) else {
            continue;
        };
        let fits = matches!(
            t.dtype,
            DType::Fp16 | DType::Fp32 | DType::Fp64 | DType::Int32 | DType::Int8
        );
        if !fits {
            r.add(
                f.place(),
                format!("the program has it as {t}, expected fp16, fp32 or int32"),
            );
        } else if t.rank() == 0 {
            r.add(
                f.place(),
                "the program has it as a scalar, expected shape [1]",
            );
        }
    }
}

fn image(s: &Subject<'_>, r: &mut Report) {
    for f in s.features() {
        let Some(Type::ImageType(i)) = f.kind() else {
            continue;
        };
        if i.width <= 0 || i.height <= 0 {
            r.add(
                f.place(),
                format!("expected a positive size, found {} × {}", i.width, i.height),
            );
        }
        let version = s.model.specification_version;
        match ColorSpace::try_from(i.color_space) {
            Ok(ColorSpace::GrayscaleFloat16) if version < 7 => {
                r.add(
                    f.place(),
                    format!("GRAYSCALE_FLOAT16 needs version 7, found {version}"),
                );
            }
            Ok(ColorSpace::InvalidColorSpace) | Err(_) => {
                r.add(
                    f.place(),
                    format!("expected a colour space, found number {}", i.color_space),
                );
            }
            Ok(_) => {}
        }
    }
}

fn default_value(s: &Subject<'_>, r: &mut Report) {
    for f in s.features() {
        if f.optional() && f.role != Role::Input {
            r.add(f.place(), "only inputs may be optional");
        }
        let Some(a) = array(&f) else { continue };
        let Some(default) = &a.default_optional_value else {
            continue;
        };
        let dtype =
            ArrayDataType::try_from(a.data_type).unwrap_or(ArrayDataType::InvalidArrayDataType);
        let (found, fits) = match default {
            DefaultOptionalValue::IntDefaultValue(v) => {
                if dtype == ArrayDataType::Int8 && i8::try_from(*v).is_err() {
                    r.add(
                        f.place(),
                        format!("expected a default from -128 to 127, found {v}"),
                    );
                }
                (
                    "intDefaultValue",
                    matches!(dtype, ArrayDataType::Int32 | ArrayDataType::Int8),
                )
            }
            DefaultOptionalValue::FloatDefaultValue(_) => (
                "floatDefaultValue",
                matches!(dtype, ArrayDataType::Float32 | ArrayDataType::Float16),
            ),
            DefaultOptionalValue::DoubleDefaultValue(_) => {
                ("doubleDefaultValue", dtype == ArrayDataType::Double)
            }
        };
        if !fits {
            r.add(
                f.place(),
                format!("`{found}` does not belong to {}", dtype.as_str_name()),
            );
        }
        if matches!(
            a.shape_flexibility,
            Some(ShapeFlexibility::EnumeratedShapes(_))
        ) {
            r.add(
                f.place(),
                "a default value does not go with enumerated shapes",
            );
        }
    }
}
