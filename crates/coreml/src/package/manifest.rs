//! `Manifest.json`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Name of the manifest in a package.
pub(super) const FILE_NAME: &str = "Manifest.json";
/// Folder that the paths of the items start from.
pub(super) const DATA: &str = "Data";
/// Version that is read and written.
const VERSION: &str = "1.0.0";

/// The manifest. Fields stand in the order of the file, which is sorted.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    file_format_version: String,
    item_info_entries: BTreeMap<String, Item>,
    root_model_identifier: String,
}

/// One item; the order of the fields is that of the file.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Item {
    pub(super) author: String,
    pub(super) description: String,
    pub(super) name: String,
    pub(super) path: String,
}

impl Manifest {
    /// A manifest of items by identifier, whose root model is `root`.
    pub(super) fn new(items: BTreeMap<String, Item>, root: String) -> Self {
        Self {
            file_format_version: VERSION.to_owned(),
            item_info_entries: items,
            root_model_identifier: root,
        }
    }

    /// Reads and checks a manifest: version, root model, and that no path leads out of the package.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(|e| Error::io("read", path, e))?;
        let manifest: Self = serde_json::from_slice(&bytes).map_err(|source| Error::Manifest {
            path: path.to_path_buf(),
            source,
        })?;
        if manifest.file_format_version != VERSION {
            return Err(Error::ManifestVersion {
                path: path.to_path_buf(),
                found: manifest.file_format_version,
            });
        }
        if !manifest
            .item_info_entries
            .contains_key(&manifest.root_model_identifier)
        {
            return Err(Error::ManifestRoot {
                path: path.to_path_buf(),
                identifier: manifest.root_model_identifier,
            });
        }
        for item in manifest.items() {
            check_relative(item, path)?;
        }
        Ok(manifest)
    }

    /// Gives the item at `path` another identifier; nothing happens when there is no such item or it is the root model.
    pub(super) fn rename(&mut self, path: &str, identifier: String) {
        let found = self
            .item_info_entries
            .iter()
            .find(|(id, item)| item.path == path && **id != self.root_model_identifier)
            .map(|(id, _)| id.clone());
        if let Some(item) = found.and_then(|id| self.item_info_entries.remove(&id)) {
            self.item_info_entries.insert(identifier, item);
        }
    }

    /// Paths of all items from the folder `Data`.
    pub(super) fn items(&self) -> impl Iterator<Item = &str> {
        self.item_info_entries
            .values()
            .map(|item| item.path.as_str())
    }

    /// Path of the root model from the folder `Data`.
    pub(super) fn root(&self) -> &str {
        self.item_info_entries
            .get(&self.root_model_identifier)
            .map_or("", |item| &item.path)
    }

    /// The bytes that coremltools writes: indented by four spaces, keys sorted, one line feed at the end.
    pub(super) fn to_bytes(&self, path: &Path) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let format = serde_json::ser::PrettyFormatter::with_indent(b"    ");
        let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, format);
        self.serialize(&mut serializer)
            .map_err(|source| Error::Manifest {
                path: path.to_path_buf(),
                source,
            })?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

/// Refuses a name that is empty, absolute, or goes up. `file` is where the name stands, for the message.
pub(crate) fn check_relative(name: &str, file: &Path) -> Result<()> {
    let inside = !name.is_empty()
        && !name.contains(['\\', '\0'])
        && Path::new(name)
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
    if inside {
        Ok(())
    } else {
        Err(Error::UnsafePath {
            file: file.to_path_buf(),
            name: name.to_owned(),
        })
    }
}
