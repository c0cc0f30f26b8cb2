//! Programs, functions, blocks and operations.

use crate::{TensorType, Value, ValueType};
use std::collections::BTreeMap;

/// A named, typed value: function inputs, block inputs and op outputs.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedType {
    /// Name of the variable.
    pub name: String,
    /// Its type.
    pub ty: ValueType,
}

impl NamedType {
    /// A named tensor.
    pub fn tensor(name: impl Into<String>, ty: TensorType) -> Self {
        Self {
            name: name.into(),
            ty: ty.into(),
        }
    }
}

/// What an op input is bound to.
#[derive(Clone, Debug, PartialEq)]
pub enum Binding {
    /// A variable: function input, or output of an earlier op.
    Name(String),
    /// A literal.
    Value(Value),
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Operation {
    /// Op name, for instance `conv`.
    pub kind: String,
    /// Inputs by parameter name; a variadic parameter (`values` of `concat`) has several bindings.
    pub inputs: BTreeMap<String, Vec<Binding>>,
    /// Outputs in order.
    pub outputs: Vec<NamedType>,
    /// Nested blocks (`cond`, `while_loop`).
    pub blocks: Vec<Block>,
    /// Attributes: `name`, `val` of a const, operands of the iOS16 constexpr ops.
    pub attributes: BTreeMap<String, Value>,
}

/// A block: operations in order and the names it returns.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Block {
    /// Inputs of a nested block; empty for the body of a function.
    pub inputs: Vec<NamedType>,
    /// Names of the returned variables, in order.
    pub outputs: Vec<String>,
    /// Operations in order of execution.
    pub operations: Vec<Operation>,
    /// Attributes of the block.
    pub attributes: BTreeMap<String, Value>,
}

/// A function: typed inputs and one block per opset.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Function {
    /// Inputs in order.
    pub inputs: Vec<NamedType>,
    /// Active opset, a key of `blocks`, for instance `CoreML6`.
    pub opset: String,
    /// Bodies by opset.
    pub blocks: BTreeMap<String, Block>,
    /// Attributes of the function.
    pub attributes: BTreeMap<String, Value>,
}

impl Function {
    /// The body of the active opset.
    pub fn body(&self) -> Option<&Block> {
        self.blocks.get(&self.opset)
    }
}

/// A program: functions by name.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Program {
    /// Version of the program format, always 1.
    pub version: i64,
    /// Functions by name; `main` in a program with one.
    pub functions: BTreeMap<String, Function>,
    /// Attributes, for instance `buildInfo`.
    pub attributes: BTreeMap<String, Value>,
}
