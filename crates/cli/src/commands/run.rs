//! `gesso run`: one package on tensors from a file, once or several times on a state.

use super::{Global, overwrite, print_json};
use crate::Outcome;
use crate::args::Run;
use crate::base::model;
use crate::table::Table;
use anyhow::{Context, bail, ensure};
use gesso_coreml::stage::Staging;
use gesso_engine::{Data, Model, State, Tensor};
use gesso_weights::safetensors::{StDType, StFile, TensorRef, write_safetensors};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

pub(super) fn run(options: &Run, global: Global) -> anyhow::Result<Outcome> {
    let model = model(&options.package)?;
    let inputs = inputs(&options.inputs)?;
    let function = options.function.as_deref();
    let mut state = first_state(&model, options)?;
    let staging = Staging::file(&options.outputs, overwrite(options.force))?;
    let state_staging = options.state_output.as_ref();
    let state_staging = state_staging
        .map(|path| Staging::file(path, overwrite(options.force)))
        .transpose()?;
    let engine = global.engine(options.precision);
    let start = Instant::now();
    let mut outputs = BTreeMap::new();
    for _ in 0..options.repeat {
        outputs = model.predict_with_state(function, &inputs, &mut state, &engine)?;
    }
    let seconds = start.elapsed().as_secs_f64();
    write(staging.path(), &outputs)?;
    let held = held(&state)?;
    if let Some(staging) = &state_staging {
        write(staging.path(), &held)?;
    }
    staging.commit()?;
    state_staging.map(Staging::commit).transpose()?;
    if global.json {
        let shapes = |tensors: &BTreeMap<String, Tensor>| -> serde_json::Value {
            let rows = tensors
                .iter()
                .map(|(name, t)| (name.clone(), t.shape.clone().into()));
            serde_json::Value::Object(rows.collect())
        };
        let (shapes, states) = (shapes(&outputs), shapes(&held));
        print_json(
            &serde_json::json!({ "schema": 1, "outputs": shapes, "states": states, "seconds": seconds }),
        )?;
    } else {
        print!("{}", table("output", &outputs).text());
        if !held.is_empty() {
            print!("{}", table("state", &held).text());
        }
        println!("wrote `{}` in {seconds:.2} s", options.outputs.display());
    }
    Ok(Outcome::Done)
}

/// The state that the first prediction begins with: what a file holds, else zeros.
fn first_state(model: &Model, options: &Run) -> anyhow::Result<State> {
    let function = options.function.as_deref();
    let mut state = model.make_state(function)?;
    let states = model.states(function)?;
    let asked = options.state.as_ref().or(options.state_output.as_ref());
    ensure!(
        asked.is_none() || !states.is_empty(),
        "`{}` has no states in this function, but `--state` or `--state-output` is given",
        options.package.display()
    );
    if let Some(path) = &options.state {
        let given = inputs(path)?;
        for (name, tensor) in &given {
            state.write(name, tensor)?;
        }
        if let Some(missing) = states.iter().find(|s| !given.contains_key(&s.name)) {
            bail!(
                "`{}` has no state `{}`; expected {}",
                path.display(),
                missing.name,
                missing.ty
            );
        }
    }
    Ok(state)
}

fn held(state: &State) -> anyhow::Result<BTreeMap<String, Tensor>> {
    let read = |name: &str| Ok((name.to_string(), state.read(name)?));
    state.types().map(|(name, _)| read(name)).collect()
}

/// Tensors by name, with their lowest and highest element.
pub(crate) fn table(what: &str, tensors: &BTreeMap<String, Tensor>) -> Table {
    let mut table = Table::new(&[what, "shape", "lowest", "highest"]);
    for (name, tensor) in tensors {
        let (low, high) = range(tensor);
        table.row(&[
            name.clone(),
            format!("{:?}", tensor.shape),
            format!("{low:.5}"),
            format!("{high:.5}"),
        ]);
    }
    table
}

/// The tensors of a file: integers as such, everything else as floats.
pub(crate) fn inputs(path: &Path) -> anyhow::Result<BTreeMap<String, Tensor>> {
    let file = StFile::open(path)?;
    let mut inputs = BTreeMap::new();
    for name in file.names() {
        let tensor = file.get(name).with_context(|| format!("tensor `{name}`"))?;
        inputs.insert(name.to_string(), input(&tensor)?);
    }
    Ok(inputs)
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
pub(crate) fn write(path: &Path, tensors: &BTreeMap<String, Tensor>) -> anyhow::Result<()> {
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

pub(crate) fn range(tensor: &Tensor) -> (f64, f64) {
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
