//! What the rules look at.

use crate::{
    Binding, Block, Function, Operation, Program, Value, ValueData, ValueType, from_model, verify,
};
use gesso_coreml::blob::BlobDType;
use gesso_coreml::proto::specification::{
    FeatureDescription, Model, ModelDescription, feature_type, model,
};
use std::collections::{BTreeMap, BTreeSet};

/// A file beside the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightFile {
    /// Length in bytes.
    pub bytes: u64,
    /// It is a pointer of Git LFS instead of the file.
    pub pointer: bool,
}

/// A record of a weight file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Element type.
    pub dtype: BlobDType,
    /// Number of elements.
    pub elements: u64,
}

/// What only the file system knows.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// What is wrong with the manifest of a package.
    pub manifest: Vec<String>,
    /// What is wrong with the text of a compiled model.
    pub text: Vec<String>,
    /// Length of the model file in bytes.
    pub model_bytes: u64,
    /// Files beside the model, by the name that a model gives them (`@model_path/weights/weight.bin`).
    pub files: BTreeMap<String, WeightFile>,
    /// The record behind every blob of the program ([`blobs`]), or why there is none.
    pub records: BTreeMap<(String, u64), Result<Record, String>>,
}

/// Every blob that a program refers to: file name as written and offset of the record.
pub fn blobs(program: &Program) -> BTreeSet<(String, u64)> {
    let mut found = BTreeSet::new();
    for site in sites(program) {
        for (_, value) in values(site.op) {
            if let ValueData::Blob { file, offset } = &value.data {
                found.insert((file.clone(), *offset));
            }
        }
    }
    found
}

/// A model with everything that the rules ask of it.
#[derive(Debug)]
pub struct Subject<'a> {
    /// The model.
    pub model: &'a Model,
    /// Its description; empty when it has none.
    pub description: ModelDescription,
    /// Its program, when it has one that can be read.
    pub program: Option<Program>,
    /// Why the program cannot be read.
    pub unreadable: Option<String>,
    /// Findings of the verifier.
    pub verified: Vec<crate::Finding>,
    /// Facts of the file system.
    pub facts: &'a Facts,
}

/// Features of one function.
#[derive(Clone, Copy, Debug)]
pub(super) struct Interface<'a> {
    pub(super) function: &'a str,
    pub(super) input: &'a [FeatureDescription],
    pub(super) output: &'a [FeatureDescription],
    pub(super) state: &'a [FeatureDescription],
}

/// Which list of the description a feature stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Input,
    Output,
    State,
}

/// One feature in its place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Feature<'a> {
    pub(super) function: &'a str,
    pub(super) role: Role,
    pub(super) it: &'a FeatureDescription,
}

impl<'a> Feature<'a> {
    pub(super) fn kind(&self) -> Option<&'a feature_type::Type> {
        self.it.r#type.as_ref()?.r#type.as_ref()
    }

    pub(super) fn optional(&self) -> bool {
        self.it.r#type.as_ref().is_some_and(|t| t.is_optional)
    }

    pub(super) fn place(&self) -> String {
        let role = match self.role {
            Role::Input => "input",
            Role::Output => "output",
            Role::State => "state",
        };
        format!("function `{}`, {role} `{}`", self.function, self.it.name)
    }
}

/// One op in its place.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpSite<'a> {
    pub(super) function: &'a str,
    pub(super) opset: &'a str,
    pub(super) op: &'a Operation,
}

impl OpSite<'_> {
    pub(super) fn place(&self) -> String {
        let name = self.op.outputs.first().map_or("", |o| o.name.as_str());
        format!(
            "function `{}`, op `{name}` (`{}`)",
            self.function, self.op.kind
        )
    }
}

impl<'a> Subject<'a> {
    /// Reads and verifies the program of a model.
    pub fn new(model: &'a Model, facts: &'a Facts) -> Self {
        let (program, unreadable) = match &model.r#type {
            Some(model::Type::Pipeline(_)) => (None, None),
            _ => match from_model(model) {
                Ok(program) => (Some(program), None),
                Err(e) => (None, Some(e.to_string())),
            },
        };
        Self {
            model,
            description: model.description.clone().unwrap_or_default(),
            verified: program.as_ref().map(verify).unwrap_or_default(),
            program,
            unreadable,
            facts,
        }
    }

    /// The interfaces of all functions.
    pub(super) fn interfaces(&self) -> Vec<Interface<'_>> {
        let d = &self.description;
        if d.functions.is_empty() {
            let functions = self.program.as_ref().map(|p| &p.functions);
            let only = functions
                .filter(|f| f.len() == 1)
                .and_then(|f| f.keys().next());
            return vec![Interface {
                function: only.map_or("main", String::as_str),
                input: &d.input,
                output: &d.output,
                state: &d.state,
            }];
        }
        d.functions
            .iter()
            .map(|f| Interface {
                function: &f.name,
                input: &f.input,
                output: &f.output,
                state: &f.state,
            })
            .collect()
    }

    /// Every feature.
    pub(super) fn features(&self) -> Vec<Feature<'_>> {
        let mut features = Vec::new();
        for i in self.interfaces() {
            let lists = [
                (Role::Input, i.input),
                (Role::Output, i.output),
                (Role::State, i.state),
            ];
            for (role, list) in lists {
                features.extend(list.iter().map(|it| Feature {
                    function: i.function,
                    role,
                    it,
                }));
            }
        }
        features
    }

    /// Every op, those of nested blocks included.
    pub(super) fn ops(&self) -> Vec<OpSite<'_>> {
        self.program.as_ref().map(sites).unwrap_or_default()
    }

    /// Functions of the program.
    pub(super) fn functions(&self) -> impl Iterator<Item = (&str, &Function)> {
        let functions = self.program.iter().flat_map(|p| &p.functions);
        functions.map(|(name, f)| (name.as_str(), f))
    }
}

fn sites(program: &Program) -> Vec<OpSite<'_>> {
    fn block<'a>(function: &'a str, opset: &'a str, b: &'a Block, found: &mut Vec<OpSite<'a>>) {
        for op in &b.operations {
            found.push(OpSite {
                function,
                opset,
                op,
            });
            for inner in &op.blocks {
                block(function, opset, inner, found);
            }
        }
    }
    let mut found = Vec::new();
    for (name, f) in &program.functions {
        for (opset, b) in &f.blocks {
            block(name, opset, b, &mut found);
        }
    }
    found
}

/// The literals of an op: attributes and bound values, each with its parameter.
pub(super) fn values(op: &Operation) -> impl Iterator<Item = (&str, &Value)> {
    let bound = op.inputs.iter().flat_map(|(parameter, bindings)| {
        bindings.iter().filter_map(move |b| match b {
            Binding::Value(v) => Some((parameter.as_str(), v)),
            Binding::Name(_) => None,
        })
    });
    let attributes = op.attributes.iter().map(|(n, v)| (n.as_str(), v));
    attributes.chain(bound)
}

/// Types of all variables of a function's body, those of nested blocks left out.
pub(super) fn types(function: &Function) -> BTreeMap<&str, &ValueType> {
    let body = function.body();
    let outputs = body
        .iter()
        .flat_map(|b| &b.operations)
        .flat_map(|o| &o.outputs);
    function
        .inputs
        .iter()
        .chain(outputs)
        .map(|v| (v.name.as_str(), &v.ty))
        .collect()
}
