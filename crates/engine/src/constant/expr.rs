//! The `constexpr_*` ops. Every form is evaluated in f32, in the order of operations of its formula, and the result is
//! rounded once to the declared dtype.

use super::lut::{lut_to_dense, palette};
use super::unpack::{self, PIECE};
use super::{Constant, Decoder};
use crate::shape::{count, strides};
use crate::tensor::{Array, Buffer};
use crate::{Error, Result};
use gesso_mil::{DType, TensorType};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A `constexpr_*` op whose output is asked for.
pub(super) struct Site<'a> {
    pub(super) name: &'a str,
    pub(super) operands: &'a BTreeMap<String, Arc<Constant>>,
    pub(super) ty: &'a TensorType,
    pub(super) output: usize,
    pub(super) decoder: &'a Decoder<'a>,
}

type Decode = fn(&Site<'_>) -> Result<Array>;

/// (op, decoder).
const DECODERS: &[(&str, Decode)] = &[
    ("constexpr_lut_to_dense", lut_to_dense),
    ("constexpr_affine_dequantize", affine_dequantize),
    ("constexpr_blockwise_shift_scale", blockwise_shift_scale),
    ("constexpr_sparse_to_dense", sparse_to_dense),
    ("constexpr_cast", cast),
    ("constexpr_lut_to_sparse", lut_to_sparse),
    (
        "constexpr_sparse_blockwise_shift_scale",
        sparse_blockwise_shift_scale,
    ),
];

/// Whether an op is decoded here.
pub(crate) fn is_constexpr(kind: &str) -> bool {
    DECODERS.iter().any(|(k, _)| *k == kind)
}

pub(super) fn decoded(site: &Site<'_>, kind: &str) -> Result<Array> {
    let decode = DECODERS
        .iter()
        .find(|(k, _)| *k == kind)
        .ok_or_else(|| site.wrong(format!("`{kind}` is not known")))?;
    let mut array = (decode.1)(site)?;
    if site.ty.dtype == DType::Fp16
        && let Buffer::F32(v) = &mut array.buffer
    {
        crate::simd::round_f16(Arc::<Vec<f32>>::make_mut(v));
    }
    fits_declared(site, &array.shape)?;
    Ok(array)
}

pub(super) fn fits_declared(site: &Site<'_>, shape: &[usize]) -> Result<()> {
    if site.ty.shape().is_some_and(|s| s != shape) {
        let ty = site.ty;
        return Err(site.wrong(format!("declared as {ty}, found shape {shape:?}")));
    }
    Ok(())
}

impl<'a> Site<'a> {
    pub(super) fn wrong(&self, reason: impl Into<String>) -> Error {
        Error::Constant {
            name: self.name.into(),
            reason: reason.into(),
        }
    }

    pub(super) fn operand(&self, name: &str) -> Result<&'a Constant> {
        self.operands
            .get(name)
            .map(|c| &**c)
            .ok_or_else(|| self.wrong(format!("operand `{name}` is missing")))
    }

    pub(super) fn array(&self, name: &str) -> Result<Array> {
        self.operand(name)?.decoded(self.decoder)
    }

    pub(super) fn floats(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>)> {
        let array = self.array(name)?;
        Ok((array.shape.clone(), floats(&array)))
    }

    /// The `shape` operand of the iOS 16 forms, else the declared shape.
    pub(super) fn dense_shape(&self) -> Result<Vec<usize>> {
        if !self.operands.contains_key("shape") {
            return self
                .ty
                .shape()
                .ok_or_else(|| self.wrong("expected known dimensions"));
        }
        self.array("shape")?
            .to_i64()
            .into_iter()
            .map(|d| usize::try_from(d).map_err(|_| self.wrong(format!("size {d} in `shape`"))))
            .collect()
    }

    pub(super) fn count(&self, shape: &[usize]) -> Result<usize> {
        count(shape).ok_or_else(|| self.wrong(format!("shape {shape:?} is too large")))
    }
}

fn floats(array: &Array) -> Vec<f32> {
    match &array.buffer {
        Buffer::F32(v) => v.to_vec(),
        Buffer::I32(v) => v.iter().map(|&x| x as f32).collect(),
        Buffer::Bool(v) => v.iter().map(|&x| f32::from(u8::from(x))).collect(),
    }
}

/// A grid of blocks over a dense shape: which block an element lies in.
pub(super) struct Blocks {
    dense: Vec<usize>,
    pub(super) dense_strides: Vec<usize>,
    /// Block size per axis.
    pub(super) sizes: Vec<usize>,
    block_strides: Vec<usize>,
}

impl Blocks {
    pub(super) fn new(site: &Site<'_>, dense: &[usize], grid: &[usize]) -> Result<Self> {
        let fits =
            dense.len() == grid.len() && dense.iter().zip(grid).all(|(&d, &g)| g > 0 && d % g == 0);
        if !fits {
            return Err(site.wrong(format!("blocks {grid:?} do not divide the shape {dense:?}")));
        }
        Ok(Self {
            dense_strides: strides(dense),
            sizes: dense.iter().zip(grid).map(|(&d, &g)| d / g).collect(),
            block_strides: strides(grid),
            dense: dense.to_vec(),
        })
    }

    /// Index along `axis` of element `p`.
    pub(super) fn along(&self, p: usize, axis: usize) -> usize {
        match (self.dense_strides.get(axis), self.dense.get(axis)) {
            (Some(&s), Some(&d)) => p / s % d.max(1),
            _ => 0,
        }
    }

    /// Block of element `p`.
    pub(super) fn block(&self, p: usize) -> usize {
        let axes = self.sizes.iter().zip(&self.block_strides).enumerate();
        axes.map(|(a, (&size, &stride))| self.along(p, a) / size.max(1) * stride)
            .sum()
    }
}

pub(super) fn finished(site: &Site<'_>, shape: &[usize], values: Vec<f32>) -> Array {
    if site.ty.dtype.is_float() {
        Array::f32(shape, values)
    } else {
        Array::i32(shape, values.into_iter().map(|x| x as i32).collect())
    }
}

/// `out = scale · (q − zero_point)`, both scalars or per element of one axis.
fn affine_dequantize(site: &Site<'_>) -> Result<Array> {
    let (shape, q) = site.floats("quantized_data")?;
    let (_, scale) = site.floats("scale")?;
    let (_, zero) = site.floats("zero_point")?;
    let axis = site.array("axis")?.to_i64();
    let axis = axis
        .first()
        .and_then(|&a| crate::shape::axis(a, shape.len()))
        .unwrap_or(0);
    let (_, size, after) = crate::shape::around(&shape, axis);
    let fits = |v: &[f32]| v.len() == 1 || v.len() == size;
    if !fits(&scale) || !fits(&zero) {
        let (s, z) = (scale.len(), zero.len());
        return Err(site.wrong(format!(
            "{s} scales and {z} zero points for axis size {size}"
        )));
    }
    let mut out = q;
    for (p, x) in out.iter_mut().enumerate() {
        let c = p / after.max(1) % size.max(1);
        let pick = |v: &[f32]| {
            v.get(if v.len() == 1 { 0 } else { c })
                .copied()
                .unwrap_or(0.0)
        };
        *x = pick(&scale) * (*x - pick(&zero));
    }
    Ok(finished(site, &shape, out))
}

/// `out = scale[b] · (data − offset[b])` with one block per element of `scale`.
fn blockwise_shift_scale(site: &Site<'_>) -> Result<Array> {
    let (shape, mut out) = site.floats("data")?;
    shift_scale(site, &shape, |p| p, &mut out)?;
    Ok(finished(site, &shape, out))
}

/// Applies scale and offset; element `i` of `values` stands at dense position `at(i)`.
fn shift_scale(
    site: &Site<'_>,
    dense: &[usize],
    at: impl Fn(usize) -> usize + Sync,
    values: &mut [f32],
) -> Result<()> {
    let (grid, scale) = site.floats("scale")?;
    let offset = if site.operands.contains_key("offset") {
        let (offset_grid, offset) = site.floats("offset")?;
        if offset_grid != grid {
            return Err(site.wrong(format!("offset of shape {offset_grid:?} for {grid:?}")));
        }
        offset
    } else {
        Vec::new()
    };
    let blocks = Blocks::new(site, dense, &grid)?;
    values
        .par_chunks_mut(PIECE)
        .enumerate()
        .for_each(|(piece, values)| {
            for (i, x) in values.iter_mut().enumerate() {
                let b = blocks.block(at(piece * PIECE + i));
                let o = offset.get(b).copied().unwrap_or(0.0);
                *x = scale.get(b).copied().unwrap_or(f32::NAN) * (*x - o);
            }
        });
    Ok(())
}

/// Dense positions of the ones of a mask: uint1 in the dense shape, or packed uint8 with `shape`.
fn ones(site: &Site<'_>, parameter: &str, n: usize) -> Result<Vec<usize>> {
    let mask = site.operand(parameter)?;
    let set: Vec<bool> = if site.operands.contains_key("shape") {
        let (_, bytes) = mask.packed(site.decoder)?;
        unpack::codes(&bytes, 1, n)
            .into_iter()
            .map(|b| b != 0)
            .collect()
    } else {
        mask.decoded(site.decoder)?
            .to_i64()
            .into_iter()
            .map(|b| b != 0)
            .collect()
    };
    if set.len() != n {
        let found = set.len();
        return Err(site.wrong(format!("a mask of {found} elements for {n}")));
    }
    Ok((0..n)
        .filter(|&p| set.get(p).copied().unwrap_or(false))
        .collect())
}

/// Zero, and the given values where the mask is 1.
fn sparse_to_dense(site: &Site<'_>) -> Result<Array> {
    let dense = site.dense_shape()?;
    let n = site.count(&dense)?;
    let positions = ones(site, "mask", n)?;
    let (_, values) = site.floats("nonzero_data")?;
    if positions.len() != values.len() {
        let (m, v) = (positions.len(), values.len());
        return Err(site.wrong(format!("{m} ones in the mask, but {v} values")));
    }
    let mut out = vec![0.0; n];
    for (&p, &x) in positions.iter().zip(&values) {
        if let Some(slot) = out.get_mut(p) {
            *slot = x;
        }
    }
    Ok(finished(site, &dense, out))
}

fn cast(site: &Site<'_>) -> Result<Array> {
    let (shape, values) = site.floats("source_val")?;
    Ok(finished(site, &shape, values))
}

/// Output 0: the mask. Output 1: `lut[g(p), code]` for each one of the mask, p its dense position.
fn lut_to_sparse(site: &Site<'_>) -> Result<Array> {
    let mask = site.array("indices_mask")?;
    if site.output == 0 {
        return Ok(mask);
    }
    let n = site.count(&mask.shape)?;
    let positions = ones(site, "indices_mask", n)?;
    let palette = palette(site, mask.shape.len())?;
    if palette.vector != 1 {
        return Err(site.wrong("sparse vector palettes are not supported"));
    }
    let codes = site.array("indices_nonzero_data")?.to_i64();
    if codes.len() != positions.len() {
        let (m, v) = (positions.len(), codes.len());
        return Err(site.wrong(format!("{m} ones in the mask, but {v} indices")));
    }
    let blocks = Blocks::new(site, &mask.shape, &palette.grid)?;
    let values: Vec<f32> = positions
        .iter()
        .zip(&codes)
        .map(|(&p, &code)| {
            let entry = blocks.block(p) * palette.entries + code as usize;
            palette.values.get(entry).copied().unwrap_or(f32::NAN)
        })
        .collect();
    Ok(finished(site, &[values.len()], values))
}

/// Output 0: the mask. Output 1: `scale[b(p)] · (value − offset[b(p)])` for each one of the mask.
fn sparse_blockwise_shift_scale(site: &Site<'_>) -> Result<Array> {
    let mask = site.array("data_mask")?;
    if site.output == 0 {
        return Ok(mask);
    }
    let n = site.count(&mask.shape)?;
    let positions = ones(site, "data_mask", n)?;
    let (_, mut values) = site.floats("nonzero_data")?;
    if values.len() != positions.len() {
        let (m, v) = (positions.len(), values.len());
        return Err(site.wrong(format!("{m} ones in the mask, but {v} values")));
    }
    let at = |i: usize| positions.get(i).copied().unwrap_or(0);
    shift_scale(site, &mask.shape, at, &mut values)?;
    Ok(finished(site, &[values.len()], values))
}
