//! PNDM in its PLMS form.

use super::config::{PredictionType, SchedulerConfig, TimestepSpacing};
use super::{Scheduler, StepInput, check_step, noise, pairwise, spacing};
use crate::{Error, Result};

pub(super) const CLASS: &str = "PNDMScheduler";

/// `PNDMScheduler` with `skip_prk_steps`: linear multistep of up to four outputs; n steps are n + 1 evaluations,
/// since the second repeats the first interval with the mean of two outputs (n = 1 has one evaluation).
///
/// Source: arXiv 2202.09778 formula 9; diffusers 0.35.2 `scheduling_pndm.py`.
#[derive(Clone, Debug)]
pub struct Pndm {
    timesteps: Vec<f64>,
    alphas_cumprod: Vec<f32>,
    final_alpha: f64,
    ratio: i64,
    prediction: PredictionType,
    done: usize,
    /// Newest output last.
    outputs: Vec<Vec<f64>>,
    first_sample: Vec<f32>,
}

impl Pndm {
    /// A run of `steps` steps. Default spacing: leading.
    ///
    /// Errors: `Steps`; `SchedulerOption` without `skip_prk_steps`, for `sample` prediction, zero-SNR rescaling,
    /// Karras sigmas, and timesteps outside of the schedule.
    pub fn new(config: &SchedulerConfig, steps: usize) -> Result<Self> {
        config.refuse_unsupported(CLASS)?;
        let refuse = |option, value: String| {
            Err(Error::SchedulerOption {
                scheduler: CLASS,
                option,
                value,
            })
        };
        if !config.skip_prk_steps {
            return refuse("skip_prk_steps", "false".into());
        }
        if config.prediction_type == PredictionType::Sample {
            return refuse("prediction_type", "sample".into());
        }
        if config.rescale_betas_zero_snr {
            return refuse("rescale_betas_zero_snr", "true".into());
        }
        if config.use_karras_sigmas {
            return refuse("use_karras_sigmas", "true".into());
        }
        let alphas_cumprod = noise::alphas_cumprod(config, CLASS)?;
        let trained = alphas_cumprod.len();
        spacing::check_steps(steps, trained)?;
        let spaced = config.timestep_spacing.unwrap_or(TimestepSpacing::Leading);
        let rising = spacing::rising(spaced, trained, steps, config.steps_offset, true);
        let mut timesteps: Vec<f64> = rising.iter().rev().copied().collect();
        if let Some(&second) = timesteps.get(1) {
            timesteps.insert(1, second);
        }
        let inside = |t: &f64| (0.0..trained as f64).contains(t);
        if !timesteps.iter().all(inside) {
            return refuse("steps_offset", config.steps_offset.to_string());
        }
        let first = alphas_cumprod.first().copied().unwrap_or(1.0);
        Ok(Self {
            timesteps,
            final_alpha: match config.set_alpha_to_one {
                Some(true) => 1.0,
                _ => first.into(),
            },
            alphas_cumprod,
            ratio: (trained / steps) as i64,
            prediction: config.prediction_type,
            done: 0,
            outputs: Vec::new(),
            first_sample: Vec::new(),
        })
    }

    /// ᾱ at a timestep, held at the noisy end; the final ᾱ before the first timestep.
    fn alpha(&self, timestep: i64) -> f64 {
        match usize::try_from(timestep) {
            Ok(t) => self
                .alphas_cumprod
                .get(t)
                .or(self.alphas_cumprod.last())
                .map_or(self.final_alpha, |&a| a.into()),
            Err(_) => self.final_alpha,
        }
    }

    /// The outputs so far, combined (Adams–Bashforth weights).
    fn combined(&self, newest: &[f64]) -> Vec<f64> {
        const WEIGHTS: [&[f64]; 4] = [
            &[1.0],
            &[3.0 / 2.0, -1.0 / 2.0],
            &[23.0 / 12.0, -16.0 / 12.0, 5.0 / 12.0],
            &[55.0 / 24.0, -59.0 / 24.0, 37.0 / 24.0, -9.0 / 24.0],
        ];
        const MEAN: &[f64] = &[0.5, 0.5];
        let history = self.outputs.iter().rev().map(Vec::as_slice);
        let (weights, outputs): (_, Vec<&[f64]>) = if self.done == 1 {
            (MEAN, std::iter::once(newest).chain(history).collect())
        } else {
            let outputs: Vec<_> = history.collect();
            let weights = WEIGHTS.get(outputs.len().saturating_sub(1)).copied();
            (weights.unwrap_or(MEAN), outputs)
        };
        let mut sum = vec![0.0; newest.len()];
        for (weight, output) in weights.iter().zip(outputs) {
            for (s, o) in sum.iter_mut().zip(output) {
                *s += weight * o;
            }
        }
        sum
    }
}

impl Scheduler for Pndm {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn sigmas(&self) -> &[f32] {
        &[]
    }

    fn step(&mut self, input: StepInput<'_>) -> Result<Vec<f32>> {
        check_step(&input, self.done, self.timesteps.len())?;
        let mut timestep = self.timesteps.get(input.index).map_or(0, |&t| t as i64);
        let mut before = timestep - self.ratio;
        let output = pairwise(&input, |m, _| m);
        if self.done == 1 {
            (timestep, before) = (timestep + self.ratio, timestep);
        } else {
            self.outputs.push(output.clone());
            if self.outputs.len() > 4 {
                self.outputs.remove(0);
            }
        }
        let combined = self.combined(&output);
        let sample = match self.done {
            0 => {
                self.first_sample = input.sample.to_vec();
                input.sample
            }
            1 => &self.first_sample,
            _ => input.sample,
        };
        let (a, b) = (self.alpha(timestep), self.alpha(before));
        let on_sample = libm::sqrt(b / a);
        let on_noise = (b - a) / (a * libm::sqrt(1.0 - b) + libm::sqrt(a * (1.0 - a) * b));
        let next = sample
            .iter()
            .zip(combined)
            .map(|(&x, output)| {
                let x = f64::from(x);
                let noise = match self.prediction {
                    PredictionType::VPrediction => libm::sqrt(a) * output + libm::sqrt(1.0 - a) * x,
                    _ => output,
                };
                (on_sample * x - on_noise * noise) as f32
            })
            .collect();
        self.done += 1;
        Ok(next)
    }
}
