//! Matrix products.

use super::context::Context;
use super::dims::{broadcast, one, same, text};
use super::row::{
    BOOL, Default, MASK, Opset, Param, Row, STRING, T_FLOAT, T_NUMBER, constant, constant_or, many,
    op, var,
};
use crate::{Dim, Result, ValueType};

const LINEAR: &[Param] = &[
    var("x", T_NUMBER),
    constant("weight", T_NUMBER),
    constant_or("bias", T_NUMBER, Default::Absent),
];
const MATMUL: &[Param] = &[
    var("x", T_NUMBER),
    var("y", T_NUMBER),
    constant_or("transpose_x", BOOL, Default::Bool(false)),
    constant_or("transpose_y", BOOL, Default::Bool(false)),
];

pub(super) const OPS: &[Row] = &[
    op(
        "linear",
        Opset::CoreML5,
        LINEAR,
        linear,
        "x · weightᵀ + bias with constant weight and bias",
        "`x [*, I]`, `weight [O, I]`, `bias [O]` → `[*, O]`",
    ),
    op(
        "matmul",
        Opset::CoreML5,
        MATMUL,
        matmul,
        "matrix product over the last two axes, batch axes broadcast",
        "`x [*, M, K]`, `y [*, K, N]` → `[*, M, N]`; `x [K]`, `y [K, N]` → `[N]`",
    ),
    op(
        "einsum",
        Opset::CoreML5,
        &[many("values", T_FLOAT), constant("equation", STRING)],
        einsum,
        "matrix product over axes -1 and -3, axes -4 and -2 broadcast",
        "`[B, C, H, W]`, `[B, W, H, U]` → `[B, C, H, U]`; `[C, H, W]`, `[W, H, R]` → `[C, H, R]`",
    ),
    op(
        "scaled_dot_product_attention",
        Opset::CoreML8,
        &[
            var("query", T_FLOAT),
            var("key", T_FLOAT),
            var("value", T_FLOAT),
            super::row::var_or("attn_mask", MASK, Default::Absent),
        ],
        attention,
        "softmax(query · keyᵀ / sqrt(E) + mask) · value",
        "`query [B, *, L, E]`, `key [B, *, S, E]`, `value [B, *, S, V]`, `attn_mask` broadcasts to `[B, *, L, S]` → `[B, *, L, V]`",
    ),
];

/// The last axis of x replaced by O.
///
/// Errors: `Parameter` when x is a scalar, the weight is not a matrix or its second axis is not I, the bias is not `[O]`.
/// Source: Core ML op `linear` (iOS15).
fn linear(c: &Context<'_>) -> Result<Vec<ValueType>> {
    let (x, weight) = (c.tensor("x")?, c.ranked("weight", 2)?);
    let Some((last, batch)) = x.dims.split_last() else {
        return Err(c.wrong("x", "rank 1 or more", &x.to_string()));
    };
    if same(c.dim("weight", weight, 1)?, *last).is_none() {
        let expected = format!("second axis {} as the last of `x`", text(&[*last]));
        return Err(c.wrong("weight", &expected, &weight.to_string()));
    }
    let out = c.dim("weight", weight, 0)?;
    c.vector("bias", out)?;
    let mut dims = batch.to_vec();
    dims.push(out);
    one(x.dtype, dims)
}

/// Matrix product; a vector x counts as one row, which the result then lacks.
///
/// Errors: `Parameter` for a vector x that is transposed or meets a y of another rank than 2; `Op` when the inner axes differ or the
/// batch axes do not broadcast.
/// Source: Core ML op `matmul` (iOS15).
fn matmul(c: &Context<'_>) -> Result<Vec<ValueType>> {
    let (x, y) = (c.tensor("x")?, c.tensor("y")?);
    let (mut a, mut b) = (x.dims.clone(), y.dims.clone());
    let vector = a.len() == 1;
    if vector {
        if c.flag("transpose_x", false)? {
            return Err(c.wrong("transpose_x", "false with `x` of rank 1", "true"));
        }
        if b.len() != 2 {
            return Err(c.wrong("y", "rank 2 with `x` of rank 1", &y.to_string()));
        }
        a.insert(0, Dim::Fixed(1));
    }
    transpose(c, "transpose_x", &mut a)?;
    transpose(c, "transpose_y", &mut b)?;
    let ([x_batch @ .., m, k], [y_batch @ .., l, n]) = (a.as_slice(), b.as_slice()) else {
        return Err(c.fail(format!("expected matrices, found x {x} and y {y}")));
    };
    let batch = broadcast(x_batch, y_batch);
    let (Some(mut dims), Some(_)) = (batch, same(*k, *l)) else {
        return Err(c.fail(format!(
            "shapes do not fit: x {} and y {} after transposition",
            text(&a),
            text(&b)
        )));
    };
    if !vector {
        dims.push(*m);
    }
    dims.push(*n);
    one(x.dtype, dims)
}

fn transpose(c: &Context<'_>, parameter: &str, dims: &mut [Dim]) -> Result<()> {
    if c.flag(parameter, false)?
        && let [.., a, b] = dims
    {
        std::mem::swap(a, b);
    }
    Ok(())
}

/// Each letter as the order of its first appearance: `chw,whr->chr` is 012 213 013.
fn pattern(equation: &str) -> Vec<usize> {
    let mut seen = Vec::new();
    let mut out = Vec::new();
    for letter in equation.chars() {
        if !letter.is_ascii_alphabetic() {
            continue;
        }
        let at = seen.iter().position(|s| *s == letter).unwrap_or_else(|| {
            seen.push(letter);
            seen.len() - 1
        });
        out.push(at);
    }
    out
}

/// Product of matrices on axes -1 and -3.
///
/// Errors: `Parameter` when there are not two operands, for an equation that is not `nchw,nwhu->nchu` or
/// `chw,whr->chr` up to the letters; `Op` for ranks or sizes that do not fit it.
/// Source: Core ML op `einsum` (iOS15).
fn einsum(c: &Context<'_>) -> Result<Vec<ValueType>> {
    let values = c.tensors("values")?;
    let &[x, y] = values.as_slice() else {
        return Err(c.wrong("values", "two tensors", &values.len().to_string()));
    };
    let equation = c.string("equation", "")?;
    let rank = match equation.bytes().position(|b| b == b',') {
        Some(4) if form(equation, "nchw,nwhu->nchu") => 4,
        Some(3) if form(equation, "chw,whr->chr") => 3,
        _ => {
            let expected = "`nchw,nwhu->nchu` or `chw,whr->chr` up to the letters";
            return Err(c.wrong("equation", expected, &format!("`{equation}`")));
        }
    };
    let misfit = || {
        c.fail(format!(
            "shapes {} and {} do not fit `{equation}`",
            text(&x.dims),
            text(&y.dims)
        ))
    };
    if x.rank() != rank || y.rank() != rank {
        return Err(misfit());
    }
    let ([xb @ .., xc, xh, xw], [yb @ .., yw, yh, yu]) = (x.dims.as_slice(), y.dims.as_slice())
    else {
        return Err(misfit());
    };
    same(*xw, *yw).ok_or_else(misfit)?;
    let mut dims = broadcast(xb, yb).ok_or_else(misfit)?;
    dims.push(*xc);
    dims.extend(broadcast(&[*xh], &[*yh]).ok_or_else(misfit)?);
    dims.push(*yu);
    one(x.dtype, dims)
}

/// Same punctuation and same pattern of letters.
fn form(equation: &str, model: &str) -> bool {
    let marks = |s: &str| -> String {
        s.chars()
            .map(|ch| if ch.is_ascii_alphabetic() { 'a' } else { ch })
            .collect()
    };
    marks(equation) == marks(model) && pattern(equation) == pattern(model)
}

/// Attention with batch axes of query, key and value equal.
///
/// Errors: `Op` when ranks differ or are below 3, or sizes do not fit; `Parameter` for a mask that is neither bool nor
/// of the dtype of `query`.
/// Source: Core ML op `scaled_dot_product_attention` (iOS18).
fn attention(c: &Context<'_>) -> Result<Vec<ValueType>> {
    let (q, k, v) = (c.tensor("query")?, c.tensor("key")?, c.tensor("value")?);
    let misfit = || c.fail(format!("shapes do not fit: query {q}, key {k}, value {v}"));
    let ([qb @ .., l, e], [kb @ .., s, f], [vb @ .., t, u]) =
        (q.dims.as_slice(), k.dims.as_slice(), v.dims.as_slice())
    else {
        return Err(misfit());
    };
    if qb.is_empty() || qb.len() != kb.len() || qb.len() != vb.len() {
        return Err(misfit());
    }
    same(*e, *f).and(same(*s, *t)).ok_or_else(misfit)?;
    let mut dims = Vec::with_capacity(q.rank());
    for ((a, b), d) in qb.iter().zip(kb).zip(vb) {
        dims.push(same(*a, *b).and_then(|x| same(x, *d)).ok_or_else(misfit)?);
    }
    let mut scores = dims.clone();
    scores.extend([*l, *s]);
    if let Some(mask) = c.optional_tensor("attn_mask")? {
        let dtype_fits = mask.dtype == q.dtype || mask.dtype == crate::DType::Bool;
        let fits = broadcast(&mask.dims, &scores).is_some_and(|d| d.len() == scores.len());
        if !dtype_fits || !fits {
            let expected = format!("bool or {} that broadcasts to {}", q.dtype, text(&scores));
            return Err(c.wrong("attn_mask", &expected, &mask.to_string()));
        }
    }
    dims.extend([*l, *u]);
    one(q.dtype, dims)
}
