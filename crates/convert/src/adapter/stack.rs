//! From the factors of several adapters to the inputs of one adaptable program.

use super::RANK_STEP;
use crate::slots::{Role, Slot, SlotTable};
use crate::{Error, Result};
use std::collections::BTreeMap;

/// What one prediction of an adapter package hands out, with the names of its rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Factors {
    /// Name of the adapter.
    pub adapter: String,
    /// Rank r of every row.
    pub rank: usize,
    /// Which row carries what.
    pub rows: Vec<Slot>,
    /// `adapter_W [m_W, r, W]` in row-major order, by name.
    pub tensors: BTreeMap<String, Vec<f32>>,
}

/// An input of an adaptable program.
#[derive(Clone, Debug, PartialEq)]
pub struct SlotTensor {
    /// `[n_W, R, W]`.
    pub shape: [usize; 3],
    /// Elements in row-major order.
    pub data: Vec<f32>,
}

/// The inputs `adapter_W [n_W, R, W]` of the program whose rows are `table`, R being the table's rank.
///
/// Every adapter's rows are looked up by component, module and role. Within one module the adapters lie one after the other
/// along the rank (outside the taps of a convolution), in the order of the list; each takes its own rank r, also where its module
/// is padded with zeros; the rest is zero. Rows of `up` are multiplied by the adapter's strength (in f32). The sum of `up · down` over the rank is therefore
/// Σ strength · ΔW. Factors that a package computed with a scale other than 1 carry that scale already.
///
/// Errors: [`Error::Stack`] when a module's ranks add up to more than R, with the R that would do; [`Error::Layout`] for a row
/// that the table does not have; [`Error::Factors`] for a tensor of the wrong size.
pub fn stack(
    adapters: &[(&Factors, f32)],
    table: &SlotTable,
) -> Result<BTreeMap<String, SlotTensor>> {
    check_ranks(adapters, table)?;
    let rank = table.rank();
    let mut inputs: BTreeMap<String, SlotTensor> = table
        .widths()
        .into_iter()
        .map(|(width, rows)| {
            let tensor = SlotTensor {
                shape: [rows, rank, width],
                data: vec![0.0; rows * rank * width],
            };
            (SlotTable::input_name(width), tensor)
        })
        .collect();
    let mut taken: BTreeMap<(&str, &str, Role), usize> = BTreeMap::new();
    for &(factors, strength) in adapters {
        for row in &factors.rows {
            let from = source(factors, row)?;
            let slot = slot(factors, row, table)?;
            let start = taken
                .entry((&row.component, &row.module, row.role))
                .or_default();
            let at = (slot.row * rank + *start * slot.taps) * slot.width;
            *start += factors.rank;
            let to = inputs
                .get_mut(&SlotTable::input_name(slot.width))
                .and_then(|tensor| tensor.data.get_mut(at..at + from.len()))
                .ok_or_else(|| misfit(factors, row, table))?;
            let factor = if row.role == Role::Up { strength } else { 1.0 };
            for (t, &f) in to.iter_mut().zip(from) {
                *t = factor * f;
            }
        }
    }
    Ok(inputs)
}

/// The `[r, taps, W]` of one factor.
fn source<'a>(factors: &'a Factors, row: &Slot) -> Result<&'a [f32]> {
    let name = SlotTable::input_name(row.width);
    let rows = factors
        .rows
        .iter()
        .filter(|r| r.width == row.width)
        .fold(0usize, |n, r| n.saturating_add(r.taps));
    let size = factors.rank.saturating_mul(row.width);
    let tensor = factors.tensors.get(&name).map_or(&[][..], |t| t);
    let wrong = || Error::Factors {
        adapter: factors.adapter.clone(),
        tensor: name.clone(),
        expected: rows.saturating_mul(size),
        found: tensor.len(),
    };
    if rows.checked_mul(size) != Some(tensor.len()) {
        return Err(wrong());
    }
    let start = row.row.checked_mul(size).ok_or_else(wrong)?;
    let length = row.taps.checked_mul(size).ok_or_else(wrong)?;
    tensor
        .get(start..)
        .and_then(|rest| rest.get(..length))
        .ok_or_else(wrong)
}

fn slot<'a>(factors: &Factors, row: &Slot, table: &'a SlotTable) -> Result<&'a Slot> {
    table
        .row(&row.component, &row.module, row.role)
        .filter(|slot| (slot.width, slot.taps) == (row.width, row.taps))
        .ok_or_else(|| misfit(factors, row, table))
}

fn misfit(factors: &Factors, row: &Slot, table: &SlotTable) -> Error {
    Error::Layout {
        adapter: factors.adapter.clone(),
        component: row.component.clone(),
        expected: crate::asset::hex(&table.layout_hash()),
        found: format!("one with a row of width {} for `{}`", row.width, row.module),
    }
}

fn check_ranks(adapters: &[(&Factors, f32)], table: &SlotTable) -> Result<()> {
    let mut sums: BTreeMap<(&str, Role), usize> = BTreeMap::new();
    for (factors, _) in adapters {
        for row in &factors.rows {
            *sums.entry((&row.module, row.role)).or_default() += factors.rank;
        }
    }
    let Some((&(module, _), &rank)) = sums.iter().max_by_key(|&(_, &sum)| sum) else {
        return Ok(());
    };
    if rank <= table.rank() {
        return Ok(());
    }
    let names: Vec<String> = adapters
        .iter()
        .map(|(f, _)| format!("`{}` (rank {})", f.adapter, f.rank))
        .collect();
    Err(Error::Stack {
        adapters: names.join(", "),
        module: module.into(),
        rank,
        slots: table.rank(),
        needed: rank.next_multiple_of(RANK_STEP),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slots::SlotModule;

    fn table(rank: usize) -> SlotTable {
        let module = |module: &str, inputs, outputs| SlotModule {
            component: "unet".into(),
            module: module.into(),
            inputs,
            outputs,
            kernel: 1,
        };
        SlotTable::new(rank, vec![module("a", 2, 3), module("b", 3, 3)])
    }

    /// Factors of rank `rank` for one module, all of whose values are `value`.
    fn factors(module: &str, rank: usize, value: f32) -> Factors {
        let wanted = table(4);
        let mut next: BTreeMap<usize, usize> = BTreeMap::new();
        let rows: Vec<Slot> = wanted
            .rows()
            .iter()
            .filter(|row| row.module == module)
            .map(|row| {
                let number = next.entry(row.width).or_default();
                *number += 1;
                Slot {
                    row: *number - 1,
                    ..row.clone()
                }
            })
            .collect();
        let tensors = next
            .into_iter()
            .map(|(w, n)| (SlotTable::input_name(w), vec![value; n * rank * w]))
            .collect();
        Factors {
            adapter: format!("{module}{rank}"),
            rank,
            rows,
            tensors,
        }
    }

    #[test]
    fn adapters_lie_one_after_the_other_and_strength_is_on_up() {
        let (a, b) = (factors("a", 1, 2.0), factors("a", 2, 3.0));
        let inputs = stack(&[(&a, 0.5), (&b, -1.0)], &table(4)).unwrap();
        let two = &inputs["adapter_2"];
        assert_eq!(two.shape, [1, 4, 2]);
        assert_eq!(two.data, [2.0, 2.0, 3.0, 3.0, 3.0, 3.0, 0.0, 0.0]);
        let three = &inputs["adapter_3"];
        assert_eq!(three.shape, [3, 4, 3]);
        let up_of_a = [[1.0; 3], [-3.0; 3], [-3.0; 3], [0.0; 3]].concat();
        assert_eq!(three.data[..12], up_of_a);
        assert!(three.data[12..].iter().all(|&v| v == 0.0));
    }

    #[test]
    fn convolutions_are_stacked_outside_their_taps() {
        let row = |role, width, row, taps| Slot {
            component: "unet".into(),
            module: "c".into(),
            width,
            role,
            row,
            taps,
        };
        let conv = |rank: usize, first: f32| Factors {
            adapter: "c".into(),
            rank,
            rows: vec![row(Role::Down, 1, 0, 4), row(Role::Up, 2, 0, 1)],
            tensors: BTreeMap::from([
                (
                    "adapter_1".into(),
                    (0..4 * rank).map(|i| first + i as f32).collect(),
                ),
                ("adapter_2".into(), vec![1.0; 2 * rank]),
            ]),
        };
        let module = |module: &str, kernel| SlotModule {
            component: "unet".into(),
            module: module.into(),
            inputs: 1,
            outputs: 2,
            kernel,
        };
        let table = SlotTable::new(4, vec![module("a", 1), module("c", 2)]);
        let (a, b) = (conv(1, 1.0), conv(2, 10.0));
        let inputs = stack(&[(&a, 1.0), (&b, 1.0)], &table).unwrap();
        let one = &inputs["adapter_1"];
        assert_eq!(one.shape, [5, 4, 1]);
        assert_eq!(one.data[..8], [0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 4.0]);
        assert_eq!(
            one.data[8..16],
            [10.0, 11.0, 12.0, 13.0, 14.0, 15.0, 16.0, 17.0]
        );
        assert_eq!(one.data[16..], [0.0; 4]);
        let mut pointwise = conv(1, 1.0);
        pointwise.rows[0].taps = 1;
        pointwise.tensors.insert("adapter_1".into(), vec![1.0]);
        assert!(stack(&[(&pointwise, 1.0)], &table).is_err());
    }

    #[test]
    fn adapters_of_different_modules_do_not_share_rank() {
        let (a, b) = (factors("a", 4, 1.0), factors("b", 4, 1.0));
        assert!(stack(&[(&a, 1.0), (&b, 1.0)], &table(4)).is_ok());
    }

    #[test]
    fn too_much_rank_says_how_much_is_needed() {
        let (a, b) = (factors("a", 3, 1.0), factors("a", 2, 1.0));
        let message = stack(&[(&a, 1.0), (&b, 1.0)], &table(4))
            .unwrap_err()
            .to_string();
        assert_eq!(
            message,
            "the adapters `a3` (rank 3), `a2` (rank 2) together need slots of rank 5 (module `a`), but the base has rank 4\n\nhint: convert the base with `--adapter-rank 32`, use fewer of them at once, or make one asset of all with `gesso adapter --merge`"
        );
    }

    #[test]
    fn no_adapter_is_all_zeros() {
        let inputs = stack(&[], &table(32)).unwrap();
        assert_eq!(inputs["adapter_3"].shape, [3, 32, 3]);
        assert!(inputs.values().all(|t| t.data.iter().all(|&v| v == 0.0)));
    }

    #[test]
    fn factors_of_the_wrong_size_or_place_are_refused() {
        let mut short = factors("a", 1, 1.0);
        short.tensors.insert("adapter_2".into(), vec![1.0]);
        let message = stack(&[(&short, 1.0)], &table(4)).unwrap_err().to_string();
        assert_eq!(
            message,
            "adapter `a1`: `adapter_2` has 1 elements, expected 2"
        );
        let mut far = factors("a", 1, 1.0);
        far.rows[0].row = usize::MAX;
        assert!(stack(&[(&far, 1.0)], &table(4)).is_err());
        let mut unknown = factors("a", 1, 1.0);
        unknown.rows[0].module = "c".into();
        let message = stack(&[(&unknown, 1.0)], &table(4))
            .unwrap_err()
            .to_string();
        assert!(message.contains("row of width 2 for `c`"), "{message}");
    }
}
