//! Ops of Core ML that the op table has no row for.

use crate::ops::Opset;
use crate::ops::Opset::{CoreML5, CoreML6, CoreML7, CoreML8};

/// Name and first opset. The types of these ops are taken as declared.
///
/// Source: coremltools 9.0, `ops/defs`.
pub const UNCHECKED_OPS: &[(&str, Opset)] = &[
    ("affine", CoreML5),
    ("batch_to_space", CoreML5),
    ("classify", CoreML5),
    ("constexpr_lut_to_sparse", CoreML8),
    ("constexpr_sparse_blockwise_shift_scale", CoreML8),
    ("conv_quantized", CoreML5),
    ("crop", CoreML5),
    ("crop_resize", CoreML5),
    ("depth_to_space", CoreML5),
    ("dequantize", CoreML7),
    ("gru", CoreML5),
    ("list_gather", CoreML5),
    ("list_length", CoreML5),
    ("list_read", CoreML5),
    ("list_scatter", CoreML5),
    ("list_write", CoreML5),
    ("local_response_norm", CoreML5),
    ("lstm", CoreML5),
    ("make_list", CoreML5),
    ("non_maximum_suppression", CoreML5),
    ("pixel_unshuffle", CoreML6),
    ("quantize", CoreML7),
    ("random_bernoulli", CoreML5),
    ("random_categorical", CoreML5),
    ("random_normal", CoreML5),
    ("random_uniform", CoreML5),
    ("resample", CoreML5),
    ("reshape_like", CoreML6),
    ("reverse_sequence", CoreML5),
    ("rnn", CoreML5),
    ("scatter", CoreML5),
    ("scatter_along_axis", CoreML5),
    ("scatter_nd", CoreML5),
    ("sliding_windows", CoreML5),
    ("softplus_parametric", CoreML5),
    ("space_to_batch", CoreML5),
    ("space_to_depth", CoreML5),
    ("while_loop", CoreML5),
];
