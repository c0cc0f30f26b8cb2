//! What Rust sources may and may not hold.

use super::Finding;
use std::path::Path;

/// The only files with `unsafe`.
const UNSAFE_FILES: &[&str] = &[
    "crates/coreml/src/mmap.rs",
    "crates/engine/src/gemm.rs",
    "crates/engine/src/simd.rs",
    "crates/palette/src/simd.rs",
];

/// A word that only some crates may use in `src/`.
struct Rule {
    word: &'static str,
    /// Crates whose `src/` may use it; `xtask` counts as one.
    allowed: &'static [&'static str],
    why: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        word: "std::fs",
        allowed: &[
            "coreml", "weights", "convert", "cli", "capi", "testkit", "xtask",
        ],
        why: "this crate is pure: no file system",
    },
    Rule {
        word: "println!",
        allowed: &["cli", "xtask", "testkit"],
        why: "only the cli and xtask print",
    },
    Rule {
        word: "eprintln!",
        allowed: &["cli", "xtask", "testkit"],
        why: "only the cli and xtask print",
    },
    Rule {
        word: "process::exit",
        allowed: &["cli", "xtask"],
        why: "only the cli and xtask exit",
    },
    Rule {
        word: "SystemTime",
        allowed: &["xtask"],
        why: "output depends on input and recipe only: no clock",
    },
    Rule {
        word: "Instant::now",
        allowed: &["convert", "cli", "xtask", "testkit"],
        why: "libraries have no clock",
    },
    Rule {
        word: "HashMap",
        allowed: &[],
        why: "use `BTreeMap`: order must not depend on hashes",
    },
    Rule {
        word: "HashSet",
        allowed: &[],
        why: "use `BTreeSet`: order must not depend on hashes",
    },
];

/// Words that stand nowhere. Spelled in pieces here, since this file is checked too.
const NEVER: &[(&str, &str)] = &[
    (concat!("to", "do!("), "finish it"),
    (concat!("unimplem", "ented!("), "finish it"),
    (
        concat!("#[ign", "ore"),
        "a case that fails today goes into `known_failures.toml`",
    ),
    (concat!("#[should", "_panic"), "assert on the error instead"),
    (concat!("FIX", "ME"), "mend it or open an issue"),
    (concat!("TO", "DO"), "do it or open an issue"),
];

/// File or folder names that say nothing.
const EMPTY_NAMES: &[&str] = &[
    "utils", "util", "helpers", "helper", "common", "misc", "manager",
];

const LINE_LIMIT: usize = 500;

/// Every tracked `.rs` and `.swift` file against the rules above.
pub(super) fn check(root: &Path, files: &[String]) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for file in files
        .iter()
        .filter(|f| f.ends_with(".rs") || f.ends_with(".swift"))
    {
        let text = std::fs::read_to_string(root.join(file))?;
        let generated = file.starts_with("crates/coreml/src/proto/");
        let lines = text.lines().count();
        if lines > LINE_LIMIT && !generated {
            findings.push(Finding::new(
                file,
                format!("{lines} lines; the limit is {LINE_LIMIT}: split by word"),
            ));
        }
        for part in file.split(['/', '.']) {
            if EMPTY_NAMES.contains(&part.to_ascii_lowercase().as_str()) {
                findings.push(Finding::new(
                    file,
                    format!("`{part}` says nothing: name what is inside"),
                ));
            }
        }
        if file.ends_with(".rs") && !generated {
            check_lines(file, &text, &mut findings);
        }
    }
    Ok(findings)
}

fn check_lines(file: &str, text: &str, findings: &mut Vec<Finding>) {
    let (owner, in_src) = owner(file);
    let is_rule_book = file == "xtask/src/tidy/sources.rs";
    let mut in_tests = false;
    for (number, line) in text.lines().enumerate() {
        let place = || format!("{file}:{}", number + 1);
        let code = line.split("//").next().unwrap_or_default();
        in_tests |= line.contains("#[cfg(test)]");
        for (word, advice) in NEVER {
            if line.contains(word) {
                findings.push(Finding::new(place(), format!("`{word}`: {advice}")));
            }
        }
        let opens_unsafe = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"]
            .iter()
            .any(|w| code.contains(w));
        if opens_unsafe && !UNSAFE_FILES.contains(&file) && owner != "capi" && !is_rule_book {
            findings.push(Finding::new(
                place(),
                "`unsafe` stands only in the files that docs/architecture.md lists",
            ));
        }
        if !in_src || in_tests || is_rule_book {
            continue;
        }
        for rule in RULES {
            if has_word(code, rule.word) && !rule.allowed.contains(&owner) {
                findings.push(Finding::new(
                    place(),
                    format!("`{}`: {}", rule.word, rule.why),
                ));
            }
        }
    }
}

/// Crate that a file belongs to, and whether it lies in that crate's `src/` (not `tests/`, `examples/` or `benches/`).
fn owner(file: &str) -> (&str, bool) {
    let mut parts = file.split('/');
    match (parts.next(), parts.next(), parts.next()) {
        (Some("crates"), Some(name), part) => (name, part == Some("src")),
        (Some("xtask"), _, _) => ("xtask", true),
        _ => ("", false),
    }
}

/// `word` at a place where the character before is not part of an identifier (`println!` inside `eprintln!` is not).
fn has_word(code: &str, word: &str) -> bool {
    code.match_indices(word)
        .any(|(at, _)| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(file: &str, text: &str) -> usize {
        let mut found = Vec::new();
        check_lines(file, text, &mut found);
        found.len()
    }

    #[test]
    fn a_pure_crate_may_not_read_files() {
        assert_eq!(findings("crates/mil/src/lib.rs", "use std::fs;"), 1);
        assert_eq!(findings("crates/coreml/src/lib.rs", "use std::fs;"), 0);
        assert_eq!(findings("crates/mil/tests/x.rs", "use std::fs;"), 0);
    }

    #[test]
    fn unsafe_only_where_listed() {
        assert_eq!(
            findings("crates/mil/src/lib.rs", "let x = unsafe { y() };"),
            1
        );
        assert_eq!(
            findings("crates/coreml/src/mmap.rs", "let x = unsafe { y() };"),
            0
        );
    }

    #[test]
    fn eprintln_is_one_finding_not_two() {
        assert_eq!(findings("crates/mil/src/lib.rs", "eprintln!(\"x\");"), 1);
    }
}
