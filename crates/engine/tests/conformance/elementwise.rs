//! Elementwise ops, creation, casts, and rounding in fp16 mode.

use super::*;

/// Shape and elements.
type Pair = (&'static [usize], &'static [f32]);

#[test]
fn elementwise_functions() {
    let x = [-2.0, -0.5, 0.0, 0.5, 2.0];
    let each = |kind: &str, args: &[(&str, Arg)], want: [f32; 5]| {
        expect(&op(kind, &[5], &x, args), &[5], &want);
    };
    each("relu", &[], [0.0, 0.0, 0.0, 0.5, 2.0]);
    each(
        "sigmoid",
        &[],
        [0.119_202_92, 0.377_540_67, 0.5, 0.622_459_35, 0.880_797_1],
    );
    each(
        "silu",
        &[],
        [-0.238_405_84, -0.188_770_34, 0.0, 0.311_229_67, 1.761_594_2],
    );
    each(
        "tanh",
        &[],
        [-0.964_027_6, -0.462_117_16, 0.0, 0.462_117_16, 0.964_027_6],
    );
    each(
        "erf",
        &[],
        [-0.995_322_3, -0.520_499_9, 0.0, 0.520_499_9, 0.995_322_3],
    );
    each(
        "exp",
        &[],
        [0.135_335_28, 0.606_530_67, 1.0, 1.648_721_3, 7.389_056],
    );
    each(
        "gelu",
        &[("mode", "EXACT".into())],
        [-0.045_500_26, -0.154_268_77, 0.0, 0.345_731_23, 1.954_499_7],
    );
    each(
        "gelu",
        &[("mode", "TANH_APPROXIMATION".into())],
        [-0.045_402_3, -0.154_286, 0.0, 0.345_714, 1.954_597_7],
    );
    each(
        "gelu",
        &[("mode", "SIGMOID_APPROXIMATION".into())],
        [-0.064_350_6, -0.149_620_8, 0.0, 0.350_379_2, 1.935_649_4],
    );
    each(
        "clip",
        &[("alpha", f(-1.0)), ("beta", f(0.25))],
        [-1.0, -0.5, 0.0, 0.25, 0.25],
    );
    each("square", &[], [4.0, 0.25, 0.0, 0.25, 4.0]);
    each("abs", &[], [2.0, 0.5, 0.0, 0.5, 2.0]);
    each("sign", &[], [-1.0, -1.0, 0.0, 1.0, 1.0]);
    each("floor", &[], [-2.0, -1.0, 0.0, 0.0, 2.0]);
    each("ceil", &[], [-2.0, 0.0, 0.0, 1.0, 2.0]);
    each("round", &[], [-2.0, 0.0, 0.0, 0.0, 2.0]);
    each(
        "sin",
        &[],
        [-0.909_297_4, -0.479_425_55, 0.0, 0.479_425_55, 0.909_297_4],
    );
    each(
        "cos",
        &[],
        [
            -0.416_146_84,
            0.877_582_55,
            1.0,
            0.877_582_55,
            -0.416_146_84,
        ],
    );
    each(
        "inverse",
        &[("epsilon", f(0.0))],
        [-0.5, -2.0, f32::INFINITY, 2.0, 0.5].map(|v: f32| v),
    );
    expect(&op("sqrt", &[2], &[4.0, 2.25], &[]), &[2], &[2.0, 1.5]);
    expect(
        &op("rsqrt", &[2], &[3.0, 15.0], &[("epsilon", f(1.0))]),
        &[2],
        &[0.5, 0.25],
    );
    expect(
        &op("log", &[2], &[1.0, 0.0], &[("epsilon", f(1.0))]),
        &[2],
        &[2f32.ln(), 0.0],
    );
}

#[test]
fn operands_broadcast() {
    let pair = |kind: &str, x: (&[usize], &[f32]), y: (&[usize], &[f32])| {
        run(
            DType::Fp32,
            Compute::Fp32,
            &[("x", x.0, x.1), ("y", y.0, y.1)],
            |b, v| {
                vec![
                    b.op(kind, "z", &[("x", (&v[0]).into()), ("y", (&v[1]).into())])
                        .unwrap(),
                ]
            },
        )
        .remove(0)
    };
    let (column, row): (Pair, Pair) = ((&[2, 1], &[10.0, 20.0]), (&[3], &[1.0, 2.0, 4.0]));
    expect(
        &pair("add", column, row),
        &[2, 3],
        &[11.0, 12.0, 14.0, 21.0, 22.0, 24.0],
    );
    expect(
        &pair("sub", row, column),
        &[2, 3],
        &[-9.0, -8.0, -6.0, -19.0, -18.0, -16.0],
    );
    expect(
        &pair("mul", column, row),
        &[2, 3],
        &[10.0, 20.0, 40.0, 20.0, 40.0, 80.0],
    );
    expect(
        &pair("real_div", column, row),
        &[2, 3],
        &[10.0, 5.0, 2.5, 20.0, 10.0, 5.0],
    );
    expect(
        &pair("maximum", column, (&[2], &[15.0, 5.0])),
        &[2, 2],
        &[15.0, 10.0, 20.0, 20.0],
    );
    expect(
        &pair("minimum", column, (&[2], &[15.0, 5.0])),
        &[2, 2],
        &[10.0, 5.0, 15.0, 5.0],
    );
    expect(
        &pair("pow", (&[3], &[2.0, 3.0, 4.0]), (&[1], &[2.0])),
        &[3],
        &[4.0, 9.0, 16.0],
    );
    expect(
        &pair("mod", (&[2], &[7.5, -1.0]), (&[1], &[4.0])),
        &[2],
        &[3.5, 3.0],
    );
    expect(
        &pair("floor_div", (&[2], &[7.5, -1.0]), (&[1], &[4.0])),
        &[2],
        &[1.0, -1.0],
    );
    let greater = pair("greater", row, (&[1], &[1.5]));
    assert_eq!(greater.data, Data::Bool(vec![false, true, true]));
}

#[test]
fn comparisons_choose() {
    let got = run(
        DType::Fp32,
        Compute::Fp32,
        &[("x", &[3], &[1.0, 2.0, 3.0])],
        |b, v| {
            let x = Arg::from(&v[0]);
            let c = b
                .op("less_equal", "c", &[("x", x.clone()), ("y", f(2.0))])
                .unwrap();
            let n = b.op("logical_not", "n", &[("x", (&c).into())]).unwrap();
            let s = [
                ("cond", (&n).into()),
                ("a", x.clone()),
                ("b", floats(&[1], &[-1.0])),
            ];
            vec![b.op("select", "s", &s).unwrap()]
        },
    );
    expect(&got[0], &[3], &[-1.0, -1.0, 3.0]);
}

#[test]
fn creation_and_casts() {
    let got = run(
        DType::Fp32,
        Compute::Fp32,
        &[("x", &[3], &[-1.7, 0.0, 2.9])],
        |b, v| {
            let x = Arg::from(&v[0]);
            let i = b
                .op("cast", "i", &[("x", x.clone()), ("dtype", "int32".into())])
                .unwrap();
            let t = b
                .op("cast", "t", &[("x", x), ("dtype", "bool".into())])
                .unwrap();
            let r = [
                ("start", Arg::from(2)),
                ("end", 9.into()),
                ("step", 3.into()),
            ];
            let r = b.op("range_1d", "r", &r).unwrap();
            let z = b
                .op("fill", "z", &[("shape", [2, 1].into()), ("value", f(7.0))])
                .unwrap();
            let h = [
                ("indices", (&r).into()),
                ("one_hot_vector_size", 6.into()),
                ("axis", (-1).into()),
                ("on_value", 1.into()),
                ("off_value", 0.into()),
            ];
            let h = b.op("one_hot", "h", &h).unwrap();
            vec![i, t, r, z, h]
        },
    );
    expect_ints(&got[0], &[3], &[-1, 0, 2]);
    assert_eq!(got[1].data, Data::Bool(vec![true, false, true]));
    expect_ints(&got[2], &[3], &[2, 5, 8]);
    expect(&got[3], &[2, 1], &[7.0, 7.0]);
    expect_ints(
        &got[4],
        &[3, 6],
        &[0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0],
    );
}

#[test]
fn fp16_mode_rounds_what_is_declared_fp16() {
    // 1 + 2^-11 is a tie between 1 and 1 + 2^-10 and goes to even; 70000 overflows.
    let x = [1.0 + f32::powi(2.0, -11), 70_000.0];
    let square = |dtype, compute| {
        run(dtype, compute, &[("x", &[2], &x)], |b, v| {
            vec![b.op("identity", "y", &[("x", (&v[0]).into())]).unwrap()]
        })
        .remove(0)
    };
    assert_eq!(square(DType::Fp16, Compute::Fp32).as_f32().unwrap(), x);
    assert_eq!(square(DType::Fp32, Compute::Fp16).as_f32().unwrap(), x);
    let rounded = square(DType::Fp16, Compute::Fp16);
    assert_eq!(rounded.as_f32().unwrap(), [1.0, f32::INFINITY]);
}
