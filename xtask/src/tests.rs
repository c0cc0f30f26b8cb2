//! `cargo xtask test`: what the README names and `.ci/run` calls.

mod coremltools;

use crate::{step, swift};

/// Options of the test task.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only the Rust tests.
    #[arg(long)]
    rust_only: bool,
}

/// Whether a skip counts as a failure.
fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|v| v == "true")
}

/// Runs every part, even when an earlier one failed; true when all passed.
pub(crate) fn run(options: &Options) -> anyhow::Result<bool> {
    let mut ok = step(
        "cargo",
        &["test", "--quiet", "--workspace", "--no-fail-fast"],
    )?;
    if !options.rust_only {
        ok &= part("Swift", swift::gate()?);
        ok &= part("load-check in coremltools", coremltools::run()?);
    }
    Ok(ok)
}

/// How a part that needs more than Rust ended.
pub(crate) enum Part {
    /// It ran; whether it passed.
    Ran(bool),
    /// It could not run, with the reason.
    Skipped(String),
}

fn part(name: &str, outcome: Part) -> bool {
    match outcome {
        Part::Ran(passed) => {
            eprintln!("{name}: {}", if passed { "passed" } else { "FAILED" });
            passed
        }
        Part::Skipped(reason) => {
            eprintln!("SKIPPED {name}: {reason}");
            if in_ci() {
                eprintln!("with CI=true a skip is a failure");
            }
            !in_ci()
        }
    }
}
