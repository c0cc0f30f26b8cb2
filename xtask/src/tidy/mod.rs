//! `cargo xtask tidy`: the invariants that `docs/architecture.md` states, checked.

mod arrows;
mod sources;
mod tree;

use crate::root;
use std::path::Path;
use std::process::Command;

/// One broken invariant.
pub(crate) struct Finding {
    /// File, with a line where there is one.
    pub(crate) place: String,
    /// What is wrong and what to do.
    pub(crate) text: String,
}

impl Finding {
    fn new(place: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            text: text.into(),
        }
    }
}

/// Runs all checks and prints what they find; true when nothing was found.
pub(crate) fn run() -> anyhow::Result<bool> {
    let files = tracked_files(&root())?;
    let mut findings = arrows::check(&root())?;
    findings.extend(sources::check(&root(), &files)?);
    findings.extend(tree::check(&root(), &files)?);
    for finding in &findings {
        eprintln!("tidy: {}: {}", finding.place, finding.text);
    }
    eprintln!("tidy: {} files, {} findings", files.len(), findings.len());
    Ok(findings.is_empty())
}

/// Paths that git tracks, or would track, relative to the root, sorted.
fn tracked_files(root: &Path) -> anyhow::Result<Vec<String>> {
    let output = Command::new("git")
        .args([
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "-z",
        ])
        .current_dir(root)
        .output()?;
    anyhow::ensure!(
        output.status.success(),
        "`git ls-files` failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut files: Vec<String> = output
        .stdout
        .split(|&b| b == 0)
        .filter(|name| !name.is_empty())
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .filter(|name| root.join(name).is_file())
        .collect();
    files.sort();
    files.dedup();
    Ok(files)
}
