//! The networks of a converted folder, run by the engine for the sampling loop.

use crate::base::Base;
use anyhow::Context;
use gesso_convert::adapter::{Factors, SlotTensor, stack};
use gesso_engine::{Model, RunOptions, State, Tensor};
use gesso_pipeline::{BoxError, Networks};
use std::collections::BTreeMap;

/// Inputs by name.
pub(crate) type Inputs = BTreeMap<String, Tensor>;

/// Text encoder, UNet and VAE decoder, with the adapters in their slots.
pub(crate) struct EngineNetworks {
    text_encoder: Slotted,
    unet: Slotted,
    decoder: Slotted,
    options: RunOptions,
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
        let network = |plain: &str, component: &str| {
            let slots = slots(base, component, adapters)?;
            let package = format!("{plain}{}", if slots.is_empty() { "" } else { "Adaptable" });
            Slotted::new(base.model(&package)?, slots)
        };
        Ok(Self {
            text_encoder: network("TextEncoder", "text_encoder")?,
            unet: network("Unet", "unet")?,
            decoder: Slotted::new(base.model("VAEDecoder")?, Inputs::new())?,
            options,
        })
    }

    /// Latent size and width of the text states: shapes of `sample` and `encoder_hidden_states`.
    pub(crate) fn unet_shapes(&self) -> anyhow::Result<(Vec<usize>, Vec<usize>)> {
        let inputs = self.unet.model.inputs(None)?;
        let shape = |name: &str| {
            let input = inputs.iter().find(|i| i.name == name);
            crate::base::shape(input.with_context(|| format!("the UNet has no input `{name}`"))?)
        };
        Ok((shape("sample")?, shape("encoder_hidden_states")?))
    }
}

/// A model with the factors in its slots: as inputs that go with each prediction, or as states, written once.
struct Slotted {
    model: Model,
    inputs: Inputs,
    state: State,
}

impl Slotted {
    /// Puts `slots` where `model` has them.
    fn new(model: Model, slots: Inputs) -> anyhow::Result<Self> {
        let (inputs, state) = with_states(&model, None, slots)?;
        Ok(Self {
            model,
            inputs,
            state,
        })
    }

    /// The output `output`, or the only one.
    fn output(
        &mut self,
        mut inputs: Inputs,
        output: &str,
        options: &RunOptions,
    ) -> Result<Vec<f32>, BoxError> {
        inputs.extend(self.inputs.clone());
        let mut outputs = self
            .model
            .predict_with_state(None, &inputs, &mut self.state, options)?;
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

/// The state of a function with those of `inputs` written into it that are states there, and the rest.
pub(crate) fn with_states(
    model: &Model,
    function: Option<&str>,
    mut inputs: Inputs,
) -> gesso_engine::Result<(Inputs, State)> {
    let mut state = model.make_state(function)?;
    for feature in model.states(function)? {
        if let Some(tensor) = inputs.remove(&feature.name) {
            state.write(&feature.name, &tensor)?;
        }
    }
    Ok((inputs, state))
}

impl Networks for EngineNetworks {
    fn encode_text(&mut self, ids: &[i32]) -> Result<Vec<f32>, BoxError> {
        let ids: Vec<f32> = ids.iter().map(|&i| i as f32).collect();
        let name = only_input(&self.text_encoder.model, "input_ids")?;
        let inputs = Inputs::from([(name, Tensor::f32(&[1, ids.len()], ids))]);
        self.text_encoder
            .output(inputs, "last_hidden_state", &self.options)
    }

    fn predict_noise(
        &mut self,
        sample: &[f32],
        timestep: f32,
        states: &[f32],
    ) -> Result<Vec<f32>, BoxError> {
        let (sample_shape, states_shape) = self.unet_shapes()?;
        let mut inputs = Inputs::new();
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
        self.unet.output(inputs, "noise_pred", &self.options)
    }

    fn decode(&mut self, latent: &[f32]) -> Result<Vec<f32>, BoxError> {
        let (sample, _) = self.unet_shapes()?;
        let shape = [1, sample[1], sample[2], sample[3]];
        let name = only_input(&self.decoder.model, "z")?;
        let inputs = Inputs::from([(name, Tensor::f32(&shape, latent.to_vec()))]);
        self.decoder.output(inputs, "image", &self.options)
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

/// What goes into the slots of one component, rounded to fp16 where the base's slots are; empty when no adapter touches it.
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
    let fp16 = base.info.recipe.precision != "fp32";
    let held = |x: f32| match fp16 {
        true => half::f16::from_f32(x).to_f32(),
        false => x,
    };
    Ok(stacked
        .into_iter()
        .map(|(name, t)| {
            let data = t.data.into_iter().map(held).collect();
            (name, Tensor::f32(&t.shape, data))
        })
        .collect())
}
