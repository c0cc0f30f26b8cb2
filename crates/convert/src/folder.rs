//! `gesso.json`: what a converted folder is.

use crate::asset::hex;
use crate::built::{Built, Feature};
use crate::delta::AppliedDelta;
use crate::hint::{self, SchedulerHint};
use crate::merged::split_key;
use crate::metadata;
use crate::recipe::Part;
use crate::report::{BakedReport, FunctionReport, PackageReport, StyleReport};
use crate::slots::{Slot, SlotModule, SlotTable};
use crate::{Error, Result};
use gesso_weights::Checkpoint;
use gesso_weights::lora::ModuleTable;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Name of the file in a converted folder.
pub const FOLDER_FILE: &str = "gesso.json";
/// Version of its form.
pub const FOLDER_SCHEMA: u32 = 1;

/// What a converted folder is. Holds no path, no time and nothing about the machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FolderInfo {
    /// Version of this form.
    pub schema: u32,
    /// Version of the converter.
    pub converter: String,
    /// Model family, for instance `sd1`.
    pub family: String,
    /// Names for the metadata.
    pub origin: OriginInfo,
    /// SHA-256 of the source's tensors (canonical name, shape, dtype, bytes), 64 hexadecimal digits. LoRAs are not part of it.
    pub source_hash: String,
    /// How it was converted.
    pub recipe: RecipeInfo,
    /// The packages by name without extension.
    pub packages: BTreeMap<String, PackageInfo>,
    /// Deltas in the weights, in the order in which they were applied.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub deltas: Vec<AppliedDelta>,
    /// Slots of the adaptable packages by component.
    pub slots: BTreeMap<String, SlotsInfo>,
    /// Whether `vocab.json` and `merges.txt` are there.
    pub tokenizer: bool,
    /// The scheduler's configuration as it stood in the source, or that of the family.
    pub scheduler: serde_json::Value,
    /// Factor between the VAE's latents and the UNet's.
    pub scaling_factor: Option<f32>,
    /// Shapes of the source's tensors that a LoRA may touch, by `<component>:<tensor>`, so that an adapter can be made without
    /// the source.
    pub tensors: BTreeMap<String, Vec<usize>>,
    /// Tensors of the source that nothing uses, with the reason.
    pub unused: Vec<(String, String)>,
}

/// Names for the metadata; empty when unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginInfo {
    /// Name of the model.
    pub name: String,
    /// Author.
    pub author: String,
    /// Licence.
    pub license: String,
}

/// The recipe in words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecipeInfo {
    /// Bits per palettized weight; 16 for none.
    pub bits: u8,
    /// `fp16` or `fp32`.
    pub precision: String,
    /// `SPLIT_EINSUM` or `ORIGINAL`.
    pub attention: String,
    /// Width of the pictures in pixels.
    pub width: usize,
    /// Height of the pictures in pixels.
    pub height: usize,
    /// Rank of the slots; 0 for none.
    pub adapter_rank: usize,
    /// Which modules have slots: `attention`, `attention+ff` or `all`; absent without slots.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub adapter_sites: Option<String>,
    /// `state` when the slots are states that an app writes once; absent when they are inputs.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub adapter_io: Option<String>,
    /// Overrides of the palettization rule, pattern and bits, in order.
    pub palettize: Vec<(String, u8)>,
    /// LoRAs merged into the weights.
    pub loras: Vec<BakedReport>,
    /// Functions of text encoder and UNet, the default one first; empty when they have only one.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub functions: Vec<StyleReport>,
}

/// One package.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PackageInfo {
    /// File name.
    pub file: String,
    /// The package whose weight file it shares.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub weights_of: Option<String>,
    /// Inputs in order.
    pub inputs: Vec<FeatureInfo>,
    /// Outputs in order.
    pub outputs: Vec<FeatureInfo>,
    /// Bytes of weights in the precision of the program.
    pub bytes_before: u64,
    /// Bytes of weights in the package.
    pub bytes_after: u64,
    /// Lowest signal to noise ratio of a palettized weight in dB.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub min_snr_db: Option<f64>,
    /// Its functions and what they share, the default one first; empty when there is only one.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub functions: Vec<FunctionReport>,
    /// Palettized weights by tensor name: bits and signal to noise ratio in dB (`null` when nothing was lost).
    pub palettized: BTreeMap<String, (u8, Option<f64>)>,
}

/// One input or output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeatureInfo {
    /// Name.
    pub name: String,
    /// `fp16` or `fp32`.
    pub dtype: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// What a missing optional input is filled with.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub default: Option<f32>,
}

impl From<&Feature> for FeatureInfo {
    fn from(feature: &Feature) -> Self {
        Self {
            name: feature.name.clone(),
            dtype: feature.dtype.to_string(),
            shape: feature.shape.clone(),
            default: feature.default,
        }
    }
}

/// The slots of one component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotsInfo {
    /// SHA-256 of the layout, 64 hexadecimal digits.
    pub layout_hash: String,
    /// Rank R of every row.
    pub rank: usize,
    /// Modules with a slot.
    pub modules: Vec<SlotModule>,
    /// The rows.
    pub rows: Vec<Slot>,
}

impl From<&SlotTable> for SlotsInfo {
    fn from(table: &SlotTable) -> Self {
        Self {
            layout_hash: hex(&table.layout_hash()),
            rank: table.rank(),
            modules: table.modules().to_vec(),
            rows: table.rows().to_vec(),
        }
    }
}

impl PackageInfo {
    /// The package `file` of `built`.
    pub fn new(file: String, built: &Built, report: &PackageReport) -> Self {
        let palettized = report
            .tensors
            .iter()
            .filter(|t| t.bits < 16)
            .map(|t| (t.key.clone(), (t.bits, t.snr_db)))
            .collect();
        Self {
            file,
            weights_of: None,
            inputs: built.inputs.iter().map(FeatureInfo::from).collect(),
            outputs: built.outputs.iter().map(FeatureInfo::from).collect(),
            bytes_before: report.bytes_before,
            bytes_after: report.bytes_after,
            min_snr_db: report.min_snr_db,
            functions: report.functions.clone(),
            palettized,
        }
    }

    /// The package `file` of `built`, over the weights of `plain`.
    pub fn twin(file: String, plain: &Self, built: &Built) -> Self {
        Self {
            file,
            weights_of: Some(plain.file.clone()),
            inputs: built.inputs.iter().map(FeatureInfo::from).collect(),
            outputs: built.outputs.iter().map(FeatureInfo::from).collect(),
            functions: Vec::new(),
            ..plain.clone()
        }
    }
}

impl FolderInfo {
    /// How a few-step release in the weights wants to be sampled: of the last delta that has one, else of the first LoRA that
    /// was baked in.
    pub fn scheduler_hint(&self) -> Option<&SchedulerHint> {
        let deltas = self.deltas.iter().rev().flat_map(|d| &d.loras);
        let deltas = deltas.map(|l| (&l.scheduler_hint, l.unet));
        let baked = self.recipe.loras.iter();
        hint::first(deltas.chain(baked.map(|l| (&l.scheduler_hint, l.unet_strength))))
    }

    /// The same for a function of the UNet, whose own LoRAs come first; `None` is the default function.
    pub fn scheduler_hint_of(&self, function: Option<&str>) -> Option<&SchedulerHint> {
        let named = |f: &&StyleReport| function.is_none_or(|name| f.name == name);
        let own = self.recipe.functions.iter().find(named);
        let own = own.into_iter().flat_map(|f| &f.loras);
        hint::first(own.map(|l| (&l.scheduler_hint, l.unet_strength)))
            .or_else(|| self.scheduler_hint())
    }

    /// Reads `gesso.json` of the converted folder `dir`.
    ///
    /// Errors: [`Error::Io`]; [`Error::Json`] for a file that is not of this form, or of a newer one.
    pub fn open(dir: &Path) -> Result<Self> {
        let path = dir.join(FOLDER_FILE);
        let bytes = std::fs::read(&path).map_err(|e| Error::io(&path, e))?;
        let json = |reason: String| Error::Json {
            file: path.display().to_string(),
            reason,
        };
        let value: serde_json::Value =
            serde_json::from_slice(&bytes).map_err(|e| json(e.to_string()))?;
        let schema = value.get("schema").and_then(serde_json::Value::as_u64);
        if schema != Some(u64::from(FOLDER_SCHEMA)) {
            let found = schema.map_or("missing".to_string(), |s| s.to_string());
            return Err(json(format!(
                "`schema` is {found}, expected {FOLDER_SCHEMA}"
            )));
        }
        serde_json::from_value(value).map_err(|e| json(e.to_string()))
    }

    /// Writes `gesso.json` into `dir`.
    ///
    /// Errors: [`Error::Io`], [`Error::Json`].
    pub fn write(&self, dir: &Path) -> Result<()> {
        let path = dir.join(FOLDER_FILE);
        let mut bytes = serde_json::to_vec_pretty(self).map_err(|e| Error::Json {
            file: path.display().to_string(),
            reason: e.to_string(),
        })?;
        bytes.push(b'\n');
        std::fs::write(&path, bytes).map_err(|e| Error::io(&path, e))
    }

    /// The modules of the source that a LoRA may touch.
    ///
    /// Errors: [`Error::Json`] for a tensor of an unknown component.
    pub fn module_table(&self) -> Result<ModuleTable> {
        let tensors = self
            .tensors
            .iter()
            .map(|(key, shape)| match split_key(key) {
                Some((component, name)) => Ok((component, name, shape.as_slice())),
                None => Err(Error::Json {
                    file: FOLDER_FILE.into(),
                    reason: format!("`tensors`: `{key}` does not begin with a component"),
                }),
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(ModuleTable::from_tensors(tensors))
    }

    /// The source hash that this folder would have if it had been converted from `checkpoint`, 64 hexadecimal digits.
    pub fn hash_of(&self, checkpoint: &Checkpoint) -> String {
        let parts = Part::ALL
            .into_iter()
            .filter(|part| self.packages.contains_key(part.package()));
        metadata::source_hash(checkpoint, parts)
    }

    /// The slot tables by component, rebuilt from the modules.
    ///
    /// Errors: [`Error::Json`] when rows or hash are not those of the modules.
    pub fn slot_tables(&self) -> Result<BTreeMap<String, SlotTable>> {
        let mut tables = BTreeMap::new();
        for (component, info) in &self.slots {
            let table = SlotTable::new(info.rank, info.modules.clone());
            if SlotsInfo::from(&table) != *info
                || info.modules.iter().any(|m| m.component != *component)
            {
                return Err(Error::Json {
                    file: FOLDER_FILE.into(),
                    reason: format!(
                        "`slots`: rows or layout hash of `{component}` do not follow from its modules"
                    ),
                });
            }
            tables.insert(component.clone(), table);
        }
        Ok(tables)
    }
}
