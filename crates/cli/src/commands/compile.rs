//! `gesso compile`: a package to a compiled model.

use super::{Global, overwrite, print_json};
use crate::Outcome;
use crate::args::Compile;
use crate::table::Table;
use anyhow::Context;
use gesso_convert::compile_package;
use gesso_coreml::stage::Staging;
use std::path::Path;
use std::time::Instant;

pub(super) fn run(options: &Compile, global: Global) -> anyhow::Result<Outcome> {
    let start = Instant::now();
    let staging = Staging::new(&options.output, overwrite(options.force))?;
    compile_package(&options.model, staging.path())
        .with_context(|| format!("cannot compile `{}`", options.model.display()))?;
    let files = files(staging.path())?;
    staging.commit()?;
    report(&files, &options.output, start, global)?;
    Ok(Outcome::Done)
}

/// Every file below a folder with its length, in order of the paths.
pub(super) fn files(folder: &Path) -> anyhow::Result<Vec<(String, u64)>> {
    let mut found = Vec::new();
    let mut left = vec![folder.to_path_buf()];
    while let Some(next) = left.pop() {
        for entry in
            std::fs::read_dir(&next).with_context(|| format!("cannot read `{}`", next.display()))?
        {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                left.push(entry.path());
            } else {
                let path = entry.path();
                let name = path.strip_prefix(folder).unwrap_or(&path);
                found.push((name.display().to_string(), metadata.len()));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// What was written, as a table or as JSON.
pub(super) fn report(
    files: &[(String, u64)],
    output: &Path,
    start: Instant,
    global: Global,
) -> anyhow::Result<()> {
    let seconds = start.elapsed().as_secs_f64();
    if global.json {
        let rows = files.iter().map(|(file, bytes)| {
            serde_json::json!({
                "file": file,
                "bytes": bytes,
            })
        });
        return print_json(&serde_json::json!({
            "schema": 1,
            "output": output.display().to_string(),
            "files": rows.collect::<Vec<_>>(),
            "seconds": seconds,
        }));
    }
    let mut table = Table::new(&["file", "bytes"]);
    for (file, bytes) in files {
        table.row(&[file.clone(), bytes.to_string()]);
    }
    print!("{}", table.text());
    println!("wrote `{}` in {seconds:.2} s", output.display());
    Ok(())
}
