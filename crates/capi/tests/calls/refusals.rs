//! What is refused, with which status and words.

use std::ffi::{CString, c_char};
use std::path::Path;
use std::ptr::{null, null_mut};

use gesso::*;
use gesso_testkit::fixture;

use crate::rig::*;

/// A sample with another op name of the same length.
fn unknown_op(folder: &Path) -> CString {
    let from = fixture("formats/samples/stateful_ios18/stateful_ios18.mlpackage");
    let inner = "Data/com.apple.CoreML";
    std::fs::create_dir_all(folder.join(inner)).unwrap();
    std::fs::copy(from.join("Manifest.json"), folder.join("Manifest.json")).unwrap();
    let mut bytes = std::fs::read(from.join(inner).join("model.mlmodel")).unwrap();
    let places: Vec<usize> = (0..bytes.len() - 10)
        .filter(|&i| bytes[i..].starts_with(b"read_state"))
        .collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at..at + 10].copy_from_slice(b"read_other");
    }
    std::fs::write(folder.join(inner).join("model.mlmodel"), bytes).unwrap();
    CString::new(folder.to_str().unwrap()).unwrap()
}

#[test]
fn refusals() {
    let folder = tempfile::tempdir().unwrap();
    let mut handle = null_mut();
    let load = |path: *const c_char, handle: *mut *mut GessoModel| unsafe {
        gesso_model_load(path, handle)
    };
    refused(
        load(null(), &raw mut handle),
        GessoStatus::NullPointer,
        "`path` is null",
    );
    refused(
        load(c"x".as_ptr(), null_mut()),
        GessoStatus::NullPointer,
        "`model` is null",
    );
    refused(
        load(c"\xff".as_ptr(), &raw mut handle),
        GessoStatus::Utf8,
        "`path` is not UTF-8",
    );
    refused(
        load(c"/no/such.mlpackage".as_ptr(), &raw mut handle),
        GessoStatus::Io,
        "is not there",
    );
    refused(
        load(unknown_op(folder.path()).as_ptr(), &raw mut handle),
        GessoStatus::Unsupported,
        "no kernel for `read_other`",
    );
    assert!(handle.is_null());

    let model = Loaded::new(&sample("base_fp16_ios16"));
    let mut count = 0;
    let features = |function: *const c_char, kind| unsafe {
        gesso_model_feature_count(model.0, function, kind, &raw mut count)
    };
    let mut features = features;
    refused(features(null(), 3), GessoStatus::Argument, "`GessoKind`");
    refused(
        features(c"nope".as_ptr(), 0),
        GessoStatus::Name,
        "no function `nope`",
    );
    ok(features(null(), 2));
    assert_eq!(count, 0);

    let x = noise(1024, 1);
    let mut fc = [0f32; 24];
    let good = || input(c"x", &x, &SHAPE, None, GessoDtype::F32);
    let mut out = || output(c"fc", &mut fc, &[1, 24], None, GessoDtype::F32);
    let refused_input = |input: GessoInput, status, words: &str| {
        refused(
            unsafe {
                gesso_predict(
                    model.0,
                    null(),
                    &raw const input,
                    1,
                    null(),
                    0,
                    null(),
                    null(),
                )
            },
            status,
            words,
        );
    };
    refused_input(
        GessoInput {
            name: null(),
            ..good()
        },
        GessoStatus::NullPointer,
        "`name`",
    );
    refused_input(
        GessoInput {
            name: c"y".as_ptr(),
            ..good()
        },
        GessoStatus::Name,
        "no input `y`",
    );
    refused_input(
        GessoInput {
            data: null(),
            ..good()
        },
        GessoStatus::NullPointer,
        "input `x`: `data`",
    );
    refused_input(
        GessoInput {
            shape: null(),
            ..good()
        },
        GessoStatus::NullPointer,
        "`shape`",
    );
    refused_input(
        GessoInput { rank: 3, ..good() },
        GessoStatus::Shape,
        "the buffer is f32 [1, 16, 8]",
    );
    refused_input(
        GessoInput {
            rank: 1 << 40,
            ..good()
        },
        GessoStatus::Argument,
        "rank",
    );
    refused_input(
        GessoInput { dtype: 0, ..good() },
        GessoStatus::Argument,
        "`GessoDtype`",
    );
    refused_input(
        GessoInput {
            bytes: 4092,
            ..good()
        },
        GessoStatus::Buffer,
        "takes 4096",
    );
    refused_input(
        input(c"x", &x, &SHAPE, Some(&[0, 64, 8, -1]), GessoDtype::F32),
        GessoStatus::Buffer,
        "negative",
    );
    let refused_output = |output: GessoOutput, status, words: &str| {
        refused(predict(&model, &good(), &output, null()), status, words);
    };
    refused_output(
        GessoOutput {
            name: c"y".as_ptr(),
            ..out()
        },
        GessoStatus::Name,
        "no output `y`",
    );
    refused_output(
        GessoOutput { bytes: 95, ..out() },
        GessoStatus::Buffer,
        "output `fc`: a buffer of 95",
    );
    refused_output(
        GessoOutput { dtype: 4, ..out() },
        GessoStatus::Shape,
        "the buffer is i32",
    );
    refused_output(
        GessoOutput {
            strides: [0i64, 0].as_ptr(),
            ..out()
        },
        GessoStatus::Buffer,
        "one place",
    );
    let none = unsafe { gesso_predict(model.0, null(), null(), 0, null(), 0, null(), null()) };
    refused(none, GessoStatus::MissingInput, "input `x`");
    let none = unsafe { gesso_predict(model.0, null(), null(), 1, null(), 0, null(), null()) };
    refused(none, GessoStatus::NullPointer, "`inputs`");
    let twice = [good(), good()];
    let twice = unsafe {
        gesso_predict(
            model.0,
            null(),
            twice.as_ptr(),
            2,
            null(),
            0,
            null(),
            null(),
        )
    };
    refused(twice, GessoStatus::Argument, "given twice");
    for (compute, kernels, threads, check_finite) in
        [(2, 0, 0, 0), (0, -1, 0, 0), (0, 0, 1025, 0), (0, 0, 0, 2)]
    {
        let options = GessoOptions {
            compute,
            kernels,
            threads,
            check_finite,
        };
        refused(
            predict(&model, &good(), &out(), &raw const options),
            GessoStatus::Argument,
            "cannot be",
        );
    }
    refused(
        unsafe { gesso_predict(null(), null(), null(), 0, null(), 0, null(), null()) },
        GessoStatus::NullPointer,
        "`model`",
    );
}
