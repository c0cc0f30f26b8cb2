//! Files that are plainly something else.

use crate::{Error, Result};
use std::path::Path;

/// A kind of file that is refused by its first bytes.
struct Kind {
    magic: &'static [u8],
    what: &'static str,
    hint: &'static str,
}

const PICKLE: &str =
    "a pickled PyTorch file (.ckpt, .pt, .bin); loading one can run any code, so it is not read";
const CONVERT: &str = "get the .safetensors version, or convert it once with a tool that you trust";

const KINDS: &[Kind] = &[
    Kind {
        magic: b"PK\x03\x04",
        what: PICKLE,
        hint: CONVERT,
    },
    Kind {
        magic: b"\x80\x02",
        what: PICKLE,
        hint: CONVERT,
    },
    Kind {
        magic: b"\x80\x03",
        what: PICKLE,
        hint: CONVERT,
    },
    Kind {
        magic: b"\x80\x04",
        what: PICKLE,
        hint: CONVERT,
    },
    Kind {
        magic: b"\x80\x05",
        what: PICKLE,
        hint: CONVERT,
    },
    Kind {
        magic: b"version https://git-lfs",
        what: "a git-lfs pointer; the file itself was not downloaded",
        hint: "run `git lfs pull` in its repository",
    },
    Kind {
        magic: b"<!DOCTYPE",
        what: "a web page, saved in place of the file",
        hint: "download the file itself; it may need a login",
    },
    Kind {
        magic: b"<html",
        what: "a web page, saved in place of the file",
        hint: "download the file itself; it may need a login",
    },
    Kind {
        magic: b"GGUF",
        what: "a GGUF file, whose quantized tensors are not read",
        hint: "get the .safetensors version",
    },
];

/// Refuses a file of another kind.
///
/// A safetensors file whose header length begins with the same bytes is told apart by the `{` at byte 8.
pub(super) fn check(file: &Path, bytes: &[u8]) -> Result<()> {
    if bytes.get(8) == Some(&b'{') {
        return Ok(());
    }
    match KINDS.iter().find(|kind| bytes.starts_with(kind.magic)) {
        Some(kind) => Err(Error::OtherKind {
            file: file.into(),
            what: kind.what,
            hint: kind.hint,
        }),
        None => Ok(()),
    }
}
