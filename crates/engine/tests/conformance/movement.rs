//! Movement, gathers, resizing, pooling.

use super::*;

#[test]
fn movement_by_hand() {
    let y = op("transpose", &[2, 3], &SIX, &[("perm", [1, 0].into())]);
    expect(&y, &[3, 2], &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    expect(
        &op("reshape", &[2, 3], &SIX, &[("shape", [3, -1].into())]),
        &[3, 2],
        &SIX,
    );
    expect(
        &op("expand_dims", &[6], &SIX, &[("axes", [0, -1].into())]),
        &[1, 6, 1],
        &SIX,
    );
    expect(
        &op("squeeze", &[1, 6, 1], &SIX, &[("axes", [0].into())]),
        &[6, 1],
        &SIX,
    );
    expect(
        &op("tile", &[1, 2], &[1.0, 2.0], &[("reps", [2, 2].into())]),
        &[2, 4],
        &[1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0],
    );
    expect(
        &op("reverse", &[2, 3], &SIX, &[("axes", [1].into())]),
        &[2, 3],
        &[3.0, 2.0, 1.0, 6.0, 5.0, 4.0],
    );
    let s = [
        ("begin", Arg::from([0, 2])),
        ("end", [2, 0].into()),
        ("stride", [1, -2].into()),
        ("end_mask", [false, true].into()),
    ];
    expect(
        &op("slice_by_index", &[2, 3], &SIX, &s),
        &[2, 2],
        &[3.0, 1.0, 6.0, 4.0],
    );
    let s = [
        ("begin", Arg::from([-1, 0])),
        ("end", [0, 0].into()),
        ("end_mask", [false, true].into()),
        ("squeeze_mask", [true, false].into()),
    ];
    expect(
        &op("slice_by_index", &[2, 3], &SIX, &s),
        &[3],
        &[4.0, 5.0, 6.0],
    );
    let s = [("begin", Arg::from([0, 1])), ("size", [2, 2].into())];
    expect(
        &op("slice_by_size", &[2, 3], &SIX, &s),
        &[2, 2],
        &[2.0, 3.0, 5.0, 6.0],
    );
    let p = |mode: &str| {
        [
            ("pad", Arg::from([1, 1])),
            ("mode", mode.into()),
            ("constant_val", f(9.0)),
        ]
    };
    expect(
        &op("pad", &[1, 3], &SIX[..3], &p("constant")),
        &[1, 5],
        &[9.0, 1.0, 2.0, 3.0, 9.0],
    );
    expect(
        &op("pad", &[1, 3], &SIX[..3], &p("reflect")),
        &[1, 5],
        &[2.0, 1.0, 2.0, 3.0, 2.0],
    );
    expect(
        &op("pad", &[1, 3], &SIX[..3], &p("replicate")),
        &[1, 5],
        &[1.0, 1.0, 2.0, 3.0, 3.0],
    );
    let parts = run(
        DType::Fp32,
        Compute::Fp32,
        &[("x", &[2, 3], &SIX)],
        |b, v| {
            let args = [
                ("x", (&v[0]).into()),
                ("split_sizes", [1, 2].into()),
                ("axis", 1.into()),
            ];
            let parts = b.op_many("split", &["a", "b"], &args).unwrap();
            let turned = vec![parts[1].clone(), parts[0].clone()];
            let c = [
                ("values", Arg::from(turned)),
                ("axis", 1.into()),
                ("interleave", false.into()),
            ];
            let joined = b.op("concat", "c", &c).unwrap();
            let s = [
                (
                    "values",
                    Arg::from(vec![parts[0].clone(), parts[0].clone()]),
                ),
                ("axis", 0.into()),
            ];
            let stacked = b.op("stack", "s", &s).unwrap();
            vec![parts[0].clone(), joined, stacked]
        },
    );
    expect(&parts[0], &[2, 1], &[1.0, 4.0]);
    expect(&parts[1], &[2, 3], &[2.0, 3.0, 1.0, 5.0, 6.0, 4.0]);
    expect(&parts[2], &[2, 2, 1], &[1.0, 4.0, 1.0, 4.0]);
}

#[test]
fn gathers_by_hand() {
    let ints = |shape: &[usize], v: &[i32]| -> Arg {
        Value::tensor(
            TensorType::new(DType::Int32, shape),
            gesso_mil::Literal::Ints(v.to_vec()),
        )
        .into()
    };
    let args = |i: Arg, axis: i32, batch: i32| {
        [
            ("indices", i),
            ("axis", axis.into()),
            ("batch_dims", batch.into()),
        ]
    };
    let y = op("gather", &[3, 2], &SIX, &args(ints(&[2], &[2, 0]), 0, 0));
    expect(&y, &[2, 2], &[5.0, 6.0, 1.0, 2.0]);
    let y = op(
        "gather",
        &[2, 3],
        &SIX,
        &args(ints(&[2, 2], &[-1, 0, 1, 1]), 1, 1),
    );
    expect(&y, &[2, 2], &[3.0, 1.0, 5.0, 5.0]);
    let y = op(
        "gather_along_axis",
        &[2, 3],
        &SIX,
        &[("indices", ints(&[2, 1], &[2, 0])), ("axis", 1.into())],
    );
    expect(&y, &[2, 1], &[3.0, 4.0]);
    let y = op(
        "gather_nd",
        &[2, 3],
        &SIX,
        &[
            ("indices", ints(&[2, 2], &[1, 2, 0, 1])),
            ("batch_dims", 0.into()),
        ],
    );
    expect(&y, &[2], &[6.0, 2.0]);
}

#[test]
fn resizing_and_pooling_by_hand() {
    let y = op(
        "upsample_nearest_neighbor",
        &[1, 1, 1, 2],
        &[1.0, 2.0],
        &[
            ("scale_factor_height", f(2.0)),
            ("scale_factor_width", f(2.0)),
        ],
    );
    expect(&y, &[1, 1, 2, 4], &[1.0, 1.0, 2.0, 2.0, 1.0, 1.0, 2.0, 2.0]);
    let b = |align: bool| {
        op(
            "upsample_bilinear",
            &[1, 1, 1, 2],
            &[0.0, 3.0],
            &[
                ("scale_factor_height", f(1.0)),
                ("scale_factor_width", f(2.0)),
                ("align_corners", align.into()),
            ],
        )
    };
    expect(&b(true), &[1, 1, 1, 4], &[0.0, 1.0, 2.0, 3.0]);
    expect(&b(false), &[1, 1, 1, 4], &[0.0, 0.75, 2.25, 3.0]);
    let pool = |kind: &str, more: &[(&str, Arg)]| {
        let mut args: Vec<(&str, Arg)> = vec![
            ("kernel_sizes", [2, 2].into()),
            ("strides", [1, 2].into()),
            ("pad_type", "custom".into()),
            ("pad", [0, 0, 1, 0].into()),
            ("ceil_mode", false.into()),
        ];
        args.extend(more.iter().cloned());
        op(kind, &[1, 1, 2, 3], &SIX, &args)
    };
    expect(&pool("max_pool", &[]), &[1, 1, 1, 2], &[4.0, 6.0]);
    expect(
        &pool("avg_pool", &[("exclude_padding_from_average", true.into())]),
        &[1, 1, 1, 2],
        &[2.5, 4.0],
    );
    expect(
        &pool(
            "avg_pool",
            &[("exclude_padding_from_average", false.into())],
        ),
        &[1, 1, 1, 2],
        &[1.25, 4.0],
    );
}
