//! Builds the body of a function, op by op, with types computed on the way.

use crate::ops::{self, Operand, Operands, Opset, Site};
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
    fn named(&self) -> NamedType {
        NamedType {
            name: self.name.clone(),
            ty: self.ty.clone(),
        }
    }

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

/// A variable that ops may bind.
#[derive(Debug)]
struct Known {
    ty: ValueType,
    value: Option<Value>,
    constant: bool,
}

/// Builds one function.
#[derive(Debug)]
pub struct Builder {
    opset: String,
    inputs: Vec<NamedType>,
    operations: Vec<Operation>,
    names: BTreeSet<String>,
    known: BTreeMap<String, Known>,
}

impl Builder {
    /// A builder for a function of this opset, for instance `CoreML6`.
    pub fn new(opset: &str) -> Self {
        Self {
            opset: opset.into(),
            inputs: Vec::new(),
            operations: Vec::new(),
            names: BTreeSet::new(),
            known: BTreeMap::new(),
        }
    }

    /// Declares a function input. The name is taken as it is.
    pub fn input(&mut self, name: &str, ty: TensorType) -> Var {
        self.input_of(name, ty.into())
    }

    /// Declares a function input that is a state of this tensor type. The name is taken as it is.
    pub fn state(&mut self, name: &str, ty: TensorType) -> Var {
        self.input_of(name, ValueType::State(Box::new(ty.into())))
    }

    fn input_of(&mut self, name: &str, ty: ValueType) -> Var {
        self.names.insert(name.into());
        self.known.insert(
            name.into(),
            Known {
                ty: ty.clone(),
                value: None,
                constant: false,
            },
        );
        let var = Var {
            name: name.into(),
            ty,
        };
        self.inputs.push(var.named());
        var
    }

    /// Adds a `const` op. The variable's name is derived from `name` and is unique.
    pub fn constant(&mut self, name: &str, value: Value) -> Var {
        let name = self.unique(name);
        let ty = value.ty.clone();
        self.known.insert(
            name.clone(),
            Known {
                ty: ty.clone(),
                value: Some(value.clone()),
                constant: true,
            },
        );
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
    /// A literal becomes a `const` op of its own; of a constexpr op it becomes an attribute (before iOS18) or a literal
    /// binding.
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
        let place = Opset::from_name(&self.opset)
            .and_then(|opset| ops::row(kind, opset))
            .map_or(Operands::Inputs, |row| row.operands);
        let mut inputs: BTreeMap<String, Vec<Binding>> = BTreeMap::new();
        let mut attributes = BTreeMap::from([("name".to_string(), Value::string(first.clone()))]);
        for (parameter, arg) in args {
            let bindings = match (arg, place) {
                (Arg::Value(v), Operands::Attributes) => {
                    attributes.insert((*parameter).to_string(), v.clone());
                    continue;
                }
                (Arg::Value(v), Operands::Literals) => vec![Binding::Value(v.clone())],
                (Arg::Value(v), Operands::Inputs) => {
                    let var = self.constant(&format!("{first}_{parameter}"), v.clone());
                    vec![Binding::Name(var.name)]
                }
                (Arg::Var(v), _) => vec![Binding::Name(v.name.clone())],
                (Arg::Many(vs), _) => vs.iter().map(|v| Binding::Name(v.name.clone())).collect(),
            };
            inputs.insert((*parameter).to_string(), bindings);
        }
        let inferred = self.infer(&first, kind, &inputs, &attributes)?;
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
        let mut vars = Vec::with_capacity(outputs.len());
        for (name, ty) in outputs.into_iter().zip(inferred) {
            let constant = kind.starts_with("constexpr_");
            self.known.insert(
                name.clone(),
                Known {
                    ty: ty.clone(),
                    value: None,
                    constant,
                },
            );
            vars.push(Var { name, ty });
        }
        self.operations.push(Operation {
            kind: kind.into(),
            inputs,
            outputs: vars.iter().map(Var::named).collect(),
            blocks: Vec::new(),
            attributes,
        });
        Ok(vars)
    }

    fn infer(
        &self,
        op: &str,
        kind: &str,
        inputs: &BTreeMap<String, Vec<Binding>>,
        attributes: &BTreeMap<String, Value>,
    ) -> Result<Vec<ValueType>> {
        let mut operands = BTreeMap::new();
        for (parameter, bindings) in inputs {
            let mut bound = Vec::with_capacity(bindings.len());
            for binding in bindings {
                bound.push(match binding {
                    Binding::Value(v) => Operand {
                        ty: &v.ty,
                        value: Some(v),
                        constant: true,
                    },
                    Binding::Name(name) => {
                        let known = self.known.get(name).ok_or_else(|| Error::Parameter {
                            op: op.into(),
                            kind: kind.into(),
                            parameter: parameter.clone(),
                            expected: "a variable of this builder".into(),
                            found: format!("`{name}`"),
                        })?;
                        Operand {
                            ty: &known.ty,
                            value: known.value.as_ref(),
                            constant: known.constant,
                        }
                    }
                });
            }
            operands.insert(parameter.as_str(), bound);
        }
        ops::infer(&Site {
            op,
            kind,
            opset: &self.opset,
            inputs: operands,
            attributes,
        })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DType::{self, Fp16};

    #[test]
    fn a_literal_becomes_a_const_and_types_follow() {
        let mut b = Builder::new("CoreML6");
        let x = b.input("x", TensorType::new(Fp16, &[2, 16, 8, 8]));
        let w = b.constant(
            "w",
            Value::external(TensorType::new(Fp16, &[32, 16, 3, 3]), "w"),
        );
        let y = b
            .op(
                "conv",
                "y",
                &[
                    ("x", (&x).into()),
                    ("weight", (&w).into()),
                    ("pad_type", "same".into()),
                    ("strides", [2, 2].into()),
                ],
            )
            .unwrap();
        assert_eq!(y.shape().unwrap(), [2, 32, 4, 4]);
        let f = b.finish(&[y]);
        let names: Vec<&str> = f
            .body()
            .unwrap()
            .operations
            .iter()
            .map(|o| o.outputs[0].name.as_str())
            .collect();
        assert_eq!(names, ["w", "y_pad_type", "y_strides", "y"]);
    }

    #[test]
    fn constexpr_operands_are_attributes_before_ios18_and_literals_after() {
        let lut = Value::floats(Fp16, &[4], &[0.0, 1.0, 2.0, 3.0]);
        let codes = Value::tensor(
            TensorType::new(DType::UInt8, &[2]),
            crate::Literal::Bytes(vec![0x1b, 0xe4]),
        );
        let shape = Value::tensor(
            TensorType::new(DType::UInt32, &[2]),
            crate::Literal::Bytes(vec![2, 0, 0, 0, 4, 0, 0, 0]),
        );
        let mut b = Builder::new("CoreML6");
        let w = b
            .op(
                "constexpr_lut_to_dense",
                "w",
                &[
                    ("indices", codes.clone().into()),
                    ("lut", lut.clone().into()),
                    ("shape", shape.into()),
                ],
            )
            .unwrap();
        assert_eq!(w.shape().unwrap(), [2, 4]);
        let f = b.finish(&[w]);
        assert!(f.body().unwrap().operations[0].inputs.is_empty());

        let mut b = Builder::new("CoreML8");
        let w = b
            .op(
                "constexpr_blockwise_shift_scale",
                "w",
                &[
                    (
                        "data",
                        Value::tensor(
                            TensorType::new(DType::UInt8, &[2]),
                            crate::Literal::Bytes(vec![1, 2]),
                        )
                        .into(),
                    ),
                    ("scale", Value::floats(Fp16, &[1], &[0.5]).into()),
                ],
            )
            .unwrap();
        let x = b.input("x", TensorType::new(Fp16, &[1, 2]));
        let bias = b
            .op("mul", "bias", &[("x", (&w).into()), ("y", (&w).into())])
            .unwrap();
        let error = b
            .op(
                "batch_norm",
                "n",
                &[
                    ("x", (&x).into()),
                    ("mean", (&bias).into()),
                    ("variance", (&w).into()),
                ],
            )
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "op `n` (`batch_norm`), parameter `mean`: expected a constant, found a variable of type tensor<fp16, [2]>"
        );
        let f = b.finish(&[w]);
        assert!(matches!(
            f.body().unwrap().operations[0].inputs["data"][0],
            Binding::Value(_)
        ));
    }
}
