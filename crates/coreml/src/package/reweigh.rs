//! The manifest of a package whose weight file was replaced.

use std::fs;
use std::path::Path;

use super::manifest::Manifest;
use super::write::{AUTHOR, create, identifier};
use crate::error::{Error, Result};
use crate::mmap::Mapped;

/// Brings the identifier of the weights in `Manifest.json` up to date, as [`super::write`] would have made it for the weight file
/// `weights`. The file is replaced, not changed: it may be shared with another package.
///
/// A manifest that does not list `com.apple.CoreML/weights` stays as it is.
///
/// Errors: those of reading a manifest; `Io`, `DiskFull`.
pub fn rename_weights(manifest: &Path, weights: &Path) -> Result<()> {
    let mut content = Manifest::read(manifest)?;
    let hash = identifier("weights", &Mapped::open(weights)?);
    content.rename(&format!("{AUTHOR}/weights"), hash);
    let bytes = content.to_bytes(manifest)?;
    fs::remove_file(manifest).map_err(|e| Error::io("remove", manifest, e))?;
    create(manifest, &bytes)
}
