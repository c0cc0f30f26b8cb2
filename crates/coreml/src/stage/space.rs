//! Room on the disk.

use std::path::Path;

use crate::error::{Error, Result};

/// How to find the bytes that are free where a path lies; [`free_space`] outside of tests.
pub type SpaceProbe = fn(&Path) -> Result<u64>;

/// Bytes that an ordinary user can still write where `path` lies. The path itself need not exist.
///
/// Errors: `Io`.
pub fn free_space(path: &Path) -> Result<u64> {
    let absolute = std::path::absolute(path).map_err(|e| Error::io("find", path, e))?;
    let existing = absolute
        .ancestors()
        .find(|ancestor| ancestor.exists())
        .unwrap_or(Path::new("/"));
    let stat =
        rustix::fs::statvfs(existing).map_err(|e| Error::io("examine", existing, e.into()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Refuses to go on when fewer than `need` bytes are free where `path` lies.
///
/// Errors: `NoSpace` with both numbers, `Io`.
pub fn require_space(path: &Path, need: u64) -> Result<()> {
    require_space_in(path, need, free_space)
}

/// [`require_space`] with another way to find the free bytes.
///
/// Errors: `NoSpace` with both numbers, and those of `probe`.
pub fn require_space_in(path: &Path, need: u64, probe: SpaceProbe) -> Result<()> {
    let free = probe(path)?;
    if free < need {
        return Err(Error::NoSpace {
            path: path.to_path_buf(),
            needed: need,
            free,
        });
    }
    Ok(())
}
