//! The program as a whole: what the verifier finds.

use super::{Check, Lint, Report, Severity, Subject, UNCHECKED_OPS};
use crate::ops::{self, Opset};
use crate::{Finding, Rule};
use std::collections::BTreeMap;

pub(super) const LINTS: &[Lint] = &[
    Lint {
        id: "L4",
        name: "op-signature",
        severity: Severity::Error,
        rule: "every op exists in its function's opset, with the parameters and dtypes of that opset",
        why: "the compiler reports an operator that does not match the one of the expected opset",
        source: "ggml-org/whisper.cpp issue 1295",
        example: "`scaled_dot_product_attention` in opset `CoreML7`; it exists from `CoreML8` on",
        check: Check::Static(signature),
    },
    Lint {
        id: "L8",
        name: "rank",
        severity: Severity::Error,
        rule: "tensors have at most five dimensions, operands of constexpr ops excepted",
        why: "the compiler refuses more",
        source: "apple/coremltools issues 832, 1330, 1723, 2291",
        example: "a reshape to [1, 2, 3, 4, 5, 6]; merge two dimensions",
        check: Check::Static(|s, r| s.verified_by(Rule::Rank, r)),
    },
    Lint {
        id: "L28",
        name: "text-form",
        severity: Severity::Error,
        rule: "the text of a compiled model can be read: no brackets around several outputs, path and offset of a BLOBFILE are typed literals",
        why: "the loader refuses the text",
        source: "rebeckerspecialties/mlmodelc-export src/emitter.rs",
        example: "`(a, b) = split(…)`; write `tensor<…> a, tensor<…> b = split(…)`",
        check: Check::Static(text),
    },
    Lint {
        id: "L29",
        name: "scope",
        severity: Severity::Error,
        rule: "every variable is defined before its use, in this block or one around it, and once",
        why: "the compiler cannot find the variable",
        source: "apple/coremltools issue 2441",
        example: "`relu(x = y)` before the op that makes `y`",
        check: Check::Static(|s, r| s.verified_by(Rule::Scope, r)),
    },
    Lint {
        id: "L30",
        name: "types",
        severity: Severity::Error,
        rule: "shapes fit together, and the declared type of every output is the computed one",
        why: "the compiler compares them",
        source: "huggingface/swift-transformers issue 136",
        example: "`conv` declared [1, 33, 8, 8] with a weight of 32 outputs",
        check: Check::Static(|s, r| s.verified_by(Rule::Type, r)),
    },
    Lint {
        id: "L46",
        name: "program-form",
        severity: Severity::Error,
        rule: "the program has version 1 and a function, its messages are complete, and literals hold what their type says",
        why: "the compiler refuses the program",
        source: "apple/coremltools mlmodel/format/MIL.proto; coremltools/converters/mil/frontend/milproto/load.py",
        example: "a const of type [2] with three elements",
        check: Check::Static(form),
    },
];

impl Subject<'_> {
    /// Reports what the verifier found against a rule.
    pub(super) fn verified_by(&self, rule: Rule, r: &mut Report) {
        for finding in self.verified.iter().filter(|f| f.rule == rule) {
            r.add(place(finding), finding.text.clone());
        }
    }
}

fn place(finding: &Finding) -> String {
    if finding.function.is_empty() {
        return String::new();
    }
    format!("function `{}`", finding.function)
}

fn signature(s: &Subject<'_>, r: &mut Report) {
    let sites = s.ops();
    // The first op of each kind without a row, with the number of them.
    let mut unchecked: BTreeMap<&str, (String, usize)> = BTreeMap::new();
    for site in &sites {
        let kind = site.op.kind.as_str();
        let opset = Opset::from_name(site.opset);
        let there = UNCHECKED_OPS
            .iter()
            .any(|(name, since)| *name == kind && opset.is_some_and(|o| *since <= o));
        if there && !ops::is_known(kind) {
            unchecked.entry(kind).or_insert_with(|| (site.place(), 0)).1 += 1;
        }
    }
    for finding in s.verified.iter().filter(|f| f.rule == Rule::Signature) {
        let mut same = sites.iter().filter(|site| {
            site.function == finding.function
                && site
                    .op
                    .outputs
                    .first()
                    .map_or(site.op.kind.as_str(), |o| o.name.as_str())
                    == finding.op
        });
        if !same.any(|site| unchecked.contains_key(site.op.kind.as_str())) {
            r.add(place(finding), finding.text.clone());
        }
    }
    for (kind, (place, count)) in unchecked {
        let text =
            format!("the types of `{kind}` ({count} ops) are taken as declared, not checked");
        r.with(Severity::Note, place, text);
    }
}

fn text(s: &Subject<'_>, r: &mut Report) {
    for text in &s.facts.text {
        r.add("", text.clone());
    }
}

fn form(s: &Subject<'_>, r: &mut Report) {
    if let Some(text) = &s.unreadable {
        r.add("", text.clone());
    }
    s.verified_by(Rule::Form, r);
    s.verified_by(Rule::Literal, r);
}
