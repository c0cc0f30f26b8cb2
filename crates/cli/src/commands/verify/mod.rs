//! `gesso verify`: what a conversion lost, where along the depth, and what its values are like.

mod layers;
mod names;
mod options;
mod pair;
mod plot;
mod ranges;
mod source;

pub(crate) use options::Options;

use super::generate::tokenizer;
use super::{Global, overwrite, print_json};
use crate::args::EnginePrecision;
use crate::base::{Base, model};
use crate::measure::Loss;
use crate::networks::Inputs;
use crate::opened::Form;
use crate::table::{self, Table};
use crate::{Outcome, commands};
use anyhow::{Context, bail, ensure};
use gesso_coreml::stage::Staging;
use gesso_engine::{Error, Model, Tensor};
use layers::Layers;
use pair::{Asked, Found, alone, compare, seeded};
use ranges::Ranges;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Everything that was found.
#[derive(Default)]
pub(crate) struct Report {
    losses: Vec<Loss>,
    layers: BTreeMap<String, Layers>,
    ranges: BTreeMap<String, Ranges>,
    /// By `MODEL.NAME` and `MODEL.NAME.reference`.
    probes: BTreeMap<String, Tensor>,
    /// Models with an output that is not finite.
    broken: Vec<String>,
}

impl Report {
    fn add(&mut self, name: &str, found: Found) {
        self.losses.extend(found.losses);
        self.layers
            .extend(found.layers.map(|l| (name.to_string(), l)));
        self.ranges
            .extend(found.ranges.map(|r| (name.to_string(), r)));
        let probes = found.probes.into_iter();
        self.probes
            .extend(probes.map(|(probe, t)| (format!("{name}.{probe}"), t)));
        if !found.finite {
            self.broken.push(name.into());
        }
    }

    fn passed(&self) -> bool {
        self.broken.is_empty() && self.losses.iter().all(Loss::passed)
    }
}

pub(super) fn run(options: &Options, global: Global) -> anyhow::Result<Outcome> {
    let start = Instant::now();
    let staged = |path: &Option<PathBuf>| {
        let staging = path
            .as_ref()
            .map(|p| Staging::file(p, overwrite(options.force)));
        staging.transpose()
    };
    let (plot, output) = (staged(&options.plot)?, staged(&options.output)?);
    let report = report(options, global)?;
    if let Some(staging) = plot {
        let models: Vec<_> = report.layers.iter().map(|(n, l)| (n.as_str(), l)).collect();
        std::fs::write(staging.path(), plot::svg(&models)).context("cannot write the plot")?;
        staging.commit()?;
    }
    if let Some(staging) = output {
        commands::run::write(staging.path(), &report.probes)?;
        staging.commit()?;
    }
    let seconds = start.elapsed().as_secs_f64();
    if global.json {
        print_json(&json!({
            "schema": 1,
            "passed": report.passed(),
            "losses": report.losses,
            "layers": report.layers,
            "ranges": report.ranges,
            "probes": probes_json(&report.probes),
            "seconds": seconds,
        }))?;
    } else {
        print(&report, options, seconds);
    }
    Ok(match report.passed() {
        true => Outcome::Done,
        false => Outcome::Findings,
    })
}

/// The losses of all models that were asked for, and with a checkpoint of the final latent and the image.
pub(crate) fn losses(options: &Options, global: Global) -> anyhow::Result<Vec<Loss>> {
    Ok(report(options, global)?.losses)
}

fn report(options: &Options, global: Global) -> anyhow::Result<Report> {
    let judge = match options.precision {
        EnginePrecision::Strict => EnginePrecision::Strict,
        _ => EnginePrecision::Fp32,
    };
    let compared = options.reference.is_some() || options.against.is_some();
    ensure!(
        compared || !options.per_layer,
        "`--per-layer` compares two programs\n\nhint: name a second folder or model, or give `--against CHECKPOINT`"
    );
    let asked = Asked {
        engine: global.engine(options.precision),
        judge: global.engine(judge),
        per_layer: options.per_layer,
        ranges: options.precision == EnginePrecision::Fp16 || !compared,
        probes: &options.probe,
        function: options.function.as_deref(),
        floor: options.min_psnr,
    };
    let report = match (&options.reference, &options.against) {
        (_, Some(against)) => source::judge(options, against, &asked, global)?,
        (Some(reference), None) => two(options, reference, &asked)?,
        (None, None) => one(options, &asked)?,
    };
    Ok(report)
}

/// The models of a folder by name, or the only one.
fn models(path: &Path, options: &Options) -> anyhow::Result<Vec<(String, Model)>> {
    if Form::of(path).is_some() || !path.is_dir() {
        ensure!(
            options.components.is_empty(),
            "`{}` is one model, but `--components` chooses from a folder",
            path.display()
        );
        let name = path.file_stem().map(|s| s.to_string_lossy().into_owned());
        return Ok(vec![(name.unwrap_or_default(), model(path)?)]);
    }
    ensure!(
        options.inputs.is_none(),
        "`--inputs` are those of one model, but `{}` is a folder",
        path.display()
    );
    let base = Base::open(path)?;
    let parts = source::parts(options, &base)?;
    let named = parts.iter().map(|p| {
        let name = p.package();
        Ok((name.to_string(), base.model(name)?))
    });
    named.collect()
}

/// Token ids of the prompt, when the path is a folder with a tokenizer.
fn ids(base: &Base, options: &Options) -> Option<Vec<i32>> {
    let tokenizer = tokenizer(base).ok()?;
    Some(tokenizer.encode_77(&options.prompt).0.to_vec())
}

fn ids_of(path: &Path, options: &Options) -> Option<Vec<i32>> {
    Base::open(path).ok().and_then(|base| ids(&base, options))
}

/// The inputs that were given, or seeded ones.
fn inputs(
    model: &Model,
    function: Option<&str>,
    options: &Options,
    ids: Option<&[i32]>,
) -> anyhow::Result<Inputs> {
    match &options.inputs {
        Some(path) => commands::run::inputs(path),
        None => seeded(model.inputs(function)?, ids),
    }
}

/// Models of two folders, or two models.
fn two(options: &Options, reference: &Path, asked: &Asked<'_>) -> anyhow::Result<Report> {
    let judged = models(&options.folder, options)?;
    let mut theirs = models(reference, options)?;
    let single = |path: &Path| Form::of(path).is_some();
    ensure!(
        single(&options.folder) == single(reference),
        "`{}` and `{}` must both be folders, or both be models",
        options.folder.display(),
        reference.display()
    );
    let known = judged
        .iter()
        .map(|(_, m)| m)
        .chain(theirs.iter().map(|(_, m)| m));
    known_probes(options, known)?;
    let ids = ids_of(&options.folder, options).or_else(|| ids_of(reference, options));
    let mut report = Report::default();
    for (name, model) in &judged {
        let place = match single(reference) {
            true => Some(0),
            false => theirs.iter().position(|(n, _)| n == name),
        };
        let Some(place) = place else {
            bail!(
                "`{}` has no `{name}`\n\nhint: choose with `--components` what both folders have",
                reference.display()
            );
        };
        let (_, reference) = theirs.remove(place);
        let function = asked.function_of(&reference);
        let wanted = inputs(&reference, function, options, ids.as_deref())?;
        let mut own = wanted.clone();
        rename_only(&mut own, model, asked.function)?;
        report.add(
            name,
            compare(name, (model, &own), (&reference, &wanted), asked)?,
        );
    }
    Ok(report)
}

/// The models of a folder, or one model, by themselves.
fn one(options: &Options, asked: &Asked<'_>) -> anyhow::Result<Report> {
    let models = models(&options.folder, options)?;
    known_probes(options, models.iter().map(|(_, m)| m))?;
    let ids = ids_of(&options.folder, options);
    let mut report = Report::default();
    for (name, model) in &models {
        let inputs = inputs(model, asked.function, options, ids.as_deref())?;
        report.add(name, alone(model, &inputs, asked)?);
    }
    Ok(report)
}

/// Every probe must be a value or a module of one of the models.
fn known_probes<'a>(
    options: &Options,
    models: impl Iterator<Item = &'a Model> + Clone,
) -> anyhow::Result<()> {
    for probe in &options.probe {
        let mut nearest = Vec::new();
        let mut found = false;
        for model in models.clone() {
            let asked = options.function.as_deref();
            let function = asked.filter(|f| model.functions().any(|known| known == *f));
            match model.find_value(function, probe) {
                Ok(_) => found = true,
                Err(Error::UnknownProbe { nearest: more, .. }) => nearest.extend(more),
                Err(other) => return Err(other.into()),
            }
        }
        if !found {
            nearest.dedup();
            let list: Vec<String> = nearest.iter().map(|n| format!("`{n}`")).collect();
            let hint = match list.is_empty() {
                true => String::new(),
                false => format!("\n\nhint: the nearest names are {}", list.join(", ")),
            };
            bail!("no value or module `{probe}`{hint}");
        }
    }
    Ok(())
}

/// The name of an only input is free in a folder of another converter.
fn rename_only(inputs: &mut Inputs, model: &Model, function: Option<&str>) -> anyhow::Result<()> {
    if let ([one], 1) = (model.inputs(function)?, inputs.len())
        && let Some((_, tensor)) = inputs.pop_first()
    {
        inputs.insert(one.name.clone(), tensor);
    }
    Ok(())
}

fn probes_json(probes: &BTreeMap<String, Tensor>) -> serde_json::Value {
    let row = |(name, tensor): (&String, &Tensor)| {
        let (lowest, highest) = commands::run::range(tensor);
        json!({ "name": name, "shape": tensor.shape, "lowest": lowest, "highest": highest })
    };
    probes.iter().map(row).collect()
}

fn print(report: &Report, options: &Options, seconds: f64) {
    for (model, layers) in &report.layers {
        print!("{}", layers.table(model).text());
        println!("{}\n", layers.verdict(model));
    }
    for (model, ranges) in &report.ranges {
        print!("{}", ranges.table(model).text());
        println!("{}\n", ranges.verdict(model));
    }
    if !report.probes.is_empty() {
        print!("{}", commands::run::table("probe", &report.probes).text());
        println!();
    }
    print!("{}", losses_table(&report.losses).text());
    for model in &report.broken {
        println!("{model}: an output is not finite");
    }
    for path in options.plot.iter().chain(&options.output) {
        println!("wrote `{}`", path.display());
    }
    let passed = match report.passed() {
        true => "passed",
        false => "FAILED",
    };
    println!("{passed} in {seconds:.1} s");
}

fn losses_table(losses: &[Loss]) -> Table {
    let mut table = Table::new(&["module", "PSNR dB", "SNR dB", "at least", "s", ""]);
    for loss in losses {
        table.row(&[
            loss.name.clone(),
            table::db(loss.psnr_db),
            table::db(loss.snr_db),
            loss.floor_db.map(table::db).unwrap_or_else(|| "–".into()),
            table::seconds(loss.seconds),
            if loss.passed() {
                String::new()
            } else {
                "FAILED".into()
            },
        ]);
    }
    table
}

/// Losses by name, for the demo's table.
pub(crate) fn by_name(losses: &[Loss]) -> BTreeMap<&str, f64> {
    losses
        .iter()
        .map(|l| (l.name.as_str(), l.psnr_db))
        .collect()
}
