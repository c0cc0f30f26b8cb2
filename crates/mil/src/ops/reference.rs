//! The op table as a page for people.

use super::{Default, OPS, Operands, Param, Row};
use std::fmt::Write;

/// The op table in Markdown, one section per op and signature, sorted by name and opset. It is `docs/ops.md`.
pub fn reference() -> String {
    let mut rows: Vec<&Row> = OPS.iter().flat_map(|g| g.iter()).collect();
    rows.sort_by_key(|r| (r.name, r.since));
    let mut out = String::from(
        "# Ops\n\nGenerated from the op table of `gesso-mil`. A signature holds from its opset on, until a newer one. Parameters with the same\n\
         letter have the same dtype; *const* ones must be known before the program runs.\n",
    );
    for row in rows {
        // Writing to a string does not fail.
        let _ = write!(
            out,
            "\n## {} ({})\n\n{}.\n\n{}\n",
            row.name, row.since, row.summary, row.shapes
        );
        match row.operands {
            Operands::Inputs => {}
            Operands::Literals => out
                .push_str("\nOperands are literals in place, or outputs of other constexpr ops.\n"),
            Operands::Attributes => out.push_str("\nOperands are attributes.\n"),
        }
        if row.params.is_empty() {
            continue;
        }
        out.push_str("\n| parameter | dtypes | when left out |\n|---|---|---|\n");
        for p in row.params {
            let _ = writeln!(out, "| {} | {} | {} |", name(p), dtypes(p), default(p));
        }
    }
    out
}

fn name(p: &Param) -> String {
    let constant = if p.constant { ", const" } else { "" };
    let several = if p.variadic { ", several" } else { "" };
    format!("`{}`{constant}{several}", p.name)
}

fn dtypes(p: &Param) -> String {
    let words: Vec<&str> = p.domain.types.iter().map(|t| t.word()).collect();
    let class = p.domain.class.map_or(String::new(), |c| format!("{c}: "));
    if words.is_empty() {
        return "any type".into();
    }
    format!("{class}{}", words.join(", "))
}

fn default(p: &Param) -> String {
    match p.default {
        Default::Required => "required".into(),
        Default::Absent => "nothing".into(),
        Default::Int(i) => i.to_string(),
        Default::Bool(b) => b.to_string(),
        Default::Float(x) => format!("{x:?}"),
        Default::String(s) => format!("`{s}`"),
        Default::Repeat(i) => format!("{i} everywhere"),
        Default::RepeatBool(b) => format!("{b} everywhere"),
    }
}
