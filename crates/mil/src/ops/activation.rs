//! Activations and softmax. `tanh` is in the elementwise group.

use super::context::Context;
use super::dims::{same, text};
use super::elementwise::unary;
use super::row::{
    Default, INT, Opset, Param, Row, STRING, T_FLOAT, constant, constant_or, op, var,
};
use crate::{Dim, Result, ValueType};

const X: &[Param] = &[var("x", T_FLOAT)];
const X_ALPHA: &[Param] = &[var("x", T_FLOAT), constant("alpha", T_FLOAT)];
const X_ALPHA_BETA: &[Param] = &[
    var("x", T_FLOAT),
    constant("alpha", T_FLOAT),
    constant("beta", T_FLOAT),
];

const fn activation(name: &'static str, params: &'static [Param], summary: &'static str) -> Row {
    op(
        name,
        Opset::CoreML5,
        params,
        unary,
        summary,
        "`x [*]` → `[*]`",
    )
}

pub(super) const OPS: &[Row] = &[
    activation("relu", X, "max(0, x)"),
    activation("relu6", X, "min(max(0, x), 6)"),
    activation("sigmoid", X, "1 / (1 + exp(-x))"),
    activation("silu", X, "x · sigmoid(x)"),
    activation("softplus", X, "log(1 + exp(x))"),
    activation("softsign", X, "x / (1 + |x|)"),
    activation("elu", X_ALPHA, "x for x > 0, else alpha · (exp(x) - 1)"),
    activation("leaky_relu", X_ALPHA, "x for x ≥ 0, else alpha · x"),
    activation("thresholded_relu", X_ALPHA, "x for x ≥ alpha, else 0"),
    activation(
        "clamped_relu",
        X_ALPHA_BETA,
        "min(beta, x for x ≥ 0, else alpha · x)",
    ),
    activation("linear_activation", X_ALPHA_BETA, "alpha · x + beta"),
    activation("scaled_tanh", X_ALPHA_BETA, "alpha · tanh(beta · x)"),
    activation(
        "sigmoid_hard",
        X_ALPHA_BETA,
        "min(max(alpha · x + beta, 0), 1)",
    ),
    op(
        "prelu",
        Opset::CoreML5,
        X_ALPHA,
        prelu,
        "x for x ≥ 0, else alpha of the channel · x",
        "`x [N, C, *]`, `alpha [C]` → `[N, C, *]`",
    ),
    op(
        "gelu",
        Opset::CoreML5,
        &[
            var("x", T_FLOAT),
            constant_or("mode", STRING, Default::String("EXACT")),
        ],
        gelu,
        "x · Φ(x), exact or in one of two approximations",
        "`x [*]` → `[*]`",
    ),
    op(
        "softmax",
        Opset::CoreML5,
        &[
            var("x", T_FLOAT),
            constant_or("axis", INT, Default::Int(-1)),
        ],
        softmax,
        "exp(x) / sum of exp(x) along an axis",
        "`x [*]` → `[*]`",
    ),
];

/// Type of x.
///
/// Errors: `Parameter` when `mode` is none of `EXACT`, `TANH_APPROXIMATION`, `SIGMOID_APPROXIMATION`.
/// Source: Core ML op `gelu` (iOS15).
fn gelu(c: &Context<'_>) -> Result<Vec<ValueType>> {
    c.choice(
        "mode",
        &["EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION"],
    )?;
    Ok(vec![c.tensor("x")?.clone().into()])
}

/// Type of x.
///
/// Errors: `Parameter` when `axis` is outside [-rank, rank).
/// Source: Core ML op `softmax` (iOS15).
fn softmax(c: &Context<'_>) -> Result<Vec<ValueType>> {
    let x = c.tensor("x")?;
    c.axis("axis", c.int("axis", -1)?, x.rank())?;
    Ok(vec![x.clone().into()])
}

/// Type of x.
///
/// Errors: `Parameter` when x has no channel axis or `alpha` has another length than it (one element is accepted).
/// Source: Core ML op `prelu` (iOS15).
fn prelu(c: &Context<'_>) -> Result<Vec<ValueType>> {
    let x = c.tensor("x")?;
    let alpha = c.ranked("alpha", 1)?;
    let channels = c.dim("x", x, 1)?;
    let length = c.dim("alpha", alpha, 0)?;
    if length != Dim::Fixed(1) && same(length, channels).is_none() {
        return Err(c.wrong(
            "alpha",
            &format!("shape {}", text(&[channels])),
            &alpha.to_string(),
        ));
    }
    Ok(vec![x.clone().into()])
}
