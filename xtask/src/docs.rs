//! `cargo xtask docs`: the pages that are generated from tables of the code.

use std::fs;

use anyhow::{Context, Result};

/// Page and what makes it.
type Page = (&'static str, fn() -> String);

/// Every generated page.
const PAGES: &[Page] = &[
    ("docs/lints.md", gesso_mil::lints::reference),
    ("docs/ops.md", gesso_mil::ops::reference),
];

/// Arguments of `cargo xtask docs`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Compare with the committed pages instead of writing them; exit 1 when they differ.
    #[arg(long)]
    pub(crate) check: bool,
}

/// Writes the pages, or compares them. The answer is false when a compared page differs.
pub(crate) fn run(args: &Args) -> Result<bool> {
    let mut same = true;
    for (name, page) in PAGES {
        let path = crate::root().join(name);
        let text = page();
        if !args.check {
            fs::write(&path, text).with_context(|| format!("writing `{}`", path.display()))?;
        } else if fs::read_to_string(&path).unwrap_or_default() != text {
            eprintln!("`{name}` differs from what its table gives");
            same = false;
        }
    }
    if !same {
        eprintln!("\nhint: run `cargo xtask docs`");
    }
    Ok(same)
}
