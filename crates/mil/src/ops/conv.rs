//! Convolutions.

use super::context::Context;
use super::dims::{UNKNOWN, one, size, text};
use super::row::{
    Default, INT, Opset, Param, Row, STRING, T_FLOAT, constant, constant_or, op, var, var_or,
};
use crate::{Dim, Result, TensorType, ValueType};

const STRIDES: Param = constant_or("strides", INT, Default::Repeat(1));
const PAD_TYPE: Param = constant_or("pad_type", STRING, Default::String("valid"));
const PAD: Param = constant_or("pad", INT, Default::Repeat(0));
const DILATIONS: Param = constant_or("dilations", INT, Default::Repeat(1));
const GROUPS: Param = constant_or("groups", INT, Default::Int(1));
const OUTPUT_SHAPE: Param = constant_or("output_shape", INT, Default::Absent);

const CONV_15: &[Param] = &[
    var("x", T_FLOAT),
    var("weight", T_FLOAT),
    constant_or("bias", T_FLOAT, Default::Absent),
    STRIDES,
    PAD_TYPE,
    PAD,
    DILATIONS,
    GROUPS,
];
const CONV_17: &[Param] = &[
    var("x", T_FLOAT),
    var("weight", T_FLOAT),
    var_or("bias", T_FLOAT, Default::Absent),
    STRIDES,
    PAD_TYPE,
    PAD,
    DILATIONS,
    GROUPS,
];
const TRANSPOSE_15: &[Param] = &[
    var("x", T_FLOAT),
    constant("weight", T_FLOAT),
    constant_or("bias", T_FLOAT, Default::Absent),
    PAD,
    OUTPUT_SHAPE,
    PAD_TYPE,
    STRIDES,
    DILATIONS,
    GROUPS,
];
const TRANSPOSE_17: &[Param] = &[
    var("x", T_FLOAT),
    var("weight", T_FLOAT),
    var_or("bias", T_FLOAT, Default::Absent),
    PAD,
    OUTPUT_SHAPE,
    PAD_TYPE,
    STRIDES,
    DILATIONS,
    GROUPS,
];

const CONV_SUMMARY: &str = "convolution over one to three spatial axes";
const CONV_SHAPES: &str = "`x [N, C, *D]`, `weight [O, C/g, *K]`, `bias [O]` → `[N, O, *D']`";
const TRANSPOSE_SUMMARY: &str = "transposed convolution over one to three spatial axes";
const TRANSPOSE_SHAPES: &str = "`x [N, C, *D]`, `weight [C, O/g, *K]`, `bias [O]` → `[N, O, *D']`";

pub(super) const OPS: &[Row] = &[
    op(
        "conv",
        Opset::CoreML5,
        CONV_15,
        conv,
        CONV_SUMMARY,
        CONV_SHAPES,
    ),
    op(
        "conv",
        Opset::CoreML7,
        CONV_17,
        conv,
        CONV_SUMMARY,
        CONV_SHAPES,
    ),
    op(
        "conv_transpose",
        Opset::CoreML5,
        TRANSPOSE_15,
        conv_transpose,
        TRANSPOSE_SUMMARY,
        TRANSPOSE_SHAPES,
    ),
    op(
        "conv_transpose",
        Opset::CoreML7,
        TRANSPOSE_17,
        conv_transpose,
        TRANSPOSE_SUMMARY,
        TRANSPOSE_SHAPES,
    ),
];

/// Windows of one spatial axis.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// Kernel size before dilation.
    pub(super) kernel: Dim,
    /// Step.
    pub(super) stride: usize,
    /// Distance of kernel elements.
    pub(super) dilation: usize,
    /// Padding before and after, used with `custom`.
    pub(super) pad: (usize, usize),
}

impl Window {
    /// Extent of the dilated kernel.
    pub(super) fn extent(&self) -> Option<usize> {
        size(self.kernel)?
            .checked_sub(1)?
            .checked_mul(self.dilation)?
            .checked_add(1)
    }
}

/// Spatial parameters `strides`, `dilations`, `pad` and a pad type, one window per spatial axis.
pub(super) fn windows(c: &Context<'_>, kernel: &[Dim], pad_type: &str) -> Result<Vec<Window>> {
    let n = kernel.len();
    let strides = c.ints("strides", n, 1)?;
    let dilations = c.ints("dilations", n, 1)?;
    if pad_type == "custom" && !c.has("pad") {
        return Err(c.wrong(
            "pad",
            &format!("{} elements with `custom`", 2 * n),
            "nothing",
        ));
    }
    let pad = c.ints("pad", 2 * n, 0)?;
    let mut out = Vec::with_capacity(n);
    for (((k, s), d), p) in kernel
        .iter()
        .zip(strides)
        .zip(dilations)
        .zip(pad.chunks_exact(2))
    {
        if size(*k) == Some(0) {
            return Err(c.fail("expected a kernel of size 1 or more, found 0"));
        }
        out.push(Window {
            kernel: *k,
            stride: c.positive("strides", s)?,
            dilation: c.positive("dilations", d)?,
            pad: match p {
                [a, b] if pad_type == "custom" => {
                    (c.non_negative("pad", *a)?, c.non_negative("pad", *b)?)
                }
                _ => (0, 0),
            },
        });
    }
    Ok(out)
}

/// Number of window positions on an axis of `input` elements.
pub(super) fn positions(
    c: &Context<'_>,
    input: Dim,
    window: &Window,
    pad_type: &str,
    ceil: bool,
) -> Result<Dim> {
    let Some(n) = size(input) else {
        return Ok(UNKNOWN);
    };
    if pad_type == "same" || pad_type == "same_lower" {
        return Ok(Dim::Fixed(n.div_ceil(window.stride)));
    }
    let Some(extent) = window.extent() else {
        return match window.kernel {
            Dim::Fixed(_) => Err(c.fail("the dilated kernel is too large")),
            Dim::Unknown { .. } => Ok(UNKNOWN),
        };
    };
    let padded = n
        .checked_add(window.pad.0)
        .and_then(|n| n.checked_add(window.pad.1))
        .ok_or_else(|| c.fail("the padded size is too large"))?;
    let room = padded.checked_sub(extent).ok_or_else(|| {
        c.fail(format!(
            "the kernel covers {extent} elements, but the padded input has {padded}"
        ))
    })?;
    let mut count = 1 + if ceil {
        room.div_ceil(window.stride)
    } else {
        room / window.stride
    };
    // With `ceil_mode` the last window must still begin inside the input or its leading padding.
    if ceil
        && (count - 1)
            .checked_mul(window.stride)
            .is_none_or(|start| start >= n + window.pad.0)
    {
        count -= 1;
    }
    Ok(Dim::Fixed(count))
}

/// `pad_type`; `same_lower` exists from iOS16 on.
pub(super) fn pad_type(c: &Context<'_>) -> Result<&'static str> {
    const WORDS: &[&str] = &["valid", "same", "custom", "same_lower"];
    let words = if c.opset() == Opset::CoreML5 {
        WORDS.get(..3).unwrap_or(WORDS)
    } else {
        WORDS
    };
    c.choice("pad_type", words)
}

const PAD_TYPES_TRANSPOSE: &[&str] = &["valid", "same", "custom"];

/// x and weight of equal rank 3, 4 or 5, and their spatial dimensions.
fn operands<'a>(c: &Context<'a>) -> Result<(&'a TensorType, &'a TensorType)> {
    let (x, weight) = (c.tensor("x")?, c.tensor("weight")?);
    if !(3..=5).contains(&x.rank()) {
        return Err(c.wrong("x", "rank 3, 4 or 5", &x.to_string()));
    }
    if weight.rank() != x.rank() {
        let expected = format!("rank {} as `x`", x.rank());
        return Err(c.wrong("weight", &expected, &weight.to_string()));
    }
    Ok((x, weight))
}

/// Output channels O and `D' = floor((D + pad - ((K - 1) · dilation + 1)) / stride) + 1`.
///
/// Errors: `Parameter` when C is not groups times the weight's second axis, O is no multiple of groups, the bias is not
/// `[O]`, `custom` lacks `pad`; `Op` when the kernel is larger than the padded input.
/// Source: Core ML op `conv` (iOS15, iOS17).
fn conv(c: &Context<'_>) -> Result<Vec<ValueType>> {
    let (x, weight) = operands(c)?;
    let groups = c.positive("groups", c.int("groups", 1)?)?;
    let (channels, out) = (c.dim("x", x, 1)?, c.dim("weight", weight, 0)?);
    let per_group = c.dim("weight", weight, 1)?;
    if let (Some(n), Some(m)) = (size(channels), size(per_group))
        && m.checked_mul(groups) != Some(n)
    {
        return Err(c.wrong(
            "weight",
            &format!(
                "second axis {n} / {groups} groups, with `x` {}",
                text(&x.dims)
            ),
            &text(&weight.dims),
        ));
    }
    if size(out).is_some_and(|o| o % groups != 0) {
        let expected = format!("first axis divisible by {groups} groups");
        return Err(c.wrong("weight", &expected, &text(&weight.dims)));
    }
    c.vector("bias", out)?;
    let pad_type = pad_type(c)?;
    let windows = windows(c, weight.dims.get(2..).unwrap_or_default(), pad_type)?;
    let mut dims = vec![c.dim("x", x, 0)?, out];
    for (d, w) in x.dims.iter().skip(2).zip(&windows) {
        dims.push(positions(c, *d, w, pad_type, false)?);
    }
    one(x.dtype, dims)
}

/// Output channels O and `D' = (D - 1) · stride + (K - 1) · dilation + 1 - pad`; `D · stride` with `same`;
/// `output_shape` (the whole shape) when it is given.
///
/// Errors: `Parameter` when the weight's first axis is not C, C is no multiple of groups, the bias is not `[O]`,
/// `custom` lacks `pad`, `output_shape` disagrees in N or O; `Op` when nothing is left after the padding.
/// Source: Core ML op `conv_transpose` (iOS15, iOS17).
fn conv_transpose(c: &Context<'_>) -> Result<Vec<ValueType>> {
    let (x, weight) = operands(c)?;
    let groups = c.positive("groups", c.int("groups", 1)?)?;
    let channels = c.dim("x", x, 1)?;
    if super::dims::same(channels, c.dim("weight", weight, 0)?).is_none() {
        let expected = format!("first axis {} as `x`", text(&[channels]));
        return Err(c.wrong("weight", &expected, &text(&weight.dims)));
    }
    if size(channels).is_some_and(|n| n % groups != 0) {
        return Err(c.wrong(
            "groups",
            "a divisor of the input channels",
            &groups.to_string(),
        ));
    }
    let out = match size(c.dim("weight", weight, 1)?) {
        Some(n) => Dim::Fixed(
            n.checked_mul(groups)
                .ok_or_else(|| c.fail("the number of output channels is too large"))?,
        ),
        None => UNKNOWN,
    };
    c.vector("bias", out)?;
    let pad_type = c.choice("pad_type", PAD_TYPES_TRANSPOSE)?;
    let windows = windows(c, weight.dims.get(2..).unwrap_or_default(), pad_type)?;
    let mut dims = vec![c.dim("x", x, 0)?, out];
    if let Some(shape) = c.known_ints("output_shape")? {
        return given_shape(c, x, dims, &shape);
    }
    for (d, w) in x.dims.iter().skip(2).zip(&windows) {
        dims.push(match (size(*d), w.extent()) {
            (Some(n), Some(extent)) => {
                let length = if pad_type == "same" {
                    n.checked_mul(w.stride)
                } else {
                    n.checked_sub(1)
                        .and_then(|n| n.checked_mul(w.stride))
                        .and_then(|n| n.checked_add(extent))
                        .and_then(|n| n.checked_sub(w.pad.0))
                        .and_then(|n| n.checked_sub(w.pad.1))
                };
                Dim::Fixed(length.ok_or_else(|| c.fail("the padding exceeds the output"))?)
            }
            _ => UNKNOWN,
        });
    }
    one(x.dtype, dims)
}

fn given_shape(
    c: &Context<'_>,
    x: &TensorType,
    start: Vec<Dim>,
    shape: &[i64],
) -> Result<Vec<ValueType>> {
    let mut dims = Vec::with_capacity(shape.len());
    for &n in shape {
        dims.push(Dim::Fixed(c.positive("output_shape", n)?));
    }
    let fits = dims.len() == x.rank()
        && start
            .iter()
            .zip(&dims)
            .all(|(a, b)| super::dims::same(*a, *b).is_some());
    if !fits {
        let expected = format!("rank {} beginning with {}", x.rank(), text(&start));
        return Err(c.wrong("output_shape", &expected, &format!("{shape:?}")));
    }
    one(x.dtype, dims)
}
