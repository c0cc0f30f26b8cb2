//! Reductions, normalizations, convolutions, pools, matrix products.

use super::{X, refuses, refuses_in};
use crate::{Given, i, ints, s, v, vs, w, yes};

#[test]
fn reductions_and_normalizations() {
    refuses(
        "reduce_sum",
        &[X(), ("axes", ints(&[1, -3]))],
        "parameter `axes`: expected distinct axes",
    );
    refuses_in(
        "CoreML7",
        "reduce_argmax",
        &[X(), ("output_dtype", s("int8"))],
        "parameter `output_dtype`",
    );
    refuses(
        "layer_norm",
        &[X(), ("axes", ints(&[3])), ("gamma", w("fp16 5"))],
        "parameter `gamma`: expected shape [6]",
    );
    refuses(
        "layer_norm",
        &[X(), ("epsilon", w("fp16 1"))],
        "parameter `epsilon`: expected rank 0",
    );
    refuses(
        "instance_norm",
        &[("x", v("fp16 2 3"))],
        "parameter `x`: expected a rank out of [3, 4]",
    );
    refuses(
        "batch_norm",
        &[X(), ("mean", w("fp16 12")), ("variance", w("fp16 6"))],
        "parameter `variance`: expected shape [12]",
    );
    refuses(
        "l2_norm",
        &[("x", v("fp16 2 3"))],
        "expected rank 3 or more",
    );
}

#[test]
fn convolutions_and_pools() {
    let weight = || ("weight", w("fp16 8 12 3 3"));
    refuses(
        "conv",
        &[("x", v("fp16 2 12")), weight()],
        "parameter `x`: expected rank 3, 4 or 5",
    );
    refuses(
        "conv",
        &[("x", v("fp16 2 12 8")), weight()],
        "parameter `weight`: expected rank 3 as `x`",
    );
    refuses(
        "conv",
        &[X(), ("weight", w("fp16 8 11 3 3"))],
        "expected second axis 12 / 1 groups",
    );
    refuses(
        "conv",
        &[X(), ("weight", w("fp16 8 4 3 3")), ("groups", i(3))],
        "expected first axis divisible by 3 groups",
    );
    refuses(
        "conv",
        &[X(), weight(), ("groups", i(0))],
        "parameter `groups`: expected a positive integer, found 0",
    );
    refuses(
        "conv",
        &[X(), weight(), ("bias", w("fp16 9"))],
        "parameter `bias`: expected shape [8]",
    );
    refuses(
        "conv",
        &[X(), weight(), ("bias", v("fp16 8"))],
        "parameter `bias`: expected a constant",
    );
    refuses(
        "conv",
        &[X(), weight(), ("pad_type", s("custom"))],
        "parameter `pad`: expected 4 elements with `custom`, found nothing",
    );
    refuses(
        "conv",
        &[X(), weight(), ("strides", ints(&[1]))],
        "parameter `strides`: expected 2 elements, found [1]",
    );
    refuses(
        "conv",
        &[X(), weight(), ("strides", ints(&[1, 0]))],
        "parameter `strides`: expected a positive integer, found 0",
    );
    refuses(
        "conv",
        &[X(), weight(), ("dilations", ints(&[1, 9]))],
        "the kernel covers 19 elements, but the padded input has 6",
    );
    refuses(
        "conv",
        &[X(), ("weight", w("fp16 8 12 3 0"))],
        "expected a kernel of size 1 or more",
    );
    refuses_in(
        "CoreML5",
        "conv",
        &[X(), weight(), ("pad_type", s("same_lower"))],
        "found `same_lower`",
    );
    let t = || ("weight", w("fp16 12 4 3 2"));
    refuses(
        "conv_transpose",
        &[X(), ("weight", w("fp16 8 12 3 3"))],
        "expected first axis [12] as `x`",
    );
    refuses(
        "conv_transpose",
        &[
            X(),
            t(),
            ("pad_type", s("custom")),
            ("pad", ints(&[9, 9, 9, 9])),
        ],
        "the padding exceeds the output",
    );
    refuses(
        "conv_transpose",
        &[X(), t(), ("output_shape", ints(&[2, 5, 10, 7]))],
        "expected rank 4 beginning with [2, 4]",
    );
    let pool = |extra: Vec<(&'static str, Given)>| {
        let mut given = vec![X(), ("kernel_sizes", ints(&[3, 3]))];
        given.extend(extra);
        given
    };
    refuses(
        "max_pool",
        &pool(vec![]),
        "parameter `pad_type`: expected a value",
    );
    refuses(
        "avg_pool",
        &pool(vec![("pad_type", s("same")), ("ceil_mode", yes())]),
        "parameter `ceil_mode`",
    );
    refuses(
        "avg_pool",
        &pool(vec![
            ("pad_type", s("custom")),
            ("pad", ints(&[0, -1, 0, 0])),
        ]),
        "expected an integer of 0 or more, found -1",
    );
    refuses(
        "l2_pool",
        &[
            ("x", v("fp16 1 1 4 4 4")),
            ("kernel_sizes", ints(&[1, 1, 1])),
            ("pad_type", s("valid")),
        ],
        "expected rank 3 or 4",
    );
}

#[test]
fn products() {
    refuses(
        "linear",
        &[X(), ("weight", w("fp16 4 7"))],
        "parameter `weight`: expected second axis [6] as the last of `x`",
    );
    refuses(
        "linear",
        &[("x", v("fp16")), ("weight", w("fp16 4 7"))],
        "parameter `x`: expected rank 1 or more",
    );
    refuses(
        "matmul",
        &[X(), ("y", v("fp16 5 6"))],
        "shapes do not fit: x [2, 12, 8, 6] and y [5, 6] after transposition",
    );
    refuses(
        "matmul",
        &[X(), ("y", v("fp16 3 12 6 6"))],
        "shapes do not fit",
    );
    refuses(
        "matmul",
        &[("x", v("fp16 6")), ("y", v("fp16 2 6 6"))],
        "parameter `y`: expected rank 2 with `x` of rank 1",
    );
    refuses(
        "matmul",
        &[
            ("x", v("fp16 6")),
            ("y", v("fp16 6 6")),
            ("transpose_x", yes()),
        ],
        "parameter `transpose_x`",
    );
    refuses(
        "matmul",
        &[("x", v("fp16")), ("y", v("fp16 6 6"))],
        "expected matrices",
    );
    let einsum = |a: &str, b: &str, e: &str| vec![("values", vs(&[a, b])), ("equation", s(e))];
    refuses(
        "einsum",
        &einsum("fp16 2 3", "fp16 3 4", "ij,jk->ik"),
        "parameter `equation`: expected `nchw,nwhu->nchu`",
    );
    refuses(
        "einsum",
        &einsum("fp16 1 2 3 4", "fp16 1 5 3 4", "nchw,nwhu->nchu"),
        "do not fit",
    );
    refuses(
        "einsum",
        &einsum("fp16 1 2 3 4", "fp16 1 4 3 4", "nchw,nwhu->ncuh"),
        "parameter `equation`",
    );
    refuses(
        "einsum",
        &einsum("fp16 1 2 3", "fp16 3 4 3", "nchw,nwhu->nchu"),
        "do not fit",
    );
}
