//! Development tasks of Gesso: `cargo xtask help`.

mod bench;
mod check;
mod codegen;
mod docs;
mod header;
mod python;
mod swift;
mod synth;
mod tests;
mod tidy;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Development tasks of Gesso")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Check the invariants of the project: arrows, file sizes, `unsafe`, printing, fixtures, words.
    Tidy,
    /// Everything that must hold before a commit, short of the tests: formatting, clippy, tidy, generated code.
    Check,
    /// Generate the Core ML message types from `proto/`.
    Codegen(codegen::Args),
    /// Write the pages of `docs/` that are generated from tables of the code.
    Docs(docs::Args),
    /// Write the C header of `crates/capi`.
    Header(header::Args),
    /// Make a full-size model with made-up weights under `target/synth/`.
    Synth(synth::Args),
    /// Measure the full-size run: seconds and peak anonymous memory of each command.
    Bench(bench::Options),
    /// Build or test the Swift package over the C library.
    Swift(swift::Options),
    /// All tests: Rust with plain cargo, Swift, then the load-check of every emitted package in coremltools.
    Test(tests::Options),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::Tidy => tidy::run(),
        Task::Check => check::run(),
        Task::Codegen(arguments) => codegen::run(&arguments),
        Task::Docs(arguments) => docs::run(&arguments),
        Task::Header(arguments) => header::run(&arguments),
        Task::Synth(arguments) => synth::run(&arguments),
        Task::Bench(options) => bench::run(&options),
        Task::Swift(options) => swift::run(&options),
        Task::Test(options) => tests::run(&options),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Root of the project.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(PathBuf::from)
        .unwrap_or_default()
}

/// A command in the project's root, printed before it runs; true when it ended with 0.
fn step(program: &str, arguments: &[&str]) -> anyhow::Result<bool> {
    eprintln!("+ {program} {}", arguments.join(" "));
    let status = Command::new(program)
        .args(arguments)
        .current_dir(root())
        .status()?;
    Ok(status.success())
}
