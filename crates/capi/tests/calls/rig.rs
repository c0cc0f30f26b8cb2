//! What the tests call the C functions with.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_void};
use std::path::Path;
use std::ptr::{null, null_mut};

use gesso::*;
use gesso_coreml::package::Package;
use gesso_engine::{Model, RunOptions, Tensor};
use gesso_testkit::fixture;

pub(crate) fn sample(name: &str) -> CString {
    let path = fixture(&format!("formats/samples/{name}/{name}.mlpackage"));
    CString::new(path.to_str().unwrap()).unwrap()
}

pub(crate) fn message() -> String {
    let length = unsafe { gesso_last_error(null_mut(), 0) };
    let mut buffer = vec![1u8; length + 1];
    unsafe { gesso_last_error(buffer.as_mut_ptr().cast::<c_char>(), buffer.len()) };
    CString::from_vec_with_nul(buffer)
        .unwrap()
        .into_string()
        .unwrap()
}

pub(crate) fn ok(status: GessoStatus) {
    assert_eq!(status, GessoStatus::Ok, "{}", message());
}

#[track_caller]
pub(crate) fn refused(status: GessoStatus, expected: GessoStatus, words: &str) {
    assert_eq!(status, expected, "{}", message());
    assert!(message().contains(words), "`{}` lacks `{words}`", message());
}

pub(crate) struct Loaded(pub(crate) *mut GessoModel);
// SAFETY: the header says that any number of threads may use one model.
unsafe impl Sync for Loaded {}

impl Loaded {
    pub(crate) fn new(path: &CStr) -> Self {
        let mut model = null_mut();
        ok(unsafe { gesso_model_load(path.as_ptr(), &raw mut model) });
        Self(model)
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        ok(unsafe { gesso_model_free(&raw mut self.0) });
        assert!(self.0.is_null());
        ok(unsafe { gesso_model_free(&raw mut self.0) });
    }
}

pub(crate) fn noise(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

pub(crate) const SHAPE: [i64; 4] = [1, 16, 8, 8];

pub(crate) fn input<T>(
    name: &CStr,
    data: &[T],
    shape: &[i64],
    strides: Option<&[i64]>,
    dtype: GessoDtype,
) -> GessoInput {
    GessoInput {
        name: name.as_ptr(),
        data: data.as_ptr().cast::<c_void>(),
        bytes: size_of_val(data),
        shape: shape.as_ptr(),
        strides: strides.map_or(null(), <[i64]>::as_ptr),
        rank: shape.len(),
        dtype: dtype as i32,
    }
}

pub(crate) fn output<T>(
    name: &CStr,
    data: &mut [T],
    shape: &[i64],
    strides: Option<&[i64]>,
    dtype: GessoDtype,
) -> GessoOutput {
    GessoOutput {
        name: name.as_ptr(),
        data: data.as_mut_ptr().cast::<c_void>(),
        bytes: size_of_val(data),
        shape: shape.as_ptr(),
        strides: strides.map_or(null(), <[i64]>::as_ptr),
        rank: shape.len(),
        dtype: dtype as i32,
    }
}

pub(crate) fn predict(
    model: &Loaded,
    input: &GessoInput,
    output: &GessoOutput,
    options: *const GessoOptions,
) -> GessoStatus {
    unsafe { gesso_predict(model.0, null(), input, 1, output, 1, options, null()) }
}

/// The engine's own answer.
pub(crate) fn engine(name: &str, x: &[f32], options: &RunOptions) -> Vec<f32> {
    let path = sample(name);
    let package = Package::open(Path::new(path.to_str().unwrap())).unwrap();
    let inputs = BTreeMap::from([("x".to_string(), Tensor::f32(&[1, 16, 8, 8], x.to_vec()))]);
    let results = Model::load(&package)
        .unwrap()
        .predict(None, &inputs, options)
        .unwrap();
    results["fc"].as_f32().unwrap().to_vec()
}

pub(crate) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}
