//! Lints: rules that Apple's stack enforces or breaks on, each with its reason and source.
//!
//! Everything here is pure. What only a file system knows (sizes, records of weight files, the manifest) is handed in as
//! [`Facts`].

mod constexpr;
mod device;
mod facts;
mod features;
mod flexible;
mod functions;
mod names;
mod operands;
mod program;
mod reference;
mod state;
mod subject;
mod unchecked_ops;
mod versions;
mod weights;

pub use reference::reference;
pub use subject::{Facts, Record, Subject, WeightFile, blobs};
pub use unchecked_ops::UNCHECKED_OPS;

use gesso_coreml::proto::specification::{Model, model};
use std::fmt;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Compiling or loading fails.
    Error,
    /// Fails on some device or system, or gives wrong numbers.
    Warning,
    /// Names and tools only.
    Note,
}

impl Severity {
    /// `error`, `warning` or `note`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }

    /// `E`, `W` or `N`.
    pub fn letter(self) -> &'static str {
        match self {
            Self::Error => "E",
            Self::Warning => "W",
            Self::Note => "N",
        }
    }
}

/// How a rule is checked.
#[derive(Clone, Copy, Debug)]
pub enum Check {
    /// By this function.
    Static(fn(&Subject<'_>, &mut Report)),
    /// Not at all, for this reason.
    Unchecked(&'static str),
}

/// One rule.
#[derive(Clone, Copy, Debug)]
pub struct Lint {
    /// Number of the rule, for instance `L5`.
    pub id: &'static str,
    /// Name, words joined by hyphens.
    pub name: &'static str,
    /// The worst severity of its findings.
    pub severity: Severity,
    /// What must hold.
    pub rule: &'static str,
    /// What happens otherwise.
    pub why: &'static str,
    /// Where that was seen.
    pub source: &'static str,
    /// What is found, and what would be right.
    pub example: &'static str,
    /// How it is checked.
    pub check: Check,
}

/// Every rule, by group.
pub const LINTS: &[&[Lint]] = &[
    versions::LINTS,
    names::LINTS,
    features::LINTS,
    flexible::LINTS,
    state::LINTS,
    functions::LINTS,
    program::LINTS,
    operands::LINTS,
    constexpr::LINTS,
    weights::LINTS,
    device::LINTS,
];

/// Every rule in the order of its number.
pub fn all() -> Vec<&'static Lint> {
    let mut lints: Vec<_> = LINTS.iter().flat_map(|group| group.iter()).collect();
    lints.sort_by_key(|lint| lint.id[1..].parse::<u32>().unwrap_or(u32::MAX));
    lints
}

/// Something that a rule found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Number of the rule.
    pub id: &'static str,
    /// Name of the rule.
    pub name: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// Where: function, op, feature or file; empty for the model as a whole.
    pub place: String,
    /// What is wrong: expected and found.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (severity, id, name) = (self.severity.word(), self.id, self.name);
        write!(f, "{severity} {id} {name}: ")?;
        if !self.place.is_empty() {
            write!(f, "{}: ", self.place)?;
        }
        f.write_str(&self.text)
    }
}

/// Findings of one rule while it is checked.
#[derive(Debug)]
pub struct Report {
    lint: &'static Lint,
    findings: Vec<Finding>,
}

impl Report {
    /// Adds a finding of the rule's severity.
    pub fn add(&mut self, place: impl Into<String>, text: impl Into<String>) {
        self.with(self.lint.severity, place, text);
    }

    /// Adds a finding of another, milder severity.
    pub fn with(&mut self, severity: Severity, place: impl Into<String>, text: impl Into<String>) {
        self.findings.push(Finding {
            id: self.lint.id,
            name: self.lint.name,
            severity: severity.max(self.lint.severity),
            place: place.into(),
            text: text.into(),
        });
    }
}

/// Every finding of every rule, the worst first, then by number of the rule; members of a pipeline are checked each.
pub fn run(model: &Model, facts: &Facts) -> Vec<Finding> {
    let mut findings = one(model, facts);
    if let Some(model::Type::Pipeline(pipeline)) = &model.r#type {
        for (index, member) in pipeline.models.iter().enumerate() {
            let file_facts = Facts {
                manifest: Vec::new(),
                text: Vec::new(),
                ..facts.clone()
            };
            for mut finding in one(member, &file_facts) {
                finding.place = format!("model {index} {}", finding.place);
                findings.push(finding);
            }
        }
    }
    let number = |f: &Finding| f.id[1..].parse::<u32>().unwrap_or(u32::MAX);
    findings.sort_by_key(|f| (f.severity, number(f)));
    findings
}

fn one(model: &Model, facts: &Facts) -> Vec<Finding> {
    let subject = Subject::new(model, facts);
    let mut findings = Vec::new();
    for lint in LINTS.iter().flat_map(|group| group.iter()) {
        if let Check::Static(check) = lint.check {
            let mut report = Report {
                lint,
                findings: Vec::new(),
            };
            check(&subject, &mut report);
            findings.extend(report.findings);
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_complete_and_names_unique() {
        let lints = all();
        let ids: Vec<String> = lints.iter().map(|l| l.id.to_string()).collect();
        let expected: Vec<String> = (1..=lints.len()).map(|n| format!("L{n}")).collect();
        assert_eq!(ids, expected);
        assert!(lints.len() >= 44);
        let names: std::collections::BTreeSet<_> = lints.iter().map(|l| l.name).collect();
        assert_eq!(names.len(), lints.len());
        for lint in lints {
            for text in [lint.rule, lint.why, lint.source, lint.example] {
                assert!(!text.is_empty(), "{}", lint.id);
            }
        }
    }
}
