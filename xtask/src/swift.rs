//! `cargo xtask swift`: the Swift package over the C library, with the machine's Swift or one that `.ci/swift` installs.

mod api;
mod availability;
mod graph;
mod objc;
mod table;

use crate::tests::Part;
use crate::{root, step};
use anyhow::Context;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::UNIX_EPOCH;

/// What to do.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    job: Job,
}

#[derive(clap::Subcommand)]
enum Job {
    /// Build every target.
    Build {
        /// More arguments for `swift build`, for instance `--scratch-path DIR`.
        #[arg(last = true, value_name = "ARGUMENT")]
        arguments: Vec<String>,
    },
    /// Run the tests.
    Test {
        /// Only tests whose name matches.
        #[arg(long, value_name = "PATTERN")]
        filter: Option<String>,
        /// With a sanitizer, in a build folder of its own; it does not see into the C library.
        #[arg(long, value_name = "SANITIZER")]
        sanitize: Option<Sanitizer>,
        /// More arguments for `swift test`, for instance `--scratch-path DIR`.
        #[arg(last = true, value_name = "ARGUMENT")]
        arguments: Vec<String>,
    },
    /// Compare the module `CoreML` with Apple's declarations (Linux only).
    ApiCheck,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Sanitizer {
    Thread,
    Address,
}

/// Builds the C library, then runs Swift's own command; true when both ended with 0.
pub(crate) fn run(options: &Options) -> anyhow::Result<bool> {
    let release = ["build", "--release", "-p", "gesso-capi"];
    let Some(library) = library(&release)? else {
        return Ok(false);
    };
    let mut command = vec!["swift"];
    let mut compare = false;
    match &options.job {
        Job::Build { arguments } => {
            command.push("build");
            command.extend(arguments.iter().map(String::as_str));
        }
        Job::Test {
            filter,
            sanitize,
            arguments,
        } => {
            command.push("test");
            if let Some(pattern) = filter {
                command.extend(["--filter", pattern]);
            }
            command.extend(match sanitize {
                None => &[][..],
                Some(Sanitizer::Thread) => {
                    &["--sanitize", "thread", "--scratch-path", ".build/thread"]
                }
                Some(Sanitizer::Address) => {
                    &["--sanitize", "address", "--scratch-path", ".build/address"]
                }
            });
            command.extend(arguments.iter().map(String::as_str));
        }
        Job::ApiCheck => {
            anyhow::ensure!(
                cfg!(target_os = "linux"),
                "api-check is for Linux: elsewhere the module is Apple's own"
            );
            command.extend(["build", "--target", "CoreML"]);
            compare = true;
        }
    }
    command.extend(["-Xlinker", &library]);
    Ok(package(&command)? && (!compare || api::run()?))
}

/// For `cargo xtask test`: the Swift tests and the comparison with Apple's declarations, over the C library that the
/// Rust tests have built.
pub(crate) fn gate() -> anyhow::Result<Part> {
    if !step(".ci/swift", &["swift", "--version"])? {
        let reason = "there is no Swift, as `.ci/swift` says above";
        return Ok(Part::Skipped(reason.into()));
    }
    let Some(library) = library(&["test", "--quiet", "--workspace", "--no-run"])? else {
        return Ok(Part::Ran(false));
    };
    let tests = package(&["swift", "test", "-Xlinker", &library])?;
    let api = !cfg!(target_os = "linux")
        || api::run().unwrap_or_else(|error| {
            eprintln!("error: {error:#}");
            false
        });
    Ok(Part::Ran(tests && api))
}

/// Runs SwiftPM, again when a signal ended it: 6.0.3 crashes now and then while it plans a build. A test that crashes is
/// no signal but an exit code.
fn package(command: &[&str]) -> anyhow::Result<bool> {
    for _ in 0..3 {
        eprintln!("+ .ci/swift {}", command.join(" "));
        let status = Command::new(".ci/swift")
            .args(command)
            .current_dir(root())
            .status()?;
        if status.code().is_some() {
            return Ok(status.success());
        }
        eprintln!("SwiftPM crashed ({status})");
    }
    Ok(false)
}

/// What a command of Swift's toolchain prints.
fn swift(command: &[&str]) -> anyhow::Result<Vec<u8>> {
    let output = Command::new(".ci/swift")
        .args(command)
        .current_dir(root())
        .stderr(Stdio::inherit())
        .output()?;
    anyhow::ensure!(output.status.success(), "`{}` failed", command.join(" "));
    Ok(output.stdout)
}

/// Cargo's target folder, which `.ci/swift` shows to Swift too.
fn target_folder() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// Builds with cargo and gives the linker's argument for a folder that holds the static library alone; `None` when the
/// build failed. The folder's name changes with the library: Swift's build links again only when its arguments change.
fn library(build: &[&str]) -> anyhow::Result<Option<String>> {
    eprintln!("+ cargo {}", build.join(" "));
    let output = Command::new("cargo")
        .args(build)
        .arg("--message-format=json-render-diagnostics")
        .current_dir(root())
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let made = text
        .lines()
        .filter_map(static_library)
        .next_back()
        .context("cargo built no static library `gesso`")?;
    let folder = alone(Path::new(&made))?;
    Ok(Some(format!("-L{}", folder.to_string_lossy())))
}

/// The static library of the C API, when a line of cargo's messages is about it.
fn static_library(line: &str) -> Option<String> {
    let message: Value = serde_json::from_str(line).ok()?;
    if message["reason"] != "compiler-artifact" || message["target"]["name"] != "gesso" {
        return None;
    }
    let files = message["filenames"].as_array()?.iter();
    let mut names = files.filter_map(Value::as_str);
    names.find(|name| name.ends_with(".a")).map(String::from)
}

/// A folder that holds the library alone, so that the linker takes that one.
fn alone(made: &Path) -> anyhow::Result<PathBuf> {
    let data = std::fs::metadata(made).with_context(|| format!("no `{}`", made.display()))?;
    let time = data.modified()?.duration_since(UNIX_EPOCH)?.as_nanos();
    let libraries = target_folder().join("swift-libraries");
    let folder = libraries.join(format!("{time:x}-{:x}", data.len()));
    let library = folder.join("libgesso.a");
    if !library.exists() {
        let _ = std::fs::remove_dir_all(&libraries);
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create `{}`", folder.display()))?;
        let partial = folder.join("partial");
        std::fs::copy(made, &partial)
            .with_context(|| format!("cannot copy `{}`", made.display()))?;
        std::fs::rename(&partial, &library)
            .with_context(|| format!("cannot create `{}`", library.display()))?;
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::static_library;

    #[test]
    fn the_static_library_is_found_in_cargos_messages() {
        let line = r#"{"reason":"compiler-artifact","target":{"name":"gesso"},"filenames":["a/libgesso.rlib","a/libgesso.a"]}"#;
        assert_eq!(static_library(line).as_deref(), Some("a/libgesso.a"));
        let command =
            r#"{"reason":"compiler-artifact","target":{"name":"gesso"},"filenames":["a/gesso"]}"#;
        assert_eq!(static_library(command), None);
        assert_eq!(static_library("test output"), None);
    }
}
