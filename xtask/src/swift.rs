//! `cargo xtask swift`: the Swift package over the C library, with the machine's Swift or one that `.ci/swift` installs.

use crate::{root, step};
use anyhow::Context;
use std::path::PathBuf;

/// What to do.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    job: Job,
}

#[derive(clap::Subcommand)]
enum Job {
    /// Build every target.
    Build,
    /// Run the tests.
    Test {
        /// Only tests whose name matches.
        #[arg(long, value_name = "PATTERN")]
        filter: Option<String>,
    },
}

/// Builds the C library, then runs Swift's own command; true when both ended with 0.
pub(crate) fn run(options: &Options) -> anyhow::Result<bool> {
    if !step("cargo", &["build", "--release", "-p", "gesso-capi"])? {
        return Ok(false);
    }
    let library = format!("-L{}", library()?.to_string_lossy());
    let mut arguments = vec!["swift"];
    match &options.job {
        Job::Build => arguments.push("build"),
        Job::Test { filter } => {
            arguments.push("test");
            if let Some(pattern) = filter {
                arguments.extend(["--filter", pattern]);
            }
        }
    }
    arguments.extend(["-Xlinker", &library]);
    step(".ci/swift", &arguments)
}

/// A folder that holds the static library alone, so that the linker takes that one.
fn library() -> anyhow::Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root().join("target"), |dir| root().join(dir));
    let folder = target.join("swift");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot create `{}`", folder.display()))?;
    let made = target.join("release/libgesso.a");
    std::fs::copy(&made, folder.join("libgesso.a"))
        .with_context(|| format!("cannot copy `{}`", made.display()))?;
    Ok(folder)
}
