//! Compressed weights.

use super::{refuses, refuses_in};
use crate::{Given, i, s, uints, w};

#[test]
fn constexprs() {
    let shape = || ("shape", uints(&[3, 5]));
    let lut = |n: &str| ("lut", w(&format!("fp16 {n}")));
    refuses(
        "constexpr_lut_to_dense",
        &[("indices", w("uint8 6")), lut("8"), shape()],
        "parameter `lut`: expected 2, 4, 16, 64 or 256 entries",
    );
    refuses(
        "constexpr_lut_to_dense",
        &[("indices", w("uint8 7")), lut("16"), shape()],
        "parameter `indices`: expected 8 elements",
    );
    let huge = || ("shape", uints(&[u32::MAX, u32::MAX, u32::MAX]));
    refuses(
        "constexpr_lut_to_dense",
        &[("indices", w("uint8 7")), lut("16"), huge()],
        "too large",
    );
    refuses(
        "constexpr_sparse_to_dense",
        &[
            ("nonzero_data", w("fp16 16")),
            ("mask", w("uint8 2")),
            shape(),
        ],
        "expected at most 15 elements",
    );
    refuses(
        "constexpr_cast",
        &[("source_val", w("fp16 2")), ("output_dtype", s("fp16"))],
        "parameter `output_dtype`",
    );
    let affine = |scale: &str, zero: &str| {
        vec![
            ("quantized_data", w("int8 4 6")),
            ("scale", w(scale)),
            ("zero_point", w(zero)),
            ("axis", i(0)),
        ]
    };
    refuses(
        "constexpr_affine_dequantize",
        &affine("fp16 6", "int8"),
        "parameter `scale`: expected a scalar or shape [4]",
    );
    refuses(
        "constexpr_affine_dequantize",
        &affine("fp16 4", "uint8 4"),
        "parameter `zero_point`: expected dtype int8 or fp32",
    );
    let palette = |indices: &str, lut: &str| vec![("indices", w(indices)), ("lut", w(lut))];
    let refuses =
        |kind: &str, given: &[(&str, Given)], text: &str| refuses_in("CoreML8", kind, given, text);
    refuses(
        "constexpr_lut_to_dense",
        &palette("uint4 4 6", "fp16 1 16 1"),
        "parameter `lut`: expected rank 4",
    );
    refuses(
        "constexpr_lut_to_dense",
        &palette("uint4 4 6", "fp16 1 1 8 1"),
        "expected 16 entries for uint4 codes",
    );
    refuses(
        "constexpr_lut_to_dense",
        &palette("uint4 4 6", "fp16 3 1 16 1"),
        "expected axes that divide [4, 6], found [3, 1]",
    );
    refuses(
        "constexpr_lut_to_dense",
        &palette("uint4 4 6", "fp16 1 1 16 2"),
        "expected an axis for vectors of [2], found nothing",
    );
    let blocks = |scale: &str, offset: &str| {
        vec![
            ("data", w("int8 4 6")),
            ("scale", w(scale)),
            ("offset", w(offset)),
        ]
    };
    refuses(
        "constexpr_blockwise_shift_scale",
        &blocks("fp16 4 4", "int8 4 4"),
        "parameter `scale`: expected axes that divide [4, 6]",
    );
    refuses(
        "constexpr_blockwise_shift_scale",
        &blocks("fp16 4 1", "int8 4 2"),
        "parameter `offset`: expected shape [4, 1]",
    );
    refuses(
        "constexpr_blockwise_shift_scale",
        &blocks("fp16 4 1", "uint8 4 1"),
        "in dtype int8 or a float",
    );
}
