//! What the archives of assets and of deltas share: a manifest that lists every other member with size and hash.

use super::manifest::Member;
use super::zip::{self, Content};
use super::{MANIFEST, hex};
use crate::{Error, Result};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::Path;

/// Sizes and hashes of members, for their manifest.
///
/// Errors: those of reading their files.
pub(crate) fn listed(contents: &BTreeMap<String, Content>) -> Result<BTreeMap<String, Member>> {
    let mut members = BTreeMap::new();
    for (name, content) in contents {
        let mut hash = Sha256::new();
        let mut size = 0;
        zip::read_all(content, |chunk| {
            hash.update(chunk);
            size += chunk.len() as u64;
            Ok(())
        })?;
        let sha256 = hex(&hash.finalize());
        members.insert(name.clone(), Member { size, sha256 });
    }
    Ok(members)
}

/// The bytes of the manifest among the members of the archive `path`.
///
/// Errors: [`Error::AssetForm`] without one, or with one above `most` bytes, a whole number of MiB.
pub(crate) fn manifest<'a>(
    members: &[(&str, &'a [u8])],
    most: usize,
    path: &Path,
) -> Result<&'a [u8]> {
    members
        .iter()
        .find(|(name, _)| *name == MANIFEST)
        .map(|(_, bytes)| *bytes)
        .filter(|bytes| bytes.len() <= most)
        .ok_or_else(|| Error::AssetForm {
            file: path.display().to_string(),
            reason: format!("it has no `manifest.json`, or one above {} MiB", most >> 20),
        })
}

/// Checks that the member `name` of the archive `path` has the size and hash that its manifest says.
///
/// Errors: [`Error::AssetMember`].
pub(crate) fn check(member: &Member, name: &str, bytes: &[u8], path: &Path) -> Result<()> {
    let size = bytes.len() as u64;
    if member.size != size {
        let reason = format!("it has {size} bytes, the manifest says {}", member.size);
        return Err(Error::member(path, name, reason));
    }
    let sha256 = hex(&Sha256::digest(bytes));
    if member.sha256 != sha256 {
        let expected = &member.sha256;
        let reason = format!("its SHA-256 is {sha256}, the manifest says {expected}");
        return Err(Error::member(path, name, reason));
    }
    Ok(())
}
