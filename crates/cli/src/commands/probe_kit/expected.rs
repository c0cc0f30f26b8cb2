//! What a run must give: the naive kernels of the engine.

use super::probes::Case;
use anyhow::Context;
use gesso_coreml::package::Package;
use gesso_coreml::proto::specification::model;
use gesso_engine::{Kernels, Model, RunOptions, Tensor};
use gesso_mil::{Binding, Function, Program, ValueType, from_model, to_proto};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Runs packages one after another, each on what was given and what those before it gave; the outputs of the last.
pub(super) fn run(packages: &[PathBuf], case: &Case) -> anyhow::Result<BTreeMap<String, Tensor>> {
    let mut known: BTreeMap<String, Tensor> = case
        .inputs
        .iter()
        .chain(&case.states)
        .map(|g| (g.name.to_string(), Tensor::f32(&g.shape, g.values.clone())))
        .collect();
    let mut outputs = BTreeMap::new();
    for path in packages {
        let mut package = Package::open(path)?;
        let program = stateless(from_model(&package.model)?);
        package.model.r#type = Some(model::Type::MlProgram(to_proto(&program)?));
        let loaded = Model::load(&package)?;
        let inputs: BTreeMap<_, _> = loaded
            .inputs(case.function)?
            .iter()
            .filter_map(|input| Some((input.name.clone(), known.get(&input.name)?.clone())))
            .collect();
        let options = RunOptions {
            kernels: Kernels::Naive,
            ..RunOptions::default()
        };
        outputs = loaded
            .predict(case.function, &inputs, &options)
            .with_context(|| format!("cannot run `{}`", path.display()))?;
        known.extend(outputs.clone());
    }
    Ok(outputs)
}

/// The program with its states as plain inputs.
///
/// ```text
/// before  func main(state<tensor<fp16, [2]>> s) { v = read_state(input = s); }
/// after   func main(tensor<fp16, [2]> s)        { v = identity(x = s); }
/// ```
///
/// That is the same for states that are only read.
fn stateless(mut program: Program) -> Program {
    for function in program.functions.values_mut() {
        plain_inputs(function);
    }
    program
}

fn plain_inputs(function: &mut Function) {
    for input in &mut function.inputs {
        if let ValueType::State(inner) = &input.ty {
            input.ty = (**inner).clone();
        }
    }
    let operations = function.blocks.values_mut().flat_map(|b| &mut b.operations);
    for op in operations.filter(|op| op.kind == "read_state") {
        op.kind = "identity".into();
        let state: Vec<Binding> = op.inputs.remove("input").unwrap_or_default();
        op.inputs.insert("x".into(), state);
    }
}
