//! Findings in SARIF 2.1.0.

use super::Linted;
use gesso_mil::lints::{self, Finding};
use serde_json::{Value, json};
use std::path::Path;

/// One run with every rule and every finding.
pub(super) fn log(linted: &[Linted]) -> Value {
    let rules: Vec<Value> = lints::all()
        .into_iter()
        .map(|l| {
            json!({
                "id": l.id,
                "name": l.name,
                "shortDescription": { "text": l.rule },
                "fullDescription": { "text": l.why },
                "help": { "text": format!("{}\n\nsource: {}", l.example, l.source) },
                "defaultConfiguration": { "level": l.severity.word() },
            })
        })
        .collect();
    let results: Vec<Value> = linted
        .iter()
        .flat_map(|l| l.findings.iter().map(|f| result(&l.path, f)))
        .collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": { "name": "gesso", "version": env!("CARGO_PKG_VERSION"), "rules": rules } },
            "results": results,
        }],
    })
}

fn result(path: &Path, f: &Finding) -> Value {
    let uri = path.to_string_lossy().replace(' ', "%20");
    let mut location = json!({ "physicalLocation": { "artifactLocation": { "uri": uri } } });
    if !f.place.is_empty() {
        location["logicalLocations"] = json!([{ "fullyQualifiedName": f.place }]);
    }
    json!({
        "ruleId": f.id,
        "level": f.severity.word(),
        "message": { "text": f.text },
        "locations": [location],
    })
}
