//! `gesso adapter --as delta`.

use super::batch;
use crate::args::Adapter;
use crate::base::Base;
use crate::commands::{Global, overwrite};
use crate::progress::Line;
use crate::source::{self, Weighted};
use crate::table::{self, Table};
use crate::{Outcome, loss};
use anyhow::{Context, ensure};
use gesso_convert::adapter::BaseWeights;
use gesso_convert::delta::{DeltaOptions, DeltaReport, write_delta};
use gesso_convert::merged::Baked;
use gesso_convert::{Progress, Silent};
use gesso_coreml::stage::Staging;
use gesso_weights::Checkpoint;
use std::path::{Path, PathBuf};
use std::time::Instant;

pub(super) fn run(options: &Adapter, global: Global) -> anyhow::Result<Outcome> {
    let start = Instant::now();
    possible(options)?;
    let checkpoint = super::maker::checkpoint(options)?.context(
        "a delta holds new weights, so it needs the old ones\n\nhint: name the checkpoint that the base was converted from with `--checkpoint`",
    )?;
    let base = Base::open(&options.base)?;
    let maker = Maker {
        weights: BaseWeights::new(&checkpoint, &base.info)?,
        checkpoint: &checkpoint,
        base: &base,
        options,
    };
    if !options.merge && batch::is_meant(&options.loras) {
        return batch::run(options, global, start, &|lora, asset| {
            let made = maker.make(&[lora.into()], asset, &mut Silent)?;
            Ok(batch::Made::Delta(made))
        });
    }
    let mut line = Line::new();
    let report = global.on_threads(|| maker.make(&options.loras, &options.output, &mut line))??;
    line.clear();
    if global.json {
        super::print_document(&report, &options.output, start)?;
    } else {
        print(&report);
        super::print_written(&options.output, start)?;
    }
    Ok(Outcome::Done)
}

/// Makes deltas for one base.
struct Maker<'a> {
    options: &'a Adapter,
    base: &'a Base,
    checkpoint: &'a Checkpoint,
    weights: BaseWeights<'a>,
}

impl Maker<'_> {
    /// Writes the delta of all `loras` together into a temporary sibling of `output` and moves it into place.
    fn make(
        &self,
        loras: &[PathBuf],
        output: &Path,
        progress: &mut dyn Progress,
    ) -> anyhow::Result<DeltaReport> {
        let options = self.options;
        let loras = loras
            .iter()
            .map(|lora| baked(lora, options, self.checkpoint))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let staging = Staging::file(output, overwrite(options.force))?;
        let made = DeltaOptions {
            name: options.name.clone(),
        };
        let (dir, info) = (&self.base.folder, &self.base.info);
        let report = write_delta(
            &loras,
            dir,
            info,
            self.weights,
            &made,
            staging.path(),
            progress,
        )?;
        staging.commit()?;
        Ok(report)
    }
}

/// Refuses what means nothing for a delta.
fn possible(options: &Adapter) -> anyhow::Result<()> {
    let others = [
        ("--rank", options.rank.is_some()),
        ("--bits", options.bits != 16),
        ("--exact", options.exact),
    ];
    for (name, given) in others {
        ensure!(
            !given,
            "`{name}` is for slots; a delta is exact and has the bits of its base"
        );
    }
    Ok(())
}

/// `FILE[:STRENGTH]`, without one at the strength of `--strength`.
fn baked(argument: &Path, options: &Adapter, checkpoint: &Checkpoint) -> anyhow::Result<Baked> {
    let text = argument
        .to_str()
        .with_context(|| format!("`{}` is not UTF-8", argument.display()))?;
    let weighted = Weighted::parse(text)?;
    let given = weighted.strengths;
    let (unet_strength, text_encoder_strength) =
        given.unwrap_or((options.strength, options.strength));
    Ok(Baked {
        lora: source::lora(&weighted.path, checkpoint, &options.ignore)?,
        unet_strength,
        text_encoder_strength,
    })
}

fn print(report: &DeltaReport) {
    let mut table = Table::new(&["package", "tensors", "replaced"]);
    for (package, tensors, bytes) in &report.files {
        table.row(&[package.clone(), tensors.to_string(), table::bytes(*bytes)]);
    }
    print!("{}", table.text());
    for line in loss::lines(&report.losses, "the new weights") {
        println!("{line}");
    }
    for module in &report.not_merged {
        println!("note: module `{module}` is not merged");
    }
    for warning in &report.warnings {
        println!("note: {warning}");
    }
    for (key, reason) in &report.ignored {
        println!("note: `{key}` is not used: {reason}");
    }
}
