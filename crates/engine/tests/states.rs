//! Functions with states, against values worked out by hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use gesso_coreml::package::Package;
use gesso_engine::{
    Compute, Error, Interface, Kernels, Model, RunOptions, State, Tensor, WeightSource,
};
use gesso_mil::TensorType;
use gesso_testkit::fixture;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

#[derive(Debug)]
struct NoFiles;

impl WeightSource for NoFiles {
    fn blob(&self, file: &str, _: u64, _: &TensorType) -> Result<Cow<'_, [u8]>, String> {
        Err(format!("no file `{file}`"))
    }
}

/// `acc += x; y = 2 acc` on fp16 [1, 8].
fn sample() -> Model {
    let path = fixture("formats/samples/stateful_ios18/stateful_ios18.mlpackage");
    Model::load(&Package::open(&path).unwrap()).unwrap()
}

fn try_text(functions: &str, default_function: &str) -> Result<Model, Error> {
    let (program, _) =
        gesso_mil::text::parse(&format!("program(1.3)\n{{\n{functions}\n}}\n")).unwrap();
    let interface = Interface {
        default_function: default_function.into(),
        ..Interface::default()
    };
    Model::from_program(&program, &interface, Arc::new(NoFiles))
}

fn text(functions: &str, default_function: &str) -> Model {
    try_text(functions, default_function).unwrap()
}

fn x(values: &[f32]) -> BTreeMap<String, Tensor> {
    let shape = [1, values.len()];
    BTreeMap::from([("x".to_string(), Tensor::f32(&shape, values.to_vec()))])
}

fn step(model: &Model, state: &mut State, values: &[f32], options: &RunOptions) -> Vec<f32> {
    let results = model
        .predict_with_state(None, &x(values), state, options)
        .unwrap();
    results["y"].as_f32().unwrap().to_vec()
}

fn held(state: &State, name: &str) -> Vec<f32> {
    state.read(name).unwrap().as_f32().unwrap().to_vec()
}

#[test]
fn the_sample_accumulates_as_fp16_does_in_every_mode() {
    let model = sample();
    let names: Vec<_> = model.states(None).unwrap().iter().collect();
    assert_eq!(names.len(), 1);
    assert_eq!(names[0].name, "acc");
    assert_eq!(names[0].ty.to_string(), "tensor<fp16, [1, 8]>");
    assert_eq!(model.inputs(None).unwrap().len(), 1);
    let given = [
        [1.0, -2.0, 0.1, 2048.0, 60000.0, 0.0, 3e-8, -0.5],
        [1.0, -2.0, 0.2, 1.0, 60000.0, 0.0, 3e-8, 0.25],
        [1.0, -2.0, 0.3, 1.5, 1.0, 0.0, 3e-8, 0.125],
    ];
    let f16 = |v: f32| half::f16::from_f32(v).to_f32();
    for compute in [Compute::Fp32, Compute::Fp16] {
        for kernels in [Kernels::Fast, Kernels::Naive] {
            let options = RunOptions {
                compute,
                kernels,
                ..RunOptions::default()
            };
            let mut state = model.make_state(None).unwrap();
            assert_eq!(held(&state, "acc"), [0.0; 8]);
            let mut acc = [0.0f32; 8];
            for values in &given {
                for (a, v) in acc.iter_mut().zip(values) {
                    // Inputs are rounded where everything is.
                    let v = if compute == Compute::Fp16 {
                        f16(*v)
                    } else {
                        *v
                    };
                    *a = f16(*a + v);
                }
                let mut want = acc.map(|a| 2.0 * a);
                if compute == Compute::Fp16 {
                    want = want.map(f16);
                }
                assert_eq!(step(&model, &mut state, values, &options), want);
                assert_eq!(held(&state, "acc"), acc);
            }
            assert_eq!(acc[3], 2050.0, "2048 + 1 stays 2048, + 1.5 is 2050");
            assert_eq!(acc[4], f32::INFINITY);
        }
    }
}

const COUNTER: &str = "
    func main<ios18>(state<tensor<fp16, [1, 2]>> a, state<tensor<fp16, [1, 2]>> b, tensor<fp16, [1, 2]> x) {
        tensor<fp16, [1, 2]> before = read_state(input = a)[name = string(\"before\")];
        tensor<fp16, [1, 2]> sum = add(x = before, y = x)[name = string(\"sum\")];
        write_state(data = sum, input = a)[name = string(\"write_a\")];
        tensor<fp16, [1, 2]> after = read_state(input = a)[name = string(\"after\")];
        write_state(data = before, input = b)[name = string(\"write_b\")];
        tensor<fp16, [1, 2]> y = sub(x = after, y = before)[name = string(\"y\")];
    } -> (y);";

#[test]
fn a_value_read_before_a_write_stays_what_it_was() {
    let model = text(COUNTER, "main");
    let mut state = model.make_state(None).unwrap();
    let options = RunOptions {
        probes: vec!["before".into(), "after".into()],
        ..RunOptions::default()
    };
    for (round, values) in [[1.0, 2.0], [10.0, 20.0], [0.5, 0.25]].iter().enumerate() {
        let old = held(&state, "a");
        let results = model
            .predict_with_state(None, &x(values), &mut state, &options)
            .unwrap();
        assert_eq!(results["y"].as_f32().unwrap(), values, "round {round}");
        assert_eq!(results["before"].as_f32().unwrap(), old);
        assert_eq!(results["after"].as_f32().unwrap(), held(&state, "a"));
        assert_eq!(held(&state, "b"), old);
    }
    assert_eq!(held(&state, "a"), [11.5, 22.25]);
}

#[test]
fn an_update_gives_what_is_stored() {
    let model = text(
        "func main<ios18>(state<tensor<fp16, [1, 1]>> s, tensor<fp16, [1, 1]> x) {
            tensor<fp16, [1, 1]> y = coreml_update_state(state = s, value = x)[name = string(\"y\")];
        } -> (y);",
        "main",
    );
    let mut state = model.make_state(None).unwrap();
    let y = step(&model, &mut state, &[0.1], &RunOptions::default());
    assert_eq!(y, [half::f16::from_f32(0.1).to_f32()]);
    assert_eq!(held(&state, "s"), y);
}

#[test]
fn a_failed_or_cancelled_prediction_changes_nothing() {
    let model = sample();
    let mut state = model.make_state(None).unwrap();
    step(&model, &mut state, &[1.0; 8], &RunOptions::default());
    let cancelled = RunOptions {
        cancel: Some(Arc::new(AtomicBool::new(true))),
        ..RunOptions::default()
    };
    let error = model.predict_with_state(None, &x(&[1.0; 8]), &mut state, &cancelled);
    assert!(matches!(error, Err(Error::Cancelled { .. })));
    assert_eq!(held(&state, "acc"), [1.0; 8]);
    // 65504 + 65504 is finite in f32, and infinite in the state.
    let checked = RunOptions {
        check_finite: true,
        ..RunOptions::default()
    };
    step(&model, &mut state, &[65503.0; 8], &checked);
    let error = model
        .predict_with_state(None, &x(&[65504.0; 8]), &mut state, &checked)
        .unwrap_err();
    assert!(
        matches!(&error, Error::NonFinite { op, kind, .. }
            if op == "coreml_update_state_0_write_state" && kind == "write_state"),
        "{error}"
    );
    assert_eq!(held(&state, "acc"), [65504.0; 8]);
}

#[test]
fn states_are_written_and_read_from_outside() {
    let model = sample();
    let mut state = model.make_state(None).unwrap();
    let values: Vec<f32> = (0..8).map(|i| 0.1 * i as f32).collect();
    state
        .write("acc", &Tensor::f32(&[1, 8], values.clone()))
        .unwrap();
    let rounded: Vec<f32> = values
        .iter()
        .map(|&v| half::f16::from_f32(v).to_f32())
        .collect();
    assert_eq!(held(&state, "acc"), rounded);
    let copy = state.clone();
    let y = step(&model, &mut state, &[0.0; 8], &RunOptions::default());
    assert_eq!(y, rounded.iter().map(|v| 2.0 * v).collect::<Vec<_>>());
    step(&model, &mut state, &[1.0; 8], &RunOptions::default());
    assert_eq!(held(&copy, "acc"), rounded, "a clone is apart");
    let mut message = |name: &str, tensor: Tensor| state.write(name, &tensor).unwrap_err();
    let error = message("ac", Tensor::f32(&[1, 8], vec![0.0; 8])).to_string();
    assert_eq!(
        error,
        "no state `ac`; there is `acc`\n\nhint: did you mean `acc`?"
    );
    let error = message("acc", Tensor::f32(&[8], vec![0.0; 8])).to_string();
    assert_eq!(
        error,
        "state `acc` is declared tensor<fp16, [1, 8]>, found f32 [8]"
    );
    message("acc", Tensor::i32(&[1, 8], vec![0; 8]));
    message("acc", Tensor::f32(&[1, 8], vec![0.0; 7]));
}

#[test]
fn a_state_fits_functions_that_declare_the_same() {
    let other = COUNTER.replace("main", "other");
    let wide = "func wide<ios18>(state<tensor<fp16, [1, 3]>> a, tensor<fp16, [1, 3]> x) {
        tensor<fp16, [1, 3]> r = read_state(input = a)[name = string(\"r\")];
        tensor<fp16, [1, 3]> y = add(x = r, y = x)[name = string(\"y\")];
    } -> (y);
    func plain<ios18>(tensor<fp16, [1, 2]> x) {
        tensor<fp16, [1, 2]> y = relu(x = x)[name = string(\"y\")];
    } -> (y);";
    let model = text(&format!("{COUNTER}\n{other}\n{wide}"), "main");
    let options = RunOptions::default();
    let mut state = model.make_state(Some("other")).unwrap();
    step(&model, &mut state, &[1.0, 1.0], &options);
    let run = |function, values: &[f32], state: &mut State| {
        model.predict_with_state(Some(function), &x(values), state, &options)
    };
    run("other", &[1.0, 2.0], &mut state).unwrap();
    assert_eq!(held(&state, "a"), [2.0, 3.0]);
    let error = run("wide", &[0.0; 3], &mut state).unwrap_err().to_string();
    assert_eq!(
        error,
        "state `a` is declared tensor<fp16, [1, 3]>, found tensor<fp16, [1, 2]>"
    );
    run("plain", &[0.0; 2], &mut state).unwrap();
    let mut empty = model.make_state(Some("plain")).unwrap();
    assert_eq!(empty.types().count(), 0);
    let error = run("main", &[0.0; 2], &mut empty).unwrap_err().to_string();
    assert!(
        error.starts_with("function `main` needs state `a`"),
        "{error}"
    );
    let error = model
        .predict(None, &x(&[0.0; 2]), &options)
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("function `main` needs state `a`"),
        "{error}"
    );
    assert_eq!(
        model
            .predict(Some("plain"), &x(&[-1.0, 1.0]), &options)
            .unwrap()["y"]
            .as_f32()
            .unwrap(),
        [0.0, 1.0]
    );
}

#[test]
fn integers_that_a_state_does_not_hold_are_refused() {
    let program = |dtype: &str| {
        format!(
            "func main<ios18>(state<tensor<{dtype}, [1, 2]>> s, tensor<{dtype}, [1, 2]> x) {{
                write_state(data = x, input = s);
                tensor<{dtype}, [1, 2]> y = read_state(input = s)[name = string(\"y\")];
            }} -> (y);"
        )
    };
    let model = text(&program("int8"), "main");
    let mut state = model.make_state(None).unwrap();
    let mut run = |values: [i32; 2]| {
        let given = BTreeMap::from([("x".to_string(), Tensor::i32(&[1, 2], values.to_vec()))]);
        model.predict_with_state(None, &given, &mut state, &RunOptions::default())
    };
    assert_eq!(
        run([-128, 127]).unwrap()["y"],
        Tensor::i32(&[1, 2], vec![-128, 127])
    );
    let error = run([0, 128]).unwrap_err().to_string();
    assert!(
        error.starts_with("op `s` (`write_state`): state `s` is declared tensor<int8, [1, 2]>"),
        "{error}"
    );
    assert_eq!(
        state.read("s").unwrap(),
        Tensor::i32(&[1, 2], vec![-128, 127])
    );
    let error = try_text(&program("bf16"), "main").unwrap_err().to_string();
    assert_eq!(
        error,
        "`s`: a state of type tensor<bf16, [1, 2]> is not supported"
    );
}
