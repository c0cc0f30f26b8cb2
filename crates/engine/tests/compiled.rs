//! Compiled models: the engine runs Apple's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use gesso_coreml::compiled::CompiledModel;
use gesso_engine::{Data, Error, Model, RunOptions, Tensor};
use std::collections::BTreeMap;

/// An Apple-compiled sample, or `None` where the samples are not on this machine.
fn sample(path: &str) -> Option<gesso_engine::Result<Model>> {
    let path = gesso_testkit::shared(&format!("formats/mlmodelc-samples/{path}"))?;
    Some(Model::load_compiled(&CompiledModel::open(&path).unwrap()))
}

fn predict(
    model: &Model,
    function: Option<&str>,
    inputs: &[(&str, &[usize], &[f32])],
) -> BTreeMap<String, Tensor> {
    let inputs = inputs
        .iter()
        .map(|(name, shape, values)| (name.to_string(), Tensor::f32(shape, values.to_vec())))
        .collect();
    model
        .predict(function, &inputs, &RunOptions::default())
        .unwrap()
}

fn floats(outputs: &BTreeMap<String, Tensor>, name: &str) -> Vec<f32> {
    outputs[name].as_f32().unwrap().to_vec()
}

#[test]
fn the_linear_model_gives_its_known_outputs() {
    let Some(model) = sample("coreml-native-linear/test_linear.mlmodelc") else {
        return;
    };
    let outputs = predict(
        &model.unwrap(),
        None,
        &[("input", &[1, 4], &[1.0, 2.0, -3.5, 0.0])],
    );
    assert_eq!(floats(&outputs, "output"), [3.0, 5.0, -6.0, 1.0]);
}

#[test]
fn float_models_run() {
    let Some(product) = sample("coremltools-add/add_model.mlmodelc") else {
        return;
    };
    let x: Vec<f32> = (0..10).map(|i| i as f32).collect();
    let inputs: &[(&str, &[usize], &[f32])] = &[("x", &[1, 10], &x), ("y", &[1, 10], &x)];
    let squares: Vec<f32> = x.iter().map(|v| v * v).collect();
    let outputs = predict(&product.unwrap(), None, inputs);
    assert_eq!(floats(&outputs, "var_3"), squares);

    let argmax = sample("fluidaudio-argmax/Argmax.mlmodelc")
        .unwrap()
        .unwrap();
    let mut logits = vec![0.0; 1025];
    logits[700] = 2.5;
    let outputs = predict(&argmax, None, &[("logits", &[1025], &logits)]);
    assert_eq!(floats(&outputs, "score"), [2.5]);
    assert_eq!(outputs["index"].data, Data::I32(vec![700]));

    let transpose = sample("fluidaudio-transpose/TransposeEncoder.mlmodelc");
    let outputs = predict(
        &transpose.unwrap().unwrap(),
        None,
        &[("x", &[1, 2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])],
    );
    assert_eq!(outputs["var_4"].shape, [1, 3, 2]);
    assert_eq!(floats(&outputs, "var_4"), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
}

#[test]
fn functions_ranges_and_compressed_weights_run() {
    let Some(two) = sample("mlmodelc-export-flexible-multifunction/expected-macos.mlmodelc") else {
        return;
    };
    let two = two.unwrap();
    assert_eq!(two.functions().collect::<Vec<_>>(), ["first", "second"]);
    assert_eq!(two.default_function(), "second");
    for function in [None, Some("first")] {
        let outputs = predict(&two, function, &[("input", &[3], &[-1.0, 0.0, 2.0])]);
        assert_eq!(floats(&outputs, "output"), [0.0, 0.0, 2.0]);
    }

    // int8 codes with scale 0.5 and zero point -1 from the weight file.
    let quantized = sample("mlmodelc-export-quantized-constexpr/expected-macos.mlmodelc").unwrap();
    let outputs = predict(&quantized.unwrap(), None, &[("input", &[4], &[0.0; 4])]);
    let path = "formats/mlmodelc-samples/mlmodelc-export-quantized-constexpr/weights/weights.bin";
    let bytes = std::fs::read(gesso_testkit::shared(path).unwrap()).unwrap();
    let codes = bytes[128..132].iter().map(|&b| b.cast_signed());
    let wanted: Vec<f32> = codes.map(|c| (f32::from(c) + 1.0) * 0.5).collect();
    assert_eq!(floats(&outputs, "output"), wanted);
}

#[test]
fn models_with_other_ops_are_refused_by_name() {
    let Some(model) = sample("silero-vad/silero_vad.mlmodelc") else {
        return;
    };
    let error = model.unwrap_err();
    assert!(matches!(error, Error::UnsupportedOps { .. }), "{error}");
    assert!(error.to_string().contains("lstm"), "{error}");
}
