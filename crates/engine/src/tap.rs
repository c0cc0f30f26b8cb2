//! Taps: what looks at values while a function runs, without keeping them.

use crate::plan::{Place, Plan};
use crate::run::RunOptions;
use crate::tensor::{Array, Buffer};
use crate::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// From here on a number rounds to an infinite fp16: half a step above the largest fp16, 65504.
const OVERFLOW: f32 = 65520.0;

/// A float value, as it stands right after its op.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Name of the value.
    pub name: &'a str,
    /// Name of the op that gives it; `input` for an input of the function, `const` for a constant.
    pub kind: &'a str,
    /// Sizes, outermost first.
    pub shape: &'a [usize],
    /// Elements, row-major, rounded as the compute mode wants it.
    pub data: &'a [f32],
    /// How many elements were finite and became infinite when they were rounded to fp16.
    pub overflows: usize,
}

/// Looks at values while a function runs, in program order, on the thread of the prediction.
pub trait Tap: std::fmt::Debug + Send + Sync {
    /// Sees one value. The elements are gone when this returns.
    ///
    /// Errors: a message that ends the prediction with [`Error::Tap`].
    fn see(&self, seen: &Seen<'_>) -> Result<(), String>;
}

/// Which values are seen, and by whom.
#[derive(Clone, Debug)]
pub struct Taps {
    /// Names of values; `None` = every float value that an op gives, and every float input.
    pub names: Option<BTreeSet<String>>,
    /// Who sees them.
    pub tap: Arc<dyn Tap>,
}

/// What of a run is asked for, by slot.
pub(crate) struct Watch<'a> {
    /// Stay until the end: outputs and probes.
    kept: BTreeSet<usize>,
    taps: Option<(&'a dyn Tap, Names<'a>)>,
}

enum Names<'a> {
    All,
    Slots(BTreeMap<usize, &'a str>),
}

impl<'a> Watch<'a> {
    /// Names that the plan does not have are left out; [`crate::Model`] refuses them before.
    pub(crate) fn new(plan: &Plan, options: &'a RunOptions) -> Self {
        let slot = |name: &String| match plan.places.get(name) {
            Some(Place::Slot(slot)) => Some(*slot),
            _ => None,
        };
        let kept = plan.outputs.iter().chain(&options.probes);
        let kept = kept.filter_map(slot).collect();
        let taps = options.taps.as_ref().map(|taps| {
            let names = match &taps.names {
                None => Names::All,
                Some(names) => {
                    let named = names.iter().filter_map(|n| Some((slot(n)?, n.as_str())));
                    Names::Slots(named.collect())
                }
            };
            (&*taps.tap, names)
        });
        Self { kept, taps }
    }

    /// Whether the value of a slot stays until the end.
    pub(crate) fn keeps(&self, slot: usize) -> bool {
        self.kept.contains(&slot)
    }

    /// Whether nobody looks at the value of a slot, so that it need not come about.
    pub(crate) fn hides(&self, slot: usize) -> bool {
        !self.keeps(slot) && !self.taps_slot(slot)
    }

    fn taps_slot(&self, slot: usize) -> bool {
        match &self.taps {
            None => false,
            Some((_, Names::All)) => true,
            Some((_, Names::Slots(slots))) => slots.contains_key(&slot),
        }
    }

    /// Elements that become infinite in fp16, when somebody looks at this slot.
    pub(crate) fn overflows(&self, slot: usize, array: &Array) -> usize {
        match &array.buffer {
            Buffer::F32(v) if self.taps_slot(slot) => v
                .iter()
                .filter(|x| x.is_finite() && x.abs() >= OVERFLOW)
                .count(),
            _ => 0,
        }
    }

    /// Shows the value of a slot to the tap, if it is to be seen.
    pub(crate) fn show(
        &self,
        slot: usize,
        (name, kind): (&str, &str),
        array: &Array,
        overflows: usize,
    ) -> Result<()> {
        if !self.taps_slot(slot) {
            return Ok(());
        }
        self.tell(name, kind, array, overflows)
    }

    /// Shows a constant that was asked for by name.
    pub(crate) fn show_constant(&self, name: &str, array: &Array) -> Result<()> {
        self.tell(name, "const", array, 0)
    }

    fn tell(&self, name: &str, kind: &str, array: &Array, overflows: usize) -> Result<()> {
        let (Some((tap, _)), Buffer::F32(data)) = (&self.taps, &array.buffer) else {
            return Ok(());
        };
        let seen = Seen {
            name,
            kind,
            shape: &array.shape,
            data,
            overflows,
        };
        tap.see(&seen).map_err(|reason| Error::Tap {
            value: name.into(),
            reason,
        })
    }
}
