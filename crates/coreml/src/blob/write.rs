//! Writing a weight file.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::{BlobDType, SENTINEL, UNIT, VERSION};
use crate::error::{Error, Result};

/// Bytes held back before they go to the system.
const BUFFER: usize = 1 << 20;

/// Writes a weight file record by record.
///
/// The header is written by [`BlobWriter::finish`]; a file that was not finished is refused by the reader.
#[derive(Debug)]
pub struct BlobWriter {
    out: BufWriter<File>,
    path: PathBuf,
    position: u64,
    count: u32,
    open: Option<Open>,
}

/// The record that is being written.
#[derive(Clone, Copy, Debug)]
struct Open {
    offset: u64,
    length: u64,
    given: u64,
}

impl BlobWriter {
    /// Makes the file, or empties it.
    ///
    /// Errors: `Io`, `DiskFull`.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).map_err(|e| Error::io("create", path, e))?;
        let mut writer = Self {
            out: BufWriter::with_capacity(BUFFER, file),
            path: path.to_path_buf(),
            position: 0,
            count: 0,
            open: None,
        };
        writer.put(&[0; UNIT as usize])?;
        Ok(writer)
    }

    /// Writes a whole record and returns its offset, which is what a program refers to.
    ///
    /// Errors: as [`BlobWriter::begin`].
    pub fn push(&mut self, dtype: BlobDType, data: &[u8], unused_bits: u8) -> Result<u64> {
        let offset = self.begin(dtype, data.len() as u64, unused_bits)?;
        self.write(data)?;
        Ok(offset)
    }

    /// Starts a record of `byte_len` bytes, to be given by [`BlobWriter::write`], and returns its offset.
    ///
    /// Errors: `BlobSize` when the bytes are no whole number of elements, `BlobLength` when the record before is not
    /// complete, `Io`, `DiskFull`.
    pub fn begin(&mut self, dtype: BlobDType, byte_len: u64, unused_bits: u8) -> Result<u64> {
        self.close()?;
        let offset = self.position.next_multiple_of(UNIT);
        if dtype.elements(byte_len, unused_bits.into()).is_none() {
            return Err(Error::BlobSize {
                file: self.name(),
                offset,
                dtype,
                bytes: byte_len,
                unused_bits: unused_bits.into(),
            });
        }
        let gap = offset - self.position;
        self.put(&[0; UNIT as usize][..gap as usize])?;

        let mut head = [0; UNIT as usize];
        head[0..4].copy_from_slice(&SENTINEL.to_le_bytes());
        head[4..8].copy_from_slice(&dtype.code().to_le_bytes());
        head[8..16].copy_from_slice(&byte_len.to_le_bytes());
        head[16..24].copy_from_slice(&(offset + UNIT).to_le_bytes());
        head[24..32].copy_from_slice(&u64::from(unused_bits).to_le_bytes());
        self.put(&head)?;
        self.count += 1;
        self.open = Some(Open {
            offset,
            length: byte_len,
            given: 0,
        });
        Ok(offset)
    }

    /// Gives the next bytes of the record that was begun.
    ///
    /// Errors: `BlobLength` when these are more than announced or no record was begun, `Io`, `DiskFull`.
    pub fn write(&mut self, data: &[u8]) -> Result<()> {
        let mut open = self.open.unwrap_or(Open {
            offset: self.position,
            length: 0,
            given: 0,
        });
        open.given += data.len() as u64;
        if open.given > open.length {
            return Err(self.wrong_length(open));
        }
        if self.open.is_some() {
            self.open = Some(open);
        }
        self.put(data)
    }

    /// Bytes of the file so far.
    pub fn len(&self) -> u64 {
        self.position
    }

    /// Whether there is no record yet.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Completes the file.
    ///
    /// Errors: `BlobLength` when the last record is not complete, `Io`, `DiskFull`.
    pub fn finish(mut self) -> Result<()> {
        self.close()?;
        let mut head = [0; 8];
        head[0..4].copy_from_slice(&self.count.to_le_bytes());
        head[4..8].copy_from_slice(&VERSION.to_le_bytes());
        let result = self
            .out
            .seek(SeekFrom::Start(0))
            .and_then(|_| self.out.write_all(&head))
            .and_then(|()| self.out.flush());
        result.map_err(|e| Error::io("write", &self.path, e))
    }

    /// Ends the record that was begun, if any.
    fn close(&mut self) -> Result<()> {
        match self.open.take() {
            Some(open) if open.given != open.length => Err(self.wrong_length(open)),
            _ => Ok(()),
        }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out
            .write_all(bytes)
            .map_err(|e| Error::io("write", &self.path, e))?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn wrong_length(&self, open: Open) -> Error {
        Error::BlobLength {
            file: self.name(),
            offset: open.offset,
            expected: open.length,
            found: open.given,
        }
    }
}
