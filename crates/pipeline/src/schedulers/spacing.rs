//! Which timesteps are visited, as NumPy computes them.

use super::config::TimestepSpacing;
use crate::{Error, Result};

/// `numpy.arange(stop, 0, -step)`: `stop`, `stop − step`, … as long as they are positive.
pub(super) fn descending(stop: f64, step: f64) -> Vec<f64> {
    let count = (stop / step).ceil() as usize;
    let delta = (stop - step) - stop;
    (0..count).map(|i| stop + i as f64 * delta).collect()
}

/// `numpy.linspace(0, stop, n)`.
pub(super) fn linspace(stop: f64, n: usize) -> Vec<f64> {
    let step = stop / (n.max(2) - 1) as f64;
    let mut values: Vec<f64> = (0..n).map(|i| i as f64 * step).collect();
    if n > 1
        && let Some(last) = values.last_mut()
    {
        *last = stop;
    }
    values
}

/// Timesteps rising, of the schedulers that visit one per step (PNDM, DDIM, Euler; DPM-Solver++ spaces differently).
///
/// Linspace timesteps are whole numbers if `whole`, else fractions rounded to float32.
pub(super) fn rising(
    spacing: TimestepSpacing,
    trained: usize,
    steps: usize,
    offset: i64,
    whole: bool,
) -> Vec<f64> {
    match spacing {
        TimestepSpacing::Linspace => linspace((trained - 1) as f64, steps)
            .into_iter()
            .map(|t| {
                if whole {
                    t.round_ties_even()
                } else {
                    f64::from(t as f32)
                }
            })
            .collect(),
        TimestepSpacing::Leading => {
            let ratio = trained / steps;
            (0..steps)
                .map(|i| (i * ratio) as f64 + offset as f64)
                .collect()
        }
        TimestepSpacing::Trailing => {
            let mut values: Vec<f64> = descending(trained as f64, trained as f64 / steps as f64)
                .into_iter()
                .map(|t| t.round_ties_even() - 1.0)
                .collect();
            values.reverse();
            values
        }
    }
}

/// Timesteps falling, of the multistep solvers: linspace and leading have one more interval than steps, so that the last
/// step ends below the last timestep. `last` of the `trained` timesteps are used.
pub(super) fn multistep(
    spacing: TimestepSpacing,
    trained: usize,
    last: usize,
    steps: usize,
    offset: i64,
) -> Vec<f64> {
    match spacing {
        TimestepSpacing::Linspace => linspace((last - 1) as f64, steps + 1)
            .into_iter()
            .skip(1)
            .map(f64::round_ties_even)
            .rev()
            .collect(),
        TimestepSpacing::Leading => {
            let ratio = last / (steps + 1);
            (1..=steps)
                .rev()
                .map(|i| (i * ratio) as f64 + offset as f64)
                .collect()
        }
        TimestepSpacing::Trailing => descending(last as f64, trained as f64 / steps as f64)
            .into_iter()
            .map(|t| t.round_ties_even() - 1.0)
            .collect(),
    }
}

/// Refuses step counts that a schedule of `trained` timesteps cannot have.
pub(super) fn check_steps(steps: usize, trained: usize) -> Result<()> {
    if (1..=trained).contains(&steps) {
        Ok(())
    } else {
        Err(Error::Steps {
            steps,
            most: trained,
        })
    }
}

/// Linear interpolation in a table at a fractional index, held at both ends (`numpy.interp`).
pub(super) fn interpolated(table: &[f32], at: f64) -> f64 {
    let value = |i: usize| table.get(i).or(table.last()).map_or(0.0, |&v| f64::from(v));
    let low = at
        .max(0.0)
        .floor()
        .min(table.len().saturating_sub(1) as f64);
    let i = low as usize;
    if i + 1 >= table.len() {
        return value(i);
    }
    (value(i + 1) - value(i)) * (at.max(0.0) - low) + value(i)
}

/// Sigmas from `max` down to `min`, evenly spaced in σ^(1/7) (Karras et al. 2022, ρ = 7).
pub(super) fn karras(min: f64, max: f64, steps: usize) -> Vec<f64> {
    const RHO: f64 = 7.0;
    let (low, high) = (libm::pow(min, 1.0 / RHO), libm::pow(max, 1.0 / RHO));
    linspace(1.0, steps)
        .into_iter()
        .map(|ramp| libm::pow(high + ramp * (low - high), RHO))
        .collect()
}

/// The fractional timestep whose training sigma, interpolated in log σ, is `sigma`.
pub(super) fn timestep_of_sigma(sigma: f64, log_sigmas: &[f32]) -> f64 {
    let log_sigma = libm::log(sigma.max(1e-10));
    let above = log_sigmas.partition_point(|&l| l <= log_sigma as f32);
    let low = above
        .saturating_sub(1)
        .min(log_sigmas.len().saturating_sub(2));
    let (Some(&a), Some(&b)) = (log_sigmas.get(low), log_sigmas.get(low + 1)) else {
        return 0.0;
    };
    let w = ((f64::from(a) - log_sigma) / f64::from(a - b)).clamp(0.0, 1.0);
    (1.0 - w) * low as f64 + w * (low + 1) as f64
}

/// Natural logarithms in float32.
pub(super) fn logs(sigmas: &[f32]) -> Vec<f32> {
    sigmas
        .iter()
        .map(|&s| libm::log(f64::from(s)) as f32)
        .collect()
}
