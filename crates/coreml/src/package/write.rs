//! Writing a package.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use prost::Message;
use sha2::{Digest, Sha256};

use super::manifest::{self, Item, Manifest, check_relative};
use crate::error::{Error, Result};
use crate::mmap::Mapped;
use crate::proto::specification::Model;

/// Author of the items that Core ML itself knows.
pub(super) const AUTHOR: &str = "com.apple.CoreML";
/// Bytes hashed at a time.
const CHUNK: usize = 1 << 20;

/// Where the weights of a new package come from.
#[derive(Clone, Copy, Debug)]
pub enum WeightFile<'a> {
    /// There are none; the package gets an empty folder `weights`, as from coremltools.
    None,
    /// This file, which is moved into the package.
    Move(&'a Path),
    /// This file, which other packages share; copied where the file system has no hard links.
    HardLink(&'a Path),
    /// These files, by their path from the folder of the model; all of them in `weights`. Shared like `HardLink`.
    HardLinkAll(&'a BTreeMap<String, PathBuf>),
}

/// Writes a package into the folder `dir`, which is made when it is missing and must hold no package yet.
///
/// The bytes depend on the model and the weights only: the identifiers in the manifest are hashes of both.
///
/// Errors: `Io` (also when a file is there already), `DiskFull`, `NotAFile`.
pub fn write(dir: &Path, model: &Model, weights: WeightFile<'_>) -> Result<()> {
    let inner = dir.join(manifest::DATA).join(AUTHOR);
    let weights_dir = inner.join("weights");
    fs::create_dir_all(&weights_dir).map_err(|e| Error::io("create", &weights_dir, e))?;

    let bytes = model.encode_to_vec();
    let model_id = identifier("model.mlmodel", &bytes);
    create(&inner.join("model.mlmodel"), &bytes)?;

    let weight_file = weights_dir.join("weight.bin");
    let weights_id = match weights {
        WeightFile::None => identifier("weights", &[]),
        WeightFile::Move(from) => {
            relocate(from, &weight_file)?;
            identifier("weights", &Mapped::open(&weight_file)?)
        }
        WeightFile::HardLink(from) => {
            link(from, &weight_file)?;
            identifier("weights", &Mapped::open(&weight_file)?)
        }
        WeightFile::HardLinkAll(files) => link_all(&inner, files)?,
    };

    let item = |name: &str, description: &str| Item {
        author: AUTHOR.to_owned(),
        description: description.to_owned(),
        name: name.to_owned(),
        path: format!("{AUTHOR}/{name}"),
    };
    let items = BTreeMap::from([
        (
            model_id.clone(),
            item("model.mlmodel", "CoreML Model Specification"),
        ),
        (weights_id, item("weights", "CoreML Model Weights")),
    ]);
    let path = dir.join(manifest::FILE_NAME);
    create(&path, &Manifest::new(items, model_id).to_bytes(&path)?)
}

/// Links files into the folder `weights` below `inner` and returns the identifier of that folder: for a single
/// `weights/weight.bin` the one that every package has, else one over names and contents.
fn link_all(inner: &Path, files: &BTreeMap<String, PathBuf>) -> Result<String> {
    let mut content = Sha256::new();
    for (name, from) in files {
        check_relative(name, inner)?;
        if !name.starts_with("weights/") {
            return Err(Error::WeightPlace {
                file_name: name.clone(),
            });
        }
        let to = inner.join(name);
        let folder = to.parent().unwrap_or(inner);
        fs::create_dir_all(folder).map_err(|e| Error::io("create", folder, e))?;
        link(from, &to)?;
        let bytes = Mapped::open(&to)?;
        if name == "weights/weight.bin" && files.len() == 1 {
            return Ok(identifier("weights", &bytes));
        }
        content.update((name.len() as u64).to_le_bytes());
        content.update(name.as_bytes());
        content.update((bytes.len() as u64).to_le_bytes());
        for chunk in bytes.chunks(CHUNK) {
            content.update(chunk);
        }
    }
    if files.is_empty() {
        return Ok(identifier("weights", &[]));
    }
    Ok(identifier("weights", &content.finalize()))
}

/// A UUID of version 8 from the SHA-256 of a label and the content of an item, in lower case.
pub(super) fn identifier(label: &str, content: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(label.as_bytes());
    hash.update([0]);
    for chunk in content.chunks(CHUNK) {
        hash.update(chunk);
    }
    let digest = hash.finalize();
    let mut text = String::with_capacity(36);
    for (i, byte) in digest.iter().take(16).enumerate() {
        let byte = match i {
            6 => byte & 0x0f | 0x80,
            8 => byte & 0x3f | 0x80,
            _ => *byte,
        };
        if matches!(i, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// Makes a new file with these bytes.
pub(crate) fn create(path: &Path, bytes: &[u8]) -> Result<()> {
    File::create_new(path)
        .and_then(|mut file| file.write_all(bytes))
        .map_err(|e| Error::io("write", path, e))
}

/// Moves a file, also to another file system.
fn relocate(from: &Path, to: &Path) -> Result<()> {
    match fs::rename(from, to) {
        Err(e) if e.kind() == ErrorKind::CrossesDevices => {
            copy(from, to)?;
            fs::remove_file(from).map_err(|e| Error::io("remove", from, e))
        }
        result => result.map_err(|e| Error::io("move", from, e)),
    }
}

/// Makes `to` the same file as `from`, or a copy where the file system has no hard links.
///
/// Errors: `Io` (also when `to` is there already), `DiskFull`.
pub fn link(from: &Path, to: &Path) -> Result<()> {
    // A link to a symbolic link would keep the link, not the file.
    let from = fs::canonicalize(from).map_err(|e| Error::io("open", from, e))?;
    match fs::hard_link(&from, to) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Err(Error::io("create", to, e)),
        Err(_) => copy(&from, to),
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to)
        .map(drop)
        .map_err(|e| Error::io("copy to", to, e))
}
