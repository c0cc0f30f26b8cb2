//! Files in the safetensors format.
//!
//! The reader is stricter than it need be where bytes could be misread (shared bytes, doubled names, wrong sizes are
//! errors) and milder than the `safetensors` crate where nothing is at stake: bytes that no tensor has, between two tensors
//! or behind the last one, are noted and skipped. Old tools and aligned writers leave such bytes.

mod dtype;
mod header;
mod kind;
mod write;

pub use dtype::{StDType, TensorRef};
pub use write::{StWriter, write_safetensors};

use crate::Result;
use gesso_coreml::mmap::Mapped;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Something that was skipped while reading a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StNote {
    /// Bytes between two tensors that belong to neither.
    Hole {
        /// First of them, counted from the end of the header.
        at: usize,
        /// How many.
        bytes: usize,
    },
    /// Bytes behind the last tensor.
    Trailing {
        /// First of them, counted from the end of the header.
        at: usize,
        /// How many.
        bytes: usize,
    },
}

impl fmt::Display for StNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hole { at, bytes } => {
                write!(f, "{bytes} bytes from {at} on belong to no tensor: skipped")
            }
            Self::Trailing { at, bytes } => {
                write!(
                    f,
                    "{bytes} bytes behind the last tensor, from {at} on: skipped"
                )
            }
        }
    }
}

/// Where a tensor lies.
#[derive(Clone, Debug)]
struct Entry {
    dtype: StDType,
    shape: Vec<usize>,
    /// Counted from the end of the header; lies within the file.
    range: Range<usize>,
}

#[derive(Debug)]
enum Bytes {
    Mapped(Mapped),
    Owned(Vec<u8>),
}

impl Bytes {
    fn all(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Owned(bytes) => bytes,
        }
    }
}

/// A safetensors file, mapped or in memory.
#[derive(Debug)]
pub struct StFile {
    path: PathBuf,
    bytes: Bytes,
    data_start: usize,
    entries: BTreeMap<String, Entry>,
    metadata: BTreeMap<String, String>,
    notes: Vec<StNote>,
}

impl StFile {
    /// Opens a file and checks its header; no tensor is read yet.
    ///
    /// Errors: `File` when it cannot be mapped, `OtherKind` (pickle, git-lfs pointer, web page), and everything that can be wrong with a header:
    /// `TooShort`, `HeaderLength`, `Header`, `Duplicate`, `Entry`, `DType`, `ByteCount`, `Offsets`, `Truncated`, `Overlap`.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::new(path.to_path_buf(), Bytes::Mapped(Mapped::open(path)?))
    }

    /// A file that is in memory; `name` stands for it in messages.
    ///
    /// Errors: as [`StFile::open`], without `File`.
    pub fn from_bytes(name: impl Into<PathBuf>, bytes: Vec<u8>) -> Result<Self> {
        Self::new(name.into(), Bytes::Owned(bytes))
    }

    fn new(path: PathBuf, bytes: Bytes) -> Result<Self> {
        kind::check(&path, bytes.all())?;
        let header = header::parse(&path, bytes.all())?;
        Ok(Self {
            path,
            bytes,
            data_start: header.data_start,
            entries: header.entries,
            metadata: header.metadata,
            notes: header.notes,
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// A tensor by name.
    pub fn get(&self, name: &str) -> Option<TensorRef<'_>> {
        let (name, entry) = self.entries.get_key_value(name)?;
        self.tensor(name, entry)
    }

    /// All tensors, by name.
    pub fn tensors(&self) -> impl Iterator<Item = TensorRef<'_>> {
        self.entries
            .iter()
            .filter_map(|(name, entry)| self.tensor(name, entry))
    }

    fn tensor<'a>(&'a self, name: &'a str, entry: &'a Entry) -> Option<TensorRef<'a>> {
        let data = self.bytes.all().get(self.data_start..)?;
        Some(TensorRef {
            name,
            dtype: entry.dtype,
            shape: &entry.shape,
            bytes: data.get(entry.range.clone())?,
        })
    }

    /// The header's `__metadata__`; values that are not strings are given as JSON.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// What was skipped, in file order.
    pub fn notes(&self) -> &[StNote] {
        &self.notes
    }
}
