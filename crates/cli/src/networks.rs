//! The networks of a converted folder, run by the engine for the sampling loop.

use crate::base::Base;
use anyhow::Context;
use gesso_convert::adapter::{Factors, SlotTensor, stack};
use gesso_engine::{Model, RunOptions, Tensor};
use gesso_pipeline::{BoxError, Networks};
use std::collections::BTreeMap;

/// Inputs by name.
pub(crate) type Inputs = BTreeMap<String, Tensor>;

/// Text encoder, UNet and VAE decoder, with the adapters in their slots.
pub(crate) struct EngineNetworks {
    text_encoder: Model,
    unet: Model,
    decoder: Model,
    options: RunOptions,
    /// Slot inputs of the text encoder and of the UNet.
    text_slots: Inputs,
    unet_slots: Inputs,
}

impl EngineNetworks {
    /// Loads the plain packages, or the adaptable ones for the components that `adapters` touch.
    ///
    /// Strengths: one per adapter, already part of what it is stacked with.
    pub(crate) fn load(
        base: &Base,
        adapters: &[(Adapter, f32)],
        options: RunOptions,
    ) -> anyhow::Result<Self> {
        let text_slots = slots(base, "text_encoder", adapters)?;
        let unet_slots = slots(base, "unet", adapters)?;
        let package = |plain: &str, slots: &Inputs| {
            base.model(&format!(
                "{plain}{}",
                if slots.is_empty() { "" } else { "Adaptable" }
            ))
        };
        Ok(Self {
            text_encoder: package("TextEncoder", &text_slots)?,
            unet: package("Unet", &unet_slots)?,
            decoder: base.model("VAEDecoder")?,
            options,
            text_slots,
            unet_slots,
        })
    }

    /// Latent size and width of the text states: shapes of `sample` and `encoder_hidden_states`.
    pub(crate) fn unet_shapes(&self) -> anyhow::Result<(Vec<usize>, Vec<usize>)> {
        let inputs = self.unet.inputs(None)?;
        let shape = |name: &str| {
            let input = inputs.iter().find(|i| i.name == name);
            crate::base::shape(input.with_context(|| format!("the UNet has no input `{name}`"))?)
        };
        Ok((shape("sample")?, shape("encoder_hidden_states")?))
    }

    fn predict(&self, model: &Model, inputs: Inputs, output: &str) -> Result<Vec<f32>, BoxError> {
        let mut outputs = model.predict(None, &inputs, &self.options)?;
        let only = outputs.len() == 1;
        let tensor = outputs
            .remove(output)
            // The name of an only output is free, as for Apple's package.
            .or_else(|| outputs.pop_first().filter(|_| only).map(|(_, t)| t))
            .ok_or_else(|| format!("the package has no output `{output}`"))?;
        Ok(tensor
            .as_f32()
            .ok_or_else(|| format!("output `{output}` is not a float array"))?
            .to_vec())
    }
}

impl Networks for EngineNetworks {
    fn encode_text(&mut self, ids: &[i32]) -> Result<Vec<f32>, BoxError> {
        let mut inputs = self.text_slots.clone();
        let ids: Vec<f32> = ids.iter().map(|&i| i as f32).collect();
        let name = only_input(&self.text_encoder, "input_ids")?;
        inputs.insert(name, Tensor::f32(&[1, ids.len()], ids));
        self.predict(&self.text_encoder, inputs, "last_hidden_state")
    }

    fn predict_noise(
        &mut self,
        sample: &[f32],
        timestep: f32,
        states: &[f32],
    ) -> Result<Vec<f32>, BoxError> {
        let (sample_shape, states_shape) = self.unet_shapes()?;
        let mut inputs = self.unet_slots.clone();
        let batch = sample_shape.first().copied().unwrap_or(2);
        inputs.insert("sample".into(), Tensor::f32(&sample_shape, sample.to_vec()));
        inputs.insert(
            "timestep".into(),
            Tensor::f32(&[batch], vec![timestep; batch]),
        );
        inputs.insert(
            "encoder_hidden_states".into(),
            Tensor::f32(&states_shape, states.to_vec()),
        );
        self.predict(&self.unet, inputs, "noise_pred")
    }

    fn decode(&mut self, latent: &[f32]) -> Result<Vec<f32>, BoxError> {
        let (sample, _) = self.unet_shapes()?;
        let shape = [1, sample[1], sample[2], sample[3]];
        let name = only_input(&self.decoder, "z")?;
        let inputs = Inputs::from([(name, Tensor::f32(&shape, latent.to_vec()))]);
        self.predict(&self.decoder, inputs, "image")
    }
}

/// The name of a model's input: `usual` where it is there, else that of its only input, which is free as for Apple's package.
fn only_input(model: &Model, usual: &str) -> Result<String, BoxError> {
    let inputs = model.inputs(None)?;
    match inputs {
        _ if inputs.iter().any(|i| i.name == usual) => Ok(usual.to_string()),
        [one] => Ok(one.name.clone()),
        _ => Err(format!(
            "the model has {} inputs and none is called `{usual}`",
            inputs.len()
        )
        .into()),
    }
}

/// The factors of one adapter by component.
pub(crate) type Adapter = BTreeMap<String, Factors>;

/// The slot inputs of one component; empty when no adapter touches it.
pub(crate) fn slots(
    base: &Base,
    component: &str,
    adapters: &[(Adapter, f32)],
) -> anyhow::Result<Inputs> {
    let touching: Vec<(&Factors, f32)> = adapters
        .iter()
        .filter_map(|(a, strength)| Some((a.get(component)?, *strength)))
        .collect();
    if touching.is_empty() {
        return Ok(Inputs::new());
    }
    let table = base
        .slots
        .get(component)
        .with_context(|| format!("the base has no slots in its {component}"))?;
    let stacked: BTreeMap<String, SlotTensor> = stack(&touching, table)?;
    Ok(stacked
        .into_iter()
        .map(|(name, t)| (name, Tensor::f32(&t.shape, t.data)))
        .collect())
}
