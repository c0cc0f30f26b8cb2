//! One writer for each output.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::error::{Error, Result};

/// A locked file that holds our process id; dropped, it is removed.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Locks `path` for the output `target`.
    ///
    /// Errors: `TargetBusy` when another process, or another output of this one, holds the lock; `Io`.
    pub(super) fn take(target: &Path, path: &Path) -> Result<Self> {
        loop {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)
                .map_err(|e| Error::io("create", path, e))?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => {
                    let mut text = String::new();
                    // A lock whose owner cannot be read is a lock all the same.
                    let _ = file.read_to_string(&mut text);
                    return Err(Error::TargetBusy {
                        path: target.to_path_buf(),
                        pid: text.trim().parse().ok(),
                    });
                }
                Err(e) => return Err(Error::io("lock", path, e.into())),
            }
            // The one before may have removed the file between our opening and locking it.
            if !is_same(&file, path) {
                continue;
            }
            file.set_len(0)
                .and_then(|()| file.rewind())
                .and_then(|()| writeln!(file, "{}", std::process::id()))
                .map_err(|e| Error::io("write", path, e))?;
            return Ok(Self {
                file,
                path: path.to_path_buf(),
            });
        }
    }

    /// The locked file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // After an abort the file at this path may be the lock of somebody else. One that stays does no harm.
        if is_same(&self.file, &self.path) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether the open file is the one at `path`.
fn is_same(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(a), Ok(b)) => a.dev() == b.dev() && a.ino() == b.ino(),
        _ => false,
    }
}
