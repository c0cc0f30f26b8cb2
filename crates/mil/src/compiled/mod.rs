//! The files of a compiled model (`.mlmodelc`), computed from a model and taken back: pure, the caller reads and writes.
//!
//! | file | content |
//! |---|---|
//! | `model.mil` | the program as text |
//! | `coremldata.bin` | header, description, trailer |
//! | `metadata.json` | schemas, histogram of ops, precisions, availability |
//! | `analytics/coremldata.bin` | name and hash of the source |
//!
//! Weight files keep their place and their bytes. A pipeline has the first two and analytics in `model0`, `model1` and so
//! on, and `modelNames/coremldata.bin`.
//!
//! Source: Apple's own compiled models, compared byte for byte in the tests.

mod binary;
mod decompile;
mod flexible;
mod histogram;
mod json;
mod metadata;
mod pipeline;
mod precision;
mod schema;
mod weights;

pub use decompile::{Decompiled, Parts, decompile};
pub use histogram::histogram;
pub use precision::{compute_precision, storage_precision};

use crate::text::{self, Style};
use crate::{DType, Error, Program, Result, TensorType, Value, ValueData, ValueType, from_model};
use gesso_coreml::proto::specification::{Model, model};
use std::collections::BTreeMap;

/// What the compiler needs to know besides the model.
#[derive(Clone, Debug)]
pub struct Source<'a> {
    /// File stem of the compiled model, the name of the class that Xcode would generate.
    pub name: &'a str,
    /// File stem of the compiled specification: `model` for a package.
    pub model_name: &'a str,
    /// SHA-256 of the bytes of the specification file.
    pub model_hash: [u8; 32],
}

/// A compiled model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compiled {
    /// Files by their path inside the folder.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Weight files: path inside the folder → the same file's path beside `model.mlmodel`.
    pub weights: BTreeMap<String, String>,
}

/// Compiles an ML Program, or a pipeline of them.
///
/// Errors: [`Error::Compile`] for updatable models, enumerated shapes (their key in the text is not known), images of
/// flexible size, features that have no schema, and pipelines whose members are not ML Programs of the pipeline's own
/// specification version; those of [`from_model`] and [`text::print`].
pub fn compile(model: &Model, source: &Source<'_>) -> Result<Compiled> {
    if model.is_updatable {
        return Err(Error::Compile(
            "expected a model that is not updatable, found an updatable one".into(),
        ));
    }
    if let Some(model::Type::Pipeline(members)) = &model.r#type {
        return pipeline::compile(model, members, source);
    }
    let description = binary::with_metadata(model.description.clone().unwrap_or_default());
    let program = program(model)?;
    let text = text::print(&program, Style::of(model.specification_version))?;
    let shown = [&program];
    let metadata = metadata::document(model, &shown, metadata::Kind::MlProgram, source.name)?;
    Ok(Compiled {
        files: BTreeMap::from([
            ("model.mil".to_string(), text.into_bytes()),
            (
                "coremldata.bin".to_string(),
                binary::program(
                    model.specification_version,
                    &description,
                    program.functions.len(),
                ),
            ),
            ("metadata.json".to_string(), metadata.into_bytes()),
            (
                "analytics/coremldata.bin".to_string(),
                binary::analytics(binary::PROGRAM_DETAILS, Some(source)),
            ),
        ]),
        weights: weights::paths(&program)?
            .into_iter()
            .map(|path| (path.clone(), path))
            .collect(),
    })
}

/// The program as it is printed: with the shapes of flexible inputs and the names of the tools.
fn program(model: &Model) -> Result<Program> {
    let description = model.description.clone().unwrap_or_default();
    let mut program = from_model(model)?;
    flexible::attribute(&mut program, &description)?;
    build_info(&mut program);
    Ok(program)
}

/// The function attribute that says which shapes flexible inputs have.
const FLEXIBLE: &str = "FlexibleShapeInformation";
/// Program attribute with the names and versions of the tools.
const BUILD_INFO: &str = "buildInfo";
/// Our own entry in it.
const VERSION: &str = "gesso-version";
/// Start of the entries of Apple's compiler.
const APPLE: &str = "coremlc-";

/// Adds the maker's name to the entries that the program brought along.
fn build_info(program: &mut Program) {
    let mut pairs = take_build_info(program);
    pairs.push((
        Value::string(VERSION),
        Value::string(env!("CARGO_PKG_VERSION")),
    ));
    put_build_info(program, pairs);
}

/// The entries of `buildInfo` without those of compilers; the attribute is removed.
fn take_build_info(program: &mut Program) -> Vec<(Value, Value)> {
    let mut pairs = match program.attributes.remove(BUILD_INFO) {
        Some(Value {
            data: ValueData::Dictionary(pairs),
            ..
        }) => pairs,
        _ => Vec::new(),
    };
    pairs.retain(|(key, _)| {
        key.as_string()
            .is_none_or(|key| key != VERSION && !key.starts_with(APPLE))
    });
    pairs
}

fn put_build_info(program: &mut Program, mut pairs: Vec<(Value, Value)>) {
    let string = || Box::new(ValueType::from(TensorType::scalar(DType::String)));
    pairs.sort_by(|a, b| a.0.as_string().cmp(&b.0.as_string()));
    let value = Value {
        ty: ValueType::Dictionary(string(), string()),
        data: ValueData::Dictionary(pairs),
    };
    program.attributes.insert(BUILD_INFO.into(), value);
}
