//! `cargo xtask check`.

use crate::{codegen, docs, step, tidy};

/// Formatting, clippy, generated code, generated pages and tidy, all of them even when one fails.
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
    ok &= docs::run(&docs::Args { check: true })?;
    ok &= tidy::run()?;
    Ok(ok)
}
