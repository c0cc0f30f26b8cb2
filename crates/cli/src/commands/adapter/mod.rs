//! `gesso adapter`.

mod batch;
mod delta;
mod maker;

use super::{Global, print_json};
use crate::args::{Adapter, AssetForm};
use crate::base::Base;
use crate::progress::Line;
use crate::table::Table;
use crate::{Outcome, loss, table};
use gesso_convert::Silent;
use gesso_convert::adapter::AdapterReport;
use maker::Maker;
use serde::Serialize;
use std::path::Path;
use std::time::Instant;

pub(super) fn run(options: &Adapter, global: Global) -> anyhow::Result<Outcome> {
    let start = Instant::now();
    if options.form == AssetForm::Delta {
        return delta::run(options, global);
    }
    let base = Base::open(&options.base)?;
    if !options.merge && batch::is_meant(&options.loras) {
        let checkpoint = maker::checkpoint(options)?;
        let maker = Maker::new(options, &base, checkpoint.as_ref())?;
        return batch::run(options, global, start, &|lora, asset| {
            let report = maker.make(lora, asset, &mut Silent)?;
            Ok(batch::Made::Slots(report))
        });
    }
    let report = asset(options, &base, global)?;
    if global.json {
        print_document(&report, &options.output, start)?;
    } else {
        print_report(&report);
        print_written(&options.output, start)?;
    }
    Ok(Outcome::Done)
}

/// Writes the one asset that `options` ask for into a temporary sibling and moves it into place.
pub(crate) fn asset(
    options: &Adapter,
    base: &Base,
    global: Global,
) -> anyhow::Result<AdapterReport> {
    let checkpoint = maker::checkpoint(options)?;
    let maker = Maker::new(options, base, checkpoint.as_ref())?;
    let mut line = Line::new();
    let report = global.on_threads(|| match options.loras.as_slice() {
        loras if options.merge => maker.merge(loras, &options.output, &mut line),
        [lora] => maker.make(lora, &options.output, &mut line),
        loras => anyhow::bail!("{} LoRAs are given, expected one", loras.len()),
    })??;
    line.clear();
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
    for line in loss::lines(&report.losses, "the differences") {
        println!("{line}");
    }
    for warning in &report.warnings {
        println!("note: {warning}");
    }
    for (key, reason) in &report.ignored {
        println!("note: `{key}` is not used: {reason}");
    }
    for (component, snr) in &report.snr_db {
        println!("palettized: `{component}`, lowest SNR {snr:.1} dB");
    }
    for t in &report.truncated {
        let lost = 100.0 * t.lost_energy;
        println!(
            "truncated: `{}` ({}) from rank {} to {}, {lost:.3} % of its energy lost",
            t.module, t.algorithm, t.rank, t.kept
        );
    }
}

/// The report on one asset for machines, with its size and the time it took.
fn print_document(report: &impl Serialize, output: &Path, start: Instant) -> anyhow::Result<()> {
    let mut document = serde_json::to_value(report)?;
    document["schema"] = 1.into();
    document["bytes"] = std::fs::metadata(output)?.len().into();
    document["seconds"] = start.elapsed().as_secs_f64().into();
    print_json(&document)
}

fn print_written(output: &Path, start: Instant) -> anyhow::Result<()> {
    let bytes = table::bytes(std::fs::metadata(output)?.len());
    println!(
        "wrote `{}` ({bytes}) in {:.2} s",
        output.display(),
        start.elapsed().as_secs_f64()
    );
    Ok(())
}
