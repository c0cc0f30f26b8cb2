//! Op counts, under the names of Apple's metadata.

use crate::{Block, Function, Program};
use std::collections::BTreeMap;

/// Opset in which Apple last redefined an op, from 16 on, as far as compiled models show it.
///
/// (op, opsets). An op that is not here has kept its first form and carries no prefix. Rows marked by the compiled-models page
/// as unproven follow from the opset in which coremltools redefines the op.
const REDEFINED: &[(&str, &[u32])] = &[
    ("add", &[16, 17]),
    ("cast", &[16, 17]),
    ("clip", &[17]),
    ("concat", &[17]),
    ("constexpr_affine_dequantize", &[16]),
    ("constexpr_blockwise_shift_scale", &[18]),
    ("constexpr_cast", &[16]),
    ("constexpr_lut_to_dense", &[16, 18]),
    ("constexpr_lut_to_sparse", &[18]),
    ("constexpr_sparse_blockwise_shift_scale", &[18]),
    ("constexpr_sparse_to_dense", &[16, 18]),
    ("conv", &[17]),
    ("conv_transpose", &[17]),
    ("dequantize", &[17]),
    ("einsum", &[16]),
    ("expand_dims", &[17]),
    ("floor", &[17]),
    ("floor_div", &[17]),
    ("gather", &[16, 17]),
    ("gather_along_axis", &[17]),
    ("gather_nd", &[16, 17]),
    ("gelu", &[16]),
    ("greater", &[17]),
    ("greater_equal", &[17]),
    ("layer_norm", &[17]),
    ("less", &[17]),
    ("linear", &[17]),
    ("log", &[17]),
    ("logical_and", &[17]),
    ("logical_not", &[17]),
    ("matmul", &[17]),
    ("maximum", &[17]),
    ("minimum", &[17]),
    ("mul", &[16, 17]),
    ("pow", &[17]),
    ("quantize", &[17]),
    ("read_state", &[18]),
    ("real_div", &[16, 17]),
    ("reduce_argmax", &[16, 17]),
    ("reduce_max", &[16]),
    ("reduce_mean", &[16]),
    ("reduce_sum", &[16]),
    ("relu", &[16, 18]),
    ("reshape", &[17]),
    ("scaled_dot_product_attention", &[18]),
    ("sigmoid", &[16]),
    ("silu", &[16]),
    ("slice_by_index", &[17]),
    ("softmax", &[16]),
    ("squeeze", &[17]),
    ("sub", &[16, 17]),
    ("topk", &[16, 17]),
    ("transpose", &[17]),
    ("write_state", &[18]),
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
    let redefined = REDEFINED.iter().find(|row| row.0 == op);
    let newest = redefined.and_then(|row| row.1.iter().copied().filter(|&n| n <= opset).max());
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
    fn keys_of_apples_files() {
        for (op, opset, wanted) in [
            ("reduce_argmax", 16, "Ios16.reduceArgmax"),
            ("reduce_argmax", 17, "Ios17.reduceArgmax"),
            ("relu", 17, "Ios16.relu"),
            ("relu", 18, "Ios18.relu"),
            ("range_1d", 17, "Range1d"),
            ("conv", 15, "Conv"),
            ("transpose", 16, "Transpose"),
            ("einsum", 16, "Ios16.einsum"),
        ] {
            assert_eq!(key(op, opset), wanted);
        }
    }
}
