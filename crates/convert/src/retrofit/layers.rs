//! The layers of a program that could carry a slot, in the order of its ops.

use crate::family::adapted::Channels;
use crate::family::graph::Kernel;
use gesso_mil::{Binding, Block, NamedType, Operation, Value, Var};
use std::collections::BTreeMap;

/// A convolution, or a linear layer on every position.
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
    /// Its kernel; [`Kernel::POINT`] for a linear layer.
    pub kernel: Kernel,
    /// How many positions it works on: `H·W`, or the tokens of a text.
    pub positions: usize,
}

impl Layer {
    /// Whether it is a product at each position.
    pub(super) fn is_point(&self) -> bool {
        let Kernel { size, stride, pad } = self.kernel;
        size == 1 && stride == 1 && pad == [0; 4]
    }
}

/// What matters for the place of a layer in a network.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Layer(Layer),
    /// A convolution over several positions.
    Conv(Layer),
    /// A convolution that leaves fewer positions.
    Down,
    /// A resampling that makes more positions.
    Up,
    /// A `conv` or `linear` of another form, by the name of its weight, with what is special about it.
    Other(String, String),
}

/// Walks through the ops of a function's body.
pub(super) fn steps(block: &Block, inputs: &[NamedType]) -> Vec<Step> {
    let mut known = Known {
        types: inputs.iter().map(|i| (i.name.as_str(), i)).collect(),
        constants: BTreeMap::new(),
    };
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
                        Ok(layer) if layer.is_point() => Step::Layer(layer),
                        Ok(layer) => Step::Conv(layer),
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
        known.add(op);
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
fn changes(op: &Operation, known: &Known<'_>, relation: fn(&usize, &usize) -> bool) -> bool {
    let x = known.ty(operand(op, "x"));
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

/// What the ops before one have defined.
struct Known<'a> {
    types: BTreeMap<&'a str, &'a NamedType>,
    constants: BTreeMap<&'a str, &'a Value>,
}

impl<'a> Known<'a> {
    fn add(&mut self, op: &'a Operation) {
        self.types
            .extend(op.outputs.iter().map(|o| (o.name.as_str(), o)));
        if let ("const", Some(value), [output]) =
            (op.kind.as_str(), op.attributes.get("val"), &*op.outputs)
        {
            self.constants.insert(&output.name, value);
        }
    }

    fn ty(&self, name: Option<&str>) -> Option<&'a NamedType> {
        self.types.get(name?).copied()
    }

    /// The constant that a parameter is given.
    fn constant<'b>(&self, op: &'b Operation, parameter: &str) -> Option<&'b Value>
    where
        'a: 'b,
    {
        match op.inputs.get(parameter)?.first()? {
            Binding::Name(name) => self.constants.get(name.as_str()).copied(),
            Binding::Value(value) => Some(value),
        }
    }

    /// Integers of a parameter; `default` when it is not given.
    fn ints(&self, op: &Operation, parameter: &str, default: &[i32]) -> Vec<i32> {
        let given = self.constant(op, parameter).and_then(Value::as_ints);
        given.unwrap_or(default).to_vec()
    }
}

fn layer(index: usize, op: &Operation, weight: &str, known: &Known<'_>) -> Result<Layer, String> {
    let x = known
        .ty(operand(op, "x"))
        .ok_or("its input has no known type")?;
    let weight_type = known
        .ty(Some(weight))
        .ok_or("its weight has no known type")?;
    let (weight_shape, x_shape) = (shape(weight_type)?, shape(x)?);
    let (channels, axis) = match (op.kind.as_str(), x_shape.len()) {
        ("conv", 4) => (Channels::Second, 1),
        ("linear", 3) => (Channels::Last, 2),
        (kind, rank) => return Err(format!("it is a `{kind}` on a tensor of rank {rank}")),
    };
    let (outputs, inputs, side) = match *weight_shape.as_slice() {
        [outputs, inputs] => (outputs, inputs, 1),
        [outputs, inputs, h, w] if h == w => (outputs, inputs, h),
        _ => return Err(format!("its weight has shape {weight_shape:?}")),
    };
    if x_shape.get(axis) != Some(&inputs) {
        return Err(format!(
            "its weight has shape {weight_shape:?}, its input {x_shape:?}"
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
        kernel: kernel(op, side, known)?,
        positions: elements.checked_div(inputs).unwrap_or(0),
    })
}

/// Stride and padding of a convolution.
fn kernel(op: &Operation, size: usize, known: &Known<'_>) -> Result<Kernel, String> {
    if op.kind != "conv" {
        return Ok(Kernel::POINT);
    }
    let padding = known.constant(op, "pad_type").and_then(Value::as_string);
    let padding = padding.unwrap_or("valid");
    let strides = known.ints(op, "strides", &[1, 1]);
    let half = i32::try_from(size / 2).unwrap_or(i32::MAX);
    let pad = match (padding, &*strides) {
        ("valid", _) => vec![0; 4],
        ("custom", _) => known.ints(op, "pad", &[0; 4]),
        ("same", [1, 1]) if size % 2 == 1 => vec![half; 4],
        (other, _) => return Err(format!("its padding is `{other}`")),
    };
    let dense = known.ints(op, "dilations", &[1, 1]) == [1, 1];
    let whole = known.ints(op, "groups", &[1]) == [1];
    match (&*strides, <[i32; 4]>::try_from(pad)) {
        (&[a, b], Ok(pad)) if a == b && dense && whole => Ok(Kernel {
            size,
            stride: a,
            pad,
        }),
        _ => Err("its strides, padding, dilations or groups are none of Stable Diffusion".into()),
    }
}
