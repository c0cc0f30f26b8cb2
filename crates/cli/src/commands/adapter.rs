//! `gesso adapter`.

use super::{Global, overwrite, print_json};
use crate::args::Adapter;
use crate::base::Base;
use crate::progress::Line;
use crate::table::Table;
use crate::{Outcome, source, table};
use gesso_convert::adapter::{AdapterOptions, AdapterReport, write_adapter};
use gesso_coreml::stage::Staging;
use std::time::Instant;

pub(super) fn run(options: &Adapter, global: Global) -> anyhow::Result<Outcome> {
    let start = Instant::now();
    let base = Base::open(&options.base)?;
    let report = asset(options, &base, global)?;
    if global.json {
        let mut document = serde_json::to_value(&report)?;
        document["schema"] = 1.into();
        document["bytes"] = std::fs::metadata(&options.output)?.len().into();
        document["seconds"] = start.elapsed().as_secs_f64().into();
        print_json(&document)?;
    } else {
        print_report(&report);
        let bytes = table::bytes(std::fs::metadata(&options.output)?.len());
        println!(
            "wrote `{}` ({bytes}) in {:.2} s",
            options.output.display(),
            start.elapsed().as_secs_f64()
        );
    }
    Ok(Outcome::Done)
}

/// Writes the asset into a temporary sibling and moves it into place.
pub(crate) fn asset(
    options: &Adapter,
    base: &Base,
    global: Global,
) -> anyhow::Result<AdapterReport> {
    let lora = source::resolved(&options.lora, &base.modules()?, &options.ignore)?;
    let staging = Staging::file(&options.output, overwrite(options.force))?;
    let adapter = AdapterOptions {
        name: options.name.clone(),
        default_strength: options.strength,
        exact: options.exact,
    };
    let mut line = Line::new();
    let report = global
        .on_threads(|| write_adapter(&lora, &base.info, &adapter, staging.path(), &mut line))??;
    line.clear();
    staging.commit()?;
    Ok(report)
}

fn print_report(report: &AdapterReport) {
    let mut table = Table::new(&["component", "modules", "rank"]);
    for (component, modules) in &report.modules {
        let rank = report
            .rank
            .get(component)
            .map(usize::to_string)
            .unwrap_or_default();
        table.row(&[component.clone(), modules.to_string(), rank]);
    }
    print!("{}", table.text());
    for warning in &report.warnings {
        println!("note: {warning}");
    }
    for (key, reason) in &report.ignored {
        println!("note: `{key}` is not used: {reason}");
    }
    for t in &report.truncated {
        let lost = 100.0 * t.lost_energy;
        println!(
            "truncated: `{}` from rank {} to {}, {lost:.3} % of its energy lost",
            t.module, t.rank, t.kept
        );
    }
}
