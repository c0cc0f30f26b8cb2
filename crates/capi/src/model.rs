//! Models: loading, freeing, and what their functions take and give.

use std::ffi::{CString, c_char};
use std::path::Path;

use gesso_coreml::compiled::CompiledModel;
use gesso_coreml::package::Package;
use gesso_coreml::proto::specification::ModelDescription;
use gesso_engine::{Feature, Model};
use gesso_mil::Dim;

use crate::buffer::GessoDtype;
use crate::pointer::{hand_out, optional_text, read, take_back, text, write};
use crate::status::{Failure, GessoStatus, Outcome, guard};

/// A loaded model. Any number of threads may use it at the same time.
#[derive(Debug)]
pub struct GessoModel {
    pub(crate) engine: Model,
    pub(crate) description: ModelDescription,
    functions: Vec<Function>,
    default_function: CString,
}

/// Which features of a function.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GessoKind {
    /// Inputs.
    Input = 0,
    /// Outputs.
    Output = 1,
    /// States.
    State = 2,
}

/// An input, output or state. Its pointers belong to what it was asked of, and live as long.
#[repr(C)]
#[derive(Debug)]
pub struct GessoFeature {
    /// Name, UTF-8.
    pub name: *const c_char,
    /// `rank` sizes, outermost first; -1 for one that is not fixed.
    pub shape: *const i64,
    /// Number of dimensions.
    pub rank: usize,
    /// The `GessoDtype` that holds its values; integers of any width and booleans are `I32`.
    pub dtype: i32,
    /// 1 when an input may be left out, else 0.
    pub optional: i32,
    /// What every element of an input that is left out is.
    pub default_value: f64,
}

#[derive(Debug)]
struct Function {
    name: CString,
    inputs: Vec<Entry>,
    outputs: Vec<Entry>,
    states: Vec<Entry>,
}

/// A feature with everything that C points to.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: CString,
    pub(crate) shape: Vec<i64>,
    dtype: GessoDtype,
    default: Option<f32>,
}

impl Entry {
    pub(crate) fn new(feature: &Feature) -> Outcome<Self> {
        let sizes = feature.ty.dims.iter().map(|dim| match dim {
            Dim::Fixed(n) => i64::try_from(*n).unwrap_or(i64::MAX),
            Dim::Unknown { .. } => -1,
        });
        Ok(Self {
            name: c_string(&feature.name)?,
            shape: sizes.collect(),
            dtype: GessoDtype::suiting(feature.ty.dtype),
            default: feature.default,
        })
    }

    pub(crate) fn feature(&self) -> GessoFeature {
        GessoFeature {
            name: self.name.as_ptr(),
            shape: self.shape.as_ptr(),
            rank: self.shape.len(),
            dtype: self.dtype as i32,
            optional: i32::from(self.default.is_some()),
            default_value: self.default.unwrap_or_default().into(),
        }
    }
}

impl GessoModel {
    fn open(path: &Path) -> Outcome<Self> {
        if !path.exists() {
            let text = format!("`{}` is not there", path.display());
            return Err(Failure::new(GessoStatus::Io, text));
        }
        if path.join("coremldata.bin").is_file() {
            let compiled = CompiledModel::open(path)?;
            let engine = Model::load_compiled(&compiled)?;
            return Self::new(engine, compiled.header.description);
        }
        let package = Package::open(path)?;
        let engine = Model::load(&package)?;
        Self::new(engine, package.model.description.unwrap_or_default())
    }

    fn new(engine: Model, description: ModelDescription) -> Outcome<Self> {
        let entries =
            |features: &[Feature]| features.iter().map(Entry::new).collect::<Outcome<Vec<_>>>();
        let functions = engine
            .functions()
            .map(|name| {
                Ok(Function {
                    name: c_string(name)?,
                    inputs: entries(engine.inputs(Some(name))?)?,
                    outputs: entries(engine.outputs(Some(name))?)?,
                    states: entries(engine.states(Some(name))?)?,
                })
            })
            .collect::<Outcome<_>>()?;
        Ok(Self {
            functions,
            default_function: c_string(engine.default_function())?,
            engine,
            description,
        })
    }

    /// Features of a function; `None` = the default function.
    fn entries(&self, function: Option<&str>, kind: i32) -> Outcome<&[Entry]> {
        // Also refuses a name that is not there.
        self.engine.inputs(function)?;
        let name = function.unwrap_or(self.engine.default_function());
        let found = self
            .functions
            .iter()
            .find(|f| f.name.to_bytes() == name.as_bytes());
        match (kind, found) {
            (k, Some(f)) if k == GessoKind::Input as i32 => Ok(&f.inputs),
            (k, Some(f)) if k == GessoKind::Output as i32 => Ok(&f.outputs),
            (k, Some(f)) if k == GessoKind::State as i32 => Ok(&f.states),
            _ => {
                let text = format!("kind {kind} is none of `GessoKind`");
                Err(Failure::new(GessoStatus::Argument, text))
            }
        }
    }
}

pub(crate) fn c_string(text: &str) -> Outcome<CString> {
    CString::new(text).map_err(|_| {
        let text = format!("the name {text:?} holds a NUL");
        Failure::new(GessoStatus::Format, text)
    })
}

pub(crate) fn at<'a, T>(list: &'a [T], index: usize, what: &str) -> Outcome<&'a T> {
    list.get(index).ok_or_else(|| {
        let text = format!("no {what} {index}; there are {}", list.len());
        Failure::new(GessoStatus::Name, text)
    })
}

/// Loads a package (`.mlpackage`) or a compiled model (`.mlmodelc`). Its files must stay as they are until it is freed.
///
/// Fails with `IO`, `FORMAT`, and `UNSUPPORTED` for ops without a kernel.
///
/// # Safety
///
/// `path` ends with NUL; `model` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gesso_model_load(
    path: *const c_char,
    model: *mut *mut GessoModel,
) -> GessoStatus {
    guard(|| {
        // SAFETY: the caller's promise.
        unsafe {
            write(model, std::ptr::null_mut(), "model")?;
            let path = text(path, "path")?;
            hand_out(model, GessoModel::open(Path::new(path))?, "model")
        }
    })
}

/// Frees a model and sets the variable to null; null is fine.
///
/// # Safety
///
/// `model` is null or points to null or to a model that no other thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gesso_model_free(model: *mut *mut GessoModel) -> GessoStatus {
    guard(|| {
        // SAFETY: the caller's promise.
        drop(unsafe { take_back(model) });
        Ok(())
    })
}

/// Number of functions.
///
/// # Safety
///
/// `model` is a model; `count` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gesso_model_function_count(
    model: *const GessoModel,
    count: *mut usize,
) -> GessoStatus {
    guard(|| {
        // SAFETY: the caller's promise.
        unsafe { write(count, read(model, "model")?.functions.len(), "count") }
    })
}

/// Name of a function; they are sorted. It belongs to the model.
///
/// # Safety
///
/// `model` is a model; `name` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gesso_model_function(
    model: *const GessoModel,
    index: usize,
    name: *mut *const c_char,
) -> GessoStatus {
    guard(|| {
        // SAFETY: the caller's promise.
        unsafe {
            let function = at(&read(model, "model")?.functions, index, "function")?;
            write(name, function.name.as_ptr(), "name")
        }
    })
}

/// Name of the function that runs when none is named. It belongs to the model.
///
/// # Safety
///
/// `model` is a model; `name` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gesso_model_default_function(
    model: *const GessoModel,
    name: *mut *const c_char,
) -> GessoStatus {
    guard(|| {
        // SAFETY: the caller's promise.
        unsafe {
            write(
                name,
                read(model, "model")?.default_function.as_ptr(),
                "name",
            )
        }
    })
}

/// Number of inputs, outputs or states of a function; `kind` is a `GessoKind`, and null is the default function.
///
/// # Safety
///
/// `model` is a model; `function` is null or ends with NUL; `count` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gesso_model_feature_count(
    model: *const GessoModel,
    function: *const c_char,
    kind: i32,
    count: *mut usize,
) -> GessoStatus {
    guard(|| {
        // SAFETY: the caller's promise.
        unsafe {
            let function = optional_text(function, "function")?;
            let entries = read(model, "model")?.entries(function, kind)?;
            write(count, entries.len(), "count")
        }
    })
}

/// An input, output or state of a function, in the function's order; `kind` is a `GessoKind`, and null is the default
/// function. What `feature` points to belongs to the model.
///
/// # Safety
///
/// `model` is a model; `function` is null or ends with NUL; `feature` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gesso_model_feature(
    model: *const GessoModel,
    function: *const c_char,
    kind: i32,
    index: usize,
    feature: *mut GessoFeature,
) -> GessoStatus {
    guard(|| {
        // SAFETY: the caller's promise.
        unsafe {
            let function = optional_text(function, "function")?;
            let entries = read(model, "model")?.entries(function, kind)?;
            write(feature, at(entries, index, "feature")?.feature(), "feature")
        }
    })
}
