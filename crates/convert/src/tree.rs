//! Everything below a folder.

use crate::{Error, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Folders and files by relative path; the files sorted.
#[derive(Default)]
pub(crate) struct Tree {
    pub(crate) folders: Vec<PathBuf>,
    pub(crate) files: Vec<PathBuf>,
}

impl Tree {
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let mut tree = Self::default();
        tree.walk(root, Path::new(""))?;
        tree.files.sort();
        Ok(tree)
    }

    fn walk(&mut self, root: &Path, below: &Path) -> Result<()> {
        let folder = root.join(below);
        for entry in fs::read_dir(&folder).map_err(|e| Error::io(&folder, e))? {
            let entry = entry.map_err(|e| Error::io(&folder, e))?;
            let relative = below.join(entry.file_name());
            let path = entry.path();
            // Links are followed: caches hold the files of a package as symbolic links.
            let metadata = fs::metadata(&path).map_err(|e| Error::io(&path, e))?;
            if metadata.is_dir() {
                self.folders.push(relative.clone());
                self.walk(root, &relative)?;
            } else {
                self.files.push(relative);
            }
        }
        Ok(())
    }
}
