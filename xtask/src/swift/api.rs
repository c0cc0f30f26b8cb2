//! `cargo xtask swift api-check`: the module `CoreML` against the table of Apple's declarations, and that table against
//! the crate `objc2-core-ml`; and what the runtime uses of it against the package's floor.

use super::objc::{Headers, headers};
use super::table::{Declaration, Row, apple, declarations, list};
use super::{availability, graph, swift};
use anyhow::{Context, bail};
use serde_json::Value;
use std::collections::BTreeSet;

/// What Apple's module declares.
const APPLE: &str = include_str!("../../../crates/runtime-swift/api/apple.tsv");
/// What of that the module leaves out, with the reason.
const ABSENT: &str = include_str!("../../../crates/runtime-swift/api/absent.tsv");
/// What the module declares and the table does not list, with the reason.
const BEYOND: &str = include_str!("../../../crates/runtime-swift/api/beyond.tsv");

/// Extracts the symbol graph of the module that `swift build` or `swift test` has built, and compares.
pub(super) fn run() -> anyhow::Result<bool> {
    let rows = apple(APPLE).context("`api/apple.tsv`")?;
    let absent = list(ABSENT).context("`api/absent.tsv`")?;
    let beyond = list(BEYOND).context("`api/beyond.tsv`")?;
    let module = graph::declarations(&graphs()?)?;
    let mut findings = differences(&module, &declarations(&rows), &absent, &beyond);
    let headers = headers()?;
    findings.extend(rows.iter().flat_map(|row| against(row, &headers)));
    findings.extend(availability::findings(&rows)?);
    for finding in &findings {
        eprintln!("{finding}");
    }
    eprintln!(
        "api-check: {} declarations of the module, {} of Apple's table, {} of them left out, {} beyond it;",
        module.len(),
        declarations(&rows).len(),
        absent.len(),
        beyond.len()
    );
    let selectors = rows.iter().filter(|row| !row.selector.is_empty()).count();
    let values = rows.iter().filter(|row| row.raw_value.is_some()).count();
    eprintln!(
        "  {selectors} selectors and {values} numbers of the table held against `objc2-core-ml`; {} findings",
        findings.len()
    );
    Ok(findings.is_empty())
}

/// Where SwiftPM puts the modules of a debug build.
const MODULES: &str = ".build/debug/Modules";

fn graphs() -> anyhow::Result<Vec<Value>> {
    let folder = super::target_folder().join("swift-api");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder)?;
    let information = swift(&["swift", "-print-target-info"])?;
    let information: Value = serde_json::from_slice(&information)?;
    let triple = information["target"]["triple"]
        .as_str()
        .context("`swift -print-target-info` names no triple")?
        .to_owned();
    let out = folder.to_string_lossy().into_owned();
    swift(&[
        "swift-symbolgraph-extract",
        "-module-name",
        "CoreML",
        "-target",
        &triple,
        "-I",
        MODULES,
        "-I",
        "crates/runtime-swift/Sources/CGesso",
        "-minimum-access-level",
        "public",
        "-output-dir",
        &out,
    ])?;
    let mut graphs = Vec::new();
    for entry in std::fs::read_dir(&folder)? {
        let path = entry?.path();
        let text = std::fs::read(&path)?;
        graphs.push(serde_json::from_slice(&text).with_context(|| path.display().to_string())?);
    }
    if graphs.is_empty() {
        bail!("`swift-symbolgraph-extract` wrote nothing to `{out}`");
    }
    Ok(graphs)
}

/// Where the module and the table differ and neither list says so, and what the lists say that is not so.
fn differences(
    module: &BTreeSet<Declaration>,
    apple: &BTreeSet<Declaration>,
    absent: &BTreeSet<Declaration>,
    beyond: &BTreeSet<Declaration>,
) -> Vec<String> {
    let mut findings = Vec::new();
    let mut say = |found: Vec<&Declaration>, what: &str| {
        for (path, declaration) in found {
            findings.push(format!("`{path}`: `{declaration}`\n  {what}"));
        }
    };
    let extra = module.iter().filter(|d| !apple.contains(*d));
    say(
        extra.filter(|d| !beyond.contains(*d)).collect(),
        "declared here, but not by Apple's module",
    );
    let missing = apple.iter().filter(|d| !module.contains(*d));
    say(
        missing.filter(|d| !absent.contains(*d)).collect(),
        "declared by Apple's module, but not here; `api/absent.tsv` says nothing of it",
    );
    say(
        absent.intersection(module).collect(),
        "`api/absent.tsv` says that it is left out, but it is declared",
    );
    say(
        absent.difference(apple).collect(),
        "`api/absent.tsv` names it, but Apple's table does not",
    );
    say(
        beyond.difference(module).collect(),
        "`api/beyond.tsv` names it, but it is not declared",
    );
    say(
        beyond.intersection(apple).collect(),
        "`api/beyond.tsv` names it, but Apple's table has it",
    );
    findings
}

/// Names in Objective-C of nested enums that are called otherwise there; the others are called by their path without dots.
const OBJECTIVE_C: &[(&str, &str)] = &[
    ("MLModelError.Code", "MLModelError"),
    (
        "MLOptimizationHints.ReshapeFrequency",
        "MLReshapeFrequencyHint",
    ),
    (
        "MLOptimizationHints.SpecializationStrategy",
        "MLSpecializationStrategy",
    ),
];

/// Where a row of the table and Apple's headers, as the crate has them, differ.
fn against(row: &Row, headers: &Headers) -> Vec<String> {
    let path = &row.path;
    let parent = match row.kind.as_str() {
        "class" | "protocol" | "struct" | "enum" => path.as_str(),
        _ => {
            let name = path.split_once('(').map_or(path.as_str(), |(name, _)| name);
            name.rsplit_once('.').map_or(name, |(parent, _)| parent)
        }
    };
    let class = OBJECTIVE_C
        .iter()
        .find(|(swift, _)| *swift == parent)
        .map_or_else(|| parent.replace('.', ""), |(_, class)| (*class).into());
    let class = class.as_str();
    let mut findings = Vec::new();
    let selectors = headers.selectors.get(class);
    let has = |selector: &str| selectors.is_some_and(|all| all.contains(selector));
    if !row.selector.is_empty() && row.selector != "initWithCoder:" {
        if row.selector.starts_with("ML") {
            if !headers.constants.contains(&row.selector) {
                findings.push(format!(
                    "`{path}`: the headers have no constant `{}`",
                    row.selector
                ));
            }
        } else if !has(&row.selector) {
            findings.push(format!(
                "`{path}`: `{class}` has no selector `{}`",
                row.selector
            ));
        } else if row.kind == "property" {
            let (first, rest) = row.selector.split_at(1);
            let setter = has(&format!("set{}{rest}:", first.to_uppercase()));
            if setter != row.declaration.ends_with("{get set}") {
                findings.push(format!(
                    "`{path}`: whether it can be set is not as in the headers"
                ));
            }
        }
    }
    if let (Some(value), Some(values)) = (row.raw_value, headers.values.get(class)) {
        let name = path.rsplit('.').next().unwrap_or(path).to_lowercase();
        if values.get(&name) != Some(&value) {
            let found = values.get(&name);
            findings.push(format!(
                "`{path}`: {value} in the table, {found:?} in the headers"
            ));
        }
    } else if row.raw_value.is_some() {
        findings.push(format!("`{path}`: the headers have no enum `{class}`"));
    }
    let is_class = row.kind == "class" && selectors.is_some() && row.owner == row.path;
    let marked = headers.sendable.contains(class);
    if is_class && row.sendable.is_some_and(|sendable| sendable != marked) {
        findings.push(format!(
            "`{path}`: whether it is Sendable is not as in the headers"
        ));
    }
    findings
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn set(all: &[(&str, &str)]) -> BTreeSet<Declaration> {
        all.iter()
            .map(|(a, b)| ((*a).into(), (*b).into()))
            .collect()
    }

    #[test]
    fn every_kind_of_difference_is_found() {
        let apple = set(&[
            ("A", "class A"),
            ("A.f()", "func f()"),
            ("A.g()", "func g()"),
        ]);
        let same = set(&[("A", "class A"), ("A.f()", "func f()")]);
        let g = set(&[("A.g()", "func g()")]);
        let none = BTreeSet::new();
        assert_eq!(differences(&same, &apple, &g, &none), Vec::<String>::new());

        let doctored = set(&[("A", "class A"), ("A.f()", "func f()throws")]);
        let found = differences(&doctored, &apple, &g, &none).join("\n");
        assert!(
            found.contains("`func f()throws`\n  declared here"),
            "{found}"
        );
        assert!(found.contains("`func f()`\n  declared by Apple"), "{found}");

        let marked = set(&[("A", "class A"), ("A", ": Sendable"), ("A.f()", "func f()")]);
        assert_eq!(differences(&marked, &apple, &g, &none).len(), 1);
        let beyond = set(&[("A", ": Sendable")]);
        assert_eq!(differences(&marked, &apple, &g, &beyond).len(), 0);

        assert_eq!(
            differences(&apple, &apple, &g, &none).len(),
            1,
            "listed as absent"
        );
        assert_eq!(
            differences(&same, &apple, &g, &g).len(),
            2,
            "beyond it, and not declared"
        );
        let gone = set(&[("A.g()", "func g()"), ("A.h()", "func h()")]);
        assert_eq!(
            differences(&same, &apple, &gone, &none).len(),
            1,
            "not Apple's"
        );
    }

    #[test]
    fn a_doctored_symbol_graph_is_found() {
        let graph = |result: &str| {
            serde_json::json!({"symbols": [{
                "identifier": {"precise": "a"}, "accessLevel": "public", "pathComponents": ["A", "f()"],
                "declarationFragments": [{"kind": "keyword", "spelling": "func"}, {"kind": "text", "spelling": " "},
                    {"kind": "identifier", "spelling": "f"}, {"kind": "text", "spelling": "() -> "},
                    {"kind": "typeIdentifier", "spelling": result}]}]})
        };
        let row = "A\tmethod\tA.f()\tfunc f() -> Int\t\t\t\t\t\t";
        let apple = declarations(&apple(&format!("h\n{row}")).unwrap());
        let none = BTreeSet::new();
        let check = |graph: Value| {
            let module = graph::declarations(&[graph]).unwrap();
            differences(&module, &apple, &none, &none).len()
        };
        assert_eq!(check(graph("Int")), 0);
        assert_eq!(
            check(graph("Int32")),
            2,
            "one that is Apple's is missing, one is not"
        );
        assert_eq!(check(serde_json::json!({})), 1, "missing");
    }

    #[test]
    fn the_table_is_held_against_the_headers() {
        let head = "h\n";
        let row = |cells: &str| {
            let mut rows = apple(&format!("{head}{cells}")).unwrap();
            rows.remove(0)
        };
        let mut headers = Headers::default();
        let selectors = ["units", "setUnits:", "load:"].map(String::from);
        headers.selectors.insert("MLA".into(), selectors.into());
        headers
            .values
            .insert("MLE".into(), [("all".into(), 2)].into());
        headers.sendable.insert("MLA".into());
        for (cells, findings) in [
            ("MLA\tclass\tMLA\tclass MLA\t\t\t\t\tyes\t", 0),
            ("MLA\tclass\tMLA\tclass MLA\t\t\t\t\tno\t", 1),
            (
                "MLA\tmethod\tMLA.load(_:)\tfunc load(_ a: A)\tload:\t\t\t\t\t",
                0,
            ),
            (
                "MLA\tmethod\tMLA.load(_:)\tfunc load(_ a: A)\tload:to:\t\t\t\t\t",
                1,
            ),
            (
                "MLA\tproperty\tMLA.units\tvar units: U { get set }\tunits\t\t\t\t\t",
                0,
            ),
            (
                "MLA\tproperty\tMLA.units\tvar units: U { get }\tunits\t\t\t\t\t",
                1,
            ),
            ("MLE\tenum case\tMLE.all\tcase all\t\t\t\t2\t\t", 0),
            ("MLE\tenum case\tMLE.all\tcase all\t\t\t\t3\t\t", 1),
        ] {
            assert_eq!(against(&row(cells), &headers).len(), findings, "{cells}");
        }
    }
}
