//! Schedulers as diffusers 0.35.2 has them: timesteps, sigmas and the update of the sample.
//!
//! The tables that diffusers keeps in float32 (ᾱ, sigma) are float32 here too; the update is computed in f64 and
//! rounded to float32 once per step.

mod config;
mod ddim;
mod dpmpp2m;
mod euler;
mod euler_ancestral;
mod lcm;
mod noise;
mod pndm;
mod spacing;
mod unipc;

pub use config::{
    BetaSchedule, FinalSigmas, PredictionType, SchedulerConfig, SolverType, TimestepSpacing,
};
pub use ddim::Ddim;
pub use dpmpp2m::DpmPp2M;
pub use euler::Euler;
pub use euler_ancestral::EulerAncestral;
pub use lcm::Lcm;
pub use pndm::Pndm;
pub use unipc::UniPc;

use crate::{Error, Result};

/// What [`Scheduler::step`] needs.
#[derive(Clone, Copy, Debug)]
pub struct StepInput<'a> {
    /// Which step, from 0; steps are taken in order.
    pub index: usize,
    /// The network's output, whatever the prediction type.
    pub model_output: &'a [f32],
    /// The sample before [`Scheduler::scale_model_input`].
    pub sample: &'a [f32],
    /// Standard normal noise, for the steps where [`Scheduler::wants_noise`].
    pub noise: Option<&'a [f32]>,
}

/// One run of a sampler over a fixed number of steps.
pub trait Scheduler {
    /// Timesteps in the order of the steps, as the network is told them.
    fn timesteps(&self) -> &[f64];

    /// Sigmas of the steps and the final one; empty for schedulers that work on ᾱ.
    fn sigmas(&self) -> &[f32];

    /// What the initial standard normal latents are multiplied by.
    fn init_noise_sigma(&self) -> f32 {
        1.0
    }

    /// The network's input for step `index`.
    fn scale_model_input(&self, index: usize, sample: &[f32]) -> Vec<f32> {
        let _ = index;
        sample.to_vec()
    }

    /// Whether step `index` draws noise.
    fn wants_noise(&self, index: usize) -> bool {
        let _ = index;
        false
    }

    /// The sample after this step.
    ///
    /// Errors: `StepOrder`, `Length` when output, sample or noise differ in length, `NoNoise`.
    fn step(&mut self, input: StepInput<'_>) -> Result<Vec<f32>>;
}

/// The schedulers of this crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SchedulerKind {
    /// DPM-Solver++ 2M.
    DpmPp2M,
    /// PNDM (PLMS).
    Pndm,
    /// Euler.
    Euler,
    /// Euler ancestral.
    EulerAncestral,
    /// DDIM.
    Ddim,
    /// UniPC.
    UniPc,
    /// Latent consistency models.
    Lcm,
}

/// Builds a scheduler for a number of steps.
type Make = fn(&SchedulerConfig, usize) -> Result<Box<dyn Scheduler>>;

/// A line of [`SCHEDULERS`].
struct Row {
    kind: SchedulerKind,
    name: &'static str,
    class_name: &'static str,
    make: Make,
}

const SCHEDULERS: &[Row] = &[
    Row {
        kind: SchedulerKind::DpmPp2M,
        name: "dpmpp-2m",
        class_name: dpmpp2m::CLASS,
        make: |config, steps| Ok(Box::new(DpmPp2M::new(config, steps)?)),
    },
    Row {
        kind: SchedulerKind::Pndm,
        name: "pndm",
        class_name: pndm::CLASS,
        make: |config, steps| Ok(Box::new(Pndm::new(config, steps)?)),
    },
    Row {
        kind: SchedulerKind::Euler,
        name: "euler",
        class_name: euler::CLASS,
        make: |config, steps| Ok(Box::new(Euler::new(config, steps)?)),
    },
    Row {
        kind: SchedulerKind::EulerAncestral,
        name: "euler-a",
        class_name: euler_ancestral::CLASS,
        make: |config, steps| Ok(Box::new(EulerAncestral::new(config, steps)?)),
    },
    Row {
        kind: SchedulerKind::Ddim,
        name: "ddim",
        class_name: ddim::CLASS,
        make: |config, steps| Ok(Box::new(Ddim::new(config, steps)?)),
    },
    Row {
        kind: SchedulerKind::UniPc,
        name: "unipc",
        class_name: unipc::CLASS,
        make: |config, steps| Ok(Box::new(UniPc::new(config, steps)?)),
    },
    Row {
        kind: SchedulerKind::Lcm,
        name: "lcm",
        class_name: lcm::CLASS,
        make: |config, steps| Ok(Box::new(Lcm::new(config, steps)?)),
    },
];

impl SchedulerKind {
    /// All kinds, in the order of the command line's help.
    pub fn all() -> impl Iterator<Item = Self> {
        SCHEDULERS.iter().map(|row| row.kind)
    }

    fn row(self) -> Option<&'static Row> {
        SCHEDULERS.iter().find(|row| row.kind == self)
    }

    /// Name on a command line.
    pub fn name(self) -> &'static str {
        self.row().map_or("", |row| row.name)
    }

    /// The kind with this command-line name.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(SCHEDULERS.iter().find(|row| row.name == name)?.kind)
    }

    /// The kind with this diffusers class name (`_class_name` of a `scheduler_config.json`).
    pub fn from_class_name(name: &str) -> Option<Self> {
        Some(SCHEDULERS.iter().find(|row| row.class_name == name)?.kind)
    }

    /// A run of `steps` steps.
    ///
    /// Errors: `Steps`, `SchedulerOption` for options that this scheduler does not support.
    pub fn build(self, config: &SchedulerConfig, steps: usize) -> Result<Box<dyn Scheduler>> {
        match self.row() {
            Some(row) => (row.make)(config, steps),
            None => Err(Error::SchedulerConfig {
                reason: format!("no scheduler `{self:?}`"),
            }),
        }
    }
}

/// Checks the order of steps and the lengths of the arrays.
fn check_step(input: &StepInput<'_>, expected: usize, total: usize) -> Result<()> {
    if input.index != expected || expected >= total {
        return Err(Error::StepOrder {
            expected,
            found: input.index,
            total,
        });
    }
    let n = input.sample.len();
    let lengths = [
        ("model output", Some(input.model_output)),
        ("noise", input.noise),
    ];
    for (what, array) in lengths {
        match array {
            Some(a) if a.len() != n => {
                return Err(Error::Length {
                    what,
                    expected: n,
                    found: a.len(),
                });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Combines output and sample element by element in f64.
fn pairwise(input: &StepInput<'_>, f: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    input
        .model_output
        .iter()
        .zip(input.sample)
        .map(|(&m, &x)| f(m.into(), x.into()))
        .collect()
}

/// α and σ of the variance-preserving form from their ratio.
fn signal_and_noise(ratio: f64) -> (f64, f64) {
    let alpha = 1.0 / libm::sqrt(ratio * ratio + 1.0);
    (alpha, ratio * alpha)
}

/// The clean sample that the network's output stands for, at a noise-to-signal ratio.
fn predicted_x0(input: &StepInput<'_>, prediction: PredictionType, ratio: f64) -> Vec<f64> {
    let (alpha, sigma) = signal_and_noise(ratio);
    match prediction {
        PredictionType::Epsilon => pairwise(input, |m, x| (x - sigma * m) / alpha),
        PredictionType::VPrediction => pairwise(input, |m, x| alpha * x - sigma * m),
        PredictionType::Sample => pairwise(input, |m, _| m),
    }
}
