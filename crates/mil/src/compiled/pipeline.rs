//! A pipeline of ML Programs.

use super::{Compiled, Source, binary, metadata, program, weights};
use crate::text::{self, Style};
use crate::{Error, Result};
use gesso_coreml::proto::specification::{Model, Pipeline, model};
use std::collections::BTreeMap;

/// Compiles a pipeline: each member into a folder of its own, and the files of the whole at the root.
///
/// No compiled pipeline with weights is known: each member gets the weight files that it uses into its own folder, since
/// `@model_path` is the folder of `model.mil`.
pub(super) fn compile(model: &Model, pipeline: &Pipeline, source: &Source<'_>) -> Result<Compiled> {
    let version = model.specification_version;
    if pipeline.names.len() != pipeline.models.len() {
        return Err(Error::Compile(format!(
            "the pipeline has {} models, expected as many names, found {}",
            pipeline.models.len(),
            pipeline.names.len()
        )));
    }
    let mut compiled = Compiled::default();
    let mut programs = Vec::new();
    for (i, (member, name)) in pipeline.models.iter().zip(&pipeline.names).enumerate() {
        if !matches!(member.r#type, Some(model::Type::MlProgram(_))) {
            return Err(Error::Compile(format!(
                "model `{name}` of the pipeline: expected an ML Program, found another kind of model"
            )));
        }
        if member.specification_version != version {
            return Err(Error::Compile(format!(
                "model `{name}` of the pipeline: expected specification version {version} as of the pipeline, found {}",
                member.specification_version
            )));
        }
        let program = program(member)?;
        let description = member.description.clone().unwrap_or_default();
        let functions = program.functions.len();
        let files = [
            (
                "model.mil",
                text::print(&program, Style::of(version))?.into_bytes(),
            ),
            (
                "coremldata.bin",
                binary::program(version, &description, functions),
            ),
            (
                "analytics/coremldata.bin",
                binary::analytics(binary::PROGRAM_DETAILS, None),
            ),
        ];
        for (file, bytes) in files {
            compiled.files.insert(format!("model{i}/{file}"), bytes);
        }
        for path in weights::paths(&program)? {
            compiled.weights.insert(format!("model{i}/{path}"), path);
        }
        programs.push(program);
    }
    let count = programs.len();
    let shown: Vec<_> = programs.iter().collect();
    let kind = metadata::Kind::Pipeline { members: count };
    let metadata = metadata::document(model, &shown, kind, source.name)?;
    let dimension = [("modelDimension", &*count.to_string())];
    let description = binary::with_metadata(model.description.clone().unwrap_or_default());
    compiled.files.extend(BTreeMap::from([
        (
            "coremldata.bin".to_string(),
            binary::pipeline(version, &description, count),
        ),
        ("metadata.json".to_string(), metadata.into_bytes()),
        (
            "analytics/coremldata.bin".to_string(),
            binary::analytics(("PipelineModelDetails", &dimension), Some(source)),
        ),
        (
            "modelNames/coremldata.bin".to_string(),
            binary::model_names(&pipeline.names),
        ),
    ]));
    Ok(compiled)
}
