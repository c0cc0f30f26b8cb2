//! The op table against the signatures of coremltools.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use gesso_mil::ops::{Default, OPS, Opset, Row, row};
use std::collections::{BTreeMap, BTreeSet};

/// Parameters as `required|constant|dtypes` by name.
type Signature = BTreeMap<String, String>;

fn ours(row: &Row) -> Signature {
    let field = |p: &gesso_mil::ops::Param| {
        let required = if p.default == Default::Required {
            "required"
        } else {
            "optional"
        };
        let constant = if p.constant { "constant" } else { "variable" };
        let mut types: Vec<&str> = p.domain.types.iter().map(|t| t.word()).collect();
        types.sort_unstable();
        // Where the original names no dtypes (tuples of tensors) ours are not compared.
        format!("{required}|{constant}|{}", types.join(","))
    };
    row.params
        .iter()
        .map(|p| (p.name.to_string(), field(p)))
        .collect()
}

#[test]
fn signatures_are_those_of_coremltools() {
    let path = gesso_testkit::fixture("ops/signatures.tsv");
    let known: BTreeSet<&str> = OPS.iter().flat_map(|g| g.iter()).map(|r| r.name).collect();
    let mut differences = Vec::new();
    let mut compared = 0;
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let mut fields = line.split('\t');
        let (name, opset) = (fields.next().unwrap(), fields.next().unwrap());
        if !known.contains(name) || name == "const" {
            continue;
        }
        let theirs: Signature = fields
            .map(|f| f.split_once('|').unwrap())
            .map(|(n, s)| (n.to_string(), s.to_string()))
            .collect();
        let Some(row) = row(name, Opset::from_name(opset).unwrap()) else {
            differences.push(format!("{name} {opset}: missing"));
            continue;
        };
        compared += 1;
        let mut ours = ours(row);
        for (parameter, theirs) in &theirs {
            match ours.remove(parameter) {
                None => differences.push(format!("{name} {opset} {parameter}: missing")),
                Some(s) if theirs.ends_with('|') && s.starts_with(theirs.as_str()) => {}
                Some(s) if s == *theirs => {}
                Some(s) => {
                    differences.push(format!("{name} {opset} {parameter}: {s} is not {theirs}"))
                }
            }
        }
        differences.extend(
            ours.keys()
                .map(|p| format!("{name} {opset} {p}: not theirs")),
        );
    }
    assert!(compared > 300, "{compared}");
    assert_eq!(differences, Vec::<String>::new());
}
