//! Files of the CLIP tokenizer.

use super::json;
use crate::{Error, Result};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Paths of `vocab.json` and `merges.txt`.
pub(super) type Files = (PathBuf, PathBuf);

/// The files in `folder`.
///
/// Errors: `Tokenizer` when one of them is missing.
pub(super) fn files(folder: &Path) -> Result<Files> {
    let file = |missing: &'static str| {
        let path = folder.join(missing);
        match path.is_file() {
            true => Ok(path),
            false => Err(Error::Tokenizer {
                folder: folder.into(),
                missing,
            }),
        }
    };
    Ok((file("vocab.json")?, file("merges.txt")?))
}

/// Ids of the begin- and end-of-text tokens.
///
/// Errors: `Io`, `ConfigFile`.
pub(super) fn special_ids(vocab: &Path) -> Result<(u32, u32)> {
    let object = json::object(vocab)?;
    let id = |token: &str| {
        object
            .get(token)
            .and_then(Value::as_u64)
            .and_then(|id| u32::try_from(id).ok())
            .ok_or_else(|| Error::ConfigFile {
                file: vocab.into(),
                reason: format!("it has no id for `{token}`"),
            })
    };
    Ok((id("<|startoftext|>")?, id("<|endoftext|>")?))
}
