//! `metadata.json`: one object in an array. Apps read its histogram and its schemas.

use super::histogram::histogram_of;
use super::json::{Json, Pairs};
use super::precision;
use super::schema::schema;
use crate::{Error, Function, Program, Result};
use gesso_coreml::proto::specification::{FeatureDescription, Model};

/// (specification version, [macOS, tvOS, visionOS, watchOS, iOS, macCatalyst]).
const AVAILABILITY: &[(i32, [&str; 6])] = &[
    (6, ["12.0", "15.0", "1.0", "8.0", "15.0", "15.0"]),
    (7, ["13.0", "16.0", "1.0", "9.0", "16.0", "16.0"]),
    (8, ["14.0", "17.0", "1.0", "10.0", "17.0", "17.0"]),
    (9, ["15.0", "18.0", "2.0", "11.0", "18.0", "18.0"]),
    (10, ["26.0", "26.0", "26.0", "26.0", "26.0", "26.0"]),
];
const SYSTEMS: [&str; 6] = ["macOS", "tvOS", "visionOS", "watchOS", "iOS", "macCatalyst"];

/// Which kind of model the file is about.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// One ML Program.
    MlProgram,
    /// A pipeline of that many ML Programs.
    Pipeline { members: usize },
}

/// The whole file. `programs` are those of the model: one, or the members of a pipeline in order.
pub(super) fn document(
    model: &Model,
    programs: &[&Program],
    kind: Kind,
    name: &str,
) -> Result<String> {
    let version = model.specification_version;
    let description = &model.description.clone().unwrap_or_default();
    let metadata = description.metadata.clone().unwrap_or_default();
    let mut object: Pairs = vec![("metadataOutputVersion".into(), "3.0".into())];
    for (key, value) in [
        ("shortDescription", &metadata.short_description),
        ("author", &metadata.author),
        ("version", &metadata.version_string),
        ("license", &metadata.license),
    ] {
        if !value.is_empty() {
            object.push((key.into(), value.as_str().into()));
        }
    }
    object.push(("specificationVersion".into(), Json::Number(version.into())));
    if let Some(precision) = precision::storage_of(programs) {
        object.push(("storagePrecision".into(), precision.into()));
    }
    let function = |name: &str| programs.iter().find_map(|p| p.functions.get(name));
    let main = description
        .functions
        .iter()
        .find(|f| f.name == description.default_function_name);
    let (inputs, outputs, states) = match main {
        Some(f) => (&f.input, &f.output, &f.state),
        None => (&description.input, &description.output, &description.state),
    };
    let shown: Vec<&Function> = match main.and_then(|f| function(&f.name)) {
        Some(f) => vec![f],
        None => programs.iter().flat_map(|p| p.functions.values()).collect(),
    };
    object.extend(facts(&shown, inputs, outputs, states)?);
    object.push(("modelParameters".into(), Json::Array(Vec::new())));
    object.push(("isUpdatable".into(), "0".into()));
    object.push(("availability".into(), availability(version)?));
    object.push(("modelType".into(), kind.json()));
    let user = metadata
        .user_defined
        .iter()
        .map(|(k, v)| (k.clone(), v.as_str().into()))
        .collect();
    object.push(("userDefinedMetadata".into(), Json::Object(user)));
    object.push(("generatedClassName".into(), name.into()));
    object.push(("method".into(), "predict".into()));
    if !description.functions.is_empty() {
        let mut functions = Vec::new();
        for f in &description.functions {
            let function: Vec<&Function> = function(&f.name).into_iter().collect();
            let mut entry: Pairs = vec![("name".into(), f.name.as_str().into())];
            entry.extend(facts(&function, &f.input, &f.output, &f.state)?);
            functions.push(Json::Object(entry));
        }
        object.push(("functions".into(), Json::Array(functions)));
        object.push((
            "defaultFunctionName".into(),
            description.default_function_name.as_str().into(),
        ));
    }
    Ok(Json::Array(vec![Json::Object(object)]).text())
}

impl Kind {
    fn json(self) -> Json {
        let program = || Json::Object(vec![("name".into(), "MLModelType_mlProgram".into())]);
        match self {
            Self::MlProgram => program(),
            Self::Pipeline { members } => Json::Object(vec![
                ("name".into(), "MLModelType_pipeline".into()),
                (
                    "structure".into(),
                    Json::Array((0..members).map(|_| program()).collect()),
                ),
            ]),
        }
    }
}

fn availability(version: i32) -> Result<Json> {
    let row = AVAILABILITY.iter().find(|row| row.0 == version);
    let (_, systems) = row.ok_or_else(|| {
        Error::Compile(format!(
            "specification version is {version}, expected 6 to 10"
        ))
    })?;
    let systems = SYSTEMS
        .iter()
        .zip(systems)
        .map(|(s, v)| ((*s).to_string(), (*v).into()))
        .collect();
    Ok(Json::Object(systems))
}

/// What stands at the root and in each function alike.
fn facts(
    functions: &[&Function],
    inputs: &[FeatureDescription],
    outputs: &[FeatureDescription],
    states: &[FeatureDescription],
) -> Result<Pairs> {
    let counts = histogram_of(functions.iter().copied());
    Ok(vec![
        (
            "computePrecision".into(),
            precision::compute_of(functions).into(),
        ),
        (
            "mlProgramOperationTypeHistogram".into(),
            Json::Object(
                counts
                    .into_iter()
                    .map(|(k, n)| (k, Json::Number(n)))
                    .collect(),
            ),
        ),
        ("inputSchema".into(), schema(inputs)?),
        ("outputSchema".into(), schema(outputs)?),
        ("stateSchema".into(), schema(states)?),
    ])
}
