//! `gesso lint`.

mod sarif;

use super::{Global, print_json, write_file};
use crate::Outcome;
use crate::opened::{self, Form, Opened};
use anyhow::{Context, ensure};
use gesso_mil::lints::{self, Finding, Severity};
use std::path::{Path, PathBuf};

/// How a pointer of Git LFS begins.
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    /// A package, a compiled model, or a folder of them.
    path: PathBuf,
    /// Write the findings in SARIF 2.1.0, for code hosts and editors.
    #[arg(long, value_name = "FILE")]
    sarif: Option<PathBuf>,
}

/// Findings of one model.
struct Linted {
    path: PathBuf,
    findings: Vec<Finding>,
}

pub(super) fn run(options: &Options, global: Global) -> anyhow::Result<Outcome> {
    ensure!(
        options.path.exists(),
        "`{}` does not exist",
        options.path.display()
    );
    let paths = opened::models(&options.path)?;
    ensure!(
        !paths.is_empty(),
        "`{}` holds no package and no compiled model",
        options.path.display()
    );
    let mut linted = Vec::new();
    for path in paths {
        linted.push(Linted {
            findings: model(&path)?,
            path,
        });
    }
    if let Some(file) = &options.sarif {
        let text = serde_json::to_string_pretty(&sarif::log(&linted))?;
        write_file(file, (text + "\n").as_bytes())?;
    }
    let count = |severity| {
        linted
            .iter()
            .flat_map(|l| &l.findings)
            .filter(|f| f.severity == severity)
            .count()
    };
    let (errors, warnings, notes) = (
        count(Severity::Error),
        count(Severity::Warning),
        count(Severity::Note),
    );
    if global.json {
        print_json(&document(&linted, [errors, warnings, notes]))?;
    } else {
        for l in &linted {
            for finding in &l.findings {
                println!("{}: {finding}", l.path.display());
            }
        }
        println!(
            "{} models, {errors} errors, {warnings} warnings, {notes} notes",
            linted.len()
        );
    }
    Ok(if errors + warnings > 0 {
        Outcome::Findings
    } else {
        Outcome::Done
    })
}

/// Every finding in a package or compiled model. A model that cannot be opened is a finding too.
///
/// Errors: the path is neither.
pub(crate) fn model(path: &Path) -> anyhow::Result<Vec<Finding>> {
    let form = Form::of(path).with_context(|| {
        format!(
            "`{}` is neither a package nor a compiled model",
            path.display()
        )
    })?;
    let error = match Opened::open(path) {
        Ok(opened) => return Ok(lints::run(&opened.model, opened.facts())),
        Err(error) => error,
    };
    let pointer = form == Form::Package && has_pointer(&path.join("Data"));
    let name = match form {
        _ if pointer => "weights-there",
        Form::Package => "manifest",
        Form::Compiled => "text-form",
    };
    let text = if pointer {
        "a Git LFS pointer stands in place of the model; run `git lfs pull`".into()
    } else {
        format!("{error:#}")
    };
    let lint = lints::all()
        .into_iter()
        .find(|l| l.name == name)
        .context("no such rule")?;
    Ok(vec![Finding {
        id: lint.id,
        name: lint.name,
        severity: lint.severity,
        place: String::new(),
        text,
    }])
}

/// Whether a model file in the folder or below is a pointer of Git LFS.
fn has_pointer(folder: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return false;
    };
    entries.flatten().map(|e| e.path()).any(|path| {
        if path.is_dir() {
            return has_pointer(&path);
        }
        let model = path.extension().is_some_and(|e| e == "mlmodel");
        let small = path.metadata().is_ok_and(|m| m.len() < 1024);
        model && small && std::fs::read(&path).is_ok_and(|bytes| bytes.starts_with(POINTER))
    })
}

fn document(linted: &[Linted], [errors, warnings, notes]: [usize; 3]) -> serde_json::Value {
    let models: Vec<_> = linted
        .iter()
        .map(|l| {
            let findings: Vec<_> = l
                .findings
                .iter()
                .map(|f| {
                    serde_json::json!({
                        "id": f.id, "name": f.name, "severity": f.severity.word(), "place": f.place, "text": f.text,
                    })
                })
                .collect();
            serde_json::json!({ "path": l.path.display().to_string(), "findings": findings })
        })
        .collect();
    serde_json::json!({ "schema": 1, "models": models, "errors": errors, "warnings": warnings, "notes": notes })
}
