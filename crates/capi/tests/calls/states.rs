//! States through the C functions: the sample does `acc += x; y = 2 acc` on fp16 [1, 8].

use std::ffi::{CStr, c_char, c_void};
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use gesso::*;
use half::f16;

use crate::rig::*;

const ACC: [i64; 2] = [1, 8];

struct Kept(*mut GessoState);
// SAFETY: the header says that any number of threads may use one state.
unsafe impl Sync for Kept {}

impl Kept {
    fn new(model: &Loaded) -> Self {
        let mut state = null_mut();
        ok(unsafe { gesso_state_new(model.0, null(), &raw mut state) });
        Self(state)
    }

    fn values(&self) -> Vec<f32> {
        let mut values = [0f32; 8];
        let target = output(c"acc", &mut values, &ACC, None, GessoDtype::F32);
        ok(unsafe { gesso_state_read(self.0, &raw const target) });
        values.to_vec()
    }

    fn lock(&self, name: &CStr) -> Result<GessoStateBuffer, GessoStatus> {
        let mut buffer = std::mem::MaybeUninit::uninit();
        match unsafe { gesso_state_lock(self.0, name.as_ptr(), buffer.as_mut_ptr()) } {
            GessoStatus::Ok => Ok(unsafe { buffer.assume_init() }),
            status => Err(status),
        }
    }

    fn unlock(&self, name: &CStr) -> GessoStatus {
        unsafe { gesso_state_unlock(self.0, name.as_ptr()) }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        ok(unsafe { gesso_state_free(&raw mut self.0) });
        assert!(self.0.is_null());
        ok(unsafe { gesso_state_free(&raw mut self.0) });
    }
}

fn step(model: &Loaded, state: &Kept, x: &[f32], y: &mut [f32]) -> GessoStatus {
    let x = input(c"x", x, &ACC, None, GessoDtype::F32);
    let y = output(c"y", y, &ACC, None, GessoDtype::F32);
    unsafe {
        gesso_predict_with_state(
            model.0,
            null(),
            state.0,
            &raw const x,
            1,
            &raw const y,
            1,
            null(),
            null(),
        )
    }
}

#[test]
fn a_state_is_kept_between_predictions() {
    let model = Loaded::new(&sample("stateful_ios18"));
    let state = Kept::new(&model);
    assert_eq!(state.values(), [0.0; 8]);
    let mut y = [0f32; 8];
    let mut acc = [0f32; 8];
    for round in 0..4 {
        let x = noise(8, round);
        for (a, v) in acc.iter_mut().zip(&x) {
            *a = f16::from_f32(*a + *v).to_f32();
        }
        ok(step(&model, &state, &x, &mut y));
        assert_eq!(bits(&y), bits(&acc.map(|a| 2.0 * a)));
        assert_eq!(bits(&state.values()), bits(&acc));
    }
    let x = noise(8, 9);
    let x = input(c"x", &x, &ACC, None, GessoDtype::F32);
    let mut outputs = null_mut();
    ok(unsafe {
        gesso_predict_outputs_with_state(
            model.0,
            null(),
            state.0,
            &raw const x,
            1,
            null(),
            null(),
            &raw mut outputs,
        )
    });
    let target = output(c"y", &mut y, &ACC, None, GessoDtype::F32);
    ok(unsafe { gesso_outputs_copy(outputs, &raw const target) });
    ok(unsafe { gesso_outputs_free(&raw mut outputs) });
    let kept = state.values();
    assert_ne!(kept, acc);
    assert_eq!(y.to_vec(), kept.iter().map(|a| 2.0 * a).collect::<Vec<_>>());
    refused(
        unsafe { gesso_predict(model.0, null(), &raw const x, 1, null(), 0, null(), null()) },
        GessoStatus::MissingInput,
        "needs state `acc`",
    );
    let plain = Kept::new(&Loaded::new(&sample("base_fp16_ios16")));
    refused(
        step(&model, &plain, &[0.0; 8], &mut y),
        GessoStatus::MissingInput,
        "needs state `acc`",
    );
}

#[test]
fn states_are_described() {
    let model = Loaded::new(&sample("stateful_ios18"));
    let mut count = 0;
    ok(unsafe { gesso_model_feature_count(model.0, null(), 2, &raw mut count) });
    assert_eq!(count, 1);
    let mut feature = std::mem::MaybeUninit::<GessoFeature>::uninit();
    ok(unsafe { gesso_model_feature(model.0, null(), 2, 0, feature.as_mut_ptr()) });
    let feature = unsafe { feature.assume_init() };
    assert_eq!(unsafe { CStr::from_ptr(feature.name) }, c"acc");
    assert_eq!(feature.dtype, GessoDtype::F16 as i32);
    assert_eq!(
        unsafe { std::slice::from_raw_parts(feature.shape, feature.rank) },
        ACC
    );
    let mut json: *mut c_char = null_mut();
    ok(unsafe { gesso_model_describe(model.0, &raw mut json) });
    let text = unsafe { CStr::from_ptr(json) }
        .to_str()
        .unwrap()
        .to_string();
    ok(unsafe { gesso_string_free(&raw mut json) });
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        value["functions"][0]["states"],
        serde_json::json!([{"name": "acc", "dtype": "fp16", "shape": [1, 8], "optional": false, "default": null, "description": ""}])
    );
    assert_eq!(
        value["functions"][0]["inputs"].as_array().map(Vec::len),
        Some(1)
    );
}

#[test]
fn a_locked_buffer_is_the_states_memory() {
    let model = Loaded::new(&sample("stateful_ios18"));
    let state = Kept::new(&model);
    let start: Vec<f64> = (0..8).map(|i| 0.1 * f64::from(i)).collect();
    let given = input(c"acc", &start, &ACC, None, GessoDtype::F64);
    ok(unsafe { gesso_state_write(state.0, &raw const given) });
    let buffer = state.lock(c"acc").unwrap();
    assert_eq!((buffer.bytes, buffer.rank), (16, 2));
    assert_eq!(buffer.dtype, GessoDtype::F16 as i32);
    let pair = |p| unsafe { std::slice::from_raw_parts(p, 2) };
    assert_eq!(
        (pair(buffer.shape), pair(buffer.strides)),
        (&ACC[..], &[8i64, 1][..])
    );
    let halves = unsafe { std::slice::from_raw_parts_mut(buffer.data.cast::<u16>(), 8) };
    for (i, (half, value)) in halves.iter_mut().zip(&start).enumerate() {
        assert_eq!(*half, f16::from_f32(*value as f32).to_bits());
        *half = f16::from_f32(i as f32).to_bits();
    }
    let mut y = [0f32; 8];
    refused(
        step(&model, &state, &[1.0; 8], &mut y),
        GessoStatus::Busy,
        "this thread holds state `acc`",
    );
    assert_eq!(state.lock(c"acc").unwrap_err(), GessoStatus::Busy);
    let target = output(c"acc", &mut y, &ACC, None, GessoDtype::F32);
    let read = unsafe { gesso_state_read(state.0, &raw const target) };
    refused(read, GessoStatus::Busy, "give it back");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            refused(
                state.unlock(c"acc"),
                GessoStatus::Argument,
                "does not hold state `acc`",
            );
        });
    });
    ok(state.unlock(c"acc"));
    refused(state.unlock(c"acc"), GessoStatus::Argument, "does not hold");
    ok(step(&model, &state, &[1.0; 8], &mut y));
    let want: Vec<f32> = (0..8u8).map(|i| 2.0 * (f32::from(i) + 1.0)).collect();
    assert_eq!(y.to_vec(), want);
}

#[test]
fn threads_share_a_state_one_after_the_other() {
    let model = Loaded::new(&sample("stateful_ios18"));
    let state = Kept::new(&model);
    let done = AtomicUsize::new(0);
    let buffer = state.lock(c"acc").unwrap();
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let mut y = [0f32; 8];
                    ok(step(&model, &state, &[1.0; 8], &mut y));
                    done.fetch_add(1, Ordering::SeqCst);
                    // A buffer is read and changed while the others wait: 0.5 up, 0.5 down.
                    for change in [0.5, -0.5] {
                        let buffer = state.lock(c"acc").unwrap();
                        let half = unsafe { &mut *buffer.data.cast::<u16>() };
                        *half = f16::from_f32(f16::from_bits(*half).to_f32() + change).to_bits();
                        ok(state.unlock(c"acc"));
                    }
                }
            });
        }
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(done.load(Ordering::SeqCst), 0, "the buffer is held here");
        assert!(!buffer.data.is_null());
        ok(state.unlock(c"acc"));
    });
    assert_eq!(state.values(), [160.0; 8]);
}

#[test]
fn a_state_refuses_what_it_does_not_have() {
    let model = Loaded::new(&sample("stateful_ios18"));
    let mut none = null_mut();
    let new =
        |function: &CStr, state| unsafe { gesso_state_new(model.0, function.as_ptr(), state) };
    refused(
        new(c"nope", &raw mut none),
        GessoStatus::Name,
        "no function `nope`",
    );
    assert!(none.is_null());
    refused(
        new(c"main", null_mut()),
        GessoStatus::NullPointer,
        "`state` is null",
    );
    let state = Kept::new(&model);
    assert_eq!(state.lock(c"ac").unwrap_err(), GessoStatus::Name);
    assert!(message().contains("no state `ac`; there is `acc`"));
    let status = unsafe { gesso_state_lock(state.0, c"acc".as_ptr(), null_mut()) };
    refused(status, GessoStatus::NullPointer, "`buffer`");
    ok(step(&model, &state, &[0.0; 8], &mut [0f32; 8]));
    let values = [0f32; 8];
    let write = |input: GessoInput| unsafe { gesso_state_write(state.0, &raw const input) };
    refused(
        write(input(c"bcc", &values, &ACC, None, GessoDtype::F32)),
        GessoStatus::Name,
        "no state `bcc`",
    );
    refused(
        write(input(c"acc", &values, &[8], None, GessoDtype::F32)),
        GessoStatus::Shape,
        "the buffer is f32 [8]",
    );
    refused(
        write(input(c"acc", &values[1..], &ACC, None, GessoDtype::F32)),
        GessoStatus::Buffer,
        "state `acc`: a buffer of 28",
    );
    let mut ints = [0i32; 8];
    let target = output(c"acc", &mut ints, &ACC, None, GessoDtype::I32);
    refused(
        unsafe { gesso_state_read(state.0, &raw const target) },
        GessoStatus::Shape,
        "i32",
    );
    refused(
        unsafe { gesso_state_read(null(), &raw const target) },
        GessoStatus::NullPointer,
        "`state`",
    );
    let nothing: *const c_void = null();
    refused(
        write(GessoInput {
            data: nothing,
            ..input(c"acc", &values, &ACC, None, GessoDtype::F32)
        }),
        GessoStatus::NullPointer,
        "state `acc`: `data`",
    );
}
