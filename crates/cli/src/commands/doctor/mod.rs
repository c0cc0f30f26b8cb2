//! `gesso doctor`: plays the loaders of apps on a folder.

mod folder;
mod gesso;
mod lookups;
mod memory;
mod metadata;
mod shapes;

use super::{Global, print_json};
use crate::Outcome;
use crate::table::{self, Table};
use anyhow::ensure;
use clap::ValueEnum;
use folder::Folder;
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    /// Folder that an app is to load.
    folder: PathBuf,
    /// Only this app [default: all].
    #[arg(long, value_enum)]
    app: Option<App>,
}

/// An app, or the package that several apps are built on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum App {
    /// Apple's Swift package StableDiffusion.
    Apple,
    /// MochiDiffusion.
    Mochi,
    /// Guernika.
    Guernika,
    /// Gesso's own runtime.
    Gesso,
}

impl App {
    const ALL: [Self; 4] = [Self::Apple, Self::Mochi, Self::Guernika, Self::Gesso];

    fn word(self) -> &'static str {
        match self {
            Self::Apple => "apple",
            Self::Mochi => "mochi",
            Self::Guernika => "guernika",
            Self::Gesso => "gesso",
        }
    }
}

/// The apps that load through Apple's Swift package.
const SWIFT: &[App] = &[App::Apple, App::Mochi, App::Guernika];
/// The apps that read `metadata.json`.
const METADATA: &[App] = &[App::Mochi, App::Guernika];
/// Gesso's runtime.
const GESSO: &[App] = &[App::Gesso];

/// One thing that a loader looks for.
struct Lookup {
    /// Name.
    name: &'static str,
    /// The loaders that look.
    apps: &'static [App],
    /// What they do.
    does: &'static str,
    check: fn(&Folder, &mut Answers),
}

/// What looking up gave.
#[derive(Default)]
struct Answers(Vec<(bool, String)>);

impl Answers {
    /// The app will not load the folder, or not run it.
    fn refuse(&mut self, reason: impl Into<String>) {
        self.0.push((true, reason.into()));
    }

    /// The app loads the folder, but something will be missing or slow.
    fn warn(&mut self, reason: impl Into<String>) {
        self.0.push((false, reason.into()));
    }
}

/// One answer with its look-up.
struct Reason {
    lookup: &'static Lookup,
    refuses: bool,
    text: String,
}

/// All look-ups.
const LOOKUPS: &[&[Lookup]] = &[
    lookups::LOOKUPS,
    shapes::LOOKUPS,
    metadata::LOOKUPS,
    gesso::LOOKUPS,
];

pub(super) fn run(options: &Options, global: Global) -> anyhow::Result<Outcome> {
    ensure!(
        options.folder.is_dir(),
        "`{}` is not a folder",
        options.folder.display()
    );
    let folder = Folder::open(&options.folder)?;
    let apps: Vec<App> = options.app.map_or(App::ALL.to_vec(), |app| vec![app]);
    let mut reasons = Vec::new();
    for lookup in LOOKUPS.iter().flat_map(|group| group.iter()) {
        if !lookup.apps.iter().any(|app| apps.contains(app)) {
            continue;
        }
        let mut answers = Answers::default();
        (lookup.check)(&folder, &mut answers);
        reasons.extend(answers.0.into_iter().map(|(refuses, text)| Reason {
            lookup,
            refuses,
            text,
        }));
    }
    let loads = |app: App| {
        !reasons
            .iter()
            .any(|r| r.refuses && r.lookup.apps.contains(&app))
    };
    let memory = memory::estimates(&folder);
    let traps = memory::traps(&folder);
    if global.json {
        print_json(&document(&apps, loads, &reasons, &memory, &traps))?;
    } else {
        print!("{}", text(&apps, loads, &reasons, &memory, &traps));
    }
    Ok(if apps.iter().all(|app| loads(*app)) {
        Outcome::Done
    } else {
        Outcome::Findings
    })
}

fn text(
    apps: &[App],
    loads: impl Fn(App) -> bool,
    reasons: &[Reason],
    memory: &memory::Estimates,
    traps: &[String],
) -> String {
    let mut out = String::new();
    for &app in apps {
        out += &format!(
            "{}: {}\n",
            app.word(),
            if loads(app) { "yes" } else { "no" }
        );
    }
    for r in reasons {
        let who: Vec<&str> = r
            .lookup
            .apps
            .iter()
            .filter(|a| apps.contains(a))
            .map(|a| a.word())
            .collect();
        let word = if r.refuses { "no" } else { "warning" };
        out += &format!(
            "{word} ({}) {}: {}\n",
            who.join(", "),
            r.lookup.name,
            r.text
        );
    }
    for trap in traps {
        out += &format!("neural engine: {trap}\n");
    }
    let mut table = Table::new(&["model", "weights", "activations"]);
    for m in &memory.models {
        table.row(&[
            m.name.clone(),
            table::bytes(m.weights),
            table::bytes(m.activations),
        ]);
    }
    out += &format!("\n{}", table.text());
    let (all, one) = (table::bytes(memory.resident), table::bytes(memory.largest));
    out += &format!("estimated peak: {all} with all models in memory, {one} one at a time\n");
    for device in memory.devices() {
        out += &format!("{}: {}\n", device.name, device.verdict());
    }
    out
}

fn document(
    apps: &[App],
    loads: impl Fn(App) -> bool,
    reasons: &[Reason],
    memory: &memory::Estimates,
    traps: &[String],
) -> Value {
    let apps: serde_json::Map<String, Value> = apps
        .iter()
        .map(|app| (app.word().to_string(), loads(*app).into()))
        .collect();
    let reasons: Vec<Value> = reasons
        .iter()
        .map(|r| {
            let who: Vec<&str> = r.lookup.apps.iter().map(|a| a.word()).collect();
            json!({ "lookup": r.lookup.name, "does": r.lookup.does, "apps": who, "refuses": r.refuses, "text": r.text })
        })
        .collect();
    let models: Vec<Value> = memory
        .models
        .iter()
        .map(|m| json!({ "name": m.name, "weights": m.weights, "activations": m.activations }))
        .collect();
    let devices: serde_json::Map<String, Value> = memory
        .devices()
        .map(|d| (d.name.to_string(), d.verdict().into()))
        .collect();
    json!({
        "schema": 1, "loads": apps, "reasons": reasons, "neural_engine": traps,
        "memory": { "models": models, "resident": memory.resident, "one_at_a_time": memory.largest, "devices": devices },
    })
}
