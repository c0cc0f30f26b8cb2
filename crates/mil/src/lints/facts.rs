//! Facts of a package that is open.

use super::{Facts, Record, WeightFile, blobs};
use crate::from_model;
use gesso_coreml::package::Package;

/// How a pointer of Git LFS begins.
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

impl Facts {
    /// The facts of a package: items that are missing, sizes of the files, the records that its program refers to.
    pub fn of(package: &Package) -> Self {
        let missing = package.missing_items.iter();
        let manifest =
            missing.map(|item| format!("`{item}` is listed in the manifest, but it is not there"));
        let files = package.file_names().filter_map(|name| {
            let bytes = package.file(&name)?;
            let file = WeightFile {
                bytes: bytes.len() as u64,
                pointer: bytes.starts_with(POINTER),
            };
            Some((name, file))
        });
        let blobs = from_model(&package.model)
            .map(|p| blobs(&p))
            .unwrap_or_default();
        let records = blobs.into_iter().map(|(file, offset)| {
            let record = package.blob(&file, offset).map(|record| Record {
                dtype: record.dtype,
                elements: record.elements(),
            });
            ((file, offset), record.map_err(|e| e.to_string()))
        });
        Self {
            manifest: manifest.collect(),
            text: Vec::new(),
            model_bytes: package.model_bytes,
            files: files.collect(),
            records: records.collect(),
        }
    }
}
