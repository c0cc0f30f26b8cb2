//! `gesso apply`: a delta put into a converted folder.

use super::{Global, overwrite, print_json};
use crate::args::Apply;
use crate::progress::Line;
use crate::table::{self, Table};
use crate::{Outcome, selftest};
use gesso_convert::delta::{Delta, apply_delta};
use gesso_coreml::stage::Staging;
use std::time::Instant;

pub(super) fn run(options: &Apply, global: Global) -> anyhow::Result<Outcome> {
    let start = Instant::now();
    let delta = Delta::open(&options.delta)?;
    let staging = Staging::new(&options.output, overwrite(options.force))?;
    let mut line = Line::new();
    let applied = apply_delta(
        &delta,
        &options.base,
        staging.path(),
        &[selftest::FILE],
        &mut line,
    )?;
    line.clear();
    let self_test = if options.base.join(selftest::FILE).exists() {
        global.on_threads(|| selftest::write(staging.path(), global))??
    } else {
        "none, since the base has none".into()
    };
    staging.commit()?;
    if global.json {
        let mut document = serde_json::to_value(&applied)?;
        document["schema"] = 1.into();
        document["self_test"] = self_test.into();
        document["seconds"] = start.elapsed().as_secs_f64().into();
        print_json(&document)?;
        return Ok(Outcome::Done);
    }
    let mut patched = Table::new(&["weight file", "replaced"]);
    for (file, bytes) in &applied.patched {
        patched.row(&[file.clone(), table::bytes(*bytes)]);
    }
    print!("{}", patched.text());
    println!("self-test: {self_test}");
    println!(
        "wrote `{}` with `{}` in {:.1} s; {} files are shared with the base",
        options.output.display(),
        applied.name,
        start.elapsed().as_secs_f64(),
        applied.shared
    );
    Ok(Outcome::Done)
}
