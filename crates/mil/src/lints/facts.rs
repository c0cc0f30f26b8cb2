//! Facts of a model that is open.

use super::{Facts, Record, WeightFile, blobs};
use crate::{Program, from_model};
use gesso_coreml::ModelFiles;
use gesso_coreml::package::Package;

/// How a pointer of Git LFS begins.
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

impl Facts {
    /// The facts of a package: items that are missing, sizes of the files, the records that its program refers to.
    pub fn of(package: &Package) -> Self {
        let missing = package.missing_items.iter();
        let manifest = missing
            .map(|item| format!("`{item}` is listed in the manifest, but it is not there"))
            .collect();
        let program = from_model(&package.model).ok();
        Self {
            manifest,
            model_bytes: package.model_bytes,
            ..Self::of_files(program.as_ref(), package.files())
        }
    }

    /// The facts of the files beside a model, and the records that its program refers to.
    pub fn of_files(program: Option<&Program>, files: &ModelFiles) -> Self {
        let sizes = files.names().filter_map(|name| {
            let bytes = files.file(&name).ok()?;
            let file = WeightFile {
                bytes: bytes.len() as u64,
                pointer: bytes.starts_with(POINTER),
            };
            Some((name, file))
        });
        let blobs = program.map(blobs).unwrap_or_default();
        let records = blobs.into_iter().map(|(file, offset)| {
            let record = files.blob(&file, offset).map(|record| Record {
                dtype: record.dtype,
                elements: record.elements(),
            });
            ((file, offset), record.map_err(|e| e.to_string()))
        });
        Self {
            files: sizes.collect(),
            records: records.collect(),
            ..Self::default()
        }
    }
}
