//! `manifest.json` of a delta.

use super::{KIND, READER};
use crate::asset::{MANIFEST, Member, zip};
use crate::hint::SchedulerHint;
use crate::merged::component_of;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What a delta says about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this form.
    pub schema: u32,
    /// Oldest reader of deltas that can use it.
    pub min_reader: u32,
    /// Always `gesso.delta`.
    pub kind: String,
    /// Name of the style.
    pub name: String,
    /// The LoRAs that it holds, with the strengths at which they were merged.
    pub loras: Vec<DeltaLora>,
    /// Words that a prompt should have.
    pub trigger_words: Vec<String>,
    /// Author, when the LoRA file names one.
    pub author: Option<String>,
    /// Licence, when the LoRA file names one.
    pub license: Option<String>,
    /// Metadata of the LoRA file as it was; empty for a sum of LoRAs.
    pub metadata: BTreeMap<String, String>,
    /// Tensors of the LoRA files that nothing uses, with the reason or the pattern that named them.
    #[serde(default)]
    pub ignored: BTreeMap<String, String>,
    /// Source hash of the base, 64 hexadecimal digits.
    pub base_source_hash: String,
    /// The weight files that change.
    pub files: Vec<WeightFile>,
    /// Palettized tensors among the changed ones: bits and signal to noise ratio of the palette in dB, as in `gesso.json`.
    #[serde(default)]
    pub palettized: BTreeMap<String, (u8, Option<f64>)>,
    /// Every other member of the archive.
    pub members: BTreeMap<String, Member>,
    /// Room for a signature over the other fields.
    pub signature: Option<String>,
}

/// One LoRA in a delta.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeltaLora {
    /// Name of the LoRA.
    pub name: String,
    /// Strength for the UNet.
    pub unet: f32,
    /// Strength for the text encoder.
    pub text_encoder: f32,
    /// How it wants to be sampled, for a few-step release.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub scheduler_hint: Option<SchedulerHint>,
}

/// One weight file that changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightFile {
    /// The component whose weights it holds.
    pub component: String,
    /// The package that it belongs to, by its name in `gesso.json`; others may share it.
    pub package: String,
    /// Name of the member with the new bytes of all patches, in order and without gaps.
    pub data: String,
    /// Size of the weight file in bytes, before and after.
    pub size: u64,
    /// SHA-256 of the weight file of the base, 64 hexadecimal digits.
    pub before: String,
    /// SHA-256 of the weight file with all patches.
    pub after: String,
    /// What is replaced, ascending and without overlap.
    pub patches: Vec<Patch>,
}

/// A run of bytes that is replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patch {
    /// The tensor that it belongs to, `<component>:<canonical name>`; for people.
    pub tensor: String,
    /// First byte in the weight file.
    pub offset: u64,
    /// Number of bytes.
    pub length: u64,
    /// SHA-256 of the new bytes, 64 hexadecimal digits.
    pub sha256: String,
}

/// The fields that every version of a manifest has.
#[derive(Deserialize)]
struct Stamp {
    kind: String,
    min_reader: u32,
}

/// Whether a manifest is that of a delta.
pub(super) fn is_delta(bytes: &[u8]) -> bool {
    serde_json::from_slice::<Stamp>(bytes).is_ok_and(|stamp| stamp.kind == KIND)
}

impl Manifest {
    pub(super) fn to_bytes(&self, file: &Path) -> Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(self).map_err(|e| json(file, &e.to_string()))?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    pub(super) fn from_bytes(bytes: &[u8], file: &Path) -> Result<Self> {
        let stamp: Stamp = serde_json::from_slice(bytes).map_err(|e| json(file, &e.to_string()))?;
        if stamp.kind != KIND {
            let found = stamp.kind.escape_default();
            return Err(json(
                file,
                &format!("`kind` is `{found}`, expected `{KIND}`"),
            ));
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
        if self.files.is_empty() {
            return Some("`files` is empty".into());
        }
        let hints = self.loras.iter().filter_map(|l| l.scheduler_hint.as_ref());
        if let Some(problem) = hints.filter_map(SchedulerHint::problem).next() {
            return Some(problem);
        }
        let (mut names, mut hashes) = (BTreeSet::new(), BTreeSet::new());
        for file in &self.files {
            if !names.insert(&file.data) {
                return Some(format!("`files`: member `{}` is used twice", file.data));
            }
            if !hashes.insert(&file.before) {
                return Some(format!("`files`: `{}` is changed twice", file.before));
            }
            let problem = file.problem().or_else(|| {
                let member = self.members.get(&file.data)?;
                (member.size != file.patched()?)
                    .then(|| format!("its patches do not have the size of `{}`", file.data))
            });
            if let Some(problem) = problem {
                return Some(format!(
                    "`files`: `{}`: {problem}",
                    file.package.escape_default()
                ));
            }
        }
        let unlisted = self.members.keys().find(|name| !names.contains(name));
        unlisted.map(|name| {
            format!(
                "`members`: `{}` is no part of a delta",
                name.escape_default()
            )
        })
    }
}

impl WeightFile {
    /// Bytes that are replaced; `None` when there is no such number.
    pub fn patched(&self) -> Option<u64> {
        self.patches
            .iter()
            .try_fold(0u64, |sum, patch| sum.checked_add(patch.length))
    }

    fn problem(&self) -> Option<String> {
        if component_of(&self.component).is_none() {
            return Some(format!(
                "`{}` is no component",
                self.component.escape_default()
            ));
        }
        if let Some(reason) =
            zip::unsafe_name(&self.data).or(self.data.contains('/').then_some("it has a folder"))
        {
            return Some(format!("`{}`: {reason}", self.data.escape_default()));
        }
        if !is_hash(&self.before) || !is_hash(&self.after) {
            return Some("`before` or `after` is no SHA-256".into());
        }
        if self.patches.is_empty() {
            return Some("`patches` is empty".into());
        }
        let mut free = 0;
        for patch in &self.patches {
            let name = patch.tensor.escape_default();
            let end = patch.offset.checked_add(patch.length);
            match end {
                Some(end) if patch.length > 0 && patch.offset >= free && end <= self.size => {
                    free = end;
                }
                _ => {
                    return Some(format!(
                        "the patch of `{name}`, {} bytes from {}, is empty, overlaps the one before, or reaches beyond the {} bytes",
                        patch.length, patch.offset, self.size
                    ));
                }
            }
            if !is_hash(&patch.sha256) {
                return Some(format!("`sha256` of the patch of `{name}` is no SHA-256"));
            }
        }
        None
    }
}

fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn json(file: &Path, reason: &str) -> Error {
    Error::Json {
        file: format!("{}: {MANIFEST}", file.display()),
        reason: reason.into(),
    }
}
