//! The UNet.

use super::check;
use super::resnet::{Groups, downsample, resnet, upsample};
use super::time::{Sinusoids, time_embedding};
use super::transformer::{Spatial, transformer};
use crate::built::Built;
use crate::family::adapted::{Input, Layer};
use crate::family::features::built;
use crate::family::graph::{Graph, Kernel, dim};
use crate::family::{Attention, Precision};
use crate::slots::{SlotOptions, SlotTable};
use crate::{Error, Result};
use gesso_mil::Var;
use gesso_weights::UnetConfig;

/// How a UNet is built.
#[derive(Clone, Debug, PartialEq)]
pub struct UnetOptions {
    /// Batch: 2 for classifier-free guidance in one call.
    pub batch: usize,
    /// Height of the latents (picture height / 8).
    pub height: usize,
    /// Width of the latents (picture width / 8).
    pub width: usize,
    /// Length of the text, 77.
    pub tokens: usize,
    /// Element type.
    pub precision: Precision,
    /// Flavour of attention.
    pub attention: Attention,
    /// The adapter slots, if any.
    pub slots: Option<SlotOptions>,
    /// Whether the inputs `additional_residual_N` of a ControlNet are declared.
    pub controlnet_residuals: bool,
}

/// The UNet: `sample [B, 4, h, w]`, `timestep [B]`, `encoder_hidden_states [B, D, 1, S]` → `noise_pred [B, 4, h, w]`.
///
/// Types: inputs in the program's precision, output fp32. With `controlnet_residuals` also `additional_residual_0…n`, added to the
/// skips in the order of the down path (`conv_in`, then per block its resnets and its downsampler) and, the last, to the mid
/// block. With `slots` also one optional `adapter_W` per width (see [`crate::slots`]); which layers have slots is what they say.
///
/// Errors: `Config` for a configuration or size that does not fit together.
///
/// Source: diffusers `UNet2DConditionModel`; feature names of Apple's `ml-stable-diffusion`.
pub fn unet(config: &UnetConfig, options: &UnetOptions) -> Result<Built> {
    check::unet(config, options)?;
    built(options.slots, |table| {
        Walk::start(config, options, table)?.run()
    })
}

/// The UNet under construction.
struct Walk<'a> {
    config: &'a UnetConfig,
    options: &'a UnetOptions,
    g: Graph,
    sample: Var,
    timestep: Var,
    context: Var,
    residuals: Vec<Var>,
}

impl<'a> Walk<'a> {
    fn start(
        config: &'a UnetConfig,
        options: &'a UnetOptions,
        table: Option<&SlotTable>,
    ) -> Result<Self> {
        let mut g = Graph::with_slots("unet", options.precision, options.slots);
        let (dtype, b) = (g.dtype, options.batch);
        let sample = [b, config.in_channels, options.height, options.width];
        let context = [b, config.cross_attention_dim, 1, options.tokens];
        let sample = g.input("sample", dtype, &sample, "Noisy latents");
        let timestep = g.input("timestep", dtype, &[b], "Timestep of each row");
        let text = "Output of the text encoder, channels second";
        let context = g.input("encoder_hidden_states", dtype, &context, text);
        let mut residuals = Vec::new();
        if options.controlnet_residuals {
            for (i, [c, h, w]) in skip_shapes(config, options).into_iter().enumerate() {
                let name = format!("additional_residual_{i}");
                residuals.push(g.input(&name, dtype, &[b, c, h, w], "ControlNet residual"));
            }
        }
        g.declare_slots(table);
        Ok(Self {
            config,
            options,
            g,
            sample,
            timestep,
            context,
            residuals,
        })
    }

    fn groups(&self) -> Groups {
        Groups {
            count: self.config.norm_groups,
            eps: self.config.norm_eps,
        }
    }

    fn run(mut self) -> Result<Graph> {
        let time = &mut self.time()?;
        let first = self.config.block_out_channels.first().copied().unwrap_or(0);
        let sample = self.sample.clone();
        let conv_in = Layer::conv("conv_in", "conv_in", first, Kernel::SAME);
        let mut x = self.g.adaptable(conv_in, &mut Input::from(&sample))?;
        let mut skips = vec![x.clone()];
        for i in 0..self.config.block_out_channels.len() {
            x = self.down(i, x, time, &mut skips)?;
        }
        x = self.mid(x, time)?;
        self.add_residuals(&mut skips, &mut x)?;
        for i in 0..self.config.block_out_channels.len() {
            x = self.up(i, x, time, &mut skips)?;
        }
        let groups = self.groups();
        let g = &mut self.g;
        x = g.group_norm(
            "conv_norm_out",
            "conv_norm_out",
            &x,
            groups.count,
            groups.eps,
        )?;
        x = g.unary("silu", "conv_act", &x)?;
        let name = g.output_name("noise_pred", "conv_out");
        let conv_out = Layer::conv("conv_out", name, self.config.out_channels, Kernel::SAME);
        x = g.adaptable(conv_out, &mut Input::from(&x))?;
        g.output("noise_pred", &x, "Prediction of the noise (or of v)")?;
        Ok(self.g)
    }

    /// The activated time embedding `[B, 4·C, 1, 1]`.
    fn time(&mut self) -> Result<Input> {
        let channels = self.config.block_out_channels.first().copied().unwrap_or(0);
        let sinusoids = Sinusoids {
            channels,
            flip_sin_to_cos: self.config.flip_sin_to_cos,
            freq_shift: self.config.freq_shift,
        };
        let embedding = time_embedding(&mut self.g, &self.timestep, sinusoids, 4 * channels)?;
        let active = self.g.unary("silu", "time_embedding_silu", &embedding)?;
        Ok(Input::from(&active))
    }

    /// Resnet `path.resnets.j` and, where `level` (a down block's index) is given, attention `path.attentions.j`.
    fn layer(
        &mut self,
        path: &str,
        j: usize,
        x: &Var,
        time: &mut Input,
        outputs: usize,
        level: Option<usize>,
    ) -> Result<Var> {
        let resnet_path = format!("{path}.resnets.{j}");
        let name = crate::family::graph::value_name(&resnet_path);
        let groups = self.groups();
        let x = resnet(
            &mut self.g,
            &resnet_path,
            &name,
            x,
            Some(time),
            outputs,
            groups,
        )?;
        match level {
            Some(level) => self.attend(&format!("{path}.attentions.{j}"), &x, level),
            None => Ok(x),
        }
    }

    fn attend(&mut self, path: &str, x: &Var, level: usize) -> Result<Var> {
        let spatial = Spatial {
            depth: self
                .config
                .transformer_depth
                .get(level)
                .copied()
                .unwrap_or(0),
            heads: self.config.heads.get(level).copied().unwrap_or(0),
            groups: self.config.norm_groups,
            flavour: self.options.attention,
        };
        transformer(&mut self.g, path, x, &self.context, spatial)
    }

    fn down(
        &mut self,
        i: usize,
        mut x: Var,
        time: &mut Input,
        skips: &mut Vec<Var>,
    ) -> Result<Var> {
        let path = format!("down_blocks.{i}");
        let outputs = at(&self.config.block_out_channels, i)?;
        let level = at(&self.config.down_attention, i)?.then_some(i);
        for j in 0..self.config.layers_per_block {
            x = self.layer(&path, j, &x, time, outputs, level)?;
            skips.push(x.clone());
        }
        if i + 1 < self.config.block_out_channels.len() {
            x = downsample(&mut self.g, &format!("{path}.downsamplers.0"), &x, [1; 4])?;
            skips.push(x.clone());
        }
        Ok(x)
    }

    fn mid(&mut self, x: Var, time: &mut Input) -> Result<Var> {
        let last = self.config.block_out_channels.len().saturating_sub(1);
        let outputs = at(&self.config.block_out_channels, last)?;
        let level = self.config.mid_attention.then_some(last);
        let x = self.layer("mid_block", 0, &x, time, outputs, level)?;
        let (path, groups) = ("mid_block.resnets.1", self.groups());
        resnet(
            &mut self.g,
            path,
            "mid_block",
            &x,
            Some(time),
            outputs,
            groups,
        )
    }

    fn add_residuals(&mut self, skips: &mut [Var], mid: &mut Var) -> Result<()> {
        let residuals = std::mem::take(&mut self.residuals);
        let targets = skips.iter_mut().chain(std::iter::once(mid));
        for (i, (residual, target)) in residuals.iter().zip(targets).enumerate() {
            *target = self
                .g
                .binary("add", &format!("with_residual_{i}"), target, residual)?;
        }
        Ok(())
    }

    fn up(&mut self, i: usize, mut x: Var, time: &mut Input, skips: &mut Vec<Var>) -> Result<Var> {
        let path = format!("up_blocks.{i}");
        let level = self.config.block_out_channels.len() - 1 - i;
        let outputs = at(&self.config.block_out_channels, level)?;
        let attention = at(&self.config.up_attention, i)?.then_some(level);
        for j in 0..=self.config.layers_per_block {
            let skip = skips.pop().ok_or_else(|| self.short("skip tensors"))?;
            let name = format!("up_blocks_{i}_resnets_{j}_input");
            let joined = self.g.concat(&name, vec![x, skip])?;
            x = self.layer(&path, j, &joined, time, outputs, attention)?;
        }
        if let (true, Some(next)) = (level > 0, skips.last()) {
            let size = [dim(next, 2)?, dim(next, 3)?];
            x = upsample(&mut self.g, &format!("{path}.upsamplers.0"), &x, size)?;
        }
        Ok(x)
    }

    fn short(&self, what: &str) -> Error {
        Error::Config {
            component: "unet".into(),
            field: what.into(),
            expected: "one per layer of the up path".into(),
            found: "fewer".into(),
        }
    }
}

fn at<T: Copy>(list: &[T], i: usize) -> Result<T> {
    list.get(i).copied().ok_or_else(|| Error::Config {
        component: "unet".into(),
        field: "per-block list".into(),
        expected: format!("more than {i} entries"),
        found: list.len().to_string(),
    })
}

/// Shapes [C, H, W] of the skip tensors in order, then of the mid block's output.
fn skip_shapes(config: &UnetConfig, options: &UnetOptions) -> Vec<[usize; 3]> {
    let (mut h, mut w) = (options.height, options.width);
    let blocks = &config.block_out_channels;
    let mut shapes: Vec<_> = blocks.first().map(|&c| [c, h, w]).into_iter().collect();
    for (i, &c) in blocks.iter().enumerate() {
        shapes.extend(vec![[c, h, w]; config.layers_per_block]);
        if i + 1 < blocks.len() {
            (h, w) = (h.div_ceil(2), w.div_ceil(2));
            shapes.push([c, h, w]);
        }
    }
    shapes.extend(blocks.last().map(|&c| [c, h, w]));
    shapes
}
