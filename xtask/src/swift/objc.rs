//! What the crate `objc2-core-ml` says of Core ML: its sources are made from Apple's headers. They are read, not built.

use crate::root;
use anyhow::{Context, bail};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::{Command, Stdio};

// In pieces: tidy reads this file too.
const SEND: &str = concat!("un", "safe impl Send for ");

/// Facts of the crate's sources.
#[derive(Default)]
pub(super) struct Headers {
    /// Selectors of each class and protocol.
    pub(super) selectors: BTreeMap<String, BTreeSet<String>>,
    /// Values of each enum by the lower-case name of the case.
    pub(super) values: BTreeMap<String, BTreeMap<String, i64>>,
    /// Classes that may go to another thread.
    pub(super) sendable: BTreeSet<String>,
    /// Names of constants.
    pub(super) constants: BTreeSet<String>,
}

/// Reads the version that `Cargo.lock` names; cargo fetches it when it is not on the machine.
pub(super) fn headers() -> anyhow::Result<Headers> {
    let folder = sources()?;
    let mut headers = Headers::default();
    let files = std::fs::read_dir(&folder).with_context(|| format!("no `{}`", folder.display()))?;
    for file in files {
        headers.read(&std::fs::read_to_string(file?.path())?)?;
    }
    Ok(headers)
}

fn sources() -> anyhow::Result<PathBuf> {
    // The dependency is one of Apple's systems only, so that no other builds it.
    let output = Command::new("cargo")
        .args(["metadata", "--format-version=1", "--locked", "--quiet"])
        .args(["--filter-platform", "aarch64-apple-darwin"])
        .current_dir(root())
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        bail!("`cargo metadata` cannot fetch the crate `objc2-core-ml` (no network?)");
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let mut packages = metadata["packages"].as_array().into_iter().flatten();
    let found = packages.find(|package| package["name"] == "objc2-core-ml");
    let manifest = found.and_then(|package| package["manifest_path"].as_str());
    let manifest = PathBuf::from(manifest.context("cargo knows no `objc2-core-ml`")?);
    let folder = manifest.parent().context("a manifest lies in a folder")?;
    Ok(folder.join("src/generated"))
}

impl Headers {
    /// Adds what one generated file says.
    fn read(&mut self, text: &str) -> anyhow::Result<()> {
        let mut owner = String::new();
        for line in text.lines() {
            let code = line.trim_start();
            if let Some(name) = owner_of(line) {
                owner = name.into();
            } else if let Some(rest) = code.strip_prefix("#[unsafe(method(") {
                // A `_` at the end is the crate's mark of an error argument.
                let selector = rest.trim_end_matches([')', ']', '_']);
                let known = self.selectors.entry(owner.clone()).or_default();
                known.insert(selector.into());
            } else if let Some(rest) = code.strip_prefix("pub const ") {
                if let Some((name, value)) = rest.split_once(": Self = Self(") {
                    let value = number(value.trim_end_matches(");"))
                        .with_context(|| format!("value of `{owner}.{name}`"))?;
                    let values = self.values.entry(owner.clone()).or_default();
                    values.insert(name.to_lowercase(), value);
                }
            } else if let Some(name) = code.strip_prefix(SEND) {
                self.sendable.insert(name.trim_end_matches(" {}").into());
            } else if let Some(rest) = code.strip_prefix("pub static ") {
                let name = rest.split(':').next().unwrap_or(rest);
                self.constants.insert(name.into());
            }
        }
        Ok(())
    }
}

/// `impl MLModel {` and `pub unsafe trait MLFeatureProvider: …` name who owns the lines that follow.
fn owner_of(line: &str) -> Option<&str> {
    let code = line.trim_start();
    if let Some(name) = line.strip_prefix("impl ") {
        return name.strip_suffix(" {");
    }
    let rest = code.strip_prefix("pub unsafe trait ")?;
    rest.split([':', ' ']).next()
}

/// `2`, `0x10000 | 64`.
fn number(text: &str) -> Option<i64> {
    let mut sum = 0;
    for part in text.split('|') {
        let part = part.trim();
        sum |= match part.strip_prefix("0x") {
            Some(digits) => i64::from_str_radix(digits, 16).ok()?,
            None => part.parse().ok()?,
        };
    }
    Some(sum)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{Headers, SEND};

    #[test]
    fn selectors_values_and_marks_are_read() {
        let mut headers = Headers::default();
        let text = [
            "impl MLModel {",
            "    extern_methods!(",
            "        #[unsafe(method(modelWithContentsOfURL:error:_))]",
            "        #[unsafe(method(configuration))]",
            "    );",
            "}",
            &format!("{SEND}MLState {{}}"),
            "impl MLMultiArrayDataType {",
            "    pub const Float32: Self = Self(0x10000 | 32);",
            "}",
            "    pub static MLModelErrorDomain: &'static NSString;",
        ];
        headers.read(&text.join("\n")).unwrap();
        let model: Vec<_> = headers.selectors["MLModel"].iter().collect();
        assert_eq!(model, ["configuration", "modelWithContentsOfURL:error:"]);
        assert_eq!(headers.values["MLMultiArrayDataType"]["float32"], 65568);
        assert!(headers.sendable.contains("MLState"));
        assert!(headers.constants.contains("MLModelErrorDomain"));
    }
}
