//! Packages and compiled models: their files as the source of weights, and what their descriptions say.

use crate::model::Interface;
use crate::source::WeightSource;
use crate::{Error, Model, Result};
use gesso_coreml::ModelFiles;
use gesso_coreml::compiled::CompiledModel;
use gesso_coreml::package::Package;
use gesso_coreml::proto::specification::{
    FeatureDescription, FeatureType, Model as Description, array_feature_type, feature_type,
};
use gesso_mil::TensorType;
use gesso_mil::compiled::{Parts, decompile};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Weights in mapped files.
#[derive(Debug)]
struct Mapped(ModelFiles);

impl WeightSource for Mapped {
    fn blob(&self, file: &str, offset: u64, ty: &TensorType) -> Result<Cow<'_, [u8]>, String> {
        let record = self.0.blob(file, offset).map_err(|e| e.to_string())?;
        if !ty.dtype.is_stored_as(record.dtype) {
            let found = record.dtype;
            return Err(format!(
                "declared as {ty}, but the record at {offset} of `{file}` holds {found:?}"
            ));
        }
        Ok(Cow::Borrowed(record.data))
    }
}

impl Model {
    /// Loads a package. The files stay mapped; weights are decoded when an op needs them.
    ///
    /// Errors: not an ML Program; [`Error::UnsupportedOps`]; [`Error::Unsupported`] for states of other dtypes than Core ML
    /// has; [`Error::Invalid`] with the verifier's first finding, for instance a declared type that differs from the
    /// computed one; [`Error::Constant`].
    pub fn load(package: &Package) -> Result<Self> {
        Self::of(&package.model, package.files(), &package.path)
    }

    /// Loads a compiled model. The files stay mapped; weights are decoded when an op needs them.
    ///
    /// Errors: as [`Model::load`]; a text that cannot be read.
    pub fn load_compiled(compiled: &CompiledModel) -> Result<Self> {
        let parts = Parts::from(compiled);
        let back = decompile(&parts).map_err(|e| not_a_program(&compiled.path, &e))?;
        Self::of(&back.model, compiled.files(), &compiled.path)
    }

    fn of(model: &Description, files: &ModelFiles, path: &Path) -> Result<Self> {
        let program = gesso_mil::from_model(model).map_err(|e| not_a_program(path, &e))?;
        let files = Arc::new(Mapped(files.clone()));
        Self::from_program(&program, &interface(model), files)
    }
}

fn not_a_program(path: &Path, error: &gesso_mil::Error) -> Error {
    Error::NotAProgram {
        model: path.display().to_string(),
        reason: error.to_string(),
    }
}

/// Default function and default values of optional inputs.
fn interface(model: &Description) -> Interface {
    let description = model.description.clone().unwrap_or_default();
    if description.functions.is_empty() {
        let defaults = defaults(&description.input);
        return Interface {
            default_function: "main".into(),
            defaults: BTreeMap::from([("main".to_string(), defaults)]),
        };
    }
    Interface {
        default_function: description.default_function_name,
        defaults: description
            .functions
            .iter()
            .map(|f| (f.name.clone(), defaults(&f.input)))
            .collect(),
    }
}

fn defaults(inputs: &[FeatureDescription]) -> BTreeMap<String, f32> {
    inputs
        .iter()
        .filter_map(|input| Some((input.name.clone(), default_value(input.r#type.as_ref()?)?)))
        .collect()
}

/// The default of an optional array; 0 when the description gives none.
fn default_value(ty: &FeatureType) -> Option<f32> {
    use array_feature_type::DefaultOptionalValue as Default;
    if !ty.is_optional {
        return None;
    }
    match &ty.r#type {
        Some(feature_type::Type::MultiArrayType(array)) => {
            Some(match array.default_optional_value {
                Some(Default::IntDefaultValue(v)) => v as f32,
                Some(Default::FloatDefaultValue(v)) => v,
                Some(Default::DoubleDefaultValue(v)) => v as f32,
                None => 0.0,
            })
        }
        _ => None,
    }
}
