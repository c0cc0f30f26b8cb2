//! A checkpoint with LoRAs merged in.

use crate::built::GENERATED;
use crate::source::{Elements, WeightSource};
use crate::{Error, Result};
use gesso_weights::lora::{Adapter, ResolvedLora};
use gesso_weights::{Checkpoint, Component, StDType};
use std::borrow::Cow;

/// A LoRA to be merged into the weights.
#[derive(Clone, Debug)]
pub struct Baked {
    /// The LoRA, its modules matched with those of the checkpoint.
    pub lora: ResolvedLora,
    /// Strength for the UNet (and for anything that is not the text encoder).
    pub unet_strength: f32,
    /// Strength for the text encoder.
    pub text_encoder_strength: f32,
}

impl Baked {
    /// The strength for `component`.
    pub fn strength(&self, component: Component) -> f32 {
        match component {
            Component::TextEncoder | Component::TextEncoder2 => self.text_encoder_strength,
            _ => self.unet_strength,
        }
    }
}

/// A checkpoint with any number of LoRAs merged in: W + Σ strength · ΔW, each ΔW computed from the pristine W, the sum taken in
/// f32 in the order of the list. A tensor that no LoRA touches is handed through as it lies in the file.
#[derive(Clone, Copy)]
pub struct Merged<'a> {
    checkpoint: &'a Checkpoint,
    loras: &'a [Baked],
    /// Those of one function alone.
    own: &'a [Baked],
}

impl<'a> Merged<'a> {
    /// `checkpoint` with `loras` merged in.
    pub fn new(checkpoint: &'a Checkpoint, loras: &'a [Baked]) -> Self {
        Self {
            checkpoint,
            loras,
            own: &[],
        }
    }

    /// The same with more LoRAs behind the others.
    pub fn with(self, own: &'a [Baked]) -> Self {
        Self { own, ..self }
    }

    /// Whether a LoRA of [`Self::with`] changes the tensor of this External key.
    pub fn is_own(&self, key: &str) -> bool {
        let Some((component, name)) = split_key(key) else {
            return false;
        };
        let module = name.rsplit_once('.').map_or(name, |(module, _)| module);
        let module = (component, module.to_string());
        self.own.iter().any(|baked| {
            baked.strength(component) != 0.0 && baked.lora.modules.contains_key(&module)
        })
    }

    /// What is merged into the tensor `name`, with the strengths, and whether it is a bias.
    fn adapters(&self, component: Component, name: &str) -> (Vec<(&'a Adapter, f32)>, bool) {
        let (module, is_bias) = match name.rsplit_once('.') {
            Some((module, "bias")) => (module, true),
            Some((module, _)) => (module, false),
            None => (name, false),
        };
        let found = self
            .loras
            .iter()
            .chain(self.own)
            .filter_map(|baked| {
                let adapter = baked.lora.modules.get(&(component, module.to_string()))?;
                Some((adapter, baked.strength(component)))
            })
            .filter(|&(_, strength)| strength != 0.0);
        (found.collect(), is_bias)
    }
}

/// Splits an External key into its component and the tensor's name; `None` for generated tensors and unknown components.
pub fn split_key(key: &str) -> Option<(Component, &str)> {
    if key.starts_with(GENERATED) {
        return None;
    }
    let (component, name) = key.split_once(':')?;
    Some((component_of(component)?, name))
}

/// The component of this name.
pub fn component_of(name: &str) -> Option<Component> {
    [
        Component::Unet,
        Component::TextEncoder,
        Component::TextEncoder2,
        Component::Vae,
    ]
    .into_iter()
    .find(|c| c.as_str() == name)
}

impl WeightSource for Merged<'_> {
    fn fetch(&self, key: &str) -> Result<Elements<'_>> {
        let missing = || Error::MissingTensor { key: key.into() };
        let (component, name) = split_key(key).ok_or_else(missing)?;
        let tensor = self
            .checkpoint
            .component(component)
            .and_then(|tensors| tensors.get(name))
            .ok_or_else(missing)?;
        let (adapters, is_bias) = self.adapters(component, name);
        if adapters.is_empty() && tensor.dtype == StDType::F16 {
            return Ok(Elements::F16(Cow::Borrowed(tensor.bytes)));
        }
        let pristine = tensor.to_f32();
        if adapters.is_empty() {
            return Ok(Elements::F32(pristine));
        }
        let mut merged = pristine.to_vec();
        for (adapter, strength) in adapters {
            let delta = if is_bias {
                match adapter.bias_delta(&pristine)? {
                    Some(delta) => delta,
                    None => continue,
                }
            } else {
                adapter.delta(&pristine, tensor.shape)?
            };
            if delta.len() != merged.len() {
                return Err(Error::Elements {
                    key: key.into(),
                    expected: merged.len(),
                    found: delta.len(),
                });
            }
            for (w, d) in merged.iter_mut().zip(&delta) {
                *w += strength * d;
            }
        }
        Ok(Elements::F32(Cow::Owned(merged)))
    }

    fn is_merged(&self, key: &str) -> bool {
        split_key(key).is_some_and(|(component, name)| {
            let (adapters, is_bias) = self.adapters(component, name);
            let changed = |adapter: &Adapter| {
                // A bias that no LoRA of its module changes stays as it is.
                !is_bias || !matches!(adapter.bias_delta(&[]), Ok(None))
            };
            adapters.iter().any(|(adapter, _)| changed(adapter))
        })
    }
}
