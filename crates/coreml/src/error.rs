//! What can go wrong with Core ML files.

use std::io;
use std::path::{Path, PathBuf};

use crate::blob::BlobDType;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that this crate refuses.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried, for instance `open`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The disk became full while writing.
    #[error("the disk is full: cannot write `{}`", path.display())]
    DiskFull {
        /// The file that was being written.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// There is not enough room for what is about to be written.
    #[error(
        "not enough space for `{}`: {needed} bytes needed, {free} bytes free",
        path.display()
    )]
    NoSpace {
        /// Where the output goes.
        path: PathBuf,
        /// Bytes that the output takes.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// Something else than a regular file stands where a file was expected.
    #[error("`{}` is not a regular file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },

    /// A weight file is shorter than its header.
    #[error("weight file `{file}` has {found} bytes, but its header alone takes 64")]
    BlobHeader {
        /// The weight file.
        file: String,
        /// Its length in bytes.
        found: u64,
    },
    /// A weight file of another version.
    #[error("weight file `{file}` has version {found}, expected 2")]
    BlobVersion {
        /// The weight file.
        file: String,
        /// The version it states.
        found: u32,
    },
    /// An offset that no record can have.
    #[error("offset {offset} in weight file `{file}` is not a positive multiple of 64")]
    BlobAlignment {
        /// The weight file.
        file: String,
        /// The offset of a record or of its data, in bytes.
        offset: u64,
    },
    /// A record or its data reaches beyond the end of the file.
    #[error(
        "record at {offset} in weight file `{file}` needs bytes {start} to {start}+{length}, but the file has {found}"
    )]
    BlobBounds {
        /// The weight file.
        file: String,
        /// Offset of the record in bytes.
        offset: u64,
        /// First byte needed.
        start: u64,
        /// Number of bytes needed.
        length: u64,
        /// Length of the file in bytes.
        found: u64,
    },
    /// The bytes at an offset do not begin with the mark of a record.
    #[error(
        "no record at {offset} in weight file `{file}`: expected 0xdeadbeef, found {found:#010x}"
    )]
    BlobSentinel {
        /// The weight file.
        file: String,
        /// Offset in bytes.
        offset: u64,
        /// The four bytes there, little-endian.
        found: u32,
    },
    /// A dtype code without a meaning.
    #[error("record at {offset} in weight file `{file}` has dtype code {code}, expected 1 to 17")]
    BlobCode {
        /// The weight file.
        file: String,
        /// Offset of the record in bytes.
        offset: u64,
        /// The code.
        code: u32,
    },
    /// Data before its own record.
    #[error(
        "record at {offset} in weight file `{file}` has its data at {found}, expected {expected} or later"
    )]
    BlobDataOffset {
        /// The weight file.
        file: String,
        /// Offset of the record in bytes.
        offset: u64,
        /// First possible offset of the data.
        expected: u64,
        /// Offset of the data that the record states.
        found: u64,
    },
    /// The size of the data is no whole number of elements.
    #[error(
        "record at {offset} in weight file `{file}` has {bytes} bytes less {unused_bits} bits, which is no whole number of {dtype:?} elements"
    )]
    BlobSize {
        /// The weight file.
        file: String,
        /// Offset of the record in bytes.
        offset: u64,
        /// The element type.
        dtype: BlobDType,
        /// Bytes of data.
        bytes: u64,
        /// Bits at the end that hold no element.
        unused_bits: u64,
    },
    /// A record was written with fewer or more bytes than announced.
    #[error(
        "record at {offset} in weight file `{file}` was given {found} bytes, expected {expected}"
    )]
    BlobLength {
        /// The weight file.
        file: String,
        /// Offset of the record in bytes.
        offset: u64,
        /// Bytes announced.
        expected: u64,
        /// Bytes given.
        found: u64,
    },

    /// A manifest that is no JSON object of the right form.
    #[error("manifest `{}` is malformed", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A manifest of another version.
    #[error("manifest `{}` has version `{found}`, expected `1.0.0`", path.display())]
    ManifestVersion {
        /// The manifest.
        path: PathBuf,
        /// The version it states.
        found: String,
    },
    /// The manifest names a root model that it does not list.
    #[error("manifest `{}` names root model `{identifier}`, but lists no such item", path.display())]
    ManifestRoot {
        /// The manifest.
        path: PathBuf,
        /// Identifier of the root model.
        identifier: String,
    },
    /// A name in a file would lead out of the package.
    #[error("`{name}` in `{}` would lead out of the package", file.display())]
    UnsafePath {
        /// The manifest or package that holds the name.
        file: PathBuf,
        /// The name.
        name: String,
    },
    /// The root model that the manifest lists is not there.
    #[error("package `{}` lists `{item}`, which does not exist", package.display())]
    MissingItem {
        /// The package.
        package: PathBuf,
        /// The path that the manifest gives.
        item: String,
    },
    /// The model uses a weight file that is not there.
    #[error("`{}` has no weight file `{file_name}`", package.display())]
    MissingWeights {
        /// The package or compiled model.
        package: PathBuf,
        /// The name that the model gives.
        file_name: String,
    },
    /// A weight file of a package lies elsewhere than the manifest can say.
    #[error("weight file `{file_name}` does not lie in the folder `weights`, as in every package")]
    WeightPlace {
        /// Its path from the folder of the model.
        file_name: String,
    },
    /// `coremldata.bin` does not have the form of one.
    #[error("`{}` does not describe a compiled ML Program: {reason}", path.display())]
    CompiledDescription {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        reason: String,
    },
    /// A compiled model of another kind.
    #[error(
        "`{}` describes a model of kind {found}, expected 502 (an ML Program){}",
        path.display(),
        if *found == 202 { "\n\nhint: this is a pipeline; its models lie in `model0` and so on" } else { "" }
    )]
    CompiledKind {
        /// The file.
        path: PathBuf,
        /// Field number of the kind in the model message.
        found: u32,
    },
    /// The description in `coremldata.bin` is no Core ML message.
    #[error("`{}` does not hold a model description", path.display())]
    CompiledMessage {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: prost::DecodeError,
    },
    /// The program of a compiled model is no text.
    #[error("`{}` is not UTF-8 text", path.display())]
    CompiledText {
        /// The file.
        path: PathBuf,
        /// Where.
        source: std::str::Utf8Error,
    },
    /// The model file is no Core ML message.
    #[error("`{}` is not a Core ML model", path.display())]
    Model {
        /// The model file.
        path: PathBuf,
        /// Where and why.
        source: prost::DecodeError,
    },

    /// The output is there already.
    #[error("`{}` exists already\n\nhint: choose another name, or replace it with `--force`", path.display())]
    TargetExists {
        /// The output.
        path: PathBuf,
    },
    /// Another process writes the same output.
    #[error(
        "`{}` is being written by another process{}\n\nhint: wait for it to end, or choose another name",
        path.display(),
        pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    TargetBusy {
        /// The output.
        path: PathBuf,
        /// Process id of the other process, when it is known.
        pid: Option<u32>,
    },
    /// A path that names no file, for instance `..`.
    #[error("`{}` does not name a file or folder that can be written", path.display())]
    TargetName {
        /// The path.
        path: PathBuf,
    },
    /// The output was given up by [`crate::stage::abort_all`].
    #[error("writing `{}` was aborted", path.display())]
    Aborted {
        /// The output.
        path: PathBuf,
    },
}

impl Error {
    /// An error of the operating system; a full disk becomes [`Error::DiskFull`].
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { path, source }
            }
            _ => Self::Io {
                action,
                path,
                source,
            },
        }
    }
}
