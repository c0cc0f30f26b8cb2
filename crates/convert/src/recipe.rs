//! What to make of a checkpoint.

use crate::adapter::RANK_STEP;
use crate::built::Built;
use crate::family::{Attention, Precision};
use crate::merged::Baked;
use crate::place::{self, Bits};
use crate::slots::{Sites, SlotOptions};
use crate::{Error, Result};
use gesso_mil::{Binding, ValueData};
use std::collections::{BTreeMap, BTreeSet};

/// Weights with more elements than this are palettized; the threshold of coremltools.
pub const PALETTIZE_ABOVE: usize = 2048;

/// Rank of the adapter slots unless asked otherwise.
pub const DEFAULT_ADAPTER_RANK: usize = 32;

/// One of the models of a converted folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// `TextEncoder`, and `TextEncoderAdaptable` with slots.
    TextEncoder,
    /// `Unet`, and `UnetAdaptable` with slots.
    Unet,
    /// `VAEDecoder`.
    VaeDecoder,
    /// `VAEEncoder`.
    VaeEncoder,
}

impl Part {
    /// All parts in the order in which they are written.
    pub const ALL: [Self; 4] = [
        Self::TextEncoder,
        Self::Unet,
        Self::VaeDecoder,
        Self::VaeEncoder,
    ];

    /// Name of the package without its extension, as Apple's Swift package wants it.
    pub fn package(self) -> &'static str {
        match self {
            Self::TextEncoder => "TextEncoder",
            Self::Unet => "Unet",
            Self::VaeDecoder => "VAEDecoder",
            Self::VaeEncoder => "VAEEncoder",
        }
    }

    /// Whether weights are palettized and slots made by default: the text encoder and the UNet, never the VAE.
    pub fn is_adaptable(self) -> bool {
        matches!(self, Self::TextEncoder | Self::Unet)
    }
}

/// How many bits the weights of the matching tensors get, whatever the rule says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// `*` stands for any run of characters. Matched against `<component>:<tensor>` and against the tensor's name alone.
    pub pattern: String,
    /// 1, 2, 4, 6, 8, or 16 for no palette.
    pub bits: u8,
}

/// Oldest system that the packages must load on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// iOS 16, macOS 13.
    #[default]
    Ios16,
    /// iOS 18, macOS 15: states and several functions are possible. What needs neither stays as it is for iOS 16.
    Ios18,
}

/// How an app hands adapters to an adaptable package.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AdapterIo {
    /// As optional inputs that are bound at each prediction.
    #[default]
    Input,
    /// As states that are written once.
    State,
}

impl AdapterIo {
    /// The word in files and options: `input` or `state`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::State => "state",
        }
    }
}

/// Names that go into the metadata of every package.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Name of the model, the version string of every package.
    pub name: String,
    /// Author of the source model.
    pub author: String,
    /// Licence of the source model.
    pub license: String,
}

/// A function of the packages: the base with LoRAs of its own.
#[derive(Clone, Debug)]
pub struct Style {
    /// Name of the function.
    pub name: String,
    /// LoRAs to be merged into its weights besides those of the recipe.
    pub loras: Vec<Baked>,
}

/// What to make of a checkpoint.
#[derive(Clone)]
pub struct Recipe {
    /// Bits per weight: 16 for none, or a palette of 8, 6, 4, 2 or 1 bits per tensor.
    pub bits: u8,
    /// Element type that the programs store and compute in.
    pub precision: Precision,
    /// Width and height of the pictures in pixels, multiples of 8; `None` is the size that the model was trained on.
    pub size: Option<(usize, usize)>,
    /// How the UNet's attention is written.
    pub attention: Attention,
    /// Rank R of the adapter slots, a multiple of 32; 0 for no adaptable packages.
    pub adapter_rank: usize,
    /// Which modules have slots.
    pub adapter_sites: Sites,
    /// How an app hands the factors over.
    pub adapter_io: AdapterIo,
    /// Oldest system that the packages must load on.
    pub target: Target,
    /// LoRAs to be merged into the weights, before palettization.
    pub loras: Vec<Baked>,
    /// Functions of the text encoder's and the UNet's package, the default one first; empty for packages with a single function.
    pub functions: Vec<Style>,
    /// Exceptions from the palettization rule; the last match counts.
    pub palettize: Vec<Override>,
    /// What to write.
    pub parts: BTreeSet<Part>,
    /// Names for the metadata.
    pub origin: Origin,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            bits: 16,
            precision: Precision::Fp16,
            size: None,
            attention: Attention::SplitEinsum,
            adapter_rank: DEFAULT_ADAPTER_RANK,
            adapter_sites: Sites::default(),
            adapter_io: AdapterIo::default(),
            target: Target::default(),
            loras: Vec::new(),
            functions: Vec::new(),
            palettize: Vec::new(),
            parts: Part::ALL.into(),
            origin: Origin::default(),
        }
    }
}

impl Recipe {
    /// The slots of the adaptable packages; none at rank 0.
    pub fn slots(&self) -> Option<SlotOptions> {
        (self.adapter_rank > 0).then_some(SlotOptions {
            rank: self.adapter_rank,
            sites: self.adapter_sites,
        })
    }

    /// Checks what can be checked without a checkpoint.
    ///
    /// Errors: [`Error::Recipe`] that names the option, what is possible and what was asked for.
    pub fn check(&self) -> Result<()> {
        let refuse = |option: &str, expected: &str, found: String| {
            Err(Error::Recipe {
                option: option.into(),
                expected: expected.into(),
                found,
            })
        };
        check_bits("`--bits`", self.bits)?;
        for o in &self.palettize {
            check_bits(&format!("palettization override `{}`", o.pattern), o.bits)?;
        }
        if !self.adapter_rank.is_multiple_of(RANK_STEP) {
            return refuse(
                "`--adapter-rank`",
                "0 or a multiple of 32",
                self.adapter_rank.to_string(),
            );
        }
        if self.adapter_io == AdapterIo::State {
            self.check_states()?;
        }
        if let Some((width, height)) = self.size
            && (width == 0 || height == 0 || width % 8 != 0 || height % 8 != 0)
        {
            return refuse(
                "`--size`",
                "two multiples of 8",
                format!("{width}x{height}"),
            );
        }
        if let Some(baked) = self
            .loras
            .iter()
            .find(|b| !(b.unet_strength.is_finite() && b.text_encoder_strength.is_finite()))
        {
            let strengths = format!("{}, {}", baked.unet_strength, baked.text_encoder_strength);
            return refuse(
                &format!("strength of `{}`", baked.lora.name()),
                "a number",
                strengths,
            );
        }
        self.check_functions()?;
        if self.parts.is_empty() {
            return refuse("the list of components", "at least one", "empty".into());
        }
        Ok(())
    }

    /// Errors: [`Error::Recipe`] for what states do not go with.
    fn check_states(&self) -> Result<()> {
        let refuse = |option: &str, expected: &str, found: &str| {
            Err(Error::Recipe {
                option: option.into(),
                expected: format!("{expected} with `--adapter-io state`"),
                found: found.into(),
            })
        };
        if self.target == Target::Ios16 {
            return refuse(
                "`--target`",
                "`ios18` (states exist from iOS 18 and macOS 15 on)",
                "ios16",
            );
        }
        if self.precision == Precision::Fp32 {
            return refuse(
                "`--precision`",
                "`fp16` (Core ML's states are fp16)",
                "fp32",
            );
        }
        if self.adapter_rank == 0 {
            return refuse("`--adapter-rank`", "a multiple of 32", "0");
        }
        Ok(())
    }

    /// Whether the plain package of `part` must have the form of iOS 18: from there on a palette has another form in the program and in the
    /// weight file, which a package with states shares.
    pub(crate) fn shares_palettes_with_states(&self, part: Part, plan: &Bits) -> bool {
        self.adapter_io == AdapterIo::State
            && part.is_adaptable()
            && plan.values().any(|&bits| bits < 16)
    }

    /// Bits per weight of the tensors of `built` that get a palette. By rule these are weights of `conv` and `linear` with more
    /// than 2048 elements of the text encoder and the UNet; embeddings, norms, biases and the VAE stay. An override reaches any
    /// weight with at least two dimensions, also in the VAE. The positions in [`Recipe::palettize`] of the overrides that matched
    /// are added to `matched`.
    ///
    /// Errors: [`Error::ConstType`].
    pub fn plan(&self, part: Part, built: &Built, matched: &mut BTreeSet<usize>) -> Result<Bits> {
        let weights = layer_weights(built);
        let mut plan = BTreeMap::new();
        for job in place::jobs(&built.function, &Bits::new())? {
            let (key, tensor) = match job.label().split_once(':') {
                Some((_, tensor)) if weights_key(&job) => (job.label(), tensor),
                _ => continue,
            };
            let by_rule = part.is_adaptable()
                && job.count > PALETTIZE_ABOVE
                && weights.contains(key)
                && !built.gathered.contains(key);
            let mut bits = if by_rule { self.bits } else { 16 };
            if job.shape.len() >= 2 {
                for (i, o) in self.palettize.iter().enumerate() {
                    if glob(&o.pattern, key) || glob(&o.pattern, tensor) {
                        matched.insert(i);
                        bits = o.bits;
                    }
                }
            }
            if bits < 16 {
                plan.insert(key.to_string(), bits);
            }
        }
        Ok(plan)
    }
}

fn weights_key(job: &place::Job<'_>) -> bool {
    matches!(&job.key, place::PlaceKey::External(key) if !key.starts_with(crate::built::GENERATED))
}

fn check_bits(option: &str, bits: u8) -> Result<()> {
    let expected = match bits {
        1 | 2 | 4 | 6 | 8 | 16 => return Ok(()),
        3 => {
            "1, 2, 4, 6, 8 or 16 (palettes of 3 bits need iOS 18, these packages run from iOS 16 on)"
        }
        _ => "1, 2, 4, 6, 8 or 16",
    };
    Err(Error::Recipe {
        option: option.into(),
        expected: expected.into(),
        found: bits.to_string(),
    })
}

/// External keys that a `conv` or `linear` reads as its weight.
fn layer_weights(built: &Built) -> BTreeSet<&str> {
    let mut keys = BTreeMap::new();
    let mut weights = BTreeSet::new();
    for op in built
        .function
        .body()
        .map(|b| &*b.operations)
        .unwrap_or_default()
    {
        if let (Some(output), Some(ValueData::External { key })) = (
            op.outputs.first(),
            op.attributes.get("val").map(|v| &v.data),
        ) {
            keys.insert(output.name.as_str(), key.as_str());
        }
        if matches!(op.kind.as_str(), "conv" | "linear") {
            for binding in op.inputs.get("weight").into_iter().flatten() {
                if let Binding::Name(name) = binding
                    && let Some(key) = keys.get(name.as_str())
                {
                    weights.insert(*key);
                }
            }
        }
    }
    weights
}

/// Whether `text` fits `pattern`, in which `*` stands for any run of characters.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let Some(last) = pieces.next_back() else {
        return rest.is_empty();
    };
    for piece in pieces {
        match rest.find(piece) {
            Some(at) => rest = rest.get(at + piece.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        assert!(glob("*", ""));
        assert!(glob("a*c", "abc"));
        assert!(glob("a*c", "ac"));
        assert!(glob("*.attn*.to_q.*", "x.attn1.to_q.weight"));
        assert!(!glob("a*c", "abcd"));
        assert!(!glob("abc", "abcd"));
        assert!(!glob("ab*bc", "abc"));
        assert!(glob("abc", "abc"));
    }

    #[test]
    fn options_that_cannot_be_carried_out_are_refused_by_name() {
        let message = |change: &dyn Fn(&mut Recipe)| {
            let mut recipe = Recipe::default();
            change(&mut recipe);
            recipe.check().map_err(|e| e.to_string())
        };
        assert_eq!(message(&|_| {}), Ok(()));
        assert_eq!(
            message(&|r| r.bits = 3).unwrap_err(),
            "`--bits` is 3, expected 1, 2, 4, 6, 8 or 16 (palettes of 3 bits need iOS 18, these packages run from iOS 16 on)"
        );
        assert_eq!(
            message(&|r| r.bits = 5).unwrap_err(),
            "`--bits` is 5, expected 1, 2, 4, 6, 8 or 16"
        );
        assert_eq!(
            message(&|r| r.adapter_rank = 8).unwrap_err(),
            "`--adapter-rank` is 8, expected 0 or a multiple of 32"
        );
        assert_eq!(
            message(&|r| r.size = Some((512, 100))).unwrap_err(),
            "`--size` is 512x100, expected two multiples of 8"
        );
        assert!(
            message(&|r| r.parts.clear())
                .unwrap_err()
                .contains("components")
        );
        let pattern = || Override {
            pattern: "x*".into(),
            bits: 7,
        };
        assert_eq!(
            message(&|r| r.palettize.push(pattern())).unwrap_err(),
            "palettization override `x*` is 7, expected 1, 2, 4, 6, 8 or 16"
        );
    }
}
