//! The table itself.

use super::naive::binary::{Arithmetic, arithmetic, compared, logical, select};
use super::naive::{conv, creation, gather, layout, linear, normalization, pool, reduce, resize};
use super::naive::{slice, unary};
use super::{Fast, Kernel, Naive, fast};
use unary::{map, with_alpha_beta, with_epsilon};

const fn row(name: &'static str, naive: Naive) -> Kernel {
    Kernel {
        name,
        naive,
        fast: None,
    }
}

const fn with_fast(name: &'static str, naive: Naive, fast: Fast) -> Kernel {
    Kernel {
        name,
        naive,
        fast: Some(fast),
    }
}

/// One row per op.
pub(super) const KERNELS: &[Kernel] = &[
    row("conv", conv::conv),
    row("conv_transpose", conv::conv_transpose),
    with_fast("linear", linear::linear, fast::linear::linear),
    with_fast("matmul", linear::matmul, fast::linear::matmul),
    row("einsum", linear::einsum),
    row("softmax", reduce::softmax),
    row("layer_norm", normalization::layer_norm),
    row("instance_norm", normalization::instance_norm),
    row("batch_norm", normalization::batch_norm),
    row("l2_norm", normalization::l2_norm),
    row("avg_pool", pool::avg_pool),
    row("max_pool", pool::max_pool),
    row("l2_pool", pool::l2_pool),
    // Reductions.
    row("reduce_sum", |c| reduce::reduce(c, reduce::sum)),
    row("reduce_mean", |c| reduce::reduce(c, reduce::mean)),
    row("reduce_max", |c| reduce::reduce(c, reduce::max)),
    row("reduce_min", |c| reduce::reduce(c, reduce::min)),
    row("reduce_prod", |c| reduce::reduce(c, |v| v.iter().product())),
    row("reduce_l1_norm", |c| {
        reduce::reduce(c, |v| v.iter().map(|x| x.abs()).sum())
    }),
    row("reduce_l2_norm", |c| {
        reduce::reduce(c, |v| libm::sqrt(v.iter().map(|x| x * x).sum()))
    }),
    row("reduce_sum_square", |c| {
        reduce::reduce(c, |v| v.iter().map(|x| x * x).sum())
    }),
    row("reduce_log_sum", |c| {
        reduce::reduce(c, |v| libm::log(reduce::sum(v)))
    }),
    row("reduce_log_sum_exp", |c| {
        reduce::reduce(c, reduce::log_sum_exp)
    }),
    row("reduce_argmax", |c| reduce::reduce_arg(c, |a, b| a > b)),
    row("reduce_argmin", |c| reduce::reduce_arg(c, |a, b| a < b)),
    row("cumsum", reduce::cumsum),
    // Activations.
    row("relu", |c| map(c, |x| if x < 0.0 { 0.0 } else { x })),
    row("relu6", |c| map(c, |x| unary::clipped(x, 0.0, 6.0))),
    row("sigmoid", |c| map(c, unary::sigmoid)),
    row("silu", |c| map(c, |x| x * unary::sigmoid(x))),
    row("gelu", unary::gelu),
    row("tanh", |c| map(c, libm::tanh)),
    row("softplus", |c| {
        map(c, |x| x.max(0.0) + libm::log1p(libm::exp(-x.abs())))
    }),
    row("softsign", |c| map(c, |x| x / (1.0 + x.abs()))),
    row("prelu", unary::prelu),
    row("leaky_relu", |c| {
        with_alpha_beta(c, |x, a, _| if x < 0.0 { a * x } else { x })
    }),
    row("elu", |c| {
        with_alpha_beta(c, |x, a, _| if x < 0.0 { a * libm::expm1(x) } else { x })
    }),
    row("thresholded_relu", |c| {
        with_alpha_beta(c, |x, a, _| if x > a { x } else { 0.0 })
    }),
    row("sigmoid_hard", |c| {
        with_alpha_beta(c, |x, a, b| unary::clipped(a * x + b, 0.0, 1.0))
    }),
    row("scaled_tanh", |c| {
        with_alpha_beta(c, |x, a, b| a * libm::tanh(b * x))
    }),
    row("linear_activation", |c| {
        with_alpha_beta(c, |x, a, b| a * x + b)
    }),
    row("clamped_relu", |c| {
        with_alpha_beta(c, |x, a, b| if x < 0.0 { (a * x).min(b) } else { x.min(b) })
    }),
    // Elementwise, one operand.
    row("abs", |c| map(c, f64::abs)),
    row("acos", |c| map(c, libm::acos)),
    row("asin", |c| map(c, libm::asin)),
    row("atan", |c| map(c, libm::atan)),
    row("atanh", |c| map(c, libm::atanh)),
    row("cast", unary::cast),
    row("ceil", |c| map(c, libm::ceil)),
    row("clip", |c| with_alpha_beta(c, unary::clipped)),
    row("cos", |c| map(c, libm::cos)),
    row("cosh", |c| map(c, libm::cosh)),
    row("erf", |c| map(c, libm::erf)),
    row("exp", |c| map(c, libm::exp)),
    row("exp2", |c| map(c, libm::exp2)),
    row("floor", |c| map(c, libm::floor)),
    row("inverse", |c| with_epsilon(c, 1e-4, |x, e| 1.0 / (x + e))),
    row("log", |c| with_epsilon(c, 1e-45, |x, e| libm::log(x + e))),
    row("logical_not", unary::logical_not),
    row("round", |c| map(c, unary::round)),
    row("rsqrt", |c| {
        with_epsilon(c, 1e-12, |x, e| 1.0 / libm::sqrt(x + e))
    }),
    row("sign", |c| map(c, unary::sign)),
    row("sin", |c| map(c, libm::sin)),
    row("sinh", |c| map(c, libm::sinh)),
    row("sqrt", |c| map(c, libm::sqrt)),
    row("square", |c| map(c, |x| x * x)),
    row("tan", |c| map(c, libm::tan)),
    row("threshold", |c| {
        with_alpha_beta(c, |x, a, _| if x < a { a } else { x })
    }),
    // Elementwise, two operands.
    row("add", |c| {
        arithmetic(
            c,
            Arithmetic {
                float: |a, b| a + b,
                int: |a, b| a + b,
            },
        )
    }),
    row("sub", |c| {
        arithmetic(
            c,
            Arithmetic {
                float: |a, b| a - b,
                int: |a, b| a - b,
            },
        )
    }),
    row("mul", |c| {
        arithmetic(
            c,
            Arithmetic {
                float: |a, b| a * b,
                int: |a, b| a.wrapping_mul(b),
            },
        )
    }),
    row("real_div", |c| {
        arithmetic(
            c,
            Arithmetic {
                float: |a, b| a / b,
                int: |a, b| a.checked_div(b).unwrap_or(0),
            },
        )
    }),
    row("floor_div", |c| {
        let int = |a: i64, b: i64| {
            if b == 0 {
                0
            } else {
                (a as f64 / b as f64).floor() as i64
            }
        };
        arithmetic(
            c,
            Arithmetic {
                float: |a, b| libm::floor(a / b),
                int,
            },
        )
    }),
    row("mod", |c| {
        let float = |a: f64, b: f64| a - b * libm::floor(a / b);
        let int = |a: i64, b: i64| if b == 0 { 0 } else { ((a % b) + b) % b };
        arithmetic(c, Arithmetic { float, int })
    }),
    row("pow", |c| {
        let int = |a: i64, b: i64| libm::pow(a as f64, b as f64) as i64;
        arithmetic(
            c,
            Arithmetic {
                float: libm::pow,
                int,
            },
        )
    }),
    row("maximum", |c| {
        let float = |a: f64, b: f64| if b > a || b.is_nan() { b } else { a };
        arithmetic(
            c,
            Arithmetic {
                float,
                int: i64::max,
            },
        )
    }),
    row("minimum", |c| {
        let float = |a: f64, b: f64| if b < a || b.is_nan() { b } else { a };
        arithmetic(
            c,
            Arithmetic {
                float,
                int: i64::min,
            },
        )
    }),
    row("equal", |c| compared(c, |a, b| a == b)),
    row("not_equal", |c| compared(c, |a, b| a != b)),
    row("greater", |c| compared(c, |a, b| a > b)),
    row("greater_equal", |c| compared(c, |a, b| a >= b)),
    row("less", |c| compared(c, |a, b| a < b)),
    row("less_equal", |c| compared(c, |a, b| a <= b)),
    row("logical_and", |c| logical(c, |a, b| a && b)),
    row("logical_or", |c| logical(c, |a, b| a || b)),
    row("logical_xor", |c| logical(c, |a, b| a != b)),
    row("select", select),
    // Movement.
    row("identity", layout::identity),
    row("reshape", layout::reshape),
    row("squeeze", layout::squeeze),
    row("expand_dims", layout::expand_dims),
    row("flatten2d", layout::flatten2d),
    row("transpose", layout::transpose),
    row("concat", layout::concat),
    row("split", layout::split),
    row("stack", layout::stack),
    row("tile", layout::tile),
    row("reverse", layout::reverse),
    row("pad", layout::pad),
    row("slice_by_index", slice::slice_by_index),
    row("slice_by_size", slice::slice_by_size),
    row("gather", gather::gather),
    row("gather_along_axis", gather::gather_along_axis),
    row("gather_nd", gather::gather_nd),
    row("one_hot", gather::one_hot),
    row(
        "upsample_nearest_neighbor",
        resize::upsample_nearest_neighbor,
    ),
    row("resize_nearest_neighbor", resize::resize_nearest_neighbor),
    row("upsample_bilinear", resize::upsample_bilinear),
    row("pixel_shuffle", resize::pixel_shuffle),
    row("space_to_depth", resize::space_to_depth),
    // Creation.
    row("fill", creation::fill),
    row("fill_like", creation::fill_like),
    row("range_1d", creation::range_1d),
    row("shape", creation::shape),
];
