//! The dtypes that a program computes with and stores.

use crate::{Binding, Block, DType, Function, Operation, Program, Value, ValueData, ValueType};
use std::collections::{BTreeMap, BTreeSet};

/// One name, or `Mixed (A, B)` sorted by name.
fn mixed(names: BTreeSet<String>) -> String {
    let names: Vec<String> = names.into_iter().collect();
    match names.as_slice() {
        [one] => one.clone(),
        many => format!("Mixed ({})", many.join(", ")),
    }
}

/// The dtypes of function inputs and of all op outputs, `const` included, without bool and string.
pub(super) fn compute_of(functions: &[&Function]) -> String {
    let mut names = BTreeSet::new();
    for function in functions {
        function
            .inputs
            .iter()
            .for_each(|i| add_type(&i.ty, &mut names));
        if let Some(block) = function.body() {
            walk(block, &mut |op| {
                op.outputs.iter().for_each(|o| add_type(&o.ty, &mut names))
            });
        }
    }
    mixed(names)
}

fn add_type(ty: &ValueType, names: &mut BTreeSet<String>) {
    match ty {
        ValueType::Tensor(t) => names.extend(dtype_name(t.dtype)),
        ValueType::State(inner) | ValueType::List(inner, _) => add_type(inner, names),
        ValueType::Tuple(items) => items.iter().for_each(|t| add_type(t, names)),
        ValueType::Dictionary(k, v) => [k, v].into_iter().for_each(|t| add_type(t, names)),
    }
}

fn dtype_name(dtype: DType) -> Option<String> {
    if matches!(dtype, DType::Bool | DType::String) {
        return None;
    }
    let word = dtype.word();
    Some(
        match word
            .strip_prefix("fp")
            .filter(|n| n.chars().all(|c| c.is_ascii_digit()))
        {
            Some(bits) => format!("Float{bits}"),
            None => match word.strip_prefix("uint") {
                Some(bits) => format!("UInt{bits}"),
                None => {
                    let mut letters = word.chars();
                    let first = letters.next().map(|c| c.to_ascii_uppercase());
                    first.into_iter().chain(letters).collect()
                }
            },
        },
    )
}

/// The dtypes of function inputs and of all op outputs of a program, for instance `Mixed (Float16, Int32)`: `const`
/// included, bool and string left out.
pub fn compute_precision(program: &Program) -> String {
    compute_of(&program.functions.values().collect::<Vec<_>>())
}

/// The dtypes that the weight files of a program store, for instance `Mixed (Float16, Palettized (6 bits))`; `None`
/// without blobs.
pub fn storage_precision(program: &Program) -> Option<String> {
    storage_of(&[program])
}

/// [`storage_precision`] of several programs together.
pub(super) fn storage_of(programs: &[&Program]) -> Option<String> {
    let mut names = BTreeSet::new();
    for function in programs.iter().flat_map(|p| p.functions.values()) {
        if let Some(block) = function.body() {
            walk(block, &mut |op| stored(op, &mut names));
        }
    }
    (!names.is_empty()).then(|| mixed(names))
}

fn stored(op: &Operation, names: &mut BTreeSet<String>) {
    let mut operands: BTreeMap<&str, &Value> =
        op.attributes.iter().map(|(k, v)| (k.as_str(), v)).collect();
    for (parameter, bindings) in &op.inputs {
        if let [Binding::Value(v)] = bindings.as_slice() {
            operands.insert(parameter, v);
        }
    }
    let in_blob = |v: &&&Value| matches!(v.data, ValueData::Blob { .. });
    if op.kind == "constexpr_lut_to_dense" {
        let entries = operands
            .get("lut")
            .and_then(|v| v.ty.as_tensor())
            .and_then(|t| {
                let shape = t.shape()?;
                // iOS 18 tables are [groups…, entries, vector].
                if shape.len() > 1 {
                    shape.get(shape.len() - 2).copied()
                } else {
                    shape.first().copied()
                }
            });
        if let (Some(n), true) = (entries, operands.get("indices").filter(in_blob).is_some()) {
            names.insert(format!("Palettized ({} bits)", n.max(2).ilog2()));
        }
        return;
    }
    let blobs = operands.values().filter(in_blob);
    names.extend(
        blobs
            .filter_map(|v| v.ty.as_tensor())
            .filter_map(|t| dtype_name(t.dtype)),
    );
}

/// Every op of a block and of the blocks in it.
pub(super) fn walk(block: &Block, visit: &mut impl FnMut(&Operation)) {
    for op in &block.operations {
        visit(op);
        for nested in &op.blocks {
            walk(nested, visit);
        }
    }
}
