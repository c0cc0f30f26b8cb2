//! Runs packages on request and prints what each run cost; the engine's side of `cargo xtask bench engine`.
//!
//! `cargo run --release -p gesso-engine --example bench_serve -- NAME=PACKAGE …`
//!
//! Each line of standard input is `NAME THREADS`, or `NAME! THREADS` to fill the optional inputs too; `gemm` is a
//! product of two 4096 × 4096 matrices. The answer is one line: seconds by the clock, seconds of CPU time.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use gesso_coreml::package::Package;
use gesso_engine::{Feature, Interface, Model, RunOptions, Tensor, WeightSource};
use gesso_mil::{Builder, DType, Program, TensorType};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

#[derive(Debug)]
struct NoFiles;

impl WeightSource for NoFiles {
    fn blob(&self, file: &str, _: u64, _: &TensorType) -> Result<Cow<'_, [u8]>, String> {
        Err(format!("no file `{file}`"))
    }
}

/// A product of two square matrices.
fn product(size: usize) -> Model {
    let mut b = Builder::new("CoreML6");
    let ty = || TensorType::new(DType::Fp32, &[size, size]);
    let (x, y) = (b.input("x", ty()), b.input("y", ty()));
    let z = b.op("matmul", "z", &[("x", (&x).into()), ("y", (&y).into())]);
    let function = b.finish(&[z.unwrap()]);
    let program = Program {
        version: 1,
        functions: BTreeMap::from([("main".to_string(), function)]),
        ..Program::default()
    };
    let interface = Interface {
        default_function: "main".into(),
        ..Interface::default()
    };
    Model::from_program(&program, &interface, Arc::new(NoFiles)).unwrap()
}

/// Numbers between −1 and 1 (token numbers for integers), the same at every run.
fn tensor(feature: &Feature) -> Tensor {
    let shape = feature.ty.shape().expect("fixed shapes");
    let n: usize = shape.iter().product();
    if !feature.ty.dtype.is_float() {
        let tokens = (0..n).map(|i| (i * 631 % 49_000) as i32).collect();
        return Tensor::i32(&shape, tokens);
    }
    let scale = if feature.default.is_some() { 0.01 } else { 1.0 };
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / (1 << 23) as f32 - 1.0) * scale
    };
    Tensor::f32(&shape, (0..n).map(|_| next()).collect())
}

fn inputs(model: &Model, optional: bool) -> BTreeMap<String, Tensor> {
    let features = model.inputs(None).unwrap().iter();
    features
        .filter(|f| optional || f.default.is_none())
        .map(|f| (f.name.clone(), tensor(f)))
        .collect()
}

fn main() {
    let mut models = BTreeMap::from([("gemm".to_string(), product(4096))]);
    for argument in std::env::args().skip(1) {
        let (name, path) = argument.split_once('=').expect("NAME=PACKAGE");
        let package = Package::open(Path::new(path)).expect("a package");
        models.insert(name.into(), Model::load(&package).expect("a model"));
    }
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let (name, threads) = line.split_once(' ').expect("NAME THREADS");
        let model = &models[name.trim_end_matches('!')];
        let inputs = inputs(model, name == "gemm" || name.ends_with('!'));
        let options = RunOptions {
            threads: threads.parse().unwrap(),
            ..RunOptions::default()
        };
        let (cpu, start) = (cpu_seconds(), Instant::now());
        model.predict(None, &inputs, &options).unwrap();
        let wall = start.elapsed().as_secs_f64();
        println!("{wall:.4} {:.4}", cpu_seconds() - cpu);
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
