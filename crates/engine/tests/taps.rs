//! What is told of values while a function runs: taps, modules, overflow, the precisions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use gesso_engine::{
    Error, Interface, Model, Precision, RunOptions, Seen, Tap, Taps, Tensor, WeightSource,
};
use gesso_mil::TensorType;
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

fn text(functions: &str) -> Model {
    let (program, _) =
        gesso_mil::text::parse(&format!("program(1.0)\n{{\n{functions}\n}}\n")).unwrap();
    let interface = Interface {
        default_function: "main".into(),
        ..Interface::default()
    };
    Model::from_program(&program, &interface, Arc::new(NoFiles)).unwrap()
}

/// A norm that squares, an adapter's sum, and a value that belongs to a block only by its name.
const NETWORK: &str = "
    func main<ios16>(tensor<fp16, [1, 2]> x) {
        tensor<fp16, [1, 2]> blocks_0_norm_weight = const()[name = string(\"w\"), val = tensor<fp16, [1, 2]>([[2, 4]])];
        tensor<fp16, [1, 2]> blocks_0_norm_bias_0_to_fp16 = const()[name = string(\"b\"), val = tensor<fp16, [1, 2]>([[1, 1]])];
        tensor<fp16, [1, 2]> blocks_0_proj_weight = const()[name = string(\"p\"), val = tensor<fp16, [1, 2]>([[1, 1]])];
        tensor<fp16, [1, 2]> early = relu(x = x)[name = string(\"early\")];
        tensor<fp16, [1, 2]> blocks_0_norm_square = mul(x = early, y = early)[name = string(\"s\")];
        tensor<fp16, [1, 2]> blocks_0_norm_weighted = mul(x = blocks_0_norm_square, y = blocks_0_norm_weight)[name = string(\"d\")];
        tensor<fp16, [1, 2]> blocks_0_norm = add(x = blocks_0_norm_weighted, y = blocks_0_norm_bias_0_to_fp16)[name = string(\"n\")];
        tensor<fp16, [1, 2]> foreign_1 = relu(x = blocks_0_norm)[name = string(\"f\")];
        tensor<fp16, [1, 2]> blocks_0_proj_base = mul(x = foreign_1, y = blocks_0_proj_weight)[name = string(\"q\")];
        tensor<fp16, [1, 2]> blocks_0_proj = add(x = blocks_0_proj_base, y = early)[name = string(\"r\")];
        tensor<fp16, [1, 2]> blocks_0_out = add(x = blocks_0_proj, y = early)[name = string(\"o\")];
    } -> (blocks_0_out);";

fn x(values: &[f32]) -> BTreeMap<String, Tensor> {
    BTreeMap::from([(
        "x".to_string(),
        Tensor::f32(&[1, values.len()], values.to_vec()),
    )])
}

/// Name, kind, elements, overflows.
type Row = (String, String, Vec<f32>, usize);

/// Keeps everything.
#[derive(Debug, Default)]
struct Record(Mutex<Vec<Row>>);

impl Tap for Record {
    fn see(&self, seen: &Seen<'_>) -> Result<(), String> {
        assert_eq!(seen.shape.iter().product::<usize>(), seen.data.len());
        let row = (
            seen.name.into(),
            seen.kind.into(),
            seen.data.to_vec(),
            seen.overflows,
        );
        self.0.lock().unwrap().push(row);
        Ok(())
    }
}

fn recorded(
    model: &Model,
    inputs: &BTreeMap<String, Tensor>,
    names: Option<&[&str]>,
    mut options: RunOptions,
) -> Vec<Row> {
    let record = Arc::new(Record::default());
    options.taps = Some(Taps {
        names: names.map(|n| n.iter().map(|n| n.to_string()).collect()),
        tap: record.clone(),
    });
    model.predict(None, inputs, &options).unwrap();
    let rows = record.0.lock().unwrap();
    rows.clone()
}

#[test]
fn values_know_their_module() {
    let values = text(NETWORK).values(None).unwrap();
    let rows: Vec<(&str, &str, &str, bool)> = values
        .iter()
        .map(|v| {
            (
                v.name.as_str(),
                v.kind.as_str(),
                v.module.as_str(),
                v.returned,
            )
        })
        .collect();
    assert_eq!(
        rows,
        [
            ("x", "input", "", false),
            ("early", "relu", "", false),
            ("blocks_0_norm_square", "mul", "blocks_0_norm", false),
            ("blocks_0_norm_weighted", "mul", "blocks_0_norm", false),
            ("blocks_0_norm", "add", "blocks_0_norm", true),
            ("foreign_1", "relu", "blocks_0_norm", false),
            ("blocks_0_proj_base", "mul", "blocks_0_proj", false),
            ("blocks_0_proj", "add", "blocks_0_proj", true),
            ("blocks_0_out", "add", "blocks_0", false),
        ]
    );
}

#[test]
fn a_tap_sees_what_a_probe_returns_in_program_order() {
    let model = text(NETWORK);
    for precision in [Precision::Fp32, Precision::Fp16, Precision::Strict] {
        let inputs = x(&[3.1, -1.0]);
        let all = recorded(&model, &inputs, None, RunOptions::new(precision));
        let names: Vec<String> = all.iter().map(|r| r.0.clone()).collect();
        let told = model.values(None).unwrap().into_iter().map(|v| v.name);
        assert_eq!(names, told.collect::<Vec<_>>());
        let probed = RunOptions {
            probes: names.clone(),
            ..RunOptions::new(precision)
        };
        let probed = model.predict(None, &inputs, &probed).unwrap();
        for (name, _, data, overflows) in &all {
            assert_eq!(probed[name].as_f32().unwrap(), data, "{name}");
            assert_eq!(*overflows, 0);
        }
        let two = ["blocks_0_norm_weight", "foreign_1"];
        let some = recorded(&model, &inputs, Some(&two), RunOptions::new(precision));
        let some: Vec<_> = some.iter().map(|r| (r.0.as_str(), r.1.as_str())).collect();
        assert_eq!(
            some,
            [("blocks_0_norm_weight", "const"), ("foreign_1", "relu")]
        );
    }
}

#[test]
fn overflow_is_told_apart_from_an_infinity_that_was_there() {
    let model = text(NETWORK);
    let inputs = x(&[300.0, 200.0]);
    let find = |rows: &[Row], name: &str| {
        let row = rows.iter().find(|r| r.0 == name).unwrap();
        (row.2.clone(), row.3)
    };
    // 300² = 90000 is more than fp16 holds, 200² = 40000 is not; four times that is.
    let rows = recorded(&model, &inputs, None, RunOptions::new(Precision::Fp16));
    let inf = f32::INFINITY;
    assert_eq!(find(&rows, "blocks_0_norm_square"), (vec![inf, 40000.0], 1));
    assert_eq!(find(&rows, "blocks_0_norm_weighted"), (vec![inf, inf], 1));
    assert_eq!(find(&rows, "blocks_0_norm"), (vec![inf, inf], 0));
    let rows = recorded(&model, &inputs, None, RunOptions::new(Precision::Fp32));
    assert_eq!(
        find(&rows, "blocks_0_norm_square"),
        (vec![90000.0, 40000.0], 0)
    );
    // The largest number that rounds to 65504, and the smallest that does not.
    let rows = recorded(
        &model,
        &x(&[65519.996, 65520.0]),
        Some(&["x"]),
        RunOptions::new(Precision::Fp16),
    );
    assert_eq!(find(&rows, "x"), (vec![65504.0, inf], 1));

    let checked = RunOptions {
        check_finite: true,
        ..RunOptions::new(Precision::Fp16)
    };
    let error = model.predict(None, &inputs, &checked).unwrap_err();
    assert_eq!(
        error.to_string(),
        "op `blocks_0_norm_square` (`mul`, module `blocks_0_norm`) gives inf at element 0 of [1, 2]"
    );
}

#[test]
fn names_that_are_not_there_list_the_nearest() {
    let model = text(NETWORK);
    let error = |names: &[&str]| {
        let options = RunOptions {
            taps: Some(Taps {
                names: Some(names.iter().map(|n| n.to_string()).collect()),
                tap: Arc::new(Record::default()),
            }),
            ..RunOptions::default()
        };
        let error = model.predict(None, &x(&[1.0, 1.0]), &options).unwrap_err();
        error.to_string()
    };
    assert_eq!(
        error(&["blocks_0_nrm"]),
        "no value `blocks_0_nrm` in function `main`\n\nhint: did you mean one of `blocks_0_norm`, `blocks_0_out`, \
         `blocks_0_proj`?"
    );
    assert_eq!(
        error(&["norm_s"]),
        "no value `norm_s` in function `main`\n\nhint: did you mean `blocks_0_norm_square`?"
    );
    assert_eq!(error(&["@@@@"]), "no value `@@@@` in function `main`");
}

#[derive(Debug)]
struct Full;

impl Tap for Full {
    fn see(&self, seen: &Seen<'_>) -> Result<(), String> {
        match seen.name {
            "blocks_0_norm" => Err("the disk is full".into()),
            _ => Ok(()),
        }
    }
}

#[test]
fn a_tap_can_end_the_prediction() {
    let options = RunOptions {
        taps: Some(Taps {
            names: None,
            tap: Arc::new(Full),
        }),
        ..RunOptions::default()
    };
    let error = text(NETWORK)
        .predict(None, &x(&[1.0, 1.0]), &options)
        .unwrap_err();
    assert!(matches!(error, Error::Tap { .. }));
    assert_eq!(error.to_string(), "value `blocks_0_norm`: the disk is full");
}

/// Attention runs as one op when nobody looks inside.
const ATTENTION: &str = "
    func main<ios16>(tensor<fp32, [1, 8, 4]> q, tensor<fp32, [1, 8, 4]> k, tensor<fp32, [1, 8, 4]> v) {
        tensor<fp32, [1, 8, 8]> scores = matmul(transpose_x = bool(false), transpose_y = bool(true), x = q, y = k)[name = string(\"s\")];
        tensor<fp32, [1, 8, 8]> weights = softmax(axis = int32(-1), x = scores)[name = string(\"w\")];
        tensor<fp32, [1, 8, 4]> heads = matmul(transpose_x = bool(false), transpose_y = bool(false), x = weights, y = v)[name = string(\"h\")];
    } -> (heads);";

#[test]
fn what_lies_inside_attention_can_be_seen() {
    let model = text(ATTENTION);
    let inputs: BTreeMap<String, Tensor> = ["q", "k", "v"]
        .iter()
        .enumerate()
        .map(|(n, name)| {
            let data = (0..32).map(|i| ((i * (n + 3)) % 7) as f32 / 7.0).collect();
            (name.to_string(), Tensor::f32(&[1, 8, 4], data))
        })
        .collect();
    let plain = model
        .predict(None, &inputs, &RunOptions::default())
        .unwrap();
    let rows = recorded(
        &model,
        &inputs,
        Some(&["weights", "heads"]),
        RunOptions::default(),
    );
    assert_eq!(rows.len(), 2);
    for row in rows[0].2.chunks(8) {
        assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5);
    }
    let outside = recorded(&model, &inputs, Some(&["heads"]), RunOptions::default());
    assert_eq!(outside[0].2, plain["heads"].as_f32().unwrap());
    for (a, b) in rows[1].2.iter().zip(&outside[0].2) {
        assert!((a - b).abs() < 1e-5);
    }
}

#[test]
fn without_taps_nothing_is_seen() {
    let record = Arc::new(Record::default());
    let options = RunOptions {
        taps: Some(Taps {
            names: Some(BTreeSet::new()),
            tap: record.clone(),
        }),
        ..RunOptions::default()
    };
    text(NETWORK)
        .predict(None, &x(&[1.0, 1.0]), &options)
        .unwrap();
    assert!(record.0.lock().unwrap().is_empty());
}
