//! The table itself.

use super::fast::elementwise;
use super::fast::norm::{Sum, reduce_sum};
use super::naive::binary::{Arithmetic, arithmetic, compared, logical, select};
use super::naive::{conv, creation, gather, layout, linear, normalization, pool, reduce, resize};
use super::naive::{slice, unary};
use super::{Fast, Kernel, Naive, fast};
use crate::simd::{Binary, Unary};
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
    with_fast("conv", conv::conv, fast::conv::conv),
    row("conv_transpose", conv::conv_transpose),
    with_fast("linear", linear::linear, fast::linear::linear),
    with_fast("matmul", linear::matmul, fast::linear::matmul),
    with_fast("einsum", linear::einsum, fast::einsum::einsum),
    with_fast("softmax", reduce::softmax, fast::softmax::softmax),
    with_fast(
        "layer_norm",
        normalization::layer_norm,
        fast::norm::layer_norm,
    ),
    with_fast(
        "instance_norm",
        normalization::instance_norm,
        fast::norm::instance_norm,
    ),
    row("batch_norm", normalization::batch_norm),
    row("l2_norm", normalization::l2_norm),
    row("avg_pool", pool::avg_pool),
    row("max_pool", pool::max_pool),
    row("l2_pool", pool::l2_pool),
    // Reductions.
    with_fast(
        "reduce_sum",
        |c| reduce::reduce(c, reduce::sum),
        |c| reduce_sum(c, Sum::Plain),
    ),
    with_fast(
        "reduce_mean",
        |c| reduce::reduce(c, reduce::mean),
        |c| reduce_sum(c, Sum::Mean),
    ),
    row("reduce_max", |c| reduce::reduce(c, reduce::max)),
    row("reduce_min", |c| reduce::reduce(c, reduce::min)),
    row("reduce_prod", |c| reduce::reduce(c, |v| v.iter().product())),
    row("reduce_l1_norm", |c| {
        reduce::reduce(c, |v| v.iter().map(|x| x.abs()).sum())
    }),
    row("reduce_l2_norm", |c| {
        reduce::reduce(c, |v| libm::sqrt(v.iter().map(|x| x * x).sum()))
    }),
    with_fast(
        "reduce_sum_square",
        |c| reduce::reduce(c, |v| v.iter().map(|x| x * x).sum()),
        |c| reduce_sum(c, Sum::Squares),
    ),
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
    with_fast(
        "relu",
        |c| map(c, |x| if x < 0.0 { 0.0 } else { x }),
        |c| elementwise::unary(c, Unary::Relu),
    ),
    row("relu6", |c| map(c, |x| unary::clipped(x, 0.0, 6.0))),
    with_fast(
        "sigmoid",
        |c| map(c, unary::sigmoid),
        |c| elementwise::unary(c, Unary::Sigmoid),
    ),
    with_fast(
        "silu",
        |c| map(c, |x| x * unary::sigmoid(x)),
        |c| elementwise::unary(c, Unary::Silu),
    ),
    with_fast("gelu", unary::gelu, elementwise::gelu),
    with_fast(
        "tanh",
        |c| map(c, libm::tanh),
        |c| elementwise::unary(c, Unary::Tanh),
    ),
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
    with_fast(
        "abs",
        |c| map(c, f64::abs),
        |c| elementwise::unary(c, Unary::Abs),
    ),
    row("acos", |c| map(c, libm::acos)),
    row("asin", |c| map(c, libm::asin)),
    row("atan", |c| map(c, libm::atan)),
    row("atanh", |c| map(c, libm::atanh)),
    row("cast", unary::cast),
    row("ceil", |c| map(c, libm::ceil)),
    with_fast(
        "clip",
        |c| with_alpha_beta(c, unary::clipped),
        elementwise::clip,
    ),
    row("cos", |c| map(c, libm::cos)),
    row("cosh", |c| map(c, libm::cosh)),
    with_fast(
        "erf",
        |c| map(c, libm::erf),
        |c| elementwise::unary(c, Unary::Erf),
    ),
    with_fast(
        "exp",
        |c| map(c, libm::exp),
        |c| elementwise::unary(c, Unary::Exp),
    ),
    row("exp2", |c| map(c, libm::exp2)),
    row("floor", |c| map(c, libm::floor)),
    with_fast(
        "inverse",
        |c| with_epsilon(c, 1e-4, |x, e| 1.0 / (x + e)),
        |c| elementwise::with_epsilon(c, 1e-4, Unary::Inverse),
    ),
    row("log", |c| with_epsilon(c, 1e-45, |x, e| libm::log(x + e))),
    row("logical_not", unary::logical_not),
    row("round", |c| map(c, unary::round)),
    with_fast(
        "rsqrt",
        |c| with_epsilon(c, 1e-12, |x, e| 1.0 / libm::sqrt(x + e)),
        |c| elementwise::with_epsilon(c, 1e-12, Unary::Rsqrt),
    ),
    row("sign", |c| map(c, unary::sign)),
    row("sin", |c| map(c, libm::sin)),
    row("sinh", |c| map(c, libm::sinh)),
    with_fast(
        "sqrt",
        |c| map(c, libm::sqrt),
        |c| elementwise::unary(c, Unary::Sqrt),
    ),
    with_fast(
        "square",
        |c| map(c, |x| x * x),
        |c| elementwise::unary(c, Unary::Square),
    ),
    row("tan", |c| map(c, libm::tan)),
    row("threshold", |c| {
        with_alpha_beta(c, |x, a, _| if x < a { a } else { x })
    }),
    // Elementwise, two operands.
    with_fast(
        "add",
        |c| {
            arithmetic(
                c,
                Arithmetic {
                    float: |a, b| a + b,
                    int: |a, b| a + b,
                },
            )
        },
        |c| elementwise::binary(c, Binary::Add),
    ),
    with_fast(
        "sub",
        |c| {
            arithmetic(
                c,
                Arithmetic {
                    float: |a, b| a - b,
                    int: |a, b| a - b,
                },
            )
        },
        |c| elementwise::binary(c, Binary::Sub),
    ),
    with_fast(
        "mul",
        |c| {
            arithmetic(
                c,
                Arithmetic {
                    float: |a, b| a * b,
                    int: |a, b| a.wrapping_mul(b),
                },
            )
        },
        |c| elementwise::binary(c, Binary::Mul),
    ),
    with_fast(
        "real_div",
        |c| {
            arithmetic(
                c,
                Arithmetic {
                    float: |a, b| a / b,
                    int: |a, b| a.checked_div(b).unwrap_or(0),
                },
            )
        },
        |c| elementwise::binary(c, Binary::Div),
    ),
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
    with_fast(
        "maximum",
        |c| {
            let float = |a: f64, b: f64| if b > a || b.is_nan() { b } else { a };
            arithmetic(
                c,
                Arithmetic {
                    float,
                    int: i64::max,
                },
            )
        },
        |c| elementwise::binary(c, Binary::Max),
    ),
    with_fast(
        "minimum",
        |c| {
            let float = |a: f64, b: f64| if b < a || b.is_nan() { b } else { a };
            arithmetic(
                c,
                Arithmetic {
                    float,
                    int: i64::min,
                },
            )
        },
        |c| elementwise::binary(c, Binary::Min),
    ),
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
    with_fast("gather", gather::gather, fast::gather::gather),
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
    // States: what is written is kept by the run.
    row("read_state", |c| Ok(vec![c.take("input")?])),
    row("write_state", |c| Ok(vec![c.take("data")?])),
    row("coreml_update_state", |c| Ok(vec![c.take("value")?])),
    // Creation.
    row("fill", creation::fill),
    row("fill_like", creation::fill_like),
    row("range_1d", creation::range_1d),
    row("shape", creation::shape),
];
