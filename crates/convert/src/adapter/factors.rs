//! From the modules of a LoRA to fp16 factors in rows.

use super::difference::{Limits, Module, Refusal};
use super::refused::{Refused, accepted};
use crate::folder::FolderInfo;
use crate::loss::Losses;
use crate::slots::{Role, Slot, SlotTable};
use crate::{Error, Result};
use gesso_weights::Component;
use gesso_weights::lora::{Adapter, LowRank, ResolvedLora};
use half::f16;
use rayon::prelude::*;
use serde::Serialize;
use std::collections::BTreeMap;

/// A module whose difference is not carried exactly.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TruncatedModule {
    /// Component.
    pub component: String,
    /// Module path.
    pub module: String,
    /// What the LoRA does to it, for instance `lora`, `full` or `dora(lora)`; of several LoRAs joined by ` + `.
    pub algorithm: String,
    /// Rank of the difference: that of the factors in the LoRA, else the shorter side of the weight.
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
    /// By component, what the factors as they are stored lose against the exact differences ΔW; by module.
    pub losses: BTreeMap<String, Losses>,
    /// Modules that lost something beyond rounding, in order of component and path.
    pub truncated: Vec<TruncatedModule>,
    /// Tensors of the file that nothing uses, with the reason or the pattern that named them.
    pub ignored: BTreeMap<String, String>,
    /// What a user should know about the file.
    pub warnings: Vec<String>,
    /// Lowest signal to noise ratio of a palettized tensor in dB per component; empty without palettes.
    pub snr_db: BTreeMap<String, f64>,
}

/// What the file holds and nothing uses, by key.
pub(crate) fn ignored(lora: &ResolvedLora) -> BTreeMap<String, String> {
    lora.ignored
        .iter()
        .map(|i| (i.key.clone(), i.reason.clone()))
        .collect()
}

/// The same of several LoRAs: each key after the name of its LoRA, as `<name>:<key>`.
fn all_ignored(terms: &[Term<'_>]) -> BTreeMap<String, String> {
    match terms {
        [one] => ignored(one.lora),
        _ => terms
            .iter()
            .flat_map(|term| {
                let name = term.lora.name();
                let keys = ignored(term.lora).into_iter();
                keys.map(move |(key, reason)| (format!("{name}:{key}"), reason))
            })
            .collect(),
    }
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

/// fp16 factors of one module: `down [r, taps, I]` and `up` transposed, `[r, O]`.
struct Balanced {
    rank: usize,
    /// Elements of the kernel: `down` is `[r, taps, I]`.
    taps: usize,
    down: Vec<f32>,
    up: Vec<f32>,
    exact: Exact,
}

/// The factors of one module before they are rounded: `down [r, taps, I]`, `up [r, O]`.
#[derive(Default)]
pub(super) struct Exact {
    pub rank: usize,
    pub down: Vec<f32>,
    pub up: Vec<f32>,
    /// Share of ‖ΔW‖² that they miss already.
    pub lost: f64,
}

/// A LoRA in a sum: its strengths for the UNet and for the text encoders.
#[derive(Clone, Copy)]
pub(super) struct Term<'a> {
    pub lora: &'a ResolvedLora,
    pub unet: f32,
    pub text_encoder: f32,
}

/// What [`compute`] made.
pub(super) struct Computed {
    pub components: BTreeMap<String, ComponentFactors>,
    /// By `<component>:<module>`.
    pub exact: BTreeMap<String, Exact>,
    pub report: AdapterReport,
    /// Whether any difference was taken from the base's weights.
    pub reads_base: bool,
}

pub(super) fn compute(
    terms: &[Term<'_>],
    base: &FolderInfo,
    slots: &BTreeMap<String, SlotTable>,
    limits: Limits<'_>,
) -> Result<Computed> {
    if slots.is_empty() {
        return Err(Error::NoAdaptable {
            base: base.origin.name.clone(),
        });
    }
    let modules = slotted(terms, base, slots, limits)?;
    let made: Vec<Result<_, Refusal>> = modules
        .par_iter()
        .map(|module| {
            let (factors, truncated) = module.factors(limits)?;
            let taps = module.slot.taps();
            let mut balanced = balance(&factors, taps, &module.key())?;
            balanced.exact.lost = truncated.as_ref().map_or(0.0, |t| t.lost_energy);
            Ok((balanced, truncated))
        })
        .collect();
    let made = accepted(&modules, made, limits.name, base)?;
    let mut report = AdapterReport {
        name: limits.name.into(),
        modules: BTreeMap::new(),
        rank: BTreeMap::new(),
        losses: BTreeMap::new(),
        truncated: Vec::new(),
        ignored: all_ignored(terms),
        warnings: terms
            .iter()
            .flat_map(|term| term.lora.warnings.iter().cloned())
            .collect(),
        snr_db: BTreeMap::new(),
    };
    let mut grouped: BTreeMap<String, BTreeMap<&str, Balanced>> = BTreeMap::new();
    let mut exact = BTreeMap::new();
    for (module, (mut balanced, truncated)) in modules.iter().zip(made) {
        exact.insert(module.key(), std::mem::take(&mut balanced.exact));
        report.truncated.extend(truncated);
        grouped
            .entry(module.component.as_str().to_string())
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
    let reads_base = modules
        .iter()
        .any(|m| m.parts.iter().any(|(adapter, _)| adapter.reads_base()));
    Ok(Computed {
        components,
        exact,
        report,
        reads_base,
    })
}

/// The modules that the LoRAs change; all of them must have a slot of their shape.
fn slotted<'a>(
    terms: &[Term<'a>],
    base: &FolderInfo,
    slots: &'a BTreeMap<String, SlotTable>,
    limits: Limits<'_>,
) -> Result<Vec<Module<'a>>> {
    let mut parts: BTreeMap<(Component, &str), Vec<(&Adapter, f32)>> = BTreeMap::new();
    for term in terms {
        for ((component, path), adapter) in &term.lora.modules {
            let strength = match component {
                Component::TextEncoder | Component::TextEncoder2 => term.text_encoder,
                _ => term.unet,
            };
            parts
                .entry((*component, path))
                .or_default()
                .push((adapter, strength));
        }
    }
    let mut found = Vec::new();
    let mut refused = Refused::default();
    for ((component, path), parts) in parts {
        match Module::new(component, path, parts, slots, limits.weights.is_some()) {
            Ok(module) => found.push(module),
            Err(refusal) => refused.add(format!("{}:{path}", component.as_str()), refusal)?,
        }
    }
    refused.none(limits.name, base)?;
    Ok(found)
}

/// Folds the scale into `up` and moves a power of two between row i of `down` and column i of `up`, so that their largest
/// absolute values differ by a factor below 4; then rounds once to fp16. Of a convolution with `taps` elements in its kernel a row
/// of `down` is turned from `[I, taps]` to `[taps, I]`.
fn balance(factors: &LowRank, taps: usize, key: &str) -> Result<Balanced> {
    let (inputs, outputs, rank) = (factors.inputs(), factors.outputs(), factors.rank);
    let mut balanced = Balanced {
        rank,
        taps,
        down: Vec::with_capacity(rank * inputs),
        up: Vec::with_capacity(rank * outputs),
        exact: Exact {
            rank,
            down: Vec::with_capacity(rank * inputs),
            up: Vec::with_capacity(rank * outputs),
            lost: 0.0,
        },
    };
    for (i, row) in factors.down.chunks_exact(inputs.max(1)).enumerate() {
        let down: Vec<f64> = (0..taps)
            .flat_map(|tap| row.iter().skip(tap).step_by(taps.max(1)))
            .map(|&v| f64::from(v))
            .collect();
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
        let exact = &mut balanced.exact;
        round(&down, -shift, key, &mut balanced.down, &mut exact.down)?;
        round(&up, shift, key, &mut balanced.up, &mut exact.up)?;
    }
    Ok(balanced)
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |m, v| m.max(v.abs()))
}

fn round(
    values: &[f64],
    shift: i32,
    key: &str,
    into: &mut Vec<f32>,
    exact: &mut Vec<f32>,
) -> Result<()> {
    for &v in values {
        let scaled = libm::scalbn(v, shift);
        let h = f16::from_f64(scaled);
        if !h.is_finite() {
            return Err(Error::Unrepresentable {
                key: key.into(),
                value: v as f32,
                dtype: "fp16",
            });
        }
        into.push(h.to_f32());
        exact.push(scaled as f32);
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
        for (role, factor, taps) in [
            (Role::Down, &module.down, module.taps),
            (Role::Up, &module.up, 1),
        ] {
            let width = factor.len().checked_div(module.rank * taps).unwrap_or(0);
            let row = next.entry(width).or_default();
            rows.push(Slot {
                component: component.into(),
                module: path.into(),
                width,
                role,
                row: *row,
                taps,
            });
            *row += taps;
            let tensor = tensors.entry(width).or_default();
            tensor.extend(factor);
            tensor.resize(tensor.len() + (rank - module.rank) * taps * width, 0.0);
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
        let balanced = balance(&factors, 1, "unet:a").unwrap();
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
    fn a_convolution_has_its_taps_outside_its_inputs() {
        // down [1, I = 2, k² = 4], padded to rank 2.
        let factors = LowRank {
            rank: 1,
            down: (1..=8).map(|x| x as f32).collect(),
            up: vec![8.0],
            scale: 1.0,
        };
        let balanced = balance(&factors, 4, "unet:a").unwrap();
        let wanted = [1.0, 5.0, 2.0, 6.0, 3.0, 7.0, 4.0, 8.0];
        assert_eq!(balanced.down, wanted);
        let two = Balanced {
            rank: 2,
            taps: 1,
            down: vec![1.0; 4],
            up: vec![1.0; 2],
            exact: Exact::default(),
        };
        let factors = arrange("unet", &BTreeMap::from([("a", balanced), ("b", two)]));
        let rows: Vec<_> = factors
            .rows
            .iter()
            .map(|s| (s.width, s.row, s.taps))
            .collect();
        assert_eq!(rows, [(2, 0, 4), (1, 0, 1), (2, 4, 1), (1, 1, 1)]);
        let wanted = [&wanted[..], &[0.0; 8], &[1.0; 4]].concat();
        assert_eq!(factors.tensors[&2], wanted);
        assert_eq!(factors.tensors[&1], [8.0, 0.0, 1.0, 1.0]);
    }

    #[test]
    fn a_zero_row_stays_zero() {
        let factors = LowRank {
            rank: 1,
            down: vec![0.0, 0.0],
            up: vec![1.0],
            scale: 1.0,
        };
        let balanced = balance(&factors, 1, "unet:a").unwrap();
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
        let message = balance(&factors, 1, "unet:a").err().map(|e| e.to_string());
        assert!(message.is_some_and(|m| m.starts_with("tensor `unet:a` holds ")));
    }

    #[test]
    fn smaller_ranks_are_padded_with_zeros() {
        let module = |rank: usize| Balanced {
            rank,
            taps: 1,
            down: vec![1.0; 2 * rank],
            up: vec![1.0; 2 * rank],
            exact: Exact::default(),
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
