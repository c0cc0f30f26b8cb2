//! `gesso retrofit`: adapter slots for packages that somebody else made.

use super::{Global, overwrite, print_json};
use crate::Outcome;
use crate::args::Retrofit;
use crate::base::Base;
use crate::opened::Form;
use crate::table::Table;
use anyhow::{Context, bail};
use gesso_convert::compile_package;
use gesso_convert::retrofit::{RetrofittedFolder, RetrofittedPackage, retrofit, retrofit_folder};
use gesso_convert::slots::SlotOptions;
use gesso_coreml::stage::Staging;
use std::path::Path;
use std::time::Instant;

/// Where a package is written that is then compiled.
const SCRATCH: &str = ".package";

pub(super) fn run(options: &Retrofit, global: Global) -> anyhow::Result<Outcome> {
    let start = Instant::now();
    let source = &options.package;
    let slots = SlotOptions {
        rank: options.adapter_rank,
        sites: options.adapter_sites.into(),
    };
    let done = if Form::of(source).is_some() {
        let staging = Staging::new(&options.output, overwrite(options.force))?;
        let package = one(source, slots, &options.output, staging.path())?;
        staging.commit()?;
        RetrofittedFolder {
            packages: vec![package],
            shared: 0,
        }
    } else if source.is_dir() {
        let info = Base::open(source)?.info;
        let staging = Staging::new(&options.output, overwrite(options.force))?;
        let done = retrofit_folder(source, info, slots, staging.path())?;
        staging.commit()?;
        done
    } else {
        bail!(
            "`{}` is neither a package, a compiled model nor a folder of them",
            source.display()
        );
    };
    if global.json {
        let mut document = serde_json::to_value(&done)?;
        document["schema"] = 1.into();
        document["output"] = options.output.display().to_string().into();
        document["seconds"] = start.elapsed().as_secs_f64().into();
        print_json(&document)?;
        return Ok(Outcome::Done);
    }
    print!("{}", summary(&done).text());
    println!(
        "wrote `{}` in {:.1} s; {}",
        options.output.display(),
        start.elapsed().as_secs_f64(),
        match done.shared {
            0 => "its weights are shared with the source".to_string(),
            n => format!("{n} files are shared with the source"),
        }
    );
    Ok(Outcome::Done)
}

/// Retrofits one package or compiled model into the staged folder of `output`, in the form that the name of `output` tells.
fn one(
    source: &Path,
    slots: SlotOptions,
    output: &Path,
    staged: &Path,
) -> anyhow::Result<RetrofittedPackage> {
    let made = match output.extension().and_then(|e| e.to_str()) {
        Some("mlpackage") => retrofit(source, slots, staged)?,
        Some("mlmodelc") => {
            let scratch = staged.join(SCRATCH);
            let name = output.file_name().unwrap_or_default();
            let package = scratch.join(Path::new(name).with_extension("mlpackage"));
            std::fs::create_dir_all(&package)
                .with_context(|| format!("cannot create `{}`", package.display()))?;
            let made = retrofit(source, slots, &package)?;
            compile_package(&package, staged)?;
            std::fs::remove_dir_all(&scratch)
                .with_context(|| format!("cannot remove `{}`", scratch.display()))?;
            made
        }
        _ => bail!(
            "`{}` must end in .mlpackage or .mlmodelc, as `{}` is one model",
            output.display(),
            source.display()
        ),
    };
    Ok(RetrofittedPackage::new(
        &source.display().to_string(),
        &output.display().to_string(),
        &made,
    ))
}

/// One row per package with slots.
fn summary(done: &RetrofittedFolder) -> Table {
    let mut table = Table::new(&[
        "package",
        "component",
        "modules",
        "named by",
        "rank",
        "inputs",
    ]);
    for package in &done.packages {
        let inputs = package.inputs.iter();
        let inputs: Vec<String> = inputs
            .map(|(name, [rows, rank, width])| format!("{name} [{rows}, {rank}, {width}]"))
            .collect();
        let named_by = serde_json::to_value(package.named_by).unwrap_or_default();
        table.row(&[
            package.package.clone(),
            package.component.clone(),
            package.modules.to_string(),
            named_by.as_str().unwrap_or_default().to_string(),
            package.rank.to_string(),
            inputs.join(", "),
        ]);
    }
    table
}
