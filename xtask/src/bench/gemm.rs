//! `cargo xtask bench gemm`: GEMM crates side by side (`xtask/gemm`, a package of its own).

use crate::{root, step};
use std::process::Command;

/// Options of the part.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Turns per shape; the fastest counts.
    #[arg(long, default_value_t = 25)]
    repeats: usize,
}

/// Prints the table of `docs/decisions/0002-gemm-crate.md`.
pub(crate) fn run(options: &Options) -> anyhow::Result<bool> {
    let package = [
        "--release",
        "--quiet",
        "--manifest-path",
        "xtask/gemm/Cargo.toml",
    ];
    if !step("cargo", &[&["build"][..], &package].concat())? {
        return Ok(false);
    }
    println!(
        "| GFLOP/s, by the clock / by CPU time | threads | gemm | faer | matrixmultiply |\n|---|---|---|---|---|"
    );
    for threads in ["1", "2"] {
        let status = Command::new("cargo")
            .arg("run")
            .args(package)
            .args(["--", threads, &options.repeats.to_string()])
            .env("MATMUL_NUM_THREADS", threads)
            .current_dir(root())
            .status()?;
        if !status.success() {
            return Ok(false);
        }
    }
    Ok(true)
}
