//! Adapter slots as states: an app writes the factors once instead of binding them at each prediction.

use crate::built::Built;
use crate::slots::SlotTable;
use crate::{Error, Result};
use gesso_mil::{Binding, Builder, Function, Operation, TensorType, ValueType};
use std::collections::BTreeMap;

/// Oldest opset that has states: iOS 18, macOS 15, specification version 9.
pub(crate) const STATE_OPSET: &str = "CoreML8";

/// `built`, its inputs `adapter_W` turned into states.
///
/// ```text
/// before: main(sample, …, adapter_W: tensor<fp16, [n_W, R, W]>)        CoreML6
///           … slice_by_index(x = adapter_W)
/// after:  main(sample, …, adapter_W: state<tensor<fp16, [n_W, R, W]>>)  CoreML8
///           adapter_W_rows = read_state(input = adapter_W)
///           … slice_by_index(x = adapter_W_rows)
/// ```
///
/// Nothing else changes, so both give the same numbers. The states are zero until an app writes them.
///
/// Errors: [`Error::Config`] when `built` has no slots; those of adding the ops.
pub(crate) fn as_states(built: Built) -> Result<Built> {
    let none = || Error::Config {
        component: "program".into(),
        field: "adapter slots".into(),
        expected: "inputs that can become states".into(),
        found: "none".into(),
    };
    let table = built.slots.as_ref().ok_or_else(none)?;
    let names: Vec<String> = table
        .widths()
        .into_keys()
        .map(SlotTable::input_name)
        .collect();
    let function = built.function;
    let mut body = function.body().cloned().ok_or_else(none)?;
    let mut builder = Builder::new(STATE_OPSET);
    let mut inputs = Vec::with_capacity(function.inputs.len());
    let mut reads = Vec::with_capacity(names.len());
    let mut renamed = BTreeMap::new();
    for mut input in function.inputs {
        if names.contains(&input.name) {
            let ty: TensorType = input.ty.as_tensor().cloned().ok_or_else(none)?;
            let state = builder.state(&input.name, ty);
            let name = format!("{}_rows", input.name);
            let read = builder.op("read_state", &name, &[("input", (&state).into())])?;
            renamed.insert(input.name.clone(), read.name);
            input.ty = ValueType::State(Box::new(input.ty));
        }
        inputs.push(input);
    }
    reads.extend(
        builder
            .finish(&[])
            .blocks
            .into_values()
            .flat_map(|block| block.operations),
    );
    for op in &mut body.operations {
        rename(op, &renamed);
    }
    body.operations.splice(0..0, reads);
    let (states, features) = built
        .inputs
        .into_iter()
        .partition(|feature| names.contains(&feature.name));
    Ok(Built {
        function: Function {
            inputs,
            opset: STATE_OPSET.into(),
            blocks: BTreeMap::from([(STATE_OPSET.to_string(), body)]),
            attributes: function.attributes,
        },
        inputs: features,
        states,
        outputs: built.outputs,
        generated: built.generated,
        slots: built.slots,
        gathered: built.gathered,
    })
}

/// Binds `op` to the new names.
fn rename(op: &mut Operation, renamed: &BTreeMap<String, String>) {
    for binding in op.inputs.values_mut().flatten() {
        if let Binding::Name(name) = binding
            && let Some(new) = renamed.get(name)
        {
            name.clone_from(new);
        }
    }
}
