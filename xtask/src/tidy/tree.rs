//! The tree: top level, fixtures, words that must not stand in a public project.

use super::Finding;
use std::path::Path;

/// What may stand at the top level, besides dot-files.
const TOP_LEVEL: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "Package.swift",
    "README.md",
    "crates",
    "docs",
    "fixtures",
    "proto",
    "rust-toolchain.toml",
    "xtask",
];

const FIXTURE_LIMIT: u64 = 10 << 20;
const FIXTURES_LIMIT: u64 = 80 << 20;

/// Top level, sizes of fixtures, and text files that carry a path of one machine.
pub(super) fn check(root: &Path, files: &[String]) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let mut total = 0;
    for file in files {
        let top = file.split('/').next().unwrap_or_default();
        if !top.starts_with('.') && !TOP_LEVEL.contains(&top) {
            findings.push(Finding::new(file, "does not belong at the top level"));
        }
        let bytes = std::fs::metadata(root.join(file))?.len();
        if top == "fixtures" {
            total += bytes;
            if bytes > FIXTURE_LIMIT {
                findings.push(Finding::new(
                    file,
                    format!("{bytes} bytes; the limit for one fixture is {FIXTURE_LIMIT}"),
                ));
            }
        }
        if let Ok(text) = std::fs::read_to_string(root.join(file)) {
            findings.extend(machine_paths(file, &text));
        }
    }
    if total > FIXTURES_LIMIT {
        findings.push(Finding::new(
            "fixtures",
            format!("{total} bytes in all; the limit is {FIXTURES_LIMIT}"),
        ));
    }
    Ok(findings)
}

/// Lines that name a folder of somebody's machine.
fn machine_paths(file: &str, text: &str) -> Vec<Finding> {
    // In pieces, since this file is checked too.
    let folders = [
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
        concat!("/Us", "ers/"),
        concat!("/tm", "p/"),
    ];
    text.lines()
        .enumerate()
        .filter_map(|(number, line)| {
            let folder = folders.iter().find(|folder| names_folder(line, folder))?;
            Some(Finding::new(
                format!("{file}:{}", number + 1),
                format!("names a folder of one machine (`{folder}…`)"),
            ))
        })
        .collect()
}

/// `folder` at the start of a path: not after a letter, digit, dot or another path part, and followed by a name.
fn names_folder(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + folder.len()..].chars().next();
        let starts = before.is_none_or(|c| !(c.is_alphanumeric() || "._-/~}*>".contains(c)));
        starts && after.is_some_and(|c| c.is_ascii_lowercase())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_one_machine_is_found() {
        let line = format!("see {}someone/file", concat!("/ho", "me/"));
        assert_eq!(machine_paths("x.md", &line).len(), 1);
        assert_eq!(
            machine_paths("x.md", "see docs/work/x and a/home/b").len(),
            0
        );
    }
}
