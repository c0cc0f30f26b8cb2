//! The largest absolute values, and what is not finite.

use super::names::dotted;
use crate::table::Table;
use gesso_engine::{Seen, Tap, ValueInfo};
use serde::Serialize;
use std::sync::{Mutex, PoisonError};

/// What one value held.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Range {
    pub(super) module: String,
    pub(super) value: String,
    pub(super) op: String,
    /// Largest absolute value; infinite is `null` in JSON.
    #[serde(serialize_with = "crate::measure::finite")]
    pub(super) largest: f64,
    /// Elements that became infinite when they were rounded to fp16.
    pub(super) overflows: usize,
    pub(super) infinite: usize,
    pub(super) nan: usize,
}

impl Range {
    fn is_finite(&self) -> bool {
        self.infinite == 0 && self.nan == 0
    }

    /// `overflow`, `NaN` or `infinity`.
    fn what(&self) -> &'static str {
        match self {
            _ if self.overflows > 0 => "overflow",
            _ if self.nan > 0 => "NaN",
            _ => "infinity",
        }
    }
}

/// Looks at every value and keeps a few numbers of each.
#[derive(Debug, Default)]
pub(super) struct Meter(Mutex<Vec<Range>>);

impl Tap for Meter {
    fn see(&self, seen: &Seen<'_>) -> Result<(), String> {
        let mut range = Range {
            module: String::new(),
            value: seen.name.into(),
            op: seen.kind.into(),
            largest: 0.0,
            overflows: seen.overflows,
            infinite: 0,
            nan: 0,
        };
        for x in seen.data {
            range.infinite += usize::from(x.is_infinite());
            range.nan += usize::from(x.is_nan());
            range.largest = range.largest.max(f64::from(x.abs()));
        }
        let mut ranges = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ranges.push(range);
        Ok(())
    }
}

/// The modules of one program in its order, each with the value that is largest.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Ranges {
    pub(super) modules: Vec<Range>,
    /// The first value with a NaN or an infinity.
    pub(super) first_non_finite: Option<Range>,
}

impl Ranges {
    pub(super) fn new(meter: &Meter, values: &[ValueInfo]) -> Self {
        let mut seen = meter.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut modules: Vec<Range> = Vec::new();
        let mut first = None;
        for mut range in seen.drain(..) {
            let known = values.iter().find(|v| v.name == range.value);
            range.module = match known.map_or("", |v| v.module.as_str()) {
                "" => "–".into(),
                module => dotted(module),
            };
            if first.is_none() && !range.is_finite() {
                first = Some(range.clone());
            }
            match modules.iter_mut().find(|m| m.module == range.module) {
                Some(whole) => {
                    whole.overflows += range.overflows;
                    whole.infinite += range.infinite;
                    whole.nan += range.nan;
                    if range.largest > whole.largest {
                        (whole.largest, whole.value, whole.op) =
                            (range.largest, range.value, range.op);
                    }
                }
                None => modules.push(range),
            }
        }
        Self {
            modules,
            first_non_finite: first,
        }
    }

    pub(super) fn table(&self, model: &str) -> Table {
        let module = format!("{model}: module");
        let mut table = Table::new(&[&module, "largest", "value", "op", "overflows", "inf", "NaN"]);
        let count = |n: usize| if n == 0 { String::new() } else { n.to_string() };
        for range in &self.modules {
            table.row(&[
                range.module.clone(),
                format!("{:.4}", range.largest),
                range.value.clone(),
                range.op.clone(),
                count(range.overflows),
                count(range.infinite),
                count(range.nan),
            ]);
        }
        table
    }

    /// One line about the first value that is not finite.
    pub(super) fn verdict(&self, model: &str) -> String {
        match &self.first_non_finite {
            None => format!("{model}: every value is finite"),
            Some(r) => format!(
                "{model}: first {} in `{}` (`{}`), module `{}`",
                r.what(),
                r.value,
                r.op,
                r.module
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_largest_of_a_module_and_the_first_that_is_not_finite() {
        let meter = Meter::default();
        let see = |name: &str, data: &[f32], overflows| {
            let seen = Seen {
                name,
                kind: "mul",
                shape: &[data.len()],
                data,
                overflows,
            };
            meter.see(&seen).unwrap();
        };
        see("a", &[1.0, -3.0], 0);
        see("b", &[2.0, f32::INFINITY], 1);
        see("c", &[f32::NAN, 5.0], 0);
        let values: Vec<ValueInfo> = [("a", "conv_in"), ("b", "conv_in"), ("c", "")]
            .map(|(name, module)| ValueInfo {
                name: name.into(),
                kind: "mul".into(),
                module: module.into(),
                returned: false,
            })
            .into();
        let ranges = Ranges::new(&meter, &values);
        let rows: Vec<_> = ranges
            .modules
            .iter()
            .map(|r| {
                (
                    r.module.as_str(),
                    r.value.as_str(),
                    r.overflows,
                    r.infinite,
                    r.nan,
                )
            })
            .collect();
        assert_eq!(rows, [("conv_in", "b", 1, 1, 0), ("–", "c", 0, 0, 1)]);
        assert_eq!(ranges.modules[1].largest, 5.0);
        assert_eq!(
            ranges.verdict("Unet"),
            "Unet: first overflow in `b` (`mul`), module `conv_in`"
        );
    }
}
