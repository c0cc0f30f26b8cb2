//! Every stored package: read, written back, verified.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use gesso_coreml::proto::mil_spec as spec;
use gesso_coreml::proto::specification::{Model, model};
use gesso_mil::{Finding, from_model, from_proto, to_proto, verify};
use prost::Message;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Model files below a folder, sorted.
fn models(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "mlmodel") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn decode(path: &Path) -> Result<Model, prost::DecodeError> {
    Model::decode(std::fs::read(path).unwrap().as_slice())
}

/// The programs of a model, those of a pipeline's members included.
fn programs(model: &Model) -> Vec<&spec::Program> {
    match &model.r#type {
        Some(model::Type::MlProgram(p)) => vec![p],
        Some(model::Type::Pipeline(p)) => p.models.iter().flat_map(programs).collect(),
        None => Vec::new(),
    }
}

/// Reads, writes back and reads again; the findings.
fn round_trip(path: &Path, message: &spec::Program) -> Vec<Finding> {
    let program = from_proto(message).unwrap();
    let written = to_proto(&program).unwrap();
    assert_eq!(&written, message, "{}", path.display());
    assert_eq!(from_proto(&written).unwrap(), program, "{}", path.display());
    verify(&program)
}

#[test]
fn our_samples_come_back_and_verify_clean() {
    let paths = models(&gesso_testkit::fixture("formats/samples"));
    assert_eq!(paths.len(), 26);
    for path in paths {
        let model = decode(&path).unwrap();
        let findings = round_trip(&path, programs(&model)[0]);
        assert_eq!(findings, [], "{}", path.display());
        assert_eq!(verify(&from_model(&model).unwrap()), []);
    }
}

/// Ops of other people's packages that the table lacks. This list only shrinks.
const UNSUPPORTED: &[&str] = &[
    "cond",
    "list_gather",
    "list_read",
    "list_scatter",
    "list_write",
    "lstm",
    "make_list",
    "while_loop",
];

/// Files made to be refused: nested beyond what the message decoder follows.
const TOO_DEEP: &[&str] = &["rustnn-weighted-pipeline/control-flow/too-deep.mlmodel"];

#[test]
fn packages_of_others_come_back_and_verify_but_for_unsupported_ops() {
    let Some(root) = gesso_testkit::shared("formats/mlpackage-samples") else {
        return;
    };
    let mut unsupported = BTreeSet::new();
    let mut other = Vec::new();
    let mut too_deep = Vec::new();
    for path in models(&root) {
        let Ok(model) = decode(&path) else {
            too_deep.push(path.strip_prefix(&root).unwrap().to_path_buf());
            continue;
        };
        for finding in programs(&model)
            .into_iter()
            .flat_map(|p| round_trip(&path, p))
        {
            match finding.text.strip_suffix(": unknown op") {
                Some(op) => {
                    unsupported.insert(op.rsplit('`').nth(1).unwrap_or_default().to_string());
                }
                None => other.push(format!("{}: {finding}", path.display())),
            }
        }
    }
    assert_eq!(
        too_deep,
        TOO_DEEP.iter().map(PathBuf::from).collect::<Vec<_>>()
    );
    assert_eq!(other, Vec::<String>::new());
    assert_eq!(
        unsupported.iter().map(String::as_str).collect::<Vec<_>>(),
        UNSUPPORTED
    );
}

/// Types as coremltools computes them, for every op of the table in many forms.
#[test]
fn computed_types_are_those_of_coremltools() {
    let mut used = BTreeSet::new();
    let mut findings = Vec::new();
    for opset in ["CoreML5", "CoreML6", "CoreML7", "CoreML8"] {
        let path = gesso_testkit::fixture(&format!("ops/inference-{opset}.mlmodel"));
        let model = decode(&path).unwrap();
        let program = from_model(&model).unwrap();
        for op in &program.functions["main"].body().unwrap().operations {
            used.insert(op.kind.clone());
        }
        let found = round_trip(&path, programs(&model)[0]);
        findings.extend(found.iter().map(|f| format!("{opset}: {f}")));
    }
    assert_eq!(findings, Vec::<String>::new());
    let unused: BTreeSet<&str> = gesso_mil::ops::OPS
        .iter()
        .flat_map(|group| group.iter())
        .map(|row| row.name)
        .filter(|name| !used.contains(*name))
        .collect();
    assert_eq!(
        unused.into_iter().collect::<Vec<_>>(),
        ["coreml_update_state", "read_state", "write_state"]
    );
}
