//! The model description: features, defaults, metadata.

use crate::built::{Built, Feature};
use crate::{Error, Result};
use gesso_coreml::proto::specification::array_feature_type::{ArrayDataType, DefaultOptionalValue};
use gesso_coreml::proto::specification::{
    ArrayFeatureType, FeatureDescription, FeatureType, FunctionDescription, Metadata, Model,
    ModelDescription, StateFeatureType, feature_type, model, state_feature_type,
};
use gesso_mil::{DType, Function, Program};
use std::collections::BTreeMap;

/// What a package says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// One line on what the model does.
    pub short_description: String,
    /// Version: the name of the source model.
    pub version: String,
    /// Author of the source model.
    pub author: String,
    /// Licence of the source model.
    pub license: String,
    /// User-defined pairs.
    pub user_defined: BTreeMap<String, String>,
}

/// (opset, specification version)
const OPSETS: &[(&str, i32)] = &[
    ("CoreML5", 6),
    ("CoreML6", 7),
    ("CoreML7", 8),
    ("CoreML8", 9),
];

/// The message of `model.mlmodel` for `function`, whose weights are placed, with the features of `built`.
///
/// Errors: those of `gesso-mil`'s `to_proto`; [`Error::Config`] for an opset without a specification version.
pub(crate) fn model(function: Function, built: &Built, about: &About) -> Result<Model> {
    let mut model = described(vec![("main".to_string(), function)], about)?;
    let description = model.description.get_or_insert_default();
    description.input = built.inputs.iter().map(feature).collect();
    description.output = built.outputs.iter().map(feature).collect();
    description.state = built.states.iter().map(state).collect();
    Ok(model)
}

/// The message for several functions, the default one first, all with the features of `built`.
///
/// Errors: as [`model`].
pub(crate) fn several(
    functions: Vec<(String, Function)>,
    built: &Built,
    about: &About,
) -> Result<Model> {
    let names: Vec<String> = functions.iter().map(|(name, _)| name.clone()).collect();
    let mut model = described(functions, about)?;
    let description = model.description.get_or_insert_default();
    description.default_function_name = names.first().cloned().unwrap_or_default();
    description.functions = names
        .into_iter()
        .map(|name| FunctionDescription {
            name,
            input: built.inputs.iter().map(feature).collect(),
            output: built.outputs.iter().map(feature).collect(),
            ..FunctionDescription::default()
        })
        .collect();
    Ok(model)
}

/// The message without features.
fn described(functions: Vec<(String, Function)>, about: &About) -> Result<Model> {
    let opset = functions.first().map(|(_, f)| f.opset.clone());
    let opset = opset.unwrap_or_default();
    let specification_version = OPSETS
        .iter()
        .find(|(name, _)| *name == opset)
        .map(|&(_, version)| version)
        .ok_or_else(|| Error::Config {
            component: "program".into(),
            field: "opset".into(),
            expected: "CoreML5 to CoreML8".into(),
            found: opset,
        })?;
    let program = Program {
        version: 1,
        functions: functions.into_iter().collect(),
        attributes: BTreeMap::new(),
    };
    Ok(Model {
        specification_version,
        description: Some(ModelDescription {
            metadata: Some(Metadata {
                short_description: about.short_description.clone(),
                version_string: about.version.clone(),
                author: about.author.clone(),
                license: about.license.clone(),
                user_defined: about.user_defined.clone(),
            }),
            ..ModelDescription::default()
        }),
        r#type: Some(model::Type::MlProgram(gesso_mil::to_proto(&program)?)),
        ..Model::default()
    })
}

fn state(feature: &Feature) -> FeatureDescription {
    FeatureDescription {
        name: feature.name.clone(),
        short_description: feature.description.clone(),
        r#type: Some(FeatureType {
            is_optional: false,
            r#type: Some(feature_type::Type::StateType(StateFeatureType {
                r#type: Some(state_feature_type::Type::ArrayType(array(feature, None))),
            })),
        }),
    }
}

pub(crate) fn feature(feature: &Feature) -> FeatureDescription {
    let default = feature.default.map(DefaultOptionalValue::FloatDefaultValue);
    FeatureDescription {
        name: feature.name.clone(),
        short_description: feature.description.clone(),
        r#type: Some(FeatureType {
            is_optional: feature.default.is_some(),
            r#type: Some(feature_type::Type::MultiArrayType(array(feature, default))),
        }),
    }
}

fn array(feature: &Feature, default: Option<DefaultOptionalValue>) -> ArrayFeatureType {
    let data_type = match feature.dtype {
        DType::Fp16 => ArrayDataType::Float16,
        DType::Int32 => ArrayDataType::Int32,
        _ => ArrayDataType::Float32,
    };
    ArrayFeatureType {
        shape: feature.shape.iter().map(|&d| d as i64).collect(),
        data_type: data_type as i32,
        shape_flexibility: None,
        default_optional_value: default,
    }
}
