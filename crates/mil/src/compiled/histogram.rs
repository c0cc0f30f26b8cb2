//! Op counts, under the names of Apple's metadata.

use crate::{Block, Function, Program};
use std::collections::BTreeMap;

/// Opsets in which Apple redefined ops, and the ops: (opset, ops). The program's key has the newest one up to its own opset.
///
/// An op without a row, or none up to the program's opset, carries no prefix. Which rows stand on what is said above each;
/// the page on compiled models lists them.
const REDEFINED: &[(u32, &[&str])] = &[
    // Apple's compiled models.
    (
        16,
        &[
            "add",
            "cast",
            "constexpr_affine_dequantize",
            "mul",
            "reduce_argmax",
            "reduce_max",
            "reduce_sum",
            "relu",
            "sigmoid",
            "silu",
            "softmax",
        ],
    ),
    // Published compute plans, whose operator names have the same prefixes, and look-ups of apps.
    (
        16,
        &[
            "batch_norm",
            "constexpr_lut_to_dense",
            "conv",
            "conv_transpose",
            "einsum",
            "gather",
            "gather_along_axis",
            "gelu",
            "layer_norm",
            "leaky_relu",
            "linear",
            "matmul",
            "pow",
            "real_div",
            "reduce_mean",
            "reshape",
            "rsqrt",
            "sin",
            "square",
            "sub",
            "topk",
            "upsample_bilinear",
        ],
    ),
    // Their likes.
    (
        16,
        &[
            "abs",
            "constexpr_cast",
            "constexpr_sparse_to_dense",
            "cos",
            "erf",
            "exp",
            "gather_nd",
            "instance_norm",
            "maximum",
            "minimum",
            "reduce_l2_norm",
            "reduce_min",
            "reduce_sum_square",
            "sqrt",
            "tanh",
        ],
    ),
    // Apple's compiled models.
    (
        17,
        &[
            "add",
            "cast",
            "clip",
            "concat",
            "conv",
            "expand_dims",
            "floor",
            "floor_div",
            "gather",
            "gather_along_axis",
            "greater_equal",
            "layer_norm",
            "less",
            "linear",
            "log",
            "logical_and",
            "logical_not",
            "matmul",
            "maximum",
            "minimum",
            "mul",
            "pow",
            "reduce_argmax",
            "reshape",
            "slice_by_index",
            "squeeze",
            "sub",
            "topk",
            "transpose",
        ],
    ),
    // Their likes.
    (
        17,
        &[
            "conv_transpose",
            "dequantize",
            "equal",
            "gather_nd",
            "greater",
            "instance_norm",
            "less_equal",
            "logical_or",
            "not_equal",
            "quantize",
            "real_div",
        ],
    ),
    // One of Apple's compiled models.
    (18, &["relu"]),
    // Published compute plans.
    (
        18,
        &[
            "add",
            "batch_norm",
            "cast",
            "concat",
            "constexpr_blockwise_shift_scale",
            "constexpr_lut_to_dense",
            "conv",
            "equal",
            "expand_dims",
            "gather",
            "gelu",
            "greater_equal",
            "layer_norm",
            "linear",
            "lstm",
            "matmul",
            "mul",
            "pow",
            "read_state",
            "reshape",
            "rsqrt",
            "scaled_dot_product_attention",
            "sigmoid",
            "silu",
            "slice_by_index",
            "slice_update",
            "softmax",
            "squeeze",
            "sub",
            "tanh",
            "topk",
            "transpose",
            "write_state",
        ],
    ),
    // Their likes.
    (
        18,
        &[
            "constexpr_lut_to_sparse",
            "constexpr_sparse_blockwise_shift_scale",
            "constexpr_sparse_to_dense",
            "conv_transpose",
            "cos",
            "erf",
            "exp",
            "gather_along_axis",
            "gather_nd",
            "instance_norm",
            "leaky_relu",
            "real_div",
            "sin",
            "sqrt",
            "square",
        ],
    ),
];

/// Ops of a program by the keys of Apple's metadata, for instance `Ios16.reduceMax`. `const` does not count, the constexpr
/// ops do.
pub fn histogram(program: &Program) -> BTreeMap<String, i64> {
    histogram_of(program.functions.values())
}

/// [`histogram`] of some functions.
pub(super) fn histogram_of<'a>(
    functions: impl Iterator<Item = &'a Function>,
) -> BTreeMap<String, i64> {
    let mut counts = BTreeMap::new();
    for function in functions {
        let opset = function
            .opset
            .strip_prefix("CoreML")
            .and_then(|n| n.parse::<u32>().ok())
            .map_or(15, |n| n + 10);
        if let Some(block) = function.body() {
            count(block, opset, &mut counts);
        }
    }
    counts
}

fn count(block: &Block, opset: u32, counts: &mut BTreeMap<String, i64>) {
    for op in block.operations.iter().filter(|op| op.kind != "const") {
        *counts.entry(key(&op.kind, opset)).or_default() += 1;
        for nested in &op.blocks {
            count(nested, opset, counts);
        }
    }
}

/// `Ios16.reduceMax`, or `Transpose` for an op that no opset up to the program's has redefined.
pub(super) fn key(op: &str, opset: u32) -> String {
    let newest = REDEFINED
        .iter()
        .filter(|(n, ops)| *n <= opset && ops.contains(&op))
        .map(|row| row.0)
        .max();
    match newest {
        Some(n) => format!("Ios{n}.{}", camel(op, false)),
        None => camel(op, true),
    }
}

/// `reduce_max` as `reduceMax` or `ReduceMax`; a digit keeps its place (`range_1d` is `Range1d`).
fn camel(op: &str, upper: bool) -> String {
    let mut out = String::new();
    for (i, word) in op.split('_').enumerate() {
        let mut letters = word.chars();
        match letters.next() {
            Some(first) if i > 0 || upper => out.extend(first.to_uppercase()),
            Some(first) => out.push(first),
            None => {}
        }
        out.push_str(letters.as_str());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_compiled_models_and_compute_plans() {
        for (op, opset, wanted) in [
            ("reduce_argmax", 16, "Ios16.reduceArgmax"),
            ("reduce_argmax", 17, "Ios17.reduceArgmax"),
            ("relu", 17, "Ios16.relu"),
            ("relu", 18, "Ios18.relu"),
            ("range_1d", 17, "Range1d"),
            ("conv", 15, "Conv"),
            ("transpose", 16, "Transpose"),
            ("einsum", 16, "Ios16.einsum"),
            ("einsum", 18, "Ios16.einsum"),
            ("reduce_mean", 18, "Ios16.reduceMean"),
            ("conv", 16, "Ios16.conv"),
            ("split", 18, "Split"),
        ] {
            assert_eq!(key(op, opset), wanted);
        }
    }
}
