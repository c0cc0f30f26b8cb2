//! `scheduler_config.json` of diffusers.

use crate::{Error, Result};
use serde::Deserialize;

/// How the training variances grow.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum BetaSchedule {
    /// β linear from `beta_start` to `beta_end`.
    Linear,
    /// √β linear; Stable Diffusion.
    ScaledLinear,
    /// Cosine ᾱ, each β at most 0.999.
    #[serde(rename = "squaredcos_cap_v2")]
    SquaredcosCapV2,
}

/// What the network predicts.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum PredictionType {
    /// The noise ε.
    #[default]
    Epsilon,
    /// The velocity v = √ᾱ·ε − √(1−ᾱ)·x0.
    VPrediction,
    /// The clean sample x0.
    Sample,
}

/// Which of the training timesteps are visited (table 2 of arXiv 2305.08891).
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum TimestepSpacing {
    /// Evenly from the last to the first.
    Linspace,
    /// Multiples of a whole ratio, plus `steps_offset`.
    Leading,
    /// From the last down by a fractional ratio.
    Trailing,
}

/// Where the last step of a sigma schedule ends.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum FinalSigmas {
    /// At sigma 0.
    #[default]
    Zero,
    /// At the smallest training sigma.
    SigmaMin,
}

/// How DPM-Solver++ 2M weighs the difference of two predictions, or the form of B(h) of UniPC.
///
/// As in diffusers, DPM-Solver++ reads UniPC's and unknown forms as midpoint, and UniPC reads those of DPM-Solver++ as
/// bh2.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum SolverType {
    /// Midpoint.
    #[default]
    Midpoint,
    /// Heun.
    Heun,
    /// A form of DPM-Solver for one step at a time.
    Logrho,
    /// B(h) = h.
    Bh1,
    /// B(h) = e^h − 1.
    Bh2,
}

/// The values of a `scheduler_config.json`, with diffusers' defaults for those that are missing.
///
/// One config may be run by any scheduler, as diffusers' `from_config` does; keys of other schedulers are not read, nor
/// is `clip_sample`, which `StableDiffusionPipeline` turns off. (LCM's defaults of β differ, but diffusers always
/// writes β into the file.)
/// Options that change the result and are not supported by the scheduler are errors when it is built.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct SchedulerConfig {
    /// Class name; see [`SchedulerKind::from_class_name`](super::SchedulerKind::from_class_name).
    #[serde(rename = "_class_name")]
    pub class_name: Option<String>,
    /// Training timesteps.
    pub num_train_timesteps: usize,
    /// First β.
    pub beta_start: f64,
    /// Last β.
    pub beta_end: f64,
    /// How β grows between them.
    pub beta_schedule: BetaSchedule,
    /// Explicit βs instead.
    pub trained_betas: Option<Vec<f64>>,
    /// What the network predicts.
    pub prediction_type: PredictionType,
    /// Timesteps visited; the default depends on the scheduler.
    pub timestep_spacing: Option<TimestepSpacing>,
    /// Added to the timesteps of leading spacing.
    pub steps_offset: i64,
    /// Whether βs are rescaled so that the last timestep is pure noise.
    pub rescale_betas_zero_snr: bool,
    /// Sigmas spaced after Karras et al. 2022.
    pub use_karras_sigmas: bool,
    /// Smallest Karras sigma, where it is not that of the schedule (Euler).
    pub sigma_min: Option<f64>,
    /// Largest Karras sigma, where it is not that of the schedule (Euler).
    pub sigma_max: Option<f64>,
    /// Last sigma.
    pub final_sigmas_type: FinalSigmas,
    /// Order of DPM-Solver++ (1 or 2) or UniPC (1 to 3).
    pub solver_order: usize,
    /// Form of DPM-Solver++ 2M or UniPC.
    pub solver_type: SolverType,
    /// DPM-Solver algorithm; `dpmsolver++` is supported.
    pub algorithm_type: String,
    /// Whether DPM-Solver++ takes a first-order last step below 15 steps, and UniPC lower orders at the end.
    pub lower_order_final: bool,
    /// Whether DPM-Solver++ always takes a first-order last step.
    pub euler_at_final: bool,
    /// DPM-Solver: timesteps whose λ lies below are left out.
    pub lambda_min_clipped: Option<f64>,
    /// PNDM: whether the Runge–Kutta start is left out; only `true` is supported.
    pub skip_prk_steps: bool,
    /// PNDM, DDIM: whether ᾱ before the first timestep is 1; the default depends on the scheduler.
    pub set_alpha_to_one: Option<bool>,
    /// UniPC: whether it predicts x0; only `true` is supported.
    pub predict_x0: bool,
    /// UniPC: steps after which the corrector is left out.
    pub disable_corrector: Vec<usize>,
    /// LCM: steps of the schedule that was distilled, of which the visited ones are a part.
    pub original_inference_steps: usize,
    /// LCM: factor of the timestep in the boundary condition.
    pub timestep_scaling: f64,
    /// Euler: `linear` is supported.
    pub interpolation_type: String,
    /// Euler: `discrete` is supported.
    pub timestep_type: String,
    /// Dynamic thresholding; not supported.
    pub thresholding: bool,
    /// Exponential sigmas; not supported.
    pub use_exponential_sigmas: bool,
    /// Beta-distributed sigmas; not supported.
    pub use_beta_sigmas: bool,
    /// Lu's λ spacing; not supported.
    pub use_lu_lambdas: bool,
    /// Flow-matching sigmas; not supported.
    pub use_flow_sigmas: bool,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self {
            class_name: None,
            num_train_timesteps: 1000,
            beta_start: 0.0001,
            beta_end: 0.02,
            beta_schedule: BetaSchedule::Linear,
            trained_betas: None,
            prediction_type: PredictionType::Epsilon,
            timestep_spacing: None,
            steps_offset: 0,
            rescale_betas_zero_snr: false,
            use_karras_sigmas: false,
            sigma_min: None,
            sigma_max: None,
            final_sigmas_type: FinalSigmas::Zero,
            solver_order: 2,
            solver_type: SolverType::Midpoint,
            algorithm_type: "dpmsolver++".into(),
            lower_order_final: true,
            euler_at_final: false,
            lambda_min_clipped: None,
            skip_prk_steps: false,
            set_alpha_to_one: None,
            predict_x0: true,
            disable_corrector: Vec::new(),
            original_inference_steps: 50,
            timestep_scaling: 10.0,
            interpolation_type: "linear".into(),
            timestep_type: "discrete".into(),
            thresholding: false,
            use_exponential_sigmas: false,
            use_beta_sigmas: false,
            use_lu_lambdas: false,
            use_flow_sigmas: false,
        }
    }
}

impl SchedulerConfig {
    /// The schedule of Stable Diffusion 1 and 2: scaled-linear β from 0.00085 to 0.012, leading timesteps, offset 1.
    pub fn stable_diffusion() -> Self {
        Self {
            beta_start: 0.00085,
            beta_end: 0.012,
            beta_schedule: BetaSchedule::ScaledLinear,
            timestep_spacing: Some(TimestepSpacing::Leading),
            steps_offset: 1,
            skip_prk_steps: true,
            set_alpha_to_one: Some(false),
            ..Self::default()
        }
    }

    /// Reads the text of a `scheduler_config.json`. `Infinity`, `-Infinity` and `NaN`, which Python writes there, are
    /// read as missing.
    ///
    /// Errors: `SchedulerConfig` for anything that is no such file.
    pub fn from_json(text: &str) -> Result<Self> {
        let text = without_python_numbers(text);
        serde_json::from_str::<serde_json::Map<_, _>>(&text)
            .and_then(|map| serde_json::from_value(map.into()))
            .map_err(|e| Error::SchedulerConfig {
                reason: e.to_string(),
            })
    }

    /// Refuses the options that no scheduler of this crate has.
    pub(super) fn refuse_unsupported(&self, scheduler: &'static str) -> Result<()> {
        let flags = [
            ("thresholding", self.thresholding),
            ("use_exponential_sigmas", self.use_exponential_sigmas),
            ("use_beta_sigmas", self.use_beta_sigmas),
            ("use_lu_lambdas", self.use_lu_lambdas),
            ("use_flow_sigmas", self.use_flow_sigmas),
        ];
        match flags.iter().find(|(_, set)| *set) {
            Some((option, _)) => Err(Error::SchedulerOption {
                scheduler,
                option,
                value: "true".into(),
            }),
            None => Ok(()),
        }
    }
}

/// Replaces bare `Infinity`, `-Infinity` and `NaN` outside of strings by `null`.
fn without_python_numbers(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut in_string, mut rest) = (false, text);
    while let Some(c) = rest.chars().next() {
        let word = ["-Infinity", "Infinity", "NaN"]
            .into_iter()
            .find(|w| !in_string && rest.starts_with(w));
        let taken = match word {
            Some(word) => {
                out.push_str("null");
                word.len()
            }
            None if c == '\\' => rest
                .char_indices()
                .nth(2)
                .map_or(rest.len(), |(end, _)| end),
            None => c.len_utf8(),
        };
        let (head, tail) = rest.split_at(taken);
        if word.is_none() {
            out.push_str(head);
            in_string ^= c == '"';
        }
        rest = tail;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_numbers_outside_strings_are_missing() {
        let text =
            r#"{"_class_name": "a \"NaN\" b", "lambda_min_clipped": -Infinity, "sigma_max": NaN}"#;
        let config = SchedulerConfig::from_json(text).unwrap();
        assert_eq!(config.class_name.as_deref(), Some("a \"NaN\" b"));
        assert_eq!(config.lambda_min_clipped, None);
        assert_eq!(config.sigma_max, None);
    }

    #[test]
    fn hostile_configs_are_errors() {
        for text in [
            "",
            "[]",
            "{\"beta_schedule\": \"steep\"}",
            "{\"beta_start\": \"x\"}",
            "{\"a\": \"\\",
        ] {
            assert!(
                matches!(
                    SchedulerConfig::from_json(text),
                    Err(Error::SchedulerConfig { .. })
                ),
                "{text}"
            );
        }
    }
}
