//! The format samples: packages of known structure made with coremltools.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use gesso_coreml::package::Package;
use gesso_engine::{Compute, Error, Kernels, Model, RunOptions, Tensor};
use gesso_testkit::{Tolerance, fixture, relative_rms, shared};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn package(name: &str) -> Package {
    Package::open(&fixture(&format!(
        "formats/samples/{name}/{name}.mlpackage"
    )))
    .unwrap()
}

fn load(name: &str) -> Model {
    Model::load(&package(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Deterministic values in [-1, 1).
fn noise(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

fn inputs(list: &[(&str, &[usize], Vec<f32>)]) -> BTreeMap<String, Tensor> {
    list.iter()
        .map(|(n, s, v)| (n.to_string(), Tensor::f32(s, v.clone())))
        .collect()
}

fn image() -> BTreeMap<String, Tensor> {
    inputs(&[("x", &[1, 16, 8, 8], noise(1024, 7))])
}

fn output(model: &Model, inputs: &BTreeMap<String, Tensor>, options: &RunOptions) -> Vec<f32> {
    let results = model.predict(None, inputs, options).unwrap();
    assert_eq!(results.len(), 1);
    results.values().next().unwrap().as_f32().unwrap().to_vec()
}

fn probed(model: &Model, name: &str) -> Vec<f32> {
    let options = RunOptions {
        probes: vec![name.into()],
        ..RunOptions::default()
    };
    let results = model.predict(None, &image(), &options).unwrap();
    results[name].as_f32().unwrap().to_vec()
}

fn wide(v: &[f32]) -> Vec<f64> {
    v.iter().map(|&x| x.into()).collect()
}

/// conv 3×3 same → relu → mean over 8×8 → linear, written out from the probed weights.
fn written_out(model: &Model, weights: [&str; 4]) -> Vec<f64> {
    let [w, b, fw, fb] = weights.map(|n| wide(&probed(model, n)));
    let x = wide(image()["x"].as_f32().unwrap());
    let mut pooled = vec![0.0; 32];
    for o in 0..32 {
        for y in 0..8i32 {
            for c in 0..8i32 {
                let mut sum = b[o];
                for i in 0..16 {
                    for (k, (dy, dx)) in
                        (0..9).map(|k| (k, (y + k as i32 / 3 - 1, c + k as i32 % 3 - 1)))
                    {
                        if (0..8).contains(&dy) && (0..8).contains(&dx) {
                            let at = i * 64 + (dy * 8 + dx) as usize;
                            sum += w[(o * 16 + i) * 9 + k] * x[at];
                        }
                    }
                }
                pooled[o] += sum.max(0.0) / 64.0;
            }
        }
    }
    (0..24)
        .map(|o| fb[o] + (0..32).map(|i| fw[o * 32 + i] * pooled[i]).sum::<f64>())
        .collect()
}

#[test]
fn base_model_computes_what_its_structure_says() {
    for name in ["base_fp16_ios16", "base_fp16_ios18", "base_fp16_ios26"] {
        let model = load(name);
        let names = [
            "conv1_weight_0_to_fp16",
            "conv1_bias_0_to_fp16",
            "fc_weight_0_to_fp16",
            "fc_bias_0_to_fp16",
        ];
        let want = written_out(&model, names);
        for kernels in [Kernels::Naive, Kernels::Fast] {
            let options = RunOptions {
                kernels,
                ..RunOptions::default()
            };
            let got = output(&model, &image(), &options);
            Tolerance::Close.assert(&format!("{name} {kernels:?}"), &want, &got);
        }
        let fp16 = RunOptions {
            compute: Compute::Fp16,
            ..RunOptions::default()
        };
        let got = output(&model, &image(), &fp16);
        Tolerance::Fp16Emulated.assert(&format!("{name} fp16"), &want, &got);
        assert!(got.iter().all(|&x| half::f16::from_f32(x).to_f32() == x));
        assert!(relative_rms(&want, &got) > 0.0, "fp16 mode rounds nothing");
    }
}

#[test]
fn every_compressed_sample_runs_as_its_weights_say() {
    let samples = [
        "lut2_pertensor_ios18",
        "lut3_pertensor_ios18",
        "lut4_pertensor_ios16",
        "lut4_pertensor_ios18",
        "lut6_pertensor_ios16",
        "lut8_pertensor_ios16",
        "lut8_pertensor_ios18",
        "lut4_grouped8_ios18",
        "lut4_vector2_ios18",
        "lut4_grouped8_scale_ios18",
        "lin8_perchannel_ios16",
        "lin8_perchannel_ios18",
        "lin4_blockwise8_ios18",
        "lin4u_blockwise8_asym_ios18",
        "sparse_ios16",
        "sparse_ios18",
    ];
    for name in samples {
        let model = load(name);
        let program = gesso_mil::from_model(&package(name).model).unwrap();
        let body = program.functions["main"].body().unwrap().clone();
        let operand = |kind: &str, parameter: &str| -> String {
            let op = body.operations.iter().find(|op| op.kind == kind).unwrap();
            match &op.inputs[parameter][0] {
                gesso_mil::Binding::Name(n) => n.clone(),
                gesso_mil::Binding::Value(_) => panic!("{name}: {kind} {parameter} is a literal"),
            }
        };
        let (w, b) = (operand("conv", "weight"), operand("conv", "bias"));
        let (fw, fb) = (operand("linear", "weight"), operand("linear", "bias"));
        let want = written_out(&model, [&w, &b, &fw, &fb]);
        let got = output(&model, &image(), &RunOptions::default());
        Tolerance::Close.assert(name, &want, &got);
        assert!(
            want.iter().any(|x| x.abs() > 1e-3),
            "{name}: weights are zero"
        );
    }
}

/// Bytes of the record that an operand of a `constexpr` op points to.
fn record(name: &str, output: &str, parameter: &str) -> Vec<u8> {
    let package = package(name);
    let program = gesso_mil::from_model(&package.model).unwrap();
    let body = program.functions["main"].body().unwrap();
    let op = body
        .operations
        .iter()
        .find(|op| op.outputs[0].name == output)
        .unwrap();
    let value = op
        .attributes
        .get(parameter)
        .or_else(|| match &op.inputs[parameter][0] {
            gesso_mil::Binding::Value(v) => Some(v),
            gesso_mil::Binding::Name(_) => None,
        });
    match &value.unwrap().data {
        gesso_mil::ValueData::Blob { file, offset } => {
            package.blob(file, *offset).unwrap().data.to_vec()
        }
        gesso_mil::ValueData::Tensor(gesso_mil::Literal::Bytes(b)) => b.clone(),
        other => panic!("{name}: {other:?}"),
    }
}

fn halves(bytes: &[u8]) -> Vec<f32> {
    bytes
        .chunks(2)
        .map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32())
        .collect()
}

#[test]
fn palettes_decode_bit_by_bit_in_both_eras() {
    for (name, bits) in [
        ("lut2_pertensor_ios18", 2),
        ("lut3_pertensor_ios18", 3),
        ("lut4_pertensor_ios16", 4),
        ("lut4_pertensor_ios18", 4),
        ("lut6_pertensor_ios16", 6),
        ("lut8_pertensor_ios16", 8),
        ("lut8_pertensor_ios18", 8),
    ] {
        let weight = "conv1_weight_0_to_fp16_palettized";
        let got = probed(&load(name), weight);
        let (indices, lut) = (
            record(name, weight, "indices"),
            halves(&record(name, weight, "lut")),
        );
        assert_eq!(got.len(), 4608);
        for (i, x) in got.iter().enumerate() {
            let code = (0..bits).fold(0, |code, b| {
                let at = i * bits + b;
                code | usize::from(indices[at / 8] >> (at % 8) & 1) << b
            });
            assert_eq!(*x, lut[code], "{name} element {i}");
        }
    }
}

#[test]
fn grouped_and_vector_palettes_follow_their_formulas() {
    let weight = "conv1_weight_0_to_fp16_palettized";
    let code = |indices: &[u8], i: usize| usize::from(indices[i / 2] >> (i % 2 * 4) & 15);
    let name = "lut4_grouped8_ios18";
    let (indices, lut) = (
        record(name, weight, "indices"),
        halves(&record(name, weight, "lut")),
    );
    for (p, x) in probed(&load(name), weight).iter().enumerate() {
        let group = p / 144 / 8;
        assert_eq!(
            *x,
            lut[group * 16 + code(&indices, p)],
            "{name} element {p}"
        );
    }
    let name = "lut4_vector2_ios18";
    let (indices, lut) = (
        record(name, weight, "indices"),
        halves(&record(name, weight, "lut")),
    );
    for (p, x) in probed(&load(name), weight).iter().enumerate() {
        let (o, rest) = (p / 144, p % 144);
        let c = code(&indices, o / 2 * 144 + rest);
        assert_eq!(*x, lut[c * 2 + o % 2], "{name} element {p}");
    }
}

#[test]
fn scaled_integers_follow_their_formulas() {
    let round = |x: f32| half::f16::from_f32(x).to_f32();
    let name = "lin8_perchannel_ios16";
    let weight = "conv1_weight_0_to_fp16_quantized";
    let q = record(name, weight, "quantized_data");
    let (scale, zero) = (
        halves(&record(name, weight, "scale")),
        record(name, weight, "zero_point"),
    );
    for (p, x) in probed(&load(name), weight).iter().enumerate() {
        let c = p / 144;
        let q = f32::from(q[p] as i8) - f32::from(zero[c] as i8);
        assert_eq!(*x, round(scale[c] * q), "{name} element {p}");
    }
    let name = "lin4u_blockwise8_asym_ios18";
    let q = record(name, weight, "data");
    let (scale, offset) = (
        halves(&record(name, weight, "scale")),
        record(name, weight, "offset"),
    );
    let nibble = |v: &[u8], i: usize| f32::from(v[i / 2] >> (i % 2 * 4) & 15);
    for (p, x) in probed(&load(name), weight).iter().enumerate() {
        let block = p / 144 * 2 + p % 144 / 9 / 8;
        let want = round(scale[block] * (nibble(&q, p) - nibble(&offset, block)));
        assert_eq!(*x, want, "{name} element {p}");
    }
}

#[test]
fn sparse_weights_are_zero_off_the_mask() {
    for name in ["sparse_ios16", "sparse_ios18"] {
        let weight = "conv1_weight_0_to_fp16_sparsified";
        let mask = record(name, weight, "mask");
        let mut nonzero = halves(&record(name, weight, "nonzero_data")).into_iter();
        for (p, x) in probed(&load(name), weight).iter().enumerate() {
            let set = mask[p / 8] >> (p % 8) & 1 == 1;
            let want = if set { nonzero.next().unwrap() } else { 0.0 };
            assert_eq!(*x, want, "{name} element {p}");
        }
        assert_eq!(nonzero.next(), None);
    }
}

#[test]
fn adapter_inputs_add_their_product() {
    let model = load("lora_inputs_ios17");
    let (x, a, b) = (noise(256, 1), noise(512, 2), noise(512, 3));
    let run = |scale: f32| {
        let given = inputs(&[
            ("x", &[1, 4, 64], x.clone()),
            ("lora_A", &[8, 64], a.clone()),
            ("lora_B", &[64, 8], b.clone()),
            ("scale", &[1], vec![scale]),
        ]);
        wide(&output(&model, &given, &RunOptions::default()))
    };
    let (base, with) = (run(0.0), run(0.5));
    let mut got = Vec::new();
    let mut want = Vec::new();
    for s in 0..4 {
        for o in 0..64 {
            let sum: f64 = (0..8)
                .map(|r| {
                    let down: f64 = (0..64)
                        .map(|i| f64::from(x[s * 64 + i]) * f64::from(a[r * 64 + i]))
                        .sum();
                    down * f64::from(b[o * 8 + r])
                })
                .sum();
            want.push(0.5 * sum);
            got.push((with[s * 64 + o] - base[s * 64 + o]) as f32);
        }
    }
    Tolerance::Close.assert("adapter product", &want, &got);
}

#[test]
fn optional_input_takes_its_default_and_functions_are_named() {
    let model = load("optional_input_ios17");
    let x = vec![1.0, -2.0, 3.0, 0.5];
    let alone = output(
        &model,
        &inputs(&[("x", &[1, 4], x.clone())]),
        &RunOptions::default(),
    );
    let default = model
        .inputs(None)
        .unwrap()
        .iter()
        .find(|f| f.name == "b")
        .unwrap()
        .default;
    let default = default.expect("`b` is optional");
    let want: Vec<f32> = x.iter().map(|x| x + default).collect();
    assert_eq!(alone, want);
    let both = inputs(&[("x", &[1, 4], x), ("b", &[1, 4], vec![1.0; 4])]);
    assert_eq!(
        output(&model, &both, &RunOptions::default()),
        [2.0, -1.0, 4.0, 1.5]
    );

    let model = load("multifunction_ios18");
    assert_eq!(model.functions().collect::<Vec<_>>(), ["alpha", "beta"]);
    assert_eq!(model.default_function(), "alpha");
    let by_name = |f: Option<&str>| model.predict(f, &image(), &RunOptions::default());
    assert_eq!(by_name(None).unwrap(), by_name(Some("alpha")).unwrap());
    by_name(Some("beta")).unwrap();
    let error = by_name(Some("gamma")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no function `gamma`; the model has `alpha`, `beta`"
    );
}

#[test]
fn wrong_inputs_are_refused_by_name() {
    let model = load("base_fp16_ios16");
    let message = |given: &BTreeMap<String, Tensor>| {
        model
            .predict(None, given, &RunOptions::default())
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        message(&BTreeMap::new()),
        "input `x` of function `main` is missing; expected tensor<fp32, [1, 16, 8, 8]>"
    );
    let mut extra = image();
    extra.insert("X".into(), Tensor::f32(&[1], vec![0.0]));
    assert_eq!(
        message(&extra),
        "function `main` has no input `X`; it has `x`\n\nhint: did you mean `x`?"
    );
    let shape = inputs(&[("x", &[1, 16, 8, 4], noise(512, 1))]);
    assert_eq!(
        message(&shape),
        "input `x` is f32 [1, 16, 8, 4], but tensor<fp32, [1, 16, 8, 8]> is declared"
    );
    let ints = BTreeMap::from([("x".to_string(), Tensor::i32(&[1, 16, 8, 8], vec![0; 1024]))]);
    assert!(message(&ints).starts_with("input `x` is i32 [1, 16, 8, 8], but"));
    let short = inputs(&[("x", &[1, 16, 8, 8], vec![0.0; 3])]);
    assert!(
        message(&short).contains("has 3 elements"),
        "{}",
        message(&short)
    );
    let probe = RunOptions {
        probes: vec!["conv1_cast_fp1".into()],
        ..RunOptions::default()
    };
    let error = model
        .predict(None, &image(), &probe)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("did you mean one of `conv1_cast_fp16`"),
        "{error}"
    );
    let infinite = inputs(&[("x", &[1, 16, 8, 8], vec![f32::INFINITY; 1024])]);
    let checked = RunOptions {
        check_finite: true,
        ..RunOptions::default()
    };
    let error = model.predict(None, &infinite, &checked).unwrap_err();
    assert!(
        matches!(&error, Error::NonFinite { kind, .. } if kind == "cast"),
        "{error}"
    );
}

#[test]
fn flexible_inputs_take_several_sizes() {
    for name in ["flex_range_ios17", "flex_enum_ios17"] {
        let model = load(name);
        let feature = model.inputs(None).unwrap()[0].clone();
        assert!(feature.ty.shape().is_none(), "{name}: {}", feature.ty);
    }
}

#[test]
fn foreign_packages_run_or_say_why_not() {
    let open =
        |relative: &str| shared(relative).map(|path| Model::load(&Package::open(&path).unwrap()));
    let dtln = "formats/mlpackage-samples/dtln-aec-128-part1/DTLN_AEC_128_Part1.mlpackage";
    if let Some(loaded) = open(dtln) {
        let error = loaded.unwrap_err();
        assert!(
            matches!(&error, Error::UnsupportedOps { kinds, .. } if kinds.contains(&"while_loop".into())),
            "{error}"
        );
    }
}

#[test]
fn a_cancelled_prediction_stops_before_its_next_op() {
    let model = load("base_fp16_ios16");
    let flag = Arc::new(AtomicBool::new(false));
    let options = RunOptions {
        cancel: Some(flag.clone()),
        ..RunOptions::default()
    };
    let whole = output(&model, &image(), &options);
    assert_eq!(whole, output(&model, &image(), &RunOptions::default()));
    flag.store(true, Ordering::Relaxed);
    let error = model.predict(None, &image(), &options).unwrap_err();
    assert!(
        matches!(&error, Error::Cancelled { op } if op == "x_to_fp16"),
        "{error}"
    );
}
