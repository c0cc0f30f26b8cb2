//! `gesso convert`.

use super::{Global, overwrite, print_json};
use crate::args::{self, AdapterSites, Convert, Format};
use crate::opened::{self, Form};
use crate::progress::Line;
use crate::table::{self, Table};
use crate::{Outcome, loss, selftest, source};
use anyhow::{Context, bail, ensure};
use gesso_convert::family::{Attention, Precision};
use gesso_convert::recipe::{AdapterIo, Origin, Override, Target as SystemTarget};
use gesso_convert::report::SlotsReport;
use gesso_convert::slots::Sites;
use gesso_convert::{Recipe, Report, compile_opened, convert};
use gesso_coreml::package::Package;
use gesso_coreml::stage::{Staging, require_space};
use gesso_mil::lints::{self, Facts, Finding, Severity};
use gesso_weights::Checkpoint;
use rayon::prelude::*;
use std::path::Path;
use std::time::Instant;

pub(super) fn run(options: &Convert, global: Global) -> anyhow::Result<Outcome> {
    let start = Instant::now();
    let checkpoint = source::checkpoint(&options.checkpoint, &options.source)?;
    let recipe = recipe(options, &checkpoint)?;
    let target = Target {
        path: &options.output,
        force: options.force,
        format: options.format,
    };
    let made = folder(&checkpoint, &recipe, target, global)?;
    if global.json {
        let mut document = serde_json::to_value(&made.report)?;
        document["schema"] = 1.into();
        document["self_test"] = made.self_test.into();
        document["notes"] = made.notes.into();
        document["seconds"] = start.elapsed().as_secs_f64().into();
        print_json(&document)?;
    } else {
        print!("{}", summary(&made.report).text());
        for slots in &made.report.slots {
            println!("slots: {}", bound(slots));
        }
        for line in loss::lines(&made.report.losses, "the weights with LoRAs") {
            println!("{line}");
        }
        if !made.report.functions.is_empty() {
            print!("{}", functions(&made.report).text());
        }
        for note in &made.notes {
            println!("note: {note}");
        }
        println!("self-test: {}", made.self_test);
        println!(
            "wrote `{}` in {:.1} s",
            options.output.display(),
            start.elapsed().as_secs_f64()
        );
    }
    Ok(Outcome::Done)
}

/// A folder that was written.
pub(crate) struct Made {
    pub(crate) report: Report,
    pub(crate) self_test: String,
    pub(crate) notes: Vec<String>,
}

/// Where a converted folder goes, and in which form.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    pub(crate) path: &'a Path,
    pub(crate) force: bool,
    pub(crate) format: Format,
}

/// Converts into a temporary sibling of the target and moves it into place.
pub(crate) fn folder(
    checkpoint: &Checkpoint,
    recipe: &Recipe,
    target: Target<'_>,
    global: Global,
) -> anyhow::Result<Made> {
    let staging = Staging::new(target.path, overwrite(target.force))?;
    require_space(target.path, recipe.bytes_needed(checkpoint)?)?;
    let folder = staging.path();
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot create `{}`", folder.display()))?;
    let mut line = Line::new();
    let report = global.on_threads(|| convert(checkpoint, recipe, folder, &mut line))??;
    line.clear();
    let (self_test, findings) = global.on_threads(|| {
        rayon::join(
            || selftest::write(folder, global),
            || finished(folder, target.format),
        )
    })?;
    let (findings, self_test) = (findings?, self_test?);
    if target.format == Format::Mlmodelc {
        without_packages(folder)?;
    }
    staging.commit()?;
    let mut notes = checkpoint.notes().to_vec();
    notes.extend(findings);
    notes.extend(report.notes.iter().cloned());
    let of_functions = report.functions.iter().flat_map(|f| &f.loras);
    for lora in report.loras.iter().chain(of_functions) {
        let name = &lora.name;
        let unused = lora.ignored.iter();
        notes.extend(unused.map(|(key, why)| format!("LoRA `{name}`: `{key}` is not used: {why}")));
        let rest = lora.not_merged.iter();
        notes.extend(rest.map(|m| format!("LoRA `{name}`: module `{m}` is not merged")));
    }
    let of_functions = recipe.functions.iter().flat_map(|f| &f.loras);
    for baked in recipe.loras.iter().chain(of_functions) {
        let warnings = baked.lora.warnings.iter();
        notes.extend(warnings.map(|w| format!("LoRA `{}`: {w}", baked.lora.name())));
    }
    notes.extend(
        report
            .unused
            .iter()
            .map(|(name, why)| format!("tensor `{name}` is not used: {why}")),
    );
    Ok(Made {
        report,
        self_test,
        notes,
    })
}

/// Lints what was written and compiles it when that was asked for, package by package on all threads; a package is read
/// once for both. The answer is the warnings, in the order of the packages.
///
/// Errors: a finding that keeps a model from loading; what cannot be compiled.
fn finished(folder: &Path, format: Format) -> anyhow::Result<Vec<String>> {
    let packages = opened::models(folder)?;
    let found: Vec<_> = packages
        .par_iter()
        .map(|path| {
            let package = Package::open(path)?;
            let findings = lints::run(&package.model, &Facts::of(&package));
            if format != Format::Mlpackage && !findings.iter().any(fatal) {
                compile_opened(&package, &path.with_extension("mlmodelc"))?;
            }
            anyhow::Ok(findings)
        })
        .collect();
    let mut warnings = Vec::new();
    for (path, findings) in packages.iter().zip(found) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        for finding in findings? {
            match finding.severity {
                Severity::Error => bail!("`{name}` would not load: {finding}"),
                Severity::Warning => warnings.push(format!("`{name}`: {finding}")),
                Severity::Note => {}
            }
        }
    }
    Ok(warnings)
}

/// Whether the finding keeps a model from loading.
fn fatal(finding: &Finding) -> bool {
    finding.severity == Severity::Error
}

/// Takes the packages out again, when only the compiled form was asked for.
fn without_packages(folder: &Path) -> anyhow::Result<()> {
    for path in opened::models(folder)? {
        if Form::of(&path) == Some(Form::Package) {
            std::fs::remove_dir_all(&path)
                .with_context(|| format!("cannot remove `{}`", path.display()))?;
        }
    }
    Ok(())
}

/// The recipe that the options ask for.
fn recipe(options: &Convert, checkpoint: &Checkpoint) -> anyhow::Result<Recipe> {
    let described = origin(checkpoint);
    Ok(Recipe {
        bits: options.bits,
        precision: match options.precision {
            args::Precision::Fp16 => Precision::Fp16,
            args::Precision::Fp32 => Precision::Fp32,
        },
        attention: match options.attention {
            args::Attention::SplitEinsum => Attention::SplitEinsum,
            args::Attention::Original => Attention::Original,
        },
        size: options.size.as_deref().map(source::size).transpose()?,
        adapter_rank: options.adapter_rank,
        adapter_sites: sites(options)?,
        adapter_io: match options.adapter_io {
            args::AdapterIo::Input => AdapterIo::Input,
            args::AdapterIo::State => AdapterIo::State,
        },
        target: match options.target {
            args::Target::Ios16 => SystemTarget::Ios16,
            args::Target::Ios18 => SystemTarget::Ios18,
        },
        loras: source::baked(&options.lora, checkpoint, &options.ignore)?,
        functions: match &options.multifunction {
            Some(argument) => source::styles(argument, checkpoint, &options.ignore)?,
            None => Vec::new(),
        },
        palettize: options
            .palettize
            .iter()
            .map(|o| exception(o))
            .collect::<anyhow::Result<_>>()?,
        origin: Origin {
            name: options.name.clone().unwrap_or(described.name),
            author: options.author.clone().unwrap_or(described.author),
            license: options.license.clone().unwrap_or(described.license),
        },
        ..Recipe::default()
    })
}

/// Errors: sites without slots.
fn sites(options: &Convert) -> anyhow::Result<Sites> {
    let Some(sites) = options.adapter_sites else {
        return Ok(Sites::default());
    };
    ensure!(
        options.adapter_rank > 0,
        "`--adapter-sites` says which layers have slots, but with `--adapter-rank 0` none has any"
    );
    Ok(sites.into())
}

impl From<AdapterSites> for Sites {
    fn from(sites: AdapterSites) -> Self {
        match sites {
            AdapterSites::Attention => Self::Attention,
            AdapterSites::AttentionFeedForward => Self::AttentionFeedForward,
            AdapterSites::All => Self::All,
        }
    }
}

/// What an app binds for the slots of one package.
fn bound(slots: &SlotsReport) -> String {
    let how = match slots.io.as_str() {
        "state" => "written once into its states",
        _ => "bound at each prediction with adapters",
    };
    format!(
        "`{}` has them in {} modules ({}) at rank {}: {} {how}",
        slots.package,
        slots.modules,
        slots.sites,
        slots.rank,
        table::bytes(slots.bytes)
    )
}

/// `PATTERN=BITS`.
fn exception(argument: &str) -> anyhow::Result<Override> {
    let parsed = argument
        .rsplit_once('=')
        .and_then(|(pattern, bits)| Some((pattern, bits.parse().ok()?)));
    let (pattern, bits) = parsed.with_context(|| {
        format!("`--palettize {argument}`: expected PATTERN=BITS, for instance `unet:*.attn2.*=8`")
    })?;
    Ok(Override {
        pattern: pattern.into(),
        bits,
    })
}

/// What the source says about itself. Its path takes no part: the same tensors give the same packages wherever they lie.
pub(crate) fn origin(checkpoint: &Checkpoint) -> Origin {
    let said = |s: Option<&str>| s.unwrap_or_default().to_string();
    Origin {
        name: checkpoint
            .title()
            .unwrap_or("Stable Diffusion 1")
            .to_string(),
        author: said(checkpoint.author()),
        license: said(checkpoint.license()),
    }
}

/// One row per function: what it stores and what it shares.
fn functions(report: &Report) -> Table {
    let mut table = Table::new(&["package", "function", "stored", "shared", "lowest SNR dB"]);
    for package in &report.packages {
        for function in &package.functions {
            table.row(&[
                package.package.clone(),
                function.name.clone(),
                table::bytes(function.own_bytes),
                table::bytes(function.shared_bytes),
                function.min_snr_db.map(table::db).unwrap_or_default(),
            ]);
        }
    }
    table
}

/// One row per package.
fn summary(report: &Report) -> Table {
    let mut table = Table::new(&[
        "package",
        "weights",
        "before",
        "after",
        "palettized",
        "lowest SNR dB",
        "s",
    ]);
    for package in &report.packages {
        table.row(&[
            package.package.clone(),
            package.tensors.len().to_string(),
            table::bytes(package.bytes_before),
            table::bytes(package.bytes_after),
            package.palettized.to_string(),
            package.min_snr_db.map(table::db).unwrap_or_default(),
            table::seconds(package.seconds),
        ]);
    }
    table
}
