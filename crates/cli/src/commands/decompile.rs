//! `gesso decompile`: a compiled model back to a package.

use super::compile::{files, report};
use super::{Global, overwrite};
use crate::Outcome;
use crate::args::Decompile;
use anyhow::Context;
use gesso_convert::decompile_package;
use gesso_coreml::stage::Staging;
use std::time::Instant;

pub(super) fn run(options: &Decompile, global: Global) -> anyhow::Result<Outcome> {
    let start = Instant::now();
    let staging = Staging::new(&options.output, overwrite(options.force))?;
    decompile_package(&options.model, staging.path())
        .with_context(|| format!("cannot decompile `{}`", options.model.display()))?;
    let files = files(staging.path())?;
    staging.commit()?;
    report(&files, &options.output, start, global)?;
    Ok(Outcome::Done)
}
