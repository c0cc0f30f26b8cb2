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
mod reweigh;
mod write;

pub(crate) use manifest::check_relative;
pub use reweigh::rename_weights;
pub(crate) use write::create;
pub use write::{WeightFile, link, write};

use std::fs;
use std::path::{Path, PathBuf};

use prost::Message;

use crate::blob::{BlobFile, BlobRecord};
use crate::error::{Error, Result};
use crate::files::ModelFiles;
use crate::mmap::Mapped;
use crate::proto::specification::Model;
use manifest::Manifest;

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
    /// The file of the root model.
    pub model_file: PathBuf,
    /// Files beside the model file.
    files: ModelFiles,
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
            files: files_beside(path, &model_file)?,
            model_file,
        })
    }

    /// The record that a constant refers to; `file_name` as in the model, for instance [`WEIGHT_FILE`].
    ///
    /// Errors: `UnsafePath`, `MissingWeights`, and those of [`BlobFile::record`].
    pub fn blob(&self, file_name: &str, offset: u64) -> Result<BlobRecord<'_>> {
        self.files.blob(file_name, offset)
    }

    /// A whole weight file; `file_name` as in the model.
    ///
    /// Errors: `UnsafePath`, `MissingWeights`, `BlobHeader`, `BlobVersion`.
    pub fn blob_file(&self, file_name: &str) -> Result<BlobFile<'_>> {
        self.files.blob_file(file_name)
    }

    /// The files beside the model file; a clone of them keeps the maps alive without the model.
    pub fn files(&self) -> &ModelFiles {
        &self.files
    }

    /// Names of the files beside the model file as a model would name them, in order.
    pub fn file_names(&self) -> impl Iterator<Item = String> {
        self.files.names()
    }

    /// The bytes of a file beside the model file; `file_name` as in the model.
    pub fn file(&self, file_name: &str) -> Option<&[u8]> {
        self.files.file(file_name).ok().map(|file| &**file)
    }

    /// Bytes of all files beside the model file together.
    pub fn weight_bytes(&self) -> u64 {
        self.files.bytes()
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

/// The files beside a model file of the package or folder `owner`, the model file itself left out.
///
/// Errors: `NotAFile`, `Io`.
fn files_beside(owner: &Path, model_file: &Path) -> Result<ModelFiles> {
    let folder = match model_file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let own = model_file.file_name().map(|n| n.to_string_lossy());
    ModelFiles::map(owner, folder, |name| Some(name) == own.as_deref())
}
