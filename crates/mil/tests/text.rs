//! Apple's compiled programs and the samples' texts, through the parser and the printer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use gesso_mil::text::{parse, print};
use std::path::Path;

/// Every `model.mil` below `folder`.
fn programs(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    let mut entries: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            programs(&path, found);
        } else if path
            .file_name()
            .is_some_and(|n| n == "model.mil" || n == "program.mil.txt")
        {
            found.push(path);
        }
    }
}

fn prints_back(path: &Path) {
    let text = std::fs::read_to_string(path).unwrap();
    let (program, style) = parse(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let again = print(&program, style).unwrap();
    let wanted: Vec<&str> = text
        .trim_end()
        .lines()
        .filter(|l| !l.starts_with('['))
        .collect();
    let found: Vec<&str> = again.lines().filter(|l| !l.starts_with('[')).collect();
    for (line, (a, b)) in wanted.iter().zip(&found).enumerate() {
        assert_eq!(a, b, "{}: line {}", path.display(), line + 1);
    }
    assert_eq!(wanted.len(), found.len(), "{}", path.display());
    if text.contains("\n[buildInfo") {
        assert_eq!(text.trim_end(), again, "{}", path.display());
    }
}

#[test]
fn apples_programs_print_back_as_they_are() {
    let Some(folder) = gesso_testkit::shared("formats/mlmodelc-samples") else {
        return;
    };
    let mut found = Vec::new();
    programs(&folder, &mut found);
    assert!(found.len() >= 13, "only {} programs", found.len());
    found.iter().for_each(|path| prints_back(path));
}

#[test]
fn our_samples_print_back_as_they_are() {
    let mut found = Vec::new();
    programs(&gesso_testkit::fixture("formats/samples"), &mut found);
    assert_eq!(found.len(), 26);
    found.iter().for_each(|path| prints_back(path));
}

#[test]
fn broken_texts_are_refused_with_their_line() {
    let head = "program(1.0)\n{\n    func main<ios16>(tensor<fp16, [2]> x) {\n";
    for (body, wanted) in [
        (
            "        } -> (x)\n}",
            "line 5 of the program text: expected `;`, found `}`",
        ),
        (
            "            tensor<fp16, [2]> y = relu(x = x, x = x);",
            "line 4 of the program text: parameter `x` is given twice",
        ),
        (
            "            tensor<fp16, [2]> y = const()[val = tensor<fp16, [2]>([0x1p+0])];",
            "the literal has 1 elements where its type has 2",
        ),
        (
            "            tensor<fq16, [2]> y = relu(x = x);",
            "unknown element type `fq16`",
        ),
        (
            "            tensor<fp16, [2]> y = const()[val = tensor<fp16, []>(0xq)];",
            "`0xq` is not a value of type fp16",
        ),
    ] {
        let error = parse(&format!("{head}{body}")).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
    assert!(
        parse(&format!("{head}{}", "tuple<".repeat(5000)))
            .unwrap_err()
            .to_string()
            .contains("nested deeper")
    );
}

/// Ops of Apple's compiled programs that the table lacks. This list only shrinks.
const UNSUPPORTED: &[&str] = &["lstm"];

#[test]
fn apples_programs_verify_but_for_unsupported_ops() {
    let Some(folder) = gesso_testkit::shared("formats/mlmodelc-samples") else {
        return;
    };
    let mut found = Vec::new();
    programs(&folder, &mut found);
    let mut unsupported = std::collections::BTreeSet::new();
    let mut other = Vec::new();
    for path in found {
        let (program, _) = parse(&std::fs::read_to_string(&path).unwrap()).unwrap();
        for finding in gesso_mil::verify(&program) {
            match finding.text.strip_suffix(": unknown op") {
                Some(op) => {
                    unsupported.insert(op.rsplit('`').nth(1).unwrap().to_string());
                }
                None => other.push(format!("{}: {finding}", path.display())),
            }
        }
    }
    assert_eq!(other, Vec::<String>::new());
    assert_eq!(
        unsupported.iter().map(String::as_str).collect::<Vec<_>>(),
        UNSUPPORTED
    );
}
