//! Elementwise ops, norms, softmax and sums.

use super::{Case, ints};
use gesso_mil::{Arg, DType, Value};
use proptest::prelude::*;

pub(super) const ALL: &[fn()] = &[
    softmax,
    norms,
    sums,
    two_operands,
    one_operand,
    roots_and_bounds,
];

const SUMS: [&str; 3] = ["reduce_sum", "reduce_mean", "reduce_sum_square"];
const TWO: [&str; 6] = ["add", "sub", "mul", "real_div", "maximum", "minimum"];
const ONE: [&str; 8] = [
    "relu", "sigmoid", "silu", "tanh", "erf", "exp", "square", "abs",
];

proptest! {
    #![proptest_config(super::config())]

    fn softmax(seed in 0u64..1000, shape in prop::collection::vec(1usize..9, 1..4), wide in 1usize..400, long in 1usize..400, axis in 0usize..5) {
        let mut case = Case::new(seed);
        let mut shape = shape;
        shape.insert(shape.len() / 2, long);
        shape.push(wide);
        shape.truncate(5);
        if shape.iter().product::<usize>() > 200_000 {
            shape = vec![2, long, wide];
        }
        let axis = axis % shape.len();
        let x = case.scaled_input("x", &shape, 20.0, 0.0);
        case.agree("softmax", &[("x", (&x).into()), ("axis", (axis as i32).into())]);
    }

    fn norms(seed in 0u64..1000, n in 1usize..4, c in 1usize..30, h in 1usize..20, w in 2usize..40, last in 1usize..4) {
        let shape = [n, c, h, w];
        let mut case = Case::new(seed);
        let x = case.scaled_input("x", &shape, 3.0, 5.0);
        let own = &shape[4 - last..];
        let (g, b) = (case.constant("g", own), case.constant("b", own));
        let axes: Vec<usize> = (4 - last..4).collect();
        case.agree("layer_norm", &[("x", (&x).into()), ("axes", ints(&axes)), ("gamma", (&g).into()), ("beta", (&b).into()), ("epsilon", Value::float(DType::Fp32, 1e-5).into())]);
        let mut case = Case::new(seed);
        let x = case.scaled_input("x", &shape, 3.0, 5.0);
        let (g, b) = (case.constant("g", &[c]), case.constant("b", &[c]));
        case.agree("instance_norm", &[("x", (&x).into()), ("gamma", (&g).into()), ("beta", (&b).into()), ("epsilon", Value::float(DType::Fp32, 1e-5).into())]);
    }

    fn sums(seed in 0u64..1000, shape in prop::collection::vec(1usize..40, 1..4), first in 0usize..4, count in 1usize..4, keep: bool) {
        let first = first % shape.len();
        let axes: Vec<usize> = (first..(first + count).min(shape.len())).collect();
        for kind in SUMS {
            let mut case = Case::new(seed);
            let x = case.scaled_input("x", &shape, 1.0, 0.5);
            case.agree(kind, &[("x", (&x).into()), ("axes", ints(&axes)), ("keep_dims", keep.into())]);
        }
    }

    fn two_operands(seed in 0u64..1000, dims in prop::collection::vec((1usize..14, 0usize..4), 1..5), swap: bool) {
        let side = |which: usize| -> Vec<usize> { dims.iter().map(|&(d, one)| if one == which { 1 } else { d }).collect() };
        for kind in TWO {
            let mut case = Case::new(seed);
            let x = case.input("x", &side(1));
            let y = case.scaled_input("y", &side(2), 0.4, 1.0);
            let (x, y) = if swap && kind != "real_div" { (y, x) } else { (x, y) };
            case.agree(kind, &[("x", (&x).into()), ("y", (&y).into())]);
        }
    }

    fn one_operand(seed in 0u64..1000, n in 1usize..40_000) {
        for kind in ONE {
            let mut case = Case::new(seed);
            let x = case.scaled_input("x", &[n], 6.0, 0.0);
            case.agree(kind, &[("x", (&x).into())]);
        }
    }

    fn roots_and_bounds(seed in 0u64..1000, n in 1usize..2000, mode in prop::sample::select(vec!["EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION"])) {
        let positive = |kind: &str, more: &[(&str, Arg)]| {
            let mut case = Case::new(seed);
            let x = case.scaled_input("x", &[n], 1.0, 1.5);
            let mut args: Vec<(&str, Arg)> = vec![("x", (&x).into())];
            args.extend(more.iter().cloned());
            case.agree(kind, &args);
        };
        let float = |x: f32| Arg::from(Value::float(DType::Fp32, x));
        positive("sqrt", &[]);
        positive("rsqrt", &[("epsilon", float(1e-3))]);
        positive("inverse", &[("epsilon", float(1e-3))]);
        positive("clip", &[("alpha", float(1.0)), ("beta", float(2.0))]);
        let mut case = Case::new(seed);
        let x = case.scaled_input("x", &[n], 5.0, 0.0);
        case.agree("gelu", &[("x", (&x).into()), ("mode", mode.into())]);
    }
}

#[test]
fn a_sum_with_itself_is_not_written_in_place() {
    let mut case = Case::new(1);
    let x = case.input("x", &[3, 70_000]);
    case.agree("add", &[("x", (&x).into()), ("y", (&x).into())]);
}

#[test]
fn a_norm_of_two_nearly_equal_elements_agrees() {
    let mut case = Case::new(545);
    let x = case.scaled_input("x", &[1, 17, 5, 2], 3.0, 5.0);
    let (g, b) = (case.constant("g", &[2]), case.constant("b", &[2]));
    let epsilon = Value::float(DType::Fp32, 1e-5).into();
    let args = [
        ("x", (&x).into()),
        ("axes", ints(&[3])),
        ("gamma", (&g).into()),
        ("beta", (&b).into()),
        ("epsilon", epsilon),
    ];
    case.agree("layer_norm", &args);
}
