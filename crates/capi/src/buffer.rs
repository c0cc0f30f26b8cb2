//! The caller's buffers, and the conversion of their elements on the way in and out.

use std::ffi::{c_char, c_void};

use gesso_engine::{Data, Feature, Tensor};
use gesso_mil::DType;
use half::f16;

use crate::layout::Layout;
use crate::pointer::{slice, text};
use crate::status::{Failure, GessoStatus, Outcome};

/// Element type of a buffer.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GessoDtype {
    /// 32-bit float.
    F32 = 1,
    /// 16-bit float, IEEE binary16.
    F16 = 2,
    /// 64-bit float.
    F64 = 3,
    /// 32-bit signed integer; for booleans 0 and 1.
    I32 = 4,
}

/// A buffer that holds an input or goes into a state, in the byte order of the machine; it is only read, and need not be aligned.
///
/// What takes floats takes floats of any width and integers, each rounded to 32 bits; what takes integers takes integers, and
/// what takes booleans integers of which 0 is false.
#[repr(C)]
#[derive(Debug)]
pub struct GessoInput {
    /// Name of the input or state.
    pub name: *const c_char,
    /// First element.
    pub data: *const c_void,
    /// Length of the buffer in bytes.
    pub bytes: usize,
    /// `rank` sizes, outermost first; may be null when `rank` is 0.
    pub shape: *const i64,
    /// `rank` strides in elements, none negative; null for row-major without gaps.
    pub strides: *const i64,
    /// Number of dimensions.
    pub rank: usize,
    /// A `GessoDtype`.
    pub dtype: i32,
}

/// A buffer that an output or a state is written to, in the byte order of the machine; it need not be aligned.
///
/// A float is rounded to the float type of the buffer, ties to even; integers and booleans go into buffers of
/// integers, or of 32-bit or 64-bit floats. Bytes between the elements stay as they are.
#[repr(C)]
#[derive(Debug)]
pub struct GessoOutput {
    /// Name of the output or state.
    pub name: *const c_char,
    /// First element.
    pub data: *mut c_void,
    /// Length of the buffer in bytes.
    pub bytes: usize,
    /// `rank` sizes, outermost first; may be null when `rank` is 0.
    pub shape: *const i64,
    /// `rank` strides in elements, none negative, and none 0 where the size is above 1; null for row-major without gaps.
    pub strides: *const i64,
    /// Number of dimensions.
    pub rank: usize,
    /// A `GessoDtype`.
    pub dtype: i32,
}

/// Highest number of dimensions of a buffer.
const HIGHEST_RANK: usize = 32;

impl GessoDtype {
    pub(crate) fn of(number: i32) -> Option<Self> {
        [Self::F32, Self::F16, Self::F64, Self::I32]
            .into_iter()
            .find(|d| *d as i32 == number)
    }

    /// How values of a program's type are best given and taken.
    pub(crate) fn suiting(dtype: DType) -> Self {
        match dtype {
            DType::Fp16 => Self::F16,
            DType::Fp64 => Self::F64,
            d if d.is_float() => Self::F32,
            _ => Self::I32,
        }
    }

    pub(crate) fn size(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::F64 => 8,
        }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::F64 => "f64",
            Self::I32 => "i32",
        }
    }
}

fn not_null(data: *const c_void, count: usize) -> Outcome {
    if data.is_null() && count > 0 {
        return Err(Failure::new(GessoStatus::NullPointer, "`data` is null"));
    }
    Ok(())
}

fn unknown(name: &str, what: &str, known: &[Feature]) -> Failure {
    let known: Vec<String> = known.iter().map(|f| format!("`{}`", f.name)).collect();
    let text = format!("no {what} `{name}`; there is {}", known.join(", "));
    Failure::new(GessoStatus::Name, text)
}

/// The name and the tensor of an input, or of whatever `what` says.
///
/// # Safety
///
/// The pointers of `input` are null or as its fields say.
pub(crate) unsafe fn tensor(
    input: &GessoInput,
    features: &[Feature],
    what: &str,
) -> Outcome<(String, Tensor)> {
    // SAFETY: the caller's promise.
    let name = unsafe { text(input.name, "name") }?;
    let feature = features
        .iter()
        .find(|f| f.name == name)
        .ok_or_else(|| unknown(name, what, features))?;
    let place = format!("{what} `{name}`");
    // SAFETY: the caller's promise.
    let layout = unsafe {
        layout(
            input.shape,
            input.strides,
            input.rank,
            input.dtype,
            input.bytes,
            false,
        )
    }
    .map_err(|e| e.at(&place))?;
    layout.check_dims(feature)?;
    not_null(input.data, layout.count).map_err(|e| e.at(&place))?;
    let declared = feature.ty.dtype;
    // SAFETY: the layout was checked for this buffer, and T is the type that its dtype names.
    let data = unsafe {
        match (layout.dtype, declared) {
            (GessoDtype::F32, d) if d.is_float() => {
                Data::F32(layout.gather(input.data, |v: f32| v)?)
            }
            (GessoDtype::F16, d) if d.is_float() => {
                Data::F32(layout.gather(input.data, |v: u16| f16::from_bits(v).to_f32())?)
            }
            (GessoDtype::F64, d) if d.is_float() => {
                Data::F32(layout.gather(input.data, |v: f64| v as f32)?)
            }
            (GessoDtype::I32, d) if d.is_float() => {
                Data::F32(layout.gather(input.data, |v: i32| v as f32)?)
            }
            (GessoDtype::I32, DType::Bool) => {
                Data::Bool(layout.gather(input.data, |v: i32| v != 0)?)
            }
            (GessoDtype::I32, _) => Data::I32(layout.gather(input.data, |v: i32| v)?),
            _ => return Err(layout.unfit(name, &feature.ty.to_string())),
        }
    };
    let shape = layout.shape;
    Ok((name.to_string(), Tensor { shape, data }))
}

/// A buffer for an output that was checked against the declared type.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) name: String,
    layout: Layout,
    data: *mut c_void,
}

impl Target {
    /// Checks a buffer.
    ///
    /// # Safety
    ///
    /// The pointers of `output` are null or as its fields say.
    pub(crate) unsafe fn new(
        output: &GessoOutput,
        features: &[Feature],
        what: &str,
    ) -> Outcome<Self> {
        // SAFETY: the caller's promise.
        let name = unsafe { text(output.name, "name") }?;
        let feature = features
            .iter()
            .find(|f| f.name == name)
            .ok_or_else(|| unknown(name, what, features))?;
        let place = format!("{what} `{name}`");
        // SAFETY: the caller's promise.
        let layout = unsafe {
            layout(
                output.shape,
                output.strides,
                output.rank,
                output.dtype,
                output.bytes,
                true,
            )
        }
        .map_err(|e| e.at(&place))?;
        layout.check_dims(feature)?;
        not_null(output.data, layout.count).map_err(|e| e.at(&place))?;
        let fits = match layout.dtype {
            GessoDtype::F16 => feature.ty.dtype.is_float(),
            GessoDtype::I32 => !feature.ty.dtype.is_float(),
            GessoDtype::F32 | GessoDtype::F64 => true,
        };
        if !fits {
            return Err(layout.unfit(name, &feature.ty.to_string()));
        }
        Ok(Self {
            name: name.to_string(),
            layout,
            data: output.data,
        })
    }

    /// Writes a value.
    ///
    /// # Safety
    ///
    /// The buffer is still there and nobody else uses it.
    pub(crate) unsafe fn fill(&self, tensor: &Tensor) -> Outcome {
        let unfit = || {
            self.layout.unfit(
                &self.name,
                &format!("{} {:?}", tensor.data.word(), tensor.shape),
            )
        };
        if tensor.shape != self.layout.shape || tensor.data.len() != self.layout.count {
            return Err(unfit());
        }
        let (layout, data) = (&self.layout, self.data);
        // SAFETY: the layout was checked for this buffer, and what is written has the type that its dtype names.
        unsafe {
            match (&tensor.data, layout.dtype) {
                (Data::F32(v), GessoDtype::F32) => layout.scatter(data, v, |x| x),
                (Data::F32(v), GessoDtype::F16) => {
                    layout.scatter(data, v, |x| f16::from_f32(x).to_bits());
                }
                (Data::F32(v), GessoDtype::F64) => layout.scatter(data, v, f64::from),
                (Data::I32(v), GessoDtype::I32) => layout.scatter(data, v, |x| x),
                (Data::I32(v), GessoDtype::F32) => layout.scatter(data, v, |x| x as f32),
                (Data::I32(v), GessoDtype::F64) => layout.scatter(data, v, f64::from),
                (Data::Bool(v), GessoDtype::I32) => layout.scatter(data, v, i32::from),
                (Data::Bool(v), GessoDtype::F32) => {
                    layout.scatter(data, v, |x| f32::from(u8::from(x)));
                }
                (Data::Bool(v), GessoDtype::F64) => {
                    layout.scatter(data, v, |x| f64::from(u8::from(x)));
                }
                _ => return Err(unfit()),
            }
        }
        Ok(())
    }
}

/// Reads the arrays of a buffer and checks it.
///
/// # Safety
///
/// `shape` and `strides` are null or have `rank` elements.
unsafe fn layout(
    shape: *const i64,
    strides: *const i64,
    rank: usize,
    dtype: i32,
    bytes: usize,
    writes: bool,
) -> Outcome<Layout> {
    if rank > HIGHEST_RANK {
        let text = format!("rank {rank} is above {HIGHEST_RANK}");
        return Err(Failure::new(GessoStatus::Argument, text));
    }
    // SAFETY: the caller's promise.
    let (shape, strides) = unsafe {
        let strides = (!strides.is_null()).then(|| slice(strides, rank, "strides"));
        (slice(shape, rank, "shape")?, strides.transpose()?)
    };
    Layout::new(shape, strides, dtype, bytes, writes)
}
