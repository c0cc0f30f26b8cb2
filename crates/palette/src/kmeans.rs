//! Exact one-dimensional k-means.

use half::f16;

use crate::error::{Error, Result};
use crate::grid::{UNIT, round_quotient, to_grid};
use crate::partition::{Prefix, best_division};
use crate::{Palette, check_bits};

/// The best palette of 2^bits values: the table of real numbers with the least sum of squared errors, rounded to half
/// precision (nearest even), and for each element its nearest entry.
///
/// `bits` ∈ {1, 2, 3, 4, 6, 8}. Where at most 2^bits different values occur, the table holds them and nothing is lost.
/// Both zeros count as one value, and the table holds the positive one.
///
/// Errors: `Bits`, `Empty`, `NotFinite`.
pub fn kmeans(values: &[f16], bits: u8) -> Result<Palette> {
    check_bits(bits)?;
    let points = histogram(values)?;
    let entries = 1_usize << bits;
    let (bounds, optimal) = best_division(&Prefix::new(&points), entries.min(points.len()));

    let mut lut: Vec<u16> = bounds
        .windows(2)
        .filter_map(|run| points.get(*run.first()?..*run.last()?))
        .map(rounded_mean)
        .collect();
    let last = lut.last().copied().unwrap_or(0);
    lut.resize(entries, last);

    let grid: Vec<i64> = lut.iter().filter_map(|&bits| to_grid(bits)).collect();
    let mut codes = vec![0_u8; 1 << 16];
    let mut cost = 0_i128;
    let mut code = 0;
    for &(x, count) in &points {
        code = nearest(&grid, x, code);
        let distance = i128::from(x - grid.get(code).copied().unwrap_or(0));
        cost += distance * distance * i128::from(count);
        // `code` is below 256 and the bits of a value index the table.
        let bits = usize::from(round_quotient(x.into(), 1));
        if let Some(slot) = codes.get_mut(bits) {
            *slot = code as u8;
        }
        if x == 0
            && let Some(slot) = codes.get_mut(0x8000)
        {
            *slot = code as u8;
        }
    }
    Ok(Palette {
        lut: lut.into_iter().map(f16::from_bits).collect(),
        indices: values
            .iter()
            .map(|value| {
                codes
                    .get(usize::from(value.to_bits()))
                    .copied()
                    .unwrap_or(0)
            })
            .collect(),
        cost: cost as f64 * (UNIT * UNIT),
        optimal_cost: optimal * (UNIT * UNIT),
    })
}

/// The different values in ascending order, in units of the grid, with their numbers.
fn histogram(values: &[f16]) -> Result<Vec<(i64, i64)>> {
    let mut counts = vec![0_i64; 1 << 16];
    for value in values {
        if let Some(count) = counts.get_mut(usize::from(value.to_bits())) {
            *count += 1;
        }
    }
    let mut points = Vec::new();
    let mut zeros = 0;
    // Negative numbers ascend as their bits descend.
    for bits in (0x8000..=0xffff_u16).rev().chain(0..0x8000) {
        let count = counts.get(usize::from(bits)).copied().unwrap_or(0);
        match to_grid(bits) {
            _ if count == 0 && bits != 0 => {}
            None => return Err(not_finite(values)),
            Some(0) if bits == 0x8000 => zeros = count,
            Some(0) if zeros + count > 0 => points.push((0, zeros + count)),
            Some(0) => {}
            Some(x) => points.push((x, count)),
        }
    }
    if points.is_empty() {
        return Err(Error::Empty);
    }
    Ok(points)
}

/// The error for the first value that is no finite number.
fn not_finite(values: &[f16]) -> Error {
    let found = values.iter().enumerate().find(|(_, v)| !v.is_finite());
    let (index, value) = found.map_or((0, f16::NAN), |(index, value)| (index, *value));
    Error::NotFinite { index, value }
}

/// Bits of the mean of a run, rounded once.
fn rounded_mean(run: &[(i64, i64)]) -> u16 {
    let sum = run
        .iter()
        .map(|&(x, count)| i128::from(x) * i128::from(count))
        .sum();
    let weight = run.iter().map(|&(_, count)| count).sum::<i64>();
    round_quotient(sum, weight.max(1))
}

/// Index of the entry nearest to `x`, the lowest of equally near ones, in an ascending table; not below `from`, which is
/// the answer for a smaller `x`.
fn nearest(grid: &[i64], x: i64, from: usize) -> usize {
    let mut best = from;
    for (code, &entry) in grid.iter().enumerate().skip(from + 1) {
        let current = grid.get(best).copied().unwrap_or(entry);
        if (entry - x).abs() < (current - x).abs() {
            best = code;
        } else if entry > x {
            break;
        }
    }
    best
}
