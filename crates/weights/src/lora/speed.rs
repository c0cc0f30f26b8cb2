//! Releases that make a model need few steps: ordinary adapters by structure, but with a sampler of their own.
//!
//! No such file says what it is in a field of its own, so two things are asked for: a name (of the file, its folder or its
//! metadata) that holds the release's word, and the structure that all of them have: residual blocks, samplers and time
//! projections of the UNet, and nothing of a text encoder. A style LoRA that is called after one of them has no such structure.
//! Source: diffusers `train_lcm_distill_lora_sd_wds.py` (target modules); the releases' model cards (samplers).

use super::module::folded;
use super::part::Key;
use crate::StFile;

/// A kind of few-step release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SpeedKind {
    /// LCM-LoRA: the LCM scheduler, 2 to 8 steps, guidance 1 to 2.
    Lcm,
    /// Hyper-SD: DDIM with trailing steps, guidance 1; its CFG variants 5 to 8.
    Hyper,
    /// SDXL-Lightning: Euler with trailing steps, guidance 1.
    Lightning,
    /// Turbo distillations as LoRA: Euler ancestral with trailing steps, guidance 1.
    Turbo,
    /// PCM, phased consistency: DDIM with trailing steps.
    Pcm,
}

impl SpeedKind {
    /// Name for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lcm => "LCM-LoRA",
            Self::Hyper => "Hyper-SD",
            Self::Lightning => "SDXL-Lightning",
            Self::Turbo => "Turbo",
            Self::Pcm => "PCM",
        }
    }
}

/// A few-step release and what its name states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Speed {
    /// Which one.
    pub kind: SpeedKind,
    /// Steps that the name states (`8steps`).
    pub steps: Option<u32>,
    /// Whether the name says that guidance is kept (`CFG`).
    pub guided: bool,
    /// Where the word was found, and the structure that confirms it.
    pub evidence: String,
}

/// How a few-step release wants to be sampled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    /// `lcm`, `ddim`, `euler`, `euler-a`.
    pub scheduler: &'static str,
    /// diffusers' `timestep_spacing`, where it is not the scheduler's own.
    pub timestep_spacing: Option<&'static str>,
    /// Steps.
    pub steps: u32,
    /// Weight of the prompt against the negative prompt; 1 is none.
    pub guidance: f32,
}

/// A line of [`RELEASES`].
struct Row {
    word: &'static str,
    kind: SpeedKind,
    /// Steps count as the release's own where the name states none.
    sampler: Sampler,
    /// Guidance of variants that keep it.
    guided: f32,
}

const fn trailing(scheduler: &'static str, steps: u32) -> Sampler {
    Sampler {
        scheduler,
        timestep_spacing: Some("trailing"),
        steps,
        guidance: 1.0,
    }
}

const RELEASES: &[Row] = &[
    Row {
        word: "lcm",
        kind: SpeedKind::Lcm,
        sampler: Sampler {
            scheduler: "lcm",
            timestep_spacing: None,
            steps: 4,
            guidance: 1.0,
        },
        guided: 2.0,
    },
    Row {
        word: "hyper",
        kind: SpeedKind::Hyper,
        sampler: trailing("ddim", 8),
        guided: 5.0,
    },
    Row {
        word: "lightning",
        kind: SpeedKind::Lightning,
        sampler: trailing("euler", 4),
        guided: 1.0,
    },
    Row {
        word: "turbo",
        kind: SpeedKind::Turbo,
        sampler: trailing("euler-a", 4),
        guided: 1.0,
    },
    Row {
        word: "pcm",
        kind: SpeedKind::Pcm,
        sampler: trailing("ddim", 4),
        guided: 5.0,
    },
];

/// Modules that each of these releases changes: (the structure in words, ends of folded module names in either layout).
const STRUCTURE: &[(&str, &[&str])] = &[
    ("residual blocks", &["_conv1", "_in_layers_2"]),
    ("time projections", &["_time_emb_proj", "_emb_layers_1"]),
    ("attention", &["_to_q"]),
];

/// What the names and the tensors of a file say together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) speed: Option<Speed>,
    /// Said when a name has such a word and the tensors do not bear it out.
    pub(crate) note: Option<String>,
}

impl Speed {
    /// Looks for a release: `names` are (where a name stands, the name), such as ``("the file's name", "Hyper-SD15-8steps-lora")``.
    pub(crate) fn of<'a>(
        store: &StFile,
        names: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Found {
        let Some(speed) = names
            .into_iter()
            .find_map(|(place, name)| Self::of_name(place, name))
        else {
            return Found::default();
        };
        match lacking(store) {
            None => Found {
                speed: Some(speed),
                note: None,
            },
            Some(lacking) => Found {
                speed: None,
                note: Some(format!(
                    "{} has the word of {}, but the adapter {lacking}; no sampler is suggested",
                    speed.evidence,
                    speed.kind.as_str()
                )),
            },
        }
    }

    /// Reads one name; a word counts only as a whole.
    fn of_name(place: &str, name: &str) -> Option<Self> {
        let words: Vec<String> = name
            .split(|c: char| !c.is_ascii_alphanumeric())
            .map(str::to_ascii_lowercase)
            .collect();
        let row = RELEASES
            .iter()
            .find(|row| words.iter().any(|w| w == row.word))?;
        let steps = words
            .iter()
            .enumerate()
            .find_map(|(i, word)| steps(word, words.get(i + 1)));
        Some(Self {
            kind: row.kind,
            steps,
            guided: words.iter().any(|w| w == "cfg" || w == "normalcfg"),
            evidence: format!("{place} (`{name}`)"),
        })
    }

    /// How it wants to be sampled.
    pub fn sampler(&self) -> Sampler {
        let row = RELEASES.iter().find(|row| row.kind == self.kind);
        let (own, guided) = row.map_or((trailing("euler", 8), 1.0), |r| (r.sampler, r.guided));
        Sampler {
            steps: self.steps.unwrap_or(own.steps),
            guidance: if self.guided { guided } else { own.guidance },
            ..own
        }
    }
}

/// What the tensors of a file lack to be such a release, in words; `None` when they have all of it.
fn lacking(store: &StFile) -> Option<String> {
    let modules = || {
        store
            .names()
            .filter_map(|name| Some(folded(Key::parse(name)?.module)))
    };
    if modules().any(|m| m.contains("text_model") || m.contains("self_attn")) {
        return Some("changes a text encoder".into());
    }
    STRUCTURE
        .iter()
        .find(|(_, ends)| !modules().any(|m| ends.iter().any(|end| m.ends_with(end))))
        .map(|(words, _)| format!("leaves the {words} of the UNet alone"))
}

/// `8steps`, `8step`, or `8` before `steps`; none and more than a thousand are no number of steps.
fn steps(word: &str, next: Option<&String>) -> Option<u32> {
    let number = word
        .strip_suffix("steps")
        .or_else(|| word.strip_suffix("step"))
        .or_else(|| {
            next.is_some_and(|n| n == "steps" || n == "step")
                .then_some(word)
        })?;
    number.parse().ok().filter(|n| (1..=1000).contains(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str) -> Option<Speed> {
        Speed::of_name("the file's name", name)
    }

    #[test]
    fn names_of_releases() {
        let of = |name| of(name).map(|s| (s.kind, s.steps, s.guided));
        assert_eq!(of("lcm-lora-sdv1-5"), Some((SpeedKind::Lcm, None, false)));
        assert_eq!(
            of("Hyper-SD15-8steps-lora"),
            Some((SpeedKind::Hyper, Some(8), false))
        );
        assert_eq!(
            of("Hyper-SD15-12steps-CFG-lora"),
            Some((SpeedKind::Hyper, Some(12), true))
        );
        assert_eq!(
            of("sdxl_lightning_4step_lora"),
            Some((SpeedKind::Lightning, Some(4), false))
        );
        assert_eq!(
            of("pcm_sd15_smallcfg_2 steps"),
            Some((SpeedKind::Pcm, Some(2), false))
        );
        assert_eq!(of("lcm_0steps"), Some((SpeedKind::Lcm, None, false)));
        assert_eq!(of("hyperrealism"), None);
        assert_eq!(of("sketch"), None);
    }

    #[test]
    fn samplers_of_releases() {
        let of = |name| {
            let s = of(name).unwrap().sampler();
            (s.scheduler, s.timestep_spacing, s.steps, s.guidance)
        };
        assert_eq!(of("lcm-lora-sdv1-5"), ("lcm", None, 4, 1.0));
        assert_eq!(
            of("Hyper-SD15-2steps-lora"),
            ("ddim", Some("trailing"), 2, 1.0)
        );
        assert_eq!(
            of("Hyper-SD15-8steps-CFG-lora"),
            ("ddim", Some("trailing"), 8, 5.0)
        );
        assert_eq!(
            of("sdxl_lightning_8step_lora"),
            ("euler", Some("trailing"), 8, 1.0)
        );
        assert_eq!(of("sd_turbo_lora"), ("euler-a", Some("trailing"), 4, 1.0));
    }
}
