//! `manifest.json` of an adapter asset.

use super::{KIND, READER};
use crate::hint::SchedulerHint;
use crate::slots::{Role, Slot};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Largest rank that a reader accepts.
const MAX_RANK: usize = 4096;
/// Largest width that a reader accepts; no dimension of an input may be larger.
const MAX_WIDTH: usize = 16384;
/// Most elements of a kernel that a reader accepts.
const MAX_TAPS: usize = 49;

/// What an adapter asset says about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this form.
    pub schema: u32,
    /// Oldest reader that can use the asset.
    pub min_reader: u32,
    /// Always `gesso.adapter`.
    pub kind: String,
    /// Name of the adapter.
    pub name: String,
    /// Highest rank of its components.
    pub rank: usize,
    /// Strength that an app starts with.
    pub default_strength: f32,
    /// Words that a prompt should have.
    pub trigger_words: Vec<String>,
    /// How it wants to be sampled, for a few-step release; of a sum the first of its LoRAs that has a hint decides.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub scheduler_hint: Option<SchedulerHint>,
    /// Author, when the LoRA file names one.
    pub author: Option<String>,
    /// Licence, when the LoRA file names one.
    pub license: Option<String>,
    /// Metadata of the LoRA file as it was.
    pub metadata: BTreeMap<String, String>,
    /// Tensors of the LoRA file that nothing uses, with the reason or the pattern that named them.
    #[serde(default)]
    pub ignored: BTreeMap<String, String>,
    /// Source hash of the only base that it fits, 64 hexadecimal digits, when its factors depend on that base's weights.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub base_source_hash: Option<String>,
    /// The components that it touches.
    pub components: BTreeMap<String, ComponentInfo>,
    /// Which row carries which factor of which module.
    pub rows: Vec<Slot>,
    /// Every other member of the archive.
    pub members: BTreeMap<String, Member>,
    /// Room for a signature over the other fields.
    pub signature: Option<String>,
}

/// One component of an adapter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentInfo {
    /// Name of the package in the archive.
    pub package: String,
    /// Layout hash of the slots that it was made for, 64 hexadecimal digits.
    pub layout_hash: String,
    /// Rank r of its outputs `[m_W, r, W]`.
    pub rank: usize,
}

/// One member of the archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Size in bytes.
    pub size: u64,
    /// SHA-256, 64 hexadecimal digits.
    pub sha256: String,
}

/// The fields that every version of a manifest has.
#[derive(Deserialize)]
struct Stamp {
    kind: String,
    min_reader: u32,
}

impl Manifest {
    /// The rows of `component`.
    pub fn rows_of<'a>(&'a self, component: &'a str) -> impl Iterator<Item = &'a Slot> + 'a {
        self.rows
            .iter()
            .filter(move |row| row.component == component)
    }

    pub(super) fn to_bytes(&self, file: &Path) -> Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(self).map_err(|e| json(file, &e.to_string()))?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    pub(super) fn from_bytes(bytes: &[u8], file: &Path) -> Result<Self> {
        let stamp: Stamp = serde_json::from_slice(bytes).map_err(|e| json(file, &e.to_string()))?;
        if stamp.kind != KIND {
            let reason = format!(
                "`kind` is `{}`, expected `{KIND}`",
                stamp.kind.escape_default()
            );
            return Err(json(file, &reason));
        }
        if stamp.min_reader > READER {
            return Err(Error::AssetTooNew {
                file: file.display().to_string(),
                needed: stamp.min_reader,
                own: READER,
            });
        }
        let manifest: Self =
            serde_json::from_slice(bytes).map_err(|e| json(file, &e.to_string()))?;
        match manifest.problem() {
            Some(problem) => Err(json(file, &problem)),
            None => Ok(manifest),
        }
    }

    fn problem(&self) -> Option<String> {
        if !self.default_strength.is_finite() {
            return Some("`default_strength` is not a number".into());
        }
        if let Some(problem) = self
            .scheduler_hint
            .as_ref()
            .and_then(SchedulerHint::problem)
        {
            return Some(problem);
        }
        if self.components.is_empty() {
            return Some("`components` is empty".into());
        }
        for (component, info) in &self.components {
            if info.package != super::package_name(component) || component.contains('/') {
                return Some(format!(
                    "`components`: `{component}` has package `{}`",
                    info.package
                ));
            }
            if info.rank == 0 || info.rank > MAX_RANK {
                return Some(format!(
                    "`components`: `{component}` has rank {}",
                    info.rank
                ));
            }
        }
        let mut seen = BTreeSet::new();
        let mut rows: BTreeMap<(&str, usize), BTreeSet<usize>> = BTreeMap::new();
        for row in &self.rows {
            let role = match row.role {
                Role::Down => "down",
                Role::Up => "up",
            };
            let name = format!("`rows`: `{}:{}` {role}", row.component, row.module);
            if !self.components.contains_key(&row.component) {
                return Some(format!("{name}: the component is not among `components`"));
            }
            if row.width == 0 || row.width > MAX_WIDTH {
                return Some(format!("{name}: width {}", row.width));
            }
            if row.taps == 0 || row.taps > MAX_TAPS || (row.role == Role::Up && row.taps != 1) {
                return Some(format!("{name}: {} taps", row.taps));
            }
            let taken = rows.entry((&row.component, row.width)).or_default();
            let new = (0..row.taps).all(|tap| taken.insert(row.row.saturating_add(tap)));
            if !seen.insert((&row.component, &row.module, row.role)) || !new {
                return Some(format!("{name}: listed twice"));
            }
        }
        rows.iter()
            .find(|(_, numbers)| numbers.last().is_some_and(|&last| last >= numbers.len()))
            .map(|((component, width), _)| {
                format!("`rows`: `{component}` width {width}: the rows are not numbered from 0 without gaps")
            })
    }
}

fn json(file: &Path, reason: &str) -> Error {
    Error::Json {
        file: format!("{}: {}", file.display(), super::MANIFEST),
        reason: reason.into(),
    }
}
