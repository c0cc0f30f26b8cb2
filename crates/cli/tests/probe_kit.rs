//! `gesso probe-kit`: the kit is the same on every run, its packages are clean and give what it says, and a report reaches
//! the page.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use gesso_coreml::compiled::CompiledModel;
use gesso_coreml::package::Package;
use gesso_engine::{Model, RunOptions, Tensor};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{gesso, refuses, said, succeeds};

fn kit(dir: &Path) {
    succeeds(gesso().arg("probe-kit").arg("-o").arg(dir));
}

/// Every file with its bytes.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            found.insert(path, bytes);
        }
    }
    found
}

fn document(dir: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(dir.join("kit.json")).unwrap()).unwrap()
}

fn array(dir: &Path, array: &Value) -> (String, Tensor) {
    let bytes = std::fs::read(dir.join(array["file"].as_str().unwrap())).unwrap();
    let values = bytes.chunks_exact(4);
    let values = values.map(|c| f32::from_le_bytes(c.try_into().unwrap()));
    let shape: Vec<usize> = serde_json::from_value(array["shape"].clone()).unwrap();
    let tensor = Tensor::f32(&shape, values.collect());
    (array["name"].as_str().unwrap().into(), tensor)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

#[test]
fn two_runs_give_the_same_bytes() {
    let scratch = tempfile::tempdir().unwrap();
    let (one, two) = (scratch.path().join("one"), scratch.path().join("two"));
    kit(&one);
    kit(&two);
    let relative = |dir: &Path| -> BTreeMap<PathBuf, Vec<u8>> {
        let all = files(dir).into_iter();
        all.map(|(p, b)| (p.strip_prefix(dir).unwrap().to_path_buf(), b))
            .collect()
    };
    assert!(relative(&one) == relative(&two));
    refuses(
        gesso().arg("probe-kit").arg("-o").arg(&one),
        &["exists already"],
    );
    refuses(gesso().arg("probe-kit"), &["--output"]);
}

#[test]
fn every_package_is_clean_and_gives_what_the_kit_says() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("kit");
    kit(&dir);
    let kit = document(&dir);
    assert!(list(&kit["probes"]).len() >= 12);
    for probe in list(&kit["probes"]) {
        let id = probe["id"].as_str().unwrap();
        for model in list(&probe["models"]) {
            let package = dir.join(model["package"].as_str().unwrap());
            let compiled = dir.join(model["compiled"].as_str().unwrap());
            for path in [&package, &compiled] {
                let text = said(&gesso().arg("lint").arg(path).output().unwrap());
                assert!(text.contains(" 0 errors"), "{id}: {text}");
            }
            let package = Package::open(&package).unwrap();
            let program = gesso_mil::from_model(&package.model).unwrap();
            assert_eq!(gesso_mil::verify(&program), [], "{id}");
        }
        for case in list(&probe["cases"]) {
            if list(&case["states"]).is_empty() {
                judge(&dir, id, list(&probe["models"]), case);
            }
        }
    }
}

/// Fast kernels on package and compiled model against the numbers of the kit, which are those of the naive kernels.
fn judge(dir: &Path, id: &str, models: &[Value], case: &Value) {
    for form in ["package", "compiled"] {
        let given = list(&case["inputs"]).iter().map(|a| array(dir, a));
        let mut known: BTreeMap<String, Tensor> = given.collect();
        let mut outputs = BTreeMap::new();
        for model in models {
            let path = dir.join(model[form].as_str().unwrap());
            let model = match form {
                "package" => Model::load(&Package::open(&path).unwrap()),
                _ => Model::load_compiled(&CompiledModel::open(&path).unwrap()),
            };
            let (model, function) = (model.unwrap(), case["function"].as_str());
            let inputs = model.inputs(function).unwrap().iter();
            let inputs = inputs
                .filter_map(|i| Some((i.name.clone(), known.get(&i.name)?.clone())))
                .collect();
            outputs = model
                .predict(function, &inputs, &RunOptions::default())
                .unwrap();
            known.extend(outputs.clone());
        }
        assert!(!list(&case["outputs"]).is_empty());
        for expected in list(&case["outputs"]) {
            let (name, expected) = array(dir, expected);
            let reference: Vec<f64> = expected
                .as_f32()
                .unwrap()
                .iter()
                .map(|&x| x.into())
                .collect();
            assert!(reference.iter().any(|&x| x != 0.0));
            let found = outputs[&name].as_f32().unwrap();
            let what = format!("{id}, {form}, `{name}`");
            gesso_testkit::Tolerance::Close.assert(&what, &reference, found);
        }
    }
}

#[test]
fn a_slot_without_adapter_is_the_plain_layer_and_a_state_is_like_an_input() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("kit");
    kit(&dir);
    let read = |name: &str| std::fs::read(dir.join("data").join(name)).unwrap();
    let missing = read("slots-rank-32/missing/output.y.f32");
    assert!(missing == read("slots-rank-64/missing/output.y.f32"));
    assert!(missing == read("state-read-only/zero/output.y.f32"));
    let given = read("slots-rank-32/given/output.y.f32");
    assert!(given == read("state-read-only/filled/output.y.f32"));
    assert!(given != missing);
}

fn read(report: &Path, page: &Path) -> Command {
    let mut command = gesso();
    command.arg("probe-kit").arg("--read").arg(report);
    command.arg("--page").arg(page);
    command
}

#[test]
fn a_report_reaches_the_page_of_evidence() {
    let scratch = tempfile::tempdir().unwrap();
    let page = scratch.path().join("apple-evidence.md");
    let original = gesso_testkit::project_root().join("docs/apple-evidence.md");
    std::fs::copy(&original, &page).unwrap();
    let file = scratch.path().join("report.json");
    let run = |probe: &str, form: &str, db: f64| {
        json!({
            "probe": probe, "form": form, "units": "ane", "loaded": true, "firstLoadMs": 12.5, "stepMs": 0.25,
            "outputs": [{ "caseName": "one", "output": "y", "db": db }],
            "plan": [
                { "op": "ios16.conv", "output": "y", "preferred": "ane", "supported": ["cpu", "ane"], "cost": 1.0 },
                { "op": "ios16.cast", "output": "z", "preferred": "cpu", "supported": ["cpu"] },
            ],
        })
    };
    let kit = scratch.path().join("kit");
    succeeds(gesso().arg("probe-kit").arg("-o").arg(&kit));
    let probes = document(&kit);
    let ids: Vec<&str> = list(&probes["probes"])
        .iter()
        .map(|p| p["id"].as_str().unwrap())
        .collect();
    let report = |results: Vec<Value>| {
        json!({
            "schema": 1, "system": { "device": "Made|Up1,1", "os": "Version 15.0" }, "results": results,
            "files": [{ "probe": "lut-ios16", "file": "model.mil", "equal": false }],
        })
        .to_string()
    };
    // All probes: the page has a row for each.
    let mut results: Vec<Value> = ids.iter().map(|id| run(id, "package", 71.4)).collect();
    std::fs::write(&file, report(results.clone())).unwrap();
    succeeds(&mut read(&file, &page));
    let text = std::fs::read_to_string(&page).unwrap();
    for id in &ids {
        let row = text
            .lines()
            .find(|l| l.starts_with(&format!("| `{id}` |")))
            .unwrap();
        let told = "Made Up1,1, Version 15.0: holds: package ane 71 dB (1 of 2 ops on ane)";
        assert!(row.contains(told), "{row}");
    }
    assert!(text.contains("`model.mil` differs from Apple's"));

    // The same device again, with one that fails and one below the floor: exit code 1.
    results[0] = json!({ "probe": ids[0], "form": "package", "units": "all", "loaded": false, "error": "no | such\nop" });
    results[1] = run(ids[1], "compiled", 3.0);
    std::fs::write(&file, report(results)).unwrap();
    let output = read(&file, &page).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let text = std::fs::read_to_string(&page).unwrap();
    assert!(text.contains("does not hold: package all fails (no   such op)"));
    assert!(text.contains("does not hold: compiled ane 3 dB, below 40 (1 of 2 ops on ane)"));
    assert_eq!(text.matches("Made Up1,1").count(), ids.len());
    assert_eq!(
        text.lines().count(),
        std::fs::read_to_string(&original).unwrap().lines().count()
    );

    // What is no report, or of something else, changes nothing.
    let refused = |content: &str, parts: &[&str]| {
        std::fs::write(&file, content).unwrap();
        refuses(&mut read(&file, &page), parts);
        assert_eq!(std::fs::read_to_string(&page).unwrap(), text);
    };
    refused("{", &["report.json", "is not a report of the probe kit"]);
    refused(
        &report(vec![run("no-such-probe", "package", 50.0)]),
        &["has no row for probe `no-such-probe`"],
    );
    refused(&report(vec![]), &["holds no results"]);
    refused(
        &report(vec![]).replace("\"schema\":1", "\"schema\":9"),
        &["has schema 9, expected 1"],
    );
}
