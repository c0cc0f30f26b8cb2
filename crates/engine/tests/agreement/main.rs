//! Fast kernels agree with the naive ones on random shapes, and do not depend on the number of threads.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod constants;

use gesso_engine::{Interface, Kernels, Model, RunOptions, Tensor, WeightSource};
use gesso_mil::{Arg, Builder, DType, Program, TensorType, Value, Var};
use gesso_testkit::Tolerance;
use proptest::prelude::*;
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
}

impl Case {
    fn new(seed: u64) -> Self {
        Self {
            builder: Builder::new("CoreML7"),
            inputs: BTreeMap::new(),
            seed,
            dtype: DType::Fp32,
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn conv(
        seed in 0u64..1000, n in 1usize..3, c in 1usize..20, o in 1usize..20, h in 5usize..40, w in 5usize..40,
        k in prop::sample::select(vec![1usize, 2, 3]), stride in 1usize..3, dilation in 1usize..3,
        pad in prop::collection::vec(0usize..3, 4), kind in prop::sample::select(vec!["custom", "same", "valid", "same_lower"]),
        groups in prop::sample::select(vec![1usize, 1, 2]), bias: bool,
    ) {
        let (c, o) = (c * groups * if groups > 1 { 8 } else { 1 }, o * groups);
        let mut case = Case::new(seed);
        let x = case.input("x", &[n, c, h, w]);
        let weight = case.constant("w", &[o, c / groups, k, k]);
        let b = case.constant("b", &[o]);
        let mut args: Vec<(&str, Arg)> = vec![
            ("x", (&x).into()), ("weight", (&weight).into()), ("strides", ints(&[stride, stride])),
            ("dilations", ints(&[dilation, dilation])), ("groups", (groups as i32).into()),
            ("pad_type", kind.into()), ("pad", ints(&pad)),
        ];
        if bias {
            args.push(("bias", (&b).into()));
        }
        case.agree("conv", &args);
    }

    #[test]
    fn conv_one_axis(seed in 0u64..1000, c in 1usize..20, o in 1usize..20, n in 9usize..200, k in 1usize..5, stride in 1usize..3) {
        let mut case = Case::new(seed);
        let x = case.input("x", &[2, c, n]);
        let weight = case.constant("w", &[o, c, k]);
        case.agree("conv", &[("x", (&x).into()), ("weight", (&weight).into()), ("strides", ints(&[stride])), ("pad_type", "same".into()), ("pad", ints(&[0, 0])), ("dilations", ints(&[1])), ("groups", 1.into())]);
    }

    #[test]
    fn linear(seed in 0u64..1000, rows in prop::collection::vec(1usize..20, 0..3), i in 1usize..300, o in 1usize..300, bias: bool) {
        let mut case = Case::new(seed);
        let mut shape = rows;
        shape.push(i);
        let x = case.input("x", &shape);
        let weight = case.constant("w", &[o, i]);
        let b = case.constant("b", &[o]);
        let mut args: Vec<(&str, Arg)> = vec![("x", (&x).into()), ("weight", (&weight).into())];
        if bias {
            args.push(("bias", (&b).into()));
        }
        case.agree("linear", &args);
    }

    #[test]
    fn matmul(seed in 0u64..1000, batch in prop::collection::vec((1usize..4, 0usize..3), 0..3), m in 1usize..150, k in 1usize..100, n in 1usize..700, tx: bool, ty: bool) {
        let mut case = Case::new(seed);
        let side = |which: usize| batch.iter().map(move |&(d, one)| if one == which { 1 } else { d });
        let mut xs: Vec<usize> = side(1).collect();
        let mut ys: Vec<usize> = side(2).collect();
        xs.extend(if tx { [k, m] } else { [m, k] });
        ys.extend(if ty { [n, k] } else { [k, n] });
        let (x, y) = (case.input("x", &xs), case.input("y", &ys));
        case.agree("matmul", &[("x", (&x).into()), ("y", (&y).into()), ("transpose_x", tx.into()), ("transpose_y", ty.into())]);
    }

    #[test]
    fn einsum(seed in 0u64..1000, b in 1usize..3, k in 1usize..200, h in 1usize..4, c in 1usize..50, q in 1usize..600, second: bool) {
        let mut case = Case::new(seed);
        let (equation, xs, ys) = if second {
            ("bchk,bkhq->bchq", [b, c, h, k], [b, k, h, q])
        } else {
            ("bkhc,bchq->bkhq", [b, k, h, c], [b, c, h, q])
        };
        let (x, y) = (case.input("x", &xs), case.input("y", &ys));
        case.agree("einsum", &[("values", Arg::Many(vec![x, y])), ("equation", equation.into())]);
    }

    #[test]
    fn softmax(seed in 0u64..1000, shape in prop::collection::vec(1usize..9, 1..4), wide in 1usize..400, long in 1usize..400, axis in 0usize..5) {
        let mut case = Case::new(seed);
        let mut shape = shape;
        shape.insert(shape.len() / 2, long);
        shape.push(wide);
        shape.truncate(5);
        if shape.iter().product::<usize>() > 200_000 {
            shape = vec![2, long, wide];
        }
        let axis = axis % shape.len();
        let x = case.scaled_input("x", &shape, 20.0, 0.0);
        case.agree("softmax", &[("x", (&x).into()), ("axis", (axis as i32).into())]);
    }

    #[test]
    fn norms(seed in 0u64..1000, n in 1usize..4, c in 1usize..30, h in 1usize..20, w in 2usize..40, last in 1usize..4) {
        let shape = [n, c, h, w];
        let mut case = Case::new(seed);
        let x = case.scaled_input("x", &shape, 3.0, 5.0);
        let own = &shape[4 - last..];
        let (g, b) = (case.constant("g", own), case.constant("b", own));
        let axes: Vec<usize> = (4 - last..4).collect();
        case.agree("layer_norm", &[("x", (&x).into()), ("axes", ints(&axes)), ("gamma", (&g).into()), ("beta", (&b).into()), ("epsilon", Value::float(DType::Fp32, 1e-5).into())]);
        let mut case = Case::new(seed);
        let x = case.scaled_input("x", &shape, 3.0, 5.0);
        let (g, b) = (case.constant("g", &[c]), case.constant("b", &[c]));
        case.agree("instance_norm", &[("x", (&x).into()), ("gamma", (&g).into()), ("beta", (&b).into()), ("epsilon", Value::float(DType::Fp32, 1e-5).into())]);
    }

    #[test]
    fn sums(seed in 0u64..1000, shape in prop::collection::vec(1usize..40, 1..4), first in 0usize..4, count in 1usize..4, keep: bool, kind in prop::sample::select(vec!["reduce_sum", "reduce_mean", "reduce_sum_square"])) {
        let first = first % shape.len();
        let axes: Vec<usize> = (first..(first + count).min(shape.len())).collect();
        let mut case = Case::new(seed);
        let x = case.scaled_input("x", &shape, 1.0, 0.5);
        case.agree(kind, &[("x", (&x).into()), ("axes", ints(&axes)), ("keep_dims", keep.into())]);
    }

    #[test]
    fn two_operands(seed in 0u64..1000, dims in prop::collection::vec((1usize..14, 0usize..4), 1..5), kind in prop::sample::select(vec!["add", "sub", "mul", "real_div", "maximum", "minimum"]), swap: bool) {
        let side = |which: usize| -> Vec<usize> { dims.iter().map(|&(d, one)| if one == which { 1 } else { d }).collect() };
        let mut case = Case::new(seed);
        let x = case.input("x", &side(1));
        let y = case.scaled_input("y", &side(2), 0.4, 1.0);
        let (x, y) = if swap && kind != "real_div" { (y, x) } else { (x, y) };
        case.agree(kind, &[("x", (&x).into()), ("y", (&y).into())]);
    }

    #[test]
    fn one_operand(seed in 0u64..1000, n in 1usize..40_000, kind in prop::sample::select(vec!["relu", "sigmoid", "silu", "tanh", "erf", "exp", "square", "abs"])) {
        let mut case = Case::new(seed);
        let x = case.scaled_input("x", &[n], 6.0, 0.0);
        case.agree(kind, &[("x", (&x).into())]);
    }

    #[test]
    fn roots_and_bounds(seed in 0u64..1000, n in 1usize..2000, mode in prop::sample::select(vec!["EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION"])) {
        let positive = |kind: &str, more: &[(&str, Arg)]| {
            let mut case = Case::new(seed);
            let x = case.scaled_input("x", &[n], 1.0, 1.5);
            let mut args: Vec<(&str, Arg)> = vec![("x", (&x).into())];
            args.extend(more.iter().cloned());
            case.agree(kind, &args);
        };
        let float = |x: f32| Arg::from(Value::float(DType::Fp32, x));
        positive("sqrt", &[]);
        positive("rsqrt", &[("epsilon", float(1e-3))]);
        positive("inverse", &[("epsilon", float(1e-3))]);
        positive("clip", &[("alpha", float(1.0)), ("beta", float(2.0))]);
        let mut case = Case::new(seed);
        let x = case.scaled_input("x", &[n], 5.0, 0.0);
        case.agree("gelu", &[("x", (&x).into()), ("mode", mode.into())]);
    }
}

#[test]
fn a_sum_with_itself_is_not_written_in_place() {
    let mut case = Case::new(1);
    let x = case.input("x", &[3, 70_000]);
    case.agree("add", &[("x", (&x).into()), ("y", (&x).into())]);
}

#[test]
fn large_maps_and_long_products_agree() {
    let mut case = Case::new(5);
    let x = case.input("x", &[2, 40, 33, 47]);
    let weight = case.constant("w", &[24, 40, 3, 3]);
    let args: [(&str, Arg); 7] = [
        ("x", (&x).into()),
        ("weight", (&weight).into()),
        ("strides", ints(&[1, 1])),
        ("dilations", ints(&[1, 1])),
        ("groups", 1.into()),
        ("pad_type", "same".into()),
        ("pad", ints(&[0; 4])),
    ];
    case.agree("conv", &args);
    let mut case = Case::new(6);
    let (x, y) = (case.input("x", &[1100, 90]), case.input("y", &[90, 1300]));
    case.agree("matmul", &[("x", (&x).into()), ("y", (&y).into())]);
}

#[test]
fn attention_as_one_agrees_with_its_three_steps() {
    for (b, h, d, queries, keys) in [(2, 1, 40, 300, 200), (1, 1, 8, 64, 77), (2, 1, 5, 129, 1)] {
        let mut case = Case::new(9);
        let k = case.scaled_input("k", &[b, keys, h, d], 3.0, 0.0);
        let q = case.scaled_input("q", &[b, d, h, queries], 3.0, 0.0);
        let v = case.input("v", &[b, d, h, keys]);
        let g = &mut case.builder;
        let scores = [
            ("values", Arg::Many(vec![k, q])),
            ("equation", "bkhc,bchq->bkhq".into()),
        ];
        let s = g.op("einsum", "scores", &scores).unwrap();
        let w = g
            .op(
                "softmax",
                "weights",
                &[("x", (&s).into()), ("axis", 1.into())],
            )
            .unwrap();
        let product = [
            ("values", Arg::Many(vec![v, w])),
            ("equation", "bchk,bkhq->bchq".into()),
        ];
        let out = g.op("einsum", "out", &product).unwrap();
        case.agree_on("attention by einsum", out);
    }
    for (b, h, d, queries, keys) in [(2, 3, 40, 300, 200), (1, 2, 8, 64, 77)] {
        let mut case = Case::new(10);
        let q = case.scaled_input("q", &[b, h, d, queries], 3.0, 0.0);
        let k = case.scaled_input("k", &[b, h, d, keys], 3.0, 0.0);
        let v = case.input("v", &[b, h, d, keys]);
        let g = &mut case.builder;
        let matmul = |x: &Var, y: &Var, tx: bool, ty: bool| {
            [
                ("x", x.into()),
                ("y", y.into()),
                ("transpose_x", tx.into()),
                ("transpose_y", ty.into()),
            ]
        };
        let s = g
            .op("matmul", "scores", &matmul(&q, &k, true, false))
            .unwrap();
        let w = g
            .op(
                "softmax",
                "weights",
                &[("x", (&s).into()), ("axis", (-1).into())],
            )
            .unwrap();
        let out = g.op("matmul", "out", &matmul(&v, &w, false, true)).unwrap();
        case.agree_on("attention by matmul", out);
    }
}
