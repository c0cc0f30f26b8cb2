//! Estimates of memory, and what keeps a model off the Neural Engine.

use super::folder::{Folder, Part};
use gesso_mil::{Binding, DType, Dim, Function, Operation, TensorType, ValueType};
use std::collections::BTreeMap;

/// Largest dimension that the Neural Engine takes.
const LARGEST: usize = 16_384;

/// Bytes of one model.
pub(super) struct Use {
    pub(super) name: String,
    /// Weights as they are stored.
    pub(super) weights: u64,
    /// Most bytes of values alive at one time while it runs.
    pub(super) activations: u64,
}

/// Bytes of all models of a folder.
pub(super) struct Estimates {
    pub(super) models: Vec<Use>,
    /// All weights, and the activations of the one that needs most.
    pub(super) resident: u64,
    /// The model that needs most, alone.
    pub(super) largest: u64,
}

/// A class of devices: memory, and the share of it that an app gets (half on iOS, two thirds on macOS).
pub(super) struct Device {
    pub(super) name: &'static str,
    usable: u64,
    resident: u64,
    largest: u64,
}

const GB: u64 = 1_000_000_000;
/// Name and usable bytes.
const DEVICES: &[(&str, u64)] = &[
    ("iPhone with 4 GB", 2 * GB),
    ("iPhone with 6 GB", 3 * GB),
    ("iPhone or iPad with 8 GB", 4 * GB),
    ("Mac with 8 GB", 16 * GB / 3),
    ("Mac with 16 GB", 32 * GB / 3),
];

impl Device {
    pub(super) fn verdict(&self) -> &'static str {
        if self.resident <= self.usable {
            "fits"
        } else if self.largest <= self.usable {
            "fits with one model at a time"
        } else {
            "does not fit"
        }
    }
}

impl Estimates {
    pub(super) fn devices(&self) -> impl Iterator<Item = Device> {
        let (resident, largest) = (self.resident, self.largest);
        DEVICES.iter().map(move |&(name, usable)| Device {
            name,
            usable,
            resident,
            largest,
        })
    }
}

/// Estimates from weights and from the lives of values; what Core ML itself needs is not in them.
pub(super) fn estimates(folder: &Folder) -> Estimates {
    let models: Vec<Use> = folder
        .used()
        .filter_map(|part| {
            let opened = part.opened.as_ref().ok()?;
            let program = opened.program().ok()?;
            let activations = program
                .functions
                .values()
                .map(activations)
                .max()
                .unwrap_or(0);
            Some(Use {
                name: part.name.clone(),
                weights: opened.files.bytes(),
                activations,
            })
        })
        .collect();
    let weights = models
        .iter()
        .fold(0, |sum: u64, m| sum.saturating_add(m.weights));
    let most = models.iter().map(|m| m.activations).max().unwrap_or(0);
    let largest = models
        .iter()
        .map(|m| m.weights.saturating_add(m.activations))
        .max()
        .unwrap_or(0);
    Estimates {
        models,
        resident: weights.saturating_add(most),
        largest,
    }
}

fn bytes(ty: &ValueType) -> u64 {
    let size = |t: &TensorType| Some(t.count()?.checked_mul(t.dtype.bits())?.div_ceil(8) as u64);
    ty.as_tensor().and_then(size).unwrap_or(0)
}

fn is_constant(op: &Operation) -> bool {
    op.kind == "const" || op.kind.starts_with("constexpr_")
}

/// Most bytes of inputs and op outputs that are alive at one time.
fn activations(f: &Function) -> u64 {
    let Some(body) = f.body() else { return 0 };
    let mut last: BTreeMap<&str, usize> = BTreeMap::new();
    for (i, op) in body.operations.iter().enumerate() {
        for binding in op.inputs.values().flatten() {
            if let Binding::Name(n) = binding {
                last.insert(n, i);
            }
        }
    }
    last.extend(body.outputs.iter().map(|o| (o.as_str(), usize::MAX)));
    let mut ends: BTreeMap<usize, u64> = BTreeMap::new();
    let mut alive = f
        .inputs
        .iter()
        .fold(0, |sum: u64, i| sum.saturating_add(bytes(&i.ty)));
    let mut most = alive;
    for (i, op) in body
        .operations
        .iter()
        .enumerate()
        .filter(|(_, op)| !is_constant(op))
    {
        for output in &op.outputs {
            let size = bytes(&output.ty);
            alive = alive.saturating_add(size);
            let end = ends
                .entry(last.get(output.name.as_str()).copied().unwrap_or(i))
                .or_default();
            *end = end.saturating_add(size);
        }
        most = most.max(alive);
        while let Some(entry) = ends.first_entry().filter(|e| *e.key() <= i) {
            alive = alive.saturating_sub(entry.remove());
        }
    }
    most
}

/// What keeps parts of the models off the Neural Engine.
pub(super) fn traps(folder: &Folder) -> Vec<String> {
    folder.used().flat_map(traps_of).collect()
}

fn traps_of(part: &Part) -> Vec<String> {
    let Some(program) = part.opened.as_ref().ok().and_then(|o| o.program().ok()) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for f in program.functions.values() {
        let Some(body) = f.body() else { continue };
        let ops: Vec<&Operation> = body
            .operations
            .iter()
            .filter(|op| !is_constant(op))
            .collect();
        let constants: Vec<&str> = body
            .operations
            .iter()
            .filter(|op| is_constant(op))
            .flat_map(|op| op.outputs.iter().map(|o| o.name.as_str()))
            .collect();
        let count = |test: &dyn Fn(&Operation) -> bool| ops.iter().filter(|op| test(op)).count();
        let mut say = |n: usize, what: &str| {
            if n > 0 {
                found.push(format!("`{}`: {n} {what}", part.file));
            }
        };
        say(
            count(&|op| op.kind != "cast" && any(op, |t| t.dtype == DType::Fp32)),
            "ops in fp32 run on CPU or GPU",
        );
        say(
            count(&|op| {
                any(op, |t| {
                    t.dims
                        .iter()
                        .any(|d| matches!(d, Dim::Fixed(n) if *n > LARGEST))
                })
            }),
            "ops with a dimension above 16384 run on CPU or GPU",
        );
        say(
            count(&|op| odd_matmul(op, &body.operations, &constants)),
            "products of two variables whose inner dimension is no multiple of 32; one report has zeros",
        );
        if part.name.starts_with("Unet") && count(&|op| op.kind == "einsum") == 0 {
            say(1, "attention is written for the GPU (no einsum)");
        }
    }
    found
}

fn any(op: &Operation, test: impl Fn(&TensorType) -> bool) -> bool {
    op.outputs.iter().filter_map(|o| o.ty.as_tensor()).any(test)
}

/// A `matmul` of two variables with an inner dimension that is no multiple of 32.
fn odd_matmul(op: &Operation, ops: &[Operation], constants: &[&str]) -> bool {
    if op.kind != "matmul" {
        return false;
    }
    let name = |p: &str| match op.inputs.get(p)?.first()? {
        Binding::Name(n) => Some(n.as_str()),
        Binding::Value(_) => None,
    };
    let (Some(x), Some(y)) = (name("x"), name("y")) else {
        return false;
    };
    if constants.contains(&x) || constants.contains(&y) {
        return false;
    }
    let made = ops
        .iter()
        .flat_map(|o| &o.outputs)
        .find(|o| o.name == x)
        .and_then(|o| o.ty.as_tensor());
    let Some(dims) = made.map(|t| &t.dims) else {
        return false;
    };
    let flag = |p: &str| {
        let value =
            name(p).and_then(|n| ops.iter().find(|o| o.outputs.iter().any(|v| v.name == n)));
        value
            .and_then(|o| o.attributes.get("val")?.as_bools()?.first().copied())
            .unwrap_or(false)
    };
    let back = if flag("transpose_x") { 2 } else { 1 };
    let inner = dims.len().checked_sub(back).and_then(|i| dims.get(i));
    matches!(inner, Some(Dim::Fixed(n)) if !n.is_multiple_of(32))
}
