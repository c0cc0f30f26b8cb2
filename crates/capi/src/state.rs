//! States of models: made, read, written, lent to the caller.

use std::collections::BTreeMap;
use std::ffi::{c_char, c_void};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use gesso_engine::{Data, Feature, State, Tensor};
use gesso_mil::DType;
use half::f16;

use crate::buffer::{GessoDtype, GessoInput, GessoOutput, Target, tensor};
use crate::model::GessoModel;
use crate::pointer::{hand_out, optional_text, read, take_back, text, write};
use crate::status::{Failure, GessoStatus, Outcome, guard};

/// What a stateful model keeps between predictions: named buffers, zero at first. Independent of the model, which may be
/// freed.
///
/// Any number of threads may use one state: each function that is given it has it for itself, and the others wait. A
/// thread that holds a buffer (`gesso_state_lock`) has the state for itself until it gives its last buffer back.
#[derive(Debug)]
pub struct GessoState {
    inner: Mutex<Inner>,
    given_back: Condvar,
}

#[derive(Debug)]
struct Inner {
    state: State,
    /// Who holds the lent buffers.
    holder: Option<ThreadId>,
    lent: BTreeMap<String, Lent>,
}

/// A buffer in the caller's hands.
#[derive(Debug)]
struct Lent {
    elements: Elements,
    sizes: Vec<usize>,
    shape: Vec<i64>,
    strides: Vec<i64>,
}

#[derive(Debug)]
enum Elements {
    F16(Vec<u16>),
    F32(Vec<f32>),
    I32(Vec<i32>),
}

/// A buffer of a state that was lent. It may be read and written through `data`, and its pointers are good, until it is
/// given back.
#[repr(C)]
#[derive(Debug)]
pub struct GessoStateBuffer {
    /// First element, aligned for its type.
    pub data: *mut c_void,
    /// Length of the buffer in bytes.
    pub bytes: usize,
    /// `rank` sizes, outermost first.
    pub shape: *const i64,
    /// `rank` strides in elements: row-major without gaps.
    pub strides: *const i64,
    /// Number of dimensions.
    pub rank: usize,
    /// A `GessoDtype`: `F16` for a state of 16-bit floats, `I32` for one of integers of any width.
    pub dtype: i32,
}

impl GessoState {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state when no other thread holds a buffer of it.
    fn mine(&self) -> MutexGuard<'_, Inner> {
        let others = |inner: &mut Inner| inner.holder.is_some_and(|h| h != thread::current().id());
        self.given_back
            .wait_while(self.inner(), others)
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Works on the state while nobody else does.
    pub(crate) fn alone<T>(&self, work: impl FnOnce(&mut State) -> Outcome<T>) -> Outcome<T> {
        let mut inner = self.mine();
        match inner.lent.keys().next() {
            Some(name) => Err(busy(name)),
            None => work(&mut inner.state),
        }
    }

    fn lock(&self, name: &str) -> Outcome<GessoStateBuffer> {
        let mut inner = self.mine();
        if inner.lent.contains_key(name) {
            return Err(busy(name));
        }
        let half = inner
            .state
            .types()
            .any(|(known, ty)| known == name && ty.dtype == DType::Fp16);
        let mut lent = Lent::new(inner.state.read(name)?, half);
        let buffer = lent.buffer();
        inner.lent.insert(name.into(), lent);
        inner.holder = Some(thread::current().id());
        Ok(buffer)
    }

    fn unlock(&self, name: &str) -> Outcome {
        let mut inner = self.inner();
        let not_held = || {
            let text = format!("this thread does not hold state `{name}`");
            Failure::new(GessoStatus::Argument, text)
        };
        if inner.holder != Some(thread::current().id()) {
            return Err(not_held());
        }
        let lent = inner.lent.remove(name).ok_or_else(not_held)?;
        let result = inner.state.write(name, &lent.into_tensor());
        if inner.lent.is_empty() {
            inner.holder = None;
            self.given_back.notify_all();
        }
        Ok(result?)
    }
}

fn busy(name: &str) -> Failure {
    let text = format!("this thread holds state `{name}`; give it back first");
    Failure::new(GessoStatus::Busy, text)
}

impl Lent {
    fn new(tensor: Tensor, half: bool) -> Self {
        let mut step = 1i64;
        let mut strides = Vec::with_capacity(tensor.shape.len());
        let shape: Vec<i64> = tensor.shape.iter().map(|&n| n as i64).collect();
        for &size in shape.iter().rev() {
            strides.push(step);
            step = step.saturating_mul(size.max(1));
        }
        strides.reverse();
        let elements = match tensor.data {
            Data::F32(v) if half => {
                Elements::F16(v.iter().map(|&x| f16::from_f32(x).to_bits()).collect())
            }
            Data::F32(v) => Elements::F32(v),
            Data::I32(v) => Elements::I32(v),
            Data::Bool(v) => Elements::I32(v.iter().map(|&b| b.into()).collect()),
        };
        Self {
            elements,
            sizes: tensor.shape,
            shape,
            strides,
        }
    }

    fn buffer(&mut self) -> GessoStateBuffer {
        let (data, count, dtype) = match &mut self.elements {
            Elements::F16(v) => (v.as_mut_ptr().cast(), v.len(), GessoDtype::F16),
            Elements::F32(v) => (v.as_mut_ptr().cast(), v.len(), GessoDtype::F32),
            Elements::I32(v) => (v.as_mut_ptr().cast(), v.len(), GessoDtype::I32),
        };
        GessoStateBuffer {
            data,
            bytes: count * dtype.size(),
            shape: self.shape.as_ptr(),
            strides: self.strides.as_ptr(),
            rank: self.shape.len(),
            dtype: dtype as i32,
        }
    }

    fn into_tensor(self) -> Tensor {
        let data = match self.elements {
            Elements::F16(v) => Data::F32(v.iter().map(|&b| f16::from_bits(b).to_f32()).collect()),
            Elements::F32(v) => Data::F32(v),
            Elements::I32(v) => Data::I32(v),
        };
        Tensor {
            shape: self.sizes,
            data,
        }
    }
}

/// The buffers of a state as features.
fn features(state: &State) -> Vec<Feature> {
    let types = state.types().map(|(name, ty)| Feature {
        name: name.into(),
        ty: ty.clone(),
        default: None,
    });
    types.collect()
}

/// Makes a state for a function, all zeros; null is the default function. For a function without states it is empty.
///
/// Fails with `NAME`.
///
/// # Safety
///
/// `model` is a model; `function` is null or ends with NUL; `state` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gesso_state_new(
    model: *const GessoModel,
    function: *const c_char,
    state: *mut *mut GessoState,
) -> GessoStatus {
    guard(|| {
        // SAFETY: the caller's promise.
        unsafe {
            write(state, std::ptr::null_mut(), "state")?;
            let function = optional_text(function, "function")?;
            let inner = Inner {
                state: read(model, "model")?.engine.make_state(function)?,
                holder: None,
                lent: BTreeMap::new(),
            };
            let made = GessoState {
                inner: Mutex::new(inner),
                given_back: Condvar::new(),
            };
            hand_out(state, made, "state")
        }
    })
}

/// Frees a state and sets the variable to null; null is fine. Buffers that were lent go with it.
///
/// # Safety
///
/// `state` is null or points to null or to a state that no other thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gesso_state_free(state: *mut *mut GessoState) -> GessoStatus {
    guard(|| {
        // SAFETY: the caller's promise.
        drop(unsafe { take_back(state) });
        Ok(())
    })
}

/// Copies the state that `output` names into its buffer.
///
/// Fails with `NAME`, `SHAPE`, `BUFFER`, `ARGUMENT`, `BUSY`.
///
/// # Safety
///
/// `state` is a state; the pointers of `output` are as its fields say.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gesso_state_read(
    state: *const GessoState,
    output: *const GessoOutput,
) -> GessoStatus {
    guard(|| {
        // SAFETY: the caller's promise.
        unsafe {
            let (state, output) = (read(state, "state")?, read(output, "output")?);
            state.alone(|state| {
                let target = Target::new(output, &features(state), "state")?;
                target.fill(&state.read(&target.name)?)
            })
        }
    })
}

/// Copies a buffer into the state that it names. Floats are rounded to what the model declares, 16 bits.
///
/// Fails with `NAME`, `SHAPE`, `BUFFER`, `ARGUMENT`, `BUSY`.
///
/// # Safety
///
/// `state` is a state; the pointers of `input` are as its fields say.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gesso_state_write(
    state: *const GessoState,
    input: *const GessoInput,
) -> GessoStatus {
    guard(|| {
        // SAFETY: the caller's promise.
        unsafe {
            let (state, input) = (read(state, "state")?, read(input, "input")?);
            state.alone(|state| {
                let (name, tensor) = tensor(input, &features(state), "state")?;
                Ok(state.write(&name, &tensor)?)
            })
        }
    })
}

/// Lends the buffer of one state to the calling thread, which gives it back with `gesso_state_unlock`.
///
/// Waits while another thread has the state. Meanwhile the calling thread may lock the other buffers of the state, but
/// neither predict with it nor read or write it (`BUSY`).
///
/// Fails with `NAME`, and with `BUSY` when the calling thread holds this buffer.
///
/// # Safety
///
/// `state` is a state; `name` ends with NUL; `buffer` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gesso_state_lock(
    state: *const GessoState,
    name: *const c_char,
    buffer: *mut GessoStateBuffer,
) -> GessoStatus {
    guard(|| {
        // SAFETY: the caller's promise.
        unsafe {
            if buffer.is_null() {
                let text = "`buffer` is null";
                return Err(Failure::new(GessoStatus::NullPointer, text));
            }
            let lent = read(state, "state")?.lock(text(name, "name")?)?;
            write(buffer, lent, "buffer")
        }
    })
}

/// Gives a buffer back: what it holds is the state's from here on.
///
/// Fails with `ARGUMENT` when the calling thread does not hold it, and with `SHAPE` for an integer that the declared
/// width does not hold; the state is then as it was before.
///
/// # Safety
///
/// `state` is a state; `name` ends with NUL; nobody uses the buffer any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gesso_state_unlock(
    state: *const GessoState,
    name: *const c_char,
) -> GessoStatus {
    guard(|| {
        // SAFETY: the caller's promise.
        unsafe { read(state, "state")?.unlock(text(name, "name")?) }
    })
}
