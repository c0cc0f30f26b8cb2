//! `gesso lint` on whole packages.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::path::{Path, PathBuf};
use support::{copy, gesso, refuses, said, shapes, succeeds};

const DATA: &str = "Data/com.apple.CoreML";

fn sample(name: &str) -> PathBuf {
    gesso_testkit::fixture(&format!("formats/samples/{name}/{name}.mlpackage"))
}

/// Exit code and the rules that were found.
fn found(path: &Path) -> (i32, Vec<String>) {
    let output = gesso().args(["lint", "--json"]).arg(path).output().unwrap();
    let code = output.status.code().unwrap();
    assert!(code < 2, "{}", said(&output));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let models = document["models"].as_array().unwrap();
    let findings = models
        .iter()
        .flat_map(|m| m["findings"].as_array().unwrap());
    (
        code,
        findings
            .map(|f| f["id"].as_str().unwrap().to_string())
            .collect(),
    )
}

fn change_text(path: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(path, text.replace(from, to)).unwrap();
}

type Break = fn(&Path);

/// What is broken, the rule, how.
const BROKEN: &[(&str, &str, Break)] = &[
    ("manifest missing a key", "L43", |p| {
        change_text(&p.join("Manifest.json"), "\"author\"", "\"writer\"")
    }),
    ("manifest of another version", "L43", |p| {
        change_text(&p.join("Manifest.json"), "1.0.0", "2.0.0")
    }),
    ("manifest that is no JSON", "L43", |p| {
        std::fs::write(p.join("Manifest.json"), "{").unwrap()
    }),
    ("root model that is not there", "L43", |p| {
        std::fs::remove_file(p.join(DATA).join("model.mlmodel")).unwrap()
    }),
    ("item that is not there", "L43", |p| {
        std::fs::remove_dir_all(p.join(DATA).join("weights")).unwrap()
    }),
    ("weight file that is not there", "L11", |p| {
        std::fs::remove_file(p.join(DATA).join("weights/weight.bin")).unwrap();
    }),
    ("weight file that is a pointer", "L11", |p| {
        let text = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";
        std::fs::write(p.join(DATA).join("weights/weight.bin"), text).unwrap();
    }),
    ("model that is a pointer", "L11", |p| {
        let text = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";
        std::fs::write(p.join(DATA).join("model.mlmodel"), text).unwrap();
    }),
    ("sentinel of a record", "L14", |p| {
        change_byte(&p.join(DATA).join("weights/weight.bin"), 64)
    }),
    ("dtype of a record", "L14", |p| {
        change_byte(&p.join(DATA).join("weights/weight.bin"), 68)
    }),
    ("size of a record", "L14", |p| {
        change_byte(&p.join(DATA).join("weights/weight.bin"), 72)
    }),
    ("weight file of another version", "L14", |p| {
        change_byte(&p.join(DATA).join("weights/weight.bin"), 4)
    }),
    ("weight file cut short", "L14", |p| {
        let path = p.join(DATA).join("weights/weight.bin");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    }),
];

fn change_byte(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 2;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn broken_packages() {
    let root = tempfile::tempdir().unwrap();
    for (i, (what, rule, break_it)) in BROKEN.iter().enumerate() {
        let path = root.path().join(format!("{i}.mlpackage"));
        copy(&sample("lut4_pertensor_ios16"), &path);
        assert_eq!(found(&path), (0, vec![]), "{what}");
        break_it(&path);
        let (code, rules) = found(&path);
        assert!(
            code == 1 && rules.contains(&(*rule).to_string()),
            "{what}: {rules:?}"
        );
    }
}

#[test]
fn warnings_fail_and_notes_do_not() {
    assert_eq!(
        found(&sample("lut4_grouped8_scale_ios18")),
        (1, vec!["L35".into(), "L35".into()])
    );
    assert_eq!(found(&sample("base_fp16_ios18")), (0, vec!["L44".into()]));
}

#[test]
fn sarif_has_rules_and_results() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("log.sarif");
    let output = gesso()
        .arg("lint")
        .arg(sample("lut4_grouped8_scale_ios18"))
        .arg("--sarif")
        .arg(&file)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(
        said(&output).contains("warning L35 palette-target: function `main`"),
        "{}",
        said(&output)
    );
    let log: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let run = &log["runs"][0];
    assert_eq!(
        (
            log["version"].as_str(),
            run["results"][0]["ruleId"].as_str()
        ),
        (Some("2.1.0"), Some("L35"))
    );
    assert!(run["tool"]["driver"]["rules"].as_array().unwrap().len() >= 44);
}

#[test]
fn compiled_models() {
    let Some(samples) = gesso_testkit::shared("formats/mlmodelc-samples") else {
        return;
    };
    assert_eq!(found(&samples.join("silero-vad/silero_vad.mlmodelc")).0, 0);
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a.mlmodelc");
    copy(&samples.join("coremltools-add/add_model.mlmodelc"), &path);
    change_text(&path.join("model.mil"), "fp16", "fp17");
    assert_eq!(found(&path), (1, vec!["L28".into()]));
}

#[test]
fn what_convert_writes_is_clean() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("out");
    succeeds(
        gesso()
            .args(["convert", "--bits", "6", "-o"])
            .arg(&out)
            .arg(shapes()),
    );
    let text = succeeds(gesso().arg("lint").arg(&out));
    assert!(text.contains("12 models, 0 errors, 0 warnings"), "{text}");
}

#[test]
fn what_is_no_model_is_refused() {
    refuses(
        gesso().args(["lint", "nowhere"]),
        &["`nowhere` does not exist"],
    );
    refuses(gesso().arg("lint").arg(shapes()), &["holds no package"]);
}
