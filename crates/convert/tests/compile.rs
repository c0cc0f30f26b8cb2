//! Packages through the compiler and back, and the compiler against an independent one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use gesso_convert::{compile_package, decompile_package};
use gesso_coreml::package::Package;
use gesso_mil::{Program, ValueData, from_model, text};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Our packages, by name.
fn samples() -> Vec<(String, PathBuf)> {
    let root = gesso_testkit::fixture("formats/samples");
    let mut names: Vec<String> = fs::read_dir(&root)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|name| root.join(name).is_dir())
        .collect();
    names.sort();
    assert_eq!(names.len(), 26);
    names
        .into_iter()
        .map(|name| {
            let package = root.join(&name).join(format!("{name}.mlpackage"));
            (name, package)
        })
        .collect()
}

/// The one sample that cannot be compiled.
const ENUMERATED: &str = "flex_enum_ios17";

/// Every file below `folder` by its path.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fn walk(folder: &Path, root: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, root, found);
            } else {
                let name = path.strip_prefix(root).unwrap().to_path_buf();
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(folder, folder, &mut found);
    found
}

#[test]
fn compile_decompile_compile_is_a_fixed_point() {
    let dir = tempfile::tempdir().unwrap();
    for (name, package) in samples() {
        let at = |suffix: &str| dir.path().join(suffix).join(&name);
        let first = at("first").with_extension("mlmodelc");
        let compiled = compile_package(&package, &first);
        if name == ENUMERATED {
            let error = compiled.unwrap_err().to_string();
            assert!(error.contains("enumerated shapes"), "{error}");
            continue;
        }
        compiled.unwrap_or_else(|e| panic!("{name}: {e}"));
        let back = at("back").with_extension("mlpackage");
        decompile_package(&first, &back).unwrap_or_else(|e| panic!("{name}: {e}"));
        let second = at("second").with_extension("mlmodelc");
        compile_package(&back, &second).unwrap();

        // The package holds what the first one held, but for the order in which Python wrote its maps.
        let (old, new) = (
            Package::open(&package).unwrap(),
            Package::open(&back).unwrap(),
        );
        let programs = [&new, &old].map(|p| from_model(&p.model).map(ordered).unwrap());
        assert!(programs[0] == programs[1], "{name}");
        assert_eq!(new.model.description, old.model.description, "{name}");
        assert_eq!(new.missing_items, Vec::<String>::new());
        let same = |file: String| {
            new.files().file(&file).unwrap().to_vec() == old.files().file(&file).unwrap().to_vec()
        };
        assert!(old.file_names().all(same), "{name}");

        let (mut one, mut two) = (contents(&first), contents(&second));
        // The hash of the model's bytes stands there, and the order of maps is part of the bytes.
        let hashes =
            [&mut one, &mut two].map(|c| c.remove(Path::new("analytics/coremldata.bin")).unwrap());
        assert_eq!(hashes[0].len(), hashes[1].len());
        assert_eq!(
            one.keys().collect::<Vec<_>>(),
            two.keys().collect::<Vec<_>>()
        );
        for (file, bytes) in &one {
            assert!(*bytes == two[file], "{name}: {}", file.display());
        }

        // From here on nothing changes at all: the package was written by this project.
        let third = at("third").with_extension("mlpackage");
        decompile_package(&second, &third).unwrap();
        assert_eq!(contents(&third), contents(&back), "{name}");
        let fourth = at("fourth").with_extension("mlmodelc");
        compile_package(&third, &fourth).unwrap();
        assert_eq!(contents(&fourth), contents(&second), "{name}");
    }
}

#[test]
fn weights_are_shared_not_copied() {
    let dir = tempfile::tempdir().unwrap();
    let (name, sample) = &samples()[0];
    let first = dir.path().join("first.mlmodelc");
    compile_package(sample, &first).unwrap();
    let package = dir.path().join("base.mlpackage");
    decompile_package(&first, &package).unwrap();
    let made = package.with_extension("mlmodelc");
    compile_package(&package, &made).unwrap_or_else(|e| panic!("{name}: {e}"));
    let weight = |folder: &Path| fs::metadata(folder.join("weights/weight.bin")).unwrap();
    let (mine, theirs) = (
        weight(&made),
        weight(&package.join("Data/com.apple.CoreML")),
    );
    assert_eq!((mine.dev(), mine.ino()), (theirs.dev(), theirs.ino()));
    assert!(mine.nlink() >= 2);
}

#[test]
fn compiled_models_of_others_become_packages_and_compiled_models_again() {
    let Some(root) = gesso_testkit::shared("formats/mlmodelc-samples") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    for folder in [
        "silero-vad/silero_vad.mlmodelc",
        "mlmodelc-export-quantized-constexpr/expected-macos.mlmodelc",
        "mlmodelc-export-flexible-multifunction/expected-macos.mlmodelc",
    ] {
        let source = root.join(folder);
        let name = source.file_stem().unwrap();
        let package = dir
            .path()
            .join(folder.split('/').next().unwrap())
            .join(name);
        let (package, compiled) = (
            package.with_extension("mlpackage"),
            package.with_extension("mlmodelc"),
        );
        decompile_package(&source, &package).unwrap();
        compile_package(&package, &compiled).unwrap();
        let (mine, theirs) = (contents(&compiled), contents(&source));
        assert_eq!(
            mine.keys().collect::<Vec<_>>(),
            theirs.keys().collect::<Vec<_>>()
        );
        let weights = |c: &BTreeMap<PathBuf, Vec<u8>>| {
            c.iter()
                .filter(|(p, _)| p.starts_with("weights"))
                .map(|(p, b)| (p.clone(), b.clone()))
                .collect::<Vec<_>>()
        };
        assert!(weights(&mine) == weights(&theirs), "{folder}");
    }
}

#[test]
fn packages_of_others_compile() {
    let Some(root) = gesso_testkit::shared("formats/mlpackage-samples") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let package = root.join("dtln-aec-128-part1/DTLN_AEC_128_Part1.mlpackage");
    let target = dir.path().join("dtln.mlmodelc");
    compile_package(&package, &target).unwrap();
    let metadata: serde_json::Value =
        serde_json::from_slice(&fs::read(target.join("metadata.json")).unwrap()).unwrap();
    assert_eq!(metadata[0]["generatedClassName"], "DTLN_AEC_128_Part1");
    assert_eq!(metadata[0]["storagePrecision"], "Float32");

    // Their weight files were not kept, so the compiled model would be without them.
    for name in [
        "bisenet/model",
        "kokoro-duration/kokoro_duration",
        "mankai-siamese/model",
    ] {
        let package = root.join(name).with_extension("mlpackage");
        let error = compile_package(&package, &dir.path().join(name)).unwrap_err();
        assert!(error.to_string().contains("weights/weight.bin"), "{error}");
    }

    // The file of the pipeline's weights is stored elsewhere than its name says.
    let pipeline = root.join("rustnn-weighted-pipeline");
    let source = dir.path().join("pipeline.mlmodel");
    fs::copy(pipeline.join("input.mlmodel"), &source).unwrap();
    fs::create_dir(dir.path().join("weights")).unwrap();
    fs::copy(
        pipeline.join("weights.bin"),
        dir.path().join("weights/weights.bin"),
    )
    .unwrap();
    let target = dir.path().join("pipeline.mlmodelc");
    compile_package(&source, &target).unwrap();
    let names: Vec<_> = contents(&target).into_keys().collect();
    for member in ["model0", "model1"] {
        let weights = Path::new(member).join("weights/weights.bin");
        assert!(names.contains(&weights), "{names:?}");
    }
}

#[test]
fn fields_that_are_not_known_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (_, sample) = &samples()[0];
    let mut bytes = fs::read(Package::open(sample).unwrap().model_file).unwrap();
    bytes.extend([0xf8, 0x3f, 0x01]); // field 1023
    let file = dir.path().join("X.mlmodel");
    fs::write(&file, bytes).unwrap();
    let error = compile_package(&file, &dir.path().join("X.mlmodelc"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("holds fields of a kind that cannot be compiled here"),
        "{error}"
    );
}

/// A program whose `buildInfo` is in order of its keys.
fn ordered(mut program: Program) -> Program {
    if let Some(value) = program.attributes.get_mut("buildInfo")
        && let ValueData::Dictionary(pairs) = &mut value.data
    {
        pairs.sort_by(|a, b| a.0.as_string().cmp(&b.0.as_string()));
    }
    program
}

/// A program without what the other compiler leaves out: names of ops, the names of tools, and the order of
/// inputs.
fn bare(mut program: Program) -> Program {
    program.attributes.clear();
    for function in program.functions.values_mut() {
        function.inputs.sort_by(|a, b| a.name.cmp(&b.name));
    }
    for block in program
        .functions
        .values_mut()
        .flat_map(|f| f.blocks.values_mut())
    {
        for op in &mut block.operations {
            op.attributes.remove("name");
        }
    }
    program
}

/// Samples that `mlmodelc-export` 0.1.0 cannot write: their dtypes, or a state, which it takes for a float and whose
/// `write_state` it leaves out.
const UNREADABLE: &[&str] = &[
    "lin4_blockwise8_ios18",
    "lin4u_blockwise8_asym_ios18",
    "lut2_pertensor_ios18",
    "lut3_pertensor_ios18",
    "lut4_grouped8_ios18",
    "lut4_grouped8_scale_ios18",
    "lut4_pertensor_ios16",
    "lut4_pertensor_ios18",
    "lut4_vector2_ios18",
    "lut6_pertensor_ios16",
    "lut8_pertensor_ios16",
    "sparse_ios16",
    "sparse_ios18",
    "stateful_ios18",
];

#[test]
fn an_independent_compiler_writes_the_same_programs() {
    let dir = tempfile::tempdir().unwrap();
    let mut compared = 0;
    for (name, package) in samples() {
        if name == ENUMERATED || UNREADABLE.contains(&name.as_str()) {
            continue;
        }
        let bytes = fs::read(Package::open(&package).unwrap().model_file).unwrap();
        let theirs = mlmodelc_export::compile_to_text(&bytes).unwrap().mil_text;
        let target = dir.path().join(&name);
        compile_package(&package, &target).unwrap();
        let mine = fs::read_to_string(target.join("model.mil")).unwrap();
        let [mine, theirs] = [mine, theirs].map(|t| bare(text::parse(&t).unwrap().0));
        assert!(mine == theirs, "{name}");
        compared += 1;
    }
    assert_eq!(compared, 11);
}
