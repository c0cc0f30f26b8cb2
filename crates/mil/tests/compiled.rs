//! Compiled models against Apple's: byte for byte where the source is known, and compiled again where it is not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use gesso_coreml::proto::specification::{Model, ModelDescription};
use gesso_mil::compiled::{self, Compiled, Parts, Source};
use gesso_mil::text;
use prost::Message;
use serde_json::Value as Json;
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};

const SAMPLES: &str = "formats/mlmodelc-samples";

/// (sample with its source beside it, name that the source had when Apple compiled it).
const PAIRS: &[(&str, &str)] = &[
    ("mlmodelc-export-flexible-multifunction", "input"),
    ("mlmodelc-export-flexible-range", "input"),
    ("mlmodelc-export-neg-0d-scalar", "input"),
    ("mlmodelc-export-quantized-constexpr", "input"),
];

/// Samples without a source, but with all their files.
const ALONE: &[&str] = &[
    "coreml-native-linear/test_linear.mlmodelc",
    "coremltools-add/add_model.mlmodelc",
    "fluidaudio-argmax/Argmax.mlmodelc",
    "fluidaudio-transpose/TransposeEncoder.mlmodelc",
    "silero-vad/silero_vad.mlmodelc",
];

/// Samples whose `coremldata.bin` is not stored.
const TEXT_ONLY: &[&str] = &[
    "fluidaudio-parakeet-joint_decision/joint_decision.mlmodelc",
    "fluidaudio-parakeet-parakeet_eou_preprocessor/parakeet_eou_preprocessor.mlmodelc",
];

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn json(bytes: &[u8]) -> Json {
    serde_json::from_slice(bytes).unwrap()
}

/// The text without its head: version, and the line that names the tools.
fn from_line_4(text: &[u8]) -> &str {
    let text = std::str::from_utf8(text).unwrap();
    text.splitn(4, '\n').nth(3).unwrap()
}

fn source(name: &str, bytes: &[u8]) -> Compiled {
    let model = Model::decode(bytes).unwrap();
    let source = Source {
        name,
        model_name: name,
        model_hash: Sha256::digest(bytes).into(),
    };
    compiled::compile(&model, &source).unwrap()
}

/// The parts of a stored `coremldata.bin`: specification version, description, number of functions.
fn header(bytes: &[u8]) -> (i32, ModelDescription, usize) {
    let version = i32::from_le_bytes(bytes[0x2b..0x2f].try_into().unwrap());
    let length = u64::from_le_bytes(bytes[0x4b..0x53].try_into().unwrap()) as usize;
    let description = ModelDescription::decode(&bytes[0x53..0x53 + length]).unwrap();
    (version, description, (bytes.len() - 0x53 - length) / 16)
}

#[test]
fn models_with_their_source_compile_to_apples_bytes() {
    let Some(root) = gesso_testkit::shared(SAMPLES) else {
        return;
    };
    for &(sample, name) in PAIRS {
        let folder = root.join(sample);
        let compiled = source(name, &read(&folder.join("input.mlmodel")));
        let apple = folder.join("expected-macos.mlmodelc");
        let mine = |file: &str| compiled.files[file].as_slice();
        let theirs = |file: &str| read(&apple.join(file));
        assert_eq!(
            from_line_4(mine("model.mil")),
            from_line_4(&theirs("model.mil")),
            "{sample}"
        );
        for file in ["coremldata.bin", "analytics/coremldata.bin"] {
            assert!(mine(file) == theirs(file), "{sample}: {file}");
        }
        assert_eq!(
            json(mine("metadata.json")),
            json(&theirs("metadata.json")),
            "{sample}"
        );
        assert_eq!(compiled.files.len(), 4);
        for (at, from) in &compiled.weights {
            assert_eq!(read(&folder.join(from)), theirs(at), "{sample}: {at}");
        }
    }
}

#[test]
fn a_pipeline_compiles_to_apples_bytes_but_for_the_hash_of_its_source() {
    let Some(root) = gesso_testkit::shared(SAMPLES) else {
        return;
    };
    let folder = root.join("mlmodelc-export-pipeline-cast");
    let compiled = source("cast_pipeline", &read(&folder.join("input.mlmodel")));
    for (file, mine) in &compiled.files {
        let theirs = read(&folder.join("expected.mlmodelc").join(file));
        match file.as_str() {
            "metadata.json" => assert_eq!(json(mine), json(&theirs)),
            // Apple compiled a source of another name, hence of another hash.
            "analytics/coremldata.bin" => {
                let hash = 0x7c..0x7c + 8 + 44;
                let without = |b: &[u8]| [&b[..hash.start], &b[hash.end..]].concat();
                assert_eq!(without(mine), without(&theirs));
            }
            _ if file.ends_with(".mil") => assert_eq!(from_line_4(mine), from_line_4(&theirs)),
            _ => assert!(*mine == theirs, "{file}"),
        }
    }
    assert_eq!(compiled.files.len(), 10);
}

#[test]
fn enumerated_shapes_are_refused_but_read() {
    let Some(root) = gesso_testkit::shared(SAMPLES) else {
        return;
    };
    let folder = root.join("mlmodelc-export-flexible-enumerated");
    let bytes = read(&folder.join("input.mlmodel"));
    let model = Model::decode(&*bytes).unwrap();
    let source = Source {
        name: "input",
        model_name: "input",
        model_hash: [0; 32],
    };
    let error = compiled::compile(&model, &source).unwrap_err().to_string();
    assert!(error.contains("input `input` has enumerated shapes"));
    assert!(error.contains("hint: "));

    let folder = folder.join("expected-macos.mlmodelc");
    let text = String::from_utf8(read(&folder.join("model.mil"))).unwrap();
    let (version, description, functions) = header(&read(&folder.join("coremldata.bin")));
    let back = compiled::decompile(&Parts {
        text: &text,
        specification_version: version,
        description: &description,
        functions,
    });
    let back = back.unwrap().model;
    assert_eq!(back, model);
}

/// Decompiled and compiled again.
fn again(folder: &Path, name: &str) -> Compiled {
    let text = String::from_utf8(read(&folder.join("model.mil"))).unwrap();
    let (version, description, functions) = header(&read(&folder.join("coremldata.bin")));
    let model = compiled::decompile(&Parts {
        text: &text,
        specification_version: version,
        description: &description,
        functions,
    });
    source(name, &model.unwrap().model.encode_to_vec())
}

#[test]
fn apples_models_decompile_and_compile_to_the_same_bytes() {
    let Some(root) = gesso_testkit::shared(SAMPLES) else {
        return;
    };
    let pairs = PAIRS
        .iter()
        .map(|(sample, _)| root.join(sample).join("expected-macos.mlmodelc"));
    let folders: Vec<PathBuf> = ALONE.iter().map(|f| root.join(f)).chain(pairs).collect();
    for folder in folders {
        let theirs = json(&read(&folder.join("metadata.json")));
        let name = theirs[0]["generatedClassName"].as_str().unwrap();
        let compiled = again(&folder, name);
        let shown = folder.display();
        assert_eq!(
            from_line_4(&compiled.files["model.mil"]),
            from_line_4(&read(&folder.join("model.mil"))).trim_end(), // one file got a final line feed
            "{shown}"
        );
        assert_eq!(json(&compiled.files["metadata.json"]), theirs, "{shown}");
        // Python writes user-defined metadata in any order, so only the parsed content is compared.
        let mine = header(&compiled.files["coremldata.bin"]);
        let bytes = read(&folder.join("coremldata.bin"));
        assert_eq!(mine, header(&bytes), "{shown}");
        assert_eq!(
            compiled.files["coremldata.bin"].len(),
            bytes.len(),
            "{shown}"
        );
    }
}

#[test]
fn programs_without_their_description_agree_with_apples_metadata() {
    let Some(root) = gesso_testkit::shared(SAMPLES) else {
        return;
    };
    for sample in TEXT_ONLY {
        let folder = root.join(sample);
        let text = String::from_utf8(read(&folder.join("model.mil"))).unwrap();
        let (program, _) = text::parse(&text).unwrap();
        let metadata = json(&read(&folder.join("metadata.json")));
        let object = &metadata[0];
        assert_eq!(
            serde_json::to_value(compiled::histogram(&program)).unwrap(),
            object["mlProgramOperationTypeHistogram"],
            "{sample}"
        );
        assert_eq!(
            compiled::compute_precision(&program),
            object["computePrecision"],
            "{sample}"
        );
        assert_eq!(
            serde_json::to_value(compiled::storage_precision(&program)).unwrap(),
            object["storagePrecision"],
            "{sample}"
        );
    }
}
