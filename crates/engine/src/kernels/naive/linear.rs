//! `linear`, `matmul`, `einsum`.

use crate::Result;
use crate::call::Call;
use crate::shape::{Walk, broadcast, broadcast_strides, strides};
use crate::tensor::{Array, Outputs};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// `y = x · weightᵀ + bias`.
///
/// Shapes: `x [..., I]`, `weight [O, I]`, `bias [O]` → `[..., O]`.
/// Source: Core ML op `linear` (iOS15).
pub(crate) fn linear(call: &mut Call<'_>) -> Outputs {
    let (xs, x) = call.floats("x")?;
    let (ws, w) = call.floats("weight")?;
    let bias = call.optional_floats("bias")?;
    let (Some((&inner, outer)), &[out, w_inner]) = (xs.split_last(), &ws[..]) else {
        return Err(call.wrong(format!("x {xs:?} and weight {ws:?}")));
    };
    if inner != w_inner || inner == 0 {
        return Err(call.wrong(format!("x {xs:?} and weight {ws:?}")));
    }
    let mut shape = outer.to_vec();
    shape.push(out);
    let mut y = vec![0f32; call.count(&shape)?];
    y.par_chunks_mut(out.max(1))
        .zip(x.par_chunks(inner))
        .for_each(|(y, x)| {
            for (o, (y, w)) in y.iter_mut().zip(w.chunks_exact(inner)).enumerate() {
                let sum: f64 = x
                    .iter()
                    .zip(w)
                    .map(|(&a, &b)| f64::from(a) * f64::from(b))
                    .sum();
                let b = bias
                    .as_ref()
                    .and_then(|(_, b)| b.get(o))
                    .copied()
                    .unwrap_or(0.0);
                *y = (sum + f64::from(b)) as f32;
            }
        });
    Ok(vec![Array::f32(&shape, y)])
}

/// Shapes and strides of a matmul.
#[derive(Clone, Debug)]
pub(crate) struct Product {
    pub(crate) m: usize,
    pub(crate) k: usize,
    pub(crate) n: usize,
    /// Broadcast batch shape.
    pub(crate) batch: Vec<usize>,
    /// Per batch axis, elements of x and of y; 0 where repeated.
    pub(crate) x_batch: Vec<usize>,
    pub(crate) y_batch: Vec<usize>,
    /// (row stride, column stride) of the [m, k] and [k, n] operands.
    pub(crate) x: (usize, usize),
    pub(crate) y: (usize, usize),
    /// Output shape.
    pub(crate) shape: Vec<usize>,
}

impl Product {
    /// numpy's rules: rank-1 operands get an axis that is removed again; batch axes broadcast.
    pub(crate) fn of(call: &Call<'_>, xs: &[usize], ys: &[usize]) -> Result<Self> {
        let wrong = || call.wrong(format!("x {xs:?} and y {ys:?} do not fit"));
        let (vector_x, vector_y) = (xs.len() == 1, ys.len() == 1);
        let tx = call.flag("transpose_x", false)? && !vector_x;
        let ty = call.flag("transpose_y", false)? && !vector_y;
        let mut full_x = xs.to_vec();
        let mut full_y = ys.to_vec();
        if vector_x {
            full_x.insert(0, 1);
        }
        if vector_y {
            full_y.push(1);
        }
        let ([bx @ .., x0, x1], [by @ .., y0, y1]) = (&full_x[..], &full_y[..]) else {
            return Err(wrong());
        };
        let (m, k) = if tx { (*x1, *x0) } else { (*x0, *x1) };
        let (k2, n) = if ty { (*y1, *y0) } else { (*y0, *y1) };
        if k != k2 {
            return Err(wrong());
        }
        let batch = broadcast(bx, by).ok_or_else(wrong)?;
        let scaled = |s: &[usize], size: usize| -> Vec<usize> {
            broadcast_strides(s, &batch)
                .into_iter()
                .map(|b| b * size)
                .collect()
        };
        let mut shape = batch.clone();
        if !vector_x {
            shape.push(m);
        }
        if !vector_y {
            shape.push(n);
        }
        Ok(Self {
            m,
            k,
            n,
            x_batch: scaled(bx, x0 * x1),
            y_batch: scaled(by, y0 * y1),
            batch,
            x: if tx { (1, *x1) } else { (*x1, 1) },
            y: if ty { (1, *y1) } else { (*y1, 1) },
            shape,
        })
    }

    /// Offsets of x and y per batch element.
    pub(crate) fn offsets(&self) -> Vec<(usize, usize)> {
        let x = Walk::unsigned(&self.batch, &self.x_batch);
        let y = Walk::unsigned(&self.batch, &self.y_batch);
        x.zip(y).collect()
    }
}

/// Matrix product with broadcast batch axes; `transpose_x`, `transpose_y` swap the last two axes.
///
/// Source: Core ML op `matmul` (iOS15).
pub(crate) fn matmul(call: &mut Call<'_>) -> Outputs {
    let (xs, x) = call.floats("x")?;
    let (ys, y) = call.floats("y")?;
    let p = Product::of(call, &xs, &ys)?;
    let offsets = p.offsets();
    let mut out = vec![0f32; call.count(&p.shape)?];
    out.par_chunks_mut(p.n.max(1))
        .enumerate()
        .for_each(|(row, out)| {
            let (x0, y0) = offsets[row / p.m];
            let x0 = x0 + row % p.m * p.x.0;
            for (j, slot) in out.iter_mut().enumerate() {
                let y0 = y0 + j * p.y.1;
                let products =
                    (0..p.k).map(|i| f64::from(x[x0 + i * p.x.1]) * f64::from(y[y0 + i * p.y.0]));
                *slot = products.sum::<f64>() as f32;
            }
        });
    Ok(vec![Array::f32(&p.shape, out)])
}

/// Labels of an equation such as `nchw,nwhu->nchu`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Equation {
    pub(crate) operands: [Vec<char>; 2],
    pub(crate) output: Vec<char>,
}

impl Equation {
    /// The `equation` parameter; spaces are ignored.
    pub(crate) fn of(call: &Call<'_>) -> Result<Self> {
        let text = call.string("equation", "")?;
        let clean: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let parsed = clean.split_once("->").and_then(|(inputs, output)| {
            let (a, b) = inputs.split_once(',')?;
            let letters = |s: &str| -> Option<Vec<char>> {
                s.chars().map(|c| c.is_alphabetic().then_some(c)).collect()
            };
            Some(Self {
                operands: [letters(a)?, letters(b)?],
                output: letters(output)?,
            })
        });
        parsed.ok_or_else(|| call.wrong(format!("equation `{text}` is not understood")))
    }

    /// Size of each label.
    pub(crate) fn sizes(
        &self,
        call: &Call<'_>,
        shapes: [&[usize]; 2],
    ) -> Result<BTreeMap<char, usize>> {
        let mut sizes = BTreeMap::new();
        for (labels, shape) in self.operands.iter().zip(shapes) {
            let fits = labels.len() == shape.len()
                && labels
                    .iter()
                    .zip(shape)
                    .all(|(&l, &d)| *sizes.entry(l).or_insert(d) == d);
            if !fits {
                return Err(call.wrong(format!("shape {shape:?} does not fit {labels:?}")));
            }
        }
        if self.output.iter().any(|l| !sizes.contains_key(l)) {
            return Err(call.wrong("the output has a label that no operand has"));
        }
        Ok(sizes)
    }
}

/// Sum of products over all labels that the output does not have.
///
/// Source: Core ML op `einsum` (iOS15), two operands.
pub(crate) fn einsum(call: &mut Call<'_>) -> Outputs {
    let equation = Equation::of(call)?;
    let values = call.many("values")?;
    let [a, b] = &values[..] else {
        return Err(call.wrong(format!("{} operands, expected 2", values.len())));
    };
    let sizes = equation.sizes(call, [&a.shape, &b.shape])?;
    let size = |l: &char| sizes.get(l).copied().unwrap_or(1);
    let summed: Vec<char> = sizes
        .keys()
        .copied()
        .filter(|l| !equation.output.contains(l))
        .collect();
    let shape: Vec<usize> = equation.output.iter().map(size).collect();
    let inner: Vec<usize> = summed.iter().map(size).collect();
    // Offsets of an operand along output labels and along summed labels.
    let offsets = |operand: usize, array: &Array, labels: &[char], shape: &[usize]| -> Vec<usize> {
        let own = strides(&array.shape);
        let along = |l: &char| -> usize {
            let positions = equation.operands[operand].iter().zip(&own);
            positions.filter(|(o, _)| *o == l).map(|(_, s)| *s).sum()
        };
        let strides: Vec<usize> = labels.iter().map(along).collect();
        Walk::unsigned(shape, &strides).collect()
    };
    let (va, vb) = (call.as_floats("values", a)?, call.as_floats("values", b)?);
    let outer_a = offsets(0, a, &equation.output, &shape);
    let outer_b = offsets(1, b, &equation.output, &shape);
    let inner_a = offsets(0, a, &summed, &inner);
    let inner_b = offsets(1, b, &summed, &inner);
    let out: Vec<f32> = outer_a
        .par_iter()
        .zip(&outer_b)
        .map(|(&oa, &ob)| {
            let products = inner_a
                .iter()
                .zip(&inner_b)
                .map(|(&ia, &ib)| f64::from(va[oa + ia]) * f64::from(vb[ob + ib]));
            products.sum::<f64>() as f32
        })
        .collect();
    Ok(vec![Array::f32(&shape, out)])
}
