//! Names of Core ML that are newer than the package's floor, and the sources that use them without saying so. Linux has
//! no availability, so that its compiler does not see this.

use super::table::Row;
use crate::root;
use std::collections::BTreeMap;
use walkdir::WalkDir;

/// What `Package.swift` names under `platforms`.
const FLOOR: Version = Version {
    ios: (17, 0),
    macos: (14, 0),
};

/// First versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version {
    ios: (u32, u32),
    macos: (u32, u32),
}

/// Files of the runtime and the example that use a newer name and have no `#available` or `@available` of its versions.
///
/// Names of types count everywhere, members after a dot and when they have more than one word: `functionName`, but not
/// `transfer`, which other types have too.
pub(super) fn findings(rows: &[Row]) -> anyhow::Result<Vec<String>> {
    let newer = newer(rows);
    let mut findings = Vec::new();
    for target in ["GessoRuntime", "gesso-generate"] {
        let folder = root().join("crates/runtime-swift/Sources").join(target);
        for entry in WalkDir::new(folder).sort_by_file_name() {
            let entry = entry?;
            if entry.path().extension().is_some_and(|e| e == "swift") {
                let text = std::fs::read_to_string(entry.path())?;
                let name = entry.path().strip_prefix(root())?.display().to_string();
                findings.extend(unguarded(&name, &text, &newer));
            }
        }
    }
    Ok(findings)
}

/// Names of which every declaration is newer than the floor, with the lowest versions: types, and members of older types
/// (who uses a member of a newer type names that type somewhere).
fn newer(rows: &[Row]) -> BTreeMap<String, Version> {
    let mut lowest: BTreeMap<&str, Option<Version>> = BTreeMap::new();
    for row in rows {
        let path = row
            .path
            .split_once('(')
            .map_or(&*row.path, |(name, _)| name);
        let name = path.rsplit_once('.').map_or(path, |(_, name)| name);
        let version = row.introduced.map(|(ios, macos)| Version { ios, macos });
        let entry = lowest.entry(name).or_insert(version);
        *entry = (*entry).min(version);
    }
    lowest.retain(|_, version| {
        version.is_some_and(|version| version.ios > FLOOR.ios || version.macos > FLOOR.macos)
    });
    let of_older = |name: &str| {
        let owners = rows.iter().filter(|row| {
            let path = row
                .path
                .split_once('(')
                .map_or(&*row.path, |(name, _)| name);
            path.rsplit_once('.').is_some_and(|(_, last)| last == name)
        });
        owners
            .into_iter()
            .any(|row| !lowest.contains_key(&*row.owner))
    };
    lowest
        .iter()
        .filter(|(name, _)| name.starts_with("ML") || of_older(name))
        .filter_map(|(name, version)| Some(((*name).to_owned(), (*version)?)))
        .collect()
}

fn unguarded(file: &str, text: &str, newer: &BTreeMap<String, Version>) -> Vec<String> {
    let mut findings = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or(line);
        for (at, word) in words(code) {
            let Some(version) = newer.get(word) else {
                continue;
            };
            let is_type = word.starts_with("ML");
            let is_member = code[..at].ends_with('.')
                && word.starts_with(char::is_lowercase)
                && word.contains(char::is_uppercase);
            if (is_type || is_member) && !guards(text, *version) {
                let ((ios, minor), (macos, small)) = (version.ios, version.macos);
                findings.push(format!(
                    "{file}:{}: `{word}` is of iOS {ios}.{minor} and macOS {macos}.{small}, and nothing in the file says `available`",
                    number + 1
                ));
            }
        }
    }
    findings
}

/// Whether some `available(iOS X, macOS Y, *)` of the file is at least of these versions.
fn guards(text: &str, version: Version) -> bool {
    text.match_indices("available(").any(|(at, word)| {
        let list = text[at + word.len()..]
            .split(')')
            .next()
            .unwrap_or_default();
        let of = |system: &str| {
            let mut parts = list.split(',').map(str::trim);
            let number = parts.find_map(|part| part.strip_prefix(system))?;
            super::table::version(number.trim())
        };
        of("iOS").is_some_and(|ios| ios >= version.ios)
            && of("macOS").is_some_and(|macos| macos >= version.macos)
    })
}

/// Words of a line with their places.
fn words(line: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    line.split(move |c| !is_word(c))
        .filter(|word| !word.is_empty())
        .map(move |word| (word.as_ptr() as usize - line.as_ptr() as usize, word))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::swift::table::apple;

    #[test]
    fn newer_names_need_a_guard() {
        let table = "h\n\
            MLState\tclass\tMLState\tclass MLState\t\t18.0\t15.0\t\t\t\n\
            MLModel\tmethod\tMLModel.makeState()\tfunc makeState() -> MLState\t\t18.0\t15.0\t\t\t\n\
            MLModel\tmethod\tMLModel.load(a:)\tfunc load(a: Int)\t\t16.0\t13.0\t\t\t\n\
            MLState\tproperty\tMLState.rawValue\tvar rawValue: Int { get }\t\t18.0\t15.0\t\t\t\n\
            MLPlan\tmethod\tMLPlan.load(b:)\tfunc load(b: Int)\t\t17.4\t14.4\t\t\t\n\
            MLModel\tmethod\tMLModel.transfer(to:)\tfunc transfer(to: Int)\t\t18.0\t15.0\t\t\t\n";
        let newer = newer(&apple(table).unwrap());
        let count = |text: &str| unguarded("f", text, &newer).len();
        assert_eq!(count("let state = model.makeState()"), 1);
        assert_eq!(count("var state: MLState?"), 1);
        assert_eq!(
            count("// MLState\nlet makeState = 1; x.load(a: 1); x.transfer(to: y)"),
            0
        );
        let guard =
            |versions: &str| format!("if #available({versions}, *) {{ _ = model.makeState() }}");
        assert_eq!(count(&guard("iOS 18.0, macOS 15.0")), 0);
        assert_eq!(count(&guard("iOS 18, macOS 15")), 0);
        assert_eq!(count(&guard("iOS 17.4, macOS 15.0")), 1);
        assert_eq!(count(&guard("iOS 18.0")), 1);
    }
}
