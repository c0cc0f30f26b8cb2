//! Our schema files against the descriptors that coremltools ships: every message, field, number, type and label.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Map, Value, json};

/// Messages and fields of theirs that we leave out, by the reason.
const ABSENT: [(&str, &[&str]); 3] = [
    (
        "wrappers for classifiers and regressors, which the converter never makes",
        &[
            "CoreML.Specification.PipelineClassifier",
            "CoreML.Specification.PipelineRegressor",
            "CoreML.Specification.Model.pipelineClassifier",
            "CoreML.Specification.Model.pipelineRegressor",
        ],
    ),
    (
        "a model inside a model as opaque bytes; no open tool writes it",
        &[
            "CoreML.Specification.SerializedModel",
            "CoreML.Specification.Model.serializedModel",
        ],
    ),
    (
        "kinds of model that hold no ML Program; they are skipped as unknown fields",
        &[
            "CoreML.Specification.Model.glmRegressor",
            "CoreML.Specification.Model.supportVectorRegressor",
            "CoreML.Specification.Model.treeEnsembleRegressor",
            "CoreML.Specification.Model.neuralNetworkRegressor",
            "CoreML.Specification.Model.bayesianProbitRegressor",
            "CoreML.Specification.Model.glmClassifier",
            "CoreML.Specification.Model.supportVectorClassifier",
            "CoreML.Specification.Model.treeEnsembleClassifier",
            "CoreML.Specification.Model.neuralNetworkClassifier",
            "CoreML.Specification.Model.kNearestNeighborsClassifier",
            "CoreML.Specification.Model.neuralNetwork",
            "CoreML.Specification.Model.itemSimilarityRecommender",
            "CoreML.Specification.Model.customModel",
            "CoreML.Specification.Model.linkedModel",
            "CoreML.Specification.Model.classConfidenceThresholding",
            "CoreML.Specification.Model.oneHotEncoder",
            "CoreML.Specification.Model.imputer",
            "CoreML.Specification.Model.featureVectorizer",
            "CoreML.Specification.Model.dictVectorizer",
            "CoreML.Specification.Model.scaler",
            "CoreML.Specification.Model.categoricalMapping",
            "CoreML.Specification.Model.normalizer",
            "CoreML.Specification.Model.arrayFeatureExtractor",
            "CoreML.Specification.Model.nonMaximumSuppression",
            "CoreML.Specification.Model.identity",
            "CoreML.Specification.Model.textClassifier",
            "CoreML.Specification.Model.wordTagger",
            "CoreML.Specification.Model.visionFeaturePrint",
            "CoreML.Specification.Model.soundAnalysisPreprocessing",
            "CoreML.Specification.Model.gazetteer",
            "CoreML.Specification.Model.wordEmbedding",
            "CoreML.Specification.Model.audioFeaturePrint",
        ],
    ),
];

/// Every message, field, enum and enum value by its full name, with what the wire depends on.
type Facts = BTreeMap<String, Value>;

/// The facts of the committed descriptors.
fn theirs() -> Facts {
    let path = root().join("fixtures/proto/coremltools-9.0.json");
    let file: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let object = |value: &Value| -> Map<String, Value> { value.as_object().unwrap().clone() };
    let mut facts = Facts::new();
    for (message, content) in object(&file["messages"]) {
        facts.insert(message.clone(), json!({"map_entry": content["map_entry"]}));
        for (number, field) in object(&content["fields"]) {
            let mut field = object(&field);
            let name = field.remove("name").unwrap();
            field.insert("number".into(), number.parse::<i32>().unwrap().into());
            // In proto3 a repeated number is packed unless the schema says otherwise.
            field.entry("packed").or_insert(true.into());
            facts.insert(
                format!("{message}.{}", name.as_str().unwrap()),
                field.into(),
            );
        }
    }
    for (name, values) in object(&file["enums"]) {
        for (number, value) in object(&values) {
            let number = number.parse::<i32>().unwrap();
            facts.insert(format!("{name}.{}", value.as_str().unwrap()), number.into());
        }
    }
    facts
}

/// The facts of our schema files.
fn ours() -> Facts {
    let proto = root().join("proto");
    let set = protox::compile([proto.join("Model.proto")], [&proto]).unwrap();
    let mut facts = Facts::new();
    // Names of messages on the way, with what is still to be looked at.
    let mut messages = Vec::new();
    let mut enums = Vec::new();
    for file in &set.file {
        assert_eq!(file.syntax(), "proto3");
        messages.extend(
            file.message_type
                .iter()
                .map(|m| (file.package(), m))
                .map(|(prefix, message)| (format!("{prefix}.{}", message.name()), message.clone())),
        );
        enums.extend(
            file.enum_type
                .iter()
                .map(|e| (format!("{}.{}", file.package(), e.name()), e.clone())),
        );
    }
    while let Some((name, message)) = messages.pop() {
        let map_entry = message.options.as_ref().is_some_and(|o| o.map_entry());
        facts.insert(name.clone(), json!({"map_entry": map_entry}));
        for field in &message.field {
            let packed = field.options.as_ref().and_then(|o| o.packed);
            let mut fact = json!({
                "number": field.number(),
                "label": field.label().as_str_name(),
                "type": field.r#type().as_str_name(),
                "packed": packed.unwrap_or(true),
            });
            if !field.type_name().is_empty() {
                fact["type_name"] = field.type_name().trim_start_matches('.').into();
            }
            if let Some(index) = field.oneof_index {
                fact["oneof"] = message.oneof_decl[index as usize].name().into();
            }
            facts.insert(format!("{name}.{}", field.name()), fact);
        }
        for nested in message.nested_type {
            messages.push((format!("{name}.{}", nested.name()), nested));
        }
        for nested in message.enum_type {
            enums.push((format!("{name}.{}", nested.name()), nested));
        }
    }
    for (name, content) in enums {
        for value in &content.value {
            facts.insert(format!("{name}.{}", value.name()), value.number().into());
        }
    }
    facts
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

#[test]
fn what_we_have_is_exactly_as_theirs() {
    let theirs = theirs();
    for (name, fact) in ours() {
        assert_eq!(Some(&fact), theirs.get(&name), "`{name}`: ours, theirs");
    }
}

#[test]
fn what_we_lack_is_lacking_for_a_reason() {
    let ours = ours();
    let listed: BTreeSet<&str> = ABSENT
        .iter()
        .flat_map(|(_, names)| names.iter().copied())
        .collect();
    let theirs = theirs();
    let lacking: BTreeSet<&str> = theirs
        .keys()
        .filter(|name| !ours.contains_key(*name))
        .map(String::as_str)
        // Fields of a message that is absent as a whole.
        .filter(|name| {
            name.rsplit_once('.')
                .is_none_or(|(message, _)| !listed.contains(message))
        })
        .collect();
    assert_eq!(lacking, listed);
}

#[test]
fn the_comparison_covers_the_format() {
    let ours = ours();
    assert!(ours.len() > 200, "{}", ours.len());
    assert_eq!(
        ours["CoreML.Specification.MILSpec.Value.blobFileValue"],
        json!({
            "number": 5, "label": "LABEL_OPTIONAL", "type": "TYPE_MESSAGE", "oneof": "value", "packed": true,
            "type_name": "CoreML.Specification.MILSpec.Value.BlobFileValue",
        })
    );
}
