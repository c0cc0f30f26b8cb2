//! `gesso compile` and `gesso decompile`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use support::{gesso, names, refuses, succeeds};

fn sample(name: &str) -> std::path::PathBuf {
    gesso_testkit::fixture(&format!("formats/samples/{name}/{name}.mlpackage"))
}

#[test]
fn a_package_compiles_and_comes_back() {
    let scratch = tempfile::tempdir().unwrap();
    let compiled = scratch.path().join("lut4.mlmodelc");
    let compile = || {
        let mut command = gesso();
        command.arg("compile").arg(sample("lut4_pertensor_ios16"));
        command.arg("-o").arg(&compiled);
        command
    };
    let said = succeeds(&mut compile());
    assert!(
        said.contains("model.mil") && said.contains("weights/weight.bin"),
        "{said}"
    );
    refuses(&mut compile(), &["lut4.mlmodelc", "exists already"]);
    succeeds(compile().arg("--force"));

    let package = scratch.path().join("back.mlpackage");
    let said = succeeds(
        gesso()
            .arg("decompile")
            .arg(&compiled)
            .arg("-o")
            .arg(&package)
            .arg("--json"),
    );
    let document: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(document["schema"], 1);
    assert_eq!(document["files"][2]["file"], "Manifest.json");
    assert_eq!(names(scratch.path()), ["back.mlpackage", "lut4.mlmodelc"]);

    let again = scratch.path().join("again.mlmodelc");
    succeeds(gesso().arg("compile").arg(&package).arg("-o").arg(&again));
    for file in ["model.mil", "coremldata.bin", "weights/weight.bin"] {
        assert_eq!(
            fs::read(again.join(file)).unwrap(),
            fs::read(compiled.join(file)).unwrap(),
            "{file}"
        );
    }
}

#[test]
fn what_cannot_be_compiled_is_named_and_leaves_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("X.mlmodelc");
    refuses(
        gesso()
            .arg("compile")
            .arg(sample("flex_enum_ios17"))
            .arg("-o")
            .arg(&out),
        &[
            "flex_enum_ios17",
            "enumerated shapes",
            "hint: ship the package",
        ],
    );
    refuses(
        gesso()
            .arg("decompile")
            .arg(sample("flex_enum_ios17"))
            .arg("-o")
            .arg(&out),
        &["coremldata.bin"],
    );
    assert_eq!(names(scratch.path()), Vec::<String>::new());
}

#[test]
fn run_takes_compiled_models_and_gives_the_outputs_of_the_package() {
    use gesso_weights::safetensors::{StDType, TensorRef, write_safetensors};
    let scratch = tempfile::tempdir().unwrap();
    let at = |name: &str| scratch.path().join(name);
    let package = sample("lut4_pertensor_ios16");
    succeeds(
        gesso()
            .arg("compile")
            .arg(&package)
            .arg("-o")
            .arg(at("X.mlmodelc")),
    );
    let values: Vec<u8> = (0..1024)
        .flat_map(|i| (i as f32 / 512.0 - 1.0).to_le_bytes())
        .collect();
    let input = TensorRef {
        name: "x",
        dtype: StDType::F32,
        shape: &[1, 16, 8, 8],
        bytes: &values,
    };
    write_safetensors(at("in"), &std::collections::BTreeMap::new(), &[input]).unwrap();
    for (model, out) in [(&package, "a"), (&at("X.mlmodelc"), "b")] {
        succeeds(
            gesso()
                .arg("run")
                .arg(model)
                .arg("--inputs")
                .arg(at("in"))
                .arg("--outputs")
                .arg(at(out)),
        );
    }
    assert_eq!(fs::read(at("a")).unwrap(), fs::read(at("b")).unwrap());
}
