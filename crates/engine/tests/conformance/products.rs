//! Convolutions, products, reductions, norms.

use super::*;

#[test]
fn convolution_by_hand() {
    // [[1,2,3],[4,5,6]] with kernel [[1,0],[0,-1]]: 1-5, 2-6.
    let kernel = floats(&[1, 1, 2, 2], &[1.0, 0.0, 0.0, -1.0]);
    let base = |pad_type: &str, pad: [i32; 4], strides: [i32; 2]| -> Vec<(&'static str, Arg)> {
        vec![
            ("weight", kernel.clone()),
            ("strides", strides.into()),
            ("pad_type", pad_type.into()),
            ("pad", pad.into()),
            ("dilations", [1, 1].into()),
            ("groups", 1.into()),
        ]
    };
    let y = op("conv", &[1, 1, 2, 3], &SIX, &base("valid", [0; 4], [1, 1]));
    expect(&y, &[1, 1, 1, 2], &[-4.0, -4.0]);
    // `same` adds the odd row and column after: 1-5, 2-6, 3-0, 4-0, 5-0, 6-0.
    let y = op("conv", &[1, 1, 2, 3], &SIX, &base("same", [0; 4], [1, 1]));
    expect(&y, &[1, 1, 2, 3], &[-4.0, -4.0, 3.0, 4.0, 5.0, 6.0]);
    let y = op(
        "conv",
        &[1, 1, 2, 3],
        &SIX,
        &base("same_lower", [0; 4], [1, 1]),
    );
    expect(&y, &[1, 1, 2, 3], &[-1.0, -2.0, -3.0, -4.0, -4.0, -4.0]);
    // Padding before height 1, before width 1; stride 2: positions (-1,-1) and (-1,1).
    let y = op(
        "conv",
        &[1, 1, 2, 3],
        &SIX,
        &base("custom", [1, 0, 1, 0], [2, 2]),
    );
    expect(&y, &[1, 1, 1, 2], &[-1.0, -3.0]);
}

#[test]
fn convolution_of_groups_and_its_transpose() {
    // Two groups of one channel each: out = [2·a, 3·b] + bias.
    let args = [
        ("weight", floats(&[2, 1, 1, 1], &[2.0, 3.0])),
        ("bias", floats(&[2], &[0.5, -0.5])),
        ("strides", [1, 1].into()),
        ("pad_type", "valid".into()),
        ("pad", [0; 4].into()),
        ("dilations", [1, 1].into()),
        ("groups", 2.into()),
    ];
    let y = op("conv", &[1, 2, 1, 2], &[1.0, 2.0, 3.0, 4.0], &args);
    expect(&y, &[1, 2, 1, 2], &[2.5, 4.5, 8.5, 11.5]);
    // Each element spreads [1, 10] with stride 2.
    let args = [
        ("weight", floats(&[1, 1, 2], &[1.0, 10.0])),
        ("strides", Value::ints(&[2]).into()),
        ("pad_type", "valid".into()),
        ("pad", [0; 2].into()),
        ("dilations", [1].into()),
        ("groups", 1.into()),
    ];
    let y = op("conv_transpose", &[1, 1, 3], &[1.0, 2.0, 3.0], &args);
    expect(&y, &[1, 1, 6], &[1.0, 10.0, 2.0, 20.0, 3.0, 30.0]);
}

#[test]
fn products_by_hand() {
    let y = op(
        "linear",
        &[2, 3],
        &SIX,
        &[
            ("weight", floats(&[2, 3], &[1.0, 0.0, -1.0, 2.0, 1.0, 0.0])),
            ("bias", floats(&[2], &[0.0, 100.0])),
        ],
    );
    expect(&y, &[2, 2], &[-2.0, 104.0, -2.0, 113.0]);
    let both = [
        ("x", &[2usize, 3][..], &SIX[..]),
        ("y", &[2, 3][..], &SIX[..]),
    ];
    let matmul = |tx: bool, ty: bool| {
        run(DType::Fp32, Compute::Fp32, &both, |b, v| {
            let args = [
                ("x", (&v[0]).into()),
                ("y", (&v[1]).into()),
                ("transpose_x", tx.into()),
                ("transpose_y", ty.into()),
            ];
            vec![b.op("matmul", "z", &args).unwrap()]
        })
        .remove(0)
    };
    expect(&matmul(false, true), &[2, 2], &[14.0, 32.0, 32.0, 77.0]);
    expect(
        &matmul(true, false),
        &[3, 3],
        &[17.0, 22.0, 27.0, 22.0, 29.0, 36.0, 27.0, 36.0, 45.0],
    );
    // bkhc,bchq->bkhq with k = 1, c = 3, q = 2: [1,2,3] · [[1,2],[3,4],[5,6]].
    let values = [
        ("x", &[1usize, 1, 1, 3][..], &[1.0, 2.0, 3.0][..]),
        ("y", &[1, 3, 1, 2][..], &SIX[..]),
    ];
    let z = run(DType::Fp32, Compute::Fp32, &values, |b, v| {
        let args = [
            ("values", Arg::Many(v.to_vec())),
            ("equation", "bkhc,bchq->bkhq".into()),
        ];
        vec![b.op("einsum", "z", &args).unwrap()]
    });
    expect(&z[0], &[1, 1, 1, 2], &[22.0, 28.0]);
}

#[test]
fn reductions_by_hand() {
    let r = |kind: &str, axes: &[i32], keep: bool| {
        op(
            kind,
            &[2, 3],
            &SIX,
            &[("axes", axes.into()), ("keep_dims", keep.into())],
        )
    };
    expect(&r("reduce_sum", &[1], false), &[2], &[6.0, 15.0]);
    expect(&r("reduce_sum", &[0], true), &[1, 3], &[5.0, 7.0, 9.0]);
    expect(&r("reduce_mean", &[0, 1], false), &[], &[3.5]);
    expect(&r("reduce_max", &[-1], false), &[2], &[3.0, 6.0]);
    expect(&r("reduce_min", &[0], false), &[3], &[1.0, 2.0, 3.0]);
    expect(&r("reduce_prod", &[1], false), &[2], &[6.0, 120.0]);
    expect(&r("reduce_sum_square", &[1], false), &[2], &[14.0, 77.0]);
    expect(
        &r("reduce_l2_norm", &[1], false),
        &[2],
        &[3.741_657_5, 8.774_964],
    );
    expect(
        &r("reduce_log_sum_exp", &[1], false),
        &[2],
        &[3.407_606, 6.407_606],
    );
    let axis = |a: i32| [("axis", Arg::from(a)), ("keep_dims", false.into())];
    let x = [1.0, 5.0, 5.0, 9.0, 2.0, 3.0];
    expect_ints(&op("reduce_argmax", &[2, 3], &x, &axis(1)), &[2], &[1, 0]);
    expect(
        &op(
            "softmax",
            &[2, 2],
            &[0.0, 0.0, 2f32.ln(), 0.0],
            &[("axis", 0.into())],
        ),
        &[2, 2],
        &[1.0 / 3.0, 0.5, 2.0 / 3.0, 0.5],
    );
    let c = [
        ("axis", Arg::from(1)),
        ("exclusive", true.into()),
        ("reverse", false.into()),
    ];
    expect(
        &op("cumsum", &[2, 3], &SIX, &c),
        &[2, 3],
        &[0.0, 1.0, 3.0, 0.0, 4.0, 9.0],
    );
    let c = [
        ("axis", Arg::from(1)),
        ("exclusive", false.into()),
        ("reverse", true.into()),
    ];
    expect(
        &op("cumsum", &[2, 3], &SIX, &c),
        &[2, 3],
        &[6.0, 5.0, 3.0, 15.0, 11.0, 6.0],
    );
}

#[test]
fn norms_by_hand() {
    // Row [1, 3]: mean 2, variance 1.
    let y = op(
        "layer_norm",
        &[2, 2],
        &[1.0, 3.0, 10.0, 14.0],
        &[
            ("axes", [1].into()),
            ("gamma", floats(&[2], &[1.0, 2.0])),
            ("beta", floats(&[2], &[0.0, 1.0])),
            ("epsilon", f(0.0)),
        ],
    );
    expect(&y, &[2, 2], &[-1.0, 3.0, -1.0, 3.0]);
    let y = op(
        "instance_norm",
        &[1, 2, 1, 2],
        &[1.0, 3.0, 10.0, 14.0],
        &[
            ("gamma", floats(&[2], &[1.0, 2.0])),
            ("beta", floats(&[2], &[0.0, 1.0])),
            ("epsilon", f(0.0)),
        ],
    );
    expect(&y, &[1, 2, 1, 2], &[-1.0, 1.0, -1.0, 3.0]);
    let y = op(
        "batch_norm",
        &[1, 2, 1, 1],
        &[3.0, 10.0],
        &[
            ("mean", floats(&[2], &[1.0, 2.0])),
            ("variance", floats(&[2], &[4.0, 16.0])),
            ("gamma", floats(&[2], &[1.0, 10.0])),
            ("beta", floats(&[2], &[0.0, 1.0])),
            ("epsilon", f(0.0)),
        ],
    );
    expect(&y, &[1, 2, 1, 1], &[1.0, 21.0]);
}
