//! Scores, softmax over the keys and the product with the values as one, a band of queries at a time: the whole score
//! matrix is never there.

use crate::Result;
use crate::call::{Call, Operand};
use crate::gemm::{Matrix, bands};
use crate::kernels::fast::einsum::Roles;
use crate::kernels::naive::linear::{Equation, Product};
use crate::simd::{self, Binary, Lane};
use crate::tensor::Array;

/// Queries of a band.
const QUERIES: usize = 128;

/// Where queries, keys, values and results lie.
struct Layout {
    keys: usize,
    /// Elements that a query and a key have.
    width: usize,
    /// Elements that a value has.
    value_width: usize,
    /// (step from query to query, from element to element); so for the keys and the values.
    query: (usize, usize),
    key: (usize, usize),
    value: (usize, usize),
    /// Step from element to element of a result; queries are adjacent.
    step: usize,
    /// Offsets of queries, keys, values, results.
    batches: Vec<[usize; 4]>,
    shape: Vec<usize>,
}

/// The product of `product`'s other operand with the softmax of `scores`; `None` when the form is not covered.
///
/// In `product` the operand that stands for the softmax is missing: it is not computed.
pub(crate) fn attention(
    scores: &Call<'_>,
    softmax: &Call<'_>,
    product: &Call<'_>,
) -> Result<Option<Array>> {
    let rank = 4;
    let axis = softmax.axis("axis", -1, rank)?;
    let operands = if scores.kind == "einsum" {
        einsum(scores, axis, product)?
    } else {
        matmul(scores, axis, product)?
    };
    let Some((layout, [q, k, v])) = operands else {
        return Ok(None);
    };
    let (q, k) = (scores.as_floats("q", &q)?, scores.as_floats("k", &k)?);
    let v = product.as_floats("v", &v)?;
    let mut out = product.buffer(product.count(&layout.shape)?);
    for &[q0, k0, v0, o0] in &layout.batches {
        let (qs, ks, vs) = (tail(&q, q0), tail(&k, k0), tail(&v, v0));
        let results = out
            .get_mut(o0..o0 + layout.value_width * layout.step)
            .unwrap_or(&mut []);
        bands(
            results,
            layout.step,
            QUERIES,
            || vec![0f32; layout.keys * QUERIES],
            |weights, band| {
                let n = band.width;
                let weights = weights.get_mut(..layout.keys * n).unwrap_or(&mut []);
                // The band's scores: [keys, width] · [width, n].
                let queries = qs.get(band.first * layout.query.0..).unwrap_or(&[]);
                let queries = Matrix {
                    data: queries,
                    rows: layout.query.1,
                    columns: layout.query.0,
                };
                let keys = Matrix {
                    data: ks,
                    rows: layout.key.0,
                    columns: layout.key.1,
                };
                crate::gemm::product(
                    &mut crate::gemm::Target {
                        data: weights,
                        step: n,
                        add: false,
                    },
                    crate::gemm::Sizes {
                        m: layout.keys,
                        k: layout.width,
                        n,
                    },
                    keys,
                    queries,
                );
                let factors = exponentials(weights, n);
                let values = Matrix {
                    data: vs,
                    rows: layout.value.1,
                    columns: layout.value.0,
                };
                band.product(layout.keys, values, Matrix::packed(weights, n), false);
                band.scale_columns(&factors);
            },
        );
    }
    Ok(Some(Array::f32(&layout.shape, out)))
}

fn tail(data: &[f32], from: usize) -> &[f32] {
    data.get(from..).unwrap_or(&[])
}

/// exp(x − column's maximum) in place; gives 1 / column sum.
fn exponentials(block: &mut [f32], width: usize) -> Vec<f32> {
    let mut top = vec![f32::NEG_INFINITY; width];
    for row in block.chunks_exact(width) {
        simd::binary_in_place(Binary::Max, &mut top, Lane::Each(row));
    }
    let mut total = vec![0f32; width];
    let mut part = vec![0f32; width];
    // Partial sums of 64 rows, so that long columns keep their precision.
    for rows in block.chunks_mut(width * 64) {
        part.fill(0.0);
        for row in rows.chunks_exact_mut(width) {
            simd::exp_columns(row, &top, &mut part);
        }
        simd::binary_in_place(Binary::Add, &mut total, Lane::Each(&part));
    }
    for t in &mut total {
        *t = 1.0 / *t;
    }
    total
}

type Found = Option<(Layout, [Array; 3])>;

/// `einsum(k, q)` gives [.., keys, .., queries], softmax over the keys, `einsum(v, weights)`.
fn einsum(scores: &Call<'_>, axis: usize, product: &Call<'_>) -> Result<Found> {
    let (first, second) = (Equation::of(scores)?, Equation::of(product)?);
    let values = scores.many("values")?;
    let [k, q] = &values[..] else {
        return Ok(None);
    };
    // The softmax is the second operand; only the first is bound.
    let bound = product.operands.get("values").map(Vec::as_slice);
    let Some([Operand::Array(v)]) = bound else {
        return Ok(None);
    };
    let Some(inner) = Roles::of(scores, &first, [&k.shape, &q.shape])? else {
        return Ok(None);
    };
    let Some(outer) = Roles::of(product, &second, [&v.shape, &inner.shape])? else {
        return Ok(None);
    };
    // Keys and queries of the scores must be what the second equation sums over and keeps.
    let strides = crate::shape::strides(&inner.shape);
    let along = |a: usize| strides.get(a).copied();
    let fits = inner.shape.len() == 4
        && along(axis) == Some(inner.step)
        && inner.sizes.m == inner.shape.get(axis).copied().unwrap_or(0)
        && outer.b == (inner.step, 1)
        && outer.sizes.k == inner.sizes.m
        && outer.sizes.n == inner.sizes.n
        && inner.step == inner.sizes.n
        && outer.step == outer.sizes.n
        && inner.batches.len() == outer.batches.len();
    if !fits {
        return Ok(None);
    }
    // Batches are paired by where the scores lie.
    let mut batches = Vec::with_capacity(inner.batches.len());
    for &[ko, qo, so] in &inner.batches {
        let Some(&[vo, _, oo]) = outer.batches.iter().find(|b| b[1] == so) else {
            return Ok(None);
        };
        batches.push([qo, ko, vo, oo]);
    }
    let layout = Layout {
        keys: inner.sizes.m,
        width: inner.sizes.k,
        value_width: outer.sizes.m,
        query: (inner.b.1, inner.b.0),
        key: inner.a,
        value: (outer.a.1, outer.a.0),
        step: outer.step,
        batches,
        shape: outer.shape,
    };
    Ok(Some((layout, [q.clone(), k.clone(), v.clone()])))
}

/// `matmul(q, k)` gives [.., queries, keys], softmax over the keys, `matmul(v, weights)` with the weights transposed.
fn matmul(scores: &Call<'_>, axis: usize, product: &Call<'_>) -> Result<Found> {
    let (q, k) = (scores.array("x")?, scores.array("y")?);
    let Some(Operand::Array(v)) = product.operand("x") else {
        return Ok(None);
    };
    let inner = Product::of(scores, &q.shape, &k.shape)?;
    if inner.shape.len() != 4 || axis != 3 || !product.flag("transpose_y", false)? {
        return Ok(None);
    }
    let outer = Product::of(product, &v.shape, &inner.shape)?;
    if outer.batch != inner.batch {
        return Ok(None);
    }
    let size = outer.m * outer.n;
    let pairs = inner.offsets().into_iter().zip(outer.offsets()).enumerate();
    let layout = Layout {
        keys: inner.n,
        width: inner.k,
        value_width: outer.m,
        query: inner.x,
        key: (inner.y.1, inner.y.0),
        value: (outer.x.1, outer.x.0),
        step: outer.n,
        batches: pairs
            .map(|(i, ((qo, ko), (vo, _)))| [qo, ko, vo, i * size])
            .collect(),
        shape: outer.shape,
    };
    Ok(Some((layout, [q, k, v.clone()])))
}
