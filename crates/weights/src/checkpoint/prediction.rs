//! What a UNet predicts, where no `scheduler_config.json` says it.

use super::{Family, Tensors};
use std::collections::BTreeMap;

/// ε, the noise that was added.
pub(super) const EPSILON: &str = "epsilon";
/// v, of noise and picture.
pub(super) const V: &str = "v_prediction";

/// Metadata that names the prediction.
const STATED: &[&str] = &[
    "modelspec.prediction_type",
    "prediction_type",
    "modelspec.predict_key",
];

/// Of Stable Diffusion 2: this layer's bias spreads wider in the models that predict v.
const TELLING: &str = "up_blocks.3.attentions.2.transformer_blocks.0.norm1.bias";
/// Population standard deviation above which it is v. Source: ComfyUI, `comfy/supported_models.py`.
const SPREAD: f64 = 0.09;

/// What there is to judge by.
pub(super) struct Evidence<'a> {
    pub(super) metadata: &'a BTreeMap<String, String>,
    /// Whether the file has an empty tensor `v_pred`.
    pub(super) marked_v: bool,
    pub(super) family: Option<Family>,
    pub(super) unet: Option<&'a Tensors>,
}

impl Evidence<'_> {
    /// The prediction type, and why.
    pub(super) fn judged(&self) -> (&'static str, String) {
        if self.marked_v {
            return (V, "the file has the marker `v_pred`".into());
        }
        let stated = STATED.iter().find_map(|key| {
            let value = self.metadata.get(*key)?;
            Some((
                word(value)?,
                format!("`{key}` in the metadata is `{value}`"),
            ))
        });
        if let Some(stated) = stated {
            return stated;
        }
        if self
            .metadata
            .get("ss_v_parameterization")
            .map(String::as_str)
            == Some("True")
        {
            let why = "`ss_v_parameterization` in the metadata is `True`";
            return (V, why.into());
        }
        match self
            .metadata
            .get("modelspec.architecture")
            .map(String::as_str)
        {
            Some(a @ "stable-diffusion-v2-768-v") => return (V, architecture(a)),
            Some(a @ "stable-diffusion-v2-512") => return (EPSILON, architecture(a)),
            _ => {}
        }
        self.by_weights().unwrap_or_else(|| {
            let why = "nothing in the file says it, so that it may be wrong; `--prediction-type` overrules it";
            (EPSILON, why.into())
        })
    }

    fn by_weights(&self) -> Option<(&'static str, String)> {
        if self.family != Some(Family::Sd2) {
            return None;
        }
        let bias = self.unet?.get(TELLING)?.to_f32();
        let spread = population_std(&bias)?;
        let (type_, side) = match spread > SPREAD {
            true => (V, "above"),
            false => (EPSILON, "not above"),
        };
        let why = format!(
            "guessed from the standard deviation of `{TELLING}`, {spread:.3}, which is {side} {SPREAD}; `--prediction-type` overrules it"
        );
        Some((type_, why))
    }
}

fn architecture(name: &str) -> String {
    format!("`modelspec.architecture` in the metadata is `{name}`")
}

/// diffusers' word for what a metadata value says.
fn word(value: &str) -> Option<&'static str> {
    match value {
        "epsilon" | "eps" => Some(EPSILON),
        "v" | "v_prediction" | "v-prediction" => Some(V),
        "sample" => Some("sample"),
        _ => None,
    }
}

/// Root mean square distance from the mean; `None` of nothing or of values that are not finite.
fn population_std(values: &[f32]) -> Option<f64> {
    let n = values.len() as f64;
    let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    let square = |&x: &f32| (f64::from(x) - mean).powi(2);
    let spread = (values.iter().map(square).sum::<f64>() / n).sqrt();
    spread.is_finite().then_some(spread)
}
