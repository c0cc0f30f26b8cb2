//! One model, alone or beside its reference, on the same inputs.

use super::layers::{Comparer, Layers, Pairing, sides};
use super::ranges::{Meter, Ranges};
use crate::base::shape;
use crate::measure::Loss;
use crate::networks::{Inputs, with_states};
use anyhow::{Context, bail};
use gesso_engine::{Data, Error, Feature, Model, RunOptions, Seen, Tap, Taps, Tensor};
use gesso_mil::DType;
use gesso_pipeline::rng::{NormalSource, NumpyRng};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

/// What is wanted of every model.
#[derive(Clone)]
pub(super) struct Asked<'a> {
    /// How the judged model runs.
    pub(super) engine: RunOptions,
    /// How the reference runs.
    pub(super) judge: RunOptions,
    pub(super) per_layer: bool,
    pub(super) ranges: bool,
    pub(super) probes: &'a [String],
    /// The function that is judged; the default one when none is named.
    pub(super) function: Option<&'a str>,
    pub(super) floor: Option<f64>,
}

impl<'a> Asked<'a> {
    /// The function of the reference: of the same name where it has one, else its default.
    pub(super) fn function_of(&self, reference: &Model) -> Option<&'a str> {
        self.function
            .filter(|f| reference.functions().any(|known| known == *f))
    }
}

/// What was found of one model.
#[derive(Default)]
pub(super) struct Found {
    pub(super) losses: Vec<Loss>,
    pub(super) layers: Option<Layers>,
    pub(super) ranges: Option<Ranges>,
    /// Under `NAME` and `NAME.reference`.
    pub(super) probes: BTreeMap<String, Tensor>,
    /// Whether every output is finite.
    pub(super) finite: bool,
    /// Time of the judged prediction; with `--per-layer` it waits for the reference.
    pub(super) seconds: f64,
}

/// Both taps of the judged side.
#[derive(Debug)]
struct Both {
    compare: Option<Arc<Comparer>>,
    meter: Option<Arc<Meter>>,
}

impl Tap for Both {
    fn see(&self, seen: &Seen<'_>) -> Result<(), String> {
        if let Some(meter) = &self.meter {
            meter.see(seen)?;
        }
        match &self.compare {
            Some(compare) => compare.see(seen),
            None => Ok(()),
        }
    }
}

/// Seeded inputs of a model: token ids where the text encoder wants them, the timestep 500, normal numbers that fp16 holds.
/// What may be left out is left out.
pub(super) fn seeded(features: &[Feature], ids: Option<&[i32]>) -> anyhow::Result<Inputs> {
    let mut random = NumpyRng::new(1);
    let mut inputs = Inputs::new();
    for input in features.iter().filter(|f| f.default.is_none()) {
        let shape = shape(input)?;
        let count: usize = shape.iter().product();
        let integer = !input.ty.dtype.is_float();
        let values: Vec<f32> = match (input.name.as_str(), ids) {
            ("input_ids", Some(ids)) => ids.iter().map(|&i| i as f32).collect(),
            ("timestep", _) => vec![500.0; count],
            (name, _) if name == "input_ids" || integer => {
                (0..count).map(|i| (i % 100) as f32).collect()
            }
            _ => random
                .normal(count)
                .into_iter()
                .map(|x| half::f16::from_f32(x).to_f32())
                .collect(),
        };
        let tensor = if input.ty.dtype == DType::Bool {
            let data = values.iter().map(|&x| x as i32 % 2 == 1).collect();
            Tensor {
                shape,
                data: Data::Bool(data),
            }
        } else if integer {
            Tensor::i32(&shape, values.iter().map(|&x| x as i32).collect())
        } else {
            Tensor::f32(&shape, values)
        };
        inputs.insert(input.name.clone(), tensor);
    }
    Ok(inputs)
}

/// The values of a model that the names of `--probe` mean: name asked for, name of the value.
fn probed(model: &Model, function: Option<&str>, names: &[String]) -> Vec<(String, String)> {
    let found = names.iter().filter_map(|name| {
        let value = model.find_value(function, name).ok()?;
        Some((name.clone(), value))
    });
    found.collect()
}

/// Runs a model alone.
pub(super) fn alone(model: &Model, inputs: &Inputs, asked: &Asked<'_>) -> anyhow::Result<Found> {
    Ok(predicted(model, inputs, asked, None)?.0)
}

/// Runs the judged model, and the reference before it or, to compare what the modules return, beside it.
pub(super) fn compare(
    name: &str,
    (model, inputs): (&Model, &Inputs),
    (reference, reference_inputs): (&Model, &Inputs),
    asked: &Asked<'_>,
) -> anyhow::Result<Found> {
    let function = asked.function_of(reference);
    let probes = probed(reference, function, asked.probes);
    let mut judge = asked.judge.clone();
    judge.probes = probes.iter().map(|(_, value)| value.clone()).collect();
    let predict = |judge: &RunOptions| {
        let (inputs, mut state) = with_states(reference, function, reference_inputs.clone())?;
        reference.predict_with_state(function, &inputs, &mut state, judge)
    };
    let (wanted, (mut found, outputs)) = if asked.per_layer {
        let pairing = Pairing::new(&model.values(asked.function)?, &reference.values(function)?);
        let names = pairing.pairs.iter().map(|p| p.reference.clone()).collect();
        let (sender, comparer) = sides(pairing);
        judge.taps = Some(Taps {
            names: Some(names),
            tap: Arc::new(sender),
        });
        let comparer = Arc::new(comparer);
        std::thread::scope(|scope| {
            // The options, and the sender in them, go with the thread: then nobody waits for its values.
            let thread = scope.spawn(move || predict(&judge));
            let found = predicted(model, inputs, asked, Some(&comparer));
            comparer.hang_up();
            let Ok(wanted) = thread.join() else {
                bail!("the prediction of the reference panicked");
            };
            match (wanted, found) {
                // The reference was cut off, since the judged prediction failed.
                (Err(Error::Tap { .. }), Err(found)) => Err(found),
                (wanted, found) => Ok((wanted.context("the reference")?, found?)),
            }
        })?
    } else {
        let wanted = predict(&judge).context("the reference")?;
        (wanted, predicted(model, inputs, asked, None)?)
    };
    let features = reference.outputs(function)?;
    let one = features.len() == 1;
    for feature in features {
        let label = if one {
            name.to_string()
        } else {
            format!("{name} {}", feature.name)
        };
        // The name of an only output is free, as for Apple's package.
        let only = outputs
            .values()
            .next()
            .filter(|_| one && outputs.len() == 1);
        let x = outputs.get(&feature.name).or(only);
        let x = x.with_context(|| format!("`{name}` has no output `{}`", feature.name))?;
        let reference = wanted.get(&feature.name).context("an output is missing")?;
        let loss = Loss::new(
            &label,
            &floats(reference)?,
            &floats(x)?,
            asked.floor,
            found.seconds,
        );
        found.losses.push(loss);
    }
    for (name, value) in probes {
        if let Some(tensor) = wanted.get(&value) {
            found
                .probes
                .insert(format!("{name}.reference"), tensor.clone());
        }
    }
    Ok(found)
}

/// Runs the judged model: what was found, without losses, and its outputs.
fn predicted(
    model: &Model,
    inputs: &Inputs,
    asked: &Asked<'_>,
    compare: Option<&Arc<Comparer>>,
) -> anyhow::Result<(Found, Inputs)> {
    let function = asked.function;
    let probes = probed(model, function, asked.probes);
    let meter = asked.ranges.then(|| Arc::new(Meter::default()));
    let mut options = asked.engine.clone();
    options.probes = probes.iter().map(|(_, value)| value.clone()).collect();
    if compare.is_some() || meter.is_some() {
        let names: BTreeSet<String> = compare.map(|c| c.names()).unwrap_or_default();
        options.taps = Some(Taps {
            names: meter.is_none().then_some(names),
            tap: Arc::new(Both {
                compare: compare.cloned(),
                meter: meter.clone(),
            }),
        });
    }
    let (inputs, mut state) = with_states(model, function, inputs.clone())?;
    let start = Instant::now();
    let mut results = model.predict_with_state(function, &inputs, &mut state, &options)?;
    let mut found = Found {
        seconds: start.elapsed().as_secs_f64(),
        layers: compare.map(|c| c.finish()),
        finite: true,
        ..Found::default()
    };
    if let Some(meter) = &meter {
        found.ranges = Some(Ranges::new(meter, &model.values(function)?));
    }
    for (name, value) in probes {
        if let Some(tensor) = results.get(&value) {
            found.probes.insert(name, tensor.clone());
        }
    }
    let outputs = model.outputs(function)?;
    results.retain(|name, _| outputs.iter().any(|f| f.name == *name));
    found.finite = results
        .values()
        .filter_map(Tensor::as_f32)
        .all(|v| v.iter().all(|x| x.is_finite()));
    Ok((found, results))
}

fn floats(tensor: &Tensor) -> anyhow::Result<Vec<f32>> {
    let floats = tensor.as_f32().map(<[f32]>::to_vec);
    floats.context("an output is not a float array")
}
