//! `model_index.json`.

use super::json;
use crate::Result;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// What a pipeline folder says about itself (diffusers' `model_index.json`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelIndex {
    /// Class of the pipeline, for instance `StableDiffusionPipeline`.
    pub class_name: String,
    /// Version of diffusers that wrote it.
    pub diffusers_version: String,
    /// Component → (library, class), for those that are there.
    pub components: BTreeMap<String, (String, String)>,
}

impl ModelIndex {
    /// Reads `file`.
    ///
    /// Errors: `Io`, `ConfigFile`.
    pub(super) fn open(file: &Path) -> Result<Self> {
        let object = json::object(file)?;
        let word = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
        let pair = |value: &Value| {
            let [library, class] = value.as_array()?.as_slice() else {
                return None;
            };
            Some((library.as_str()?.to_string(), class.as_str()?.to_string()))
        };
        Ok(Self {
            class_name: word("_class_name").into(),
            diffusers_version: word("_diffusers_version").into(),
            components: object
                .iter()
                .filter_map(|(key, value)| Some((key.clone(), pair(value)?)))
                .collect(),
        })
    }
}
