//! What each op refuses, with the words of its error.

mod constexprs;
mod layers;
mod moves;

use crate::{Given, bools, half, i, infer, ints, s, v, vs, w, yes};

pub(crate) fn refuses(kind: &str, given: &[(&str, Given)], text: &str) {
    refuses_in("CoreML6", kind, given, text);
}

pub(crate) fn refuses_in(opset: &str, kind: &str, given: &[(&str, Given)], text: &str) {
    let error = infer(opset, kind, given).unwrap_err().to_string();
    assert!(error.starts_with(&format!("op `y` (`{kind}`)")), "{error}");
    assert!(error.contains(text), "{kind}: `{error}` lacks `{text}`");
}

/// A tensor that fits most ops.
pub(crate) const X: fn() -> (&'static str, Given) = || ("x", v("fp16 2 12 8 6"));

#[test]
fn rows_and_parameters() {
    refuses("conv5", &[X()], "unknown op");
    refuses_in("CoreML4", "relu", &[X()], "unknown opset `CoreML4`");
    refuses_in(
        "CoreML5",
        "fill_like",
        &[],
        "the op does not exist in opset `CoreML5`",
    );
    refuses(
        "relu",
        &[],
        "parameter `x`: expected a value, found nothing: the parameter is required",
    );
    refuses(
        "relu",
        &[X(), ("alpha", half(1.0))],
        "parameter `alpha`: expected one of the parameters `x`",
    );
    refuses(
        "relu",
        &[("x", v("int32 2"))],
        "parameter `x`: expected a tensor of dtype fp16, fp32, found tensor<int32, [2]>",
    );
    refuses(
        "relu",
        &[("x", vs(&["fp16 2", "fp16 2"]))],
        "parameter `x`: expected one operand, found 2",
    );
    refuses(
        "concat",
        &[("values", vs(&[])), ("axis", i(0))],
        "parameter `values`: expected at least one operand, found 0",
    );
    refuses(
        "concat",
        &[("values", vs(&["fp16 2", "fp32 2"])), ("axis", i(0))],
        "expected dtype fp16 as parameter `values`",
    );
    refuses(
        "add",
        &[X(), ("y", v("fp32 6"))],
        "parameter `y`: expected dtype fp16 as parameter `x`",
    );
    refuses(
        "linear",
        &[X(), ("weight", v("fp16 4 6"))],
        "parameter `weight`: expected a constant, found a variable",
    );
    refuses(
        "softmax",
        &[X(), ("axis", ints(&[1, 2]))],
        "parameter `axis`: expected one integer, found [1, 2]",
    );
    refuses(
        "softmax",
        &[X(), ("axis", w("int32"))],
        "parameter `axis`: expected immediate integers of rank 0 or 1",
    );
    refuses(
        "matmul",
        &[
            X(),
            ("y", v("fp16 6 6")),
            ("transpose_y", bools(&[true, true])),
        ],
        "parameter `transpose_y`: expected one bool",
    );
    refuses_in(
        "CoreML6",
        "gather",
        &[X(), ("indices", v("int32 2")), ("validate_indices", yes())],
        "unknown parameter",
    );
}

#[test]
fn elementwise_and_activations() {
    refuses(
        "add",
        &[X(), ("y", v("fp16 5"))],
        "shapes [2, 12, 8, 6] and [5] do not broadcast",
    );
    refuses(
        "cast",
        &[X(), ("dtype", s("uint8"))],
        "parameter `dtype`: expected one of `bool`, `fp16`, `fp32`, `int32`, found `uint8`",
    );
    refuses(
        "clip",
        &[X(), ("alpha", w("fp16 1")), ("beta", half(0.0))],
        "parameter `alpha`: expected rank 0",
    );
    refuses(
        "select",
        &[
            ("cond", v("bool 3")),
            ("a", v("fp16 4")),
            ("b", v("fp16 4")),
        ],
        "shape [3] of `cond` does not broadcast with [4]",
    );
    refuses("gelu", &[X(), ("mode", s("QUICK"))], "found `QUICK`");
    refuses(
        "softmax",
        &[X(), ("axis", i(4))],
        "expected an axis in [-4, 4), found 4",
    );
    refuses(
        "prelu",
        &[X(), ("alpha", w("fp16 11"))],
        "parameter `alpha`: expected shape [12]",
    );
}
