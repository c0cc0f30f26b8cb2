//! The zip form of an adapter asset: stored members, sorted names, one fixed time stamp, no extra fields.
//!
//! There is exactly one archive for a list of members, so a reader rebuilds every header from the central directory and
//! compares: a changed byte anywhere in the file is an error. Little-endian throughout.
//!
//! ```text
//! local header   +0 50 4B 03 04 | +4 u16 10 | +6 u16 0 flags | +8 u16 0 stored | +10 u16 0 time | +12 u16 0x21 date (1980-01-01)
//!                +14 u32 crc32 | +18 u32 size | +22 u32 size | +26 u16 name length | +28 u16 0 | +30 name, then the data
//! central entry  +0 50 4B 01 02 | +4 u16 10 | +6 …the 26 bytes of the local header from +4… | +32 u16 0 | +34 u16 0 | +36 u16 0
//!                +38 u32 0 | +42 u32 offset of the local header | +46 name
//! end            +0 50 4B 05 06 | +4 u16 0 | +6 u16 0 | +8 u16 n | +10 u16 n | +12 u32 directory size | +16 u32 directory offset
//!                +20 u16 0
//! ```

use crate::{Error, Result};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

const LOCAL: u32 = 0x0403_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
const END_BYTES: usize = 22;
const CENTRAL_BYTES: usize = 46;
/// Most members an asset may have.
const MAX_MEMBERS: usize = 64;
/// Longest member name in bytes.
const MAX_NAME: usize = 200;

/// Where the bytes of a member come from.
#[derive(Debug)]
pub(crate) enum Content {
    /// In memory.
    Bytes(Vec<u8>),
    /// A file that is read twice: once for the checksum, once to be copied.
    File(PathBuf),
}

struct Header<'a> {
    name: &'a str,
    crc: u32,
    size: u32,
    offset: u32,
}

impl Header<'_> {
    /// The 26 bytes that local and central headers share: version needed up to the length of the extra field.
    fn shared(&self) -> Vec<u8> {
        let mut b = Vec::with_capacity(26);
        for v in [10u16, 0, 0, 0, 0x21] {
            b.extend(v.to_le_bytes());
        }
        for v in [self.crc, self.size, self.size] {
            b.extend(v.to_le_bytes());
        }
        b.extend((self.name.len() as u16).to_le_bytes());
        b.extend(0u16.to_le_bytes());
        b
    }

    fn local(&self) -> Vec<u8> {
        let mut b = LOCAL.to_le_bytes().to_vec();
        b.extend(self.shared());
        b.extend(self.name.as_bytes());
        b
    }

    fn central(&self) -> Vec<u8> {
        let mut b = CENTRAL.to_le_bytes().to_vec();
        b.extend(10u16.to_le_bytes());
        b.extend(self.shared());
        b.extend([0; 10]);
        b.extend(self.offset.to_le_bytes());
        b.extend(self.name.as_bytes());
        b
    }
}

fn end(n: u16, size: u32, offset: u32) -> Vec<u8> {
    let mut b = END.to_le_bytes().to_vec();
    for v in [0u16, 0, n, n] {
        b.extend(v.to_le_bytes());
    }
    b.extend(size.to_le_bytes());
    b.extend(offset.to_le_bytes());
    b.extend(0u16.to_le_bytes());
    b
}

/// Why `name` may not be a member's name, if it may not: it must be relative, of printable ASCII without `\` and `:`, and
/// no part of it may be empty, `.` or `..`.
pub(crate) fn unsafe_name(name: &str) -> Option<&'static str> {
    if name.is_empty() || name.len() > MAX_NAME {
        return Some("the name is empty or too long");
    }
    if !name
        .bytes()
        .all(|b| b.is_ascii_graphic() && b != b'\\' && b != b':')
    {
        return Some("the name has characters that are not allowed");
    }
    if name.starts_with('/') {
        return Some("the name is absolute");
    }
    if name.split('/').any(|part| part == "..") {
        return Some("the name leads out of the archive (`..`)");
    }
    if name.split('/').any(|part| part.is_empty() || part == ".") {
        return Some("the name has an empty part");
    }
    None
}

/// Writes an archive of `members` (sorted by the map) to `path`.
///
/// Errors: `Io`; `AssetMember` for an unsafe name or too many members; `AssetTooLarge` from 4 GiB on.
pub(crate) fn write(path: &Path, members: &BTreeMap<String, Content>) -> Result<()> {
    let file = std::fs::File::create(path).map_err(|e| Error::io(path, e))?;
    let mut out = std::io::BufWriter::new(file);
    let too_large = || Error::AssetTooLarge {
        file: path.display().to_string(),
    };
    if members.len() > MAX_MEMBERS {
        return Err(too_large());
    }
    let mut headers = Vec::new();
    let mut offset = 0u64;
    for (name, content) in members {
        if let Some(reason) = unsafe_name(name) {
            return Err(Error::member(path, name, reason));
        }
        let (crc, size) = checksum(content)?;
        let header = Header {
            name,
            crc,
            size: u32::try_from(size).map_err(|_| too_large())?,
            offset: u32::try_from(offset).map_err(|_| too_large())?,
        };
        let local = header.local();
        out.write_all(&local).map_err(|e| Error::io(path, e))?;
        copy(content, &mut out, path)?;
        offset += local.len() as u64 + size;
        headers.push(header);
    }
    let directory: Vec<u8> = headers.iter().flat_map(Header::central).collect();
    let tail = end(
        headers.len() as u16,
        u32::try_from(directory.len()).map_err(|_| too_large())?,
        u32::try_from(offset).map_err(|_| too_large())?,
    );
    out.write_all(&directory)
        .and_then(|()| out.write_all(&tail))
        .and_then(|()| out.flush())
        .map_err(|e| Error::io(path, e))
}

fn checksum(content: &Content) -> Result<(u32, u64)> {
    let mut crc = Crc32::new();
    let mut size = 0u64;
    read_all(content, |chunk| {
        crc.update(chunk);
        size += chunk.len() as u64;
        Ok(())
    })?;
    Ok((crc.finish(), size))
}

fn copy(content: &Content, out: &mut impl Write, path: &Path) -> Result<()> {
    read_all(content, |chunk| {
        out.write_all(chunk).map_err(|e| Error::io(path, e))
    })
}

/// Hands the bytes of `content` to `take`, piece by piece.
pub(crate) fn read_all(content: &Content, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    match content {
        Content::Bytes(bytes) => take(bytes),
        Content::File(path) => {
            let mut file = std::fs::File::open(path).map_err(|e| Error::io(path, e))?;
            let mut buffer = vec![0; 1 << 16];
            loop {
                match file.read(&mut buffer).map_err(|e| Error::io(path, e))? {
                    0 => return Ok(()),
                    n => take(buffer.get(..n).unwrap_or_default())?,
                }
            }
        }
    }
}

/// The members of the archive `bytes`, in order of their names.
///
/// Errors: `AssetMember` for an unsafe name, a compressed or encrypted member, a wrong checksum; `AssetForm` for anything else
/// that [`write`] would not have written. `path` is for the messages.
pub(crate) fn read<'a>(bytes: &'a [u8], path: &Path) -> Result<Vec<(&'a str, &'a [u8])>> {
    let form = |reason: &str| Error::AssetForm {
        file: path.display().to_string(),
        reason: reason.into(),
    };
    let at = bytes
        .len()
        .checked_sub(END_BYTES)
        .ok_or_else(|| form("it is too short to be a zip archive"))?;
    if read_u32(bytes, at) != Some(END) {
        return Err(form(
            "the end record of a zip archive is missing: the file is cut off, or it is something else",
        ));
    }
    let n = read_u16(bytes, at + 8).map_or(0, usize::from);
    if n > MAX_MEMBERS {
        return Err(form("it has too many members"));
    }
    let start = read_u32(bytes, at + 16).map_or(0, |v| v as usize);
    let mut entries = Vec::with_capacity(n);
    let mut cursor = start;
    for _ in 0..n {
        let entry =
            Entry::parse(bytes, cursor).ok_or_else(|| form("the zip directory is damaged"))?;
        let name =
            std::str::from_utf8(entry.name).map_err(|_| form("a member's name is not UTF-8"))?;
        if let Some(reason) = unsafe_name(name) {
            return Err(Error::member(path, name, reason));
        }
        cursor += CENTRAL_BYTES + name.len();
        entries.push((entry, name));
    }
    let mut cursor = start;
    let mut offset = 0usize;
    let mut members: Vec<(&str, &[u8])> = Vec::with_capacity(n);
    for (entry, name) in entries {
        if entry.method != 0 || entry.flags != 0 {
            return Err(Error::member(
                path,
                name,
                "it is compressed or encrypted; members must be stored",
            ));
        }
        if members.last().is_some_and(|(last, _)| *last >= name) {
            return Err(Error::member(
                path,
                name,
                "members must be sorted by name and unique",
            ));
        }
        let header = Header {
            name,
            crc: entry.crc,
            size: entry.size,
            offset: u32::try_from(offset).map_err(|_| form("it is too large"))?,
        };
        let (local, central) = (header.local(), header.central());
        if bytes.get(cursor..cursor + central.len()) != Some(&central[..])
            || bytes.get(offset..offset + local.len()) != Some(&local[..])
        {
            return Err(Error::member(
                path,
                name,
                "its zip headers are not in the form of an adapter asset",
            ));
        }
        let data = offset + local.len();
        let next = data
            .checked_add(entry.size as usize)
            .filter(|&next| next <= start)
            .ok_or_else(|| Error::member(path, name, "it reaches beyond the archive"))?;
        let content = bytes.get(data..next).unwrap_or_default();
        let mut crc = Crc32::new();
        crc.update(content);
        if crc.finish() != entry.crc {
            return Err(Error::member(
                path,
                name,
                "its bytes do not match their checksum; the file is damaged",
            ));
        }
        members.push((name, content));
        offset = next;
        cursor += central.len();
    }
    let tail = end(
        n as u16,
        u32::try_from(cursor - start).unwrap_or(u32::MAX),
        u32::try_from(start).unwrap_or(u32::MAX),
    );
    if offset != start || cursor != at || bytes.get(at..) != Some(&tail[..]) {
        return Err(form(
            "there are bytes that belong to no member, or the end record is damaged",
        ));
    }
    Ok(members)
}

struct Entry<'a> {
    flags: u16,
    method: u16,
    crc: u32,
    size: u32,
    name: &'a [u8],
}

impl<'a> Entry<'a> {
    fn parse(bytes: &'a [u8], at: usize) -> Option<Self> {
        if read_u32(bytes, at)? != CENTRAL {
            return None;
        }
        let length = usize::from(read_u16(bytes, at + 28)?);
        let name = at.checked_add(CENTRAL_BYTES)?;
        Some(Self {
            flags: read_u16(bytes, at + 8)?,
            method: read_u16(bytes, at + 10)?,
            crc: read_u32(bytes, at + 16)?,
            size: read_u32(bytes, at + 24)?,
            name: bytes.get(name..name.checked_add(length)?)?,
        })
    }
}

fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    let b = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_le_bytes(b.try_into().ok()?))
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    let b = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(b.try_into().ok()?))
}

/// CRC-32 of zip: polynomial 0xEDB88320, reflected, start and end inverted.
struct Crc32(u32);

const CRC_TABLE: [u32; 256] = {
    let mut table = [0u32; 256];
    let mut i = 0;
    while i < 256 {
        let mut c = i as u32;
        let mut k = 0;
        while k < 8 {
            c = if c & 1 == 1 {
                0xEDB8_8320 ^ (c >> 1)
            } else {
                c >> 1
            };
            k += 1;
        }
        table[i] = c;
        i += 1;
    }
    table
};

impl Crc32 {
    fn new() -> Self {
        Self(u32::MAX)
    }

    fn update(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |c, &b| {
            CRC_TABLE[((c ^ u32::from(b)) & 0xff) as usize] ^ (c >> 8)
        });
    }

    fn finish(self) -> u32 {
        !self.0
    }
}
