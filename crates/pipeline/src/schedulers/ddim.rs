//! DDIM without noise.

use super::config::{PredictionType, SchedulerConfig, TimestepSpacing};
use super::{Scheduler, StepInput, check_step, noise, pairwise, spacing};
use crate::{Error, Result};

pub(super) const CLASS: &str = "DDIMScheduler";

/// `DDIMScheduler` with η = 0 and without clipping: x_before = √ᾱ_before·x0 + √(1−ᾱ_before)·ε.
///
/// Source: arXiv 2010.02502 formula 12; diffusers 0.35.2 `scheduling_ddim.py`.
#[derive(Clone, Debug)]
pub struct Ddim {
    timesteps: Vec<f64>,
    /// ᾱ at each step's timestep and at the one before it.
    alphas: Vec<(f64, f64)>,
    prediction: PredictionType,
    done: usize,
}

impl Ddim {
    /// A run of `steps` steps. Default spacing: leading; ᾱ before the first timestep is 1 by default.
    ///
    /// Errors: `Steps`; `SchedulerOption` for Karras sigmas and for timesteps outside of the schedule.
    pub fn new(config: &SchedulerConfig, steps: usize) -> Result<Self> {
        config.refuse_unsupported(CLASS)?;
        let refuse = |option, value: String| Error::SchedulerOption {
            scheduler: CLASS,
            option,
            value,
        };
        if config.use_karras_sigmas {
            return Err(refuse("use_karras_sigmas", "true".into()));
        }
        let alphas_cumprod = noise::alphas_cumprod(config, CLASS)?;
        let trained = alphas_cumprod.len();
        spacing::check_steps(steps, trained)?;
        let spaced = config.timestep_spacing.unwrap_or(TimestepSpacing::Leading);
        let mut timesteps = spacing::rising(spaced, trained, steps, config.steps_offset, true);
        timesteps.reverse();
        let last = match config.set_alpha_to_one {
            Some(false) => alphas_cumprod.first().map_or(1.0, |&a| a.into()),
            _ => 1.0,
        };
        let ratio = (trained / steps) as f64;
        let at = |t: f64| alphas_cumprod.get(t as usize).map(|&a| f64::from(a));
        let alphas: Option<Vec<_>> = timesteps
            .iter()
            .map(|&t| {
                let before = t - ratio;
                let here = if t < 0.0 { None } else { at(t) };
                let before = if before < 0.0 { Some(last) } else { at(before) };
                Some((here?, before?))
            })
            .collect();
        Ok(Self {
            alphas: alphas
                .ok_or_else(|| refuse("steps_offset", config.steps_offset.to_string()))?,
            timesteps,
            prediction: config.prediction_type,
            done: 0,
        })
    }
}

impl Scheduler for Ddim {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn sigmas(&self) -> &[f32] {
        &[]
    }

    fn step(&mut self, input: StepInput<'_>) -> Result<Vec<f32>> {
        check_step(&input, self.done, self.timesteps.len())?;
        let (alpha, before) = self.alphas.get(input.index).copied().unwrap_or((1.0, 1.0));
        let (signal, noise) = (libm::sqrt(alpha), libm::sqrt(1.0 - alpha));
        let (signal_before, noise_before) = (libm::sqrt(before), libm::sqrt(1.0 - before));
        let mixed = |x0: f64, epsilon: f64| signal_before * x0 + noise_before * epsilon;
        let next = match self.prediction {
            PredictionType::Epsilon => pairwise(&input, |m, x| mixed((x - noise * m) / signal, m)),
            PredictionType::VPrediction => pairwise(&input, |m, x| {
                mixed(signal * x - noise * m, signal * m + noise * x)
            }),
            PredictionType::Sample => pairwise(&input, |m, x| mixed(m, (x - signal * m) / noise)),
        };
        self.done += 1;
        Ok(next.into_iter().map(|x| x as f32).collect())
    }
}
