//! Prints GFLOP/s of convolutions, a matrix product and an attention head at SD1.5's sizes, on one thread and on all:
//! per second of the clock, and per second of CPU time, which says more on a busy machine.
//!
//! `cargo run --release -p gesso-engine --example bench_conv`
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use gesso_engine::{Interface, Model, RunOptions, Tensor, WeightSource};
use gesso_mil::{Arg, Builder, DType, Program, TensorType, Value, Var};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// fp16 noise for every weight.
#[derive(Debug)]
struct Noise(Vec<u8>);

impl WeightSource for Noise {
    fn blob(&self, _: &str, _: u64, _: &TensorType) -> Result<Cow<'_, [u8]>, String> {
        Err("no files here".into())
    }

    fn external(&self, _: &str, ty: &TensorType) -> Result<Cow<'_, [u8]>, String> {
        let n = ty.count().ok_or("unknown size")?;
        let bytes = self.0.get(..n * 2).map(Cow::Borrowed);
        bytes.ok_or("too large".into())
    }
}

fn half(x: f32) -> [u8; 2] {
    half::f16::from_f32(x).to_le_bytes()
}

fn weight(b: &mut Builder, shape: &[usize]) -> Var {
    b.constant(
        "w",
        Value::external(TensorType::new(DType::Fp16, shape), "noise"),
    )
}

type Build = fn(&mut Builder) -> Var;

fn conv(b: &mut Builder, x: &[usize], w: &[usize], pad: i32) -> Var {
    let x = b.input("x", TensorType::new(DType::Fp16, x));
    let w = weight(b, w);
    let args: Vec<(&str, Arg)> = vec![
        ("x", (&x).into()),
        ("weight", (&w).into()),
        ("pad_type", "custom".into()),
        ("pad", [pad; 4].into()),
        ("strides", [1, 1].into()),
        ("dilations", [1, 1].into()),
        ("groups", 1.into()),
    ];
    b.op("conv", "y", &args).unwrap()
}

fn attention(b: &mut Builder) -> Var {
    let q = b.input("q", TensorType::new(DType::Fp16, &[2, 40, 1, 4096]));
    let k = b.input("k", TensorType::new(DType::Fp16, &[2, 4096, 1, 40]));
    let v = b.input("v", TensorType::new(DType::Fp16, &[2, 40, 1, 4096]));
    let scores = [
        ("values", Arg::Many(vec![k, q])),
        ("equation", "bkhc,bchq->bkhq".into()),
    ];
    let s = b.op("einsum", "s", &scores).unwrap();
    let scaled = [
        ("x", (&s).into()),
        ("y", Value::float(DType::Fp16, 0.158).into()),
    ];
    let s = b.op("mul", "scaled", &scaled).unwrap();
    let s = b
        .op("softmax", "p", &[("x", (&s).into()), ("axis", 1.into())])
        .unwrap();
    let out = [
        ("values", Arg::Many(vec![v, s])),
        ("equation", "bchk,bkhq->bchq".into()),
    ];
    b.op("einsum", "y", &out).unwrap()
}

fn main() {
    let cases: &[(&str, f64, Build)] = &[
        (
            "conv 3x3 320->320 64x64 b2",
            2.0 * 9.0 * 320.0 * 320.0 * 4096.0 * 2.0,
            |b| conv(b, &[2, 320, 64, 64], &[320, 320, 3, 3], 1),
        ),
        (
            "conv 3x3 640->640 32x32 b2",
            2.0 * 9.0 * 640.0 * 640.0 * 1024.0 * 2.0,
            |b| conv(b, &[2, 640, 32, 32], &[640, 640, 3, 3], 1),
        ),
        (
            "conv 3x3 1280->1280 16x16 b2",
            2.0 * 9.0 * 1280.0 * 1280.0 * 256.0 * 2.0,
            |b| conv(b, &[2, 1280, 16, 16], &[1280, 1280, 3, 3], 1),
        ),
        (
            "conv 3x3 1280->1280 8x8 b2",
            2.0 * 9.0 * 1280.0 * 1280.0 * 64.0 * 2.0,
            |b| conv(b, &[2, 1280, 8, 8], &[1280, 1280, 3, 3], 1),
        ),
        (
            "conv 3x3 128->128 512x512 b1",
            2.0 * 9.0 * 128.0 * 128.0 * 262_144.0,
            |b| conv(b, &[1, 128, 512, 512], &[128, 128, 3, 3], 1),
        ),
        (
            "conv 1x1 320->2560 4096 b2",
            2.0 * 320.0 * 2560.0 * 4096.0 * 2.0,
            |b| conv(b, &[2, 320, 1, 4096], &[2560, 320, 1, 1], 0),
        ),
        (
            "conv 1x1 1280->1280 256 b2",
            2.0 * 1280.0 * 1280.0 * 256.0 * 2.0,
            |b| conv(b, &[2, 1280, 1, 256], &[1280, 1280, 1, 1], 0),
        ),
        ("matmul 4096", 2.0 * 4096f64.powi(3), |b| {
            let x = b.input("x", TensorType::new(DType::Fp16, &[4096, 4096]));
            let y = b.input("y", TensorType::new(DType::Fp16, &[4096, 4096]));
            b.op("matmul", "z", &[("x", (&x).into()), ("y", (&y).into())])
                .unwrap()
        }),
        (
            "attention head 40 4096x4096 b2",
            4.0 * 40.0 * 4096.0 * 4096.0 * 2.0,
            attention,
        ),
    ];
    let noise = (0..16 << 20)
        .flat_map(|i| half((i % 61) as f32 / 61.0 - 0.5))
        .collect();
    let noise = Arc::new(Noise(noise));
    for (name, flops, build) in cases {
        let mut b = Builder::new("CoreML6");
        let out = build(&mut b);
        let function = b.finish(&[out]);
        let inputs: BTreeMap<String, Tensor> = function
            .inputs
            .iter()
            .map(|i| {
                let shape = i.ty.as_tensor().unwrap().shape().unwrap();
                let n: usize = shape.iter().product();
                let data = (0..n).map(|i| ((i * 7) % 97) as f32 / 97.0 - 0.5).collect();
                (i.name.clone(), Tensor::f32(&shape, data))
            })
            .collect();
        let program = Program {
            version: 1,
            functions: BTreeMap::from([("main".to_string(), function)]),
            ..Program::default()
        };
        let interface = Interface {
            default_function: "main".into(),
            ..Interface::default()
        };
        let model = Model::from_program(&program, &interface, noise.clone()).unwrap();
        let mut line = format!("{name:34}");
        for threads in [1, 0] {
            let options = RunOptions {
                threads,
                ..RunOptions::default()
            };
            model.predict(None, &inputs, &options).unwrap();
            let cpu = cpu_seconds();
            let best = (0..5)
                .map(|_| {
                    let start = Instant::now();
                    model.predict(None, &inputs, &options).unwrap();
                    start.elapsed().as_secs_f64()
                })
                .fold(f64::INFINITY, f64::min);
            let cpu = (cpu_seconds() - cpu) / 5.0;
            let (wall, per_cpu) = (flops / best / 1e9, flops / cpu / 1e9);
            line += &format!(
                "  {wall:6.1} GFLOP/s {:7.1} ms ({per_cpu:5.1} cpu)",
                best * 1e3
            );
        }
        println!("{line}");
    }
}

/// CPU time of this process's threads so far, from the scheduler's counters in nanoseconds; no thread has ended.
fn cpu_seconds() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten();
    let run = |task: std::io::Result<std::fs::DirEntry>| -> Option<f64> {
        let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse().ok()
    };
    tasks.filter_map(run).sum::<f64>() / 1e9
}
