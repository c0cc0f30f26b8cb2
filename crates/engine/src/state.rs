//! States: what a model keeps between predictions.

use crate::call::{Call, Operand};
use crate::error::nearest;
use crate::plan::Plan;
use crate::tensor::{Array, Buffer, Class, Tensor};
use crate::{Error, Result};
use gesso_mil::{DType, TensorType, ValueType};
use std::collections::BTreeMap;

/// The buffers of the states of one function, zero at first.
///
/// A value that is stored takes the declared dtype, in every compute mode: into fp16 it is rounded to the nearest, ties to
/// even, and becomes infinite above 65504. A prediction needs the state for itself (`&mut`); two predictions with one
/// state come one after the other. A prediction that fails leaves it as it was.
#[derive(Clone, Debug)]
pub struct State {
    pub(crate) buffers: BTreeMap<String, Held>,
}

/// One buffer.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) ty: TensorType,
    pub(crate) array: Array,
}

impl State {
    /// Buffers of zeros.
    ///
    /// Errors: [`Error::Unsupported`] for a type without a fixed shape.
    pub(crate) fn zeros(states: &[(String, TensorType)]) -> Result<Self> {
        let mut buffers = BTreeMap::new();
        for (name, ty) in states {
            let (Some(count), Some(shape)) = (ty.count(), ty.shape()) else {
                return Err(refused(name, ty));
            };
            let array = if ty.dtype.is_float() {
                Array::f32(&shape, vec![0.0; count])
            } else {
                Array::i32(&shape, vec![0; count])
            };
            let ty = ty.clone();
            buffers.insert(name.clone(), Held { ty, array });
        }
        Ok(Self { buffers })
    }

    /// Names and types of the buffers, by name.
    pub fn types(&self) -> impl Iterator<Item = (&str, &TensorType)> {
        self.buffers.iter().map(|(n, held)| (n.as_str(), &held.ty))
    }

    /// What a buffer holds: floats as f32, integers as i32.
    ///
    /// Errors: [`Error::UnknownState`].
    pub fn read(&self, name: &str) -> Result<Tensor> {
        match self.buffers.get(name) {
            Some(held) => Ok(held.array.clone().into()),
            None => Err(self.unknown(name)),
        }
    }

    /// Replaces what a buffer holds.
    ///
    /// Errors: [`Error::UnknownState`]; [`Error::StateType`] for another shape or class than declared, and for an integer
    /// that the declared dtype does not hold.
    pub fn write(&mut self, name: &str, tensor: &Tensor) -> Result<()> {
        let Some(held) = self.buffers.get_mut(name) else {
            return Err(self.unknown(name));
        };
        let array = Array::from(tensor.clone());
        let fits = array.class() == held.array.class()
            && array.shape == held.array.shape
            && array.len() == held.array.len();
        let stored = if fits { stored(&held.ty, array) } else { None };
        held.array = stored.ok_or_else(|| Error::StateType {
            name: name.into(),
            expected: held.ty.to_string(),
            found: format!("{} {:?}", tensor.data.word(), tensor.shape),
        })?;
        Ok(())
    }

    fn unknown(&self, name: &str) -> Error {
        let names = || self.buffers.keys().map(String::as_str);
        Error::UnknownState {
            name: name.into(),
            known: names().map(str::to_string).collect(),
            nearest: nearest(name, names()),
        }
    }

    /// The buffers that a function needs, in its order.
    ///
    /// Errors: [`Error::MissingState`], [`Error::StateType`].
    pub(crate) fn arrays(&self, function: &str, plan: &Plan) -> Result<Vec<Array>> {
        let mut arrays = Vec::with_capacity(plan.states.len());
        for (name, ty) in &plan.states {
            let held = self.buffers.get(name).ok_or_else(|| Error::MissingState {
                function: function.into(),
                name: name.clone(),
            })?;
            if held.ty != *ty {
                return Err(Error::StateType {
                    name: name.clone(),
                    expected: ty.to_string(),
                    found: held.ty.to_string(),
                });
            }
            arrays.push(held.array.clone());
        }
        Ok(arrays)
    }

    /// Takes what [`State::arrays`] gave and a prediction changed.
    pub(crate) fn put(&mut self, plan: &Plan, arrays: Vec<Array>) {
        for ((name, _), array) in plan.states.iter().zip(arrays) {
            if let Some(held) = self.buffers.get_mut(name) {
                held.array = array;
            }
        }
    }
}

fn refused(name: &str, ty: &dyn std::fmt::Display) -> Error {
    Error::Unsupported {
        name: name.into(),
        what: format!("a state of type {ty}"),
    }
}

/// The type of the tensor in a state.
///
/// Errors: [`Error::Unsupported`] for what Core ML has no states of: dtypes other than fp16, int8 and, in programs that are
/// not serialized, fp32 and int32; sizes that are not fixed.
pub(crate) fn held(name: &str, inner: &ValueType) -> Result<TensorType> {
    const DTYPES: [DType; 4] = [DType::Fp16, DType::Fp32, DType::Int8, DType::Int32];
    match inner {
        ValueType::Tensor(ty) if DTYPES.contains(&ty.dtype) && ty.count().is_some() => {
            Ok(ty.clone())
        }
        other => Err(refused(name, other)),
    }
}

/// An array as a state of this type keeps it; `None` when it is of another class or an integer does not fit.
fn stored(ty: &TensorType, mut array: Array) -> Option<Array> {
    if Class::of(ty.dtype) != Some(array.class()) {
        return None;
    }
    match (&array.buffer, ty.dtype) {
        (Buffer::I32(v), DType::Int8) if v.iter().any(|&x| i8::try_from(x).is_err()) => None,
        (_, DType::Fp16) => {
            crate::run::round(&mut array);
            Some(array)
        }
        _ => Some(array),
    }
}

/// Binds what a state holds to the op that reads it.
pub(crate) fn read(states: &[Array], state: usize, call: &mut Call<'_>) {
    if let Some(array) = states.get(state) {
        let operand = Operand::Array(array.clone());
        call.operands.insert("input", vec![operand]);
    }
}

/// Puts what an op gives into a state, and returns it as it is stored.
///
/// Errors: [`Error::Op`] for a value that the state cannot hold.
pub(crate) fn write(
    plan: &Plan,
    states: &mut [Array],
    state: usize,
    call: &Call<'_>,
    outputs: Vec<Array>,
) -> Result<Vec<Array>> {
    let (Some((name, ty)), Some(place)) = (plan.states.get(state), states.get_mut(state)) else {
        return Err(call.wrong("writes a state that the function does not have"));
    };
    let mut kept = Vec::with_capacity(1);
    for array in outputs {
        let (class, shape) = (array.class(), array.shape.clone());
        let fits = shape == place.shape;
        let array = if fits { stored(ty, array) } else { None };
        let array = array.ok_or_else(|| {
            call.wrong(format!(
                "state `{name}` is declared {ty}; {class:?} {shape:?} does not fit into it"
            ))
        })?;
        *place = array.clone();
        kept.push(array);
    }
    Ok(kept)
}
