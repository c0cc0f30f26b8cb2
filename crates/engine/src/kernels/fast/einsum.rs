//! `einsum` with one label per role, as strided matrix products: `nchw,nwhu->nchu` and its renamings.

use crate::Result;
use crate::call::Call;
use crate::gemm::{Matrix, Sizes, Target, parallel_product};
use crate::kernels::naive::linear::Equation;
use crate::shape::{Walk, strides};
use crate::tensor::Array;

/// How the labels of a two-operand equation take part in a matrix product.
#[derive(Clone, Debug)]
pub(crate) struct Roles {
    pub(crate) sizes: Sizes,
    /// (row step, column step) of a [m, k] and b [k, n].
    pub(crate) a: (usize, usize),
    pub(crate) b: (usize, usize),
    /// Step from row to row of the output; its columns are adjacent.
    pub(crate) step: usize,
    /// Offsets of a, b and the output per batch element.
    pub(crate) batches: Vec<[usize; 3]>,
    /// Output shape.
    pub(crate) shape: Vec<usize>,
}

impl Roles {
    /// `None` when a label repeats, a role has several labels, or the output's columns are not its last axis.
    pub(crate) fn of(
        call: &Call<'_>,
        equation: &Equation,
        shapes: [&[usize]; 2],
    ) -> Result<Option<Self>> {
        let sizes = equation.sizes(call, shapes)?;
        let [a, b] = &equation.operands;
        let out = &equation.output;
        let repeats = |v: &[char]| {
            v.iter()
                .enumerate()
                .any(|(i, l)| v.iter().skip(i + 1).any(|m| m == l))
        };
        if repeats(a) || repeats(b) || repeats(out) {
            return Ok(None);
        }
        let role = |in_a: bool, in_b: bool, in_out: bool| -> Vec<char> {
            let has = |l: &char| (a.contains(l), b.contains(l), out.contains(l));
            sizes
                .keys()
                .copied()
                .filter(|l| has(l) == (in_a, in_b, in_out))
                .collect()
        };
        let (batch, m, k, n) = (
            role(true, true, true),
            role(true, false, true),
            role(true, true, false),
            role(false, true, true),
        );
        let (&[m], &[k], &[n]) = (&m[..], &k[..], &n[..]) else {
            return Ok(None);
        };
        if batch.len() + 2 != out.len() || out.last() != Some(&n) {
            return Ok(None);
        }
        let size = |l: &char| sizes.get(l).copied().unwrap_or(1);
        let shape: Vec<usize> = out.iter().map(size).collect();
        let step = |labels: &[char], shape: &[usize], l: char| -> usize {
            let steps = strides(shape);
            labels
                .iter()
                .position(|&x| x == l)
                .and_then(|i| steps.get(i).copied())
                .unwrap_or(0)
        };
        let batch_shape: Vec<usize> = batch.iter().map(size).collect();
        let walk = |labels: &[char], shape: &[usize]| {
            let steps: Vec<usize> = batch.iter().map(|&l| step(labels, shape, l)).collect();
            Walk::unsigned(&batch_shape, &steps)
        };
        let [sa, sb] = shapes;
        let batches = walk(a, sa)
            .zip(walk(b, sb))
            .zip(walk(out, &shape))
            .map(|((a, b), c)| [a, b, c])
            .collect();
        Ok(Some(Self {
            sizes: Sizes {
                m: size(&m),
                k: size(&k),
                n: size(&n),
            },
            a: (step(a, sa, m), step(a, sa, k)),
            b: (step(b, sb, k), step(b, sb, n)),
            step: step(out, &shape, m),
            batches,
            shape,
        }))
    }
}

pub(crate) fn einsum(call: &mut Call<'_>) -> Result<Option<Vec<Array>>> {
    let equation = Equation::of(call)?;
    let values = call.many("values")?;
    let [a, b] = &values[..] else {
        return Ok(None);
    };
    let Some(roles) = Roles::of(call, &equation, [&a.shape, &b.shape])? else {
        return Ok(None);
    };
    let (va, vb) = (call.as_floats("values", a)?, call.as_floats("values", b)?);
    let mut out = call.buffer(call.count(&roles.shape)?);
    for [i, j, o] in &roles.batches {
        let a = Matrix {
            data: va.get(*i..).unwrap_or(&[]),
            rows: roles.a.0,
            columns: roles.a.1,
        };
        let b = Matrix {
            data: vb.get(*j..).unwrap_or(&[]),
            rows: roles.b.0,
            columns: roles.b.1,
        };
        let data = out.get_mut(*o..).unwrap_or(&mut []);
        let mut c = Target {
            data,
            step: roles.step,
            add: false,
        };
        parallel_product(&mut c, roles.sizes, a, b);
    }
    Ok(Some(vec![Array::f32(&roles.shape, out)]))
}
