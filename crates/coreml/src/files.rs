//! The weight files of a model: everything that lies beside its own file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use walkdir::WalkDir;

use crate::blob::{BlobFile, BlobRecord};
use crate::error::{Error, Result};
use crate::mmap::Mapped;
use crate::package::check_relative;

/// How a model names the folder that holds its own file.
pub const MODEL_PATH: &str = "@model_path/";

/// The mapped files beside a model, by their path from its folder with forward slashes. A clone shares the maps.
#[derive(Clone, Debug)]
pub struct ModelFiles {
    /// The package or compiled model, for messages.
    owner: PathBuf,
    files: BTreeMap<String, Arc<Mapped>>,
}

impl ModelFiles {
    /// Maps every regular file in `folder` and below, those left out that `skip` names by their path.
    pub(crate) fn map(owner: &Path, folder: &Path, skip: impl Fn(&str) -> bool) -> Result<Self> {
        let mut files = BTreeMap::new();
        // Caches hold the files of a package as symbolic links.
        for entry in WalkDir::new(folder).follow_links(true).sort_by_file_name() {
            let entry = entry.map_err(|e| {
                let path = e.path().unwrap_or(folder).to_path_buf();
                Error::io("read", &path, e.into())
            })?;
            if !entry.file_type().is_file() {
                continue;
            }
            let relative = entry.path().strip_prefix(folder).unwrap_or(entry.path());
            let name: Vec<_> = relative
                .components()
                .map(|part| part.as_os_str().to_string_lossy())
                .collect();
            let name = name.join("/");
            if !skip(&name) {
                files.insert(name, Arc::new(Mapped::open(entry.path())?));
            }
        }
        Ok(Self {
            owner: owner.to_path_buf(),
            files,
        })
    }

    /// The record that a constant refers to; `file_name` as in the model, `@model_path/weights/weight.bin` for instance.
    ///
    /// Errors: `UnsafePath`, `MissingWeights`, and those of [`BlobFile::record`].
    pub fn blob(&self, file_name: &str, offset: u64) -> Result<BlobRecord<'_>> {
        self.blob_file(file_name)?.record(offset)
    }

    /// A whole weight file; `file_name` as in the model.
    ///
    /// Errors: `UnsafePath`, `MissingWeights`, `BlobHeader`, `BlobVersion`.
    pub fn blob_file(&self, file_name: &str) -> Result<BlobFile<'_>> {
        let file = self.file(file_name)?;
        BlobFile::new(file, file.path().display().to_string())
    }

    /// A file as it is; `file_name` as in the model.
    ///
    /// Errors: `UnsafePath`, `MissingWeights`.
    pub fn file(&self, file_name: &str) -> Result<&Mapped> {
        let missing = || Error::MissingWeights {
            package: self.owner.clone(),
            file_name: file_name.to_owned(),
        };
        let relative = file_name.strip_prefix(MODEL_PATH).ok_or_else(missing)?;
        check_relative(relative, &self.owner)?;
        self.files.get(relative).map(|f| &**f).ok_or_else(missing)
    }

    /// Names of the files as a model would name them, in order.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.files.keys().map(|name| format!("{MODEL_PATH}{name}"))
    }

    /// Bytes of all files together.
    pub fn bytes(&self) -> u64 {
        self.files.values().map(|file| file.len() as u64).sum()
    }
}
