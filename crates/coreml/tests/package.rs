//! Packages: the samples, the bytes of the manifest, and hostile ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use gesso_coreml::Error;
use gesso_coreml::blob::{BlobDType, BlobWriter};
use gesso_coreml::package::{self, Package, WEIGHT_FILE, WeightFile};
use gesso_coreml::proto::mil_spec::{Block, Program, value};
use gesso_coreml::proto::specification::{Model, model};
use prost::Message;
use std::fs;
use std::path::{Path, PathBuf};

fn sample(name: &str) -> PathBuf {
    gesso_testkit::fixture(&format!("formats/samples/{name}/{name}.mlpackage"))
}

fn samples() -> Vec<PathBuf> {
    let mut names: Vec<_> = fs::read_dir(gesso_testkit::fixture("formats/samples"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names.iter().map(|name| sample(name)).collect()
}

fn program(model: &Model) -> &Program {
    match model.r#type.as_ref().unwrap() {
        model::Type::MlProgram(program) => program,
        other => panic!("{other:?}"),
    }
}

/// Every reference to a weight file in a block, as (file name, offset).
fn blob_references(block: &Block, found: &mut Vec<(String, u64)>) {
    for operation in &block.operations {
        let bound = operation
            .inputs
            .values()
            .flat_map(|argument| &argument.arguments)
            .filter_map(|binding| match &binding.binding {
                Some(gesso_coreml::proto::mil_spec::argument::binding::Binding::Value(v)) => {
                    Some(v)
                }
                _ => None,
            });
        for value in operation.attributes.values().chain(bound) {
            if let Some(value::Value::BlobFileValue(blob)) = &value.value {
                found.push((blob.file_name.clone(), blob.offset));
            }
        }
        for nested in &operation.blocks {
            blob_references(nested, found);
        }
    }
}

#[test]
fn every_sample_opens_and_every_constant_is_found() {
    let mut constants = 0;
    let samples = samples();
    assert_eq!(samples.len(), 26);
    for path in samples {
        let package = Package::open(&path).unwrap();
        assert!((7..=10).contains(&package.model.specification_version));
        let mut references = Vec::new();
        for function in program(&package.model).functions.values() {
            for block in function.block_specializations.values() {
                blob_references(block, &mut references);
            }
        }
        for (file, offset) in &references {
            assert_eq!(file, WEIGHT_FILE);
            assert_eq!(package.blob(file, *offset).unwrap().offset, *offset);
        }
        assert_eq!(references.is_empty(), package.weight_bytes() == 0);
        constants += references.len();
    }
    assert!(constants > 90, "{constants}");
}

#[test]
fn decoding_and_encoding_loses_nothing() {
    for path in samples() {
        let bytes = fs::read(path.join("Data/com.apple.CoreML/model.mlmodel")).unwrap();
        let model = Model::decode(&*bytes).unwrap();
        // Map entries may stand in another order, but nothing is dropped: unknown fields would make it shorter.
        let again = model.encode_to_vec();
        assert_eq!(again.len(), bytes.len(), "{}", path.display());
        assert_eq!(Model::decode(&*again).unwrap(), model);
        assert_eq!(Model::decode(&*again).unwrap().encode_to_vec(), again);
    }
}

#[test]
fn foreign_packages() {
    let Some(root) = gesso_testkit::shared("formats/mlpackage-samples") else {
        return;
    };
    let dtln =
        Package::open(&root.join("dtln-aec-128-part1/DTLN_AEC_128_Part1.mlpackage")).unwrap();
    assert_eq!(dtln.weight_bytes(), 1_980_996);
    assert_eq!(
        dtln.file_names().collect::<Vec<_>>(),
        ["@model_path/weights/weight.bin"]
    );
    assert_eq!(
        dtln.blob(WEIGHT_FILE, 64).unwrap().dtype,
        BlobDType::Float32
    );

    // These are kept without their weights, and their manifests list a folder that is not there.
    for spec_only in [
        "bisenet/model.mlpackage",
        "kokoro-duration/kokoro_duration.mlpackage",
        "mankai-siamese/model.mlpackage",
    ] {
        let package = Package::open(&root.join(spec_only)).unwrap();
        assert_eq!(package.missing_items, ["com.apple.CoreML/weights"]);
        assert!(!program(&package.model).functions.is_empty());
        assert!(matches!(
            package.blob(WEIGHT_FILE, 64),
            Err(Error::MissingWeights { file_name, .. }) if file_name == WEIGHT_FILE
        ));
    }

    let rustnn = root.join("rustnn-weighted-pipeline");
    for file in ["input.mlmodel", "control-flow/input.mlmodel"] {
        package::read_model(&rustnn.join(file)).unwrap();
    }
}

/// A model and its weight file, in a folder of their own.
fn material(dir: &Path) -> (Model, PathBuf) {
    let weights = dir.join("material.bin");
    let mut writer = BlobWriter::create(&weights).unwrap();
    writer.push(BlobDType::UInt8, &[1, 2, 3], 0).unwrap();
    writer.finish().unwrap();
    let model = Model {
        specification_version: 7,
        ..Model::default()
    };
    (model, weights)
}

#[test]
fn a_written_package_reads_back() {
    let dir = tempfile::tempdir().unwrap();
    let (model, weights) = material(dir.path());
    let (linked, moved) = (
        dir.path().join("a.mlpackage"),
        dir.path().join("b.mlpackage"),
    );
    package::write(&linked, &model, WeightFile::HardLink(&weights)).unwrap();
    assert!(weights.exists());
    package::write(&moved, &model, WeightFile::Move(&weights)).unwrap();
    assert!(!weights.exists());
    for path in [&linked, &moved] {
        let package = Package::open(path).unwrap();
        assert_eq!(package.model, model);
        assert_eq!(package.blob(WEIGHT_FILE, 64).unwrap().data, [1, 2, 3]);
        assert_eq!(package.weight_bytes(), 131);
    }
    let manifest = |path: &Path| fs::read_to_string(path.join("Manifest.json")).unwrap();
    assert_eq!(manifest(&linked), manifest(&moved));
    assert_eq!(manifest(&linked).len(), 617);

    // A package is never written over another.
    assert!(matches!(
        package::write(&moved, &model, WeightFile::None),
        Err(Error::Io { .. })
    ));
}

#[test]
fn the_manifest_has_the_form_that_coremltools_writes() {
    let dir = tempfile::tempdir().unwrap();
    let (model, weights) = material(dir.path());
    let path = dir.path().join("p.mlpackage");
    package::write(&path, &model, WeightFile::Move(&weights)).unwrap();
    let ours = fs::read_to_string(path.join("Manifest.json")).unwrap();
    let theirs = fs::read_to_string(sample("base_fp16_ios16").join("Manifest.json")).unwrap();

    // The identifiers differ, and with them the order of the items; the lines themselves are the same.
    let masked = |text: &str| {
        let hex = |line: &str| line.matches('-').count() == 4;
        let mut lines: Vec<String> = text
            .lines()
            .map(|line| {
                if !hex(line) {
                    return line.trim_end_matches(',').to_owned();
                }
                let at = line.find('-').unwrap() - 8;
                format!("{}UUID{}", &line[..at], &line[at + 36..])
            })
            .map(|line| line.trim_end_matches(',').to_owned())
            .collect();
        lines.sort();
        lines
    };
    assert_eq!(masked(&ours), masked(&theirs));
    assert_eq!(ours.len(), theirs.len());
    assert!(ours.ends_with("}\n") && !ours.contains('\r'));
}

#[test]
fn identifiers_follow_the_content() {
    let dir = tempfile::tempdir().unwrap();
    let (mut model, _) = material(dir.path());
    let mut manifest = |name: &str, version| {
        model.specification_version = version;
        let path = dir.path().join(name);
        package::write(&path, &model, WeightFile::None).unwrap();
        assert!(path.join("Data/com.apple.CoreML/weights").is_dir());
        Package::open(&path).unwrap();
        fs::read_to_string(path.join("Manifest.json")).unwrap()
    };
    let (a, b, c) = (manifest("a", 7), manifest("b", 7), manifest("c", 8));
    assert_eq!(a, b);
    assert_ne!(a, c);
}

/// The error of a package with this manifest; the model file and the folder `weights` are there.
fn open_with(manifest: &str) -> Error {
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("Data/com.apple.CoreML");
    fs::create_dir_all(inner.join("weights")).unwrap();
    fs::write(inner.join("model.mlmodel"), [0x08, 0x07]).unwrap();
    fs::write(dir.path().join("outside"), []).unwrap();
    fs::write(dir.path().join("Manifest.json"), manifest).unwrap();
    Package::open(dir.path()).unwrap_err()
}

fn manifest_with(version: &str, path: &str, root: &str) -> String {
    format!(
        r#"{{"fileFormatVersion": "{version}", "itemInfoEntries": {{"A": {{"author": "x", "description": "x", "name": "x",
        "path": "{path}"}}}}, "rootModelIdentifier": "{root}"}}"#
    )
}

#[test]
fn hostile_manifests() {
    let model = "com.apple.CoreML/model.mlmodel";
    for text in [
        "",
        "{",
        "[]",
        r#"{"fileFormatVersion": "1.0.0"}"#,
        r#"{"fileFormatVersion": 1, "itemInfoEntries": {}, "rootModelIdentifier": "A"}"#,
        r#"{"fileFormatVersion": "1.0.0", "itemInfoEntries": {"A": {"path": "x"}}, "rootModelIdentifier": "A"}"#,
    ] {
        assert!(matches!(open_with(text), Error::Manifest { .. }), "{text}");
    }
    for version in ["1.0.1", "2.0.0", "1", ""] {
        assert!(matches!(
            open_with(&manifest_with(version, model, "A")),
            Error::ManifestVersion { found, .. } if found == version
        ));
    }
    assert!(matches!(
        open_with(&manifest_with("1.0.0", model, "B")),
        Error::ManifestRoot { identifier, .. } if identifier == "B"
    ));
    for path in [
        "",
        "/etc/passwd",
        "../outside",
        "a/../../outside",
        "..",
        ".",
        "a\\\\b",
    ] {
        assert!(
            matches!(
                open_with(&manifest_with("1.0.0", path, "A")),
                Error::UnsafePath { .. }
            ),
            "{path}"
        );
    }
    assert!(matches!(
        open_with(&manifest_with("1.0.0", "com.apple.CoreML/none", "A")),
        Error::MissingItem { item, .. } if item == "com.apple.CoreML/none"
    ));
    // The root is a folder.
    assert!(matches!(
        open_with(&manifest_with("1.0.0", "com.apple.CoreML/weights", "A")),
        Error::NotAFile { .. }
    ));
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(
        Package::open(dir.path()),
        Err(Error::Io { action: "read", .. })
    ));
}

#[test]
fn hostile_models() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.mlmodel");
    // A field that ends before it begins, and a program that is nested without end.
    let mut nested = Vec::new();
    for _ in 0..5_000 {
        let mut outer = vec![0x0a];
        prost::encoding::encode_varint(nested.len() as u64, &mut outer);
        outer.extend(&nested);
        let mut pipeline = vec![0xd2, 0x0c];
        prost::encoding::encode_varint(outer.len() as u64, &mut pipeline);
        pipeline.extend(&outer);
        nested = pipeline;
    }
    for bytes in [vec![0x12, 0xff], nested] {
        fs::write(&path, bytes).unwrap();
        assert!(matches!(
            package::read_model(&path),
            Err(Error::Model { .. })
        ));
    }
}

#[test]
fn hostile_file_names() {
    let package = Package::open(&sample("base_fp16_ios16")).unwrap();
    for name in [
        "@model_path/../model.mlmodel",
        "@model_path//etc/passwd",
        "@model_path/weights/../../x",
        "@model_path/",
    ] {
        assert!(
            matches!(package.blob(name, 64), Err(Error::UnsafePath { .. })),
            "{name}"
        );
    }
    for name in [
        "weights/weight.bin",
        "/etc/passwd",
        "@model_path/weights/other.bin",
        "@model_path/model.mlmodel",
        "",
    ] {
        assert!(
            matches!(package.blob(name, 64), Err(Error::MissingWeights { .. })),
            "{name}"
        );
    }
    assert!(matches!(
        package.blob(WEIGHT_FILE, 128),
        Err(Error::BlobSentinel { .. })
    ));
}
