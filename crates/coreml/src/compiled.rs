//! The `.mlmodelc` folder.
//!
//! ```text
//! Name.mlmodelc/
//!   model.mil                  the program as text
//!   coremldata.bin             specification version and description
//!   metadata.json              for apps; not looked at here
//!   analytics/coremldata.bin   for Apple; not looked at here
//!   weights/weight.bin         the large constants, when there are any
//! ```
//!
//! What the files hold is the business of `gesso-mil`; here they are written and opened.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use prost::Message;

use crate::blob::BlobRecord;
use crate::error::{Error, Result};
use crate::files::ModelFiles;
use crate::mmap::Mapped;
use crate::package::{check_relative, create, link};
use crate::proto::specification::ModelDescription;

/// The file with the text of the program.
const PROGRAM: &str = "model.mil";
/// The file with the description.
const DESCRIPTION: &str = "coremldata.bin";
/// Kind of model that can be opened: the field number of an ML Program in the model message.
const ML_PROGRAM: u32 = 502;

/// A compiled ML Program that is open for reading.
#[derive(Clone, Debug)]
pub struct CompiledModel {
    /// The folder.
    pub path: PathBuf,
    /// Text of the program.
    pub text: String,
    /// Header and description.
    pub header: Header,
    files: ModelFiles,
}

/// What `coremldata.bin` says.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// Specification version of the model.
    pub specification_version: i32,
    /// Interface of the model.
    pub description: ModelDescription,
    /// Number of functions.
    pub functions: usize,
}

impl CompiledModel {
    /// Opens a compiled model: reads text and description, maps the weight files.
    ///
    /// Errors: `CompiledDescription`, `CompiledKind` (pipelines among others), `CompiledMessage`, `CompiledText`,
    /// `NotAFile`, `Io`.
    pub fn open(path: &Path) -> Result<Self> {
        let description = path.join(DESCRIPTION);
        let header = Header::read(&Mapped::open(&description)?, &description)?;
        let program = path.join(PROGRAM);
        let bytes = Mapped::open(&program)?;
        let text = std::str::from_utf8(&bytes).map_err(|source| Error::CompiledText {
            path: program,
            source,
        })?;
        let own = [
            PROGRAM,
            DESCRIPTION,
            "metadata.json",
            "analytics/coremldata.bin",
        ];
        Ok(Self {
            path: path.to_path_buf(),
            text: text.to_owned(),
            header,
            files: ModelFiles::map(path, path, |name| own.contains(&name))?,
        })
    }

    /// The record that a constant refers to; `file_name` as in the text, `@model_path/weights/weight.bin` for instance.
    ///
    /// Errors: `UnsafePath`, `MissingWeights`, and those of [`crate::blob::BlobFile::record`].
    pub fn blob(&self, file_name: &str, offset: u64) -> Result<BlobRecord<'_>> {
        self.files.blob(file_name, offset)
    }

    /// The weight files; a clone of them keeps the maps alive without the model.
    pub fn files(&self) -> &ModelFiles {
        &self.files
    }
}

impl Header {
    /// Reads the bytes of `coremldata.bin`; `path` is for messages.
    ///
    /// The word at 0x04, the string at 0x1C and the reserved bytes are not looked at.
    ///
    /// Errors: `CompiledDescription`, `CompiledKind`, `CompiledMessage`.
    pub fn read(bytes: &[u8], path: &Path) -> Result<Self> {
        let refuse = |reason: String| Error::CompiledDescription {
            path: path.to_path_buf(),
            reason,
        };
        let mut cursor = Cursor { bytes, at: 0 };
        let short = |what: &str| refuse(format!("its {} bytes end in the {what}", bytes.len()));
        let kind = cursor.u32().ok_or_else(|| short("header"))?;
        if kind != ML_PROGRAM {
            return Err(Error::CompiledKind {
                path: path.to_path_buf(),
                found: kind,
            });
        }
        let mut head = || {
            cursor.skip(24)?;
            cursor.block()?;
            let version = cursor.u32()?.cast_signed();
            cursor.skip(28)?;
            Some(version)
        };
        let specification_version = head().ok_or_else(|| short("header"))?;
        let description = cursor.block().ok_or_else(|| short("description"))?;
        let description =
            ModelDescription::decode(description).map_err(|source| Error::CompiledMessage {
                path: path.to_path_buf(),
                source,
            })?;
        let mut functions = 0;
        while cursor.at < bytes.len() {
            let (kind, zero) = (cursor.u64(), cursor.u64());
            let (Some(kind), Some(zero)) = (kind, zero) else {
                return Err(short("trailer"));
            };
            if (kind, zero) != (ML_PROGRAM.into(), 0) {
                return Err(refuse(format!(
                    "expected 502 and 0 for function {functions}, found {kind} and {zero}"
                )));
            }
            functions += 1;
        }
        if functions == 0 {
            return Err(refuse(
                "expected a trailer of 16 bytes for each function, found none".into(),
            ));
        }
        Ok(Self {
            specification_version,
            description,
            functions,
        })
    }
}

/// Reads forward; `None` beyond the end.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn skip(&mut self, length: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(length)?;
        let bytes = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.skip(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.skip(8)?.try_into().ok()?))
    }

    /// A length in 8 bytes and as many bytes.
    fn block(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u64()?).ok()?;
        self.skip(length)
    }
}

/// Writes a compiled model into the folder `dir`, which is made when it is missing and must hold none yet.
///
/// `files` are contents by path inside the folder; `weights` are existing files by their path inside the folder, shared by
/// hard link, or copied where the file system has none.
///
/// Errors: `UnsafePath`, `Io` (also when a file is there already), `DiskFull`.
pub fn write(
    dir: &Path,
    files: &BTreeMap<String, Vec<u8>>,
    weights: &BTreeMap<String, PathBuf>,
) -> Result<()> {
    for (name, bytes) in files {
        create(&place(dir, name)?, bytes)?;
    }
    for (name, from) in weights {
        link(from, &place(dir, name)?)?;
    }
    Ok(())
}

/// The path of `name` in `dir`, whose folder is made.
fn place(dir: &Path, name: &str) -> Result<PathBuf> {
    check_relative(name, dir)?;
    let path = dir.join(name);
    let folder = path.parent().unwrap_or(dir);
    fs::create_dir_all(folder).map_err(|e| Error::io("create", folder, e))?;
    Ok(path)
}
