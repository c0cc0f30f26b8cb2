//! Names.

use super::{Check, Lint, Report, Severity, Subject};
use crate::Rule;

pub(super) const LINTS: &[Lint] = &[
    Lint {
        id: "L5",
        name: "identifiers",
        severity: Severity::Error,
        rule: "names of variables and functions match [A-Za-z_][A-Za-z0-9_@]*",
        why: "the compiler writes them to the text form as they are and cannot read them again",
        source: "apple/coremltools mlmodel/format/MIL.proto; apple/coremltools issue 1494",
        example: "variable `1a-b`; call it `a_b`",
        check: Check::Static(|s, r| s.verified_by(Rule::Name, r)),
    },
    Lint {
        id: "L6",
        name: "reserved-words",
        severity: Severity::Error,
        rule: "no variable is named like a word of the text form",
        why: "the text form reads `tensor`, `fp16` or `state` as types",
        source: "apple/coremltools issue 1634; coremltools/converters/mil/mil/passes/defs/preprocess.py",
        example: "variable `tensor`; call it `tensor_0`",
        check: Check::Static(|s, r| s.verified_by(Rule::Reserved, r)),
    },
    Lint {
        id: "L7",
        name: "feature-names",
        severity: Severity::Note,
        rule: "feature names hold no `-`, `/`, `:`, `.` or space and do not begin with a digit",
        why: "Xcode makes a Swift class with a property for each feature, which then does not compile",
        source: "apple/coremltools issue 117; tf-coreml/tf-coreml issues 42, 64",
        example: "output `noise.pred`; call it `noise_pred`",
        check: Check::Static(features),
    },
    Lint {
        id: "L45",
        name: "op-names",
        severity: Severity::Note,
        rule: "every op has an attribute `name`",
        why: "tools that show compute plans and profiles have no other name for it; Apple's compiler takes ops without",
        source: "mlmodelc-export fixtures, compiled by Apple's compiler",
        example: "`relu` without `name`; add `name = \"relu_0\"`",
        check: Check::Static(ops),
    },
];

fn features(s: &Subject<'_>, r: &mut Report) {
    for f in s.features() {
        let name = &f.it.name;
        let bad = name.chars().find(|c| "-/:. ".contains(*c));
        if let Some(c) = bad {
            r.add(f.place(), format!("the name holds `{c}`"));
        } else if name.starts_with(|c: char| c.is_ascii_digit()) {
            r.add(f.place(), "the name begins with a digit");
        }
    }
}

fn ops(s: &Subject<'_>, r: &mut Report) {
    let sites = s.ops();
    let mut nameless = sites
        .iter()
        .filter(|site| !site.op.attributes.contains_key("name"));
    if let Some(first) = nameless.next() {
        let count = nameless.count() + 1;
        r.add(
            first.place(),
            format!(
                "{count} of {} ops have no name; this is the first",
                sites.len()
            ),
        );
    }
}
