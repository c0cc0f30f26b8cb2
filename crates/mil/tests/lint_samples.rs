//! Lints on every stored package: what is clean stays clean, what is known to be wrong is found.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use gesso_coreml::package::Package;
use gesso_mil::lints::{self, Facts, Severity};
use std::path::Path;

/// Every package in the folders below `root`, with the numbers of its errors and warnings.
fn found(root: &Path) -> Vec<(String, Vec<&'static str>)> {
    let mut found = Vec::new();
    for folder in std::fs::read_dir(root)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.is_dir())
    {
        for path in std::fs::read_dir(&folder)
            .unwrap()
            .map(|e| e.unwrap().path())
        {
            if path.extension().is_none_or(|e| e != "mlpackage") {
                continue;
            }
            let package = Package::open(&path).unwrap();
            let mut ids: Vec<_> = lints::run(&package.model, &Facts::of(&package))
                .iter()
                .filter(|f| f.severity != Severity::Note)
                .map(|f| f.id)
                .collect();
            ids.dedup();
            found.push((
                folder.file_name().unwrap().to_str().unwrap().to_string(),
                ids,
            ));
        }
    }
    found.sort();
    found
}

#[test]
fn own_samples() {
    let found = found(&gesso_testkit::fixture("formats/samples"));
    assert!(found.len() >= 20, "{}", found.len());
    for (name, ids) in found {
        // An empty folder of weights does not survive in a repository.
        let ids: Vec<_> = ids.into_iter().filter(|id| *id != "L43").collect();
        let expected: &[&str] = match name.as_str() {
            "stateful_ios18" => &["L25", "L41"],
            "lut4_grouped8_scale_ios18" => &["L35"],
            _ => &[],
        };
        assert_eq!(ids, expected, "{name}");
    }
}

#[test]
fn foreign_samples() {
    let Some(root) = gesso_testkit::shared("formats/mlpackage-samples") else {
        return;
    };
    let found = found(&root);
    assert!(found.len() >= 4, "{}", found.len());
    for (name, ids) in found {
        let expected: &[&str] = match name.as_str() {
            "dtln-aec-128-part1" | "rustnn-weighted-pipeline" => &[],
            // It returns one of its inputs.
            "kokoro-duration" => &["L11", "L31", "L43"],
            // Stored without their weights.
            _ => &["L11", "L43"],
        };
        assert_eq!(ids, expected, "{name}");
    }
}
