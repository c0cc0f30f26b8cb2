//! DPM-Solver++ of first and second order, multistep.

use super::config::{FinalSigmas, PredictionType, SchedulerConfig, SolverType, TimestepSpacing};
use super::{Scheduler, StepInput, check_step, noise, predicted_x0, signal_and_noise, spacing};
use crate::{Error, Result};

pub(super) const CLASS: &str = "DPMSolverMultistepScheduler";

/// `DPMSolverMultistepScheduler` with `algorithm_type` `dpmsolver++` and order 1 or 2.
///
/// With σ the noise-to-signal ratio, α = 1/√(σ²+1), λ = −ln σ, h = λ_next − λ:
/// x_next = (α_next σ_next)/(α σ)·x − α_next (e^−h − 1)·(D0 + D1/2), D0 the newest x0, D1 = (h/h_before)(x0 − x0_before).
/// The first step is of order 1, and so is the last one when it ends at σ = 0, or when `lower_order_final` and fewer
/// than 15 steps. Differs from diffusers where its search for the first timestep finds a duplicate: here the first
/// step is always step 0. Source: arXiv 2211.01095; diffusers 0.35.2 `scheduling_dpmsolver_multistep.py`.
#[derive(Clone, Debug)]
pub struct DpmPp2M {
    timesteps: Vec<f64>,
    sigmas: Vec<f32>,
    prediction: PredictionType,
    solver: SolverType,
    order: usize,
    first_order_last: bool,
    done: usize,
    before: Vec<f64>,
}

impl DpmPp2M {
    /// A run of `steps` steps. Default spacing: linspace.
    ///
    /// Errors: `Steps`; `SchedulerOption` for other algorithms and orders.
    pub fn new(config: &SchedulerConfig, steps: usize) -> Result<Self> {
        config.refuse_unsupported(CLASS)?;
        let refuse = |option, value| {
            Err(Error::SchedulerOption {
                scheduler: CLASS,
                option,
                value,
            })
        };
        if config.algorithm_type != "dpmsolver++" {
            return refuse("algorithm_type", config.algorithm_type.clone());
        }
        if !(1..=2).contains(&config.solver_order) {
            return refuse("solver_order", config.solver_order.to_string());
        }
        let alphas = noise::positive_alphas_cumprod(config, CLASS)?;
        let trained = noise::sigmas(&alphas);
        spacing::check_steps(steps, trained.len())?;
        let (timesteps, mut sigmas) = schedule(config, &alphas, &trained, steps)?;
        sigmas.push(match config.final_sigmas_type {
            FinalSigmas::Zero => 0.0,
            FinalSigmas::SigmaMin => trained.first().copied().unwrap_or(0.0),
        });
        let few = timesteps.len() < 15;
        Ok(Self {
            timesteps,
            sigmas,
            prediction: config.prediction_type,
            solver: config.solver_type,
            order: config.solver_order,
            first_order_last: config.euler_at_final
                || (config.lower_order_final && few)
                || config.final_sigmas_type == FinalSigmas::Zero,
            done: 0,
            before: Vec::new(),
        })
    }

    fn sigma(&self, index: usize) -> f64 {
        self.sigmas.get(index).copied().unwrap_or(0.0).into()
    }
}

/// Timesteps and their sigmas, without the final one.
fn schedule(
    config: &SchedulerConfig,
    alphas: &[f32],
    trained: &[f32],
    steps: usize,
) -> Result<(Vec<f64>, Vec<f32>)> {
    let last = trained.len() - clipped(config, alphas);
    spacing::check_steps(steps, last)?;
    if config.use_karras_sigmas {
        let (min, max) = (trained.first(), trained.last());
        let (min, max) = (min.copied().unwrap_or(0.0), max.copied().unwrap_or(0.0));
        let logs = spacing::logs(trained);
        let sigmas = spacing::karras(min.into(), max.into(), steps);
        let timesteps = sigmas
            .iter()
            .map(|&s| {
                let t = spacing::timestep_of_sigma(s, &logs);
                match config.beta_schedule {
                    super::BetaSchedule::SquaredcosCapV2 => t.trunc(),
                    _ => t.round_ties_even(),
                }
            })
            .collect();
        return Ok((timesteps, sigmas.into_iter().map(|s| s as f32).collect()));
    }
    let spacing = config.timestep_spacing.unwrap_or(TimestepSpacing::Linspace);
    let offset = config.steps_offset;
    let timesteps = spacing::multistep(spacing, trained.len(), last, steps, offset);
    let sigmas = timesteps
        .iter()
        .map(|&t| spacing::interpolated(trained, t) as f32)
        .collect();
    Ok((timesteps, sigmas))
}

/// How many of the noisiest timesteps lie below `lambda_min_clipped`.
fn clipped(config: &SchedulerConfig, alphas: &[f32]) -> usize {
    let Some(least) = config.lambda_min_clipped else {
        return 0;
    };
    let below = |a: &&f32| {
        let a = f64::from(**a);
        0.5 * (libm::log(a) - libm::log(1.0 - a)) < least
    };
    alphas
        .iter()
        .rev()
        .take_while(below)
        .count()
        .min(alphas.len() - 1)
}

impl Scheduler for DpmPp2M {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn sigmas(&self) -> &[f32] {
        &self.sigmas
    }

    fn step(&mut self, input: StepInput<'_>) -> Result<Vec<f32>> {
        let total = self.timesteps.len();
        check_step(&input, self.done, total)?;
        let i = input.index;
        let x0 = predicted_x0(&input, self.prediction, self.sigma(i));
        let (ratio, ratio_next) = (self.sigma(i), self.sigma(i + 1));
        let ((_, sigma), (alpha_next, sigma_next)) =
            (signal_and_noise(ratio), signal_and_noise(ratio_next));
        // e^-h; zero when the step ends at sigma 0.
        let shrink = ratio_next / ratio;
        let on_x0 = alpha_next * (1.0 - shrink);
        let first_order = self.order == 1 || i == 0 || (i + 1 == total && self.first_order_last);
        let on_difference = if first_order {
            0.0
        } else {
            let h = -libm::log(shrink);
            let h_before = libm::log(self.sigma(i - 1) / ratio);
            let weight = match self.solver {
                SolverType::Heun => alpha_next * ((shrink - 1.0) / h + 1.0),
                _ => 0.5 * on_x0,
            };
            weight * h / h_before
        };
        if self.before.len() != x0.len() {
            self.before.clone_from(&x0);
        }
        let next = input
            .sample
            .iter()
            .zip(x0.iter().zip(&self.before))
            .map(|(&x, (&d, &before))| {
                let next = sigma_next / sigma * f64::from(x) + on_x0 * d;
                (next + on_difference * (d - before)) as f32
            })
            .collect();
        self.before = x0;
        self.done += 1;
        Ok(next)
    }
}
