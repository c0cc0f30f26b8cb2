//! `gesso`: prepares Stable Diffusion models for Apple devices.

mod args;
mod assets;
mod base;
mod commands;
mod embedded;
mod foreign;
mod lettering;
mod loss;
mod measure;
mod networks;
mod opened;
mod picture;
mod progress;
mod sampler;
mod selftest;
mod source;
mod table;

use clap::Parser;
use std::process::ExitCode;

/// How a command ended, short of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Everything as it should be.
    Done,
    /// Something was found: a check below its threshold.
    Findings,
}

fn main() -> ExitCode {
    let arguments = args::Arguments::parse();
    if let Err(error) = commands::install_signal_handler() {
        return report(&error);
    }
    match commands::run(&arguments) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Findings) => ExitCode::from(1),
        Err(error) => report(&error),
    }
}

/// Prints an error with its causes and gives exit code 2.
fn report(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {}", causes(error));
    ExitCode::from(2)
}

/// An error with its causes, none of them twice, one per line.
fn causes(error: &anyhow::Error) -> String {
    let mut said = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if said.contains(&text) {
            continue;
        }
        if !said.is_empty() {
            said.push_str("\n  caused by: ");
        }
        said.push_str(&text);
    }
    said
}
