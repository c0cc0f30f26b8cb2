//! A delta put into a base: a new folder that shares every file which stays as it is.

use super::archive::Delta;
use super::manifest::{DeltaLora, WeightFile};
use crate::asset::hex;
use crate::emit::Progress;
use crate::folder::{FOLDER_FILE, FolderInfo};
use crate::tree::Tree;
use crate::{Error, Result};
use gesso_coreml::mmap::Mapped;
use gesso_coreml::package;
use gesso_coreml::stage::require_space;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Bytes written and hashed at a time.
const CHUNK: usize = 1 << 20;

/// A delta in the weights of a folder, as `gesso.json` records it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AppliedDelta {
    /// Name of the style.
    pub name: String,
    /// The LoRAs that it holds, with their strengths.
    pub loras: Vec<DeltaLora>,
}

/// What applying did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Applied {
    /// Name of the style.
    pub name: String,
    /// Weight files that changed, by their path in the folder, with the number of bytes that the delta replaced.
    pub patched: BTreeMap<String, u64>,
    /// Files that both folders share.
    pub shared: usize,
}

/// Writes the converted folder `base` with the delta into the folder `out`, which must exist and be empty.
///
/// Every weight file with a hash of the delta is patched, those of packages and of compiled models alike; files that were one stay
/// one. The rest is shared by hard link, or copied where the file system has none. `gesso.json` records the delta. Files of the
/// folder itself that `computed` names depend on the weights and are left out.
///
/// Errors: [`Error::DeltaBase`] when the folder does not have the weights that the delta is for; [`Error::DeltaResult`]; those of
/// reading and writing.
pub fn apply_delta(
    delta: &Delta,
    base: &Path,
    out: &Path,
    computed: &[&str],
    progress: &mut dyn Progress,
) -> Result<Applied> {
    let manifest = delta.manifest();
    let mut info = FolderInfo::open(base)?;
    let tree = Tree::read(base)?;
    let places = places(delta, base, &tree, &info)?;
    let bytes = manifest.files.iter().map(|file| file.size);
    let bytes = bytes.fold(0u64, u64::saturating_add);
    require_space(out, bytes)?;
    progress.begin(&manifest.name, bytes);
    for folder in &tree.folders {
        let folder = out.join(folder);
        fs::create_dir_all(&folder).map_err(|e| Error::io(&folder, e))?;
    }
    let mut applied = Applied {
        name: manifest.name.clone(),
        patched: BTreeMap::new(),
        shared: 0,
    };
    let mut written: BTreeMap<&str, PathBuf> = BTreeMap::new();
    for relative in &tree.files {
        let (from, to) = (base.join(relative), out.join(relative));
        let own = relative
            .to_str()
            .is_some_and(|name| name == FOLDER_FILE || computed.contains(&name));
        if own {
            continue;
        }
        let Some(file) = places.get(relative) else {
            share(&from, &to)?;
            applied.shared += 1;
            continue;
        };
        match written.get(file.after.as_str()) {
            Some(first) => share(first, &to)?,
            None => {
                patch(delta, file, &from, &to, progress)?;
                written.insert(&file.after, to.clone());
            }
        }
        let name = relative.display().to_string();
        applied
            .patched
            .insert(name, file.patched().unwrap_or(u64::MAX));
    }
    for relative in places.keys() {
        if let Some(root) = package_of(relative) {
            let manifest = out.join(&root).join("Manifest.json");
            package::rename_weights(&manifest, &out.join(relative))?;
        }
    }
    record(delta, &mut info);
    info.write(out)?;
    Ok(applied)
}

/// The weight files of the base that the delta changes, by relative path.
///
/// Errors: [`Error::DeltaBase`] when one of the delta's is nowhere.
fn places<'a>(
    delta: &'a Delta,
    base: &Path,
    tree: &Tree,
    info: &FolderInfo,
) -> Result<BTreeMap<PathBuf, &'a WeightFile>> {
    let manifest = delta.manifest();
    let mut hashes: BTreeMap<(u64, u64), String> = BTreeMap::new();
    let mut all: BTreeMap<PathBuf, String> = BTreeMap::new();
    for relative in &tree.files {
        if relative.file_name().is_none_or(|name| name != "weight.bin") {
            continue;
        }
        let path = base.join(relative);
        let metadata = fs::metadata(&path).map_err(|e| Error::io(&path, e))?;
        let hash = match hashes.get(&(metadata.dev(), metadata.ino())) {
            Some(hash) => hash.clone(),
            None if manifest.files.iter().any(|f| f.size == metadata.len()) => {
                hex(&Sha256::digest(&*Mapped::open(&path)?))
            }
            None => format!("a file of {} bytes", metadata.len()),
        };
        hashes.insert((metadata.dev(), metadata.ino()), hash.clone());
        all.insert(relative.clone(), hash);
    }
    for file in &manifest.files {
        if all.values().any(|hash| *hash == file.before) {
            continue;
        }
        let mut found: Vec<&str> = all
            .iter()
            .filter(|(path, _)| is_of(path, &file.package))
            .map(|(_, hash)| hash.as_str())
            .collect();
        found.dedup();
        let found = match (found.is_empty(), info.packages.contains_key(&file.package)) {
            (false, _) => found.join(", "),
            (true, true) => "no weight file".into(),
            (true, false) => "no such package".into(),
        };
        return Err(Error::DeltaBase {
            delta: manifest.name.clone(),
            base: base.display().to_string(),
            package: file.package.clone(),
            expected: file.before.as_str().into(),
            found: found.into(),
        });
    }
    Ok(all
        .into_iter()
        .filter_map(|(path, hash)| {
            let file = manifest.files.iter().find(|file| file.before == hash)?;
            Some((path, file))
        })
        .collect())
}

/// Whether a path lies in the package or compiled model of this name.
fn is_of(path: &Path, package: &str) -> bool {
    path.components().next().is_some_and(|first| {
        let first = Path::new(first.as_os_str());
        first.file_stem().is_some_and(|stem| stem == package)
    })
}

/// The package that a weight file lies in, if it is one of a package.
fn package_of(relative: &Path) -> Option<PathBuf> {
    relative
        .ancestors()
        .find(|path| path.extension().is_some_and(|e| e == "mlpackage"))
        .map(Path::to_path_buf)
}

/// Makes `to` the same file as `from`, or a copy where the file system has no hard links.
fn share(from: &Path, to: &Path) -> Result<()> {
    Ok(package::link(from, to)?)
}

/// Writes the weight file `from` with the patches of the delta to `to`.
///
/// Errors: [`Error::DeltaResult`] when the outcome is not the one that the delta names.
fn patch(
    delta: &Delta,
    file: &WeightFile,
    from: &Path,
    to: &Path,
    progress: &mut dyn Progress,
) -> Result<()> {
    let base = Mapped::open(from)?;
    let mut data = delta.data(file)?;
    let mut out = fs::File::create_new(to).map_err(|e| Error::io(to, e))?;
    let mut hash = Sha256::new();
    let mut free = 0usize;
    let mut put = |bytes: Option<&[u8]>| -> Result<()> {
        // Neither can be missing: the manifest's offsets were checked against its size, and the hash of the file has that size.
        for chunk in bytes.unwrap_or_default().chunks(CHUNK) {
            out.write_all(chunk).map_err(|e| Error::io(to, e))?;
            hash.update(chunk);
            progress.advance(chunk.len() as u64);
        }
        Ok(())
    };
    for patch in &file.patches {
        let offset = usize::try_from(patch.offset).unwrap_or(usize::MAX);
        let length = usize::try_from(patch.length).unwrap_or(usize::MAX);
        put(base.get(free..offset))?;
        put(data.get(..length))?;
        data = data.get(length..).unwrap_or_default();
        free = offset.saturating_add(length);
    }
    put(base.get(free..))?;
    let found = hex(&hash.finalize());
    if found == file.after {
        return Ok(());
    }
    Err(Error::DeltaResult {
        file: to.display().to_string(),
        delta: delta.manifest().name.clone(),
        expected: file.after.clone(),
        found,
    })
}

/// Brings `gesso.json` up to date: the delta, and what the palettes lost.
fn record(delta: &Delta, info: &mut FolderInfo) {
    let manifest = delta.manifest();
    info.deltas.push(AppliedDelta {
        name: manifest.name.clone(),
        loras: manifest.loras.clone(),
    });
    for package in info.packages.values_mut() {
        let mut changed = false;
        for (key, palette) in &manifest.palettized {
            if let Some(old) = package.palettized.get_mut(key) {
                *old = *palette;
                changed = true;
            }
        }
        if changed {
            let lossy = package.palettized.values().filter_map(|(_, snr)| *snr);
            package.min_snr_db = lossy.reduce(f64::min);
        }
    }
}
