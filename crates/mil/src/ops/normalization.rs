//! Normalizations.

use super::context::Context;
use super::dims::{same, text};
use super::row::{Default, INT, Opset, Param, Row, T_FLOAT, constant, constant_or, op, var};
use crate::{Dim, Result, TensorType, ValueType};

const LAYER: &[Param] = &[
    var("x", T_FLOAT),
    constant_or("axes", INT, Default::Absent),
    constant_or("gamma", T_FLOAT, Default::Absent),
    constant_or("beta", T_FLOAT, Default::Absent),
    constant_or("epsilon", T_FLOAT, Default::Float(1e-5)),
];
const INSTANCE: &[Param] = &[
    var("x", T_FLOAT),
    constant_or("gamma", T_FLOAT, Default::Absent),
    constant_or("beta", T_FLOAT, Default::Absent),
    constant_or("epsilon", T_FLOAT, Default::Float(1e-5)),
];
const BATCH: &[Param] = &[
    var("x", T_FLOAT),
    constant("mean", T_FLOAT),
    constant("variance", T_FLOAT),
    constant_or("gamma", T_FLOAT, Default::Absent),
    constant_or("beta", T_FLOAT, Default::Absent),
    constant_or("epsilon", T_FLOAT, Default::Float(1e-5)),
];
const L2: &[Param] = &[
    var("x", T_FLOAT),
    constant_or("epsilon", T_FLOAT, Default::Float(1e-6)),
];

pub(super) const OPS: &[Row] = &[
    op(
        "layer_norm",
        Opset::CoreML5,
        LAYER,
        layer,
        "(x - mean) / sqrt(variance + epsilon) over `axes`, times `gamma` plus `beta`",
        "`x [*]`, `gamma`, `beta` of the shape of x at `axes` → `[*]`; all axes when left out",
    ),
    op(
        "instance_norm",
        Opset::CoreML5,
        INSTANCE,
        instance,
        "normalizes each channel of each sample over its spatial axes",
        "`x [N, C, *]` of rank 3 or 4, `gamma [C]`, `beta [C]` → `[N, C, *]`",
    ),
    op(
        "batch_norm",
        Opset::CoreML5,
        BATCH,
        batch,
        "(x - mean) / sqrt(variance + epsilon) per channel with given statistics, times `gamma` plus `beta`",
        "`x [N, C, *]` of rank 3 to 5, `mean`, `variance`, `gamma`, `beta [C]` → `[N, C, *]`",
    ),
    op(
        "l2_norm",
        Opset::CoreML5,
        L2,
        l2,
        "x / sqrt(sum of squares over the last three axes + epsilon)",
        "`x [*, C, H, W]` → `[*, C, H, W]`",
    ),
];

fn same_type(x: &TensorType) -> Result<Vec<ValueType>> {
    Ok(vec![x.clone().into()])
}

/// Type of x.
///
/// Errors: `Parameter` for bad axes, for `gamma` or `beta` of another shape than x at the axes, an epsilon that is no scalar.
/// Source: Core ML op `layer_norm` (iOS15).
fn layer(c: &Context<'_>) -> Result<Vec<ValueType>> {
    let x = c.tensor("x")?;
    let mut axes = c
        .axes("axes", x.rank())?
        .unwrap_or_else(|| (0..x.rank()).collect());
    axes.sort_unstable();
    let expected: Vec<Dim> = axes
        .iter()
        .filter_map(|a| x.dims.get(*a).copied())
        .collect();
    for parameter in ["gamma", "beta"] {
        let Some(t) = c.optional_tensor(parameter)? else {
            continue;
        };
        let fits = t.rank() == expected.len()
            && t.dims
                .iter()
                .zip(&expected)
                .all(|(a, b)| same(*a, *b).is_some());
        if !fits {
            return Err(c.wrong(
                parameter,
                &format!("shape {}", text(&expected)),
                &t.to_string(),
            ));
        }
    }
    epsilon(c)?;
    same_type(x)
}

fn epsilon(c: &Context<'_>) -> Result<()> {
    if c.has("epsilon") {
        c.ranked("epsilon", 0)?;
    }
    Ok(())
}

fn per_channel(c: &Context<'_>, ranks: &[usize], parameters: &[&str]) -> Result<Vec<ValueType>> {
    let x = c.tensor("x")?;
    if !ranks.contains(&x.rank()) {
        return Err(c.wrong("x", &format!("a rank out of {ranks:?}"), &x.to_string()));
    }
    let channels = c.dim("x", x, 1)?;
    for parameter in parameters {
        c.vector(parameter, channels)?;
    }
    epsilon(c)?;
    same_type(x)
}

/// Type of x.
///
/// Errors: `Parameter` for a rank other than 3 or 4, for `gamma` or `beta` that is not `[C]`.
/// Source: Core ML op `instance_norm` (iOS15).
fn instance(c: &Context<'_>) -> Result<Vec<ValueType>> {
    per_channel(c, &[3, 4], &["gamma", "beta"])
}

/// Type of x.
///
/// Errors: `Parameter` for a rank other than 3, 4, 5, for a vector that is not `[C]`.
/// Source: Core ML op `batch_norm` (iOS15).
fn batch(c: &Context<'_>) -> Result<Vec<ValueType>> {
    per_channel(c, &[3, 4, 5], &["mean", "variance", "gamma", "beta"])
}

/// Type of x.
///
/// Errors: `Parameter` when x has fewer than three axes.
/// Source: Core ML op `l2_norm` (iOS15).
fn l2(c: &Context<'_>) -> Result<Vec<ValueType>> {
    let x = c.tensor("x")?;
    if x.rank() < 3 {
        return Err(c.wrong("x", "rank 3 or more", &x.to_string()));
    }
    epsilon(c)?;
    same_type(x)
}
