//! Sampler, steps and guidance of a picture: what the user asks for, else what a few-step release asks for, else the usual.

use crate::args::{Sampling, Scheduler};
use anyhow::Context;
use gesso_convert::hint::SchedulerHint;
use gesso_pipeline::schedulers::{SchedulerKind, TimestepSpacing};

const STEPS: u32 = 20;
const GUIDANCE: f32 = 7.5;

/// What a picture is sampled with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settled {
    pub(crate) scheduler: SchedulerKind,
    /// Spacing in place of the model's own.
    pub(crate) spacing: Option<TimestepSpacing>,
    pub(crate) steps: u32,
    pub(crate) guidance: f32,
    /// What was chosen on whose behalf.
    pub(crate) notes: Vec<String>,
}

impl Settled {
    /// The first of `hints`, each with the name of what it comes from, fills in what the user left open; its spacing holds for its
    /// own scheduler only.
    ///
    /// Errors: a hint with a scheduler or spacing that this program does not have, unless the user names a scheduler.
    pub(crate) fn new(
        sampling: &Sampling,
        hints: &[(String, SchedulerHint)],
    ) -> anyhow::Result<Self> {
        let asked = sampling.scheduler.map(Scheduler::kind);
        let Some((name, hint)) = hints.first() else {
            return Ok(Self {
                scheduler: asked.unwrap_or(SchedulerKind::DpmPp2M),
                spacing: None,
                steps: sampling.steps.unwrap_or(STEPS),
                guidance: sampling.guidance.unwrap_or(GUIDANCE),
                notes: Vec::new(),
            });
        };
        let own = SchedulerKind::from_name(&hint.scheduler);
        let scheduler = asked.or(own).with_context(|| {
            format!(
                "`{name}` wants the sampler `{}`, which is not known here\n\nhint: choose one with `--scheduler`",
                hint.scheduler
            )
        })?;
        let spacing = match hint.timestep_spacing.as_deref() {
            Some(word) if Some(scheduler) == own => Some(spacing(word, name)?),
            _ => None,
        };
        let mut settled = Self {
            scheduler,
            spacing,
            steps: sampling.steps.unwrap_or(hint.steps),
            guidance: sampling.guidance.unwrap_or(hint.guidance),
            notes: Vec::new(),
        };
        settled.notes = settled.said(sampling, name, hint);
        let others = hints.iter().skip(1).filter(|(_, other)| {
            (&other.scheduler, other.steps, &other.timestep_spacing)
                != (&hint.scheduler, hint.steps, &hint.timestep_spacing)
        });
        settled.notes.extend(others.map(|(other, h)| {
            format!(
                "`{other}` wants {} steps of `{}` ({}); `{name}` comes first",
                h.steps, h.scheduler, h.because
            )
        }));
        Ok(settled)
    }

    /// Which values come from the hint, in one line; none when the user decided all of them.
    fn said(&self, sampling: &Sampling, name: &str, hint: &SchedulerHint) -> Vec<String> {
        let mut taken = Vec::new();
        if sampling.scheduler.is_none() {
            let spacing = hint.timestep_spacing.as_deref();
            let spacing = spacing.map_or(String::new(), |s| format!(" ({s})"));
            taken.push(format!("sampler {}{spacing}", self.scheduler.name()));
        }
        if sampling.steps.is_none() {
            taken.push(format!("{} steps", self.steps));
        }
        if sampling.guidance.is_none() {
            taken.push(format!("guidance {}", self.guidance));
        }
        if taken.is_empty() {
            return Vec::new();
        }
        vec![format!(
            "{} for `{name}` ({})",
            taken.join(", "),
            hint.because
        )]
    }
}

fn spacing(word: &str, name: &str) -> anyhow::Result<TimestepSpacing> {
    match word {
        "trailing" => Ok(TimestepSpacing::Trailing),
        "leading" => Ok(TimestepSpacing::Leading),
        "linspace" => Ok(TimestepSpacing::Linspace),
        _ => anyhow::bail!(
            "`{name}` wants the timestep spacing `{word}`, which is not known here\n\nhint: choose a sampler with `--scheduler`"
        ),
    }
}

impl Scheduler {
    /// The pipeline's name for it.
    pub(crate) fn kind(self) -> SchedulerKind {
        match self {
            Self::DpmPp2m => SchedulerKind::DpmPp2M,
            Self::Pndm => SchedulerKind::Pndm,
            Self::Euler => SchedulerKind::Euler,
            Self::EulerAncestral => SchedulerKind::EulerAncestral,
            Self::Ddim => SchedulerKind::Ddim,
            Self::UniPc => SchedulerKind::UniPc,
            Self::Lcm => SchedulerKind::Lcm,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::args::Rng;
    use clap::ValueEnum;

    fn hint(scheduler: &str, steps: u32) -> (String, SchedulerHint) {
        let hint = SchedulerHint {
            scheduler: scheduler.into(),
            timestep_spacing: Some("trailing".into()),
            steps,
            guidance: 1.0,
            because: "Hyper-SD, by a test".into(),
        };
        (format!("fast{steps}"), hint)
    }

    fn open() -> Sampling {
        Sampling {
            prompt: String::new(),
            negative: String::new(),
            seed: 0,
            rng: Rng::Numpy,
            steps: None,
            scheduler: None,
            guidance: None,
        }
    }

    #[test]
    fn every_scheduler_has_its_name_on_the_command_line() {
        let ours: Vec<String> = Scheduler::value_variants()
            .iter()
            .map(|s| s.to_possible_value().unwrap().get_name().to_string())
            .collect();
        let kinds: Vec<&str> = SchedulerKind::all().map(SchedulerKind::name).collect();
        assert_eq!(ours.len(), kinds.len());
        for scheduler in Scheduler::value_variants() {
            let word = scheduler.to_possible_value().unwrap();
            assert_eq!(word.get_name(), scheduler.kind().name());
        }
    }

    #[test]
    fn the_user_goes_before_the_hint_and_the_hint_before_the_usual() {
        let usual = Settled::new(&open(), &[]).unwrap();
        assert_eq!(
            (usual.scheduler, usual.steps, usual.guidance),
            (SchedulerKind::DpmPp2M, 20, 7.5)
        );
        assert!(usual.notes.is_empty());
        let hinted = Settled::new(&open(), &[hint("ddim", 8)]).unwrap();
        assert_eq!(
            (hinted.scheduler, hinted.steps, hinted.guidance),
            (SchedulerKind::Ddim, 8, 1.0)
        );
        assert_eq!(hinted.spacing, Some(TimestepSpacing::Trailing));
        assert_eq!(
            hinted.notes,
            ["sampler ddim (trailing), 8 steps, guidance 1 for `fast8` (Hyper-SD, by a test)"]
        );
        let asked = Sampling {
            steps: Some(3),
            scheduler: Some(Scheduler::Euler),
            guidance: Some(2.0),
            ..open()
        };
        let settled = Settled::new(&asked, &[hint("ddim", 8)]).unwrap();
        assert_eq!(
            (settled.scheduler, settled.steps, settled.guidance),
            (SchedulerKind::Euler, 3, 2.0)
        );
        assert_eq!((settled.spacing, settled.notes.len()), (None, 0));
    }

    #[test]
    fn two_hints_and_unknown_ones_are_said() {
        let two = Settled::new(&open(), &[hint("ddim", 8), hint("lcm", 4)]).unwrap();
        assert_eq!(two.steps, 8);
        assert!(two.notes[1].contains("`fast4` wants 4 steps of `lcm`"));
        let unknown = Settled::new(&open(), &[hint("magic", 4)]).unwrap_err();
        assert!(unknown.to_string().contains("`magic`"), "{unknown}");
        let asked = Sampling {
            scheduler: Some(Scheduler::Lcm),
            ..open()
        };
        assert!(Settled::new(&asked, &[hint("magic", 4)]).is_ok());
    }
}
