"""Programs that use every op of the table in many forms, with the output types that coremltools 9.0 computes.

usage: mil_ops.py FOLDER

Writes FOLDER/inference-<opset>.mlmodel (no weights: constants are immediate) and FOLDER/signatures.tsv: per op and opset the
parameters as name|required or optional|constant or variable|dtypes (nothing for any).

The programs are written as built, no pass runs over them: float defaults, which coremltools adds as fp32, are given in the
dtype of their op.
"""

import pathlib
import sys
import tempfile

import coremltools as ct
import numpy as np
from coremltools.converters.mil.backend.mil.load import MILProtoExporter
from coremltools.converters.mil.mil import Builder as mb
from coremltools.converters.mil.mil import types
from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry
from coremltools.proto import MIL_pb2, Model_pb2

OPSETS = {
    "CoreML5": (ct.target.iOS15, 6),
    "CoreML6": (ct.target.iOS16, 7),
    "CoreML7": (ct.target.iOS17, 8),
    "CoreML8": (ct.target.iOS18, 9),
}
INPUTS = {
    "x": ((2, 12, 8, 6), types.fp16),
    "y": ((1, 12, 1, 6), types.fp16),
    "image": ((1, 4, 17, 13), types.fp32),
    "volume": ((1, 4, 9, 10, 11), types.fp16),
    "line": ((2, 6, 15), types.fp32),
    "ids": ((2, 7), types.int32),
    "vector": ((9,), types.fp16),
    "flag": ((2, 12, 8, 6), types.bool),
    "one": ((1,), types.fp16),
}
BINARY = "add sub mul real_div floor_div mod pow maximum minimum equal not_equal greater greater_equal less less_equal".split()
UNARY = "exp sqrt erf ceil floor round sin cos tan asin acos atan sinh cosh tanh atanh inverse rsqrt log".split()
PLAIN = "relu relu6 sigmoid silu softplus softsign".split()
ONE = "elu leaky_relu thresholded_relu".split()
TWO = "clamped_relu linear_activation scaled_tanh sigmoid_hard clip".split()
REDUCE = "mean sum max min prod l1_norm l2_norm log_sum log_sum_exp sum_square".split()


def f16(*shape):
    return np.zeros(shape, np.float16)


def f32(*shape):
    return np.zeros(shape, np.float32)


def elementwise(v):
    for op in BINARY:
        f = getattr(mb, op)
        yield f(x=v["x"], y=v["y"])
        yield f(x=v["vector"], y=v["one"])
        yield f(x=v["ids"], y=np.int32(3))
    for op in ["logical_and", "logical_or", "logical_xor"]:
        yield getattr(mb, op)(x=v["flag"], y=v["flag"])
    yield mb.logical_not(x=v["flag"])
    for op in ["abs", "sign", "square", "exp2"]:
        yield getattr(mb, op)(x=v["ids"])
        yield getattr(mb, op)(x=v["one"])
    for op in UNARY + PLAIN:
        yield getattr(mb, op)(x=v["image"])
    yield mb.inverse(x=v["x"], epsilon=np.float16(0.1))
    for op in ONE:
        yield getattr(mb, op)(x=v["x"], alpha=np.float16(0.5))
    for op in TWO:
        yield getattr(mb, op)(x=v["x"], alpha=np.float16(0.25), beta=np.float16(0.5))
    yield mb.threshold(x=v["x"], alpha=np.float16(0.5))
    yield mb.prelu(x=v["x"], alpha=np.arange(12).astype(np.float16))
    for mode in ["EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION"]:
        yield mb.gelu(x=v["x"], mode=mode)
    yield mb.gelu(x=v["x"])
    yield mb.softmax(x=v["x"], axis=1)
    yield mb.softmax(x=v["x"])
    for dtype in ["bool", "fp16", "fp32", "int32"]:
        yield mb.cast(x=v["x"], dtype=dtype)
    yield mb.identity(x=v["x"])
    yield mb.select(cond=v["flag"], a=v["x"], b=v["x"])


def reductions(v):
    for op in REDUCE:
        f = getattr(mb, "reduce_" + op)
        yield f(x=v["x"])
        yield f(x=v["x"], axes=[-1, 1], keep_dims=True)
        yield f(x=v["x"], axes=[2, 3], keep_dims=False)
    for op in ["argmax", "argmin"]:
        f = getattr(mb, "reduce_" + op)
        yield f(x=v["x"])
        yield f(x=v["x"], axis=1, keep_dims=True)
    yield mb.layer_norm(x=v["x"], axes=[-1], gamma=f16(6), beta=f16(6), epsilon=np.float16(1e-5))
    yield mb.layer_norm(x=v["x"], axes=[2, 3], gamma=f16(8, 6), epsilon=np.float16(1e-5))
    yield mb.layer_norm(x=v["image"], axes=[1, 2, 3])
    yield mb.instance_norm(x=v["x"], gamma=f16(12), beta=f16(12), epsilon=np.float16(1e-5))
    yield mb.instance_norm(x=v["line"])
    yield mb.batch_norm(x=v["x"], mean=f16(12), variance=f16(12), gamma=f16(12), beta=f16(12), epsilon=np.float16(1e-5))
    yield mb.l2_norm(x=v["x"], epsilon=np.float16(1e-5))
    yield mb.cumsum(x=v["x"], axis=-1, exclusive=True, reverse=True)


def convolutions(v):
    w = f16(8, 12, 3, 3)
    yield mb.conv(x=v["x"], weight=w)
    yield mb.conv(x=v["x"], weight=w, bias=f16(8), strides=[2, 1], dilations=[1, 2], pad_type="custom", pad=[1, 2, 3, 0])
    yield mb.conv(x=v["x"], weight=w, strides=[3, 5], pad_type="same")
    yield mb.conv(x=v["x"], weight=f16(12, 3, 2, 3), groups=4, strides=[3, 2], pad_type="same")
    yield mb.conv(x=v["line"], weight=f32(5, 6, 4), strides=[2])
    yield mb.conv(x=v["volume"], weight=f16(2, 4, 3, 2, 1), pad_type="same", strides=[2, 2, 3])
    t = f16(12, 4, 3, 2)
    yield mb.conv_transpose(x=v["x"], weight=t)
    yield mb.conv_transpose(x=v["x"], weight=t, bias=f16(12), groups=3, strides=[2, 3], dilations=[2, 1])
    yield mb.conv_transpose(x=v["x"], weight=t, strides=[2, 2], pad_type="same")
    yield mb.conv_transpose(x=v["x"], weight=t, strides=[2, 2], pad_type="custom", pad=[1, 0, 0, 1])
    yield mb.conv_transpose(x=v["x"], weight=t, strides=[2, 2], output_shape=[2, 4, 17, 12])
    for op in ["max_pool", "avg_pool", "l2_pool"]:
        f = getattr(mb, op)
        yield f(x=v["image"], kernel_sizes=[3, 2], strides=[2, 3], pad_type="valid")
        yield f(x=v["image"], kernel_sizes=[3, 2], strides=[2, 3], pad_type="same")
        yield f(x=v["image"], kernel_sizes=[3, 4], strides=[2, 3], pad_type="custom", pad=[1, 1, 2, 2], ceil_mode=True)
        yield f(x=v["image"], kernel_sizes=[2, 2], strides=[4, 5], pad_type="custom", pad=[1, 1, 1, 1], ceil_mode=True)
        yield f(x=v["line"], kernel_sizes=[4], pad_type="custom", pad=[0, 2])
        if op != "l2_pool":  # takes one or two spatial axes
            yield f(x=v["volume"], kernel_sizes=[2, 2, 2], strides=[2, 2, 2], pad_type="valid")
    yield mb.avg_pool(x=v["x"], kernel_sizes=[2, 2], pad_type="same", exclude_padding_from_average=True)


def products(v):
    yield mb.linear(x=v["x"], weight=f16(5, 6), bias=f16(5))
    yield mb.linear(x=v["line"], weight=f32(4, 15))
    yield mb.matmul(x=v["x"], y=f16(6, 3))
    yield mb.matmul(x=v["x"], y=v["x"], transpose_y=True)
    yield mb.matmul(x=v["x"], y=f16(1, 12, 8, 5), transpose_x=True)
    yield mb.matmul(x=v["vector"], y=f16(9, 4))
    yield mb.einsum(values=[v["x"], f16(2, 6, 8, 5)], equation="nchw,nwhu->nchu")
    yield mb.einsum(values=[v["x"], f16(1, 6, 8, 5)], equation="bdqk,bkqs->bdqs")
    yield mb.einsum(values=[v["line"], f32(15, 1, 3)], equation="chw,whr->chr")


def shapes(v):
    yield mb.reshape(x=v["x"], shape=[0, -1, 4, 0])
    yield mb.reshape(x=v["x"], shape=[24, 48])
    yield mb.reshape(x=v["one"], shape=[1, 1])
    yield mb.reshape(x=v["x"], shape=[-1])
    yield mb.transpose(x=v["x"], perm=[0, 2, -1, 1])
    yield mb.expand_dims(x=v["line"], axes=[0, -1])
    yield mb.expand_dims(x=v["one"], axes=[0])
    yield mb.squeeze(x=v["y"], axes=[0])
    yield mb.squeeze(x=v["y"], axes=[0, -2])
    yield mb.squeeze(x=v["y"])
    yield mb.reverse(x=v["x"], axes=[1, -1])
    yield mb.reverse(x=v["x"])
    yield mb.flatten2d(x=v["x"])
    yield mb.flatten2d(x=v["x"], axis=-2)
    yield mb.flatten2d(x=v["x"], axis=0)
    yield mb.pixel_shuffle(x=v["x"], upscale_factor=2)
    s = mb.slice_by_index
    yield s(x=v["x"], begin=[0, 2, -3, 1], end=[2, 9, -1, 6], stride=[1, 3, 1, 2])
    yield s(x=v["x"], begin=[0, 2, 0, 1], end=[0, 0, 0, 0], begin_mask=[True, False, True, False], end_mask=[True] * 4)
    yield s(x=v["x"], begin=[1, -1, 3, 0], end=[0, 0, 0, 6], squeeze_mask=[True, True, True, False])
    yield s(x=v["x"], begin=[0, 11, 0, 5], end=[2, 2, 8, 0], stride=[1, -2, 1, -1], end_mask=[False, False, False, True])
    yield s(x=v["x"], begin=[0] * 4, end=[0] * 4, stride=[1, 1, -1, 3], begin_mask=[True] * 4, end_mask=[True] * 4)
    yield s(x=v["vector"], begin=[2], end=[3], squeeze_mask=[True])
    yield s(x=v["vector"], begin=[4], end=[100])
    yield mb.slice_by_size(x=v["x"], begin=[0, 3, 1, 0], size=[1, 4, -1, 6])
    yield mb.slice_by_size(x=v["x"], begin=[0, -3, 1, 0], size=[1, 3, -1, 6])
    yield mb.concat(values=[v["x"], v["x"]], axis=1)
    yield mb.concat(values=[v["x"], f16(2, 12, 8, 1), v["x"]], axis=-1)
    yield mb.concat(values=[v["x"], v["x"]], axis=1, interleave=True)
    yield mb.concat(values=[v["one"], v["one"], v["one"]], axis=0)
    yield mb.stack(values=[v["x"], v["x"], v["x"]], axis=1)
    yield mb.stack(values=[v["line"], v["line"]], axis=-1)
    yield from mb.split(x=v["x"], num_splits=3, axis=1)
    yield from mb.split(x=v["x"], split_sizes=[5, 3], axis=-2)
    yield mb.tile(x=v["x"], reps=[1, 2, 3, 1])
    yield mb.pad(x=v["x"], pad=[1, 2], constant_val=np.float16(0))
    yield mb.pad(x=v["x"], pad=[0, 1, 2, 0, 0, 3, 1, 1], mode="constant", constant_val=np.float16(1))
    yield mb.pad(x=v["x"], pad=[1, 2, 3, 4], mode="reflect", constant_val=np.float16(0))
    yield mb.pad(x=v["x"], pad=[1, 2, 3, 4], mode="replicate", constant_val=np.float16(0))


def selections(v):
    yield mb.shape(x=v["x"])
    yield mb.non_zero(x=v["x"])
    yield mb.fill(shape=[2, 3], value=np.float16(1))
    yield mb.fill(shape=[2, 3])
    yield mb.range_1d(start=np.int32(1), end=np.int32(12), step=np.int32(3))
    yield mb.argsort(x=v["x"], axis=1)
    yield from mb.topk(x=v["x"], k=3, axis=1, ascending=True)
    yield from mb.topk(x=v["x"], k=2)
    yield mb.band_part(x=v["x"], lower=1, upper=0)
    yield mb.one_hot(indices=v["ids"], one_hot_vector_size=5, on_value=np.float16(1), off_value=np.float16(0))
    yield mb.one_hot(indices=v["ids"], one_hot_vector_size=5, axis=0)
    yield mb.one_hot(indices=v["ids"], one_hot_vector_size=5, axis=-2)
    yield mb.gather(x=v["x"], indices=v["ids"], axis=1)
    yield mb.gather(x=v["x"], indices=v["ids"], axis=-1)
    yield mb.gather(x=v["x"], indices=np.int32(1), axis=2)
    yield mb.gather(x=v["vector"], indices=np.int32(1), axis=0)
    yield mb.gather(x=f16(40, 8), indices=v["ids"], axis=0)
    yield mb.gather_along_axis(x=v["line"], indices=np.zeros((2, 3, 15), np.int32), axis=1)
    yield mb.gather_nd(x=v["x"], indices=np.zeros((5, 2), np.int32))
    yield mb.gather_nd(x=v["x"], indices=np.zeros((5, 3, 4), np.int32))
    for op in ["upsample_nearest_neighbor", "upsample_bilinear"]:
        yield getattr(mb, op)(x=v["image"], scale_factor_height=2, scale_factor_width=3)
        yield getattr(mb, op)(x=v["image"], scale_factor_height=np.float32(1.6), scale_factor_width=np.float32(0.5))
    yield mb.upsample_bilinear(x=v["image"], scale_factor_height=2, scale_factor_width=2, align_corners=False)
    yield mb.resize_nearest_neighbor(x=v["image"], target_size_height=5, target_size_width=7)
    yield mb.resize_bilinear(x=v["image"], target_size_height=5, target_size_width=7, sampling_mode="ALIGN_CORNERS")


def since_ios16(v):
    yield mb.conv(x=v["x"], weight=f16(8, 12, 3, 3), strides=[2, 2], pad_type="same_lower")
    yield mb.max_pool(x=v["image"], kernel_sizes=[2, 2], strides=[2, 3], pad_type="same_lower")
    yield mb.fill_like(ref_tensor=v["x"], value=np.int32(1))
    yield mb.gather(x=v["x"], indices=v["ids"], axis=1, batch_dims=1)
    yield mb.gather(x=v["x"], indices=v["ids"], axis=2, batch_dims=1)
    yield mb.gather_nd(x=v["x"], indices=np.zeros((2, 5, 2), np.int32), batch_dims=1)
    yield mb.topk(x=v["x"], k=3, axis=1, sort=False, return_indices=False)
    yield mb.upsample_bilinear(
        x=v["image"], scale_factor_height=2, scale_factor_width=2, align_corners=False, half_pixel_centers=True
    )


def constexprs_ios16(v):
    yield mb.constexpr_lut_to_dense(
        indices=np.zeros(18, np.uint8), lut=np.arange(64).astype(np.float16), shape=np.array([4, 6], np.uint32)
    )
    yield mb.constexpr_lut_to_dense(
        indices=np.zeros(2, np.uint8), lut=np.arange(2).astype(np.float16), shape=np.array([3, 5], np.uint32)
    )
    yield mb.constexpr_affine_dequantize(
        quantized_data=np.zeros((4, 6), np.int8), zero_point=np.zeros(4, np.int8), scale=f16(4), axis=0
    )
    yield mb.constexpr_affine_dequantize(
        quantized_data=np.zeros((4, 6), np.uint8), zero_point=np.uint8(3), scale=np.float32(0.5), axis=1
    )
    yield mb.constexpr_sparse_to_dense(
        nonzero_data=np.ones(3, np.float16), mask=np.array([7, 0, 0], np.uint8), shape=np.array([3, 7], np.uint32)
    )
    yield mb.constexpr_cast(source_val=f16(4, 3), output_dtype="fp32")


def since_ios17(v):
    for dtype in ["int8", "uint8", "int16", "uint16"]:
        yield mb.cast(x=v["x"], dtype=dtype)
    yield mb.reduce_argmax(x=v["x"], axis=1, output_dtype="uint16")
    yield from mb.topk(x=v["x"], k=3, axis=1, output_indices_dtype="uint16")
    yield mb.gather(x=v["x"], indices=v["ids"], axis=1, validate_indices=False)
    yield mb.gather_along_axis(x=v["line"], indices=np.zeros((2, 3, 15), np.int16), axis=1, validate_indices=False)
    yield mb.gather_nd(x=v["x"], indices=np.zeros((5, 2), np.uint16), validate_indices=False)
    small = mb.cast(x=v["x"], dtype="int8")
    yield mb.reshape(x=small, shape=np.array([24, 48], np.int16))
    yield mb.transpose(x=small, perm=[3, 2, 1, 0])
    yield mb.resize(x=v["x"], shape=[5, 0], resized_dims=np.uint32(2))
    yield mb.resize(x=v["x"], shape=[9, 5, 7], resized_dims=np.uint32(2), interpolation_mode="NEAREST_NEIGHBOR")
    w = mb.identity(x=f16(8, 12, 3, 3))
    yield mb.conv(x=v["x"], weight=w, bias=mb.identity(x=f16(8)))
    yield mb.conv_transpose(x=v["x"], weight=mb.identity(x=f16(12, 4, 3, 2)))


def since_ios18(v):
    q, m = f16(2, 3, 7, 4), np.zeros((7, 5), bool)
    query = mb.identity(x=q)
    yield mb.scaled_dot_product_attention(query=query, key=f16(2, 3, 5, 4), value=f16(2, 3, 5, 6))
    yield mb.scaled_dot_product_attention(query=query, key=f16(2, 3, 5, 4), value=f16(2, 3, 5, 6), attn_mask=m)
    yield mb.slice_update(x=v["x"], update=f16(2, 3, 8, 6), begin=[0, 1, 0, 0], end=[2, 4, 8, 6])
    u4 = types.np_uint4_dtype
    yield mb.constexpr_lut_to_dense(indices=np.zeros((4, 6), u4), lut=f16(2, 3, 16, 1))
    yield mb.constexpr_lut_to_dense(indices=np.zeros((4, 6), u4), lut=f16(2, 1, 16, 3), vector_axis=1)
    yield mb.constexpr_blockwise_shift_scale(data=np.zeros((4, 6), np.int8), scale=f16(2, 3))
    yield mb.constexpr_affine_dequantize(
        quantized_data=np.zeros((4, 6), np.uint8), zero_point=np.uint8(3), scale=np.float32(0.5), axis=1
    )
    yield mb.constexpr_blockwise_shift_scale(data=np.zeros((4, 6), u4), scale=f16(4, 1), offset=np.zeros((4, 1), u4))
    mask = np.zeros((3, 7), types.np_uint1_dtype)
    mask[0, :3] = 1
    yield mb.constexpr_sparse_to_dense(nonzero_data=np.ones(3, np.float16), mask=mask)
    yield mb.constexpr_cast(source_val=f16(4, 3), output_dtype="fp32")


EVERY = [elementwise, reductions, convolutions, products, shapes, selections]
GROUPS = {
    "CoreML5": EVERY,
    "CoreML6": EVERY + [since_ios16, constexprs_ios16],
    "CoreML7": EVERY + [since_ios16, constexprs_ios16, since_ios17],
    "CoreML8": EVERY + [since_ios16, since_ios17, since_ios18],
}


def program(opset):
    target, _ = OPSETS[opset]
    specs = [mb.TensorSpec(shape=shape, dtype=dtype) for shape, dtype in INPUTS.values()]

    def body(*variables):
        by_name = dict(zip(INPUTS, variables))
        by_name["one"] = mb.squeeze(x=by_name["one"])  # a scalar, which no input may be
        return tuple(out for group in GROUPS[opset] for out in group(by_name))

    names = ", ".join(INPUTS)
    scope = {"body": body}
    exec(f"def f({names}): return body({names})", scope)  # the decorator names inputs after the parameters
    return mb.program(input_specs=specs, opset_version=target)(scope["f"])


def immediate(message, weights):
    """Requires every constant to lie in the message: the fixture has no weight file."""
    assert b"@model_path" not in message.SerializeToString(), "a constant went into a weight file"


def main(folder):
    import coremltools.converters.mil.backend.mil.load as backend

    backend.should_use_weight_file = lambda *_, **__: False
    for opset, (_, version) in OPSETS.items():
        with tempfile.TemporaryDirectory() as weights:
            message = MILProtoExporter(program(opset), weights, version).export()
        immediate(message, weights)
        model = Model_pb2.Model(specificationVersion=version)
        model.mlProgram.CopyFrom(message)
        path = pathlib.Path(folder) / f"inference-{opset}.mlmodel"
        path.write_bytes(model.SerializeToString(deterministic=True))
        count = len(message.functions["main"].block_specializations[opset].operations)
        print(path.name, count, "ops", path.stat().st_size, "bytes")


def dtypes(op, parameter):
    """Dtypes that an op's parameter takes, sorted, or nothing where the definition names none."""
    domain = getattr(parameter, "_type_domain", ())
    if getattr(parameter, "_type_domain_id", None):
        domain = op.type_domains[parameter._type_domain_id]
    return ",".join(sorted({types.builtin_to_string(t) for t in domain or ()}))


def signatures(path):
    """Every version of every core op."""
    lines = []
    for name, versions in sorted(SSAOpRegistry.core_ops.items()):
        for opset, (target, _) in OPSETS.items():
            op = versions.get(target)
            if op is None:
                continue
            fields = [name, opset]
            for parameter, kind in op.input_spec.input_types.items():
                required = "optional" if kind.optional else "required"
                fields.append("|".join([parameter, required, "constant" if kind.const else "variable", dtypes(op, kind)]))
            lines.append("\t".join(fields))
    path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    signatures(pathlib.Path(sys.argv[1]) / "signatures.tsv")
    main(sys.argv[1])
