//! What a route lost against the exact fp32 merge: signal to noise ratios by module, the whole, and the worst.

use crate::palettize::snr_db;
use crate::place::Prepared;
use crate::source::halves;
use crate::{Error, Result};
use gesso_mil::DType;
use half::f16;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Energy of what is wanted, Σx², and of what is missed, Σ(x − y)².
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Energy {
    /// Σx².
    pub signal: f64,
    /// Σ(x − y)².
    pub noise: f64,
}

impl Energy {
    /// Of `stored` against `exact`.
    pub(crate) fn of(exact: &[f32], stored: impl Iterator<Item = f64>) -> Self {
        let mut energy = Self::default();
        for (&x, y) in exact.iter().zip(stored) {
            let x = f64::from(x);
            energy.signal += x * x;
            energy.noise += (x - y) * (x - y);
        }
        energy
    }

    /// Of what a weight file holds for `exact`: elements of `dtype`, or a palette of `bits` bits.
    ///
    /// Errors: [`Error::Palette`].
    pub(crate) fn of_prepared(
        key: &str,
        exact: &[f32],
        prepared: &Prepared<'_>,
        dtype: DType,
        bits: Option<u8>,
    ) -> Result<Self> {
        match (prepared, dtype) {
            (Prepared::Dense(bytes), DType::Fp16) => {
                Ok(Self::of(exact, halves(bytes).map(f16::to_f64)))
            }
            (Prepared::Dense(bytes), _) => {
                let chunks = bytes.as_chunks::<4>().0.iter();
                Ok(Self::of(
                    exact,
                    chunks.map(|&b| f64::from(f32::from_le_bytes(b))),
                ))
            }
            (Prepared::Palette(palette), _) => {
                let bits = bits.unwrap_or(0);
                let codes = gesso_palette::unpack(&palette.packed, bits, exact.len());
                let codes = codes.map_err(|source| Error::Palette {
                    tensor: key.into(),
                    source,
                })?;
                let values = codes.iter().map(|&code| {
                    let value = palette.lut.get(usize::from(code));
                    value.copied().unwrap_or(f16::ZERO).to_f64()
                });
                Ok(Self::of(exact, values))
            }
        }
    }

    /// 10·log10(signal / noise), rounded to 1/100; `None` when nothing was lost.
    pub fn snr_db(self) -> Option<f64> {
        snr_db(self.signal, self.noise)
    }
}

/// The losses of one component in dB; `None` (`null`) where nothing was lost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Losses {
    /// Over all modules together.
    pub snr_db: Option<f64>,
    /// The lowest among the modules.
    pub lowest_snr_db: Option<f64>,
    /// The module that has it.
    pub lowest: Option<String>,
    /// Every module that the LoRAs change.
    pub modules: BTreeMap<String, Option<f64>>,
}

impl Losses {
    /// By component, from energies by `<component>:<module or tensor>`.
    pub(crate) fn by_component<'a>(
        energies: impl IntoIterator<Item = (&'a str, Energy)>,
    ) -> BTreeMap<String, Self> {
        let mut grouped: BTreeMap<&str, BTreeMap<&str, Energy>> = BTreeMap::new();
        for (key, energy) in energies {
            let (component, module) = key.split_once(':').unwrap_or(("", key));
            grouped.entry(component).or_default().insert(module, energy);
        }
        grouped
            .into_iter()
            .map(|(component, modules)| (component.to_string(), Self::new(&modules)))
            .collect()
    }

    fn new(energies: &BTreeMap<&str, Energy>) -> Self {
        let mut sum = Energy::default();
        let mut losses = Self::default();
        for (&module, &energy) in energies {
            sum.signal += energy.signal;
            sum.noise += energy.noise;
            let db = energy.snr_db();
            if let Some(db) = db
                && losses.lowest_snr_db.is_none_or(|lowest| db < lowest)
            {
                (losses.lowest_snr_db, losses.lowest) = (Some(db), Some(module.into()));
            }
            losses.modules.insert(module.into(), db);
        }
        losses.snr_db = sum.snr_db();
        losses
    }
}

/// Factors of one module: `down [r, n]` and `up [r, m]`, each row of a rank.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub down: &'a [f32],
    pub up: &'a [f32],
}

/// Energies of `upᵀ·down` `[m, n]` of rank `rank` against those of `stored`, without multiplying them out.
///
/// With the errors d = down − down', u = up − up' the difference is uᵀ·down + up'ᵀ·d, whose energy follows from the products of
/// rows with rows: Σ (u·u)(down·down) + 2 (u·up')(down·d) + (up'·up')(d·d) over all pairs of ranks.
pub(crate) fn of_factors(rank: usize, exact: Rows<'_>, stored: Rows<'_>) -> Energy {
    let down = Products::new(rank, exact.down, stored.down);
    let up = Products::new(rank, exact.up, stored.up);
    let mut energy = Energy::default();
    for i in 0..rank {
        for j in 0..rank {
            let at = i * rank + j;
            let [d, u] = [&down, &up].map(|p| p.at(at));
            energy.signal += d.whole * u.whole;
            // (u·up')ij = (u·up)ij − (u·u)ij, and so on.
            let kept = u.whole - u.cross - up.at(j * rank + i).cross + u.error;
            energy.noise += u.error * d.whole
                + 2.0 * (u.cross - u.error) * down.at(j * rank + i).cross
                + kept * d.error;
        }
    }
    energy.noise = energy.noise.max(0.0);
    energy
}

/// Products of rows i and j: exact with exact, error with exact, error with error.
#[derive(Clone, Copy, Default)]
struct Product {
    whole: f64,
    cross: f64,
    error: f64,
}

/// All products of the rows of one factor.
struct Products(Vec<Product>);

/// Columns that are summed in f32 before they go into f64.
const RUN: usize = 256;

impl Products {
    fn new(rank: usize, exact: &[f32], stored: &[f32]) -> Self {
        let width = exact.len().checked_div(rank).unwrap_or(0).max(1);
        let error: Vec<f32> = exact.iter().zip(stored).map(|(x, y)| x - y).collect();
        let rows: Vec<&[f32]> = exact.chunks(width).collect();
        let errors: Vec<&[f32]> = error.chunks(width).collect();
        let mut products = vec![Product::default(); rank * rank];
        for (i, (row, e)) in rows.iter().zip(&errors).enumerate() {
            for (j, (other, f)) in rows.iter().zip(&errors).enumerate() {
                let Some(product) = products.get_mut(i * rank + j) else {
                    continue;
                };
                product.cross = dot(e, other);
                if j >= i {
                    (product.whole, product.error) = (dot(row, other), dot(e, f));
                }
            }
        }
        for i in 0..rank {
            for j in 0..i {
                let Some(&mirror) = products.get(j * rank + i) else {
                    continue;
                };
                if let Some(product) = products.get_mut(i * rank + j) {
                    (product.whole, product.error) = (mirror.whole, mirror.error);
                }
            }
        }
        Self(products)
    }

    fn at(&self, index: usize) -> Product {
        self.0.get(index).copied().unwrap_or_default()
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    let mut sum = 0f64;
    for (a, b) in a.chunks(RUN).zip(b.chunks(RUN)) {
        let (a, a_rest) = a.as_chunks::<8>();
        let (b, b_rest) = b.as_chunks::<8>();
        let mut lanes = [0f32; 8];
        for (a, b) in a.iter().zip(b) {
            for ((lane, x), y) in lanes.iter_mut().zip(a).zip(b) {
                *lane += x * y;
            }
        }
        sum += lanes.iter().map(|&x| f64::from(x)).sum::<f64>();
        let rest = a_rest.iter().zip(b_rest);
        sum += rest
            .map(|(&x, &y)| f64::from(x) * f64::from(y))
            .sum::<f64>();
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn product(rank: usize, rows: Rows<'_>) -> Vec<f64> {
        let (n, m) = (rows.down.len() / rank, rows.up.len() / rank);
        let mut out = vec![0f64; n * m];
        for r in 0..rank {
            for y in 0..m {
                for x in 0..n {
                    out[y * n + x] +=
                        f64::from(rows.up[r * m + y]) * f64::from(rows.down[r * n + x]);
                }
            }
        }
        out
    }

    proptest! {
        #[test]
        fn energies_of_factors_are_those_of_their_products(
            rank in 1usize..6,
            n in 1usize..20,
            m in 1usize..20,
            numbers in prop::collection::vec(-1f32..1.0, 5 * 40),
        ) {
            let exact = Rows { down: &numbers[..rank * n], up: &numbers[numbers.len() - rank * m..] };
            let rounded = |v: &[f32]| v.iter().map(|&x| (x * 64.0).round() / 64.0).collect::<Vec<_>>();
            let (down, up) = (rounded(exact.down), rounded(exact.up));
            let stored = Rows { down: &down, up: &up };
            let found = of_factors(rank, exact, stored);
            let (wanted, kept) = (product(rank, exact), product(rank, stored));
            let signal: f64 = wanted.iter().map(|w| w * w).sum();
            let noise: f64 = wanted.iter().zip(&kept).map(|(w, k)| (w - k).powi(2)).sum();
            prop_assert!((found.signal - signal).abs() <= 1e-4 * signal + 1e-6, "{found:?} {signal}");
            prop_assert!((found.noise - noise).abs() <= 1e-3 * noise + 1e-6 * signal, "{found:?} {noise}");
        }
    }

    #[test]
    fn the_worst_is_named_and_what_lost_nothing_is_none() {
        let energy = |signal, noise| Energy { signal, noise };
        let losses = Losses::by_component([
            ("unet:a", energy(100.0, 1.0)),
            ("unet:b", energy(1.0, 0.1)),
            ("unet:c", energy(1.0, 0.0)),
        ]);
        let unet = &losses["unet"];
        assert_eq!(
            (unet.lowest_snr_db, unet.lowest.as_deref()),
            (Some(10.0), Some("b"))
        );
        assert_eq!(unet.modules["c"], None);
        assert_eq!(unet.snr_db, Some(19.67));
    }
}
