//! The self-test of a converted folder: fixed inputs and, where they are cheap to compute, the outputs that a runtime should see.
//!
//! Expected outputs come from the naive kernels, whose results are the same on every CPU, so the file is reproducible.

use crate::base::{Base, shape};
use crate::commands::{Global, run};
use anyhow::Context;
use gesso_engine::{Kernels, RunOptions, Tensor};
use gesso_pipeline::rng::{NormalSource, NumpyRng};
use std::collections::BTreeMap;
use std::path::Path;

/// Name of the file in the folder.
pub(crate) const FILE: &str = "selftest.safetensors";

/// Expected outputs are computed up to this many multiplications and additions; above it, the naive kernels take too long.
const BUDGET: u64 = 20_000_000_000;

/// Writes `selftest.safetensors` into the converted folder and says in one line what it holds.
///
/// `text.input_ids`, `text.last_hidden_state`; `unet.sample`, `unet.timestep`, `unet.encoder_hidden_states`, `unet.noise_pred`,
/// all F32 with the shapes of the features. The sample is drawn with numpy's generator, seed 0; the timestep is 500.
pub(crate) fn write(folder: &Path, global: Global) -> anyhow::Result<String> {
    let base = Base::open(folder)?;
    let options = RunOptions {
        kernels: Kernels::Naive,
        threads: global.threads,
        ..RunOptions::default()
    };
    let mut tensors = BTreeMap::new();
    let mut said = Vec::new();
    if base.has("TextEncoder") && base.info.tokenizer {
        said.push(text_encoder(&base, &options, &mut tensors)?);
    }
    if base.has("Unet") {
        said.push(unet(&base, &options, &mut tensors)?);
    }
    if tensors.is_empty() {
        return Ok("none, since neither text encoder nor UNet was converted".into());
    }
    run::write(&folder.join(FILE), &tensors)?;
    Ok(said.join("; "))
}

fn text_encoder(base: &Base, options: &RunOptions, tensors: &mut Inputs) -> anyhow::Result<String> {
    let tokenizer = crate::commands::generate::tokenizer(base)?;
    let ids: Vec<f32> = tokenizer
        .encode_77("")
        .0
        .iter()
        .map(|&i| i as f32)
        .collect();
    let ids = Tensor::f32(&[1, ids.len()], ids);
    tensors.insert("text.input_ids".into(), ids.clone());
    let work = 2 * weights(base, "TextEncoder") * 77;
    if work > BUDGET {
        return Ok(too_much("text encoder", work));
    }
    let inputs = BTreeMap::from([("input_ids".to_string(), ids)]);
    let mut outputs = base.model("TextEncoder")?.predict(None, &inputs, options)?;
    let states = outputs
        .remove("last_hidden_state")
        .context("the text encoder has no `last_hidden_state`")?;
    tensors.insert("text.last_hidden_state".into(), states);
    Ok("text encoder with expected states".into())
}

type Inputs = BTreeMap<String, Tensor>;

fn unet(base: &Base, options: &RunOptions, tensors: &mut Inputs) -> anyhow::Result<String> {
    let model = base.model("Unet")?;
    let mut random = NumpyRng::new(0);
    let mut inputs = Inputs::new();
    for input in model.inputs(None)? {
        let shape = shape(input)?;
        let count: usize = shape.iter().product();
        let values = match input.name.as_str() {
            "timestep" => vec![500.0; count],
            _ => random
                .normal(count)
                .into_iter()
                .map(|x| half::f16::from_f32(x).to_f32())
                .collect(),
        };
        tensors.insert(
            format!("unet.{}", input.name),
            Tensor::f32(&shape, values.clone()),
        );
        inputs.insert(input.name.clone(), Tensor::f32(&shape, values));
    }
    let sample = inputs
        .get("sample")
        .map(|t| t.shape.clone())
        .unwrap_or_default();
    let positions: u64 = [0, 2, 3]
        .iter()
        .map(|&i| sample.get(i).copied().unwrap_or(1) as u64)
        .product();
    // Every weight meets every position at most once per sample of the batch.
    let work = 2 * weights(base, "Unet") * positions;
    if work > BUDGET {
        return Ok(too_much("UNet", work));
    }
    let mut outputs = model.predict(None, &inputs, options)?;
    tensors.insert(
        "unet.noise_pred".into(),
        outputs
            .remove("noise_pred")
            .context("the UNet has no `noise_pred`")?,
    );
    Ok("UNet with expected noise".into())
}

/// Number of weights of a package.
fn weights(base: &Base, package: &str) -> u64 {
    let bytes_per_weight = if base.info.recipe.precision == "fp32" {
        4
    } else {
        2
    };
    base.info
        .packages
        .get(package)
        .map_or(0, |p| p.bytes_before / bytes_per_weight)
}

fn too_much(what: &str, work: u64) -> String {
    format!(
        "{what} with inputs only (up to {:.0} GFLOP for the outputs)",
        work as f64 / 1e9
    )
}
