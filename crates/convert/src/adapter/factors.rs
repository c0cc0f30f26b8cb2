//! From the modules of a LoRA to fp16 factors in rows.

use super::RANK_STEP;
use crate::folder::FolderInfo;
use crate::slots::{Role, Slot, SlotTable};
use crate::{Error, Result};
use gesso_weights::lora::{Adapter, LowRank, ResolvedLora, truncate};
use half::f16;
use rayon::prelude::*;
use serde::Serialize;
use std::collections::BTreeMap;

/// A module whose rank was cut.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TruncatedModule {
    /// Component.
    pub component: String,
    /// Module path.
    pub module: String,
    /// Rank in the LoRA.
    pub rank: usize,
    /// Rank in the asset.
    pub kept: usize,
    /// Share of ‖ΔW‖² that is lost, 0 to 1.
    pub lost_energy: f64,
}

/// What became of a LoRA.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AdapterReport {
    /// Name of the adapter.
    pub name: String,
    /// Modules per component.
    pub modules: BTreeMap<String, usize>,
    /// Rank of the rows per component.
    pub rank: BTreeMap<String, usize>,
    /// Modules whose rank was cut, in order of component and path.
    pub truncated: Vec<TruncatedModule>,
    /// Tensors of the file that nothing uses, with the reason or the pattern that named them.
    pub ignored: BTreeMap<String, String>,
    /// What a user should know about the file.
    pub warnings: Vec<String>,
}

/// What the file holds and nothing uses, by key.
pub(crate) fn ignored(lora: &ResolvedLora) -> BTreeMap<String, String> {
    lora.ignored
        .iter()
        .map(|i| (i.key.clone(), i.reason.clone()))
        .collect()
}

/// The rows of one component.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ComponentFactors {
    /// Rank r of every row; modules of a smaller rank are padded with zeros.
    pub rank: usize,
    /// Which row carries what, numbered from 0 per width.
    pub rows: Vec<Slot>,
    /// `[m_W, r, W]` by width, every value exact in fp16.
    pub tensors: BTreeMap<usize, Vec<f32>>,
}

/// fp16 factors of one module: `down [r, I]` and `up` transposed, `[r, O]`.
struct Balanced {
    rank: usize,
    down: Vec<f32>,
    up: Vec<f32>,
}

struct Module<'a> {
    component: &'static str,
    path: &'a str,
    factors: LowRank,
}

pub(crate) fn compute(
    lora: &ResolvedLora,
    name: &str,
    base: &FolderInfo,
    slots: &BTreeMap<String, SlotTable>,
    exact: bool,
) -> Result<(BTreeMap<String, ComponentFactors>, AdapterReport)> {
    if slots.is_empty() {
        return Err(Error::NoAdaptable {
            base: base.origin.name.clone(),
        });
    }
    let modules = slotted(lora, name, slots)?;
    let cut: Vec<_> = modules
        .par_iter()
        .map(|module| cut(module, name, slots, exact))
        .collect();
    let mut report = AdapterReport {
        name: name.into(),
        modules: BTreeMap::new(),
        rank: BTreeMap::new(),
        truncated: Vec::new(),
        ignored: ignored(lora),
        warnings: lora.warnings.clone(),
    };
    let mut grouped: BTreeMap<String, BTreeMap<&str, Balanced>> = BTreeMap::new();
    for (module, outcome) in modules.iter().zip(cut) {
        let (balanced, truncated) = outcome?;
        report.truncated.extend(truncated);
        grouped
            .entry(module.component.to_string())
            .or_default()
            .insert(module.path, balanced);
    }
    let mut components = BTreeMap::new();
    for (component, modules) in grouped {
        let factors = arrange(&component, &modules);
        report.modules.insert(component.clone(), modules.len());
        report.rank.insert(component.clone(), factors.rank);
        components.insert(component, factors);
    }
    Ok((components, report))
}

/// The modules of `lora` with their exact factors; all of them must have a slot of their shape.
fn slotted<'a>(
    lora: &'a ResolvedLora,
    name: &str,
    slots: &BTreeMap<String, SlotTable>,
) -> Result<Vec<Module<'a>>> {
    let mut found = Vec::new();
    let mut refused = Vec::new();
    for ((component, path), adapter) in &lora.modules {
        let component = component.as_str();
        match factors_for(component, path, adapter, slots.get(component)) {
            Ok(factors) => found.push(Module {
                component,
                path,
                factors,
            }),
            Err(reason) => refused.push(format!("`{component}:{path}` ({reason})")),
        }
    }
    if refused.is_empty() {
        return Ok(found);
    }
    let count = refused.len();
    refused.truncate(8);
    if count > refused.len() {
        refused.push("…".into());
    }
    Err(Error::NoSlot {
        adapter: name.into(),
        count,
        modules: refused.join(", "),
    })
}

fn factors_for(
    component: &str,
    path: &str,
    adapter: &Adapter,
    table: Option<&SlotTable>,
) -> Result<LowRank, String> {
    let table = table.ok_or("the base has no slots for this component")?;
    let slot = table
        .modules()
        .iter()
        .find(|m| m.component == component && m.module == path)
        .ok_or("no slot: not an attention, feed-forward or projection layer")?;
    let bias = adapter.bias_delta(&vec![0.0; slot.outputs]);
    if !matches!(bias, Ok(None)) {
        return Err("it changes the bias".into());
    }
    let factors = adapter.low_rank().ok_or_else(|| {
        let dora = if adapter.is_dora() { "DoRA on " } else { "" };
        format!("{dora}`{}` has no exact low-rank form", adapter.algorithm())
    })?;
    if factors.inputs() != slot.inputs || factors.outputs() != slot.outputs {
        return Err(format!(
            "it is {}x{}, the slot {}x{}",
            factors.outputs(),
            factors.inputs(),
            slot.outputs,
            slot.inputs
        ));
    }
    Ok(factors)
}

fn cut(
    module: &Module<'_>,
    name: &str,
    slots: &BTreeMap<String, SlotTable>,
    exact: bool,
) -> Result<(Balanced, Option<TruncatedModule>)> {
    let rank = module.factors.rank;
    let limit = slots.get(module.component).map_or(0, SlotTable::rank);
    let key = format!("{}:{}", module.component, module.path);
    if rank <= limit {
        return Ok((balance(&module.factors, &key)?, None));
    }
    if exact {
        return Err(Error::Rank {
            adapter: name.into(),
            module: key,
            rank,
            slots: limit,
            needed: rank.next_multiple_of(RANK_STEP),
        });
    }
    let (factors, lost_energy) = truncate(&module.factors, limit);
    let truncated = TruncatedModule {
        component: module.component.into(),
        module: module.path.into(),
        rank,
        kept: factors.rank,
        lost_energy,
    };
    Ok((balance(&factors, &key)?, Some(truncated)))
}

/// Folds the scale into `up` and moves a power of two between row i of `down` and column i of `up`, so that their largest
/// absolute values differ by a factor below 4; then rounds once to fp16.
fn balance(factors: &LowRank, key: &str) -> Result<Balanced> {
    let (inputs, outputs, rank) = (factors.inputs(), factors.outputs(), factors.rank);
    let mut balanced = Balanced {
        rank,
        down: Vec::with_capacity(rank * inputs),
        up: Vec::with_capacity(rank * outputs),
    };
    for (i, row) in factors.down.chunks_exact(inputs.max(1)).enumerate() {
        let down: Vec<f64> = row.iter().map(|&v| f64::from(v)).collect();
        let up: Vec<f64> = factors
            .up
            .iter()
            .skip(i)
            .step_by(rank.max(1))
            .map(|&v| f64::from(v) * f64::from(factors.scale))
            .collect();
        let shift = match (largest(&down), largest(&up)) {
            (d, u) if d > 0.0 && u > 0.0 => (libm::ilogb(d) - libm::ilogb(u)) / 2,
            _ => 0,
        };
        round(&down, -shift, key, &mut balanced.down)?;
        round(&up, shift, key, &mut balanced.up)?;
    }
    Ok(balanced)
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |m, v| m.max(v.abs()))
}

fn round(values: &[f64], shift: i32, key: &str, into: &mut Vec<f32>) -> Result<()> {
    for &v in values {
        let h = f16::from_f64(libm::scalbn(v, shift));
        if !h.is_finite() {
            return Err(Error::Unrepresentable {
                key: key.into(),
                value: v as f32,
                dtype: "fp16",
            });
        }
        into.push(h.to_f32());
    }
    Ok(())
}

/// Numbers the rows as a slot table would and lays the factors out in them.
fn arrange(component: &str, modules: &BTreeMap<&str, Balanced>) -> ComponentFactors {
    let rank = modules.values().map(|m| m.rank).max().unwrap_or(0);
    let mut next: BTreeMap<usize, usize> = BTreeMap::new();
    let mut rows = Vec::with_capacity(2 * modules.len());
    let mut tensors: BTreeMap<usize, Vec<f32>> = BTreeMap::new();
    for (&path, module) in modules {
        for (role, factor) in [(Role::Down, &module.down), (Role::Up, &module.up)] {
            let width = factor.len().checked_div(module.rank).unwrap_or(0);
            let row = next.entry(width).or_default();
            rows.push(Slot {
                component: component.into(),
                module: path.into(),
                width,
                role,
                row: *row,
            });
            *row += 1;
            let tensor = tensors.entry(width).or_default();
            tensor.extend(factor);
            tensor.resize(tensor.len() + (rank - module.rank) * width, 0.0);
        }
    }
    ComponentFactors {
        rank,
        rows,
        tensors,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balanced_factors_keep_their_product_and_every_digit() {
        // fp16 has no 1e-6 with eleven digits, and no 70000 at all; together the two are harmless.
        let down = vec![1e-6 * 1.5, 1e-6 * 1.25, 3.0, 4.0];
        let up = vec![70000.0, 0.5, 65536.0, -0.25];
        let factors = LowRank {
            rank: 2,
            down: down.clone(),
            up: up.clone(),
            scale: 0.5,
        };
        let balanced = balance(&factors, "unet:a").unwrap();
        for o in 0..2 {
            for i in 0..2 {
                let wanted: f64 = (0..2)
                    .map(|r| 0.5 * f64::from(up[2 * o + r]) * f64::from(down[2 * r + i]))
                    .sum();
                let found: f64 = (0..2)
                    .map(|r| {
                        f64::from(balanced.up[2 * r + o]) * f64::from(balanced.down[2 * r + i])
                    })
                    .sum();
                assert!(
                    (wanted - found).abs() <= 1e-3 * wanted.abs(),
                    "{wanted} {found}"
                );
            }
        }
        let largest = balanced
            .up
            .iter()
            .chain(&balanced.down)
            .fold(0f32, |m, v| m.max(v.abs()));
        assert!(largest < 64.0, "{largest}");
    }

    #[test]
    fn a_zero_row_stays_zero() {
        let factors = LowRank {
            rank: 1,
            down: vec![0.0, 0.0],
            up: vec![1.0],
            scale: 1.0,
        };
        let balanced = balance(&factors, "unet:a").unwrap();
        assert_eq!(balanced.down, [0.0, 0.0]);
        assert_eq!(balanced.up, [1.0]);
    }

    #[test]
    fn a_product_that_fp16_cannot_hold_is_an_error() {
        let factors = LowRank {
            rank: 1,
            down: vec![1e20],
            up: vec![1e20],
            scale: 1.0,
        };
        let message = balance(&factors, "unet:a").err().map(|e| e.to_string());
        assert!(message.is_some_and(|m| m.starts_with("tensor `unet:a` holds ")));
    }

    #[test]
    fn smaller_ranks_are_padded_with_zeros() {
        let module = |rank: usize| Balanced {
            rank,
            down: vec![1.0; 2 * rank],
            up: vec![1.0; 2 * rank],
        };
        let factors = arrange(
            "unet",
            &BTreeMap::from([("a", module(1)), ("b", module(2))]),
        );
        assert_eq!(factors.rank, 2);
        let pad = [[1.0, 1.0, 0.0, 0.0]; 2].concat();
        assert_eq!(factors.tensors[&2], [pad, vec![1.0; 8]].concat());
    }
}
