//! The algorithms that an adapted module may use, chosen per module from the tensors that it has.

mod boft;
mod dora;
mod full;
mod glora;
mod ia3;
mod loha;
mod lokr;
mod lora;
mod norm;
mod oft;
mod site;

pub(crate) use dora::magnitude;
pub(crate) use site::{Fault, ScaleRule, Site};

use super::low_rank::LowRank;
use super::part::Part;
use std::fmt;

/// What an algorithm does to the weight of its module.
pub(crate) trait Delta: fmt::Debug + Send + Sync {
    /// dW at strength 1, in the layout of `base`, the module's weight.
    fn delta(&self, base: &[f32]) -> Vec<f32>;

    /// Exact factors of dW, where the algorithm has them.
    fn low_rank(&self) -> Option<LowRank> {
        None
    }

    /// Whether dW depends on the base weight.
    fn reads_base(&self) -> bool {
        false
    }

    /// Change of the bias that follows from the algorithm itself.
    fn bias_delta(&self, _base: &[f32]) -> Option<Vec<f32>> {
        None
    }
}

/// A module's algorithm, ready to be applied.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) word: &'static str,
    pub(crate) rank: Option<usize>,
    pub(crate) scale: f32,
    pub(crate) delta: Box<dyn Delta>,
}

/// A row of [`ALGORITHMS`].
pub(crate) struct Algorithm {
    /// Tensors that only this algorithm has.
    marks: &'static [Part],
    /// Takes its tensors from the site and checks their shapes.
    pub(crate) build: fn(&mut Site<'_>) -> Result<Built, Fault>,
}

/// All algorithms; the first whose marks are present is taken.
pub(crate) const ALGORITHMS: &[Algorithm] = &[
    Algorithm {
        marks: &[Part::Down, Part::Up, Part::Mid],
        build: lora::build,
    },
    Algorithm {
        marks: &[
            Part::HadaW1A,
            Part::HadaW1B,
            Part::HadaW2A,
            Part::HadaW2B,
            Part::HadaT1,
            Part::HadaT2,
        ],
        build: loha::build,
    },
    Algorithm {
        marks: &[
            Part::LokrW1,
            Part::LokrW1A,
            Part::LokrW1B,
            Part::LokrW2,
            Part::LokrW2A,
            Part::LokrW2B,
            Part::LokrT2,
        ],
        build: lokr::build,
    },
    Algorithm {
        marks: &[Part::OftBlocks],
        build: oft::build,
    },
    Algorithm {
        marks: &[Part::OftDiag],
        build: oft::build_old,
    },
    Algorithm {
        marks: &[Part::GloraA1, Part::GloraA2, Part::GloraB1, Part::GloraB2],
        build: glora::build,
    },
    Algorithm {
        marks: &[Part::Ia3OnInput],
        build: ia3::build,
    },
    Algorithm {
        marks: &[Part::Ia3L],
        build: ia3::build_peft,
    },
    Algorithm {
        marks: &[Part::NormWeight],
        build: norm::build,
    },
    Algorithm {
        marks: &[Part::Diff],
        build: full::build,
    },
    Algorithm {
        marks: &[Part::SetWeight],
        build: full::build_replacement,
    },
    // A bias and nothing else.
    Algorithm {
        marks: &[Part::DiffBias, Part::NormBias],
        build: full::build_nothing,
    },
];

/// The algorithm of a module with these tensors.
pub(crate) fn recognised(has: impl Fn(Part) -> bool) -> Option<&'static Algorithm> {
    ALGORITHMS
        .iter()
        .find(|a| a.marks.iter().any(|&mark| has(mark)))
}
