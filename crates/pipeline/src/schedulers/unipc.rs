//! UniPC: a multistep predictor with a corrector of the step before.

use super::config::{FinalSigmas, PredictionType, SchedulerConfig, SolverType, TimestepSpacing};
use super::{Scheduler, StepInput, check_step, noise, predicted_x0, signal_and_noise, spacing};
use crate::{Error, Result};

pub(super) const CLASS: &str = "UniPCMultistepScheduler";

/// `UniPCMultistepScheduler` with `predict_x0`, orders 1 to 3, B(h) of form bh1 or bh2.
///
/// Each step first corrects its sample with the network's new output, then predicts the next one. With bh1 and a final
/// sigma of 0 the last step is not finite, as in diffusers, and is refused when it is built.
/// Source: arXiv 2302.04867; diffusers 0.35.2 `scheduling_unipc_multistep.py`.
#[derive(Clone, Debug)]
pub struct UniPc {
    timesteps: Vec<f64>,
    sigmas: Vec<f32>,
    prediction: PredictionType,
    solver: SolverType,
    order: usize,
    lower_order_final: bool,
    uncorrected: Vec<usize>,
    done: usize,
    /// Predictions of x0, newest last.
    history: Vec<Vec<f64>>,
    /// The sample that the last prediction started from, and its order.
    last: Option<(Vec<f64>, usize)>,
}

impl UniPc {
    /// A run of `steps` steps. Default spacing: linspace.
    ///
    /// Errors: `Steps`; `SchedulerOption` for other orders, without `predict_x0`, and for bh1 ending at sigma 0.
    pub fn new(config: &SchedulerConfig, steps: usize) -> Result<Self> {
        config.refuse_unsupported(CLASS)?;
        let refuse = |option, value: String| {
            Err(Error::SchedulerOption {
                scheduler: CLASS,
                option,
                value,
            })
        };
        if !(1..=3).contains(&config.solver_order) {
            return refuse("solver_order", config.solver_order.to_string());
        }
        if !config.predict_x0 {
            return refuse("predict_x0", "false".into());
        }
        let solver = match config.solver_type {
            SolverType::Bh1 => SolverType::Bh1,
            _ => SolverType::Bh2,
        };
        if solver == SolverType::Bh1 && config.final_sigmas_type == FinalSigmas::Zero {
            return refuse("solver_type", "bh1 with final sigma 0".into());
        }
        let trained = noise::sigmas(&noise::positive_alphas_cumprod(config, CLASS)?);
        spacing::check_steps(steps, trained.len())?;
        let (timesteps, exact) = schedule(config, &trained, steps);
        let mut sigmas: Vec<f32> = exact.into_iter().map(|s| s as f32).collect();
        let least = trained.first().copied().unwrap_or(0.0);
        sigmas.push(match config.final_sigmas_type {
            FinalSigmas::Zero => 0.0,
            FinalSigmas::SigmaMin if config.use_karras_sigmas => {
                sigmas.last().copied().unwrap_or(least)
            }
            FinalSigmas::SigmaMin => least,
        });
        Ok(Self {
            timesteps,
            sigmas,
            prediction: config.prediction_type,
            solver,
            order: config.solver_order,
            lower_order_final: config.lower_order_final,
            uncorrected: config.disable_corrector.clone(),
            done: 0,
            history: Vec::new(),
            last: None,
        })
    }

    fn sigma(&self, index: usize) -> f64 {
        self.sigmas.get(index).copied().unwrap_or(0.0).into()
    }

    /// The multistep update of a sample from step `from` to the next, of some order. With `newest`, the prediction of
    /// x0 at its end, it is the corrector, else the predictor.
    fn update(
        &self,
        sample: &[f64],
        from: usize,
        order: usize,
        newest: Option<&[f64]>,
    ) -> Vec<f64> {
        let (ratio, ratio_next) = (self.sigma(from), self.sigma(from + 1));
        let ((_, sigma), (alpha_next, sigma_next)) =
            (signal_and_noise(ratio), signal_and_noise(ratio_next));
        let h = libm::log(ratio / ratio_next);
        let phi_1 = ratio_next / ratio - 1.0;
        let scale = match self.solver {
            SolverType::Bh1 => -h,
            _ => phi_1,
        };
        let mut newest_first = self.history.iter().rev().map(Vec::as_slice);
        let m0 = newest_first.next().unwrap_or(&[]);
        let mut differences: Vec<(f64, &[f64])> = newest_first
            .take(order - 1)
            .zip(1..)
            .map(|(m, back)| {
                let before = from.saturating_sub(back);
                (libm::log(ratio / self.sigma(before)) / h, m)
            })
            .collect();
        if let Some(newest) = newest {
            differences.push((1.0, newest));
        }
        let points: Vec<f64> = differences.iter().map(|(r, _)| *r).collect();
        let weights = match (points.len(), newest) {
            // diffusers takes one half for a single difference of the lowest orders, instead of solving.
            (1, _) => vec![0.5],
            _ => solved(&points, &moments(h, scale, points.len())),
        };
        (0..sample.len())
            .map(|i| {
                let at = |m: &[f64]| m.get(i).copied().unwrap_or(0.0);
                let (x, d) = (at(sample), at(m0));
                let correction: f64 = weights
                    .iter()
                    .zip(&differences)
                    .map(|(w, (r, m))| w * (at(m) - d) / r)
                    .sum();
                sigma_next / sigma * x - alpha_next * (phi_1 * d + scale * correction)
            })
            .collect()
    }
}

/// Timesteps and sigmas without the final one.
fn schedule(config: &SchedulerConfig, trained: &[f32], steps: usize) -> (Vec<f64>, Vec<f64>) {
    if config.use_karras_sigmas {
        let end = |s: Option<&f32>| s.map_or(0.0, |&s| f64::from(s));
        let sigmas = spacing::karras(end(trained.first()), end(trained.last()), steps);
        let logs = spacing::logs(trained);
        let timestep = |&s: &f64| spacing::timestep_of_sigma(s, &logs).round_ties_even();
        return (sigmas.iter().map(timestep).collect(), sigmas);
    }
    let spaced = config.timestep_spacing.unwrap_or(TimestepSpacing::Linspace);
    let all = trained.len();
    let timesteps = spacing::multistep(spaced, all, all, steps, config.steps_offset);
    let sigma = |&t: &f64| spacing::interpolated(trained, t);
    let sigmas = timesteps.iter().map(sigma).collect();
    (timesteps, sigmas)
}

/// k!·φ_k+1(−h)/B for k from 1: the right sides of the order conditions.
fn moments(h: f64, scale: f64, count: usize) -> Vec<f64> {
    let mut phi = libm::expm1(-h) / -h - 1.0;
    let mut factorial = 1.0;
    (1..=count)
        .map(|k| {
            let moment = phi * factorial / scale;
            factorial *= (k + 1) as f64;
            phi = phi / -h - 1.0 / factorial;
            moment
        })
        .collect()
}

/// Solves Σ_j points_j^i · w_j = moments_i for i from 0, by Gauss's elimination with pivots.
fn solved(points: &[f64], moments: &[f64]) -> Vec<f64> {
    let mut rows: Vec<Vec<f64>> = (0i32..)
        .zip(moments)
        .map(|(i, moment)| {
            let powers = points.iter().map(|p| p.powi(i));
            powers.chain([*moment]).collect()
        })
        .collect();
    let n = rows.len();
    for column in 0..n {
        let pivot = (column..n)
            .max_by(|&a, &b| rows[a][column].abs().total_cmp(&rows[b][column].abs()))
            .unwrap_or(column);
        rows.swap(column, pivot);
        let pivot_row = rows[column].clone();
        for (i, row) in rows.iter_mut().enumerate() {
            if i != column {
                let factor = row[column] / pivot_row[column];
                for (x, p) in row.iter_mut().zip(&pivot_row) {
                    *x -= factor * p;
                }
            }
        }
    }
    (0..n).map(|i| rows[i][n] / rows[i][i]).collect()
}

impl Scheduler for UniPc {
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
        let given = || input.sample.iter().map(|&x| x.into()).collect();
        let sample: Vec<f64> = match (self.last.take(), i.checked_sub(1)) {
            (Some((last, order)), Some(before)) if !self.uncorrected.contains(&before) => {
                self.update(&last, before, order, Some(&x0))
            }
            _ => given(),
        };
        self.history.push(x0);
        if self.history.len() > self.order {
            self.history.remove(0);
        }
        let wanted = if self.lower_order_final {
            self.order.min(total - i)
        } else {
            self.order
        };
        let order = wanted.min(i + 1);
        let next = self.update(&sample, i, order, None);
        self.last = Some((sample, order));
        self.done += 1;
        Ok(next.into_iter().map(|x| x as f32).collect())
    }
}
