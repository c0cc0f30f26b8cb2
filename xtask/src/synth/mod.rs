//! `cargo xtask synth`: models of full size with made-up weights, for measuring what they cost.
//!
//! ```text
//! target/synth/sd15/
//!   model_index.json, {unet,text_encoder,vae}/config.json, scheduler/scheduler_config.json
//!   unet/diffusion_pytorch_model.safetensors      859 520 964 elements, f16
//!   text_encoder/model.safetensors                123 060 480
//!   vae/diffusion_pytorch_model.safetensors        83 653 863
//!   tokenizer/{vocab.json, merges.txt}            the CLIP vocabulary
//!   lora/style-r16.safetensors                    kohya, rank 16, alpha 8: 192 UNet and 72 text encoder modules
//!   stamp.json                                    written last; a folder whose stamp fits is left as it is
//! ```

mod configs;
mod tables;
mod values;

use crate::root;
use anyhow::{Context, Result};
use clap::ValueEnum;
use gesso_weights::{StDType, StWriter};
use half::f16;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;
use tables::Tensor;
use values::{Spread, Values};

/// Raised when the bytes change for a reason that the stamp does not hold otherwise.
const VERSION: u32 = 1;
const RANK: usize = 16;
const ALPHA: f32 = 8.0;
/// Elements generated and written at a time.
const CHUNK: usize = 4 << 20;

/// Which model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Model {
    /// Stable Diffusion 1.5 as a diffusers folder, and a LoRA.
    Sd15,
}

/// Options of the subcommand.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Which model to make.
    model: Model,
    /// Make it again even if it is there.
    #[arg(long)]
    force: bool,
}

/// Makes the model unless it is there; always true.
pub(crate) fn run(args: &Args) -> Result<bool> {
    let Model::Sd15 = args.model;
    let start = Instant::now();
    let out = root().join("target/synth/sd15");
    let inputs = Inputs::read()?;
    if !args.force && inputs.stamp_fits(&out) {
        eprintln!("synth: `{}` is up to date", out.display());
        return Ok(true);
    }
    if out.exists() {
        fs::remove_dir_all(&out).with_context(|| format!("cannot remove `{}`", out.display()))?;
    }
    inputs.write(&out)?;
    eprintln!(
        "synth: `{}` made in {:.1} s",
        out.display(),
        start.elapsed().as_secs_f64()
    );
    Ok(true)
}

/// Everything that the bytes depend on.
struct Inputs {
    tensors: String,
    modules: String,
    configs: Vec<(&'static str, String)>,
}

impl Inputs {
    fn read() -> Result<Self> {
        let root = root();
        Ok(Self {
            tensors: tables::text(&root, "sd1.tsv.gz")?,
            modules: tables::text(&root, "sd1.lora-modules.tsv.gz")?,
            configs: configs::sd15(&root)?,
        })
    }

    fn hash(&self) -> String {
        let mut hasher = Sha256::new();
        hasher.update(&self.tensors);
        hasher.update(&self.modules);
        for (name, text) in &self.configs {
            hasher.update(name);
            hasher.update(text);
        }
        hasher
            .finalize()
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect()
    }

    fn stamp(&self, out: &Path) -> Result<Value> {
        let mut files = BTreeMap::new();
        for file in FILES
            .iter()
            .copied()
            .chain(self.configs.iter().map(|c| c.0))
        {
            let path = out.join(file);
            let size = fs::metadata(&path)
                .with_context(|| format!("cannot look at `{}`", path.display()))?
                .len();
            files.insert(file, size);
        }
        Ok(json!({ "version": VERSION, "inputs": self.hash(), "files": files }))
    }

    fn stamp_fits(&self, out: &Path) -> bool {
        let found = fs::read_to_string(out.join("stamp.json")).ok();
        let found = found.and_then(|text| serde_json::from_str::<Value>(&text).ok());
        found.is_some() && found == self.stamp(out).ok()
    }

    fn write(&self, out: &Path) -> Result<()> {
        for (name, text) in &self.configs {
            let path = out.join(name);
            make_parent(&path)?;
            fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))?;
        }
        let values = Values::new();
        let tensors = tables::tensors(&self.tensors)?;
        for (file, component) in FILES.iter().zip(["unet", "text_encoder", "vae"]) {
            let of: Vec<_> = tensors
                .iter()
                .filter(|t| t.component == component)
                .collect();
            eprintln!("synth: {file}");
            write_component(&values, &out.join(file), &of)?;
        }
        write_lora(&values, &out.join(FILES[3]), &self.modules)?;
        let stamp = serde_json::to_string_pretty(&self.stamp(out)?)?;
        fs::write(out.join("stamp.json"), stamp + "\n")?;
        Ok(())
    }
}

const FILES: [&str; 4] = [
    "unet/diffusion_pytorch_model.safetensors",
    "text_encoder/model.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
    "lora/style-r16.safetensors",
];

fn make_parent(path: &Path) -> Result<()> {
    let parent = path.parent().map(PathBuf::from).unwrap_or_default();
    fs::create_dir_all(&parent).with_context(|| format!("cannot make `{}`", parent.display()))
}

/// Spread by the role of a tensor, so that activations keep their size from layer to layer.
fn spread(tensor: &Tensor) -> Spread {
    let name = tensor.name.as_str();
    let fan_in: usize = tensor.shape.iter().skip(1).product();
    let (mean, deviation) = match tensor.shape.len() {
        1 if name.ends_with(".bias") => (0.0, 0.02),
        1 => (1.0, 0.1),
        _ if name.contains("_embedding.weight") => (0.0, 0.02),
        _ => (0.0, 1.0 / (fan_in as f32).sqrt()),
    };
    Spread {
        mean,
        deviation,
        row: fan_in,
    }
}

fn write_component(values: &Values, path: &Path, tensors: &[&Tensor]) -> Result<()> {
    make_parent(path)?;
    let by_name: BTreeMap<_, _> = tensors.iter().map(|t| (t.name.as_str(), *t)).collect();
    let metadata = BTreeMap::from([("format".to_string(), "pt".to_string())]);
    let rows = tensors
        .iter()
        .map(|t| (t.name.clone(), StDType::F16, t.shape.clone()));
    let mut writer = StWriter::create(path, &metadata, rows.collect::<Vec<_>>())?;
    while let Some(name) = writer.next_name().map(str::to_string) {
        let tensor = by_name.get(name.as_str()).context("a tensor of no name")?;
        let seed = values::seed(&format!("{}:{name}", tensor.component));
        let elements = tensor.shape.iter().product();
        stream(values, &mut writer, seed, spread(tensor), elements)?;
    }
    Ok(writer.finish()?)
}

/// Generates and writes one tensor in chunks.
fn stream(
    values: &Values,
    writer: &mut StWriter,
    seed: u64,
    spread: Spread,
    elements: usize,
) -> Result<()> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut buffer = vec![0; 2 * elements.min(CHUNK)];
    let mut first = 0;
    while first < elements {
        let n = (elements - first).min(CHUNK);
        let part = &mut buffer[..2 * n];
        // Small tensors are not worth a second thread.
        let threads = if n < 1 << 16 { 1 } else { threads };
        values.fill(seed, spread, first as u64, part, threads);
        writer.write(part)?;
        first += n;
    }
    Ok(())
}

/// A kohya LoRA whose ΔW is about a twentieth of W.
fn write_lora(values: &Values, path: &Path, modules: &str) -> Result<()> {
    make_parent(path)?;
    let mut tensors: BTreeMap<String, (Vec<usize>, Spread)> = BTreeMap::new();
    for module in tables::modules(modules)? {
        let [o, i, tail @ ..] = module.shape.as_slice() else {
            anyhow::bail!("`{}` is not a layer", module.name);
        };
        let mut add = |part: &str, shape: Vec<usize>, deviation: f32| {
            let spread = Spread {
                mean: 0.0,
                deviation,
                row: shape.iter().skip(1).product(),
            };
            tensors.insert(format!("{}.{part}", module.name), (shape, spread));
        };
        let down = 1.0 / (*i as f32).sqrt();
        add("lora_down.weight", [&[RANK, *i], tail].concat(), down);
        add("lora_up.weight", [&[*o, RANK], tail].concat(), 0.025);
        let alpha = Spread {
            mean: ALPHA,
            deviation: 0.0,
            row: 1,
        };
        tensors.insert(format!("{}.alpha", module.name), (Vec::new(), alpha));
    }
    let metadata = [
        ("ss_base_model_version", "sd_v1"),
        ("ss_network_alpha", "8"),
        ("ss_network_dim", "16"),
        ("ss_network_module", "networks.lora"),
        ("modelspec.title", "style-r16"),
    ];
    let metadata = metadata.map(|(k, v)| (k.to_string(), v.to_string())).into();
    let rows = tensors
        .iter()
        .map(|(name, (shape, _))| (name.clone(), StDType::F16, shape.clone()));
    let mut writer = StWriter::create(path, &metadata, rows.collect::<Vec<_>>())?;
    while let Some(name) = writer.next_name().map(str::to_string) {
        let (shape, spread) = tensors.get(&name).context("a tensor of no name")?;
        match shape.iter().product() {
            1 => writer.write(&f16::from_f32(ALPHA).to_le_bytes())?,
            elements => stream(values, &mut writer, values::seed(&name), *spread, elements)?,
        }
    }
    Ok(writer.finish()?)
}
