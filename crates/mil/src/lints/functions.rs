//! Functions: what the description says against what the program has.

use super::subject::{Feature, Role, types};
use super::{Check, Lint, Report, Severity, Subject};
use crate::{DType, Dim, Function, TensorType, ValueType};
use gesso_coreml::proto::specification::array_feature_type::ArrayDataType;
use gesso_coreml::proto::specification::feature_type::Type;
use gesso_coreml::proto::specification::{ArrayFeatureType, state_feature_type};
use std::collections::BTreeMap;

pub(super) const LINTS: &[Lint] = &[
    Lint {
        id: "L23",
        name: "description-agrees",
        severity: Severity::Error,
        rule: "the description and the program have the same functions with the same inputs, outputs and states, by name, dtype and shape",
        why: "the compiler reports a program input that is not among the model's inputs, or a state that must be one",
        source: "apple/coremltools issues 2278, 2519",
        example: "description input `x` of FLOAT16, program input `x` of fp32",
        check: Check::Static(agrees),
    },
    Lint {
        id: "L26",
        name: "functions-form",
        severity: Severity::Error,
        rule: "several functions need version 9, no features at the top, and a default name that is one of them; without functions there is no default name",
        why: "Apple's validator refuses it",
        source: "apple/coremltools mlmodel/src/Validation/InterfaceValidators.cpp",
        example: "functions `a` and `b`, default `main`; name `a` or `b`",
        check: Check::Static(form),
    },
    Lint {
        id: "L27",
        name: "functions-memory",
        severity: Severity::Warning,
        rule: "a model has one function, or its memory with all functions loaded is acceptable",
        why: "memory grows with every function loaded, and a VAE decoder with two functions crashed on iOS 18; reported as a note, because only a device can tell",
        source: "apple/coremltools issues 2351, 2414",
        example: "three functions in one UNet; measure before shipping",
        check: Check::Static(memory),
    },
    Lint {
        id: "L31",
        name: "pass-through",
        severity: Severity::Error,
        rule: "no output is an input, untouched or through an identity, and every input is used (a warning)",
        why: "the compiler takes a returned input for a description of several functions, and cannot bind an unused one",
        source: "rustnn/rustnn tests of graph edge cases",
        example: "output `x` of input `x`; multiply by 1 or leave it out",
        check: Check::Static(pass_through),
    },
];

fn agrees(s: &Subject<'_>, r: &mut Report) {
    let Some(program) = &s.program else { return };
    let interfaces = s.interfaces();
    for name in program.functions.keys() {
        if !interfaces.iter().any(|i| i.function == name) {
            r.add(
                format!("function `{name}`"),
                "the description does not mention it",
            );
        }
    }
    for i in &interfaces {
        let Some(function) = program.functions.get(i.function) else {
            r.add(
                format!("function `{}`", i.function),
                "the program has no such function",
            );
            continue;
        };
        let mentioned = |name: &str| i.input.iter().chain(i.state).any(|f| f.name == name);
        for input in function.inputs.iter().filter(|v| !mentioned(&v.name)) {
            let what = if matches!(input.ty, ValueType::State(_)) {
                "state"
            } else {
                "input"
            };
            r.add(
                format!("function `{}`, {what} `{}`", i.function, input.name),
                "the program has it, but the description does not",
            );
        }
        let outputs = function
            .body()
            .map(|b| b.outputs.as_slice())
            .unwrap_or_default();
        for name in outputs
            .iter()
            .filter(|n| !i.output.iter().any(|f| f.name == **n))
        {
            r.add(
                format!("function `{}`, output `{name}`", i.function),
                "the program returns it, but the description does not mention it",
            );
        }
    }
    let all: BTreeMap<_, _> = s.functions().map(|(name, f)| (name, types(f))).collect();
    for f in s.features() {
        if let (Some(function), Some(types)) =
            (program.functions.get(f.function), all.get(f.function))
            && let Some(text) = differs(&f, function, types)
        {
            r.add(f.place(), text);
        }
    }
}

/// How a feature differs from the program.
fn differs(
    f: &Feature<'_>,
    function: &Function,
    types: &BTreeMap<&str, &ValueType>,
) -> Option<String> {
    let name = f.it.name.as_str();
    let there = match f.role {
        Role::Output => function
            .body()
            .is_some_and(|b| b.outputs.iter().any(|o| o == name)),
        Role::Input | Role::State => function.inputs.iter().any(|i| i.name == name),
    };
    if !there {
        return Some("the program does not have it".into());
    }
    let ty = types.get(name)?;
    match (f.kind()?, ty) {
        (Type::StateType(state), ValueType::State(inner)) => {
            let state_feature_type::Type::ArrayType(a) = state.r#type.as_ref()?;
            array(a, inner.as_tensor()?, f.role)
        }
        (Type::StateType(_), other) => Some(format!("a state, but the program has it as {other}")),
        (_, ValueType::State(_)) => {
            Some("the program has it as a state, expected it among the states".into())
        }
        (Type::MultiArrayType(a), ValueType::Tensor(t)) => array(a, t, f.role),
        (Type::MultiArrayType(_), other) => {
            Some(format!("an array, but the program has it as {other}"))
        }
        _ => None,
    }
}

fn array(a: &ArrayFeatureType, t: &TensorType, role: Role) -> Option<String> {
    let dtype = ArrayDataType::try_from(a.data_type).ok()?;
    let fits = match dtype {
        ArrayDataType::InvalidArrayDataType => true,
        ArrayDataType::Float16 => t.dtype == DType::Fp16,
        ArrayDataType::Float32 => t.dtype == DType::Fp32,
        ArrayDataType::Double => t.dtype.is_float(),
        ArrayDataType::Int8 => t.dtype == DType::Int8,
        ArrayDataType::Int32 => t.dtype == DType::Int32,
    };
    if !fits {
        return Some(format!(
            "{} in the description, {t} in the program",
            dtype.as_str_name()
        ));
    }
    if role == Role::Output && a.shape.is_empty() {
        return None;
    }
    let same = a.shape.len() == t.rank()
        && a.shape.iter().zip(&t.dims).all(|(&n, d)| match d {
            Dim::Fixed(size) => usize::try_from(n).is_ok_and(|n| n == *size),
            Dim::Unknown { .. } => true,
        });
    let any_rank = t.dims.contains(&Dim::Unknown { variadic: true });
    (!same && !any_rank)
        .then(|| format!("shape {:?} in the description, {t} in the program", a.shape))
}

fn form(s: &Subject<'_>, r: &mut Report) {
    let (d, version) = (&s.description, s.model.specification_version);
    let default = &d.default_function_name;
    if d.functions.is_empty() {
        if !default.is_empty() {
            r.add("", format!("the default function is `{default}`, but there is no function in the description"));
        }
        let count = s.program.as_ref().map_or(0, |p| p.functions.len());
        if count > 1 {
            r.add(
                "",
                format!("the program has {count} functions, but the description names none"),
            );
        }
        return;
    }
    if version < 9 {
        r.add("", format!("functions need version 9, found {version}"));
    }
    let top = !d.input.is_empty()
        || !d.output.is_empty()
        || !d.state.is_empty()
        || !d.predicted_feature_name.is_empty()
        || !d.predicted_probabilities_name.is_empty();
    if top {
        r.add(
            "",
            "features at the top of the description do not go with functions",
        );
    }
    if !d.functions.iter().any(|f| f.name == *default) {
        r.add(
            "",
            format!("the default function `{default}` is not one of the functions"),
        );
    }
}

fn memory(s: &Subject<'_>, r: &mut Report) {
    let count = s.description.functions.len();
    if count > 1 {
        r.with(
            Severity::Note,
            "",
            format!("{count} functions; each that is loaded takes memory of its own"),
        );
    }
}

fn pass_through(s: &Subject<'_>, r: &mut Report) {
    for (name, f) in s.functions() {
        let Some(b) = f.body() else { continue };
        // Aliases: variable → the input that it is.
        let mut alias: BTreeMap<&str, &str> = f
            .inputs
            .iter()
            .map(|i| (i.name.as_str(), i.name.as_str()))
            .collect();
        for op in b.operations.iter().filter(|op| op.kind == "identity") {
            let source = op.inputs.get("x").and_then(|b| b.first());
            if let (Some(crate::Binding::Name(x)), Some(out)) = (source, op.outputs.first())
                && let Some(&input) = alias.get(x.as_str())
            {
                alias.insert(&out.name, input);
            }
        }
        for output in &b.outputs {
            if let Some(input) = alias.get(output.as_str()) {
                r.add(
                    format!("function `{name}`, output `{output}`"),
                    format!("it is input `{input}` untouched"),
                );
            }
        }
        let mut used = std::collections::BTreeSet::new();
        for site in s.ops().iter().filter(|site| site.function == name) {
            for binding in site.op.inputs.values().flatten() {
                if let crate::Binding::Name(n) = binding {
                    used.insert(n.clone());
                }
            }
            used.extend(
                site.op
                    .blocks
                    .iter()
                    .flat_map(|b| b.outputs.iter().cloned()),
            );
        }
        for input in f
            .inputs
            .iter()
            .filter(|i| !used.contains(&i.name) && !b.outputs.contains(&i.name))
        {
            r.with(
                Severity::Warning,
                format!("function `{name}`, input `{}`", input.name),
                "no op uses it",
            );
        }
    }
}
