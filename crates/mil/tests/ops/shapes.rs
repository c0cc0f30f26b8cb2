//! Output shapes where sizes are unknown, and of networks' typical sites.

use gesso_mil::ValueType;

use crate::{Given, bools, half, i, infer, ints, s, ty, v, vs, w, yes};

/// Computes an op's single output in the opset of iOS16 and compares it.
fn gives(kind: &str, given: &[(&str, Given)], expected: &str) {
    gives_in("CoreML6", kind, given, expected);
}

fn gives_in(opset: &str, kind: &str, given: &[(&str, Given)], expected: &str) {
    let found = infer(opset, kind, given).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(found, [ty(expected)], "{kind}");
}

#[test]
fn elementwise() {
    gives(
        "add",
        &[("x", v("fp16 2 ? 1")), ("y", v("fp16 ? 5"))],
        "fp16 2 ? 5",
    );
    gives(
        "mul",
        &[("x", v("fp16 2 320 64 64")), ("y", half(0.5))],
        "fp16 2 320 64 64",
    );
    gives(
        "sub",
        &[("x", v("int32 ?")), ("y", v("int32 4"))],
        "int32 4",
    );
    gives(
        "greater",
        &[("x", v("int32 3 1")), ("y", v("int32 4"))],
        "bool 3 4",
    );
    gives(
        "cast",
        &[("x", v("fp16 2 ?")), ("dtype", s("fp32"))],
        "fp32 2 ?",
    );
    gives_in(
        "CoreML7",
        "cast",
        &[("x", v("fp16 2")), ("dtype", s("uint8"))],
        "uint8 2",
    );
    gives(
        "select",
        &[
            ("cond", v("bool 3 1")),
            ("a", v("fp16 4")),
            ("b", half(0.0)),
        ],
        "fp16 3 4",
    );
    gives(
        "clip",
        &[
            ("x", v("fp16 ? 3")),
            ("alpha", half(0.0)),
            ("beta", half(1.0)),
        ],
        "fp16 ? 3",
    );
}

#[test]
fn activations_and_normalizations() {
    gives(
        "gelu",
        &[
            ("x", v("fp16 2 77 3072")),
            ("mode", s("SIGMOID_APPROXIMATION")),
        ],
        "fp16 2 77 3072",
    );
    gives(
        "softmax",
        &[("x", v("fp16 2 8 ? 77")), ("axis", i(-1))],
        "fp16 2 8 ? 77",
    );
    gives(
        "layer_norm",
        &[
            ("x", v("fp16 2 768 1 77")),
            ("axes", ints(&[1])),
            ("gamma", w("fp16 768")),
        ],
        "fp16 2 768 1 77",
    );
    gives(
        "batch_norm",
        &[
            ("x", v("fp16 2 320 ? ?")),
            ("mean", w("fp16 320")),
            ("variance", w("fp16 320")),
        ],
        "fp16 2 320 ? ?",
    );
    gives(
        "reduce_mean",
        &[
            ("x", v("fp16 2 32 ? 9")),
            ("axes", ints(&[2, -1])),
            ("keep_dims", yes()),
        ],
        "fp16 2 32 1 1",
    );
    gives("reduce_sum", &[("x", v("fp16 2 32"))], "fp16");
    gives("reduce_argmax", &[("x", v("int32 2 77"))], "int32 2");
}

#[test]
fn convolutions() {
    let x = || ("x", v("fp16 2 320 64 ?"));
    gives(
        "conv",
        &[
            x(),
            ("weight", w("fp16 320 320 3 3")),
            ("strides", ints(&[2, 2])),
            ("pad_type", s("custom")),
            ("pad", ints(&[1; 4])),
        ],
        "fp16 2 320 32 ?",
    );
    gives(
        "conv",
        &[x(), ("weight", w("fp16 4 320 1 1")), ("bias", w("fp16 4"))],
        "fp16 2 4 64 ?",
    );
    gives(
        "conv",
        &[
            ("x", v("fp16 1 8 5")),
            ("weight", w("fp16 8 1 3")),
            ("groups", i(8)),
            ("dilations", ints(&[2])),
        ],
        "fp16 1 8 1",
    );
    gives(
        "conv",
        &[x(), ("weight", v("fp16 320 320 ? 3"))],
        "fp16 2 320 ? ?",
    );
    gives(
        "conv_transpose",
        &[
            ("x", v("fp16 1 4 ? 8")),
            ("weight", w("fp16 4 2 4 4")),
            ("strides", ints(&[2, 2])),
            ("groups", i(2)),
        ],
        "fp16 1 4 ? 18",
    );
    gives(
        "max_pool",
        &[
            ("x", v("fp16 1 4 ? 8")),
            ("kernel_sizes", ints(&[2, 2])),
            ("strides", ints(&[2, 2])),
            ("pad_type", s("valid")),
        ],
        "fp16 1 4 ? 4",
    );
    gives(
        "upsample_nearest_neighbor",
        &[
            ("x", v("fp16 2 4 8 ?")),
            ("scale_factor_height", i(2)),
            ("scale_factor_width", i(2)),
        ],
        "fp16 2 4 16 ?",
    );
    gives(
        "resize_nearest_neighbor",
        &[
            ("x", v("fp16 2 4 ? ?")),
            ("target_size_height", i(5)),
            ("target_size_width", i(7)),
        ],
        "fp16 2 4 5 7",
    );
}

#[test]
fn products() {
    gives(
        "linear",
        &[("x", v("fp16 2 ? 768")), ("weight", w("fp16 3072 768"))],
        "fp16 2 ? 3072",
    );
    gives(
        "matmul",
        &[
            ("x", v("fp16 2 8 64 ?")),
            ("y", v("fp16 1 8 64 77")),
            ("transpose_x", yes()),
        ],
        "fp16 2 8 ? 77",
    );
    gives(
        "matmul",
        &[("x", v("fp32 5")), ("y", v("fp32 5 3"))],
        "fp32 3",
    );
    gives(
        "einsum",
        &[
            ("values", vs(&["fp16 2 77 8 40", "fp16 2 40 8 ?"])),
            ("equation", s("bkhc,bchq->bkhq")),
        ],
        "fp16 2 77 8 ?",
    );
    gives_in(
        "CoreML8",
        "scaled_dot_product_attention",
        &[
            ("query", v("fp16 2 8 ? 40")),
            ("key", v("fp16 2 8 77 40")),
            ("value", v("fp16 2 8 77 40")),
            ("attn_mask", v("fp16 1 77")),
        ],
        "fp16 2 8 ? 40",
    );
}

#[test]
fn rearrangements() {
    gives(
        "reshape",
        &[
            ("x", v("fp16 2 320 64 64")),
            ("shape", ints(&[0, 8, -1, 64])),
        ],
        "fp16 2 8 2560 64",
    );
    gives(
        "reshape",
        &[("x", v("fp16 2 ? 4")), ("shape", ints(&[-1, 4]))],
        "fp16 ? 4",
    );
    gives(
        "reshape",
        &[("x", v("fp16 2 4")), ("shape", v("int32 3"))],
        "fp16 ? ? ?",
    );
    gives(
        "transpose",
        &[("x", v("fp16 2 ? 4")), ("perm", ints(&[0, -1, 1]))],
        "fp16 2 4 ?",
    );
    gives(
        "expand_dims",
        &[("x", v("fp16 2 ?")), ("axes", ints(&[-1, 1]))],
        "fp16 2 1 ? 1",
    );
    gives(
        "squeeze",
        &[("x", v("fp16 2 1 ? 1")), ("axes", ints(&[1]))],
        "fp16 2 ? 1",
    );
    gives(
        "slice_by_index",
        &[
            ("x", v("fp16 ? 9")),
            ("begin", ints(&[0, -4])),
            ("end", ints(&[0, 9])),
            ("begin_mask", bools(&[true, false])),
            ("end_mask", bools(&[true, false])),
        ],
        "fp16 ? 4",
    );
    gives(
        "slice_by_index",
        &[
            ("x", v("fp16 9 9")),
            ("begin", v("int32 2")),
            ("end", ints(&[1, 1])),
            ("squeeze_mask", bools(&[true, false])),
        ],
        "fp16 ?",
    );
    gives(
        "slice_by_size",
        &[
            ("x", v("fp16 ? 9")),
            ("begin", ints(&[0, 2])),
            ("size", ints(&[3, -1])),
        ],
        "fp16 3 7",
    );
}

#[test]
fn whole_tensors() {
    gives(
        "concat",
        &[
            ("values", vs(&["fp16 2 320 ?", "fp16 2 640 8"])),
            ("axis", i(1)),
        ],
        "fp16 2 960 8",
    );
    gives(
        "concat",
        &[("values", vs(&["fp16 2 ?", "fp16 2 8"])), ("axis", i(1))],
        "fp16 2 ?",
    );
    gives(
        "stack",
        &[("values", vs(&["fp16 2 ?", "fp16 ? 8"])), ("axis", i(-1))],
        "fp16 2 8 2",
    );
    gives(
        "tile",
        &[("x", v("fp16 1 ?")), ("reps", ints(&[2, 3]))],
        "fp16 2 ?",
    );
    gives(
        "pad",
        &[("x", v("fp16 1 4 ?")), ("pad", ints(&[1, 2, 0, 0]))],
        "fp16 1 7 ?",
    );
    gives(
        "fill",
        &[("shape", v("int32 2")), ("value", half(1.0))],
        "fp16 ? ?",
    );
    gives("shape", &[("x", v("fp16 1 4 ?"))], "int32 3");
    gives(
        "range_1d",
        &[("start", i(7)), ("end", i(0)), ("step", i(-2))],
        "int32 4",
    );
    gives(
        "range_1d",
        &[("start", i(0)), ("end", v("int32")), ("step", i(1))],
        "int32 ?",
    );
    gives(
        "one_hot",
        &[
            ("indices", v("int32 2 77")),
            ("one_hot_vector_size", i(9)),
            ("on_value", half(1.0)),
            ("off_value", half(0.0)),
        ],
        "fp16 2 77 9",
    );
    let parts = infer(
        "CoreML6",
        "split",
        &[
            ("x", v("fp16 2 9")),
            ("split_sizes", ints(&[4, 5])),
            ("axis", i(-1)),
        ],
    );
    assert_eq!(parts.unwrap(), [ty("fp16 2 4"), ty("fp16 2 5")]);
    let parts = infer(
        "CoreML6",
        "split",
        &[("x", v("fp16 2 ?")), ("num_splits", i(2)), ("axis", i(1))],
    );
    assert_eq!(parts.unwrap(), [ty("fp16 2 ?"), ty("fp16 2 ?")]);
}

#[test]
fn gathering() {
    gives(
        "gather",
        &[
            ("x", w("fp16 49408 768")),
            ("indices", v("int32 2 77")),
            ("axis", i(0)),
        ],
        "fp16 2 77 768",
    );
    gives(
        "gather",
        &[
            ("x", v("fp16 2 77 768")),
            ("indices", v("int32 2")),
            ("axis", i(1)),
            ("batch_dims", i(1)),
        ],
        "fp16 2 768",
    );
    gives(
        "gather_nd",
        &[("x", v("fp16 2 77 768")), ("indices", v("int32 ? 2"))],
        "fp16 ? 768",
    );
    gives(
        "gather_along_axis",
        &[
            ("x", v("fp16 2 77")),
            ("indices", v("int32 2 ?")),
            ("axis", i(1)),
        ],
        "fp16 2 ?",
    );
}

#[test]
fn states() {
    let state = || Given::Variable(ValueType::State(Box::new(ty("fp16 1 8"))));
    let call = |kind: &str, given: &[(&str, Given)]| infer("CoreML8", kind, given);
    assert_eq!(
        call("read_state", &[("input", state())]).unwrap(),
        [ty("fp16 1 8")]
    );
    assert_eq!(
        call(
            "write_state",
            &[("input", state()), ("data", v("fp16 1 8"))]
        )
        .unwrap(),
        []
    );
    assert_eq!(
        call(
            "coreml_update_state",
            &[("state", state()), ("value", v("fp16 1 8"))]
        )
        .unwrap(),
        [ty("fp16 1 8")]
    );
    let error = call("read_state", &[("input", v("fp16 1 8"))]).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("expected a state, found tensor<fp16, [1, 8]>")
    );
    let error = call(
        "write_state",
        &[("input", state()), ("data", v("fp16 1 9"))],
    )
    .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("expected tensor<fp16, [1, 8]>, found tensor<fp16, [1, 9]>")
    );
}
