//! One file per command, and what several of them need.

mod adapter;
mod apply;
mod compile;
mod convert;
mod decompile;
mod demo;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod generate;
pub(crate) mod inspect;
pub(crate) mod lint;
mod probe_kit;
mod retrofit;
pub(crate) mod run;
pub(crate) mod verify;

use crate::Outcome;
use crate::args::{Arguments, Command, EnginePrecision};
use anyhow::Context;
use gesso_coreml::stage::{self, Overwrite};
use gesso_engine::{Precision, RunOptions};

/// Exit code after SIGINT or SIGTERM.
const INTERRUPTED: i32 = 130;

/// Runs the command that was asked for.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Outcome> {
    let global = Global {
        threads: arguments.threads,
        json: arguments.json,
    };
    match &arguments.command {
        Command::Convert(options) => convert::run(options, global),
        Command::Adapter(options) => adapter::run(options, global),
        Command::Apply(options) => apply::run(options, global),
        Command::Retrofit(options) => retrofit::run(options, global),
        Command::Generate(options) => generate::run(options, global),
        Command::Verify(options) => verify::run(options, global),
        Command::Run(options) => run::run(options, global),
        Command::Compile(options) => compile::run(options, global),
        Command::Decompile(options) => decompile::run(options, global),
        Command::Lint(options) => lint::run(options, global),
        Command::Inspect(options) => inspect::run(options, global),
        Command::Diff(options) => diff::run(options, global),
        Command::Doctor(options) => doctor::run(options, global),
        Command::Demo(options) => demo::run(options, global),
        Command::ProbeKit(options) => probe_kit::run(options, global),
    }
}

/// Options that every command has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Global {
    pub(crate) threads: usize,
    pub(crate) json: bool,
}

impl Global {
    /// Runs `work` on a thread pool of the asked size.
    pub(crate) fn on_threads<T: Send>(self, work: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(self.threads)
            .build()
            .context("cannot start threads")?;
        Ok(pool.install(work))
    }

    /// Options of the engine for this command.
    pub(crate) fn engine(self, precision: EnginePrecision) -> RunOptions {
        let precision = match precision {
            EnginePrecision::Fp32 => Precision::Fp32,
            EnginePrecision::Fp16 => Precision::Fp16,
            EnginePrecision::Strict => Precision::Strict,
        };
        RunOptions {
            threads: self.threads,
            ..RunOptions::new(precision)
        }
    }
}

/// What `--force` means for an output.
pub(crate) fn overwrite(force: bool) -> Overwrite {
    if force {
        Overwrite::Force
    } else {
        Overwrite::Refuse
    }
}

/// On SIGINT and SIGTERM: removes everything that is half written and ends.
pub(crate) fn install_signal_handler() -> anyhow::Result<()> {
    ctrlc::set_handler(|| {
        stage::abort_all();
        eprintln!("interrupted: nothing was written");
        std::process::exit(INTERRUPTED);
    })
    .context("cannot install the signal handler")
}

/// Writes a file that stands whole or not at all; one of the same name is replaced.
pub(crate) fn write_file(path: &std::path::Path, bytes: &[u8]) -> anyhow::Result<()> {
    anyhow::ensure!(
        !path.is_dir(),
        "`{}` is a folder, expected a file",
        path.display()
    );
    let staging = stage::Staging::file(path, Overwrite::Force)?;
    std::fs::write(staging.path(), bytes)
        .with_context(|| format!("cannot write `{}`", path.display()))?;
    Ok(staging.commit()?)
}

/// Prints a document on stdout.
pub(crate) fn print_json(document: &serde_json::Value) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(document)?);
    Ok(())
}
