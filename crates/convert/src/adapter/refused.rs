//! The modules of a LoRA that a base cannot take, gathered so that one message names them all.

use super::RANK_STEP;
use super::difference::{Module, Refusal};
use crate::folder::FolderInfo;
use crate::slots::Sites;
use crate::{Error, Result};

/// Most modules that a message names.
const NAMED: usize = 24;

/// What was refused, by reason, each with the reason in brackets.
#[derive(Default)]
pub(super) struct Refused {
    slotless: Vec<String>,
    /// Whether any of these has a layer without a slot.
    site: bool,
    baseless: Vec<String>,
    ranks: Vec<String>,
    /// Highest rank, and what is allowed.
    rank: (usize, usize),
    not_low_rank: Vec<String>,
}

impl Refused {
    /// Notes a module.
    ///
    /// Errors: what is no refusal but a failure.
    pub(super) fn add(&mut self, module: String, refusal: Refusal) -> Result<()> {
        let named = |why: &str| format!("`{module}` ({why})");
        match refusal {
            Refusal::NoSlot => {
                self.site = true;
                self.slotless.push(named("no slot"));
            }
            Refusal::OtherSlot(reason) => self.slotless.push(named(&reason)),
            Refusal::NeedsBase(algorithm) => self.baseless.push(named(&algorithm)),
            Refusal::Rank { rank, limit } => {
                self.ranks.push(named(&format!("rank {rank}")));
                self.rank = (self.rank.0.max(rank), limit);
            }
            Refusal::NotLowRank(algorithm) => self.not_low_rank.push(named(&algorithm)),
            Refusal::Failed(error) => return Err(error),
        }
        Ok(())
    }

    /// Succeeds when nothing was refused.
    ///
    /// Errors: [`Error::NoSlot`], [`Error::NeedsBase`], [`Error::Rank`], [`Error::NotLowRank`], in this order.
    pub(super) fn none(self, adapter: &str, base: &FolderInfo) -> Result<()> {
        let adapter = || adapter.to_string();
        if !self.slotless.is_empty() {
            let sites = base.recipe.adapter_sites.as_deref();
            let more = self.site && sites != Some(Sites::All.word());
            return Err(Error::NoSlot {
                adapter: adapter(),
                count: self.slotless.len(),
                modules: listing(self.slotless),
                slots: if more {
                    "convert the base with `--adapter-sites all`, "
                } else {
                    ""
                },
            });
        }
        if !self.baseless.is_empty() {
            return Err(Error::NeedsBase {
                adapter: adapter(),
                count: self.baseless.len(),
                modules: listing(self.baseless),
            });
        }
        if !self.ranks.is_empty() {
            let (rank, slots) = self.rank;
            return Err(Error::Rank {
                adapter: adapter(),
                count: self.ranks.len(),
                modules: listing(self.ranks),
                rank,
                slots,
                needed: rank.next_multiple_of(RANK_STEP),
            });
        }
        if !self.not_low_rank.is_empty() {
            return Err(Error::NotLowRank {
                adapter: adapter(),
                count: self.not_low_rank.len(),
                modules: listing(self.not_low_rank),
            });
        }
        Ok(())
    }
}

/// What was made of `modules`, when none of them was refused.
///
/// Errors: those of [`Refused::none`]; the first failure.
pub(super) fn accepted<T>(
    modules: &[Module<'_>],
    made: Vec<Result<T, Refusal>>,
    adapter: &str,
    base: &FolderInfo,
) -> Result<Vec<T>> {
    let mut refused = Refused::default();
    let mut accepted = Vec::with_capacity(made.len());
    for (module, outcome) in modules.iter().zip(made) {
        match outcome {
            Ok(done) => accepted.push(done),
            Err(refusal) => refused.add(module.key(), refusal)?,
        }
    }
    refused.none(adapter, base)?;
    Ok(accepted)
}

/// The names, cut where there are very many.
fn listing(mut names: Vec<String>) -> String {
    if names.len() > NAMED {
        let more = names.len() - NAMED;
        names.truncate(NAMED);
        names.push(format!("and {more} more"));
    }
    names.join(", ")
}
