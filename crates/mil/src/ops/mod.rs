//! The op table: one row per Core ML op and signature, with the inference of its output types.
//!
//! A row holds for its first opset and every later one, until another row of the same name takes over.

mod activation;
mod constexpr;
mod context;
mod control;
mod conv;
mod create;
mod dims;
mod elementwise;
mod gather;
mod linear;
mod normalization;
mod order;
mod pool;
mod reduction;
mod reference;
mod resize;
mod row;
mod slice;
mod state;
mod tensor;
mod transform;

pub use reference::reference;
pub use row::{Default, Domain, Operands, Opset, Param, Row};

use crate::{Error, Result, Value, ValueType};
use context::Context;
use std::collections::BTreeMap;

/// One bound input: its type, whether it is known before the program runs and, when it is a constant, its value.
#[derive(Clone, Copy, Debug)]
pub struct Operand<'a> {
    /// Type of the bound variable or literal.
    pub ty: &'a ValueType,
    /// Its value, when it is a `const` or a literal. Blob and external values are given too: look at `data`.
    pub value: Option<&'a Value>,
    /// Known before the program runs: a literal, a `const`, or the output of a `constexpr_*` op.
    pub constant: bool,
}

/// An op in its place: what inference may look at.
#[derive(Debug)]
pub struct Site<'a> {
    /// Name of the op's first output, for messages.
    pub op: &'a str,
    /// Op name, for instance `conv`.
    pub kind: &'a str,
    /// Opset of the function, for instance `CoreML6`.
    pub opset: &'a str,
    /// Inputs by parameter; several operands for a variadic parameter.
    pub inputs: BTreeMap<&'a str, Vec<Operand<'a>>>,
    /// Attributes of the op.
    pub attributes: &'a BTreeMap<String, Value>,
}

/// Most axes a tensor of a running program may have.
pub const MAX_RANK: usize = 5;

/// Every op this crate knows, by group.
pub const OPS: &[&[Row]] = &[
    control::OPS,
    state::OPS,
    elementwise::OPS,
    activation::OPS,
    reduction::OPS,
    normalization::OPS,
    conv::OPS,
    pool::OPS,
    linear::OPS,
    transform::OPS,
    slice::OPS,
    tensor::OPS,
    create::OPS,
    order::OPS,
    gather::OPS,
    resize::OPS,
    constexpr::OPS,
];

/// Whether some opset has an op of this name.
pub fn is_known(kind: &str) -> bool {
    OPS.iter().flat_map(|g| g.iter()).any(|r| r.name == kind)
}

/// The row that holds for an op in an opset: of those not newer than the opset, the newest.
pub fn row(kind: &str, opset: Opset) -> Option<&'static Row> {
    OPS.iter()
        .flat_map(|g| g.iter())
        .filter(|r| r.name == kind && r.since <= opset)
        .max_by_key(|r| r.since)
}

/// Output types of an op.
///
/// Dimensions that depend on a value known only when the program runs are [`crate::Dim::Unknown`].
///
/// Errors: [`Error::Op`] for an unknown op or opset and for shapes that do not fit together, [`Error::Parameter`] for a
/// missing or unknown parameter, a wrong dtype, a variable where a constant is needed, a value out of its range.
pub fn infer(site: &Site<'_>) -> Result<Vec<ValueType>> {
    let fail = |reason: String| Error::Op {
        op: site.op.into(),
        kind: site.kind.into(),
        reason,
    };
    let opset = Opset::from_name(site.opset)
        .ok_or_else(|| fail(format!("unknown opset `{}`", site.opset)))?;
    let row = row(site.kind, opset).ok_or_else(|| {
        fail(if is_known(site.kind) {
            format!("the op does not exist in opset `{opset}`")
        } else {
            "unknown op".into()
        })
    })?;
    let context = Context::bind(site, row, opset)?;
    (row.infer)(&context)
}
