//! Compiled models: Apple's folders open, broken ones are refused by kind, damaged headers never panic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use gesso_coreml::Error;
use gesso_coreml::compiled::{CompiledModel, Header, write};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const SAMPLES: &str = "formats/mlmodelc-samples";

/// (complete compiled ML Program, specification version, functions, files beside the program).
const COMPLETE: &[(&str, i32, usize, usize)] = &[
    ("coreml-native-linear/test_linear.mlmodelc", 7, 1, 0),
    ("coremltools-add/add_model.mlmodelc", 7, 1, 0),
    ("fluidaudio-argmax/Argmax.mlmodelc", 7, 1, 0),
    ("fluidaudio-transpose/TransposeEncoder.mlmodelc", 7, 1, 0),
    ("silero-vad/silero_vad.mlmodelc", 6, 1, 1),
    (
        "mlmodelc-export-flexible-enumerated/expected-macos.mlmodelc",
        9,
        1,
        0,
    ),
    (
        "mlmodelc-export-flexible-multifunction/expected-macos.mlmodelc",
        9,
        2,
        0,
    ),
    (
        "mlmodelc-export-flexible-range/expected-macos.mlmodelc",
        9,
        1,
        0,
    ),
    (
        "mlmodelc-export-neg-0d-scalar/expected-macos.mlmodelc",
        9,
        1,
        0,
    ),
    (
        "mlmodelc-export-quantized-constexpr/expected-macos.mlmodelc",
        9,
        1,
        1,
    ),
    (
        "mlmodelc-export-pipeline-cast/expected.mlmodelc/model0",
        9,
        1,
        0,
    ),
    (
        "mlmodelc-export-pipeline-cast/expected.mlmodelc/model1",
        9,
        1,
        0,
    ),
];

#[test]
fn apples_compiled_models_open() {
    let Some(root) = gesso_testkit::shared(SAMPLES) else {
        return;
    };
    for &(name, version, functions, files) in COMPLETE {
        let model = CompiledModel::open(&root.join(name)).unwrap();
        assert_eq!(model.header.specification_version, version, "{name}");
        assert_eq!(model.header.functions, functions, "{name}");
        assert_eq!(model.files().names().count(), files, "{name}");
        assert!(model.text.starts_with("program("), "{name}");
    }
    let silero = CompiledModel::open(&root.join("silero-vad/silero_vad.mlmodelc")).unwrap();
    let record = silero.blob("@model_path/weights/weight.bin", 64).unwrap();
    assert!(record.elements() > 0);
    let missing = silero.blob("@model_path/weights/other.bin", 64);
    assert!(matches!(missing, Err(Error::MissingWeights { .. })));
    let up = silero.blob("@model_path/../weight.bin", 64);
    assert!(matches!(up, Err(Error::UnsafePath { .. })));
}

#[test]
fn pipelines_pointers_and_unfinished_folders_are_refused() {
    let Some(root) = gesso_testkit::shared(SAMPLES) else {
        return;
    };
    let open = |name: &str| CompiledModel::open(&root.join(name)).unwrap_err();
    let pipeline = open("mlmodelc-export-pipeline-cast/expected.mlmodelc");
    assert!(pipeline.to_string().contains("hint: this is a pipeline"));
    assert!(matches!(pipeline, Error::CompiledKind { found: 202, .. }));
    let pointer = open("fluidaudio-parakeet-joint_decision/joint_decision.mlmodelc");
    assert!(matches!(pointer, Error::CompiledKind { .. }));
    let watch = open("mlmodelc-export-neg-0d-scalar/observed-watchos-broken.mlmodelc");
    assert!(watch.to_string().contains("expected a trailer"));
}

/// A header of one function with an empty description.
fn header() -> Vec<u8> {
    let mut bytes = 502u32.to_le_bytes().to_vec();
    bytes.extend([0; 24]);
    bytes.extend(7u64.to_le_bytes());
    bytes.extend(b"generic");
    bytes.extend(7u32.to_le_bytes());
    bytes.extend([0; 28]);
    bytes.extend(3u64.to_le_bytes());
    bytes.extend([0xa2, 0x06, 0x00]);
    bytes.extend(502u64.to_le_bytes());
    bytes.extend(0u64.to_le_bytes());
    bytes
}

#[test]
fn each_way_a_header_can_be_broken_has_its_error() {
    let read = |bytes: &[u8]| Header::read(bytes, Path::new("c"));
    let whole = header();
    assert_eq!(read(&whole).unwrap().specification_version, 7);
    for (length, word) in [
        (2, "header"),
        (70, "header"),
        (80, "description"),
        (90, "trailer"),
    ] {
        let error = read(&whole[..length]).unwrap_err().to_string();
        assert!(error.contains(&format!("end in the {word}")), "{error}");
    }
    let mut huge = whole.clone();
    huge[0x4b..0x53].fill(0xff);
    assert!(matches!(
        read(&huge),
        Err(Error::CompiledDescription { .. })
    ));
    let mut trailer = whole.clone();
    trailer[0x56] = 1;
    let error = read(&trailer).unwrap_err().to_string();
    assert!(error.contains("for function 0, found 257 and 0"), "{error}");
    let mut message = whole.clone();
    message[0x55] = 9;
    assert!(matches!(read(&message), Err(Error::CompiledMessage { .. })));
}

#[test]
fn damaged_headers_never_panic() {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut below = |n: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % n.max(1) as u64) as usize
    };
    let mut whole = header();
    if let Some(root) = gesso_testkit::shared(SAMPLES) {
        let file = "mlmodelc-export-flexible-multifunction/expected-macos.mlmodelc/coremldata.bin";
        whole = fs::read(root.join(file)).unwrap();
    }
    let mut read = 0;
    for _ in 0..5000 {
        let mut bytes = whole.clone();
        for _ in 0..=below(3) {
            let at = below(bytes.len());
            match below(4) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, below(256) as u8),
                2 if !bytes.is_empty() => bytes[at] = 0xff,
                _ if !bytes.is_empty() => bytes[at] ^= 1 << below(8),
                _ => {}
            }
        }
        read += usize::from(Header::read(&bytes, Path::new("c")).is_ok());
    }
    assert!((100..4900).contains(&read), "{read} of 5000 read");
}

#[test]
fn a_text_that_is_not_utf_8_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let files = BTreeMap::from([
        ("model.mil".to_string(), vec![0xff]),
        ("coremldata.bin".to_string(), header()),
    ]);
    write(dir.path(), &files, &BTreeMap::new()).unwrap();
    let error = CompiledModel::open(dir.path()).unwrap_err();
    assert!(matches!(error, Error::CompiledText { .. }));
}

#[test]
fn weights_are_shared_and_nothing_is_overwritten() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let weight = dir.path().join("w");
    fs::write(&weight, b"weights").unwrap();
    let target = dir.path().join("X.mlmodelc");
    let files = BTreeMap::from([("analytics/coremldata.bin".to_string(), vec![1])]);
    let weights = BTreeMap::from([("weights/weight.bin".to_string(), weight.clone())]);
    write(&target, &files, &weights).unwrap();
    let linked = fs::metadata(target.join("weights/weight.bin")).unwrap();
    assert_eq!(linked.ino(), fs::metadata(&weight).unwrap().ino());
    let again = write(&target, &files, &weights);
    assert!(matches!(again, Err(Error::Io { .. })));
    let up = BTreeMap::from([("../x".to_string(), vec![1])]);
    let outside = write(&target, &up, &BTreeMap::new());
    assert!(matches!(outside, Err(Error::UnsafePath { .. })));
}
