//! Releases that make a model need few steps: ordinary adapters by structure, but with a sampler of their own.

/// A kind of few-step release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SpeedKind {
    /// LCM-LoRA: the LCM scheduler, guidance 1 to 2.
    Lcm,
    /// Hyper-SD: DDIM or TCD with trailing steps, guidance 1 or less.
    Hyper,
    /// SDXL-Lightning: Euler with trailing steps, guidance 1.
    Lightning,
    /// Turbo distillations as LoRA.
    Turbo,
    /// PCM, phased consistency.
    Pcm,
}

/// A few-step release and the steps that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speed {
    /// Which one.
    pub kind: SpeedKind,
    /// Steps that the name states (`8steps`).
    pub steps: Option<u32>,
}

const WORDS: &[(&str, SpeedKind)] = &[
    ("lcm", SpeedKind::Lcm),
    ("hyper", SpeedKind::Hyper),
    ("lightning", SpeedKind::Lightning),
    ("turbo", SpeedKind::Turbo),
    ("pcm", SpeedKind::Pcm),
];

impl Speed {
    /// Reads it off names such as `Hyper-SD15-8steps-lora`; a word counts only as a whole.
    pub(crate) fn of_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let words: Vec<String> = names
            .into_iter()
            .flat_map(|name| name.split(|c: char| !c.is_ascii_alphanumeric()))
            .map(str::to_ascii_lowercase)
            .collect();
        let (_, kind) = WORDS
            .iter()
            .find(|(word, _)| words.iter().any(|w| w == word))?;
        let steps = words
            .iter()
            .enumerate()
            .find_map(|(i, word)| steps(word, words.get(i + 1)));
        Some(Self { kind: *kind, steps })
    }
}

/// `8steps`, `8step`, or `8` before `steps`.
fn steps(word: &str, next: Option<&String>) -> Option<u32> {
    let number = word
        .strip_suffix("steps")
        .or_else(|| word.strip_suffix("step"))
        .or_else(|| {
            next.is_some_and(|n| n == "steps" || n == "step")
                .then_some(word)
        })?;
    number.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_releases() {
        let of = |name| Speed::of_names([name]).map(|s| (s.kind, s.steps));
        assert_eq!(of("lcm-lora-sdv1-5"), Some((SpeedKind::Lcm, None)));
        assert_eq!(
            of("Hyper-SD15-8steps-lora"),
            Some((SpeedKind::Hyper, Some(8)))
        );
        assert_eq!(
            of("sdxl_lightning_4step_lora"),
            Some((SpeedKind::Lightning, Some(4)))
        );
        assert_eq!(of("pcm_sd15_2 steps"), Some((SpeedKind::Pcm, Some(2))));
        assert_eq!(of("hyperrealism"), None);
        assert_eq!(of("sketch"), None);
    }
}
