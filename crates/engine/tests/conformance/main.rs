//! Ops against expectations worked out by hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod elementwise;
mod movement;
mod products;

use gesso_engine::{Compute, Data, Interface, Kernels, Model, RunOptions, Tensor, WeightSource};
use gesso_mil::{Arg, Builder, DType, Program, TensorType, Value, Var};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Debug)]
struct NoFiles;

impl WeightSource for NoFiles {
    fn blob(&self, file: &str, _: u64, _: &TensorType) -> Result<Cow<'_, [u8]>, String> {
        Err(format!("no file `{file}`"))
    }
}

/// Runs a small program in which `build` uses the inputs, with both kernels; they must agree to 1e-5.
fn run(
    dtype: DType,
    compute: Compute,
    inputs: &[(&str, &[usize], &[f32])],
    build: impl FnOnce(&mut Builder, &[Var]) -> Vec<Var>,
) -> Vec<Tensor> {
    let mut b = Builder::new("CoreML7");
    let vars: Vec<Var> = inputs
        .iter()
        .map(|(n, s, _)| b.input(n, TensorType::new(dtype, s)))
        .collect();
    let outputs = build(&mut b, &vars);
    let program = Program {
        version: 1,
        functions: BTreeMap::from([("main".to_string(), b.finish(&outputs))]),
        ..Program::default()
    };
    let interface = Interface {
        default_function: "main".into(),
        ..Interface::default()
    };
    let model = Model::from_program(&program, &interface, Arc::new(NoFiles)).unwrap();
    let given: BTreeMap<String, Tensor> = inputs
        .iter()
        .map(|(n, s, v)| (n.to_string(), Tensor::f32(s, v.to_vec())))
        .collect();
    let results = [Kernels::Naive, Kernels::Fast].map(|kernels| {
        let options = RunOptions {
            kernels,
            compute,
            ..RunOptions::default()
        };
        let mut all = model.predict(None, &given, &options).unwrap();
        outputs
            .iter()
            .map(|o| all.remove(&o.name).unwrap())
            .collect::<Vec<_>>()
    });
    let [naive, fast] = results;
    for (a, b) in naive.iter().zip(&fast) {
        assert_eq!(a.shape, b.shape);
        match (&a.data, &b.data) {
            (Data::F32(a), Data::F32(b)) => close(b, a),
            (a, b) => assert_eq!(a, b),
        }
    }
    naive
}

fn close(got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len(), "{got:?} for {want:?}");
    for (g, w) in got.iter().zip(want) {
        assert!(
            g == w || (g - w).abs() <= 1e-5 * w.abs().max(1.0),
            "{got:?} for {want:?}"
        );
    }
}

/// One op of one input.
fn op(kind: &str, shape: &[usize], x: &[f32], args: &[(&str, Arg)]) -> Tensor {
    run(DType::Fp32, Compute::Fp32, &[("x", shape, x)], |b, v| {
        let mut all: Vec<(&str, Arg)> = vec![("x", (&v[0]).into())];
        all.extend(args.iter().cloned());
        vec![b.op(kind, "y", &all).unwrap()]
    })
    .remove(0)
}

fn f(x: f32) -> Arg {
    Value::float(DType::Fp32, x).into()
}

fn floats(shape: &[usize], x: &[f32]) -> Arg {
    Value::floats(DType::Fp32, shape, x).into()
}

fn expect(t: &Tensor, shape: &[usize], want: &[f32]) {
    assert_eq!(t.shape, shape);
    close(t.as_f32().unwrap(), want);
}

fn expect_ints(t: &Tensor, shape: &[usize], want: &[i32]) {
    assert_eq!(*t, Tensor::i32(shape, want.to_vec()));
}

const SIX: [f32; 6] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
