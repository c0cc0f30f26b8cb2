//! The lints as a page for people.

use super::{Check, all};
use std::fmt::Write;

/// Every rule in Markdown, by number. It is `docs/lints.md`.
pub fn reference() -> String {
    let lints = all();
    let checked = lints
        .iter()
        .filter(|l| matches!(l.check, Check::Static(_)))
        .count();
    let mut out = format!(
        "# Lints\n\nGenerated from the table of lints of `gesso-mil`. `gesso lint PATH` checks {checked} of these {} rules; `gesso convert` checks\n\
         what it wrote before it is moved into place. *E*: compiling or loading fails. *W*: fails on some device or system, or gives\n\
         wrong numbers. *N*: names and tools only. `gesso lint` exits with 1 when it finds an E or a W. The severity of a rule is the\n\
         worst one of its findings.\n\n| rule | name | severity | checked |\n|---|---|---|---|\n",
        lints.len()
    );
    for lint in &lints {
        let checked = match lint.check {
            Check::Static(_) => "yes",
            Check::Unchecked(_) => "no",
        };
        // Writing to a string does not fail.
        let _ = writeln!(
            out,
            "| {} | {} | {} | {checked} |",
            lint.id,
            lint.name,
            lint.severity.letter()
        );
    }
    for lint in &lints {
        let _ = write!(
            out,
            "\n## {} {}\n\nRule: {}.\n\nWhy: {}.\n\nExample: {}.\n\nSource: {}.\n",
            lint.id, lint.name, lint.rule, lint.why, lint.example, lint.source
        );
        if let Check::Unchecked(reason) = lint.check {
            let _ = write!(out, "\nNot checked: {reason}.\n");
        }
    }
    out
}
