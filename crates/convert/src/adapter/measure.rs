//! What an asset's factors lose against the exact differences of its modules.

use super::factors::{ComponentFactors, Exact};
use crate::built::GENERATED;
use crate::loss::{Energy, Losses, Rows, of_factors};
use crate::palettize::palettize;
use crate::place::Bits;
use crate::slots::{Role, Slot};
use crate::source::Elements;
use crate::{Error, Result};
use half::f16;
use rayon::prelude::*;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Losses by component: of every module's ΔW as the asset hands it out, fp16 rounding, palettes and approximation included.
///
/// Errors: [`Error::Palette`].
pub(super) fn losses(
    exact: &BTreeMap<String, Exact>,
    components: &BTreeMap<String, ComponentFactors>,
    plans: &BTreeMap<String, Bits>,
) -> Result<BTreeMap<String, Losses>> {
    let mut energies: Vec<(String, Energy)> = Vec::with_capacity(exact.len());
    for (component, factors) in components {
        let stored = stored(factors, plans.get(component))?;
        let found: Vec<(String, Energy)> = factors
            .rows
            .par_iter()
            .filter(|row| row.role == Role::Down)
            .filter_map(|down| {
                let key = format!("{component}:{}", down.module);
                let exact = exact.get(&key)?;
                let of_up = |row: &&Slot| row.role == Role::Up && row.module == down.module;
                let up = factors.rows.iter().find(of_up)?;
                let rank = factors.rank;
                let rows = Rows {
                    down: part(&stored, down, rank)?,
                    up: part(&stored, up, rank)?,
                };
                let kept = energy(exact, rank, rows);
                Some((key, with_approximation(kept, exact.lost)))
            })
            .collect();
        energies.extend(found);
    }
    Ok(Losses::by_component(
        energies.iter().map(|(key, energy)| (key.as_str(), *energy)),
    ))
}

/// The tensors as the package hands them out.
fn stored<'a>(
    factors: &'a ComponentFactors,
    bits: Option<&Bits>,
) -> Result<BTreeMap<usize, Cow<'a, [f32]>>> {
    let mut stored = BTreeMap::new();
    for (&width, elements) in &factors.tensors {
        let key = format!("{GENERATED}factors_{width}");
        let values = match bits.and_then(|plan| plan.get(&key)) {
            Some(&bits) => Cow::Owned(through_palette(&key, elements, bits)?),
            None => Cow::Borrowed(elements.as_slice()),
        };
        stored.insert(width, values);
    }
    Ok(stored)
}

fn through_palette(key: &str, elements: &[f32], bits: u8) -> Result<Vec<f32>> {
    let palette = palettize(key, Elements::F32(Cow::Borrowed(elements)), bits)?;
    let codes = gesso_palette::unpack(&palette.packed, bits, elements.len());
    let codes = codes.map_err(|source| Error::Palette {
        tensor: key.into(),
        source,
    })?;
    let value = |code: &u8| palette.lut.get(usize::from(*code)).map(|v| v.to_f32());
    let values = codes.iter().map(value);
    Ok(values.map(|v| v.unwrap_or(f16::ZERO.to_f32())).collect())
}

/// The elements of one factor, padding included.
fn part<'a>(
    stored: &'a BTreeMap<usize, Cow<'_, [f32]>>,
    row: &Slot,
    rank: usize,
) -> Option<&'a [f32]> {
    let size = rank * row.width;
    let tensor = stored.get(&row.width)?;
    tensor.get(row.row * size..)?.get(..row.taps * size)
}

/// Of the stored factors of rank `rank` against the exact ones, which may be of a smaller rank.
fn energy(exact: &Exact, rank: usize, stored: Rows<'_>) -> Energy {
    let (down, up) = (exact.down.len(), exact.up.len());
    let is_zero = |values: Option<&[f32]>| values.is_none_or(|v| v.iter().all(|&x| x == 0.0));
    if is_zero(stored.down.get(down..)) && is_zero(stored.up.get(up..)) {
        let rows = Rows {
            down: &exact.down,
            up: &exact.up,
        };
        return of_factors(exact.rank, rows, stored);
    }
    let padded = |values: &[f32], len: usize| {
        let mut padded = values.to_vec();
        padded.resize(len, 0.0);
        padded
    };
    let (down, up) = (
        padded(&exact.down, stored.down.len()),
        padded(&exact.up, stored.up.len()),
    );
    let rows = Rows {
        down: &down,
        up: &up,
    };
    of_factors(rank, rows, stored)
}

/// With the share `lost` of ‖ΔW‖² that the factors do not have from the start. Singular vectors that were left out are orthogonal
/// to those that were kept and so to what rounding does to them, so the two add up.
fn with_approximation(kept: Energy, lost: f64) -> Energy {
    let signal = kept.signal / (1.0 - lost).max(f64::EPSILON);
    Energy {
        signal,
        noise: kept.noise + lost * signal,
    }
}
