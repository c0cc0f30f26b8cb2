//! Euler steps with noise added after each.

use super::config::{FinalSigmas, PredictionType, SchedulerConfig};
use super::euler::SigmaRun;
use super::{Scheduler, StepInput, check_step};
use crate::{Error, Result};

pub(super) const CLASS: &str = "EulerAncestralDiscreteScheduler";

/// `EulerAncestralDiscreteScheduler`: with σ_up² = σ_next²(σ²−σ_next²)/σ² and σ_down² = σ_next²−σ_up², an Euler step to
/// σ_down and then noise of deviation σ_up. Noise is drawn at every step, also at the last, where σ_up is 0.
///
/// Computed in float32 like [`Euler`](super::Euler). Source: diffusers 0.35.2
/// `scheduling_euler_ancestral_discrete.py`.
#[derive(Clone, Debug)]
pub struct EulerAncestral {
    run: SigmaRun,
    prediction: PredictionType,
    done: usize,
}

impl EulerAncestral {
    /// A run of `steps` steps. Default spacing: linspace.
    ///
    /// Errors: `Steps`; `SchedulerOption` for `sample` prediction.
    pub fn new(config: &SchedulerConfig, steps: usize) -> Result<Self> {
        config.refuse_unsupported(CLASS)?;
        if config.prediction_type == PredictionType::Sample {
            return Err(Error::SchedulerOption {
                scheduler: CLASS,
                option: "prediction_type",
                value: "sample".into(),
            });
        }
        // The class has neither of these options.
        let config = SchedulerConfig {
            use_karras_sigmas: false,
            final_sigmas_type: FinalSigmas::Zero,
            ..config.clone()
        };
        Ok(Self {
            run: SigmaRun::new(&config, steps, CLASS)?,
            prediction: config.prediction_type,
            done: 0,
        })
    }
}

impl Scheduler for EulerAncestral {
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

    fn wants_noise(&self, _index: usize) -> bool {
        true
    }

    fn step(&mut self, input: StepInput<'_>) -> Result<Vec<f32>> {
        check_step(&input, self.done, self.run.timesteps.len())?;
        let Some(noise) = input.noise else {
            return Err(Error::NoNoise {
                scheduler: CLASS,
                step: input.index,
            });
        };
        let (from, to) = (self.run.sigma(input.index), self.run.sigma(input.index + 1));
        let (from2, to2) = (from * from, to * to);
        let up = (to2 * (from2 - to2) / from2).sqrt();
        let down = (to2 - up * up).sqrt();
        let mut next = self.run.moved(&input, self.prediction, down);
        for (x, n) in next.iter_mut().zip(noise) {
            *x += n * up;
        }
        self.done += 1;
        Ok(next)
    }
}
