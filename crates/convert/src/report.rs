//! What a conversion did, tensor by tensor.

use crate::hint::SchedulerHint;
use crate::loss::{Energy, Losses};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One weight of a package.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TensorReport {
    /// External key, or the name of a computed constant.
    pub key: String,
    /// Number of elements.
    pub elements: usize,
    /// Bits per element as stored.
    pub bits: u8,
    /// Bytes before palettization, in the precision of the program.
    pub bytes_before: u64,
    /// Bytes in the package.
    pub bytes_after: u64,
    /// Signal to noise ratio of the palettization in dB; absent when the tensor is stored without loss beyond its precision.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub snr_db: Option<f64>,
    /// What storing it lost against the exact fp32 merge, where LoRAs are merged in; [`Report::losses`] has it in dB.
    #[serde(skip)]
    pub merge: Option<Energy>,
}

/// One package.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PackageReport {
    /// File name of the package.
    pub package: String,
    /// Bytes of weights before palettization.
    pub bytes_before: u64,
    /// Bytes of weights in the package.
    pub bytes_after: u64,
    /// Palettized tensors.
    pub palettized: usize,
    /// Lowest signal to noise ratio among the palettized tensors, in dB.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub min_snr_db: Option<f64>,
    /// Its functions, the default one first; empty when there is only one.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub functions: Vec<FunctionReport>,
    /// Time that it took. Not part of any file.
    #[serde(skip)]
    pub seconds: f64,
    /// Its weights in the order of the file.
    pub tensors: Vec<TensorReport>,
}

impl PackageReport {
    /// Sums up `tensors`.
    pub fn new(package: &str, tensors: Vec<TensorReport>, seconds: f64) -> Self {
        let lossy = tensors.iter().filter_map(|t| t.snr_db);
        Self {
            package: package.into(),
            bytes_before: tensors.iter().map(|t| t.bytes_before).sum(),
            bytes_after: tensors.iter().map(|t| t.bytes_after).sum(),
            palettized: tensors.iter().filter(|t| t.bits < 16).count(),
            min_snr_db: lossy.fold(None, |least, db| Some(least.map_or(db, |l: f64| l.min(db)))),
            functions: Vec::new(),
            seconds,
            tensors,
        }
    }

    /// The same for a package with several functions; `tensors` are those of the default function.
    pub fn with_functions(mut self, functions: Vec<FunctionReport>) -> Self {
        for function in functions.iter().skip(1) {
            self.bytes_after += function.own_bytes;
            let lowest = [self.min_snr_db, function.min_snr_db];
            self.min_snr_db = lowest.into_iter().flatten().reduce(f64::min);
        }
        self.functions = functions;
        self
    }
}

/// One function of a package with several.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FunctionReport {
    /// Name of the function.
    pub name: String,
    /// Bytes of weights that were stored for it.
    pub own_bytes: u64,
    /// Bytes of weights that it shares with the functions before it.
    pub shared_bytes: u64,
    /// Weights that were stored for it.
    pub own_tensors: usize,
    /// Lowest signal to noise ratio among its own palettized weights, in dB.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub min_snr_db: Option<f64>,
}

/// The LoRAs of one function.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StyleReport {
    /// Name of the function.
    pub name: String,
    /// LoRAs that were merged into its weights besides those of all functions.
    pub loras: Vec<BakedReport>,
}

/// A LoRA that was merged into the weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BakedReport {
    /// Name of the LoRA.
    pub name: String,
    /// Strength for the UNet.
    pub unet_strength: f32,
    /// Strength for the text encoder.
    pub text_encoder_strength: f32,
    /// Modules that were merged.
    pub merged: usize,
    /// Modules that belong to no converted component, or whose strength is 0.
    pub not_merged: Vec<String>,
    /// Tensors of the file that nothing uses, with the reason or the pattern that named them.
    #[serde(default)]
    pub ignored: BTreeMap<String, String>,
    /// How it wants to be sampled, for a few-step release.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub scheduler_hint: Option<SchedulerHint>,
}

/// The adapter slots of one package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotsReport {
    /// File name of the package.
    pub package: String,
    /// Which modules have slots: `attention`, `attention+ff` or `all`.
    pub sites: String,
    /// How many modules.
    pub modules: usize,
    /// Rank R of every row.
    pub rank: usize,
    /// `input` for optional inputs, `state` for states.
    pub io: String,
    /// Bytes of all its inputs or states `adapter_W`: what an app binds at each prediction, or writes once.
    pub bytes: u64,
}

/// A conversion.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Packages in the order in which they were written; twins over the same weights do not count again.
    pub packages: Vec<PackageReport>,
    /// Slots of the adaptable packages.
    #[serde(default)]
    pub slots: Vec<SlotsReport>,
    /// LoRAs that were merged.
    pub loras: Vec<BakedReport>,
    /// By component, and of functions besides the default one by `<function>:<component>`, what storing the weights that LoRAs change lost against their exact fp32 merge; by tensor.
    #[serde(default)]
    pub losses: BTreeMap<String, Losses>,
    /// The functions, the default one first; empty when packages have only one.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub functions: Vec<StyleReport>,
    /// Tensors of the checkpoint that no component uses, with the reason.
    pub unused: Vec<(String, String)>,
    /// What a person should know about the conversion; what the checkpoint itself notes is in `Checkpoint::notes`.
    pub notes: Vec<String>,
}
