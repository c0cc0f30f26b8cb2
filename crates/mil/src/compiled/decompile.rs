//! A compiled ML Program back to a model.

use super::weights;
use super::{BUILD_INFO, FLEXIBLE, put_build_info, take_build_info};
use crate::{Error, Function, Result, text, to_proto};
use gesso_coreml::compiled::CompiledModel;
use gesso_coreml::proto::specification::{
    FeatureDescription, Metadata, Model, ModelDescription, model,
};
use std::collections::BTreeSet;

/// What a compiled model consists of besides its weights.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// The text of `model.mil`.
    pub text: &'a str,
    /// Specification version, from `coremldata.bin`.
    pub specification_version: i32,
    /// Description of the model, from `coremldata.bin`.
    pub description: &'a ModelDescription,
    /// Number of functions, from the trailer of `coremldata.bin`.
    pub functions: usize,
}

impl<'a> From<&'a CompiledModel> for Parts<'a> {
    fn from(compiled: &'a CompiledModel) -> Self {
        Self {
            text: &compiled.text,
            specification_version: compiled.header.specification_version,
            description: &compiled.header.description,
            functions: compiled.header.functions,
        }
    }
}

/// A model that was compiled once.
#[derive(Clone, Debug, PartialEq)]
pub struct Decompiled {
    /// The model.
    pub model: Model,
    /// Paths of its weight files below the folder of the model.
    pub weights: BTreeSet<String>,
}

/// The model that a compiled one was made from.
///
/// What compiling added is taken away: the shapes of flexible inputs, which the description has, empty metadata,
/// and the names of the compilers. Function inputs stand in the order of the description where the names agree, since the text sorts them.
///
/// Errors: those of [`text::parse`]; [`Error::Compile`] when the text and `coremldata.bin` disagree on the functions, and for
/// a weight file outside of the folder.
pub fn decompile(parts: &Parts<'_>) -> Result<Decompiled> {
    let (mut program, _) = text::parse(parts.text)?;
    if program.functions.len() != parts.functions {
        return Err(Error::Compile(format!(
            "`model.mil` has {} functions, but `coremldata.bin` counts {}",
            program.functions.len(),
            parts.functions
        )));
    }
    let description = parts.description;
    if let Some(missing) = description
        .functions
        .iter()
        .find(|f| !program.functions.contains_key(&f.name))
    {
        return Err(Error::Compile(format!(
            "`coremldata.bin` describes function `{}`, which `model.mil` does not have",
            missing.name
        )));
    }
    for (name, function) in &mut program.functions {
        function.attributes.remove(FLEXIBLE);
        let described = description.functions.iter().find(|f| f.name == *name);
        match described {
            Some(f) => reorder(function, f.input.iter().chain(&f.state)),
            None => reorder(function, description.input.iter().chain(&description.state)),
        }
    }
    if program.attributes.contains_key(BUILD_INFO) {
        let pairs = take_build_info(&mut program);
        if !pairs.is_empty() {
            put_build_info(&mut program, pairs);
        }
    }
    let weights = weights::paths(&program)?;
    let model = Model {
        specification_version: parts.specification_version,
        description: Some(ModelDescription {
            metadata: description
                .metadata
                .clone()
                .filter(|m| *m != Metadata::default()),
            ..description.clone()
        }),
        is_updatable: false,
        r#type: Some(model::Type::MlProgram(to_proto(&program)?)),
    };
    Ok(Decompiled { model, weights })
}

/// Inputs in the order in which they are described; those that are not described come last, by name.
fn reorder<'a>(function: &mut Function, described: impl Iterator<Item = &'a FeatureDescription>) {
    let names: Vec<&str> = described.map(|f| f.name.as_str()).collect();
    let place = |name: &str| names.iter().position(|n| *n == name).unwrap_or(names.len());
    function
        .inputs
        .sort_by(|a, b| (place(&a.name), &a.name).cmp(&(place(&b.name), &b.name)));
}
