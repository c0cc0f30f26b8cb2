//! `report.json`, as the Swift program writes it.

use super::kit::FLOOR_DB;
use serde::Deserialize;
use std::collections::BTreeMap;

/// A whole report.
#[derive(Debug, Deserialize)]
pub(super) struct Report {
    pub(super) schema: u32,
    pub(super) system: System,
    pub(super) results: Vec<Run>,
    /// Files of our compiled models against those of Apple's compiler.
    #[serde(default)]
    pub(super) files: Vec<Twin>,
}

/// Where it ran.
#[derive(Debug, Deserialize)]
pub(super) struct System {
    pub(super) device: String,
    pub(super) os: String,
}

/// One probe in one form on one choice of compute units.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Run {
    pub(super) probe: String,
    /// `package` or `compiled`.
    pub(super) form: String,
    /// `cpu`, `gpu`, `ane` or `all`.
    pub(super) units: String,
    pub(super) loaded: bool,
    pub(super) error: Option<String>,
    #[serde(default)]
    pub(super) outputs: Vec<Loss>,
    #[serde(default)]
    pub(super) plan: Vec<Planned>,
}

/// One output of one case.
#[derive(Debug, Deserialize)]
pub(super) struct Loss {
    pub(super) db: f64,
}

/// One op of the compute plan.
#[derive(Debug, Deserialize)]
pub(super) struct Planned {
    /// `cpu`, `gpu` or `ane`.
    pub(super) preferred: Option<String>,
}

/// One file of a compiled model.
#[derive(Debug, Deserialize)]
pub(super) struct Twin {
    pub(super) probe: String,
    pub(super) file: String,
    pub(super) equal: bool,
}

impl Run {
    /// The lowest dB of its outputs.
    fn db(&self) -> Option<f64> {
        self.outputs.iter().map(|o| o.db).min_by(f64::total_cmp)
    }

    /// Whether it loaded and every output is near enough.
    fn holds(&self) -> bool {
        self.loaded && self.error.is_none() && self.db().is_some_and(|db| db >= FLOOR_DB)
    }

    fn words(&self) -> String {
        let db = match (&self.error, self.db()) {
            (Some(error), _) => format!("fails ({})", plain(error)),
            (None, _) if !self.loaded => "does not load".into(),
            (None, None) => "gives nothing".into(),
            (None, Some(db)) if db < FLOOR_DB => format!("{db:.0} dB, below {FLOOR_DB}"),
            (None, Some(db)) => format!("{db:.0} dB"),
        };
        let on_ane = |op: &&Planned| op.preferred.as_deref() == Some("ane");
        let planned = self.plan.iter().filter(|op| op.preferred.is_some()).count();
        match (planned, self.plan.iter().filter(on_ane).count()) {
            (0, _) => format!("{} {db}", plain(&self.units)),
            (all, ane) => format!("{} {db} ({ane} of {all} ops on ane)", plain(&self.units)),
        }
    }
}

/// What a report says about one probe.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) text: String,
    pub(super) holds: bool,
}

impl Report {
    /// Device and system in one phrase.
    pub(super) fn place(&self) -> String {
        format!("{}, {}", plain(&self.system.device), plain(&self.system.os))
    }

    /// The verdict on every probe that it ran.
    pub(super) fn verdicts(&self) -> BTreeMap<String, Verdict> {
        let mut runs: BTreeMap<&str, BTreeMap<&str, Vec<&Run>>> = BTreeMap::new();
        for run in &self.results {
            let forms = runs.entry(&run.probe).or_default();
            forms.entry(&run.form).or_default().push(run);
        }
        runs.into_iter()
            .map(|(probe, forms)| {
                let mut parts: Vec<String> = Vec::new();
                // `package` before `compiled`.
                for (form, runs) in forms.iter().rev() {
                    let words: Vec<String> = runs.iter().map(|run| run.words()).collect();
                    parts.push(format!("{} {}", plain(form), words.join(", ")));
                }
                let twins: Vec<&Twin> = self.files.iter().filter(|t| t.probe == probe).collect();
                parts.extend(twins.iter().map(|t| {
                    let verb = if t.equal { "equals" } else { "differs from" };
                    format!("`{}` {verb} Apple's", plain(&t.file))
                }));
                let holds = forms.values().flatten().all(|run| run.holds());
                let text = parts.join("; ");
                (probe.to_string(), Verdict { text, holds })
            })
            .collect()
    }
}

/// Text of a report as it may stand in a cell of a table: one line, no markup, at most 120 characters.
fn plain(text: &str) -> String {
    let safe = |c: char| {
        if c.is_control() || "|<>`\\[]".contains(c) {
            ' '
        } else {
            c
        }
    };
    text.chars().map(safe).take(120).collect()
}
