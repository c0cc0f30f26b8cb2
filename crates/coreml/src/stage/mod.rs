//! Output that appears whole or not at all.
//!
//! An output `dir/Name` is written to the sibling `dir/.Name.gesso-tmp-<pid>` and renamed when it is complete. A locked
//! file `dir/.Name.gesso-lock`, which holds the process id, keeps a second process from writing the same output. Both
//! vanish when a [`Staging`] is dropped. What a killed process left behind is removed by the next one that writes the
//! same output.

mod live;
mod lock;
mod space;

pub use live::abort_all;
pub use space::{SpaceProbe, free_space, require_space, require_space_in};

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use crate::error::{Error, Result};
use live::Ticket;
use lock::Lock;

/// What to do when the output is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overwrite {
    /// Refuse.
    Refuse,
    /// Replace it, in the moment when the new one is complete.
    Force,
}

/// An output on its way.
#[derive(Debug)]
pub struct Staging {
    target: PathBuf,
    temp: PathBuf,
    overwrite: Overwrite,
    // Fields are dropped in this order: first the temporary goes, then the lock.
    ticket: Ticket,
    _lock: Lock,
}

impl Staging {
    /// Starts an output that is a folder; the folder [`Staging::path`] is made, empty.
    ///
    /// The folder that holds the target must exist.
    ///
    /// Errors: `TargetExists` with [`Overwrite::Refuse`], `TargetBusy`, `TargetName`, `Io`.
    pub fn new(target: &Path, overwrite: Overwrite) -> Result<Self> {
        let staging = Self::file(target, overwrite)?;
        fs::create_dir(&staging.temp).map_err(|e| Error::io("create", &staging.temp, e))?;
        Ok(staging)
    }

    /// Starts an output that is a single file; nothing is made at [`Staging::path`] yet.
    ///
    /// Errors: as [`Staging::new`].
    pub fn file(target: &Path, overwrite: Overwrite) -> Result<Self> {
        let name = target.file_name().ok_or_else(|| Error::TargetName {
            path: target.to_path_buf(),
        })?;
        refuse_existing(target, overwrite)?;
        let lock = Lock::take(target, &target.with_file_name(hidden(name, ".gesso-lock")))?;
        // Whoever held the lock before may have finished in between.
        refuse_existing(target, overwrite)?;

        let prefix = hidden(name, ".gesso-tmp-");
        remove_stale(target, &prefix)?;
        let mut temp_name = prefix;
        temp_name.push(std::process::id().to_string());
        let temp = target.with_file_name(temp_name);
        Ok(Self {
            target: target.to_path_buf(),
            ticket: live::register(&temp, lock.path()),
            temp,
            overwrite,
            _lock: lock,
        })
    }

    /// Where to write.
    pub fn path(&self) -> &Path {
        &self.temp
    }

    /// Where the output will be.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Puts the output into its place; what was there before is removed.
    ///
    /// Errors: `TargetExists` when the target appeared meanwhile and is not to be overwritten, `Aborted` after
    /// [`abort_all`], `Io`. After an error the target is as it was.
    pub fn commit(self) -> Result<()> {
        let renamed = self
            .ticket
            .while_live(|| publish(&self.temp, &self.target, self.overwrite));
        // What stood at the target stands at the temporary path and goes when `self` is dropped.
        renamed.unwrap_or_else(|| {
            Err(Error::Aborted {
                path: self.target.clone(),
            })
        })
    }
}

/// Renames `temp` to `target`; with `Force` an old target ends at `temp`.
fn publish(temp: &Path, target: &Path, overwrite: Overwrite) -> Result<()> {
    let swap = overwrite == Overwrite::Force && target.symlink_metadata().is_ok();
    let flags = if swap {
        RenameFlags::EXCHANGE
    } else {
        RenameFlags::NOREPLACE
    };
    match renameat_with(CWD, temp, CWD, target, flags) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => Err(Error::TargetExists {
            path: target.to_path_buf(),
        }),
        // Not every file system knows the two flags.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            publish_plainly(temp, target, swap).map_err(|e| Error::io("rename", temp, e))
        }
        Err(e) => Err(Error::io("rename", temp, e.into())),
    }
}

/// [`publish`] in single steps, for file systems that cannot swap.
fn publish_plainly(temp: &Path, target: &Path, swap: bool) -> std::io::Result<()> {
    if !swap {
        return fs::rename(temp, target);
    }
    let mut aside = temp.as_os_str().to_owned();
    aside.push("-old");
    let aside = PathBuf::from(aside);
    fs::rename(target, &aside)?;
    if let Err(error) = fs::rename(temp, target) {
        fs::rename(&aside, target)?;
        return Err(error);
    }
    fs::rename(&aside, temp)
}

fn refuse_existing(target: &Path, overwrite: Overwrite) -> Result<()> {
    if overwrite == Overwrite::Refuse && target.symlink_metadata().is_ok() {
        return Err(Error::TargetExists {
            path: target.to_path_buf(),
        });
    }
    Ok(())
}

/// `.<name><suffix>`.
fn hidden(name: &OsStr, suffix: &str) -> OsString {
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(suffix);
    hidden
}

/// Removes temporaries of this target whose process is gone. The lock is held, so our own id means a reused one.
fn remove_stale(target: &Path, prefix: &OsStr) -> Result<()> {
    let folder = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let entries = fs::read_dir(folder).map_err(|e| Error::io("read", folder, e))?;
    for entry in entries {
        let entry = entry.map_err(|e| Error::io("read", folder, e))?;
        let name = entry.file_name();
        let pid = name
            .as_encoded_bytes()
            .strip_prefix(prefix.as_encoded_bytes())
            .and_then(|rest| std::str::from_utf8(rest).ok())
            .and_then(|rest| {
                rest.strip_suffix("-old")
                    .unwrap_or(rest)
                    .parse::<u32>()
                    .ok()
            });
        if pid.is_some_and(|pid| pid == std::process::id() || !is_alive(pid)) {
            remove(&entry.path()).map_err(|e| Error::io("remove", &entry.path(), e))?;
        }
    }
    Ok(())
}

/// Whether a process with this id exists; true also when it belongs to somebody else.
fn is_alive(pid: u32) -> bool {
    i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .is_some_and(|pid| test_kill_process(pid) != Err(Errno::SRCH))
}

/// Removes a file or a folder with all it holds; nothing there is fine.
fn remove(path: &Path) -> std::io::Result<()> {
    let result = match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    match result {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
