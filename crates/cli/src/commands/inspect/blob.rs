//! Weight files.

use super::{Page, lines};
use crate::table::{self, Table};
use gesso_coreml::blob::BlobFile;
use gesso_coreml::mmap::Mapped;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;

pub(super) fn page(path: &Path) -> anyhow::Result<Page> {
    let bytes = Mapped::open(path)?;
    let file = BlobFile::new(&bytes, path.display().to_string())?;
    let mut table = Table::new(&["offset", "dtype", "elements", "bytes", "unused bits"]);
    let mut sums: BTreeMap<String, u64> = BTreeMap::new();
    let mut records = Vec::new();
    for record in file.records() {
        let r = record?;
        let (dtype, size) = (format!("{:?}", r.dtype), r.data.len() as u64);
        table.row(&[
            r.offset.to_string(),
            dtype.clone(),
            r.elements().to_string(),
            size.to_string(),
            r.unused_bits.to_string(),
        ]);
        records.push(json!({
            "offset": r.offset, "dtype": dtype, "elements": r.elements(), "bytes": size, "unused_bits": r.unused_bits,
        }));
        *sums.entry(dtype).or_default() += size;
    }
    let head = lines(&[
        ("kind", "weight file".into()),
        ("bytes", table::bytes(bytes.len() as u64)),
        ("records", file.count().to_string()),
    ]);
    Ok(Page {
        json: json!({ "kind": "weight file", "bytes": bytes.len(), "records": records, "bytes_by_dtype": sums }),
        text: format!("{head}\n{}", table.text()),
        problem: None,
    })
}
