//! Every fast kernel agrees with the naive one on random shapes, and does not depend on the number of threads.

mod elementwise;
mod products;
mod weights;

use super::kernel;
use crate::call::{Call, Operand};
use crate::constant::Decoder;
use crate::plan::{Plan, Source, plan};
use crate::pool::Pool;
use crate::tensor::Array;
use crate::{Interface, Kernels, Model, RunOptions, Tensor, WeightSource};
use gesso_mil::{Arg, Builder, DType, Function, Program, TensorType, Value, Var};
use gesso_testkit::Tolerance;
use proptest::prelude::ProptestConfig;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

#[derive(Debug)]
struct NoFiles;

impl WeightSource for NoFiles {
    fn blob(&self, file: &str, _: u64, _: &TensorType) -> Result<Cow<'_, [u8]>, String> {
        Err(format!("no file `{file}`"))
    }
}

fn noise(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..n)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

/// A program with one op over float inputs.
struct Case {
    builder: Builder,
    inputs: BTreeMap<String, Tensor>,
    seed: u64,
    dtype: DType,
    /// A product and its sum run as one, with the bits of the single steps.
    accumulates: bool,
}

impl Case {
    fn new(seed: u64) -> Self {
        Self {
            builder: Builder::new("CoreML7"),
            inputs: BTreeMap::new(),
            seed,
            dtype: DType::Fp32,
            accumulates: false,
        }
    }

    fn input(&mut self, name: &str, shape: &[usize]) -> Var {
        self.scaled_input(name, shape, 1.0, 0.0)
    }

    fn scaled_input(&mut self, name: &str, shape: &[usize], scale: f32, shift: f32) -> Var {
        self.seed += 1;
        let n = shape.iter().product();
        let data = noise(n, self.seed)
            .into_iter()
            .map(|x| x * scale + shift)
            .collect();
        self.inputs.insert(name.into(), Tensor::f32(shape, data));
        self.builder.input(name, TensorType::new(self.dtype, shape))
    }

    fn constant(&mut self, name: &str, shape: &[usize]) -> Var {
        self.seed += 1;
        let data = noise(shape.iter().product(), self.seed);
        self.builder
            .constant(name, Value::floats(self.dtype, shape, &data))
    }

    /// Runs the op naively, and fast with 1, 2 and 3 threads.
    fn agree(mut self, kind: &str, args: &[(&str, Arg)]) {
        let out = self.builder.op(kind, "out", args).unwrap();
        self.agree_on(kind, out);
    }

    fn agree_on(self, kind: &str, out: Var) -> Vec<f32> {
        let function = self.builder.finish(&[out]);
        if covered(&function, &self.inputs) {
            COVERED.lock().unwrap().insert(kind.to_string());
        }
        let marked = planned(&function, |plan| plan.steps.iter().any(|s| s.accumulates));
        assert_eq!(marked, self.accumulates, "{kind}");
        let program = Program {
            version: 1,
            functions: BTreeMap::from([("main".to_string(), function)]),
            ..Program::default()
        };
        let interface = Interface {
            default_function: "main".into(),
            ..Interface::default()
        };
        let model = Model::from_program(&program, &interface, Arc::new(NoFiles)).unwrap();
        let run = |kernels, threads| {
            let options = RunOptions {
                kernels,
                threads,
                ..RunOptions::default()
            };
            model
                .predict(None, &self.inputs, &options)
                .unwrap()
                .remove("out")
                .unwrap()
        };
        if self.accumulates {
            let single = RunOptions {
                check_finite: true,
                ..RunOptions::default()
            };
            let single = model.predict(None, &self.inputs, &single).unwrap();
            assert_eq!(single["out"], run(Kernels::Fast, 2), "{kind}");
        }
        let naive = run(Kernels::Naive, 2);
        let one = run(Kernels::Fast, 1);
        assert_eq!(naive.shape, one.shape);
        assert_eq!(
            naive,
            run(Kernels::Naive, 1),
            "{kind}: naive depends on threads"
        );
        for threads in [2, 3] {
            assert_eq!(
                one,
                run(Kernels::Fast, threads),
                "{kind}: depends on threads"
            );
        }
        let wide: Vec<f64> = naive.as_f32().unwrap().iter().map(|&x| x.into()).collect();
        let fast = one.as_f32().unwrap();
        Tolerance::Close.assert(kind, &wide, fast);
        fast.to_vec()
    }
}

fn ints(v: &[usize]) -> Arg {
    let v: Vec<i32> = v.iter().map(|&i| i as i32).collect();
    v.as_slice().into()
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 24,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// Ops whose fast kernel took a case that was then compared.
static COVERED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// What `f` says of a function's plan.
fn planned<T>(function: &Function, f: impl Fn(&Plan) -> T) -> T {
    let pool = Pool::default();
    let decoder = Decoder {
        source: &NoFiles,
        pool: &pool,
    };
    f(&plan("main", function, &decoder).unwrap())
}

/// Whether the fast kernel of a function's only op takes it.
fn covered(function: &Function, inputs: &BTreeMap<String, Tensor>) -> bool {
    let pool = Pool::default();
    let decoder = Decoder {
        source: &NoFiles,
        pool: &pool,
    };
    let plan = plan("main", function, &decoder).unwrap();
    let [step] = &plan.steps[..] else {
        return false;
    };
    let arrays: Vec<Array> = plan
        .inputs
        .iter()
        .map(|(name, _)| inputs[name].clone().into())
        .collect();
    let mut call = Call::new(step, &decoder);
    for (parameter, sources) in &step.operands {
        let operands = sources.iter().map(|source| match source {
            Source::Constant(c) => Operand::Constant(c),
            Source::Slot { slot, .. } => Operand::Array(arrays[*slot].clone()),
        });
        call.operands.insert(parameter, operands.collect());
    }
    let fast = kernel(&step.kind).and_then(|k| k.fast);
    fast.is_some_and(|fast| fast(&mut call).unwrap().is_some())
}

/// The cases run here, one after the other; a fast kernel that none of them reaches fails the test, so that a new row of
/// the table needs a case.
#[test]
fn every_fast_kernel_agrees_with_the_naive_one() {
    for property in [products::ALL, elementwise::ALL, weights::ALL].concat() {
        property();
    }
    let covered = COVERED.lock().unwrap();
    let missing: Vec<&str> = super::names()
        .filter(|(name, fast)| *fast && !covered.contains(*name))
        .map(|(name, _)| name)
        .collect();
    assert!(
        missing.is_empty(),
        "no case reaches the fast kernel of {missing:?}"
    );
}
