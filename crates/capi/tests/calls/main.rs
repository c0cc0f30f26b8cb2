//! The C ABI called from Rust: the engine's numbers bit for bit, from many threads, and every refusal.
#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs
)]
// SAFETY: the blocks below call the C functions with handles that are alive, strings that end with NUL and buffers whose
// lengths are those of the vectors behind them.

mod refusals;
mod rig;
mod states;
mod structure;

use std::ffi::{CStr, CString};
use std::ptr::{null, null_mut};

use gesso::*;
use gesso_engine::{Compute, Kernels, RunOptions};
use half::f16;

use rig::*;

#[test]
fn the_engines_numbers_bit_for_bit() {
    let model = Loaded::new(&sample("base_fp16_ios16"));
    let x = noise(1024, 7);
    for (compute, kernels, threads) in [(0, 0, 0), (0, 0, 1), (1, 0, 2), (0, 1, 1), (1, 1, 0)] {
        let options = RunOptions {
            compute: [Compute::Fp32, Compute::Fp16][compute as usize],
            kernels: [Kernels::Fast, Kernels::Naive][kernels as usize],
            threads: threads as usize,
            ..RunOptions::default()
        };
        let want = engine("base_fp16_ios16", &x, &options);
        let mut fc = [0f32; 24];
        let options = GessoOptions {
            compute,
            kernels,
            threads,
            check_finite: 1,
        };
        ok(predict(
            &model,
            &input(c"x", &x, &SHAPE, None, GessoDtype::F32),
            &output(c"fc", &mut fc, &[1, 24], None, GessoDtype::F32),
            &raw const options,
        ));
        assert_eq!(bits(&fc), bits(&want));
    }
}

#[test]
fn sixteen_threads_on_one_model() {
    let model = Loaded::new(&sample("base_fp16_ios16"));
    let inputs: Vec<Vec<f32>> = (0..16).map(|i| noise(1024, i)).collect();
    let wanted: Vec<Vec<f32>> = inputs
        .iter()
        .map(|x| engine("base_fp16_ios16", x, &RunOptions::default()))
        .collect();
    std::thread::scope(|scope| {
        for (x, want) in inputs.iter().zip(&wanted) {
            let model = &model;
            scope.spawn(move || {
                for _ in 0..20 {
                    let mut fc = [0f32; 24];
                    ok(predict(
                        model,
                        &input(c"x", x, &SHAPE, None, GessoDtype::F32),
                        &output(c"fc", &mut fc, &[1, 24], None, GessoDtype::F32),
                        null(),
                    ));
                    assert_eq!(bits(&fc), bits(want));
                }
            });
        }
    });
}

#[test]
fn dtypes_and_strides_are_converted_at_the_border() {
    let model = Loaded::new(&sample("base_fp16_ios16"));
    // Values that every type holds exactly.
    let x: Vec<f32> = noise(1024, 3).iter().map(|v| (v * 4.0).round()).collect();
    let want = engine("base_fp16_ios16", &x, &RunOptions::default());
    let halves: Vec<u16> = x.iter().map(|&v| f16::from_f32(v).to_bits()).collect();
    let doubles: Vec<f64> = x.iter().map(|&v| v.into()).collect();
    let integers: Vec<i32> = x.iter().map(|&v| v as i32).collect();
    // Channels last with a gap after each pixel.
    let strides = [64 * 20, 1, 8 * 20, 20];
    let mut apart = vec![f32::NAN; 64 * 20];
    for (i, &v) in x.iter().enumerate() {
        apart[(i % 64) * 20 + i / 64] = v;
    }
    let inputs = [
        input(c"x", &halves, &SHAPE, None, GessoDtype::F16),
        input(c"x", &doubles, &SHAPE, None, GessoDtype::F64),
        input(c"x", &integers, &SHAPE, None, GessoDtype::I32),
        input(c"x", &apart, &SHAPE, Some(&strides), GessoDtype::F32),
    ];
    for input in inputs {
        let mut fc = vec![7f32; 70];
        ok(predict(
            &model,
            &input,
            &output(c"fc", &mut fc, &[1, 24], Some(&[1, 3]), GessoDtype::F32),
            null(),
        ));
        let taken: Vec<f32> = fc.iter().step_by(3).copied().collect();
        assert_eq!(bits(&taken), bits(&want));
        assert!(
            fc.iter().enumerate().all(|(i, &v)| i % 3 == 0 || v == 7.0),
            "a gap was written to"
        );
    }
    let x = input(c"x", &x, &SHAPE, None, GessoDtype::F32);
    let mut half = [0u16; 24];
    ok(predict(
        &model,
        &x,
        &output(c"fc", &mut half, &[1, 24], None, GessoDtype::F16),
        null(),
    ));
    assert_eq!(
        half.to_vec(),
        want.iter()
            .map(|&v| f16::from_f32(v).to_bits())
            .collect::<Vec<_>>()
    );
    let mut double = [0f64; 24];
    ok(predict(
        &model,
        &x,
        &output(c"fc", &mut double, &[1, 24], None, GessoDtype::F64),
        null(),
    ));
    assert_eq!(
        double.to_vec(),
        want.iter().map(|&v| v.into()).collect::<Vec<f64>>()
    );
    let mut odd = [0u8; 97];
    let mut target = output(c"fc", &mut odd, &[1, 24], None, GessoDtype::F32);
    target.data = target.data.wrapping_byte_add(1);
    target.bytes = 96;
    ok(predict(&model, &x, &target, null()));
    let taken: Vec<u32> = odd[1..]
        .chunks(4)
        .map(|c| u32::from_ne_bytes(c.try_into().unwrap()))
        .collect();
    assert_eq!(taken, bits(&want));
}

#[test]
fn a_batch_is_as_many_single_runs() {
    let model = Loaded::new(&sample("base_fp16_ios16"));
    let all: Vec<Vec<f32>> = (0..3).map(|i| noise(1024, 40 + i)).collect();
    let inputs: Vec<_> = all
        .iter()
        .map(|x| input(c"x", x, &SHAPE, None, GessoDtype::F32))
        .collect();
    let mut results = vec![[0f32; 24]; 3];
    let outputs: Vec<_> = results
        .iter_mut()
        .map(|fc| output(c"fc", fc, &[1, 24], None, GessoDtype::F32))
        .collect();
    let run = |inputs: &[GessoInput], batch| unsafe {
        gesso_predict_batch(
            model.0,
            null(),
            batch,
            inputs.as_ptr(),
            1,
            outputs.as_ptr(),
            1,
            null(),
            null(),
        )
    };
    ok(run(&inputs, 3));
    for (x, fc) in all.iter().zip(&results) {
        assert_eq!(
            bits(fc),
            bits(&engine("base_fp16_ios16", x, &RunOptions::default()))
        );
    }
    let mut bad = inputs;
    bad[2].bytes -= 1;
    refused(
        run(&bad, 3),
        GessoStatus::Buffer,
        "run 2: input `x`: a buffer of 4095 bytes",
    );
    refused(run(&bad, usize::MAX), GessoStatus::Argument, "cannot have");
}

#[test]
fn outputs_are_kept_and_asked() {
    let x = noise(1024, 9);
    let mut outputs = null_mut();
    {
        let model = Loaded::new(&sample("base_fp16_ios16"));
        let x = input(c"x", &x, &SHAPE, None, GessoDtype::F32);
        let status = unsafe {
            gesso_predict_outputs(
                model.0,
                null(),
                &raw const x,
                1,
                null(),
                null(),
                &raw mut outputs,
            )
        };
        ok(status);
    }
    let mut count = 0;
    ok(unsafe { gesso_outputs_count(outputs, &raw mut count) });
    assert_eq!(count, 1);
    let mut feature = std::mem::MaybeUninit::<GessoFeature>::uninit();
    ok(unsafe { gesso_outputs_feature(outputs, 0, feature.as_mut_ptr()) });
    let feature = unsafe { feature.assume_init() };
    assert_eq!(unsafe { CStr::from_ptr(feature.name) }, c"fc");
    assert_eq!(
        unsafe { std::slice::from_raw_parts(feature.shape, feature.rank) },
        [1, 24]
    );
    let mut fc = [0f32; 24];
    let target = output(c"fc", &mut fc, &[1, 24], None, GessoDtype::F32);
    ok(unsafe { gesso_outputs_copy(outputs, &raw const target) });
    assert_eq!(
        bits(&fc),
        bits(&engine("base_fp16_ios16", &x, &RunOptions::default()))
    );
    let short = output(c"fc", &mut fc, &[1, 23], None, GessoDtype::F32);
    refused(
        unsafe { gesso_outputs_copy(outputs, &raw const short) },
        GessoStatus::Shape,
        "[1, 23]",
    );
    refused(
        unsafe { gesso_outputs_feature(outputs, 1, null_mut()) },
        GessoStatus::Name,
        "no output 1",
    );
    ok(unsafe { gesso_outputs_free(&raw mut outputs) });
    assert!(outputs.is_null());
}

#[test]
fn a_compiled_model_gives_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("Base.mlmodelc");
    let path = CString::new(target.to_str().unwrap()).unwrap();
    let package = sample("base_fp16_ios16");
    ok(unsafe { gesso_compile(package.as_ptr(), path.as_ptr(), 0) });
    refused(
        unsafe { gesso_compile(package.as_ptr(), path.as_ptr(), 0) },
        GessoStatus::Exists,
        "Base.mlmodelc",
    );
    ok(unsafe { gesso_compile(package.as_ptr(), path.as_ptr(), 1) });
    let left: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(left, ["Base.mlmodelc"]);
    let model = Loaded::new(&path);
    let x = noise(1024, 11);
    let mut fc = [0f32; 24];
    ok(predict(
        &model,
        &input(c"x", &x, &SHAPE, None, GessoDtype::F32),
        &output(c"fc", &mut fc, &[1, 24], None, GessoDtype::F32),
        null(),
    ));
    assert_eq!(
        bits(&fc),
        bits(&engine("base_fp16_ios16", &x, &RunOptions::default()))
    );
}

#[test]
fn a_set_token_cancels() {
    let model = Loaded::new(&sample("base_fp16_ios16"));
    let mut token = null_mut();
    ok(unsafe { gesso_token_new(&raw mut token) });
    let x = noise(1024, 1);
    let x = input(c"x", &x, &SHAPE, None, GessoDtype::F32);
    let run = |token| unsafe {
        gesso_predict(model.0, null(), &raw const x, 1, null(), 0, null(), token)
    };
    ok(run(token));
    ok(unsafe { gesso_token_set(token) });
    refused(
        run(token),
        GessoStatus::Cancelled,
        "cancelled before op `x_to_fp16`",
    );
    ok(unsafe { gesso_token_free(&raw mut token) });
    assert!(token.is_null());
    refused(
        unsafe { gesso_token_set(token) },
        GessoStatus::NullPointer,
        "`token` is null",
    );
    ok(run(token));
}

#[test]
fn models_describe_themselves() {
    let model = Loaded::new(&sample("optional_input_ios17"));
    let mut json = null_mut();
    ok(unsafe { gesso_model_describe(model.0, &raw mut json) });
    let text = unsafe { CStr::from_ptr(json) }
        .to_str()
        .unwrap()
        .to_string();
    ok(unsafe { gesso_string_free(&raw mut json) });
    assert!(json.is_null());
    ok(unsafe { gesso_string_free(&raw mut json) });
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["default_function"], "main");
    assert_eq!(
        value["functions"][0]["inputs"][1],
        serde_json::json!({"name": "b", "dtype": "fp32", "shape": [1, 4], "optional": true, "default": 0.5, "description": ""})
    );
    assert_eq!(
        value["metadata"]["user_defined"]["com.github.apple.coremltools.version"],
        "9.0"
    );
    let mut feature = std::mem::MaybeUninit::<GessoFeature>::uninit();
    ok(unsafe { gesso_model_feature(model.0, c"main".as_ptr(), 0, 1, feature.as_mut_ptr()) });
    let feature = unsafe { feature.assume_init() };
    assert_eq!(
        (feature.optional, feature.default_value, feature.dtype),
        (1, 0.5, GessoDtype::F32 as i32)
    );

    let model = Loaded::new(&sample("multifunction_ios18"));
    let mut count = 0;
    ok(unsafe { gesso_model_function_count(model.0, &raw mut count) });
    let names: Vec<String> = (0..count)
        .map(|i| {
            let mut name = null();
            ok(unsafe { gesso_model_function(model.0, i, &raw mut name) });
            unsafe { CStr::from_ptr(name) }
                .to_str()
                .unwrap()
                .to_string()
        })
        .collect();
    assert_eq!(names, ["alpha", "beta"]);
    let mut name = null();
    ok(unsafe { gesso_model_default_function(model.0, &raw mut name) });
    assert_eq!(unsafe { CStr::from_ptr(name) }, c"alpha");
}

fn described(name: &str) -> serde_json::Value {
    let model = Loaded::new(&sample(name));
    let mut json = null_mut();
    ok(unsafe { gesso_model_describe(model.0, &raw mut json) });
    let text = unsafe { CStr::from_ptr(json) }.to_str().unwrap();
    let value = serde_json::from_str(text).unwrap();
    ok(unsafe { gesso_string_free(&raw mut json) });
    value
}

#[test]
fn flexible_arrays_images_and_states_are_described() {
    let input = |name: &str| described(name)["functions"][0]["inputs"][0].clone();
    let range = input("flex_range_ios17");
    let shape = range["shape"].as_array().unwrap();
    let ranges = range["shape_ranges"].as_array().unwrap();
    assert!(shape.iter().any(|n| n == -1), "{range}");
    assert_eq!(ranges.len(), shape.len());
    for (size, range) in shape.iter().zip(ranges) {
        assert_eq!(size == -1, range[0] != range[1], "{range}");
    }
    let several = input("flex_enum_ios17");
    assert!(several["enumerated_shapes"].as_array().unwrap().len() > 1);
    let image = input("image_io_ios17");
    assert_eq!(image["image"]["color"], "rgb");
    assert_eq!(image["image"]["width"], image["shape"][3]);
    assert_eq!(image["image"]["height"], image["shape"][2]);
    assert!(range.get("image").is_none());
    let states = &described("stateful_ios18")["functions"][0]["states"];
    assert_eq!(states[0]["name"], "acc");
    assert_eq!(states[0]["shape"], serde_json::json!([1, 8]));
}
