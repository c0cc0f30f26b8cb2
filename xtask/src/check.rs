//! `cargo xtask check`.

use crate::{codegen, step, tidy};

/// Formatting, clippy, generated code and tidy, all of them even when one fails.
pub(crate) fn run() -> anyhow::Result<bool> {
    let mut ok = step("cargo", &["fmt", "--all", "--check"])?;
    ok &= step(
        "cargo",
        &[
            "clippy",
            "--quiet",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ],
    )?;
    ok &= codegen::run(&codegen::Args { check: true })?;
    ok &= step("cargo", &["xtask", "codegen", "--check"])?;
    ok &= tidy::run()?;
    Ok(ok)
}
