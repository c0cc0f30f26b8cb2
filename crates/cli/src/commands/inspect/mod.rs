//! `gesso inspect`: what a path holds, by its content.

mod adapter;
mod blob;
mod checkpoint;
mod folder;
mod graph;
mod lora;
pub(crate) mod model;
mod weight;

use super::{Global, print_json, write_file};
use crate::Outcome;
use crate::opened::{Form, Opened};
use anyhow::{Context, ensure};
use gesso_weights::lora::LoraError;
use serde_json::Value;
use std::io::Read;
use std::path::{Path, PathBuf};

#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    /// A package, compiled model, weight file, adapter asset, converted folder, checkpoint or LoRA.
    path: PathBuf,
    /// List the ops of a model.
    #[arg(long)]
    ops: bool,
    /// List every tensor.
    #[arg(long)]
    tensors: bool,
    /// Draw the ops of a model.
    #[arg(long, value_name = "FILE.svg")]
    graph: Option<PathBuf>,
    /// Match a LoRA with the modules of a checkpoint or a converted folder.
    #[arg(long, value_name = "OUT|CHECKPOINT")]
    base: Option<PathBuf>,
    /// Tensors of a LoRA that may stay unused, by pattern.
    #[arg(long, value_name = "PATTERN", requires = "base")]
    ignore: Vec<String>,
    #[command(flatten)]
    source: crate::args::Source,
}

/// What is said about a path: for programs and for people.
#[derive(Default)]
struct Page {
    json: Value,
    text: String,
    /// Why what is said amounts to an error all the same.
    problem: Option<anyhow::Error>,
}

pub(super) fn run(options: &Options, global: Global) -> anyhow::Result<Outcome> {
    ensure!(
        options.path.exists(),
        "`{}` does not exist",
        options.path.display()
    );
    let mut page = page(options)?;
    if global.json {
        page.json["schema"] = 1.into();
        print_json(&page.json)?;
    } else {
        print!("{}", page.text);
    }
    page.problem.map_or(Ok(Outcome::Done), Err)
}

fn page(options: &Options) -> anyhow::Result<Page> {
    let path = &options.path;
    let only_models = |name: &str, given: bool| {
        ensure!(
            !given,
            "`--{name}` is for models, but `{}` is none",
            path.display()
        );
        Ok(())
    };
    if Form::of(path).is_some() {
        ensure!(
            options.base.is_none(),
            "`--base` is for LoRA files, but `{}` is a model",
            path.display()
        );
        let opened = Opened::open(path)?;
        if let Some(file) = &options.graph {
            let svg = graph::svg(&opened.program()?);
            write_file(file, svg.as_bytes())?;
        }
        return model::page(&opened, options.ops, options.tensors);
    }
    only_models("ops", options.ops)?;
    only_models("graph", options.graph.is_some())?;
    if path.is_dir() {
        return directory(options);
    }
    let head = head(path)?;
    if head.starts_with(b"PK\x03\x04") {
        return adapter::page(path);
    }
    let record = head.get(64..68) == Some(&0xDEAD_BEEF_u32.to_le_bytes());
    if head.get(4..8) == Some(&2_u32.to_le_bytes()) && (record || head.len() == 64) {
        return blob::page(path);
    }
    tensors(options)
}

fn directory(options: &Options) -> anyhow::Result<Page> {
    let path = &options.path;
    if path.join("gesso.json").is_file() {
        return folder::page(path);
    }
    let adapter = [
        "adapter_model.safetensors",
        "pytorch_lora_weights.safetensors",
    ];
    if adapter.iter().any(|name| path.join(name).is_file()) {
        return lora::page(&gesso_weights::lora::Lora::open(path)?, options);
    }
    checkpoint::page(options)
}

/// A LoRA or a checkpoint: whatever the tensors say.
fn tensors(options: &Options) -> anyhow::Result<Page> {
    match gesso_weights::lora::Lora::open(&options.path) {
        Ok(lora) => lora::page(&lora, options),
        Err(LoraError::NotAnAdapter { .. }) => checkpoint::page(options),
        Err(error) => Err(error.into()),
    }
}

/// The first bytes of a file.
fn head(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut head = Vec::new();
    let file =
        std::fs::File::open(path).with_context(|| format!("cannot open `{}`", path.display()))?;
    file.take(68)
        .read_to_end(&mut head)
        .with_context(|| format!("cannot read `{}`", path.display()))?;
    Ok(head)
}

/// `name: value` lines, values that are empty left out.
fn lines(pairs: &[(&str, String)]) -> String {
    pairs
        .iter()
        .filter(|(_, v)| !v.is_empty())
        .map(|(n, v)| format!("{n}: {v}\n"))
        .collect()
}
