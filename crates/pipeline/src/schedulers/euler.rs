//! Euler steps on the probability-flow ODE.

use super::config::{FinalSigmas, PredictionType, SchedulerConfig, TimestepSpacing};
use super::{Scheduler, StepInput, check_step, noise, spacing};
use crate::{Error, Result};

pub(super) const CLASS: &str = "EulerDiscreteScheduler";

/// `EulerDiscreteScheduler` without churn: x_next = x + (x − x0)/σ · (σ_next − σ), input x/√(σ²+1).
///
/// Computed in float32 in diffusers' order of operations: near σ = 4096 (zero terminal SNR) most digits of the sample
/// are rounded away there, and that rounding is part of the result.
/// Source: Karras et al. 2022, algorithm 1; diffusers 0.35.2 `scheduling_euler_discrete.py`.
#[derive(Clone, Debug)]
pub struct Euler {
    run: SigmaRun,
    prediction: PredictionType,
    done: usize,
}

impl Euler {
    /// A run of `steps` steps. Default spacing: linspace.
    ///
    /// Errors: `Steps`; `SchedulerOption` for other interpolation and timestep types.
    pub fn new(config: &SchedulerConfig, steps: usize) -> Result<Self> {
        config.refuse_unsupported(CLASS)?;
        let refuse = |option, value: &String| {
            Err(Error::SchedulerOption {
                scheduler: CLASS,
                option,
                value: value.clone(),
            })
        };
        if config.interpolation_type != "linear" {
            return refuse("interpolation_type", &config.interpolation_type);
        }
        if config.timestep_type != "discrete" {
            return refuse("timestep_type", &config.timestep_type);
        }
        Ok(Self {
            run: SigmaRun::new(config, steps, CLASS)?,
            prediction: config.prediction_type,
            done: 0,
        })
    }
}

/// Timesteps and sigmas of one run, one timestep per step.
#[derive(Clone, Debug)]
pub(super) struct SigmaRun {
    pub(super) timesteps: Vec<f64>,
    /// One more than there are steps.
    pub(super) sigmas: Vec<f32>,
    pub(super) init_noise_sigma: f32,
}

impl SigmaRun {
    /// The schedule of `config`; Karras sigmas run between those of the first and last timestep. Default spacing:
    /// linspace.
    pub(super) fn new(
        config: &SchedulerConfig,
        steps: usize,
        scheduler: &'static str,
    ) -> Result<Self> {
        let trained = noise::sigmas(&noise::positive_alphas_cumprod(config, scheduler)?);
        spacing::check_steps(steps, trained.len())?;
        let spaced = config.timestep_spacing.unwrap_or(TimestepSpacing::Linspace);
        let mut timesteps =
            spacing::rising(spaced, trained.len(), steps, config.steps_offset, false);
        timesteps.reverse();
        let mut exact: Vec<f64> = timesteps
            .iter()
            .map(|&t| spacing::interpolated(&trained, t))
            .collect();
        if config.use_karras_sigmas {
            let ends = (exact.last().copied(), exact.first().copied());
            let min = config.sigma_min.or(ends.0).unwrap_or(0.0);
            let max = config.sigma_max.or(ends.1).unwrap_or(0.0);
            exact = spacing::karras(min, max, steps);
            let logs = spacing::logs(&trained);
            timesteps = exact
                .iter()
                .map(|&s| f64::from(spacing::timestep_of_sigma(s, &logs) as f32))
                .collect();
        }
        let mut sigmas: Vec<f32> = exact.into_iter().map(|s| s as f32).collect();
        sigmas.push(match config.final_sigmas_type {
            FinalSigmas::Zero => 0.0,
            FinalSigmas::SigmaMin => trained.first().copied().unwrap_or(0.0),
        });
        let most = sigmas.iter().copied().fold(0.0, f32::max);
        Ok(Self {
            timesteps,
            sigmas,
            init_noise_sigma: match spaced {
                TimestepSpacing::Leading => (most * most + 1.0).sqrt(),
                _ => most,
            },
        })
    }

    /// Sigma before step `index`.
    pub(super) fn sigma(&self, index: usize) -> f32 {
        self.sigmas.get(index).copied().unwrap_or(0.0)
    }

    /// x/√(σ²+1).
    pub(super) fn scaled(&self, index: usize, sample: &[f32]) -> Vec<f32> {
        let sigma = self.sigma(index);
        let scale = (sigma * sigma + 1.0).sqrt();
        sample.iter().map(|&x| x / scale).collect()
    }

    /// One Euler step from `sigma` to `next`.
    pub(super) fn moved(
        &self,
        input: &StepInput<'_>,
        prediction: PredictionType,
        next: f32,
    ) -> Vec<f32> {
        let sigma = self.sigma(input.index);
        let total = sigma * sigma + 1.0;
        let on_output = -sigma / total.sqrt();
        let pairs = input.model_output.iter().zip(input.sample);
        pairs
            .map(|(&m, &x)| {
                let x0 = match prediction {
                    PredictionType::Epsilon => x - sigma * m,
                    PredictionType::VPrediction => m * on_output + x / total,
                    PredictionType::Sample => m,
                };
                x + (x - x0) / sigma * (next - sigma)
            })
            .collect()
    }
}

impl Scheduler for Euler {
    fn timesteps(&self) -> &[f64] {
        &self.run.timesteps
    }

    fn sigmas(&self) -> &[f32] {
        &self.run.sigmas
    }

    fn init_noise_sigma(&self) -> f32 {
        self.run.init_noise_sigma
    }

    fn scale_model_input(&self, index: usize, sample: &[f32]) -> Vec<f32> {
        self.run.scaled(index, sample)
    }

    fn step(&mut self, input: StepInput<'_>) -> Result<Vec<f32>> {
        check_step(&input, self.done, self.run.timesteps.len())?;
        let next = self.run.sigma(input.index + 1);
        let moved = self.run.moved(&input, self.prediction, next);
        self.done += 1;
        Ok(moved)
    }
}
