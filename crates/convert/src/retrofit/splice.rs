//! The ops of the slots, put behind their layers.

use super::Module;
use super::layers::var;
use crate::Result;
use crate::family::Precision;
use crate::family::adapted::{self, Input, Site};
use crate::family::graph::Graph;
use crate::slots::SlotTable;
use gesso_mil::{Builder, DType, Function, Value, Var};
use gesso_weights::Component;
use std::collections::BTreeMap;

/// Puts the ops of every slot behind its layer. The layer's output keeps its name for the sum, so that all readers see that.
pub(super) fn splice(
    function: &mut Function,
    modules: &[Module],
    component: Component,
    dtype: DType,
    table: &SlotTable,
) -> Result<()> {
    let precision = match dtype {
        DType::Fp32 => Precision::Fp32,
        _ => Precision::Fp16,
    };
    let opset = function.opset.clone();
    let Some(block) = function.blocks.get_mut(&opset) else {
        return Ok(());
    };
    let mut graph = Graph::new(component.as_str(), precision);
    graph.builder = Builder::new(&opset);
    graph.declare_slots(Some(table));
    let by_op: BTreeMap<usize, &Module> = modules.iter().map(|m| (m.layer.op, m)).collect();
    let mut inputs: BTreeMap<String, Input> = BTreeMap::new();
    let mut sums = BTreeMap::new();
    for (index, op) in block.operations.iter_mut().enumerate() {
        let (Some(module), Some(output)) = (by_op.get(&index), op.outputs.first_mut()) else {
            continue;
        };
        let name = output.name.clone();
        output.name = format!("{name}_base");
        let own = known(&mut graph, &var(output));
        let renamed = Value::string(own.name.clone());
        op.attributes.insert("name".into(), renamed);
        let x = known(&mut graph, &module.layer.x);
        let input = inputs
            .entry(x.name.clone())
            .or_insert_with(|| Input::from(&x));
        let layer = adapted::Layer {
            path: &module.path,
            name: &name,
            outputs: module.layer.outputs,
            channels: module.layer.channels,
            kernel: module.layer.kernel,
            site: Site::Other,
            bias: false,
        };
        let sum = graph.with_slot(layer, input, &own)?;
        sums.insert(index, sum.name);
    }
    let mut slots = graph.builder.finish(&[]);
    let slots = slots.blocks.remove(&opset).unwrap_or_default();
    let mut slots = slots.operations.into_iter();
    for (index, op) in std::mem::take(&mut block.operations)
        .into_iter()
        .enumerate()
    {
        block.operations.push(op);
        let Some(sum) = sums.get(&index) else {
            continue;
        };
        for op in slots.by_ref() {
            let last = op.outputs.iter().any(|o| o.name == *sum);
            block.operations.push(op);
            if last {
                break;
            }
        }
    }
    Ok(())
}

/// A variable of the program, as one that the ops of a slot may read.
fn known(graph: &mut Graph, v: &Var) -> Var {
    match v.ty.as_tensor() {
        Some(ty) => graph.builder.input(&v.name, ty.clone()),
        None => v.clone(),
    }
}
