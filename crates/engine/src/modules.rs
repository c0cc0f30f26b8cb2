//! Which module of the network a value belongs to, told by the names of weights.
//!
//! Converters name a weight after its tensor: `down_blocks_0_resnets_0_conv1_weight`, with what they append
//! (`_to_fp16`, `_palettized`, `_0`). The op that reads it last gives what the module returns.

use crate::Error;
use crate::plan::{Plan, Source, Step};
use crate::tensor::Class;
use gesso_mil::DType;
use std::collections::{BTreeMap, BTreeSet};

/// What converters append to the name of a weight.
const ENDINGS: [&str; 6] = [
    "_to_fp16",
    "_to_fp32",
    "_cast_fp16",
    "_palettized",
    "_quantized",
    "_sparsified",
];

/// Tensors of a module.
const TENSORS: [&str; 4] = ["weight", "bias", "gamma", "beta"];

/// A float value of a function, with the module that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueInfo {
    /// Name of the value.
    pub name: String,
    /// Name of the op that gives it; `input` for an input of the function.
    pub kind: String,
    /// Path of the module with underscores (`down_blocks_0_resnets_0_conv1`): the one whose weights the op reads, else the
    /// longest one that the value is named after, else the last one before it along the data. Empty before any module.
    pub module: String,
    /// Whether it is what that module returns.
    pub returned: bool,
}

/// The module and whether the rest of the name is that of one of its tensors.
fn module_of_weight(name: &str) -> Option<&str> {
    let mut stem = name;
    loop {
        let shorter = ENDINGS.iter().find_map(|end| stem.strip_suffix(end));
        match shorter.or_else(|| without_number(stem)) {
            Some(rest) => stem = rest,
            None => break,
        }
    }
    let module = TENSORS.iter().find_map(|t| stem.strip_suffix(t))?;
    module.strip_suffix(['_', '.']).filter(|m| !m.is_empty())
}

/// `conv1_weight_0` without its number.
fn without_number(stem: &str) -> Option<&str> {
    let (rest, number) = stem.rsplit_once('_')?;
    let counted = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    let weight =
        TENSORS.iter().any(|t| rest.ends_with(t)) || ENDINGS.iter().any(|e| rest.ends_with(e));
    (counted && weight).then_some(rest)
}

/// The module whose weights a step reads: the longest path, when there are several.
fn read_by(step: &Step) -> Option<&str> {
    let sources = step.operands.iter().flat_map(|(_, sources)| sources);
    sources
        .filter_map(|source| match source {
            Source::Constant(c) => module_of_weight(&c.name),
            Source::Slot { .. } => None,
        })
        .max_by_key(|m| m.len())
}

/// The beginnings of a name that end before an underscore or at its end, longest first.
fn beginnings(name: &str) -> impl Iterator<Item = &str> {
    let cuts = name.rmatch_indices('_').map(|(at, _)| at);
    std::iter::once(name.len())
        .chain(cuts)
        .filter_map(|at| name.get(..at))
}

/// Modules and what holds them. A holder has a number in its path, else `input` would be one for `input_25`.
fn paths<'a>(modules: impl Iterator<Item = &'a str>) -> BTreeSet<&'a str> {
    let mut paths = BTreeSet::new();
    for module in modules {
        let numbered = |path: &&str| path.split('_').any(|p| p.parse::<u32>().is_ok());
        paths.extend(beginnings(module).filter(|p| *p == module || numbered(p)));
    }
    paths
}

/// The float values of a plan in program order, inputs first.
pub(crate) fn values(plan: &Plan) -> Vec<ValueInfo> {
    let own: Vec<Option<&str>> = plan.steps.iter().map(read_by).collect();
    let paths = paths(own.iter().copied().flatten());
    let mut values = Vec::new();
    // By slot: the module and the number of the step that gave it.
    let mut of_slot: BTreeMap<usize, (String, usize)> = BTreeMap::new();
    let mut returns: BTreeMap<String, usize> = BTreeMap::new();
    for (name, ty) in &plan.inputs {
        if Class::of(ty.dtype) == Some(Class::F32) {
            values.push(ValueInfo {
                name: name.clone(),
                kind: "input".into(),
                module: String::new(),
                returned: false,
            });
        }
    }
    for (number, (step, own)) in plan.steps.iter().zip(own).enumerate() {
        let named = || beginnings(&step.name).find(|b| paths.contains(b));
        let module = match own.or_else(named) {
            Some(module) => module.to_string(),
            None => before(step, &of_slot),
        };
        for out in &step.outputs {
            of_slot.insert(out.slot, (module.clone(), number + 1));
            if out.class != Class::F32 || out.ty.dtype == DType::String {
                continue;
            }
            // A module with an adapter returns the sum, which bears the name without `_base`.
            let sum = values_of_adapter(&values, &returns, &module, &out.name);
            if own.is_some() || sum {
                returns.insert(module.clone(), values.len());
            }
            values.push(ValueInfo {
                name: out.name.clone(),
                kind: step.kind.clone(),
                module: module.clone(),
                returned: false,
            });
        }
    }
    for index in returns.into_values() {
        if let Some(value) = values.get_mut(index) {
            value.returned = true;
        }
    }
    values
}

/// Whether a value is the sum of what the module gave so far, under the name `<name>_base`, and its adapter.
fn values_of_adapter(
    values: &[ValueInfo],
    returns: &BTreeMap<String, usize>,
    module: &str,
    name: &str,
) -> bool {
    let before = returns.get(module).and_then(|&i| values.get(i));
    before.is_some_and(|b| b.name.strip_suffix("_base") == Some(name))
}

/// The module of the operand that came about last.
fn before(step: &Step, of_slot: &BTreeMap<usize, (String, usize)>) -> String {
    let sources = step.operands.iter().flat_map(|(_, sources)| sources);
    let found = sources.filter_map(|source| match source {
        Source::Slot { slot, .. } => of_slot.get(slot),
        Source::Constant(_) => None,
    });
    found
        .max_by_key(|(_, number)| *number)
        .map(|(module, _)| module.clone())
        .unwrap_or_default()
}

/// An error that names an op, with its module.
pub(crate) fn located(plan: &Plan, error: Error) -> Error {
    match error {
        Error::NonFinite {
            op,
            kind,
            value,
            index,
            shape,
            ..
        } => {
            let found = values(plan).into_iter().find(|v| v.name == op);
            Error::NonFinite {
                module: found.map(|v| v.module).unwrap_or_default(),
                op,
                kind,
                value,
                index,
                shape,
            }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_name_their_module() {
        for (name, module) in [
            ("conv_in_weight", Some("conv_in")),
            ("conv1_weight_0_to_fp16", Some("conv1")),
            ("a_to_out_0_weight_to_fp16_palettized", Some("a_to_out_0")),
            ("a_to_out_0_bias", Some("a_to_out_0")),
            ("input_25_gamma_0_to_fp16", Some("input_25")),
            ("fc.weight", Some("fc")),
            ("var_149_to_fp16", None),
            ("weight", None),
            ("x_shape", None),
        ] {
            assert_eq!(module_of_weight(name), module, "{name}");
        }
    }

    #[test]
    fn holders_have_a_number() {
        let paths = paths(["down_blocks_0_resnets_1_conv1", "input_25", "conv_in"].into_iter());
        assert!(paths.contains("down_blocks_0_resnets_1") && paths.contains("conv_in"));
        assert!(!paths.contains("input") && !paths.contains("conv") && !paths.contains("down"));
    }
}
