//! Palettes: `constexpr_lut_to_dense` as a whole and in pieces.

use super::expr::{Blocks, Site, finished, fits_declared};
use super::pieces::Stored;
use super::unpack::{self, PIECE};
use crate::Result;
use crate::shape::strides;
use crate::tensor::Array;
use gesso_mil::DType;
use rayon::prelude::*;
use std::borrow::Cow;

/// A palette: `lut [g…, 2^n, V]`, or `[2^n]` in the iOS 16 form, as values with their grid.
pub(super) struct Palette {
    pub(super) values: Vec<f32>,
    pub(super) grid: Vec<usize>,
    pub(super) entries: usize,
    pub(super) vector: usize,
}

pub(super) fn palette(site: &Site<'_>, rank: usize) -> Result<Palette> {
    let (shape, values) = site.floats("lut")?;
    let (grid, entries, vector) = match shape.as_slice() {
        [entries] => (vec![1; rank], *entries, 1),
        [grid @ .., entries, vector] if grid.len() == rank => (grid.to_vec(), *entries, *vector),
        _ => return Err(site.wrong(format!("a palette of shape {shape:?} for rank {rank}"))),
    };
    if !entries.is_power_of_two() || entries > 256 || vector == 0 {
        return Err(site.wrong(format!("a palette with {entries} entries of {vector}")));
    }
    Ok(Palette {
        values,
        grid,
        entries,
        vector,
    })
}

/// Codes and the palettes that they stand for.
struct Coded<'a> {
    dense: Vec<usize>,
    /// Number of dense elements.
    n: usize,
    palette: Palette,
    bits: usize,
    bytes: Cow<'a, [u8]>,
}

impl<'a> Coded<'a> {
    fn of(site: &Site<'a>) -> Result<Self> {
        let dense = site.dense_shape()?;
        let n = site.count(&dense)?;
        let palette = palette(site, dense.len())?;
        let (ty, bytes) = site.operand("indices")?.packed(site.decoder)?;
        let bits = if site.operands.contains_key("shape") {
            palette.entries.trailing_zeros() as usize
        } else {
            ty.dtype.bits()
        };
        if !(1..=8).contains(&bits) || 1usize << bits != palette.entries {
            let entries = palette.entries;
            return Err(site.wrong(format!(
                "{entries} palette entries for indices of {bits} bits"
            )));
        }
        let needed = unpack::packed_len(n / palette.vector, bits);
        if needed != Some(bytes.len()) {
            let found = bytes.len();
            return Err(site.wrong(format!(
                "shape {dense:?} needs {needed:?} bytes, found {found}"
            )));
        }
        Ok(Self {
            dense,
            n,
            palette,
            bits,
            bytes,
        })
    }

    /// Adjacent elements that share a palette, when all palettes lie along the first axis and have single values.
    fn per_table(&self, site: &Site<'_>) -> Result<Option<usize>> {
        let along_first = self.palette.grid.iter().skip(1).all(|&g| g == 1);
        if self.palette.vector != 1 || !along_first {
            return Ok(None);
        }
        let blocks = Blocks::new(site, &self.dense, &self.palette.grid)?;
        let size = blocks.sizes.first().copied().unwrap_or(1);
        Ok(Some(
            size * blocks.dense_strides.first().copied().unwrap_or(1),
        ))
    }
}

/// A float constant that can be decoded in pieces, with its number of elements; `None` for other forms.
///
/// Errors: those of decoding it as a whole.
pub(super) fn stored<'a>(site: &Site<'a>, kind: &str) -> Result<Option<(Stored<'a>, usize)>> {
    let float = matches!(site.ty.dtype, DType::Fp16 | DType::Fp32);
    if kind != "constexpr_lut_to_dense" || !float {
        return Ok(None);
    }
    let coded = Coded::of(site)?;
    let Some(per_table) = coded.per_table(site)? else {
        return Ok(None);
    };
    fits_declared(site, &coded.dense)?;
    let mut tables = coded.palette.values;
    if site.ty.dtype == DType::Fp16 {
        crate::simd::round_f16(&mut tables);
    }
    let form = Stored::Codes {
        bytes: coded.bytes,
        bits: coded.bits,
        tables,
        per_table,
    };
    Ok(Some((form, coded.n)))
}

/// `out[p] = lut[g(p), code(p), v(p)]`; with vectors along axis a, code is that of `p` with `p_a / V`, v = `p_a mod V`.
pub(super) fn lut_to_dense(site: &Site<'_>) -> Result<Array> {
    let coded = Coded::of(site)?;
    let per_table = coded.per_table(site)?;
    let Coded {
        dense,
        n,
        palette,
        bits,
        bytes,
    } = coded;
    let mut out = site.decoder.pool.take(n);
    if let Some(per_table) = per_table.filter(|&p| p > 0) {
        out.par_chunks_mut(PIECE)
            .enumerate()
            .for_each(|(i, piece)| {
                unpack::tables(&bytes, bits, (&palette.values, per_table), i * PIECE, piece);
            });
        return Ok(finished(site, &dense, out));
    }
    let axis = if palette.vector > 1 {
        let given = site.array("vector_axis")?.to_i64();
        let axis = given
            .first()
            .and_then(|&a| crate::shape::axis(a, dense.len()));
        axis.ok_or_else(|| site.wrong(format!("vector axis {given:?}")))?
    } else {
        0
    };
    let mut index_shape = dense.clone();
    if let Some(d) = index_shape.get_mut(axis) {
        *d /= palette.vector;
    }
    let index_strides = strides(&index_shape);
    let blocks = Blocks::new(site, &dense, &palette.grid)?;
    out.par_chunks_mut(PIECE)
        .enumerate()
        .for_each(|(piece, out)| {
            for (i, slot) in out.iter_mut().enumerate() {
                let p = piece * PIECE + i;
                let along = blocks.along(p, axis);
                let index: usize = if palette.vector == 1 {
                    p
                } else {
                    let sum = index_strides.iter().enumerate().map(|(a, &s)| {
                        let at = blocks.along(p, a);
                        s * if a == axis { at / palette.vector } else { at }
                    });
                    sum.sum()
                };
                let code = usize::from(unpack::code(&bytes, bits, index));
                let entry = (blocks.block(p) * palette.entries + code) * palette.vector;
                let v = along % palette.vector;
                *slot = palette.values.get(entry + v).copied().unwrap_or(f32::NAN);
            }
        });
    Ok(finished(site, &dense, out))
}
