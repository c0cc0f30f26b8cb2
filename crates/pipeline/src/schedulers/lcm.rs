//! Latent consistency models.

use super::config::{PredictionType, SchedulerConfig};
use super::{Scheduler, StepInput, check_step, noise, pairwise, spacing};
use crate::{Error, Result};

pub(super) const CLASS: &str = "LCMScheduler";

/// `LCMScheduler` without clipping: with s = `timestep_scaling`·t, c_skip = ¼/(s²+¼) and c_out = s/√(s²+¼), the denoised
/// sample is c_out·x0 + c_skip·x, and all steps but the last add noise to it for the next timestep.
///
/// Source: arXiv 2310.04378; diffusers 0.35.2 `scheduling_lcm.py`.
#[derive(Clone, Debug)]
pub struct Lcm {
    timesteps: Vec<f64>,
    /// ᾱ at each step's timestep.
    alphas: Vec<f64>,
    scaling: f64,
    prediction: PredictionType,
    done: usize,
}

impl Lcm {
    /// A run of `steps` steps out of the `original_inference_steps` of the distillation, spaced evenly from the last.
    ///
    /// Errors: `Steps`; `SchedulerOption` when there are more original steps than training timesteps.
    pub fn new(config: &SchedulerConfig, steps: usize) -> Result<Self> {
        config.refuse_unsupported(CLASS)?;
        let alphas_cumprod = noise::alphas_cumprod(config, CLASS)?;
        let (trained, original) = (alphas_cumprod.len(), config.original_inference_steps);
        if !(1..=trained).contains(&original) {
            return Err(Error::SchedulerOption {
                scheduler: CLASS,
                option: "original_inference_steps",
                value: original.to_string(),
            });
        }
        spacing::check_steps(steps, original)?;
        let ratio = trained / original;
        let stride = original as f64 / steps as f64;
        let chosen = (0..steps).map(|i| (original - (i as f64 * stride) as usize) * ratio - 1);
        let (timesteps, alphas) = chosen
            .filter_map(|t| Some((t as f64, f64::from(*alphas_cumprod.get(t)?))))
            .unzip();
        Ok(Self {
            timesteps,
            alphas,
            scaling: config.timestep_scaling,
            prediction: config.prediction_type,
            done: 0,
        })
    }
}

impl Scheduler for Lcm {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn sigmas(&self) -> &[f32] {
        &[]
    }

    fn wants_noise(&self, index: usize) -> bool {
        index + 1 < self.timesteps.len()
    }

    fn step(&mut self, input: StepInput<'_>) -> Result<Vec<f32>> {
        check_step(&input, self.done, self.timesteps.len())?;
        let i = input.index;
        let alpha = self.alphas.get(i).copied().unwrap_or(1.0);
        let scaled = self.timesteps.get(i).copied().unwrap_or(0.0) * self.scaling;
        let total = scaled * scaled + 0.25;
        let (skip, out) = (0.25 / total, scaled / libm::sqrt(total));
        let (signal, noise) = (libm::sqrt(alpha), libm::sqrt(1.0 - alpha));
        let denoised = pairwise(&input, |m, x| {
            let x0 = match self.prediction {
                PredictionType::Epsilon => (x - noise * m) / signal,
                PredictionType::VPrediction => signal * x - noise * m,
                PredictionType::Sample => m,
            };
            out * x0 + skip * x
        });
        let next = match (self.alphas.get(i + 1), input.noise) {
            (None, _) => denoised,
            (Some(_), None) => {
                return Err(Error::NoNoise {
                    scheduler: CLASS,
                    step: i,
                });
            }
            (Some(next), Some(fresh)) => {
                let (signal, noise) = (libm::sqrt(*next), libm::sqrt(1.0 - next));
                denoised
                    .iter()
                    .zip(fresh)
                    .map(|(d, &n)| signal * d + noise * f64::from(n))
                    .collect()
            }
        };
        self.done += 1;
        Ok(next.into_iter().map(|x| x as f32).collect())
    }
}
