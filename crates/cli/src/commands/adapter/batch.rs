//! Many LoRAs in one call: what is good is built, what is bad is named.

use crate::args::Adapter;
use crate::commands::{Global, print_json};
use crate::progress::Line;
use crate::source::Weighted;
use crate::table::{self, Table};
use crate::{Outcome, causes, loss};
use anyhow::{Context, bail, ensure};
use gesso_convert::adapter::AdapterReport;
use gesso_convert::delta::DeltaReport;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// What makes a folder one LoRA and not a folder of them.
const PEFT_FILES: [&str; 3] = [
    "adapter_config.json",
    "adapter_model.safetensors",
    "pytorch_lora_weights.safetensors",
];

/// Whether these arguments stand for a folder of assets and not for one asset.
pub(super) fn is_meant(loras: &[PathBuf]) -> bool {
    match loras {
        [one] => is_collection(one),
        _ => true,
    }
}

fn is_collection(path: &Path) -> bool {
    path.is_dir() && !PEFT_FILES.iter().any(|file| path.join(file).is_file())
}

/// What was made of one LoRA.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Made {
    Slots(AdapterReport),
    Delta(DeltaReport),
}

/// Makes the asset of a LoRA, given as on the command line, at a path.
pub(super) type Make<'a> = dyn Fn(&Path, &Path) -> anyhow::Result<Made> + Sync + 'a;

/// One LoRA of the call and what became of it.
struct Done {
    lora: PathBuf,
    asset: PathBuf,
    outcome: anyhow::Result<(Made, u64)>,
}

/// Makes an asset of every LoRA with `make`.
pub(super) fn run(
    options: &Adapter,
    global: Global,
    start: Instant,
    make: &Make<'_>,
) -> anyhow::Result<Outcome> {
    ensure!(
        options.name.is_none(),
        "`--name` names one adapter, but there are several\n\nhint: leave it out; each takes the name that its LoRA has"
    );
    let loras = listed(&options.loras)?;
    std::fs::create_dir_all(&options.output)
        .with_context(|| format!("cannot create the folder `{}`", options.output.display()))?;
    let done = all(make, options, &loras, global)?;
    let bad = done.iter().filter(|d| d.outcome.is_err()).count();
    if global.json {
        let mut document = document(&done);
        document["seconds"] = start.elapsed().as_secs_f64().into();
        print_json(&document)?;
    } else {
        print(&done);
        println!(
            "wrote {} of {} assets into `{}` in {:.2} s",
            done.len() - bad,
            done.len(),
            options.output.display(),
            start.elapsed().as_secs_f64()
        );
    }
    Ok(if bad == 0 {
        Outcome::Done
    } else {
        Outcome::Findings
    })
}

/// The LoRAs in the order of the arguments, those of a folder sorted by name.
fn listed(arguments: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut loras = Vec::new();
    for argument in arguments {
        if !is_collection(argument) {
            loras.push(argument.clone());
            continue;
        }
        let reading = || format!("cannot read the folder `{}`", argument.display());
        let mut files = Vec::new();
        for entry in std::fs::read_dir(argument).with_context(reading)? {
            let path = entry.with_context(reading)?.path();
            if path.is_file() && path.extension().is_some_and(|e| e == "safetensors") {
                files.push(path);
            }
        }
        ensure!(
            !files.is_empty(),
            "`{}` has no .safetensors file",
            argument.display()
        );
        files.sort();
        loras.extend(files);
    }
    Ok(loras)
}

/// Makes every asset, several at a time; the answer is in the order of `loras`.
fn all(
    make: &Make<'_>,
    options: &Adapter,
    loras: &[PathBuf],
    global: Global,
) -> anyhow::Result<Vec<Done>> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(global.threads)
        .build()
        .context("cannot start threads")?;
    let jobs = match options.jobs {
        0 => pool.current_num_threads(),
        n => n,
    };
    let targets = targets(&options.output, loras);
    let mut line = Line::new();
    line.begin("adapters", loras.len() as u64);
    let line = Mutex::new(line);
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let (Some(lora), Some((asset, first))) = (loras.get(at), targets.get(at)) else {
                return done;
            };
            let outcome = match first {
                Some(first) => same_name(first, asset),
                None => pool.install(|| one(make, lora, asset)),
            };
            if let Ok(mut line) = line.lock() {
                line.advance(1);
            }
            let (lora, asset) = (lora.clone(), asset.clone());
            done.push((
                at,
                Done {
                    lora,
                    asset,
                    outcome,
                },
            ));
        }
    };
    let mut done: Vec<(usize, Done)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs.min(loras.len()))
            .map(|_| scope.spawn(work))
            .collect();
        workers
            .into_iter()
            .map(|worker| {
                worker
                    .join()
                    .map_err(|_| anyhow::anyhow!("a worker thread died"))
            })
            .collect::<anyhow::Result<Vec<_>>>()
    })?
    .into_iter()
    .flatten()
    .collect();
    done.sort_by_key(|(at, _)| *at);
    Ok(done.into_iter().map(|(_, done)| done).collect())
}

/// Where each asset goes, and the earlier LoRA that takes that place already.
fn targets<'a>(output: &Path, loras: &'a [PathBuf]) -> Vec<(PathBuf, Option<&'a Path>)> {
    let mut taken: BTreeMap<PathBuf, &Path> = BTreeMap::new();
    loras
        .iter()
        .map(|lora| {
            // With a strength behind it, the file is what stands before.
            let parsed = lora.to_str().and_then(|text| Weighted::parse(text).ok());
            let file = parsed.as_ref().map_or(lora.as_path(), |w| w.path.as_path());
            // A folder's name has no extension to take off.
            let stem = if file.is_dir() {
                file.file_name()
            } else {
                file.file_stem()
            };
            let mut name = stem.unwrap_or_default().to_owned();
            name.push(".mlmodelcassets");
            let asset = output.join(name);
            let first = taken.get(&asset).copied();
            taken.entry(asset.clone()).or_insert(lora);
            (asset, first)
        })
        .collect()
}

fn same_name(first: &Path, asset: &Path) -> anyhow::Result<(Made, u64)> {
    bail!(
        "its asset would be `{}`, which is that of `{}`\n\nhint: rename one of the two",
        asset.display(),
        first.display()
    )
}

fn one(make: &Make<'_>, lora: &Path, asset: &Path) -> anyhow::Result<(Made, u64)> {
    let made = make(lora, asset)?;
    let bytes = std::fs::metadata(asset)
        .with_context(|| format!("cannot read `{}`", asset.display()))?
        .len();
    Ok((made, bytes))
}

fn document(done: &[Done]) -> Value {
    let (mut adapters, mut failed) = (Vec::new(), Vec::new());
    for d in done {
        match &d.outcome {
            Ok((report, bytes)) => adapters.push(json!({
                "lora": d.lora.display().to_string(),
                "asset": d.asset.display().to_string(),
                "bytes": bytes,
                "report": report,
            })),
            Err(error) => failed.push(json!({
                "lora": d.lora.display().to_string(),
                "error": causes(error),
            })),
        }
    }
    json!({ "schema": 1, "adapters": adapters, "failed": failed })
}

fn print(done: &[Done]) {
    let slots = !done
        .iter()
        .any(|d| matches!(d.outcome, Ok((Made::Delta(_), _))));
    let columns: &[&str] = if slots {
        &[
            "LoRA",
            "modules",
            "rank",
            "cut",
            "lost %",
            "lowest SNR dB",
            "size",
        ]
    } else {
        &["LoRA", "tensors", "lowest SNR dB", "size"]
    };
    let mut table = Table::new(columns);
    for d in done {
        let file = d.lora.file_name().unwrap_or_default().to_string_lossy();
        let mut row = vec![file.into_owned()];
        match &d.outcome {
            Ok((Made::Delta(report), bytes)) => row.extend([
                report.tensors.len().to_string(),
                loss::lowest(&report.losses),
                table::bytes(*bytes),
            ]),
            Ok((Made::Slots(report), bytes)) => row.extend([
                report.modules.values().sum::<usize>().to_string(),
                report.rank.values().max().unwrap_or(&0).to_string(),
                report.truncated.len().to_string(),
                most_lost(report),
                loss::lowest(&report.losses),
                table::bytes(*bytes),
            ]),
            Err(_) => row.push("failed".into()),
        }
        table.row(&row);
    }
    print!("{}", table.text());
    for d in done {
        if let Err(error) = &d.outcome {
            println!("failed: `{}`: {}", d.lora.display(), causes(error));
        }
    }
}

/// The largest share of a module's energy that was lost, in percent; empty when nothing was.
fn most_lost(report: &AdapterReport) -> String {
    let lost = report.truncated.iter().map(|t| t.lost_energy);
    lost.reduce(f64::max)
        .map_or(String::new(), |share| format!("{:.3}", 100.0 * share))
}
