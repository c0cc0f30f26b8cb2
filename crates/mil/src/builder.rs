//! Builds the body of a function, op by op, with types computed on the way.

use crate::ops::{self, Operand, Site};
use crate::{
    Binding, Block, Error, Function, NamedType, Operation, Result, TensorType, Value, ValueType,
};
use std::collections::{BTreeMap, BTreeSet};

/// A variable of the function that is being built.
#[derive(Clone, Debug, PartialEq)]
pub struct Var {
    /// Name in the program.
    pub name: String,
    /// Type as declared.
    pub ty: ValueType,
}

impl Var {
    /// Known shape of a tensor variable.
    ///
    /// Errors: [`Error::Op`] when it is not a tensor or a dimension is unknown.
    pub fn shape(&self) -> Result<Vec<usize>> {
        self.ty
            .as_tensor()
            .and_then(TensorType::shape)
            .ok_or_else(|| Error::Op {
                op: self.name.clone(),
                kind: "variable".into(),
                reason: format!("expected a tensor with known dimensions, found {}", self.ty),
            })
    }
}

/// What an op parameter is given.
#[derive(Clone, Debug)]
pub enum Arg {
    /// A variable.
    Var(Var),
    /// Several variables for a variadic parameter.
    Many(Vec<Var>),
    /// A literal; it becomes a `const` op of its own, as in programs up to iOS 17.
    Value(Value),
}

impl From<&Var> for Arg {
    fn from(v: &Var) -> Self {
        Self::Var(v.clone())
    }
}
impl From<Vec<Var>> for Arg {
    fn from(v: Vec<Var>) -> Self {
        Self::Many(v)
    }
}
impl From<Value> for Arg {
    fn from(v: Value) -> Self {
        Self::Value(v)
    }
}
impl From<i32> for Arg {
    fn from(v: i32) -> Self {
        Self::Value(Value::int(v))
    }
}
impl From<bool> for Arg {
    fn from(v: bool) -> Self {
        Self::Value(Value::bool(v))
    }
}
impl From<&str> for Arg {
    fn from(v: &str) -> Self {
        Self::Value(Value::string(v))
    }
}
impl From<&[i32]> for Arg {
    fn from(v: &[i32]) -> Self {
        Self::Value(Value::ints(v))
    }
}
impl<const N: usize> From<[i32; N]> for Arg {
    fn from(v: [i32; N]) -> Self {
        Self::Value(Value::ints(&v))
    }
}
impl<const N: usize> From<[bool; N]> for Arg {
    fn from(v: [bool; N]) -> Self {
        Self::Value(Value::bools(&v))
    }
}

/// Builds one function.
#[derive(Debug)]
pub struct Builder {
    opset: String,
    inputs: Vec<NamedType>,
    operations: Vec<Operation>,
    names: BTreeSet<String>,
    constants: BTreeMap<String, Value>,
}

impl Builder {
    /// A builder for a function of this opset, for instance `CoreML6`.
    pub fn new(opset: &str) -> Self {
        Self {
            opset: opset.into(),
            inputs: Vec::new(),
            operations: Vec::new(),
            names: BTreeSet::new(),
            constants: BTreeMap::new(),
        }
    }

    /// Declares a function input. The name is taken as it is.
    pub fn input(&mut self, name: &str, ty: TensorType) -> Var {
        self.names.insert(name.into());
        let ty = ValueType::from(ty);
        self.inputs.push(NamedType {
            name: name.into(),
            ty: ty.clone(),
        });
        Var {
            name: name.into(),
            ty,
        }
    }

    /// Adds a `const` op. The variable's name is derived from `name` and is unique.
    pub fn constant(&mut self, name: &str, value: Value) -> Var {
        let name = self.unique(name);
        let ty = value.ty.clone();
        self.constants.insert(name.clone(), value.clone());
        self.operations.push(Operation {
            kind: "const".into(),
            outputs: vec![NamedType {
                name: name.clone(),
                ty: ty.clone(),
            }],
            attributes: BTreeMap::from([
                ("name".to_string(), Value::string(name.clone())),
                ("val".to_string(), value),
            ]),
            ..Operation::default()
        });
        Var { name, ty }
    }

    /// Adds an op with one output, named after `name`.
    ///
    /// Errors: those of the op's inference.
    pub fn op(&mut self, kind: &str, name: &str, args: &[(&str, Arg)]) -> Result<Var> {
        let mut outputs = self.op_many(kind, &[name], args)?;
        match (outputs.pop(), outputs.is_empty()) {
            (Some(v), true) => Ok(v),
            _ => Err(Error::Op {
                op: name.into(),
                kind: kind.into(),
                reason: "expected one output".into(),
            }),
        }
    }

    /// Adds an op with several outputs, one per name.
    ///
    /// Errors: those of the op's inference, and a number of names that differs from the number of outputs.
    pub fn op_many(
        &mut self,
        kind: &str,
        names: &[&str],
        args: &[(&str, Arg)],
    ) -> Result<Vec<Var>> {
        let outputs: Vec<String> = names.iter().map(|n| self.unique(n)).collect();
        let first = outputs.first().cloned().unwrap_or_default();
        let mut inputs = BTreeMap::new();
        let mut types: BTreeMap<String, Vec<Var>> = BTreeMap::new();
        for (parameter, arg) in args {
            let vars = match arg {
                Arg::Var(v) => vec![v.clone()],
                Arg::Many(vs) => vs.clone(),
                Arg::Value(value) => {
                    vec![self.constant(&format!("{first}_{parameter}"), value.clone())]
                }
            };
            inputs.insert(
                (*parameter).to_string(),
                vars.iter().map(|v| Binding::Name(v.name.clone())).collect(),
            );
            types.insert((*parameter).to_string(), vars);
        }
        let attributes = BTreeMap::from([("name".to_string(), Value::string(first.clone()))]);
        let site = Site {
            op: &first,
            kind,
            opset: &self.opset,
            inputs: types
                .iter()
                .map(|(p, vars)| {
                    let operands = vars
                        .iter()
                        .map(|v| Operand {
                            ty: &v.ty,
                            value: self.constants.get(&v.name),
                        })
                        .collect();
                    (p.as_str(), operands)
                })
                .collect(),
            attributes: &attributes,
        };
        let inferred = ops::infer(&site)?;
        if inferred.len() != outputs.len() {
            return Err(Error::Op {
                op: first,
                kind: kind.into(),
                reason: format!(
                    "has {} outputs, but {} names were given",
                    inferred.len(),
                    outputs.len()
                ),
            });
        }
        let outputs: Vec<Var> = outputs
            .into_iter()
            .zip(inferred)
            .map(|(name, ty)| Var { name, ty })
            .collect();
        self.operations.push(Operation {
            kind: kind.into(),
            inputs,
            outputs: outputs
                .iter()
                .map(|v| NamedType {
                    name: v.name.clone(),
                    ty: v.ty.clone(),
                })
                .collect(),
            blocks: Vec::new(),
            attributes,
        });
        Ok(outputs)
    }

    /// Ends the function; it returns `outputs` under their own names.
    pub fn finish(self, outputs: &[Var]) -> Function {
        let block = Block {
            outputs: outputs.iter().map(|v| v.name.clone()).collect(),
            operations: self.operations,
            ..Block::default()
        };
        Function {
            inputs: self.inputs,
            blocks: BTreeMap::from([(self.opset.clone(), block)]),
            opset: self.opset,
            attributes: BTreeMap::new(),
        }
    }

    /// `name` as an identifier of the format (`[A-Za-z_][A-Za-z0-9_@]*`), with `_1`, `_2`… when it is taken.
    fn unique(&mut self, name: &str) -> String {
        let mut base: String = name
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || c == '_' {
                    c
                } else {
                    '_'
                }
            })
            .collect();
        if !base.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            base.insert(0, '_');
        }
        let mut candidate = base.clone();
        let mut n = 1;
        while !self.names.insert(candidate.clone()) {
            candidate = format!("{base}_{n}");
            n += 1;
        }
        candidate
    }
}
