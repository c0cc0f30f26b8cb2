//! States.

use super::subject::{Feature, Role};
use super::{Check, Lint, Report, Severity, Subject};
use crate::{Binding, Block};
use gesso_coreml::proto::specification::ArrayFeatureType;
use gesso_coreml::proto::specification::array_feature_type::ArrayDataType;
use gesso_coreml::proto::specification::feature_type::Type;
use gesso_coreml::proto::specification::state_feature_type;
use std::collections::BTreeSet;

pub(super) const LINTS: &[Lint] = &[
    Lint {
        id: "L22",
        name: "state-feature",
        severity: Severity::Error,
        rule: "a state needs version 9, is FLOAT16 (INT8 from 10), has a fixed shape, no default, and is not optional",
        why: "Apple's validator refuses it",
        source: "apple/coremltools mlmodel/src/Validation/InterfaceValidators.cpp",
        example: "a FLOAT32 state; declare FLOAT16",
        check: Check::Static(feature),
    },
    Lint {
        id: "L24",
        name: "state-returned",
        severity: Severity::Error,
        rule: "no output is the value that is written to a state, or an alias of it",
        why: "the model crashes when it is loaded",
        source: "apple/coremltools PR 2713",
        example: "`write_state(data = y)` and output `y`; return what a second `read_state` gives",
        check: Check::Static(returned),
    },
    Lint {
        id: "L25",
        name: "state-width",
        severity: Severity::Warning,
        rule: "the innermost dimension of a state is a multiple of 32",
        why: "the Neural Engine refuses other widths",
        source: "apple/coremltools issue 2631",
        example: "state [1, 8]; pad it to [1, 32]",
        check: Check::Static(width),
    },
];

fn state<'a>(f: &Feature<'a>) -> Option<Option<&'a ArrayFeatureType>> {
    match f.kind()? {
        Type::StateType(s) => Some(s.r#type.as_ref().map(|t| match t {
            state_feature_type::Type::ArrayType(a) => a,
        })),
        _ => None,
    }
}

fn feature(s: &Subject<'_>, r: &mut Report) {
    let version = s.model.specification_version;
    for f in s.features() {
        let Some(array) = state(&f) else {
            if f.role == Role::State {
                r.add(f.place(), "expected a state type");
            }
            continue;
        };
        if f.role == Role::Output {
            r.add(f.place(), "a state cannot be an output");
        }
        if version < 9 {
            r.add(
                f.place(),
                format!("a state needs version 9, found {version}"),
            );
        }
        let Some(a) = array else {
            r.add(f.place(), "expected an array in the state, found nothing");
            continue;
        };
        let int8 = a.data_type == ArrayDataType::Int8 as i32 && version >= 10;
        if a.data_type != ArrayDataType::Float16 as i32 && !int8 {
            let dtype =
                ArrayDataType::try_from(a.data_type).map_or("no dtype", |d| d.as_str_name());
            r.add(f.place(), format!("expected FLOAT16, found {dtype}"));
        }
        if a.shape.is_empty() {
            r.add(f.place(), "expected a shape, found none");
        }
        if a.shape_flexibility.is_some() {
            r.add(f.place(), "a state cannot have a flexible shape");
        }
        if a.default_optional_value.is_some() || f.optional() {
            r.add(f.place(), "a state cannot be optional or have a default");
        }
    }
}

/// Names of values written to a state, and of what they are an identity of.
fn written(b: &Block, found: &mut BTreeSet<String>) {
    for op in b.operations.iter().rev() {
        let input = |name: &str| match op.inputs.get(name)?.first()? {
            Binding::Name(n) => Some(n.clone()),
            Binding::Value(_) => None,
        };
        match op.kind.as_str() {
            "write_state" => found.extend(input("data")),
            "identity" if op.outputs.iter().any(|o| found.contains(&o.name)) => {
                found.extend(input("x"))
            }
            _ => {}
        }
        for inner in &op.blocks {
            written(inner, found);
        }
    }
    for op in b.operations.iter().filter(|op| op.kind == "identity") {
        if let Some(Binding::Name(n)) = op.inputs.get("x").and_then(|b| b.first())
            && found.contains(n)
        {
            found.extend(op.outputs.iter().map(|o| o.name.clone()));
        }
    }
}

fn returned(s: &Subject<'_>, r: &mut Report) {
    for (name, f) in s.functions() {
        let Some(b) = f.body() else { continue };
        let mut values = BTreeSet::new();
        written(b, &mut values);
        for output in b.outputs.iter().filter(|o| values.contains(*o)) {
            r.add(
                format!("function `{name}`, output `{output}`"),
                "the same value is written to a state",
            );
        }
    }
}

fn width(s: &Subject<'_>, r: &mut Report) {
    for f in s.features() {
        let Some(Some(a)) = state(&f) else { continue };
        if let Some(last) = a.shape.last().filter(|n| *n % 32 != 0) {
            r.add(
                f.place(),
                format!("the innermost dimension is {last}, expected a multiple of 32"),
            );
        }
    }
}
