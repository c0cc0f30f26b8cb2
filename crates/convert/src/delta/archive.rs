//! The archive of a delta: the zip form of adapter assets, a manifest, and one member of new bytes per weight file.

use super::MAX_MANIFEST;
use super::manifest::{Manifest, WeightFile, is_delta};
use crate::asset::{MANIFEST, hex, members, zip};
use crate::{Error, Result};
use gesso_coreml::mmap::Mapped;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use zip::Content;

/// Writes the delta `file`: the members of `manifest.files` lie in `dir`. `manifest.members` is filled in.
pub(super) fn write(file: &Path, dir: &Path, mut manifest: Manifest) -> Result<()> {
    let mut contents: BTreeMap<_, _> = manifest
        .files
        .iter()
        .map(|changed| (changed.data.clone(), Content::File(dir.join(&changed.data))))
        .collect();
    manifest.members.extend(members::listed(&contents)?);
    contents.insert(MANIFEST.into(), Content::Bytes(manifest.to_bytes(file)?));
    zip::write(file, &contents)
}

/// A delta whose every byte was checked.
pub struct Delta {
    path: PathBuf,
    file: Mapped,
    manifest: Manifest,
    /// Where the members lie in the file.
    members: BTreeMap<String, Range<usize>>,
}

impl std::fmt::Debug for Delta {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delta")
            .field("path", &self.path)
            .field("manifest", &self.manifest)
            .finish_non_exhaustive()
    }
}

impl Delta {
    /// Opens a delta and checks its form, names, sizes and hashes.
    ///
    /// Errors: [`Error::AssetForm`], [`Error::AssetMember`], [`Error::AssetTooNew`], [`Error::Json`].
    pub fn open(path: &Path) -> Result<Self> {
        let file = Mapped::open(path)?;
        let (manifest, members) = checked(&file, path)?;
        Ok(Self {
            path: path.into(),
            file,
            manifest,
            members,
        })
    }

    /// Whether the file is an archive whose manifest is that of a delta. Nothing else is checked.
    ///
    /// Errors: those of opening the file; [`Error::AssetForm`], [`Error::AssetMember`] for an archive that is none of ours.
    pub fn is_one(path: &Path) -> Result<bool> {
        let file = Mapped::open(path)?;
        let members = zip::read(&file, path)?;
        Ok(members
            .iter()
            .any(|(name, bytes)| *name == MANIFEST && is_delta(bytes)))
    }

    /// What the delta says about itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The new bytes of the patches of `file`, in order and without gaps.
    pub(super) fn data(&self, file: &WeightFile) -> Result<&[u8]> {
        self.members
            .get(&file.data)
            .and_then(|range| self.file.get(range.clone()))
            .ok_or_else(|| Error::member(&self.path, &file.data, "it is missing"))
    }
}

/// Checks the bytes of a delta: form, names, sizes and hashes; `path` is for messages.
///
/// Nothing is allocated but headers and the manifest, so at most a small multiple of the bytes.
///
/// Errors: [`Error::AssetForm`], [`Error::AssetMember`], [`Error::AssetTooNew`], [`Error::Json`].
pub fn check(bytes: &[u8], path: &Path) -> Result<Manifest> {
    checked(bytes, path).map(|(manifest, _)| manifest)
}

/// As [`check`]; with the place of every member.
fn checked(bytes: &[u8], path: &Path) -> Result<(Manifest, BTreeMap<String, Range<usize>>)> {
    let members = zip::read(bytes, path)?;
    let manifest = Manifest::from_bytes(members::manifest(&members, MAX_MANIFEST, path)?, path)?;
    for (name, bytes) in members.iter().filter(|(name, _)| *name != MANIFEST) {
        let Some(member) = manifest.members.get(*name) else {
            return Err(Error::member(path, name, "the manifest does not list it"));
        };
        members::check(member, name, bytes, path)?;
    }
    for file in &manifest.files {
        let found = members.iter().find(|(name, _)| *name == file.data);
        let Some((_, bytes)) = found.filter(|_| manifest.members.contains_key(&file.data)) else {
            return Err(Error::member(path, &file.data, "it is missing"));
        };
        check_patches(file, bytes, path)?;
    }
    let places = members.iter().map(|(name, content)| {
        let start = content.as_ptr() as usize - bytes.as_ptr() as usize;
        (name.to_string(), start..start + content.len())
    });
    Ok((manifest, places.collect()))
}

/// Checks the hash of every patch. That the bytes are as many as the patches take was checked with the manifest.
fn check_patches(file: &WeightFile, bytes: &[u8], path: &Path) -> Result<()> {
    let mut rest = bytes;
    for patch in &file.patches {
        let split = usize::try_from(patch.length)
            .ok()
            .and_then(|length| rest.split_at_checked(length));
        let Some((new, tail)) = split else {
            return Err(Error::member(
                path,
                &file.data,
                "it is shorter than its patches",
            ));
        };
        let sha256 = hex(&Sha256::digest(new));
        if sha256 != patch.sha256 {
            let reason = format!(
                "the patch of `{}` has the SHA-256 {sha256}, the manifest says {}",
                patch.tensor.escape_default(),
                patch.sha256
            );
            return Err(Error::member(path, &file.data, reason));
        }
        rest = tail;
    }
    Ok(())
}
