//! The `.mlpackage` folder.
//!
//! ```text
//! Name.mlpackage/
//!   Manifest.json
//!   Data/com.apple.CoreML/model.mlmodel        the bare bytes of a `Model` message
//!   Data/com.apple.CoreML/weights/weight.bin   the large constants, when there are any
//! ```
//!
//! Writers other than Apple's use other folders below `Data` and other names of weight files, so a reader follows the
//! manifest and the names in the model.

mod manifest;
mod write;

pub use write::{WeightFile, write};

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prost::Message;
use walkdir::WalkDir;

use crate::blob::{BlobFile, BlobRecord};
use crate::error::{Error, Result};
use crate::mmap::Mapped;
use crate::proto::specification::Model;
use manifest::Manifest;

/// How the model names the folder that holds its own file.
const MODEL_PATH: &str = "@model_path/";
/// The weight file of every package that Gesso writes, as the model names it.
pub const WEIGHT_FILE: &str = "@model_path/weights/weight.bin";

/// A package that is open for reading. A clone shares the mapped files.
#[derive(Clone, Debug)]
pub struct Package {
    /// The folder.
    pub path: PathBuf,
    /// The root model.
    pub model: Model,
    /// Paths below `Data` that the manifest lists but that are not there. Apple's reader refuses such a package; an
    /// empty folder `weights` is easily lost in archives and repositories, so here it is only reported.
    pub missing_items: Vec<String>,
    /// Length of the model file in bytes.
    pub model_bytes: u64,
    /// Files beside the model file, by their path from its folder with forward slashes.
    files: BTreeMap<String, Arc<Mapped>>,
}

impl Package {
    /// Opens a package: reads the manifest, decodes the root model, maps the files beside it.
    ///
    /// Errors: `Manifest`, `ManifestVersion`, `ManifestRoot`, `UnsafePath`, `MissingItem` for the root model, `Model`,
    /// `Io`.
    pub fn open(path: &Path) -> Result<Self> {
        let manifest = Manifest::read(&path.join(manifest::FILE_NAME))?;
        let data = path.join(manifest::DATA);
        let model_file = data.join(manifest.root());
        if !model_file.exists() {
            return Err(Error::MissingItem {
                package: path.to_path_buf(),
                item: manifest.root().to_owned(),
            });
        }
        let missing_items = manifest
            .items()
            .filter(|item| !data.join(item).exists())
            .map(str::to_owned)
            .collect();
        Ok(Self {
            path: path.to_path_buf(),
            model: read_model(&model_file)?,
            missing_items,
            model_bytes: fs::metadata(&model_file)
                .map_err(|e| Error::io("read", &model_file, e))?
                .len(),
            files: files_beside(&model_file)?,
        })
    }

    /// The record that a constant refers to; `file_name` as in the model, for instance [`WEIGHT_FILE`].
    ///
    /// Errors: `UnsafePath`, `MissingWeights`, and those of [`BlobFile::record`].
    pub fn blob(&self, file_name: &str, offset: u64) -> Result<BlobRecord<'_>> {
        self.blob_file(file_name)?.record(offset)
    }

    /// A whole weight file; `file_name` as in the model.
    ///
    /// Errors: `UnsafePath`, `MissingWeights`, `BlobHeader`, `BlobVersion`.
    pub fn blob_file(&self, file_name: &str) -> Result<BlobFile<'_>> {
        let missing = || Error::MissingWeights {
            package: self.path.clone(),
            file_name: file_name.to_owned(),
        };
        let relative = file_name.strip_prefix(MODEL_PATH).ok_or_else(missing)?;
        manifest::check_relative(relative, &self.path)?;
        let file = self.files.get(relative).ok_or_else(missing)?;
        BlobFile::new(file, file.path().display().to_string())
    }

    /// Names of the files beside the model file as a model would name them, in order.
    pub fn file_names(&self) -> impl Iterator<Item = String> {
        self.files.keys().map(|name| format!("{MODEL_PATH}{name}"))
    }

    /// The bytes of a file beside the model file; `file_name` as in the model.
    pub fn file(&self, file_name: &str) -> Option<&[u8]> {
        let file = self.files.get(file_name.strip_prefix(MODEL_PATH)?)?;
        Some(file)
    }

    /// Bytes of all files beside the model file together.
    pub fn weight_bytes(&self) -> u64 {
        self.files.values().map(|file| file.len() as u64).sum()
    }
}

/// Reads a bare model file.
///
/// Errors: `Model` when the bytes are no Core ML message, `NotAFile`, `Io`.
pub fn read_model(path: &Path) -> Result<Model> {
    let bytes = Mapped::open(path)?;
    Model::decode(&*bytes).map_err(|source| Error::Model {
        path: path.to_path_buf(),
        source,
    })
}

/// Maps every regular file in the folder of the model file and below, the model file itself left out.
fn files_beside(model_file: &Path) -> Result<BTreeMap<String, Arc<Mapped>>> {
    let folder = model_file.parent().unwrap_or(Path::new("."));
    let mut files = BTreeMap::new();
    // Caches hold the files of a package as symbolic links.
    for entry in WalkDir::new(folder).follow_links(true).sort_by_file_name() {
        let entry = entry.map_err(|e| {
            let path = e.path().unwrap_or(folder).to_path_buf();
            Error::io("read", &path, e.into())
        })?;
        if !entry.file_type().is_file() || entry.path() == model_file {
            continue;
        }
        let relative = entry.path().strip_prefix(folder).unwrap_or(entry.path());
        let name: Vec<_> = relative
            .components()
            .map(|part| part.as_os_str().to_string_lossy())
            .collect();
        files.insert(name.join("/"), Arc::new(Mapped::open(entry.path())?));
    }
    Ok(files)
}
