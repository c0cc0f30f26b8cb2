//! `cargo xtask check`.

use crate::{codegen, docs, header, step, tidy};

/// Formatting, clippy, generated code, generated pages, the C header and tidy, all of them even when one fails.
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
    ok &= header::run(&header::Args { check: true })?;
    ok &= tidy::run()?;
    Ok(ok)
}
