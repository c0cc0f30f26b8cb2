//! Models: loading, describing, predicting.

use crate::constant::Decoder;
use crate::error::{nearest, nearest_few};
use crate::modules::{self, ValueInfo};
use crate::plan::{Plan, plan, unsupported};
use crate::pool::Pool;
use crate::run::{RunOptions, run};
use crate::source::WeightSource;
use crate::state::State;
use crate::tensor::{Array, Class, Tensor};
use crate::{Error, Result};
use gesso_mil::{DType, Dim, Program, TensorType, ValueType};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// An input or output of a function.
#[derive(Clone, Debug, PartialEq)]
pub struct Feature {
    /// Name.
    pub name: String,
    /// Declared type; a dimension may be unknown.
    pub ty: TensorType,
    /// May be left out when predicting; then every element is this value.
    pub default: Option<f32>,
}

/// What a model's description says beyond its program.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Interface {
    /// The function that runs when none is named.
    pub default_function: String,
    /// Default value of each optional input, by function and input.
    pub defaults: BTreeMap<String, BTreeMap<String, f32>>,
}

/// A model that can predict. Weights stay where they are; each is decoded when an op needs it.
#[derive(Debug)]
pub struct Model {
    functions: BTreeMap<String, Loaded>,
    default_function: String,
    source: Arc<dyn WeightSource>,
    pool: Pool,
    threads: Mutex<BTreeMap<usize, Arc<rayon::ThreadPool>>>,
}

#[derive(Debug)]
struct Loaded {
    plan: Plan,
    inputs: Vec<Feature>,
    states: Vec<Feature>,
    outputs: Vec<Feature>,
}

impl Model {
    /// A model from a program in memory.
    ///
    /// Errors: ops without a kernel, findings of the verifier, states of other dtypes than Core ML has, constants that cannot be decoded, a default
    /// function that does not exist.
    pub fn from_program(
        program: &Program,
        interface: &Interface,
        source: Arc<dyn WeightSource>,
    ) -> Result<Self> {
        if let Some(error) = unsupported(program.functions.values()) {
            return Err(error);
        }
        let mut findings = gesso_mil::verify(program).into_iter();
        if let Some(finding) = findings.next() {
            return Err(Error::Invalid {
                finding: finding.to_string(),
                more: findings.count(),
            });
        }
        let pool = Pool::default();
        let decoder = Decoder {
            source: &*source,
            pool: &pool,
        };
        let mut functions = BTreeMap::new();
        for (name, function) in &program.functions {
            let plan = plan(name, function, &decoder)?;
            let defaults = interface.defaults.get(name);
            let inputs = plan
                .inputs
                .iter()
                .map(|(input, ty)| Feature {
                    name: input.clone(),
                    ty: ty.clone(),
                    default: defaults.and_then(|d| d.get(input)).copied(),
                })
                .collect();
            let states = plan.states.iter().map(|(state, ty)| Feature {
                name: state.clone(),
                ty: ty.clone(),
                default: None,
            });
            let states = states.collect();
            let outputs = outputs(function)?;
            functions.insert(
                name.clone(),
                Loaded {
                    plan,
                    inputs,
                    states,
                    outputs,
                },
            );
        }
        if !functions.contains_key(&interface.default_function) {
            return Err(Error::UnknownFunction {
                name: interface.default_function.clone(),
                known: functions.into_keys().collect(),
            });
        }
        Ok(Self {
            functions,
            default_function: interface.default_function.clone(),
            source,
            pool,
            threads: Mutex::default(),
        })
    }

    /// Names of the functions, sorted.
    pub fn functions(&self) -> impl Iterator<Item = &str> {
        self.functions.keys().map(String::as_str)
    }

    /// The function that runs when none is named.
    pub fn default_function(&self) -> &str {
        &self.default_function
    }

    /// Makes another function the one that runs when none is named.
    ///
    /// Errors: [`Error::UnknownFunction`].
    pub fn set_default_function(&mut self, name: &str) -> Result<()> {
        let (name, _) = self.function(Some(name))?;
        self.default_function = name.to_string();
        Ok(())
    }

    /// Inputs of a function in order; `None` = the default function.
    ///
    /// Errors: [`Error::UnknownFunction`].
    pub fn inputs(&self, function: Option<&str>) -> Result<&[Feature]> {
        Ok(&self.function(function)?.1.inputs)
    }

    /// Outputs of a function in order; `None` = the default function.
    ///
    /// Errors: [`Error::UnknownFunction`].
    pub fn outputs(&self, function: Option<&str>) -> Result<&[Feature]> {
        Ok(&self.function(function)?.1.outputs)
    }

    /// States of a function in order; `None` = the default function.
    ///
    /// Errors: [`Error::UnknownFunction`].
    pub fn states(&self, function: Option<&str>) -> Result<&[Feature]> {
        Ok(&self.function(function)?.1.states)
    }

    /// Every float value of a function in program order, inputs first, with the module of each; `None` = the default
    /// function. Told by names alone, nothing runs.
    ///
    /// Errors: [`Error::UnknownFunction`].
    pub fn values(&self, function: Option<&str>) -> Result<Vec<ValueInfo>> {
        Ok(modules::values(&self.function(function)?.1.plan))
    }

    /// The name of a value, given by its name or by the path of the module that returns it, with dots or underscores.
    ///
    /// Errors: [`Error::UnknownFunction`]; [`Error::UnknownProbe`] with the nearest names of values and modules.
    pub fn find_value(&self, function: Option<&str>, name: &str) -> Result<String> {
        let (function, loaded) = self.function(function)?;
        let known = &loaded.plan.places;
        if known.contains_key(name) {
            return Ok(name.into());
        }
        let values = modules::values(&loaded.plan);
        let path = name.replace('.', "_");
        if let Some(value) = values.iter().find(|v| v.returned && v.module == path) {
            return Ok(value.name.clone());
        }
        let modules = values
            .iter()
            .filter(|v| v.returned)
            .map(|v| v.module.as_str());
        Err(Error::UnknownProbe {
            function: function.into(),
            name: name.into(),
            nearest: nearest_few(&path, known.keys().map(String::as_str).chain(modules)),
        })
    }

    /// A state for a function, all zeros; empty for a function without states. `None` = the default function.
    ///
    /// Errors: [`Error::UnknownFunction`].
    pub fn make_state(&self, function: Option<&str>) -> Result<State> {
        State::zeros(&self.function(function)?.1.plan.states)
    }

    fn function(&self, name: Option<&str>) -> Result<(&str, &Loaded)> {
        let name = name.unwrap_or(&self.default_function);
        match self.functions.get_key_value(name) {
            Some((name, loaded)) => Ok((name.as_str(), loaded)),
            None => Err(Error::UnknownFunction {
                name: name.into(),
                known: self.functions.keys().cloned().collect(),
            }),
        }
    }

    /// Runs a function that has no states. The result has its outputs and the probed values.
    ///
    /// Inputs are given by name; an optional one may be left out. Floats are given as f32, integers as i32.
    ///
    /// Errors: unknown function, input, probe or tapped value; a missing input; an input of another type than declared; an op that
    /// cannot be computed; with `check_finite`, the first op that gives a NaN or an infinity; [`Error::Cancelled`];
    /// [`Error::MissingState`] for a function with states.
    pub fn predict(
        &self,
        function: Option<&str>,
        inputs: &BTreeMap<String, Tensor>,
        options: &RunOptions,
    ) -> Result<BTreeMap<String, Tensor>> {
        let mut none = State::zeros(&[])?;
        self.predict_with_state(function, inputs, &mut none, options)
    }

    /// Runs a function on a state, which its ops read and write in program order.
    ///
    /// The state may have been made for another function, if its buffers have the names and types that this one declares.
    /// Else as [`Model::predict`].
    ///
    /// Errors: as [`Model::predict`], after which the state is as it was; [`Error::MissingState`]; [`Error::StateType`]
    /// for a state of another type.
    pub fn predict_with_state(
        &self,
        function: Option<&str>,
        inputs: &BTreeMap<String, Tensor>,
        state: &mut State,
        options: &RunOptions,
    ) -> Result<BTreeMap<String, Tensor>> {
        let (name, loaded) = self.function(function)?;
        let arrays = bound(name, loaded, inputs)?;
        let tapped = options.taps.iter().flat_map(|t| &t.names).flatten();
        for probe in options.probes.iter().chain(tapped) {
            let known = &loaded.plan.places;
            if !known.contains_key(probe) {
                return Err(Error::UnknownProbe {
                    function: name.into(),
                    name: probe.clone(),
                    nearest: nearest_few(probe, known.keys().map(String::as_str)),
                });
            }
        }
        let decoder = Decoder {
            source: &*self.source,
            pool: &self.pool,
        };
        let mut states = state.arrays(name, &loaded.plan)?;
        let results = self
            .thread_pool(options.threads)?
            .install(|| run(&loaded.plan, arrays, &mut states, options, &decoder))
            .map_err(|e| modules::located(&loaded.plan, e))?;
        state.put(&loaded.plan, states);
        Ok(results.into_iter().map(|(n, a)| (n, a.into())).collect())
    }

    fn thread_pool(&self, threads: usize) -> Result<Arc<rayon::ThreadPool>> {
        let mut pools = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = pools.get(&threads) {
            return Ok(pool.clone());
        }
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .map_err(|e| Error::Threads {
                threads,
                reason: e.to_string(),
            })?;
        let pool = Arc::new(pool);
        pools.insert(threads, pool.clone());
        Ok(pool)
    }
}

/// Declared types of a function's outputs.
fn outputs(function: &gesso_mil::Function) -> Result<Vec<Feature>> {
    let Some(body) = function.body() else {
        return Ok(Vec::new());
    };
    let defined = body
        .operations
        .iter()
        .flat_map(|op| &op.outputs)
        .chain(&function.inputs);
    let types: BTreeMap<&str, &ValueType> = defined.map(|v| (v.name.as_str(), &v.ty)).collect();
    body.outputs
        .iter()
        .map(|name| match types.get(name.as_str()) {
            Some(ValueType::Tensor(ty)) => Ok(Feature {
                name: name.clone(),
                ty: ty.clone(),
                default: None,
            }),
            _ => Err(Error::Unsupported {
                name: name.clone(),
                what: "an output that is not a tensor".into(),
            }),
        })
        .collect()
}

/// One array per function input.
fn bound(function: &str, loaded: &Loaded, inputs: &BTreeMap<String, Tensor>) -> Result<Vec<Array>> {
    let names = || loaded.inputs.iter().map(|f| f.name.as_str());
    if let Some(name) = inputs
        .keys()
        .find(|n| !names().any(|known| known == n.as_str()))
    {
        return Err(Error::UnknownInput {
            function: function.into(),
            name: name.clone(),
            known: names().map(str::to_string).collect(),
            nearest: nearest(name, names()),
        });
    }
    loaded
        .inputs
        .iter()
        .map(
            |feature| match (inputs.get(&feature.name), feature.default) {
                (Some(tensor), _) => {
                    fits(feature, tensor)?;
                    Ok(tensor.clone().into())
                }
                (None, Some(value)) => filled(feature, value),
                (None, None) => Err(Error::MissingInput {
                    function: function.into(),
                    name: feature.name.clone(),
                    expected: feature.ty.to_string(),
                }),
            },
        )
        .collect()
}

fn fits(feature: &Feature, tensor: &Tensor) -> Result<()> {
    let expected = crate::shape::count(&tensor.shape).unwrap_or(usize::MAX);
    if expected != tensor.data.len() {
        return Err(Error::Length {
            name: feature.name.clone(),
            shape: tensor.shape.clone(),
            expected,
            found: tensor.data.len(),
        });
    }
    let class = match &tensor.data {
        crate::Data::F32(_) => Class::F32,
        crate::Data::I32(_) => Class::I32,
        crate::Data::Bool(_) => Class::Bool,
    };
    let dims = &feature.ty.dims;
    let shape_fits = dims.len() == tensor.shape.len()
        && dims.iter().zip(&tensor.shape).all(|(d, &n)| match d {
            Dim::Fixed(f) => *f == n,
            Dim::Unknown { .. } => true,
        });
    if shape_fits && Class::of(feature.ty.dtype) == Some(class) {
        return Ok(());
    }
    Err(Error::InputType {
        name: feature.name.clone(),
        expected: feature.ty.to_string(),
        found: format!("{} {:?}", tensor.data.word(), tensor.shape),
    })
}

/// An optional input that was left out.
fn filled(feature: &Feature, value: f32) -> Result<Array> {
    let n = feature.ty.count();
    let (Some(n), Some(shape)) = (n, feature.ty.shape()) else {
        return Err(Error::Unsupported {
            name: feature.name.clone(),
            what: format!("a default for the type {}", feature.ty),
        });
    };
    Ok(match feature.ty.dtype {
        DType::Bool => Array::bool(&shape, vec![value != 0.0; n]),
        d if d.is_float() => Array::f32(&shape, vec![value; n]),
        _ => Array::i32(&shape, vec![value as i32; n]),
    })
}
