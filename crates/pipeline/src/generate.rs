//! The sampling loop of text to image.

use crate::output::{EncodedPrompt, Output};
use crate::prompt::{Prompt, emphasised};
use crate::rng::RngKind;
use crate::schedulers::{SchedulerConfig, SchedulerKind, StepInput};
use crate::tokenizer::{CONTEXT, Tokenizer};
use crate::{BoxError, Error, Result};
use std::ops::ControlFlow;

/// Channels of a latent.
const LATENT_CHANNELS: usize = 4;

/// Pixels per latent element along each axis.
const SCALE: usize = 8;

/// Largest height and width in pixels.
const LARGEST: usize = 16_384;

/// The three models of a Stable Diffusion 1 or 2 pipeline.
pub trait Networks {
    /// The text encoder's last hidden state.
    ///
    /// Shapes: `ids [1, 77]` → `[1, 77, D]`.
    fn encode_text(&mut self, ids: &[i32]) -> std::result::Result<Vec<f32>, BoxError>;

    /// The UNet's prediction, both rows at one timestep.
    ///
    /// Shapes: `sample [2, 4, H/8, W/8]`, `states [2, D, 1, 77]` → `[2, 4, H/8, W/8]`. Row 0 belongs to the negative
    /// prompt, row 1 to the prompt.
    fn predict_noise(
        &mut self,
        sample: &[f32],
        timestep: f32,
        states: &[f32],
    ) -> std::result::Result<Vec<f32>, BoxError>;

    /// The VAE's image of a latent that has been divided by the scaling factor.
    ///
    /// Shapes: `latent [1, 4, H/8, W/8]` → `[1, 3, H, W]`.
    fn decode(&mut self, latent: &[f32]) -> std::result::Result<Vec<f32>, BoxError>;
}

/// What to make.
#[derive(Clone, Debug)]
pub struct Request {
    /// What the image should show.
    pub prompt: Prompt,
    /// What it should not show.
    pub negative: Prompt,
    /// Seed of the random numbers.
    pub seed: u64,
    /// Whose random numbers.
    pub rng: RngKind,
    /// Number of steps.
    pub steps: usize,
    /// Sampler.
    pub scheduler: SchedulerKind,
    /// The model's schedule.
    pub scheduler_config: SchedulerConfig,
    /// Classifier-free guidance: above 1, the prediction is u + guidance·(c − u), u being that for the negative
    /// prompt and c that for the prompt. At 1 or below it is c alone, as in diffusers, and the negative prompt has no
    /// effect; the networks are still asked for both rows, since a package's batch is fixed.
    pub guidance: f32,
    /// Height in pixels, a multiple of 8.
    pub height: usize,
    /// Width in pixels, a multiple of 8.
    pub width: usize,
    /// What the VAE's latents were multiplied by in training; 0.18215 for Stable Diffusion 1 and 2.
    pub scaling_factor: f32,
    /// Latents `[1, 4, H/8, W/8]` to start from instead of random ones, before they are scaled by the scheduler.
    pub initial_latents: Option<Vec<f32>>,
}

impl Request {
    /// A request with the usual settings of Stable Diffusion 1: DPM-Solver++ 2M, 20 steps, guidance 7.5, 512×512.
    pub fn new(prompt: Prompt) -> Self {
        Self {
            prompt,
            negative: Prompt::default(),
            seed: 0,
            rng: RngKind::Numpy,
            steps: 20,
            scheduler: SchedulerKind::DpmPp2M,
            scheduler_config: SchedulerConfig::stable_diffusion(),
            guidance: 7.5,
            height: 512,
            width: 512,
            scaling_factor: 0.18215,
            initial_latents: None,
        }
    }

    /// Elements of a latent, after all values have been checked.
    fn latent_len(&self) -> Result<usize> {
        for (name, size) in [("height", self.height), ("width", self.width)] {
            if size == 0 || !size.is_multiple_of(SCALE) || size > LARGEST {
                return Err(Error::Request {
                    name,
                    found: size.to_string(),
                    expected: "a multiple of 8 from 8 to 16384",
                });
            }
        }
        if !self.guidance.is_finite() {
            return Err(Error::Request {
                name: "guidance",
                found: self.guidance.to_string(),
                expected: "a finite number",
            });
        }
        if !(self.scaling_factor.is_finite() && self.scaling_factor > 0.0) {
            return Err(Error::Request {
                name: "scaling_factor",
                found: self.scaling_factor.to_string(),
                expected: "a positive number",
            });
        }
        Ok(LATENT_CHANNELS * (self.height / SCALE) * (self.width / SCALE))
    }
}

/// Told after each step.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// Steps done, from 1.
    pub step: usize,
    /// Steps in all; PNDM has one more than was asked.
    pub total: usize,
    /// Timestep of this step.
    pub timestep: f64,
    /// The sample after it `[1, 4, H/8, W/8]`.
    pub latents: &'a [f32],
}

/// Makes an image: encodes both prompts, samples a latent and decodes it.
///
/// The decoded latent is the scheduler's last sample, as in diffusers; where the schedule ends at σ = 0 this is also
/// its last prediction of x0. `progress` is called after each step and may stop the run.
///
/// Errors: `Request`, those of the scheduler, `Network` when a network fails, `Length` and `NotFinite` when it answers
/// something unusable, `Cancelled` when `progress` breaks.
pub fn generate(
    request: &Request,
    tokenizer: &Tokenizer,
    networks: &mut dyn Networks,
    progress: &mut dyn FnMut(Step<'_>) -> ControlFlow<()>,
) -> Result<Output> {
    let len = request.latent_len()?;
    let mut scheduler = request
        .scheduler
        .build(&request.scheduler_config, request.steps)?;
    let mut source = request.rng.source(request.seed)?;
    let initial = match &request.initial_latents {
        Some(latents) => {
            check_len("initial latents", latents, len)?;
            latents.clone()
        }
        None => source.normal(len),
    };
    let (prompt, negative) = (
        tokenizer.encode_prompt(&request.prompt),
        tokenizer.encode_prompt(&request.negative),
    );
    let states = text_states(networks, &negative, &prompt)?;
    let init = scheduler.init_noise_sigma();
    let mut sample: Vec<f32> = initial.iter().map(|x| x * init).collect();
    let timesteps = scheduler.timesteps().to_vec();
    let total = timesteps.len();
    for (index, &timestep) in timesteps.iter().enumerate() {
        let row = scheduler.scale_model_input(index, &sample);
        let pair = [row.as_slice(), row.as_slice()].concat();
        let outputs = networks
            .predict_noise(&pair, timestep as f32, &states)
            .map_err(failed("unet"))?;
        check_len("noise prediction", &outputs, 2 * len)?;
        let (uncond, cond) = outputs.split_at(len);
        let guided = guided(uncond, cond, request.guidance);
        check_finite("noise prediction", &guided, index)?;
        let noise = scheduler.wants_noise(index).then(|| source.normal(len));
        sample = scheduler.step(StepInput {
            index,
            model_output: &guided,
            sample: &sample,
            noise: noise.as_deref(),
        })?;
        check_finite("sample", &sample, index)?;
        let step = Step {
            step: index + 1,
            total,
            timestep,
            latents: &sample,
        };
        if progress(step).is_break() {
            return Err(Error::Cancelled {
                step: index + 1,
                total,
            });
        }
    }
    let latent: Vec<f32> = sample.iter().map(|x| x / request.scaling_factor).collect();
    let image = networks.decode(&latent).map_err(failed("vae decoder"))?;
    check_len("image", &image, 3 * request.height * request.width)?;
    Ok(Output {
        latents: sample,
        image,
        height: request.height,
        width: request.width,
        prompt,
        negative,
        timesteps,
    })
}

/// States of both prompts `[2, D, 1, 77]`, negative first.
fn text_states(
    networks: &mut dyn Networks,
    negative: &EncodedPrompt,
    prompt: &EncodedPrompt,
) -> Result<Vec<f32>> {
    let mut rows = Vec::new();
    let mut width = None;
    for EncodedPrompt { ids, weights, .. } in [negative, prompt] {
        let states = networks.encode_text(ids).map_err(failed("text encoder"))?;
        let found = states.len() / CONTEXT;
        let expected = *width.get_or_insert(found.max(1));
        check_len("text states", &states, expected * CONTEXT)?;
        let states = emphasised(&states, weights);
        check_finite("text states", &states, 0)?;
        for channel in 0..expected {
            rows.extend(states.iter().skip(channel).step_by(expected));
        }
    }
    Ok(rows)
}

/// Classifier-free guidance in float32, as diffusers computes it.
fn guided(uncond: &[f32], cond: &[f32], guidance: f32) -> Vec<f32> {
    if guidance <= 1.0 {
        return cond.to_vec();
    }
    uncond
        .iter()
        .zip(cond)
        .map(|(u, c)| u + guidance * (c - u))
        .collect()
}

fn failed(network: &'static str) -> impl Fn(BoxError) -> Error {
    move |source| Error::Network { network, source }
}

fn check_len(what: &'static str, values: &[f32], expected: usize) -> Result<()> {
    if values.len() == expected {
        Ok(())
    } else {
        Err(Error::Length {
            what,
            expected,
            found: values.len(),
        })
    }
}

fn check_finite(what: &'static str, values: &[f32], step: usize) -> Result<()> {
    if values.iter().all(|x| x.is_finite()) {
        Ok(())
    } else {
        Err(Error::NotFinite { what, step })
    }
}
