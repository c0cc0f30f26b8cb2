//! Pooling.

use super::context::Context;
use super::conv::{pad_type, positions, windows};
use super::dims::one;
use super::row::{
    BOOL, Default, INT, Opset, Param, Row, STRING, T_FLOAT, constant, constant_or, op, var,
};
use crate::{Dim, Result, ValueType};

const KERNEL_SIZES: Param = constant("kernel_sizes", INT);
const STRIDES: Param = constant_or("strides", INT, Default::Repeat(1));
const PAD_TYPE: Param = constant("pad_type", STRING);
const PAD: Param = constant_or("pad", INT, Default::Repeat(0));
const CEIL_MODE: Param = constant_or("ceil_mode", BOOL, Default::Bool(false));

const POOL: &[Param] = &[
    var("x", T_FLOAT),
    KERNEL_SIZES,
    STRIDES,
    PAD_TYPE,
    PAD,
    CEIL_MODE,
];
const AVG_POOL: &[Param] = &[
    var("x", T_FLOAT),
    KERNEL_SIZES,
    STRIDES,
    PAD_TYPE,
    PAD,
    CEIL_MODE,
    constant_or("exclude_padding_from_average", BOOL, Default::Bool(false)),
];

const SHAPES: &str = "`x [N, C, *D]` of rank 3 to 5 → `[N, C, *D']`";

pub(super) const OPS: &[Row] = &[
    op(
        "avg_pool",
        Opset::CoreML5,
        AVG_POOL,
        pool,
        "mean of each window",
        SHAPES,
    ),
    op(
        "max_pool",
        Opset::CoreML5,
        POOL,
        pool,
        "largest element of each window",
        SHAPES,
    ),
    op(
        "l2_pool",
        Opset::CoreML5,
        POOL,
        pool,
        "square root of the sum of squares of each window",
        SHAPES,
    ),
];

/// Window positions as in a convolution; with `ceil_mode` the quotient is rounded up.
///
/// Errors: `Parameter` for a rank outside 3..=5 (`l2_pool`: 3..=4), a wrong number of sizes, `custom` without `pad`, `ceil_mode` with
/// `same`, with three spatial axes or with unequal padding; `Op` when the window is larger than the padded input.
/// Source: Core ML ops `avg_pool`, `max_pool`, `l2_pool` (iOS15).
fn pool(c: &Context<'_>) -> Result<Vec<ValueType>> {
    let x = c.tensor("x")?;
    if !(3..=5).contains(&x.rank()) {
        return Err(c.wrong("x", "rank 3, 4 or 5", &x.to_string()));
    }
    let n = x.rank() - 2;
    if n > 2 && c.kind() == "l2_pool" {
        return Err(c.wrong("x", "rank 3 or 4", &x.to_string()));
    }
    let mut kernel = Vec::with_capacity(n);
    for k in c.ints("kernel_sizes", n, 1)? {
        kernel.push(Dim::Fixed(c.positive("kernel_sizes", k)?));
    }
    let pad_type = pad_type(c)?;
    let windows = windows(c, &kernel, pad_type)?;
    let ceil = c.flag("ceil_mode", false)?;
    if ceil && (n > 2 || pad_type.starts_with("same") || windows.iter().any(|w| w.pad.0 != w.pad.1))
    {
        let expected = "false with three spatial axes, `same` or unequal padding";
        return Err(c.wrong("ceil_mode", expected, "true"));
    }
    let mut dims: Vec<Dim> = x.dims.iter().take(2).copied().collect();
    for (d, w) in x.dims.iter().skip(2).zip(&windows) {
        dims.push(positions(c, *d, w, pad_type, ceil)?);
    }
    one(x.dtype, dims)
}
