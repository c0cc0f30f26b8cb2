//! Opening an adapter: one safetensors file, or a folder that PEFT or diffusers saved.

use super::config::{PeftConfig, from_header};
use super::error::LoraError;
use super::factor::Factor;
use super::family::{Family, of_adapter};
use super::format::{Format, detect};
use super::part::{Key, Part};
use super::release::Release;
use crate::Component;
use crate::StFile;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An adapter file, not yet matched to a model.
#[derive(Debug)]
pub struct Lora {
    pub(crate) store: Arc<StFile>,
    pub(crate) format: Format,
    /// Scales from the header, per component.
    pub(crate) configs: BTreeMap<Component, PeftConfig>,
    /// Scale of a PEFT folder.
    pub(crate) folder_config: Option<PeftConfig>,
    release: Release,
}

/// Weight files that a folder may hold, in the order that they are looked for.
const FOLDER_FILES: &[&str] = &[
    "adapter_model.safetensors",
    "pytorch_lora_weights.safetensors",
];

/// Kinds of PEFT adapters that are read.
const PEFT_KINDS: &[&str] = &["LORA", "LOHA", "LOKR", "IA3"];

impl Lora {
    /// Opens a `.safetensors` file, or a folder with `adapter_model.safetensors` and `adapter_config.json`, or with
    /// `pytorch_lora_weights.safetensors`.
    ///
    /// Errors: `File` for files that are cut short, pickles, git-lfs pointers; `NotAnAdapter` for checkpoints and embeddings; `Refused` for
    /// known kinds that are not supported; `Config` for a configuration that cannot be used.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, LoraError> {
        let path = path.as_ref();
        let file = if path.is_dir() {
            weights_of(path)?
        } else {
            path.to_path_buf()
        };
        let store = Arc::new(StFile::open(&file).map_err(Box::new)?);
        let folder_config = config_beside(&file)?;
        let format = detect(&store, folder_config.is_some())?;
        let config_error = |reason: String| LoraError::Config {
            file: file.clone(),
            reason,
        };
        let configs = from_header(&store).map_err(config_error)?;
        for config in configs.values().chain(&folder_config) {
            if !PEFT_KINDS.contains(&config.kind.as_str()) {
                return Err(LoraError::Refused {
                    file,
                    kind: format!("a PEFT adapter of type {}", config.kind),
                    key: "peft_type".into(),
                });
            }
            if config.fan_in_fan_out {
                return Err(config_error(
                    "`fan_in_fan_out` (transposed factors) has no use in Stable Diffusion".into(),
                ));
            }
        }
        Ok(Self {
            release: Release::of(&store, path),
            store,
            format,
            configs,
            folder_config,
        })
    }

    /// Kind of file.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Family of the model that it was made for, where the shapes tell.
    pub fn family(&self) -> Option<Family> {
        of_adapter(&self.store).map(|e| e.family)
    }

    /// What the file says about itself.
    pub fn release(&self) -> &Release {
        &self.release
    }

    /// Number of tensors.
    pub fn tensors(&self) -> usize {
        self.store.len()
    }

    /// How many modules have which alpha: values of the alpha tensors, as text that reads back to the same f32.
    pub fn alphas(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        let alphas = self
            .store
            .names()
            .filter(|name| Key::parse(name).is_some_and(|k| k.part == Part::Alpha));
        for value in alphas.filter_map(|name| Factor::new(&self.store, name, None)?.scalar()) {
            *counts.entry(value.to_string()).or_default() += 1;
        }
        counts
    }

    /// Alphas that stand beside the tensors: in a PEFT folder's configuration, or in the header per component.
    pub fn configured_alphas(&self) -> Vec<String> {
        let folder = self.folder_config.iter().map(|c| ("all", c));
        let header = self
            .configs
            .iter()
            .map(|(component, c)| (component.as_str(), c));
        let both = folder.chain(header);
        both.filter_map(|(of, config)| Some(format!("{of}: {}", config.alpha_in_words()?)))
            .collect()
    }

    /// Keys and shapes of all tensors, sorted by key.
    pub fn keys(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.store.names().map(|name| {
            (
                name,
                self.store.get(name).map(|t| t.shape).unwrap_or_default(),
            )
        })
    }
}

fn weights_of(folder: &Path) -> Result<PathBuf, LoraError> {
    FOLDER_FILES
        .iter()
        .map(|name| folder.join(name))
        .find(|file| file.is_file())
        .ok_or_else(|| LoraError::NotAnAdapter {
            file: folder.to_path_buf(),
            reason: format!(
                "the folder holds neither `{}`",
                FOLDER_FILES.join("` nor `")
            ),
        })
}

/// The `adapter_config.json` beside an `adapter_model.safetensors`.
fn config_beside(file: &Path) -> Result<Option<PeftConfig>, LoraError> {
    let is_peft = file
        .file_name()
        .is_some_and(|name| name == "adapter_model.safetensors");
    let path = file.with_file_name("adapter_config.json");
    if !is_peft || !path.is_file() {
        return Ok(None);
    }
    let error = |reason: String| LoraError::Config {
        file: path.clone(),
        reason,
    };
    let text = std::fs::read_to_string(&path).map_err(|e| error(e.to_string()))?;
    let value: Value = serde_json::from_str(&text).map_err(|e| error(e.to_string()))?;
    let object = value
        .as_object()
        .ok_or_else(|| error("it is not a JSON object".into()))?;
    PeftConfig::from_json(object).map(Some).map_err(error)
}
