//! `scheduler_config.json`.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The scheduler that a model was trained and published with (diffusers' `scheduler_config.json`). The defaults are those of
/// Stable Diffusion 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SchedulerConfig {
    /// Class in diffusers, for instance `PNDMScheduler`.
    #[serde(rename = "_class_name")]
    pub class_name: String,
    /// Steps of the noise schedule.
    pub num_train_timesteps: usize,
    /// First variance of the schedule.
    pub beta_start: f64,
    /// Last variance of the schedule.
    pub beta_end: f64,
    /// How the variances lie between them: `linear`, `scaled_linear`, `squaredcos_cap_v2`.
    pub beta_schedule: String,
    /// What the UNet predicts: `epsilon`, `v_prediction` or `sample`.
    pub prediction_type: String,
    /// Added to every time step with `leading` spacing.
    pub steps_offset: usize,
    /// `leading`, `linspace` or `trailing`.
    pub timestep_spacing: String,
    /// Whether the step after the last one has no noise at all.
    pub set_alpha_to_one: bool,
    /// Whether predicted pictures are clipped to [-1, 1].
    pub clip_sample: bool,
    /// Whether PNDM leaves out its Runge-Kutta steps.
    pub skip_prk_steps: bool,
    /// Whether the schedule is rescaled so that its last step is pure noise.
    pub rescale_betas_zero_snr: bool,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self {
            class_name: "PNDMScheduler".into(),
            num_train_timesteps: 1000,
            beta_start: 0.00085,
            beta_end: 0.012,
            beta_schedule: "scaled_linear".into(),
            prediction_type: "epsilon".into(),
            steps_offset: 1,
            timestep_spacing: "leading".into(),
            set_alpha_to_one: false,
            clip_sample: false,
            skip_prk_steps: true,
            rescale_betas_zero_snr: false,
        }
    }
}

impl SchedulerConfig {
    /// The text of a `scheduler_config.json` with these values.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// `file`'s text with another prediction type, all else as it stands.
    ///
    /// Errors: `ConfigFile`.
    pub(super) fn with_prediction_type(file: &Path, text: &str, wanted: &str) -> Result<String> {
        let wrong = |reason: String| Error::ConfigFile {
            file: file.into(),
            reason,
        };
        let mut config: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(&without_infinities(text)).map_err(|e| wrong(e.to_string()))?;
        config.insert("prediction_type".into(), wanted.into());
        serde_json::to_string_pretty(&config).map_err(|e| wrong(e.to_string()))
    }

    /// Reads `file`'s text.
    ///
    /// Errors: `ConfigFile`.
    pub(super) fn parse(file: &Path, text: &str) -> Result<Self> {
        serde_json::from_str(&without_infinities(text)).map_err(|e| Error::ConfigFile {
            file: file.into(),
            reason: e.to_string(),
        })
    }
}

/// `text` with `null` for the words `Infinity` and `NaN`, which Python writes and JSON does not know.
fn without_infinities(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (i, piece) in text.split('"').enumerate() {
        if i > 0 {
            out.push('"');
        }
        // Keys and values of this file hold no escaped quotes, so every second piece is outside of strings.
        if i % 2 == 0 {
            let plain = piece.replace("-Infinity", "null");
            out.push_str(&plain.replace("Infinity", "null").replace("NaN", "null"));
        } else {
            out.push_str(piece);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_words_and_unknown_fields_are_read_over() {
        let text = r#"{"_class_name": "EulerDiscreteScheduler", "lambda_min_clipped": -Infinity,
            "name": "NaN and Infinity", "prediction_type": "v_prediction", "x": NaN}"#;
        let config = SchedulerConfig::parse(Path::new("s.json"), text).unwrap();
        assert_eq!(config.class_name, "EulerDiscreteScheduler");
        assert_eq!(config.prediction_type, "v_prediction");
        assert_eq!(config.steps_offset, 1);
        let again = SchedulerConfig::parse(Path::new("s.json"), &config.to_json()).unwrap();
        assert_eq!(again, config);
    }

    #[test]
    fn a_wrong_kind_names_the_file() {
        let error = SchedulerConfig::parse(Path::new("s.json"), r#"{"beta_end": "x"}"#);
        let text = error.unwrap_err().to_string();
        assert!(
            text.starts_with("`s.json` is not a valid configuration: invalid type"),
            "{text}"
        );
    }
}
