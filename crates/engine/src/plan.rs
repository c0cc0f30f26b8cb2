//! The order of work of one function: which value goes where, and when it is no longer needed.

use crate::constant::{Constant, Decoder, is_constexpr};
use crate::kernels::{Kernel, kernel};
use crate::tensor::Class;
use crate::{Error, Result};
use gesso_mil::{Binding, Block, Dim, Function, NamedType, TensorType, ValueType};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Where a named value lives.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// A slot that is filled while the function runs.
    Slot(usize),
    /// A constant.
    Constant(Arc<Constant>),
}

/// An operand of a step.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Slot {
        slot: usize,
        /// No later step and no function output reads it.
        last: bool,
    },
    Constant(Arc<Constant>),
}

/// An output of a step.
#[derive(Clone, Debug)]
pub(crate) struct Out {
    pub(crate) name: String,
    pub(crate) ty: TensorType,
    pub(crate) class: Class,
    pub(crate) slot: usize,
    /// Nobody reads it.
    pub(crate) unused: bool,
}

/// What an op does with a state, by the state's number in the plan.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Access {
    Read(usize),
    /// What the kernel gives goes into the state.
    Write(usize),
}

/// One op to run.
#[derive(Debug)]
pub(crate) struct Step {
    /// Name of the first output; of an op without outputs, its own name, or that of the state it writes.
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) kernel: &'static Kernel,
    pub(crate) operands: Vec<(String, Vec<Source>)>,
    pub(crate) outputs: Vec<Out>,
    /// The state that it reads or writes. Such steps stay in their order.
    pub(crate) access: Option<Access>,
    /// This step gives scores, the next one their softmax, the one after that a product with them, and nothing else
    /// reads scores or softmax: the three may run as one.
    pub(crate) attention: bool,
    /// This step gives a product, the next one reshapes it, the one after that adds it to a value that has no later use,
    /// and nothing else reads what lies between: the three may run as one.
    pub(crate) accumulates: bool,
}

impl Step {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

/// A function, ready to run.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Function inputs in order; input i is slot i.
    pub(crate) inputs: Vec<(String, TensorType)>,
    /// States in the order of the function's parameters.
    pub(crate) states: Vec<(String, TensorType)>,
    pub(crate) steps: Vec<Step>,
    pub(crate) outputs: Vec<String>,
    pub(crate) places: BTreeMap<String, Place>,
    pub(crate) slots: usize,
}

/// Op names without a kernel, with the first op that uses one.
pub(crate) fn unsupported<'a>(functions: impl Iterator<Item = &'a Function>) -> Option<Error> {
    let mut kinds = BTreeSet::new();
    let mut first = None;
    for body in functions.filter_map(Function::body) {
        gather(body, &mut kinds, &mut first);
    }
    (!kinds.is_empty()).then(|| Error::UnsupportedOps {
        kinds: kinds.into_iter().collect(),
        first: first.unwrap_or_default(),
    })
}

fn gather(block: &Block, kinds: &mut BTreeSet<String>, first: &mut Option<String>) {
    for op in &block.operations {
        let known = op.kind == "const" || is_constexpr(&op.kind) || kernel(&op.kind).is_some();
        if !known {
            kinds.insert(op.kind.clone());
            if first.is_none() {
                *first = op.outputs.first().map(|o| o.name.clone());
            }
        }
        for nested in &op.blocks {
            gather(nested, kinds, first);
        }
    }
}

/// Plans a function.
///
/// Errors: states, ops without a kernel, nested blocks, names that are not defined, constants that cannot be decoded.
pub(crate) fn plan(name: &str, function: &Function, decoder: &Decoder<'_>) -> Result<Plan> {
    let body = function.body().ok_or_else(|| Error::Unsupported {
        name: name.into(),
        what: format!(
            "a function without a block for its opset `{}`",
            function.opset
        ),
    })?;
    let mut planner = Planner {
        places: BTreeMap::new(),
        states: Vec::new(),
        constants: BTreeMap::new(),
        slots: 0,
        decoder,
    };
    let mut inputs = Vec::new();
    for input in &function.inputs {
        if let ValueType::State(inner) = &input.ty {
            let ty = crate::state::held(&input.name, inner)?;
            planner.states.push((input.name.clone(), ty));
            continue;
        }
        let ty = tensor(input)?;
        planner.slot(&input.name);
        inputs.push((input.name.clone(), ty));
    }
    let mut steps = Vec::new();
    for op in &body.operations {
        if let Some(step) = planner.step(op)? {
            steps.push(step);
        }
    }
    for output in &body.outputs {
        planner.place(output)?;
    }
    let mut plan = Plan {
        inputs,
        states: planner.states,
        steps,
        outputs: body.outputs.clone(),
        places: planner.places,
        slots: planner.slots,
    };
    mark_last_uses(&mut plan);
    mark_attention(&mut plan);
    crate::accumulate::mark(&mut plan);
    Ok(plan)
}

fn tensor(value: &NamedType) -> Result<TensorType> {
    match &value.ty {
        ValueType::Tensor(t) if !t.dims.contains(&Dim::Unknown { variadic: true }) => Ok(t.clone()),
        other => Err(Error::Unsupported {
            name: value.name.clone(),
            what: format!("a value of type {other}"),
        }),
    }
}

struct Planner<'a> {
    places: BTreeMap<String, Place>,
    states: Vec<(String, TensorType)>,
    constants: BTreeMap<String, Arc<Constant>>,
    slots: usize,
    decoder: &'a Decoder<'a>,
}

impl Planner<'_> {
    fn slot(&mut self, name: &str) -> usize {
        let slot = self.slots;
        self.slots += 1;
        self.places.insert(name.into(), Place::Slot(slot));
        slot
    }

    fn constant(&mut self, constant: Constant) {
        let constant = Arc::new(constant);
        self.constants
            .insert(constant.name.clone(), constant.clone());
        self.places
            .insert(constant.name.clone(), Place::Constant(constant));
    }

    fn place(&self, name: &str) -> Result<Source> {
        match self.places.get(name) {
            Some(Place::Slot(slot)) => Ok(Source::Slot {
                slot: *slot,
                last: false,
            }),
            Some(Place::Constant(c)) => Ok(Source::Constant(c.clone())),
            None => Err(Error::Unsupported {
                name: name.into(),
                what: "a name that no earlier op defines".into(),
            }),
        }
    }

    /// What an op is called in errors.
    fn name(&self, op: &gesso_mil::Operation, state: Option<usize>) -> String {
        let own = || match &op.attributes.get("name")?.data {
            gesso_mil::ValueData::Tensor(gesso_mil::Literal::Strings(list)) => list.first(),
            _ => None,
        };
        let written = || Some(&self.states.get(state?)?.0);
        let first = op.outputs.first().map(|o| &o.name);
        first
            .or_else(own)
            .or_else(written)
            .cloned()
            .unwrap_or_default()
    }

    /// The step of an op; `None` for constants.
    fn step(&mut self, op: &gesso_mil::Operation) -> Result<Option<Step>> {
        let name = op.outputs.first().map_or("", |o| o.name.as_str());
        if op.kind == "const" {
            let value = op.attributes.get("val").ok_or_else(|| Error::Constant {
                name: name.into(),
                reason: "attribute `val` is missing".into(),
            })?;
            self.constant(Constant::literal(name, value, self.decoder)?);
            return Ok(None);
        }
        if is_constexpr(&op.kind) {
            for constant in Constant::expr(op, &self.constants, self.decoder)? {
                self.constant(constant);
            }
            return Ok(None);
        }
        let kernel = kernel(&op.kind).ok_or_else(|| Error::UnsupportedOps {
            kinds: vec![op.kind.clone()],
            first: name.into(),
        })?;
        let mut operands = Vec::new();
        let mut state = None;
        for (parameter, bindings) in &op.inputs {
            if let [Binding::Name(n)] = bindings.as_slice()
                && let Some(found) = self.states.iter().position(|(known, _)| known == n)
            {
                state = Some(found);
                continue;
            }
            let mut sources = Vec::new();
            for binding in bindings {
                sources.push(match binding {
                    Binding::Name(n) => self.place(n)?,
                    Binding::Value(value) => {
                        let name = format!("{name}.{parameter}");
                        let constant = Constant::literal(&name, value, self.decoder)?;
                        Source::Constant(Arc::new(constant))
                    }
                });
            }
            operands.push((parameter.clone(), sources));
        }
        let mut outputs = Vec::new();
        for out in &op.outputs {
            let ty = tensor(out)?;
            let class = Class::of(ty.dtype).ok_or_else(|| Error::Unsupported {
                name: out.name.clone(),
                what: format!("a value of dtype {}", ty.dtype),
            })?;
            outputs.push(Out {
                name: out.name.clone(),
                slot: self.slot(&out.name),
                ty,
                class,
                unused: false,
            });
        }
        let access = state.map(|state| match op.kind.as_str() {
            "read_state" => Access::Read(state),
            _ => Access::Write(state),
        });
        Ok(Some(Step {
            name: self.name(op, state),
            kind: op.kind.clone(),
            kernel,
            operands,
            outputs,
            access,
            attention: false,
            accumulates: false,
        }))
    }
}

/// Marks, from the end, where each slot is read for the last time.
fn mark_last_uses(plan: &mut Plan) {
    let mut live: BTreeSet<usize> = plan
        .outputs
        .iter()
        .filter_map(|name| match plan.places.get(name) {
            Some(Place::Slot(slot)) => Some(*slot),
            _ => None,
        })
        .collect();
    for step in plan.steps.iter_mut().rev() {
        for out in &mut step.outputs {
            out.unused = !live.contains(&out.slot);
        }
        let sources = step
            .operands
            .iter_mut()
            .flat_map(|(_, sources)| sources)
            .rev();
        for source in sources {
            if let Source::Slot { slot, last } = source {
                *last = live.insert(*slot);
            }
        }
    }
}

/// Marks products whose softmax goes into a product of the same kind and nowhere else.
fn mark_attention(plan: &mut Plan) {
    let consumes = |step: &Step, slot: usize| {
        let mut sources = step.operands.iter().flat_map(|(_, sources)| sources);
        sources.any(|s| matches!(s, Source::Slot { slot: s, last: true } if *s == slot))
    };
    let starts: Vec<usize> = plan
        .steps
        .windows(3)
        .enumerate()
        .filter(|(_, steps)| match steps {
            [scores, softmax, product] => {
                let slot = |step: &Step| step.outputs.first().map_or(usize::MAX, |o| o.slot);
                ["einsum", "matmul"].contains(&scores.kind.as_str())
                    && softmax.kind == "softmax"
                    && product.kind == scores.kind
                    && consumes(softmax, slot(scores))
                    && consumes(product, slot(softmax))
            }
            _ => false,
        })
        .map(|(i, _)| i)
        .collect();
    for i in starts {
        if let Some(step) = plan.steps.get_mut(i) {
            step.attention = true;
        }
    }
}
