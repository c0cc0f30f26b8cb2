//! Which crate may depend on which: the drawing in `docs/architecture.md`.

use super::Finding;
use std::path::Path;

/// (crate folder, our crates it may depend on). Dev-dependencies may also name `testkit`, and what `DEV_ARROWS` adds.
const ARROWS: &[(&str, &[&str])] = &[
    ("coreml", &[]),
    ("mil", &["coreml"]),
    ("weights", &["coreml"]),
    ("palette", &[]),
    ("pipeline", &[]),
    ("testkit", &[]),
    ("convert", &["weights", "palette", "mil", "coreml"]),
    ("engine", &["mil", "coreml"]),
    ("capi", &["engine", "mil", "coreml"]),
    (
        "cli",
        &[
            "convert", "engine", "pipeline", "weights", "palette", "mil", "coreml",
        ],
    ),
];

/// Extra arrows of tests only.
const DEV_ARROWS: &[(&str, &[&str])] = &[("convert", &["engine", "pipeline"])];

/// Every manifest under `crates/` against the table, and every workspace dependency against "default features off".
pub(super) fn check(root: &Path) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let mut folders: Vec<_> =
        std::fs::read_dir(root.join("crates"))?.collect::<Result<Vec<_>, _>>()?;
    folders.sort_by_key(std::fs::DirEntry::file_name);
    for folder in folders {
        let manifest = folder.path().join("Cargo.toml");
        if !manifest.is_file() {
            continue;
        }
        let name = folder.file_name().to_string_lossy().into_owned();
        let place = format!("crates/{name}/Cargo.toml");
        let table: toml::Table = std::fs::read_to_string(&manifest)?.parse()?;
        let Some((_, allowed)) = ARROWS.iter().find(|row| row.0 == name) else {
            findings.push(Finding::new(
                place,
                "this crate is not in the table of arrows",
            ));
            continue;
        };
        for dependency in ours(&table, "dependencies") {
            if !allowed.contains(&dependency.as_str()) {
                findings.push(Finding::new(
                    &place,
                    format!("`{name}` may not depend on `{dependency}`"),
                ));
            }
        }
        let dev = DEV_ARROWS
            .iter()
            .find(|row| row.0 == name)
            .map_or(&[][..], |row| row.1);
        for dependency in ours(&table, "dev-dependencies") {
            let d = dependency.as_str();
            if d != "testkit" && !allowed.contains(&d) && !dev.contains(&d) {
                findings.push(Finding::new(
                    &place,
                    format!("tests of `{name}` may not depend on `{d}`"),
                ));
            }
        }
    }
    let workspace: toml::Table = std::fs::read_to_string(root.join("Cargo.toml"))?.parse()?;
    let dependencies = workspace
        .get("workspace")
        .and_then(|w| w.get("dependencies"))
        .and_then(toml::Value::as_table);
    for (name, value) in dependencies.into_iter().flatten() {
        let off = value.get("default-features").and_then(toml::Value::as_bool) == Some(false);
        if !off && value.get("path").is_none() {
            findings.push(Finding::new(
                "Cargo.toml",
                format!("`{name}` must have its default features off"),
            ));
        }
    }
    Ok(findings)
}

/// Our own crates among one section's keys, without the prefix.
fn ours(table: &toml::Table, section: &str) -> Vec<String> {
    let section = table.get(section).and_then(toml::Value::as_table);
    section
        .into_iter()
        .flatten()
        .filter_map(|(key, _)| key.strip_prefix("gesso-").map(String::from))
        .collect()
}
