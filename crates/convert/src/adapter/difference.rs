//! The difference of one module, from one LoRA or the sum of several, as factors that its slot can hold.

use super::factors::TruncatedModule;
use super::weights::BaseWeights;
use crate::slots::{SlotModule, SlotTable};
use crate::{Error, Result};
use gesso_weights::Component;
use gesso_weights::lora::{Adapter, LowRank, approximate, truncate};
use std::collections::BTreeMap;

/// Above this rank factors are multiplied out and decomposed as a whole matrix, which is faster.
const LARGEST_CORE: usize = 256;

/// What may be done with a difference that does not fit.
#[derive(Clone, Copy)]
pub(super) struct Limits<'a> {
    /// Name of the adapter, for messages.
    pub name: &'a str,
    /// Nothing may be lost.
    pub exact: bool,
    /// Highest rank that is wanted, whatever the slots can hold.
    pub rank: Option<usize>,
    /// Weights of the base's source.
    pub weights: Option<BaseWeights<'a>>,
}

/// One module that is adapted: what is added to its weight, each with its strength.
pub(super) struct Module<'a> {
    pub component: Component,
    pub path: &'a str,
    pub parts: Vec<(&'a Adapter, f32)>,
    pub slot: &'a SlotModule,
    /// Rank of the slot.
    pub slots: usize,
}

/// Why a module cannot be made into factors.
pub(super) enum Refusal {
    /// Its layer has no slot.
    NoSlot,
    /// There is a slot, or a component without any, but none that could carry it.
    OtherSlot(String),
    /// It depends on the base weight, which is not at hand.
    NeedsBase(String),
    /// Nothing may be lost, and its rank is above the slot's.
    Rank {
        /// Its rank.
        rank: usize,
        /// The highest that is allowed.
        limit: usize,
    },
    /// Nothing may be lost, and it has no exact factors.
    NotLowRank(String),
    /// Its difference cannot be computed.
    Failed(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl<'a> Module<'a> {
    /// The module with its slot.
    ///
    /// Errors: no slot of its shape, a changed bias, no base weights where they are needed.
    pub(super) fn new(
        component: Component,
        path: &'a str,
        parts: Vec<(&'a Adapter, f32)>,
        slots: &'a BTreeMap<String, SlotTable>,
        has_weights: bool,
    ) -> Result<Self, Refusal> {
        let no_slot = |reason: &str| Refusal::OtherSlot(reason.into());
        let table = slots
            .get(component.as_str())
            .ok_or_else(|| no_slot("the base has no slots for this component"))?;
        let slot = table
            .modules()
            .iter()
            .find(|m| m.component == component.as_str() && m.module == path)
            .ok_or(Refusal::NoSlot)?;
        for (adapter, _) in &parts {
            let bias = adapter.bias_delta(&vec![0.0; slot.outputs]);
            if !matches!(bias, Ok(None)) {
                return Err(no_slot("it changes the bias"));
            }
            let wanted = (slot.outputs, slot.inputs, slot.taps());
            let (outputs, inputs, taps) = sides(adapter);
            if (outputs, inputs, taps) != wanted {
                return Err(Refusal::OtherSlot(format!(
                    "it is {outputs}x{inputs} with a kernel of {taps} elements, its slot {}x{} with {}",
                    slot.outputs, slot.inputs, wanted.2
                )));
            }
            if adapter.reads_base() && !has_weights {
                return Err(Refusal::NeedsBase(algorithm(adapter)));
            }
        }
        Ok(Self {
            component,
            path,
            parts,
            slot,
            slots: table.rank(),
        })
    }

    /// Columns of the weight as a matrix, I · k².
    fn inputs(&self) -> usize {
        self.slot.inputs * self.slot.taps()
    }

    /// `<component>:<path>`.
    pub(super) fn key(&self) -> String {
        format!("{}:{}", self.component.as_str(), self.path)
    }

    /// Factors of at most the allowed rank, and what was lost when that was not exact.
    ///
    /// Errors: [`Refusal::Rank`] and [`Refusal::NotLowRank`] when nothing may be lost; those of reading weights.
    pub(super) fn factors(
        &self,
        limits: Limits<'_>,
    ) -> Result<(LowRank, Option<TruncatedModule>), Refusal> {
        let limit = limits.rank.map_or(self.slots, |r| r.min(self.slots));
        let exact: Option<Vec<LowRank>> = self.parts.iter().map(|(a, _)| a.low_rank()).collect();
        let Some(factors) = exact else {
            if limits.exact {
                return Err(Refusal::NotLowRank(self.algorithms()));
            }
            let whole = self.whole(limits.weights)?;
            let shorter = self.inputs().min(self.slot.outputs);
            return Ok(self.approximated(&whole, shorter, limit));
        };
        let rank: usize = factors.iter().map(|f| f.rank).sum();
        if rank > limit && limits.exact {
            return Err(Refusal::Rank { rank, limit });
        }
        let stacked = self.stacked(factors);
        if rank <= limit {
            return Ok((stacked, None));
        }
        if rank > LARGEST_CORE {
            return Ok(self.approximated(&stacked.delta(), rank, limit));
        }
        let (cut, lost) = truncate(&stacked, limit);
        let truncated = self.truncated(rank, cut.rank, lost);
        Ok((cut, Some(truncated)))
    }

    /// The factors side by side along the rank; the sum of the differences without loss.
    fn stacked(&self, mut factors: Vec<LowRank>) -> LowRank {
        if let ([(_, strength)], [_]) = (self.parts.as_slice(), factors.as_slice())
            && let Some(mut only) = factors.pop()
        {
            only.scale *= strength;
            return only;
        }
        let rank = factors.iter().map(|f| f.rank).sum();
        let mut up = Vec::with_capacity(rank * self.slot.outputs);
        for output in 0..self.slot.outputs {
            for (f, (_, strength)) in factors.iter().zip(&self.parts) {
                let row = f.up.chunks_exact(f.rank.max(1)).nth(output);
                let scale = f.scale * strength;
                up.extend(row.into_iter().flatten().map(|v| v * scale));
            }
        }
        LowRank {
            rank,
            down: factors
                .iter()
                .flat_map(|f| f.down.iter().copied())
                .collect(),
            up,
            scale: 1.0,
        }
    }

    /// Σ strength · ΔW `[O, I]`.
    fn whole(&self, weights: Option<BaseWeights<'_>>) -> Result<Vec<f32>> {
        let mut sum = vec![0.0; self.slot.outputs * self.inputs()];
        let base = match weights {
            Some(weights) if self.parts.iter().any(|(a, _)| a.reads_base()) => {
                weights.weight(self.component, self.path)?
            }
            _ => vec![0.0; sum.len()],
        };
        for (adapter, strength) in &self.parts {
            let delta = adapter.delta(&base, adapter.weight_shape())?;
            for (s, d) in sum.iter_mut().zip(delta) {
                *s += strength * d;
            }
        }
        Ok(sum)
    }

    fn approximated(
        &self,
        whole: &[f32],
        rank: usize,
        limit: usize,
    ) -> (LowRank, Option<TruncatedModule>) {
        let (factors, lost) = approximate(whole, self.slot.outputs, self.inputs(), limit);
        let truncated = self.truncated(rank, factors.rank, lost);
        (factors, Some(truncated))
    }

    fn truncated(&self, rank: usize, kept: usize, lost_energy: f64) -> TruncatedModule {
        TruncatedModule {
            component: self.component.as_str().into(),
            module: self.path.into(),
            algorithm: self.algorithms(),
            rank,
            kept,
            lost_energy,
        }
    }

    /// The algorithms of its parts, each once.
    pub(super) fn algorithms(&self) -> String {
        let mut words: Vec<String> = self.parts.iter().map(|(a, _)| algorithm(a)).collect();
        words.dedup();
        words.join(" + ")
    }
}

/// Output width, input width and elements of the kernel.
fn sides(adapter: &Adapter) -> (usize, usize, usize) {
    match adapter.weight_shape() {
        [outputs, inputs, kernel @ ..] => (*outputs, *inputs, kernel.iter().product()),
        [outputs] => (*outputs, 1, 1),
        [] => (0, 0, 0),
    }
}

/// Word of the algorithm, `dora(<word>)` under a DoRA magnitude.
fn algorithm(adapter: &Adapter) -> String {
    let word = adapter.algorithm();
    if adapter.is_dora() {
        format!("dora({word})")
    } else {
        word.into()
    }
}
