//! Adapter assets: a zip with a manifest and one adapter package per component.

mod manifest;
pub(crate) mod members;
#[cfg(test)]
mod tests;
pub(crate) mod zip;

pub use manifest::{ComponentInfo, Manifest, Member};

use crate::adapter::Factors;
use crate::slots::SlotTable;
use crate::{Error, Result};
use gesso_coreml::mmap::Mapped;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use zip::Content;

/// Version of the manifest's form.
pub const SCHEMA: u32 = 1;
/// Version of this reader.
pub const READER: u32 = 3;
/// Oldest reader that understands what this crate writes.
pub(crate) const MIN_READER: u32 = 1;
/// Oldest reader that checks the base's source hash.
pub(crate) const READER_OF_SOURCE: u32 = 2;
/// Oldest reader that knows factors of several taps.
pub(crate) const READER_OF_TAPS: u32 = 3;
/// Says that a zip is an adapter asset.
pub(crate) const KIND: &str = "gesso.adapter";

pub(crate) const MANIFEST: &str = "manifest.json";
/// Largest manifest that is read.
const MAX_MANIFEST: usize = 16 << 20;
/// Members of an adapter package, without the package's name.
const PACKAGE_FILES: [&str; 3] = [
    "Data/com.apple.CoreML/model.mlmodel",
    "Data/com.apple.CoreML/weights/weight.bin",
    "Manifest.json",
];

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

pub(crate) fn package_name(component: &str) -> String {
    format!("{component}.mlpackage")
}

/// Writes the asset `file` from the packages of `manifest.components` that lie in `dir`.
pub(crate) fn write(file: &Path, dir: &Path, mut manifest: Manifest) -> Result<()> {
    let mut contents = BTreeMap::new();
    for info in manifest.components.values() {
        for relative in PACKAGE_FILES {
            let path = dir.join(&info.package).join(relative);
            if path.is_file() {
                contents.insert(format!("{}/{relative}", info.package), Content::File(path));
            }
        }
    }
    manifest.members.extend(members::listed(&contents)?);
    contents.insert(MANIFEST.into(), Content::Bytes(manifest.to_bytes(file)?));
    zip::write(file, &contents)
}

/// An adapter asset whose every byte was checked.
pub struct Asset {
    path: PathBuf,
    file: Mapped,
    manifest: Manifest,
}

impl std::fmt::Debug for Asset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asset")
            .field("path", &self.path)
            .field("manifest", &self.manifest)
            .finish_non_exhaustive()
    }
}

impl Asset {
    /// Opens an asset and checks its form, names, sizes and hashes.
    ///
    /// Errors: [`Error::AssetForm`], [`Error::AssetMember`], [`Error::AssetTooNew`], [`Error::Json`].
    pub fn open(path: &Path) -> Result<Self> {
        let file = Mapped::open(path)?;
        let manifest = check(&file, path)?;
        Ok(Self {
            path: path.into(),
            file,
            manifest,
        })
    }

    /// What the asset says about itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Checks that the asset was made for slots of this layout and, where its factors depend on the base's weights, for these
    /// weights; `slots` are those of a base by component, `source_hash` is the one in its `gesso.json`.
    ///
    /// Errors: [`Error::NoAdaptable`] for a component without slots; [`Error::Layout`]; [`Error::OtherSource`].
    pub fn fits(&self, slots: &BTreeMap<String, SlotTable>, source_hash: &str) -> Result<()> {
        for (component, info) in &self.manifest.components {
            let table = slots.get(component).ok_or_else(|| Error::NoAdaptable {
                base: component.clone(),
            })?;
            let expected = hex(&table.layout_hash());
            if info.layout_hash != expected {
                return Err(Error::Layout {
                    adapter: self.manifest.name.clone(),
                    component: component.clone(),
                    expected,
                    found: info.layout_hash.clone(),
                });
            }
        }
        match &self.manifest.base_source_hash {
            Some(found) if found != source_hash => Err(Error::OtherSource {
                adapter: self.manifest.name.clone(),
                expected: source_hash.into(),
                found: found.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// Unpacks the packages into the folder `dir`, which is made when it is not there; the answer is the package of each
    /// component.
    ///
    /// Errors: [`Error::Io`]; those of reading.
    pub fn extract(&self, dir: &Path) -> Result<BTreeMap<String, PathBuf>> {
        for (name, bytes) in zip::read(&self.file, &self.path)? {
            if name == MANIFEST {
                continue;
            }
            let target = dir.join(name);
            if let Some(parent) = target.parent() {
                std::fs::create_dir_all(parent).map_err(|e| Error::io(parent, e))?;
            }
            std::fs::write(&target, bytes).map_err(|e| Error::io(&target, e))?;
        }
        for info in self.manifest.components.values() {
            // A package without weights has an empty folder, which a zip of files cannot carry.
            let weights = dir
                .join(&info.package)
                .join("Data/com.apple.CoreML/weights");
            std::fs::create_dir_all(&weights).map_err(|e| Error::io(&weights, e))?;
        }
        Ok(self
            .manifest
            .components
            .iter()
            .map(|(component, info)| (component.clone(), dir.join(&info.package)))
            .collect())
    }

    /// The factors of `component` from the outputs of one prediction of its package, `adapter_W` by name; `None` when the asset
    /// does not touch that component.
    pub fn factors(&self, component: &str, outputs: BTreeMap<String, Vec<f32>>) -> Option<Factors> {
        let info = self.manifest.components.get(component)?;
        Some(Factors {
            adapter: self.manifest.name.clone(),
            rank: info.rank,
            rows: self.manifest.rows_of(component).cloned().collect(),
            tensors: outputs,
        })
    }
}

/// Checks the bytes of an asset: form, names, sizes and hashes; `path` is for messages.
///
/// Nothing is allocated but headers and the manifest, so at most a small multiple of the bytes.
///
/// Errors: [`Error::AssetForm`], [`Error::AssetMember`], [`Error::AssetTooNew`], [`Error::Json`].
pub fn check(bytes: &[u8], path: &Path) -> Result<Manifest> {
    let members = zip::read(bytes, path)?;
    let manifest = Manifest::from_bytes(members::manifest(&members, MAX_MANIFEST, path)?, path)?;
    for (name, bytes) in &members {
        if *name == MANIFEST {
            continue;
        }
        let known = name.split_once('/').is_some_and(|(package, file)| {
            PACKAGE_FILES.contains(&file)
                && manifest
                    .components
                    .values()
                    .any(|info| info.package == package)
        });
        let Some(member) = manifest.members.get(*name).filter(|_| known) else {
            return Err(Error::member(
                path,
                name,
                "it is not part of an adapter asset, or the manifest does not list it",
            ));
        };
        members::check(member, name, bytes, path)?;
    }
    let present = |name: &str| members.iter().any(|(n, _)| *n == name);
    let required = manifest
        .components
        .values()
        .flat_map(|info| PACKAGE_FILES.map(|file| format!("{}/{file}", info.package)))
        .filter(|name| !name.ends_with("weight.bin"));
    for name in required.chain(manifest.members.keys().cloned()) {
        if !present(&name) {
            return Err(Error::member(path, &name, "it is missing"));
        }
    }
    Ok(manifest)
}
