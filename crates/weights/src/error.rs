//! What can go wrong with checkpoints and their files.

use std::io;
use std::path::{Path, PathBuf};

use crate::Component;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that this crate refuses.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be mapped.
    #[error(transparent)]
    File(#[from] gesso_coreml::Error),
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
    /// The file is of another kind, and known not to be loadable.
    #[error("`{}` is {what}\n\nhint: {hint}", file.display())]
    OtherKind {
        /// The file.
        file: PathBuf,
        /// What it is and why it is refused.
        what: &'static str,
        /// The way out.
        hint: &'static str,
    },
    /// Too short for the eight bytes of the header length.
    #[error("`{}` has {found} bytes, but a safetensors file begins with an 8-byte header length", file.display())]
    TooShort {
        /// The file.
        file: PathBuf,
        /// Its length in bytes.
        found: usize,
    },
    /// The header is longer than the file, or than anything that is believed.
    #[error(
        "`{}` states a header of {length} bytes, but at most {available} are possible\n\nhint: the file is not safetensors, or the download broke off",
        file.display()
    )]
    HeaderLength {
        /// The file.
        file: PathBuf,
        /// The stated length in bytes.
        length: u64,
        /// Bytes behind the length, or the limit of 100 000 000.
        available: u64,
    },
    /// The header is not what JSON of this format looks like.
    #[error("the header of `{}` is not valid: {reason}", file.display())]
    Header {
        /// The file.
        file: PathBuf,
        /// What the JSON reader said.
        reason: String,
    },
    /// A name stands twice in one header, or in two files of one component.
    #[error("tensor `{tensor}` stands twice in `{}`", file.display())]
    Duplicate {
        /// The file.
        file: PathBuf,
        /// Name of the tensor.
        tensor: String,
    },
    /// The header entry of a tensor lacks a field or has one of a wrong kind.
    #[error("tensor `{tensor}` in `{}` {reason}", file.display())]
    Entry {
        /// The file.
        file: PathBuf,
        /// Name of the tensor.
        tensor: String,
        /// What is wrong with the entry.
        reason: String,
    },
    /// A dtype that is not read.
    #[error("tensor `{tensor}` in `{}` has dtype `{found}`, expected one of {expected}", file.display())]
    DType {
        /// The file.
        file: PathBuf,
        /// Name of the tensor.
        tensor: String,
        /// The dtype in the header.
        found: String,
        /// All that are read.
        expected: String,
    },
    /// A tensor's bytes are not as many as its shape needs.
    #[error(
        "tensor `{tensor}` in `{}` has {found} bytes, but {dtype} {shape:?} needs {expected}",
        file.display()
    )]
    ByteCount {
        /// The file.
        file: PathBuf,
        /// Name of the tensor.
        tensor: String,
        /// Its dtype.
        dtype: &'static str,
        /// Its shape.
        shape: Vec<usize>,
        /// Bytes needed, or "more than memory can hold".
        expected: String,
        /// Bytes between its offsets.
        found: usize,
    },
    /// A tensor begins behind its own end.
    #[error("tensor `{tensor}` in `{}` begins at byte {start} and ends at byte {end}", file.display())]
    Offsets {
        /// The file.
        file: PathBuf,
        /// Name of the tensor.
        tensor: String,
        /// First byte, counted from the end of the header.
        start: usize,
        /// End, counted likewise.
        end: usize,
    },
    /// A tensor ends behind the end of the file.
    #[error(
        "tensor `{tensor}` in `{}` ends at byte {end} of the data, but the file holds {found}\n\nhint: the file was cut short; download it again",
        file.display()
    )]
    Truncated {
        /// The file.
        file: PathBuf,
        /// Name of the tensor.
        tensor: String,
        /// Its end, counted from the end of the header.
        end: usize,
        /// Bytes behind the header.
        found: usize,
    },
    /// Two tensors share bytes.
    #[error("tensors `{first}` and `{second}` in `{}` share the bytes from {start} on", file.display())]
    Overlap {
        /// The file.
        file: PathBuf,
        /// Name of the one that begins first.
        first: String,
        /// Name of the other.
        second: String,
        /// First shared byte, counted from the end of the header.
        start: usize,
    },
    /// A tensor to be written got another number of bytes than its shape needs.
    #[error("tensor `{tensor}` for `{}` was given {found} bytes, expected {expected}", file.display())]
    Written {
        /// The file.
        file: PathBuf,
        /// Name of the tensor.
        tensor: String,
        /// Bytes needed.
        expected: u64,
        /// Bytes given.
        found: u64,
    },
    /// Nothing of a checkpoint was found.
    #[error("`{}` is not a checkpoint: {reason}", path.display())]
    NotACheckpoint {
        /// The file or folder.
        path: PathBuf,
        /// What was looked for.
        reason: String,
    },
    /// A model family that is recognised and not converted.
    #[error("`{}` is {family}, which is not supported: {reason}", path.display())]
    Family {
        /// The file or folder.
        path: PathBuf,
        /// Its name.
        family: &'static str,
        /// Why it is refused, with the sign by which it was known.
        reason: String,
    },
    /// Tensors that the structure of a component needs are not there.
    #[error(
        "the {component} of `{}` lacks {count} tensors: {}{}",
        path.display(),
        names.join(", "),
        if count > &names.len() { ", …" } else { "" }
    )]
    Missing {
        /// The file or folder.
        path: PathBuf,
        /// The component.
        component: Component,
        /// How many are missing.
        count: usize,
        /// The first ten of them, in backticks.
        names: Vec<String>,
    },
    /// Tensors that nothing accounts for.
    #[error(
        "`{}` holds {count} tensors of unknown use: {}{}\n\nhint: allow unknown tensors if they may be left out",
        path.display(),
        names.join(", "),
        if count > &names.len() { ", …" } else { "" }
    )]
    Unknown {
        /// The file or folder.
        path: PathBuf,
        /// How many there are.
        count: usize,
        /// The first ten of them, in backticks.
        names: Vec<String>,
    },
    /// A tensor has another shape than its place needs.
    #[error("tensor `{tensor}` of the {component} has shape {found:?}, expected {expected}")]
    Shape {
        /// The component.
        component: Component,
        /// Canonical name of the tensor.
        tensor: String,
        /// What its place needs.
        expected: String,
        /// Its shape.
        found: Vec<usize>,
    },
    /// A configuration file cannot be read.
    #[error("`{}` is not a valid configuration: {reason}", file.display())]
    ConfigFile {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A configuration and the tensors, or a configuration and what is supported, disagree.
    #[error("the {component}'s configuration has {field} {found}, expected {expected}")]
    Config {
        /// The component.
        component: Component,
        /// The field.
        field: String,
        /// What the tensors say, or what is supported.
        expected: String,
        /// What the configuration says.
        found: String,
    },
    /// A tokenizer folder lacks a file.
    #[error("the tokenizer folder `{}` has no `{missing}`", folder.display())]
    Tokenizer {
        /// The folder.
        folder: PathBuf,
        /// `vocab.json` or `merges.txt`.
        missing: &'static str,
    },
    /// A component that was asked for is not in the checkpoint.
    #[error("`{}` has no {component}", path.display())]
    Absent {
        /// The file or folder.
        path: PathBuf,
        /// The component.
        component: Component,
    },
}

impl Error {
    /// An [`Error::Io`].
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            action,
            path: path.to_path_buf(),
            source,
        }
    }
}
