//! Which weight files a program uses.

use super::precision::walk;
use crate::{Binding, Error, Program, Result, Value, ValueData};
use std::collections::BTreeSet;

/// How a program names the folder that it lies in.
const MODEL_PATH: &str = "@model_path/";

/// Paths of the weight files below the folder of the program.
///
/// Errors: [`Error::Compile`] for a name that does not start with `@model_path/`, or that leads out of the folder.
pub(super) fn paths(program: &Program) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for function in program.functions.values() {
        for block in function.blocks.values() {
            walk(block, &mut |op| {
                let bound = op.inputs.values().flatten().filter_map(|b| match b {
                    Binding::Value(v) => Some(v),
                    Binding::Name(_) => None,
                });
                for value in op.attributes.values().chain(bound) {
                    add(value, &mut names);
                }
            });
        }
    }
    names.into_iter().map(path).collect()
}

fn add(value: &Value, names: &mut BTreeSet<String>) {
    match &value.data {
        ValueData::Blob { file, .. } => {
            if !names.contains(file) {
                names.insert(file.clone());
            }
        }
        ValueData::Tuple(items) | ValueData::List(items) => {
            items.iter().for_each(|v| add(v, names));
        }
        ValueData::Dictionary(pairs) => {
            pairs.iter().for_each(|(_, v)| add(v, names));
        }
        ValueData::Tensor(_) | ValueData::External { .. } => {}
    }
}

fn path(name: String) -> Result<String> {
    match name.strip_prefix(MODEL_PATH) {
        Some(path) if path.split('/').all(|part| !matches!(part, "" | "." | "..")) => {
            Ok(path.to_string())
        }
        _ => Err(Error::Compile(format!(
            "expected a weight file below `{MODEL_PATH}`, found `{name}`"
        ))),
    }
}
