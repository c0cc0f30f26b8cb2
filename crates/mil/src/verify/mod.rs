//! Checks a whole program: names, scopes, types as declared against types as computed, literals.

mod literal;
mod name;

use crate::ops::{self, MAX_RANK, Operand, Operands, Opset, Param, Site};
use crate::{
    Binding, Block, DType, Dim, Error, Function, MAX_DEPTH, NamedType, Operation, Program,
    TensorType, Value, ValueType,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Which rule a program breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Rule {
    /// Program version, number of functions and of block outputs, depth of blocks.
    Form,
    /// A known opset, with a block of its own.
    Opset,
    /// The op exists in the opset, with these parameters and dtypes.
    Signature,
    /// Names by the grammar.
    Name,
    /// Names that are words of the text form.
    Reserved,
    /// Defined before use, and once.
    Scope,
    /// Shapes fit together, declared types are the computed ones.
    Type,
    /// Literals are what their type says.
    Literal,
    /// A constant where one is needed.
    Constness,
    /// Operands of one dtype.
    OneDType,
    /// At most five dimensions.
    Rank,
}

/// Something wrong with a program.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The rule that is broken.
    pub rule: Rule,
    /// Function, empty for the program as a whole.
    pub function: String,
    /// First output of the op, or the variable; empty for the function as a whole.
    pub op: String,
    /// What is wrong: expected and found.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.function.is_empty() {
            write!(f, "function `{}`: ", self.function)?;
        }
        f.write_str(&self.text)
    }
}

/// Every finding, in program order; none for a good program.
///
/// Checked are: program version; opset known and with a block; names by the grammar, not reserved, not twice in a scope;
/// variables defined before use; parameters and constness by the op table; output types as computed; literals of the
/// length and form their type asks for; rank at most 5 but for operands of constexpr ops; block outputs defined.
/// Blob values are not opened here.
pub fn verify(program: &Program) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut whole = |text: String| {
        findings.push(Finding {
            rule: Rule::Form,
            function: String::new(),
            op: String::new(),
            text,
        });
    };
    if program.version != 1 {
        whole(format!(
            "expected program version 1, found {}",
            program.version
        ));
    }
    if program.functions.is_empty() {
        whole("expected at least one function, found none".into());
    }
    for (name, function) in &program.functions {
        let mut v = Verifier {
            function: name,
            opset: &function.opset,
            findings: &mut findings,
        };
        if !name::is_identifier(name) {
            v.add(
                Rule::Name,
                name,
                format!("function name `{name}` is no identifier"),
            );
        }
        v.function(function);
    }
    for (name, value) in &program.attributes {
        if let Some(text) = literal::misfit(value) {
            findings.push(Finding {
                rule: Rule::Literal,
                function: String::new(),
                op: String::new(),
                text: format!("attribute `{name}`: {text}"),
            });
        }
    }
    findings
}

/// What is known of a variable in scope.
#[derive(Clone, Copy)]
struct Known<'a> {
    ty: &'a ValueType,
    value: Option<&'a Value>,
    constant: bool,
}

type Scope<'a> = BTreeMap<&'a str, Known<'a>>;

struct Verifier<'a> {
    function: &'a str,
    opset: &'a str,
    findings: &'a mut Vec<Finding>,
}

impl<'a> Verifier<'a> {
    fn add(&mut self, rule: Rule, op: &str, text: impl Into<String>) {
        self.findings.push(Finding {
            rule,
            function: self.function.into(),
            op: op.into(),
            text: text.into(),
        });
    }

    fn function(&mut self, f: &'a Function) {
        if f.body().is_none() {
            self.add(
                Rule::Opset,
                "",
                format!("expected a block for opset `{}`, found none", f.opset),
            );
        }
        for (opset, block) in &f.blocks {
            if Opset::from_name(opset).is_none() {
                self.add(
                    Rule::Opset,
                    "",
                    format!("expected a known opset, found `{opset}`"),
                );
                continue;
            }
            self.opset = opset;
            let mut scope = Scope::new();
            self.declare_all(&f.inputs, &mut scope);
            self.block(block, scope, 0);
        }
    }

    /// Inputs of a function or of a nested block.
    fn declare_all(&mut self, inputs: &'a [NamedType], scope: &mut Scope<'a>) {
        for input in inputs {
            self.declare(input, None, false, scope);
            self.rank("", &input.name, &input.ty);
        }
    }

    fn declare(
        &mut self,
        variable: &'a NamedType,
        value: Option<&'a Value>,
        constant: bool,
        scope: &mut Scope<'a>,
    ) {
        let name = variable.name.as_str();
        if !name::is_identifier(name) {
            self.add(
                Rule::Name,
                name,
                format!("variable name `{name}` does not match [A-Za-z_][A-Za-z0-9_@]*"),
            );
        }
        if name::is_reserved(name) {
            self.add(
                Rule::Reserved,
                name,
                format!("variable name `{name}` is a reserved word"),
            );
        }
        let known = Known {
            ty: &variable.ty,
            value,
            constant,
        };
        if scope.insert(name, known).is_some() {
            self.add(
                Rule::Scope,
                name,
                format!("variable `{name}` is defined twice"),
            );
        }
    }

    fn rank(&mut self, kind: &str, name: &str, ty: &ValueType) {
        let inner = match ty {
            ValueType::State(t) => t,
            t => t,
        };
        let rank = inner.as_tensor().map_or(0, TensorType::rank);
        if rank > MAX_RANK && !kind.starts_with("constexpr_") {
            self.add(
                Rule::Rank,
                name,
                format!("`{name}` has rank {rank}, expected at most {MAX_RANK}"),
            );
        }
    }

    fn block(&mut self, b: &'a Block, mut scope: Scope<'a>, depth: usize) {
        if depth >= MAX_DEPTH {
            self.add(
                Rule::Form,
                "",
                format!("blocks are nested deeper than {MAX_DEPTH}"),
            );
            return;
        }
        let later: BTreeSet<&str> = b
            .operations
            .iter()
            .flat_map(|o| &o.outputs)
            .map(|v| v.name.as_str())
            .collect();
        for o in &b.operations {
            self.operation(o, &mut scope, &later, depth);
        }
        for name in &b.outputs {
            if !scope.contains_key(name.as_str()) {
                self.add(
                    Rule::Scope,
                    name,
                    format!("block output `{name}` is not defined"),
                );
            }
        }
        if b.outputs.is_empty() {
            self.add(
                Rule::Form,
                "",
                "expected at least one block output, found none",
            );
        }
    }

    fn operation(
        &mut self,
        o: &'a Operation,
        scope: &mut Scope<'a>,
        later: &BTreeSet<&str>,
        depth: usize,
    ) {
        let op = o
            .outputs
            .first()
            .map_or(o.kind.as_str(), |v| v.name.as_str());
        let place = format!("op `{op}` (`{}`)", o.kind);
        for (attribute, value) in &o.attributes {
            if let Some(text) = literal::misfit(value) {
                self.add(
                    Rule::Literal,
                    op,
                    format!("{place}, attribute `{attribute}`: {text}"),
                );
            }
        }
        let inputs = self.operands(o, op, &place, scope, later);
        for block in &o.blocks {
            let mut inner = scope.clone();
            self.declare_all(&block.inputs, &mut inner);
            self.block(block, inner, depth + 1);
        }
        if let Some(inputs) = inputs {
            self.types(o, op, &place, inputs);
        }
        let fixed = o.kind == "const" || o.kind.starts_with("constexpr_");
        let value = o.attributes.get("val").filter(|_| o.kind == "const");
        for output in &o.outputs {
            self.rank(&o.kind, &output.name, &output.ty);
            self.declare(output, value, fixed, scope);
        }
    }

    /// The op's operands; `None` when one is not defined, so that the op's types cannot be computed.
    fn operands(
        &mut self,
        o: &'a Operation,
        op: &str,
        place: &str,
        scope: &Scope<'a>,
        later: &BTreeSet<&str>,
    ) -> Option<BTreeMap<&'a str, Vec<Operand<'a>>>> {
        let mut inputs = BTreeMap::new();
        let mut whole = true;
        for (parameter, bindings) in &o.inputs {
            let mut operands = Vec::with_capacity(bindings.len());
            for binding in bindings {
                match binding {
                    Binding::Value(value) => {
                        if let Some(text) = literal::misfit(value) {
                            self.add(
                                Rule::Literal,
                                op,
                                format!("{place}, parameter `{parameter}`: {text}"),
                            );
                        }
                        operands.push(Operand {
                            ty: &value.ty,
                            value: Some(value),
                            constant: true,
                        });
                    }
                    Binding::Name(name) => match scope.get(name.as_str()) {
                        Some(known) => {
                            self.rank(&o.kind, name, known.ty);
                            operands.push(Operand {
                                ty: known.ty,
                                value: known.value,
                                constant: known.constant,
                            });
                        }
                        None => {
                            whole = false;
                            let why = if later.contains(name.as_str()) {
                                "is used before its definition"
                            } else {
                                "is not defined"
                            };
                            self.add(
                                Rule::Scope,
                                op,
                                format!(
                                    "{place}, parameter `{parameter}`: variable `{name}` {why}"
                                ),
                            );
                        }
                    },
                }
            }
            inputs.insert(parameter.as_str(), operands);
        }
        whole.then_some(inputs)
    }

    fn types(
        &mut self,
        o: &'a Operation,
        op: &str,
        place: &str,
        inputs: BTreeMap<&'a str, Vec<Operand<'a>>>,
    ) {
        let site = Site {
            op,
            kind: &o.kind,
            opset: self.opset,
            inputs,
            attributes: &o.attributes,
        };
        let computed = match ops::infer(&site) {
            Ok(types) => types,
            Err(e) => return self.add(broken(&site, &e), op, e.to_string()),
        };
        if computed.len() != o.outputs.len() {
            let (want, found) = (computed.len(), o.outputs.len());
            return self.add(
                Rule::Type,
                op,
                format!("{place}: expected {want} outputs, found {found}"),
            );
        }
        for (output, ty) in o.outputs.iter().zip(&computed) {
            if !agree(&output.ty, ty) {
                self.add(
                    Rule::Type,
                    op,
                    format!(
                        "{place}: output `{}` is declared {}, computed {ty}",
                        output.name, output.ty
                    ),
                );
            }
        }
    }
}

/// The rule behind an error of inference.
fn broken(site: &Site<'_>, error: &Error) -> Rule {
    let row = Opset::from_name(site.opset).and_then(|opset| ops::row(site.kind, opset));
    let (Some(row), Error::Parameter { parameter, .. }) = (row, error) else {
        return if row.is_some() {
            Rule::Type
        } else {
            Rule::Signature
        };
    };
    let (Some(param), Some(operands)) = (row.param(parameter), site.inputs.get(&**parameter))
    else {
        return match row.operands {
            // Operands that are attributes are not among the inputs.
            Operands::Attributes if site.attributes.contains_key(parameter) => Rule::Type,
            _ => Rule::Signature,
        };
    };
    if param.constant && operands.iter().any(|o| !o.constant) {
        return Rule::Constness;
    }
    let dtypes = || operands.iter().map(|o| o.ty.as_tensor().map(|t| t.dtype));
    let takes = |t: Option<DType>| t.is_some_and(|t| param.domain.types.contains(&t));
    if !param.domain.types.is_empty() && !dtypes().all(takes) {
        return Rule::Signature;
    }
    let class = |p: &&Param| param.domain.class.is_some() && p.domain.class == param.domain.class;
    let of_class = row.params.iter().filter(class);
    let all: BTreeSet<_> = of_class
        .filter_map(|p| site.inputs.get(p.name))
        .flatten()
        .filter_map(|o| o.ty.as_tensor().map(|t| t.dtype))
        .collect();
    if all.len() > 1 {
        Rule::OneDType
    } else {
        Rule::Type
    }
}

/// Whether a declared type says what was computed. Where the computed size is unknown every declared one is taken.
fn agree(declared: &ValueType, computed: &ValueType) -> bool {
    match (declared, computed) {
        (ValueType::Tensor(d), ValueType::Tensor(c)) => {
            if d.dtype != c.dtype {
                return false;
            }
            let any_rank = c.dims.contains(&Dim::Unknown { variadic: true });
            any_rank
                || d.dims.len() == c.dims.len()
                    && d.dims.iter().zip(&c.dims).all(|(d, c)| match c {
                        Dim::Unknown { .. } => true,
                        Dim::Fixed(_) => d == c,
                    })
        }
        (d, c) => d == c,
    }
}
