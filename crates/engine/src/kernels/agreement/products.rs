//! Convolutions, products and attention.

use super::{Case, ints};
use gesso_mil::{Arg, Var};
use proptest::prelude::*;

pub(super) const ALL: &[fn()] = &[conv, conv_one_axis, linear, matmul, einsum];

proptest! {
    #![proptest_config(super::config())]

    fn conv(
        seed in 0u64..1000, n in 1usize..3, c in 1usize..20, o in 1usize..20, h in 5usize..40, w in 5usize..40,
        k in prop::sample::select(vec![1usize, 2, 3]), stride in 1usize..3, dilation in 1usize..3,
        pad in prop::collection::vec(0usize..3, 4), kind in prop::sample::select(vec!["custom", "same", "valid", "same_lower"]),
        groups in prop::sample::select(vec![1usize, 1, 2]), bias: bool,
    ) {
        let (c, o) = (c * groups * if groups > 1 { 8 } else { 1 }, o * groups);
        let mut case = Case::new(seed);
        let x = case.input("x", &[n, c, h, w]);
        let weight = case.constant("w", &[o, c / groups, k, k]);
        let b = case.constant("b", &[o]);
        let mut args: Vec<(&str, Arg)> = vec![
            ("x", (&x).into()), ("weight", (&weight).into()), ("strides", ints(&[stride, stride])),
            ("dilations", ints(&[dilation, dilation])), ("groups", (groups as i32).into()),
            ("pad_type", kind.into()), ("pad", ints(&pad)),
        ];
        if bias {
            args.push(("bias", (&b).into()));
        }
        case.agree("conv", &args);
    }

    fn conv_one_axis(seed in 0u64..1000, c in 1usize..20, o in 1usize..20, n in 9usize..200, k in 1usize..5, stride in 1usize..3) {
        let mut case = Case::new(seed);
        let x = case.input("x", &[2, c, n]);
        let weight = case.constant("w", &[o, c, k]);
        case.agree("conv", &[("x", (&x).into()), ("weight", (&weight).into()), ("strides", ints(&[stride])), ("pad_type", "same".into()), ("pad", ints(&[0, 0])), ("dilations", ints(&[1])), ("groups", 1.into())]);
    }

    fn linear(seed in 0u64..1000, rows in prop::collection::vec(1usize..20, 0..3), i in 1usize..300, o in 1usize..300, bias: bool) {
        let mut case = Case::new(seed);
        let mut shape = rows;
        shape.push(i);
        let x = case.input("x", &shape);
        let weight = case.constant("w", &[o, i]);
        let b = case.constant("b", &[o]);
        let mut args: Vec<(&str, Arg)> = vec![("x", (&x).into()), ("weight", (&weight).into())];
        if bias {
            args.push(("bias", (&b).into()));
        }
        case.agree("linear", &args);
    }

    fn matmul(seed in 0u64..1000, batch in prop::collection::vec((1usize..4, 0usize..3), 0..3), m in 1usize..150, k in 1usize..100, n in 1usize..700, tx: bool, ty: bool) {
        let mut case = Case::new(seed);
        let side = |which: usize| batch.iter().map(move |&(d, one)| if one == which { 1 } else { d });
        let mut xs: Vec<usize> = side(1).collect();
        let mut ys: Vec<usize> = side(2).collect();
        xs.extend(if tx { [k, m] } else { [m, k] });
        ys.extend(if ty { [n, k] } else { [k, n] });
        let (x, y) = (case.input("x", &xs), case.input("y", &ys));
        case.agree("matmul", &[("x", (&x).into()), ("y", (&y).into()), ("transpose_x", tx.into()), ("transpose_y", ty.into())]);
    }

    fn einsum(seed in 0u64..1000, b in 1usize..3, k in 1usize..200, h in 1usize..4, c in 1usize..50, q in 1usize..600, second: bool) {
        let mut case = Case::new(seed);
        let (equation, xs, ys) = if second {
            ("bchk,bkhq->bchq", [b, c, h, k], [b, k, h, q])
        } else {
            ("bkhc,bchq->bkhq", [b, k, h, c], [b, c, h, q])
        };
        let (x, y) = (case.input("x", &xs), case.input("y", &ys));
        case.agree("einsum", &[("values", Arg::Many(vec![x, y])), ("equation", equation.into())]);
    }
}

#[test]
fn large_maps_and_long_products_agree() {
    let mut case = Case::new(5);
    let x = case.input("x", &[2, 40, 33, 47]);
    let weight = case.constant("w", &[24, 40, 3, 3]);
    let args: [(&str, Arg); 7] = [
        ("x", (&x).into()),
        ("weight", (&weight).into()),
        ("strides", ints(&[1, 1])),
        ("dilations", ints(&[1, 1])),
        ("groups", 1.into()),
        ("pad_type", "same".into()),
        ("pad", ints(&[0; 4])),
    ];
    case.agree("conv", &args);
    let mut case = Case::new(6);
    let (x, y) = (case.input("x", &[1100, 90]), case.input("y", &[90, 1300]));
    case.agree("matmul", &[("x", (&x).into()), ("y", (&y).into())]);
}

#[test]
fn attention_as_one_agrees_with_its_three_steps() {
    for (b, h, d, queries, keys) in [(2, 1, 40, 300, 200), (1, 1, 8, 64, 77), (2, 1, 5, 129, 1)] {
        let mut case = Case::new(9);
        let k = case.scaled_input("k", &[b, keys, h, d], 3.0, 0.0);
        let q = case.scaled_input("q", &[b, d, h, queries], 3.0, 0.0);
        let v = case.input("v", &[b, d, h, keys]);
        let g = &mut case.builder;
        let scores = [
            ("values", Arg::Many(vec![k, q])),
            ("equation", "bkhc,bchq->bkhq".into()),
        ];
        let s = g.op("einsum", "scores", &scores).unwrap();
        let w = g
            .op(
                "softmax",
                "weights",
                &[("x", (&s).into()), ("axis", 1.into())],
            )
            .unwrap();
        let product = [
            ("values", Arg::Many(vec![v, w])),
            ("equation", "bchk,bkhq->bchq".into()),
        ];
        let out = g.op("einsum", "out", &product).unwrap();
        case.agree_on("attention by einsum", out);
    }
    for (b, h, d, queries, keys) in [(2, 3, 40, 300, 200), (1, 2, 8, 64, 77)] {
        let mut case = Case::new(10);
        let q = case.scaled_input("q", &[b, h, d, queries], 3.0, 0.0);
        let k = case.scaled_input("k", &[b, h, d, keys], 3.0, 0.0);
        let v = case.input("v", &[b, h, d, keys]);
        let g = &mut case.builder;
        let matmul = |x: &Var, y: &Var, tx: bool, ty: bool| {
            [
                ("x", x.into()),
                ("y", y.into()),
                ("transpose_x", tx.into()),
                ("transpose_y", ty.into()),
            ]
        };
        let s = g
            .op("matmul", "scores", &matmul(&q, &k, true, false))
            .unwrap();
        let w = g
            .op(
                "softmax",
                "weights",
                &[("x", (&s).into()), ("axis", (-1).into())],
            )
            .unwrap();
        let out = g.op("matmul", "out", &matmul(&v, &w, false, true)).unwrap();
        case.agree_on("attention by matmul", out);
    }
}

/// Low-rank factors beside a layer, as adapter slots have them.
#[test]
fn a_product_added_to_a_value_agrees_with_its_three_steps() {
    for (rank, n, o, positions) in [(32, 2, 40, 700), (1, 1, 3, 5), (4, 2, 320, 64)] {
        for swap in [false, true] {
            let mut case = Case::new(11);
            let x = case.input("x", &[n, 20, positions]);
            let down = case.input("down", &[1, rank, 20]);
            let up = case.input("up", &[1, rank, o]);
            let image = case.input("image", &[n, o, 1, positions]);
            let g = &mut case.builder;
            let base = g.op("relu", "base", &[("x", (&image).into())]).unwrap();
            let low = g.op(
                "matmul",
                "low",
                &[("x", (&down).into()), ("y", (&x).into())],
            );
            let transposed = [
                ("x", (&up).into()),
                ("y", (&low.unwrap()).into()),
                ("transpose_x", true.into()),
            ];
            let product = g.op("matmul", "product", &transposed).unwrap();
            let like = [
                ("x", (&product).into()),
                ("shape", ints(&[n, o, 1, positions])),
            ];
            let like = g.op("reshape", "like", &like).unwrap();
            let (a, b) = if swap { (&like, &base) } else { (&base, &like) };
            let sum = g.op("add", "sum", &[("x", a.into()), ("y", b.into())]);
            let out = g
                .op("square", "out", &[("x", (&sum.unwrap()).into())])
                .unwrap();
            case.accumulates = true;
            case.agree_on("accumulated product", out);
        }
    }
}
