//! The layers of a program that could carry a slot, in the order of its ops.

use crate::family::adapted::Channels;
use gesso_mil::{Binding, Block, NamedType, Operation, Var};
use std::collections::BTreeMap;

/// A 1×1 convolution or a linear layer on every position.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    /// Index of its op.
    pub op: usize,
    /// Name of the variable that is its weight.
    pub weight: String,
    pub channels: Channels,
    pub x: Var,
    /// Width of its input.
    pub inputs: usize,
    /// Width of its output.
    pub outputs: usize,
    /// How many positions it works on: `H·W`, or the tokens of a text.
    pub positions: usize,
}

/// What matters for the place of a layer in a network.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Layer(Layer),
    /// A convolution that leaves fewer positions.
    Down,
    /// A resampling that makes more positions.
    Up,
    /// A `conv` or `linear` of another form, by the name of its weight, with what is special about it.
    Other(String, String),
}

/// Walks through the ops of a function's body.
pub(super) fn steps(block: &Block, inputs: &[NamedType]) -> Vec<Step> {
    let mut known: BTreeMap<&str, &NamedType> =
        inputs.iter().map(|i| (i.name.as_str(), i)).collect();
    let mut steps = Vec::new();
    for (index, op) in block.operations.iter().enumerate() {
        match op.kind.as_str() {
            "conv" | "linear" => {
                if let Some(weight) = operand(op, "weight") {
                    let layer = layer(index, op, weight, &known);
                    if op.kind == "conv" && changes(op, &known, |x, y| y < x) {
                        steps.push(Step::Down);
                    }
                    steps.push(match layer {
                        Ok(layer) => Step::Layer(layer),
                        Err(reason) => Step::Other(weight.into(), reason),
                    });
                }
            }
            kind if (kind.starts_with("upsample_") || kind.starts_with("resize_"))
                && changes(op, &known, |x, y| y > x) =>
            {
                steps.push(Step::Up);
            }
            _ => {}
        }
        known.extend(op.outputs.iter().map(|o| (o.name.as_str(), o)));
    }
    steps
}

/// The variable that a parameter is given.
fn operand<'a>(op: &'a Operation, parameter: &str) -> Option<&'a str> {
    match op.inputs.get(parameter)?.first()? {
        Binding::Name(name) => Some(name),
        Binding::Value(_) => None,
    }
}

/// Whether the number of positions of the op's input and output stand in this relation.
fn changes(
    op: &Operation,
    known: &BTreeMap<&str, &NamedType>,
    relation: fn(&usize, &usize) -> bool,
) -> bool {
    let x = operand(op, "x").and_then(|name| known.get(name)).copied();
    let positions = |of: Option<&NamedType>| -> Option<usize> {
        let shape = shape(of?).ok()?;
        Some(shape.get(2..)?.iter().product())
    };
    match (positions(x), positions(op.outputs.first())) {
        (Some(x), Some(y)) => relation(&x, &y),
        _ => false,
    }
}

fn shape(of: &NamedType) -> Result<Vec<usize>, String> {
    var(of).shape().map_err(|e| e.to_string())
}

pub(super) fn var(named: &NamedType) -> Var {
    Var {
        name: named.name.clone(),
        ty: named.ty.clone(),
    }
}

fn layer(
    index: usize,
    op: &Operation,
    weight: &str,
    known: &BTreeMap<&str, &NamedType>,
) -> Result<Layer, String> {
    let input = operand(op, "x").and_then(|name| known.get(name));
    let x = input.ok_or("its input has no known type")?;
    let weight_type = known.get(weight).ok_or("its weight has no known type")?;
    let (weight_shape, x_shape) = (shape(weight_type)?, shape(x)?);
    let y_shape = shape(op.outputs.first().ok_or("it has no output")?)?;
    let (channels, axis) = match (op.kind.as_str(), x_shape.len()) {
        ("conv", 4) => (Channels::Second, 1),
        ("linear", 3) => (Channels::Last, 2),
        (kind, rank) => return Err(format!("it is a `{kind}` on a tensor of rank {rank}")),
    };
    let &[outputs, inputs, ref kernel @ ..] = weight_shape.as_slice() else {
        return Err(format!("its weight has shape {weight_shape:?}"));
    };
    let mut point = x_shape.clone();
    if let Some(width) = point.get_mut(axis) {
        *width = outputs;
    }
    if kernel.iter().any(|&k| k != 1) || x_shape.get(axis) != Some(&inputs) || y_shape != point {
        return Err(format!(
            "it is no product at each position: weight {weight_shape:?}, input {x_shape:?}, output {y_shape:?}"
        ));
    }
    let elements: usize = x_shape.iter().skip(1).product();
    Ok(Layer {
        op: index,
        weight: weight.into(),
        channels,
        x: var(x),
        inputs,
        outputs,
        positions: elements.checked_div(inputs).unwrap_or(0),
    })
}
