//! Read-only file maps.
#![allow(unsafe_code)]

use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::error::{Error, Result};

/// The bytes of a file, mapped read-only.
///
/// The file must not be shortened or changed in place while it is mapped. Gesso itself never does so: it writes new
/// files and renames them.
#[derive(Debug)]
pub struct Mapped {
    map: Mmap,
    path: PathBuf,
}

impl Mapped {
    /// Maps a file.
    ///
    /// Errors: `NotAFile` for a folder, pipe or device; `Io` when the system refuses.
    pub fn open(path: &Path) -> Result<Self> {
        let metadata = fs::metadata(path).map_err(|e| Error::io("open", path, e))?;
        if !metadata.is_file() {
            return Err(Error::NotAFile {
                path: path.to_path_buf(),
            });
        }
        let file = fs::File::open(path).map_err(|e| Error::io("open", path, e))?;
        // SAFETY: the map is private to this value and read-only. That nobody shortens or changes the file meanwhile
        // is the contract stated on the type; it cannot be enforced from here.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| Error::io("map", path, e))?;
        Ok(Self {
            map,
            path: path.to_path_buf(),
        })
    }

    /// The file, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_content_and_empty_files_and_refuses_folders() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        fs::write(&file, b"abc").unwrap();
        let mapped = Mapped::open(&file).unwrap();
        assert_eq!(&*mapped, b"abc");
        assert_eq!(mapped.path(), file);

        fs::write(dir.path().join("empty"), b"").unwrap();
        assert!(Mapped::open(&dir.path().join("empty")).unwrap().is_empty());

        assert!(matches!(
            Mapped::open(dir.path()),
            Err(Error::NotAFile { .. })
        ));
        assert!(matches!(
            Mapped::open(&dir.path().join("none")),
            Err(Error::Io { action: "open", .. })
        ));
    }

    #[test]
    fn can_be_shared_between_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<Mapped>();
    }
}
