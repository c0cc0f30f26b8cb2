//! How a few-step release wants to be sampled, as manifests and `gesso.json` carry it.

use gesso_weights::lora::Release;
use serde::{Deserialize, Serialize};

/// Most steps that a hint may ask for.
const MAX_STEPS: u32 = 1000;

/// How an adapter wants to be sampled; what an app's user asks for goes before it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SchedulerHint {
    /// `lcm`, `ddim`, `euler` or `euler-a`.
    pub scheduler: String,
    /// diffusers' `timestep_spacing` for that scheduler (`trailing`); absent when it is that of the model.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub timestep_spacing: Option<String>,
    /// Steps, 1 to 1000.
    pub steps: u32,
    /// Weight of the prompt against the negative prompt; 1 is none.
    pub guidance: f32,
    /// Which release it is, and where that was read.
    pub because: String,
}

impl SchedulerHint {
    /// The hint of a LoRA file; `None` unless it is a few-step release.
    pub fn of(release: &Release) -> Option<Self> {
        let speed = release.speed.as_ref()?;
        let sampler = speed.sampler();
        Some(Self {
            scheduler: sampler.scheduler.into(),
            timestep_spacing: sampler.timestep_spacing.map(Into::into),
            steps: sampler.steps,
            guidance: sampler.guidance,
            because: format!("{}, by {}", speed.kind.as_str(), speed.evidence),
        })
    }

    /// What a hint from a file cannot be.
    pub(crate) fn problem(&self) -> Option<String> {
        if !(1..=MAX_STEPS).contains(&self.steps) {
            return Some(format!("`scheduler_hint`: {} steps", self.steps));
        }
        (!self.guidance.is_finite()).then(|| "`scheduler_hint`: the guidance is not finite".into())
    }
}

/// The first hint among LoRAs that are in use: one few-step release decides how all are sampled.
pub(crate) fn first<'a>(
    loras: impl IntoIterator<Item = (&'a Option<SchedulerHint>, f32)>,
) -> Option<&'a SchedulerHint> {
    loras
        .into_iter()
        .find_map(|(hint, strength)| hint.as_ref().filter(|_| strength != 0.0))
}
