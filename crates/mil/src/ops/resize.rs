//! Resizing of the last two axes.

use super::context::Context;
use super::dims::{UNKNOWN, one, size};
use super::row::{
    BOOL, Default, INT, Opset, Param, Row, SCALE, SIZES, STRING, T_FLOAT, T_NUMBER, UINT, constant,
    constant_or, op, var,
};
use crate::{Dim, Result, ValueType};

const SCALE_HEIGHT: Param = constant_or("scale_factor_height", SCALE, Default::Int(1));
const SCALE_WIDTH: Param = constant_or("scale_factor_width", SCALE, Default::Int(1));
const ALIGN: Param = constant_or("align_corners", BOOL, Default::Bool(true));
const HALF: Param = constant_or("half_pixel_centers", BOOL, Default::Absent);
const SCALED: &str = "`x [*, H, W]` → `[*, floor(H · sh), floor(W · sw)]`";
const SIZED: &str = "`x [*, H, W]` → `[*, target height, target width]`";

pub(super) const OPS: &[Row] = &[
    op(
        "upsample_nearest_neighbor",
        Opset::CoreML5,
        &[var("x", T_FLOAT), SCALE_HEIGHT, SCALE_WIDTH],
        upsample,
        "scales the last two axes, each element taken from its nearest",
        SCALED,
    ),
    op(
        "upsample_bilinear",
        Opset::CoreML5,
        &[var("x", T_FLOAT), SCALE_HEIGHT, SCALE_WIDTH, ALIGN],
        upsample,
        "scales the last two axes with linear interpolation",
        SCALED,
    ),
    op(
        "upsample_bilinear",
        Opset::CoreML6,
        &[var("x", T_FLOAT), SCALE_HEIGHT, SCALE_WIDTH, ALIGN, HALF],
        upsample,
        "scales the last two axes with linear interpolation; `half_pixel_centers` is not `align_corners` when left out",
        SCALED,
    ),
    op(
        "resize_nearest_neighbor",
        Opset::CoreML5,
        &[
            var("x", T_FLOAT),
            constant("target_size_height", INT),
            constant("target_size_width", INT),
        ],
        target,
        "the last two axes at given sizes, each element taken from its nearest",
        SIZED,
    ),
    op(
        "resize_bilinear",
        Opset::CoreML5,
        &[
            var("x", T_FLOAT),
            constant_or("target_size_height", INT, Default::Int(1)),
            constant_or("target_size_width", INT, Default::Int(1)),
            constant_or("sampling_mode", STRING, Default::String("DEFAULT")),
        ],
        bilinear,
        "the last two axes at given sizes with linear interpolation",
        SIZED,
    ),
    op(
        "resize",
        Opset::CoreML7,
        &[
            var("x", T_NUMBER),
            var("shape", SIZES),
            constant("resized_dims", UINT),
            constant_or("interpolation_mode", STRING, Default::String("LINEAR")),
            constant_or("sampling_mode", STRING, Default::String("DEFAULT")),
        ],
        resize,
        "the last axes at given sizes",
        "`x [*]`, `shape [K]` → the last `resized_dims` axes from `shape`; 0 keeps the axis of x",
    ),
];

fn factor(c: &Context<'_>, parameter: &str) -> Result<f64> {
    let Some(value) = c.operand(parameter).and_then(|o| o.value) else {
        return Ok(1.0);
    };
    let number = match value.as_ints() {
        Some([i]) => Some(f64::from(*i)),
        Some(_) => None,
        None => value
            .as_floats()
            .filter(|v| v.len() == 1)
            .and_then(|v| v.first().map(|x| f64::from(*x))),
    };
    number
        .filter(|x| x.is_finite() && *x > 0.0)
        .ok_or_else(|| c.wrong(parameter, "one positive number", &value.ty.to_string()))
}

fn replace_last_two(c: &Context<'_>, height: Dim, width: Dim) -> Result<Vec<ValueType>> {
    let x = c.tensor("x")?;
    let mut dims = x.dims.clone();
    match dims.as_mut_slice() {
        [_, .., h, w] => {
            *h = height;
            *w = width;
        }
        _ => return Err(c.wrong("x", "rank 3 or more", &x.to_string())),
    }
    one(x.dtype, dims)
}

/// Last two axes times their factors, rounded down.
///
/// Errors: `Parameter` for a rank below 3, a factor that is not positive.
/// Source: Core ML ops `upsample_nearest_neighbor`, `upsample_bilinear` (iOS15, iOS16).
fn upsample(c: &Context<'_>) -> Result<Vec<ValueType>> {
    let x = c.tensor("x")?;
    let scaled = |back: usize, parameter: &str| -> Result<Dim> {
        let f = factor(c, parameter)?;
        let i = x
            .rank()
            .checked_sub(back)
            .ok_or_else(|| c.wrong("x", "rank 3 or more", &x.to_string()))?;
        let Some(n) = size(c.dim("x", x, i)?) else {
            return Ok(UNKNOWN);
        };
        let scaled = (n as f64 * f).floor();
        if scaled > f64::from(i32::MAX) {
            return Err(c.wrong(
                parameter,
                "a factor that keeps the axis below 2^31",
                &f.to_string(),
            ));
        }
        // Rounded, positive and at most 2^31.
        Ok(Dim::Fixed(scaled as usize))
    };
    let (h, w) = (
        scaled(2, "scale_factor_height")?,
        scaled(1, "scale_factor_width")?,
    );
    replace_last_two(c, h, w)
}

/// Last two axes at their target sizes.
///
/// Errors: `Parameter` for a rank below 3, a size that is not positive.
/// Source: Core ML op `resize_nearest_neighbor` (iOS15).
fn target(c: &Context<'_>) -> Result<Vec<ValueType>> {
    let length = |p: &str| -> Result<Dim> { Ok(Dim::Fixed(c.positive(p, c.int(p, 1)?)?)) };
    replace_last_two(
        c,
        length("target_size_height")?,
        length("target_size_width")?,
    )
}

const SAMPLING: &[&str] = &[
    "DEFAULT",
    "STRICT_ALIGN_CORNERS",
    "ALIGN_CORNERS",
    "UNALIGN_CORNERS",
    "OFFSET_CORNERS",
];

/// As [`target`], with a sampling mode.
///
/// Errors: also `Parameter` for an unknown sampling mode.
/// Source: Core ML op `resize_bilinear` (iOS15).
fn bilinear(c: &Context<'_>) -> Result<Vec<ValueType>> {
    c.choice("sampling_mode", SAMPLING)?;
    target(c)
}

/// The last axes from the end of `shape`.
///
/// Errors: `Parameter` for more axes than x or `shape` have, unknown modes, a negative size.
/// Source: Core ML op `resize` (iOS17).
fn resize(c: &Context<'_>) -> Result<Vec<ValueType>> {
    let (x, shape) = (c.tensor("x")?, c.ranked("shape", 1)?);
    c.choice("interpolation_mode", &["LINEAR", "NEAREST_NEIGHBOR"])?;
    c.choice("sampling_mode", SAMPLING)?;
    let n = c.non_negative("resized_dims", c.int("resized_dims", 0)?)?;
    let length = size(c.dim("shape", shape, 0)?).unwrap_or(n);
    if n > length || length > x.rank() {
        let expected = format!(
            "at most {length} with `shape` of at most {} elements",
            x.rank()
        );
        return Err(c.wrong("resized_dims", &expected, &n.to_string()));
    }
    let given = c.known_ints("shape")?;
    let mut dims = x.dims.clone();
    for (i, d) in dims.iter_mut().skip(x.rank() - n).enumerate() {
        match given
            .as_ref()
            .map(|g| g.get(length - n + i).copied().unwrap_or(0))
        {
            Some(0) => {}
            Some(s) => *d = Dim::Fixed(c.positive("shape", s)?),
            None => *d = UNKNOWN,
        }
    }
    one(x.dtype, dims)
}
