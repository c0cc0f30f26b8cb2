//! Declarations as text: the tables of `crates/runtime-swift/api`, and how two spellings of one declaration meet.

use anyhow::{Context, bail};
use std::collections::BTreeSet;

/// A path (`MLModel.configuration`) and what is declared there; a conformance or superclass is `: Name`.
pub(super) type Declaration = (String, String);

/// A row of the table of Apple's declarations.
pub(super) struct Row {
    /// The type that it belongs to.
    pub(super) owner: String,
    /// `class`, `method`, `enum case`, …
    pub(super) kind: String,
    /// Path in Swift.
    pub(super) path: String,
    /// Declaration in one spelling.
    pub(super) declaration: String,
    /// Selector, or name of a C constant; empty when there is none.
    pub(super) selector: String,
    /// First versions of iOS and macOS, where both are known.
    pub(super) introduced: Option<((u32, u32), (u32, u32))>,
    /// Raw value of an enum's case.
    pub(super) raw_value: Option<i64>,
    /// Whether the type is `Sendable`, where that is known.
    pub(super) sendable: Option<bool>,
    /// Superclass and protocols of Foundation and Core ML.
    pub(super) supers: Vec<String>,
}

/// Rows of Apple's table, without those that must not be declared: other spellings of a selector, and what is
/// unavailable in Swift.
pub(super) fn apple(text: &str) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (number, line) in text.lines().enumerate().skip(1) {
        let cells: Vec<&str> = line.split('\t').collect();
        let [
            owner,
            kind,
            path,
            declaration,
            selector,
            ios,
            macos,
            raw,
            sendable,
            note,
        ] = cells[..]
        else {
            bail!("line {} has {} cells, not 10", number + 1, cells.len());
        };
        if note.starts_with("ALIAS") || note.starts_with("UNAVAILABLE") {
            continue;
        }
        let raw_value = match raw {
            "" => None,
            number => Some(
                number
                    .parse()
                    .with_context(|| format!("raw value of `{path}`"))?,
            ),
        };
        rows.push(Row {
            owner: owner.into(),
            kind: kind.into(),
            path: path.into(),
            declaration: one_spelling(path, declaration),
            selector: selector.into(),
            introduced: version(ios).zip(version(macos)),
            raw_value,
            sendable: match sendable {
                "yes" => Some(true),
                "no" => Some(false),
                _ => None,
            },
            supers: supers(note),
        });
    }
    Ok(rows)
}

/// `17.4`, `18`, `10.13.2`: the first two numbers.
pub(super) fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split('.').map(str::parse);
    let first = numbers.next()?.ok()?;
    Some((first, numbers.next().unwrap_or(Ok(0)).ok()?))
}

/// `super=NSObject; conforms=NSCoding,NSCopying` names three.
fn supers(note: &str) -> Vec<String> {
    note.split("; ")
        .filter_map(|part| {
            part.strip_prefix("super=")
                .or_else(|| part.strip_prefix("conforms="))
                .or_else(|| part.strip_prefix("conforms to "))
        })
        .flat_map(|names| names.split(','))
        .map(String::from)
        .collect()
}

/// What the rows declare, conformances too.
pub(super) fn declarations(rows: &[Row]) -> BTreeSet<Declaration> {
    let mut all = BTreeSet::new();
    for row in rows {
        all.insert((row.path.clone(), row.declaration.clone()));
        for name in &row.supers {
            all.insert((row.path.clone(), format!(": {name}")));
        }
        if row.sendable == Some(true) {
            all.insert((row.path.clone(), ": Sendable".into()));
        }
    }
    all
}

/// A list of declarations with a reason each: path, declaration, reason.
pub(super) fn list(text: &str) -> anyhow::Result<BTreeSet<Declaration>> {
    let mut all = BTreeSet::new();
    for (number, line) in text.lines().enumerate().skip(1) {
        let cells: Vec<&str> = line.split('\t').collect();
        let [path, declaration, reason] = cells[..] else {
            bail!("line {} has {} cells, not 3", number + 1, cells.len());
        };
        if reason.is_empty() {
            bail!("line {} gives no reason", number + 1);
        }
        if !all.insert((path.into(), one_spelling(path, declaration))) {
            bail!("line {} stands there twice", number + 1);
        }
    }
    Ok(all)
}

/// Words that a declaration is the same without, seen from outside the module.
const UNSEEN: &[&str] = &[
    "public",
    "open",
    "final",
    "convenience",
    "override",
    "required",
];

/// A declaration without words and spaces that do not matter; a constant is a variable that is read, a variable without
/// accessors is read and written, and `Self` is the type.
pub(super) fn one_spelling(path: &str, declaration: &str) -> String {
    if declaration.starts_with(": ") {
        return declaration.into();
    }
    let is_word = |c: char| c.is_alphanumeric() || "_`".contains(c);
    let mut tokens: Vec<String> = Vec::new();
    let mut goes_on = false;
    for character in declaration.chars() {
        let word = is_word(character);
        match tokens.last_mut() {
            Some(last) if word && goes_on => last.push(character),
            _ if character == ' ' => {}
            _ => tokens.push(character.into()),
        }
        goes_on = word;
    }
    tokens.retain(|token| !UNSEEN.contains(&token.as_str()));
    let name = path.split_once('(').map_or(path, |(name, _)| name);
    let owner = name.rsplit_once('.').map_or("Self", |(owner, _)| owner);
    let mut spelled = String::new();
    for token in &tokens {
        if spelled.ends_with(is_word) && token.starts_with(is_word) {
            spelled.push(' ');
        }
        spelled.push_str(if token == "Self" { owner } else { token });
    }
    let accessors = spelled.ends_with('}');
    let (modifier, rest) = match spelled.strip_prefix("static ") {
        Some(rest) => ("static ", rest),
        None => ("", spelled.as_str()),
    };
    if let Some(constant) = rest.strip_prefix("let ") {
        format!("{modifier}var {constant}{{get}}")
    } else if rest.starts_with("var ") && !accessors {
        format!("{spelled}{{get set}}")
    } else {
        spelled
    }
}

#[cfg(test)]
mod tests {
    use super::one_spelling;

    #[test]
    fn spellings_of_one_declaration_are_equal() {
        for (a, b) in [
            ("final let shape: [Int]", "var shape : [Int] { get }"),
            ("open var units: Units", "var units: Units { get set }"),
            (
                "static let a: [String : Any]",
                "static var a: [String: Any] { get }",
            ),
            (
                "public convenience init(_ x: Int) throws",
                "init(_ x: Int)throws",
            ),
            ("init(_ code: Self.Code)", "init(_ code: A.B.Code)"),
            (
                "static func == (a: A, b: A) -> Bool",
                "static func ==(a: A, b: A)->Bool",
            ),
        ] {
            assert_eq!(one_spelling("A.B.x", a), one_spelling("A.B.x", b));
        }
    }

    #[test]
    fn what_differs_stays_different() {
        for (a, b) in [
            ("func f(a: Int)", "func f(b: Int)"),
            ("func f(a: Int)", "func f(a: Int) throws"),
            ("func f(a: Int)", "func f(a: Int = 0)"),
            ("func f() async throws", "func f() throws"),
            ("var a: Int { get }", "var a: Int { get set }"),
            ("init(a: Int)", "init?(a: Int)"),
            ("func f()", "class func f()"),
            ("var a: Int? { get }", "var a: Int { get }"),
        ] {
            assert_ne!(one_spelling("A.x", a), one_spelling("A.x", b));
        }
    }
}
