//! The constants of a program: bytes by dtype and module, palettes.

use gesso_mil::{Operation, Program, TensorType, Value, ValueData};
use std::collections::BTreeMap;

/// One stored tensor: parameter, type, weight file and offset.
pub(super) type Stored<'a> = (&'a str, &'a TensorType, Option<(&'a str, u64)>);

/// A constant with the bytes that hold it.
pub(super) struct Constant<'a> {
    pub(super) function: &'a str,
    pub(super) op: &'a Operation,
    /// Type of the dense tensor.
    pub(super) ty: &'a TensorType,
    /// What it is stored as.
    pub(super) parts: Vec<Stored<'a>>,
}

impl Constant<'_> {
    pub(super) fn name(&self) -> &str {
        self.op.outputs.first().map_or("", |o| o.name.as_str())
    }

    /// Bytes of all parts together.
    pub(super) fn bytes(&self) -> u64 {
        self.parts
            .iter()
            .fold(0, |sum: u64, (_, t, _)| sum.saturating_add(bytes(t)))
    }
}

/// Bytes of a tensor as it is stored; 0 for strings and unknown shapes.
pub(super) fn bytes(t: &TensorType) -> u64 {
    let bits = t.count().and_then(|n| n.checked_mul(t.dtype.bits()));
    bits.map_or(0, |bits| bits.div_ceil(8) as u64)
}

/// Every `const` and `constexpr_*` op of the functions' bodies.
pub(super) fn constants(program: &Program) -> Vec<Constant<'_>> {
    let mut found = Vec::new();
    for (function, f) in &program.functions {
        for op in f.body().iter().flat_map(|b| &b.operations) {
            let constexpr = op.kind.starts_with("constexpr_");
            let ty = op.outputs.first().and_then(|o| o.ty.as_tensor());
            let (true, Some(ty)) = (constexpr || op.kind == "const", ty) else {
                continue;
            };
            let parts = values(op)
                .filter_map(|(parameter, v)| Some((parameter, v.ty.as_tensor()?, place(v))));
            found.push(Constant {
                function,
                op,
                ty,
                parts: parts.collect(),
            });
        }
    }
    found
}

fn values(op: &Operation) -> impl Iterator<Item = (&str, &Value)> {
    let attributes = op
        .attributes
        .iter()
        .filter(|(n, _)| *n != "name")
        .map(|(n, v)| (n.as_str(), v));
    let bound = op.inputs.iter().flat_map(|(n, bindings)| {
        bindings.iter().filter_map(move |b| match b {
            gesso_mil::Binding::Value(v) => Some((n.as_str(), v)),
            gesso_mil::Binding::Name(_) => None,
        })
    });
    attributes.chain(bound)
}

fn place(value: &Value) -> Option<(&str, u64)> {
    match &value.data {
        ValueData::Blob { file, offset } => Some((file, *offset)),
        _ => None,
    }
}

/// Bytes by element type; a record that several constants share counts once.
pub(super) fn by_dtype(constants: &[Constant<'_>]) -> BTreeMap<String, u64> {
    let mut sums: BTreeMap<String, u64> = BTreeMap::new();
    let mut seen = std::collections::BTreeSet::new();
    for (_, t, place) in constants.iter().flat_map(|c| &c.parts) {
        if place.is_none_or(|p| seen.insert(p)) {
            let sum = sums.entry(t.dtype.to_string()).or_default();
            *sum = sum.saturating_add(bytes(t));
        }
    }
    sums.retain(|_, n| *n > 0);
    sums
}

/// Bytes by module: the name of the constant up to its first number (`down_blocks_0`), or its first two words.
pub(super) fn by_module(constants: &[Constant<'_>]) -> BTreeMap<String, u64> {
    let mut sums: BTreeMap<String, u64> = BTreeMap::new();
    let large = |c: &&Constant<'_>| c.parts.iter().any(|(_, _, place)| place.is_some());
    for c in constants.iter().filter(large) {
        let sum = sums.entry(module(c.name())).or_default();
        *sum = sum.saturating_add(c.bytes());
    }
    sums
}

fn module(name: &str) -> String {
    let words: Vec<&str> = name.split(['_', '.']).collect();
    let number = words
        .iter()
        .position(|w| !w.is_empty() && w.bytes().all(|b| b.is_ascii_digit()));
    let end = number.map_or(2, |i| i + 1).min(words.len());
    words.get(..end).unwrap_or_default().join("_")
}

/// How a weight is palettized.
pub(super) struct Palette {
    pub(super) bits: u32,
    pub(super) groups: usize,
    pub(super) vector: usize,
}

/// The palette of a constant, if it has one.
pub(super) fn palette(c: &Constant<'_>) -> Option<Palette> {
    if !c.op.kind.starts_with("constexpr_lut") {
        return None;
    }
    let lut = c.parts.iter().find(|(n, _, _)| *n == "lut")?.1.shape()?;
    match lut.as_slice() {
        [entries] => Some(Palette {
            bits: entries.checked_ilog2()?,
            groups: 1,
            vector: 1,
        }),
        [groups @ .., entries, vector] => Some(Palette {
            bits: entries.checked_ilog2()?,
            groups: groups.iter().try_fold(1usize, |n, g| n.checked_mul(*g))?,
            vector: *vector,
        }),
        [] => None,
    }
}

#[cfg(test)]
mod tests {
    use super::module;

    #[test]
    fn modules_end_at_their_first_number() {
        assert_eq!(
            module("down_blocks_0_resnets_1_conv1_weight"),
            "down_blocks_0"
        );
        assert_eq!(module("conv_in_weight"), "conv_in");
        assert_eq!(
            module("mid_block.resnets.0.norm1.weight"),
            "mid_block_resnets_0"
        );
        assert_eq!(module("x"), "x");
    }
}
