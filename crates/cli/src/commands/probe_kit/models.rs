//! Programs of the probes.

use super::numbers::{nibbles, numbers, scaled};
use super::package::Draft;
use super::probes::Probe;
use gesso_coreml::blob::BlobDType;
use gesso_mil::DType::{Fp16, UInt4, UInt8, UInt32};
use gesso_mil::{Arg, Builder, Literal, TensorType, Value, Var};
use std::path::{Path, PathBuf};

/// Shape of most activations.
const IMAGE: [usize; 4] = [1, 64, 1, 32];
/// Shape of the weight of a 1×1 convolution over them, and its number of elements.
const WEIGHT: [usize; 4] = [64, 64, 1, 1];
const ELEMENTS: usize = 64 * 64;

type Made = anyhow::Result<Vec<PathBuf>>;

fn fp16(shape: &[usize]) -> TensorType {
    TensorType::new(Fp16, shape)
}

/// `conv` of `x` with `weight`.
fn conv(b: &mut Builder, name: &str, x: &Var, weight: &Var) -> anyhow::Result<Var> {
    let args: [(&str, Arg); 2] = [("x", x.into()), ("weight", weight.into())];
    Ok(b.op("conv", name, &args)?)
}

fn pair(b: &mut Builder, kind: &str, name: &str, x: &Var, y: &Var) -> anyhow::Result<Var> {
    Ok(b.op(kind, name, &[("x", x.into()), ("y", y.into())])?)
}

/// `y = x + delta`.
pub(super) fn optional_zero(dir: &Path, probe: &Probe) -> Made {
    let mut draft = Draft::new(dir, probe.id, "CoreML6")?;
    let mut b = draft.builder();
    let x = b.input("x", fp16(&[1, 64]));
    let delta = b.input("delta", fp16(&[1, 64]));
    let y = pair(&mut b, "add", "y", &x, &delta)?;
    draft.optional("delta");
    draft.function("main", b.finish(&[y]));
    Ok(vec![draft.finish(probe.claim)?])
}

/// `y = W·x + up·(down·x)` with the factors in `adapter_64 [2, rank, 64]`.
pub(super) fn slots(dir: &Path, probe: &Probe, rank: usize) -> Made {
    let mut draft = Draft::new(dir, probe.id, "CoreML6")?;
    let weight = draft.floats(&WEIGHT, &scaled(7, ELEMENTS, 0.125))?;
    let mut b = draft.builder();
    let x = b.input("x", fp16(&[2, 64, 1, 32]));
    let table = b.input("adapter_64", fp16(&[2, rank, 64]));
    let weight = b.constant("weight", weight);
    let y = slotted(&mut b, &x, &table, &weight, rank)?;
    draft.optional("adapter_64");
    draft.function("main", b.finish(&[y]));
    Ok(vec![draft.finish(probe.claim)?])
}

/// The layer of [`slots`], as conversions write it.
fn slotted(
    b: &mut Builder,
    x: &Var,
    table: &Var,
    weight: &Var,
    rank: usize,
) -> anyhow::Result<Var> {
    let base = conv(b, "base", x, weight)?;
    let rows = b.op(
        "reshape",
        "rows",
        &[("x", x.into()), ("shape", [2, 64, 32].into())],
    )?;
    let row = |b: &mut Builder, name: &str, n: i32| {
        b.op(
            "slice_by_index",
            name,
            &[
                ("x", table.into()),
                ("begin", [n, 0, 0].into()),
                ("end", [n + 1, rank as i32, 64].into()),
            ],
        )
    };
    let down = row(b, "down", 0)?;
    let low = pair(b, "matmul", "low", &down, &rows)?;
    let up = row(b, "up", 1)?;
    let product = b.op(
        "matmul",
        "product",
        &[
            ("x", (&up).into()),
            ("y", (&low).into()),
            ("transpose_x", true.into()),
        ],
    )?;
    let product = b.op(
        "reshape",
        "product_like_base",
        &[("x", (&product).into()), ("shape", [2, 64, 1, 32].into())],
    )?;
    pair(b, "add", "y", &base, &product)
}

/// `y = conv(x, weight)`, both given.
pub(super) fn runtime_conv_weight(dir: &Path, probe: &Probe) -> Made {
    let mut draft = Draft::new(dir, probe.id, "CoreML6")?;
    let mut b = draft.builder();
    let x = b.input("x", fp16(&IMAGE));
    let weight = b.input("weight", fp16(&WEIGHT));
    let y = conv(&mut b, "y", &x, &weight)?;
    draft.function("main", b.finish(&[y]));
    Ok(vec![draft.finish(probe.claim)?])
}

/// [`slots`] of rank 32 with the factors in a state.
pub(super) fn state_read_only(dir: &Path, probe: &Probe) -> Made {
    let mut draft = Draft::new(dir, probe.id, "CoreML8")?;
    let weight = draft.floats(&WEIGHT, &scaled(7, ELEMENTS, 0.125))?;
    let mut b = draft.builder();
    let x = b.input("x", fp16(&[2, 64, 1, 32]));
    let state = b.state("adapter_64", fp16(&[2, 32, 64]));
    let weight = b.constant("weight", weight);
    let table = b.op("read_state", "table", &[("input", (&state).into())])?;
    let y = slotted(&mut b, &x, &table, &weight, 32)?;
    draft.function("main", b.finish(&[y]));
    Ok(vec![draft.finish(probe.claim)?])
}

/// A palettized weight in its iOS 16 form: a table of 16 values for the whole tensor.
fn palette(draft: &mut Draft, b: &mut Builder, seed: u64) -> anyhow::Result<Var> {
    let packed = nibbles(seed, ELEMENTS);
    let indices = TensorType::new(UInt8, &[packed.len()]);
    let indices = draft.codes(indices, BlobDType::UInt8, &packed)?;
    let table = draft.floats(&[16], &scaled(seed + 1, 16, 0.125))?;
    let shape = WEIGHT.iter().flat_map(|&d| (d as u32).to_le_bytes());
    let shape = Value::tensor(
        TensorType::new(UInt32, &[4]),
        Literal::Bytes(shape.collect()),
    );
    let args = [
        ("indices", indices.into()),
        ("lut", table.into()),
        ("shape", shape.into()),
    ];
    Ok(b.op("constexpr_lut_to_dense", "weight", &args)?)
}

/// `y = conv(x, palettized)`.
pub(super) fn lut_16(dir: &Path, probe: &Probe) -> Made {
    let mut draft = Draft::new(dir, probe.id, "CoreML6")?;
    let mut b = draft.builder();
    let x = b.input("x", fp16(&IMAGE));
    let weight = palette(&mut draft, &mut b, 11)?;
    let y = conv(&mut b, "y", &x, &weight)?;
    draft.function("main", b.finish(&[y]));
    Ok(vec![draft.finish(probe.claim)?])
}

/// `y = conv(x, palettized) · scale`, a scale per output channel.
pub(super) fn row_scaled_output(dir: &Path, probe: &Probe) -> Made {
    let mut draft = Draft::new(dir, probe.id, "CoreML6")?;
    let mut b = draft.builder();
    let x = b.input("x", fp16(&IMAGE));
    let weight = palette(&mut draft, &mut b, 13)?;
    let scale = draft.floats(&[1, 64, 1, 1], &numbers(15, 64))?;
    let unit = conv(&mut b, "unit", &x, &weight)?;
    let scale = b.constant("scale", scale);
    let y = pair(&mut b, "mul", "y", &unit, &scale)?;
    draft.function("main", b.finish(&[y]));
    Ok(vec![draft.finish(probe.claim)?])
}

/// `y = conv(x, palettized)` in the iOS 18 form, eight tables.
pub(super) fn lut_18(dir: &Path, probe: &Probe) -> Made {
    let mut draft = Draft::new(dir, probe.id, "CoreML8")?;
    let mut b = draft.builder();
    let x = b.input("x", fp16(&IMAGE));
    let packed = nibbles(17, ELEMENTS);
    let indices = draft.codes(TensorType::new(UInt4, &WEIGHT), BlobDType::UInt4, &packed)?;
    let table = draft.floats(&[8, 1, 1, 1, 16, 1], &scaled(18, 8 * 16, 0.125))?;
    let args = [("indices", indices.into()), ("lut", table.into())];
    let weight = b.op("constexpr_lut_to_dense", "weight", &args)?;
    let y = conv(&mut b, "y", &x, &weight)?;
    draft.function("main", b.finish(&[y]));
    Ok(vec![draft.finish(probe.claim)?])
}

/// `y = relu(conv(x, weight))`, the package `name`; its input and output are called so.
fn layer(
    dir: &Path,
    probe: &Probe,
    name: &str,
    [from, to]: [&str; 2],
    seed: u64,
) -> anyhow::Result<PathBuf> {
    let mut draft = Draft::new(dir, name, "CoreML6")?;
    let weight = draft.floats(&WEIGHT, &scaled(seed, ELEMENTS, 0.125))?;
    let mut b = draft.builder();
    let x = b.input(from, fp16(&IMAGE));
    let weight = b.constant("weight", weight);
    let h = conv(&mut b, "linear_part", &x, &weight)?;
    let y = b.op("relu", to, &[("x", (&h).into())])?;
    draft.function("main", b.finish(&[y]));
    draft.finish(probe.claim)
}

/// One [`layer`].
pub(super) fn plain(dir: &Path, probe: &Probe) -> Made {
    Ok(vec![layer(dir, probe, probe.id, ["x", "y"], 19)?])
}

/// Two of them.
pub(super) fn chunk_pair(dir: &Path, probe: &Probe) -> Made {
    Ok(vec![
        layer(dir, probe, "chunk-pair-1", ["x", "h"], 21)?,
        layer(dir, probe, "chunk-pair-2", ["h", "y"], 23)?,
    ])
}

/// `alpha`: `y = conv(x, weight)`; `beta`: `y = relu(conv(x, weight))`.
pub(super) fn two_functions(dir: &Path, probe: &Probe) -> Made {
    let mut draft = Draft::new(dir, probe.id, "CoreML8")?;
    let weight = draft.floats(&WEIGHT, &scaled(25, ELEMENTS, 0.125))?;
    for name in ["alpha", "beta"] {
        let mut b = draft.builder();
        let x = b.input("x", fp16(&IMAGE));
        let weight = b.constant("weight", weight.clone());
        let y = if name == "alpha" {
            conv(&mut b, "y", &x, &weight)?
        } else {
            let h = conv(&mut b, "linear_part", &x, &weight)?;
            b.op("relu", "y", &[("x", (&h).into())])?
        };
        draft.function(name, b.finish(&[y]));
    }
    Ok(vec![draft.finish(probe.claim)?])
}

/// `y = x · rsqrt(Σ x² / 64)` over the channels; the sum is beyond 65504.
pub(super) fn fp32_island(dir: &Path, probe: &Probe) -> Made {
    let mut draft = Draft::new(dir, probe.id, "CoreML6")?;
    let mut b = draft.builder();
    let x = b.input("x", fp16(&IMAGE));
    let cast = |b: &mut Builder, name: &str, x: &Var, dtype: &str| {
        b.op("cast", name, &[("x", x.into()), ("dtype", dtype.into())])
    };
    let wide = cast(&mut b, "wide", &x, "fp32")?;
    let square = pair(&mut b, "mul", "square", &wide, &wide)?;
    let sum = b.op(
        "reduce_sum",
        "sum",
        &[
            ("x", (&square).into()),
            ("axes", [1].into()),
            ("keep_dims", true.into()),
        ],
    )?;
    let part = b.constant("part", Value::float(gesso_mil::DType::Fp32, 1.0 / 64.0));
    let mean = pair(&mut b, "mul", "mean", &sum, &part)?;
    let epsilon = Value::float(gesso_mil::DType::Fp32, 1e-5);
    let factor = b.op(
        "rsqrt",
        "factor",
        &[("x", (&mean).into()), ("epsilon", epsilon.into())],
    )?;
    let normal = pair(&mut b, "mul", "normal", &wide, &factor)?;
    let y = cast(&mut b, "y", &normal, "fp16")?;
    draft.function("main", b.finish(&[y]));
    Ok(vec![draft.finish(probe.claim)?])
}
