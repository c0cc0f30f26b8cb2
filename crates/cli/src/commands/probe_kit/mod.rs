//! `gesso probe-kit`: tiny packages that tell on a device what cannot be told elsewhere.

mod evidence;
mod expected;
mod kit;
mod models;
mod numbers;
mod package;
mod probes;
mod report;

use super::{Global, overwrite, print_json};
use crate::Outcome;
use crate::args::ProbeKit;
use anyhow::Context;
use gesso_coreml::stage::{Overwrite, Staging};
use report::Report;
use std::path::Path;

/// Version of `report.json` that is read.
const SCHEMA: u32 = 1;

pub(super) fn run(options: &ProbeKit, global: Global) -> anyhow::Result<Outcome> {
    match (&options.read, &options.output) {
        (Some(report), _) => read(report, &options.page, global),
        (None, Some(output)) => {
            let staging = Staging::new(output, overwrite(options.force))?;
            let (packages, cases) = kit::write(staging.path())?;
            staging.commit()?;
            if global.json {
                print_json(&serde_json::json!({
                    "schema": 1,
                    "output": output.display().to_string(),
                    "packages": packages,
                    "cases": cases,
                }))?;
            } else {
                println!(
                    "wrote `{}`: {} probes, {packages} packages, {cases} cases; its README.md says how to run them on a Mac",
                    output.display(),
                    probes::PROBES.len()
                );
            }
            Ok(Outcome::Done)
        }
        (None, None) => anyhow::bail!("nothing to do: give `--output DIR` or `--read REPORT`"),
    }
}

/// Brings a report into the page of evidence.
fn read(file: &Path, page: &Path, global: Global) -> anyhow::Result<Outcome> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("cannot read `{}`", file.display()))?;
    let report: Report = serde_json::from_str(&text)
        .with_context(|| format!("`{}` is not a report of the probe kit", file.display()))?;
    anyhow::ensure!(
        report.schema == SCHEMA,
        "`{}` has schema {}, expected {SCHEMA}",
        file.display(),
        report.schema
    );
    let verdicts = report.verdicts();
    anyhow::ensure!(
        !verdicts.is_empty(),
        "`{}` holds no results",
        file.display()
    );
    let old = std::fs::read_to_string(page)
        .with_context(|| format!("cannot read `{}`", page.display()))?;
    let new = evidence::update(&old, &report.place(), &verdicts)
        .with_context(|| format!("cannot update `{}`", page.display()))?;
    let staging = Staging::file(page, Overwrite::Force)?;
    std::fs::write(staging.path(), new)?;
    staging.commit()?;
    if global.json {
        let rows: std::collections::BTreeMap<_, _> =
            verdicts.iter().map(|(id, v)| (id, v.holds)).collect();
        print_json(&serde_json::json!({ "schema": 1, "place": report.place(), "holds": rows }))?;
    } else {
        for (probe, verdict) in &verdicts {
            let holds = if verdict.holds {
                "holds"
            } else {
                "does not hold"
            };
            println!("{probe}: {holds}: {}", verdict.text);
        }
    }
    Ok(match verdicts.values().all(|v| v.holds) {
        true => Outcome::Done,
        false => Outcome::Findings,
    })
}
