//! `gesso run`: one package on tensors from a file.

use super::{Global, overwrite, print_json};
use crate::Outcome;
use crate::args::Run;
use crate::base::model;
use crate::table::Table;
use anyhow::Context;
use gesso_coreml::stage::Staging;
use gesso_engine::{Data, Kernels, RunOptions, Tensor};
use gesso_weights::safetensors::{StDType, StFile, TensorRef, write_safetensors};
use std::collections::BTreeMap;
use std::time::Instant;

pub(super) fn run(options: &Run, global: Global) -> anyhow::Result<Outcome> {
    let model = model(&options.package)?;
    let file = StFile::open(&options.inputs)?;
    let mut inputs = BTreeMap::new();
    for name in file.names() {
        let tensor = file.get(name).with_context(|| format!("tensor `{name}`"))?;
        inputs.insert(name.to_string(), input(&tensor)?);
    }
    let staging = Staging::file(&options.outputs, overwrite(options.force))?;
    let mut engine: RunOptions = global.engine(options.compute);
    if options.naive {
        engine.kernels = Kernels::Naive;
    }
    let start = Instant::now();
    let outputs = model.predict(options.function.as_deref(), &inputs, &engine)?;
    let seconds = start.elapsed().as_secs_f64();
    write(staging.path(), &outputs)?;
    staging.commit()?;
    if global.json {
        let shapes: BTreeMap<_, _> = outputs.iter().map(|(name, t)| (name, &t.shape)).collect();
        print_json(&serde_json::json!({ "schema": 1, "outputs": shapes, "seconds": seconds }))?;
    } else {
        let mut table = Table::new(&["output", "shape", "lowest", "highest"]);
        for (name, tensor) in &outputs {
            let (low, high) = range(tensor);
            table.row(&[
                name.clone(),
                format!("{:?}", tensor.shape),
                format!("{low:.5}"),
                format!("{high:.5}"),
            ]);
        }
        print!("{}", table.text());
        println!("wrote `{}` in {seconds:.2} s", options.outputs.display());
    }
    Ok(Outcome::Done)
}

fn input(tensor: &TensorRef<'_>) -> anyhow::Result<Tensor> {
    Ok(match tensor.dtype {
        StDType::I32 => {
            let values = tensor
                .bytes
                .chunks_exact(4)
                .map(|c| i32::from_le_bytes([c[0], c[1], c[2], c[3]]));
            Tensor::i32(tensor.shape, values.collect())
        }
        _ => Tensor::f32(tensor.shape, tensor.to_f32().into_owned()),
    })
}

/// Writes floats as F32, integers as I32, truth values as BOOL.
pub(crate) fn write(
    path: &std::path::Path,
    tensors: &BTreeMap<String, Tensor>,
) -> anyhow::Result<()> {
    let rows: Vec<(&str, StDType, &[usize], Vec<u8>)> = tensors
        .iter()
        .map(|(name, t)| {
            let (dtype, bytes) = match &t.data {
                Data::F32(v) => (
                    StDType::F32,
                    v.iter().flat_map(|x| x.to_le_bytes()).collect(),
                ),
                Data::I32(v) => (
                    StDType::I32,
                    v.iter().flat_map(|x| x.to_le_bytes()).collect(),
                ),
                Data::Bool(v) => (StDType::Bool, v.iter().map(|&b| u8::from(b)).collect()),
            };
            (name.as_str(), dtype, t.shape.as_slice(), bytes)
        })
        .collect();
    let rows: Vec<TensorRef<'_>> = rows
        .iter()
        .map(|(name, dtype, shape, bytes)| TensorRef {
            name,
            dtype: *dtype,
            shape,
            bytes,
        })
        .collect();
    write_safetensors(path, &BTreeMap::new(), &rows)?;
    Ok(())
}

fn range(tensor: &Tensor) -> (f64, f64) {
    let fold = |values: &mut dyn Iterator<Item = f64>| {
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| {
            (low.min(x), high.max(x))
        })
    };
    match &tensor.data {
        Data::F32(v) => fold(&mut v.iter().map(|&x| x.into())),
        Data::I32(v) => fold(&mut v.iter().map(|&x| x.into())),
        Data::Bool(v) => fold(&mut v.iter().map(|&b| f64::from(u8::from(b)))),
    }
}
