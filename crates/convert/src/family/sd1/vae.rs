//! The VAE's two halves.

use super::check;
use super::resnet::{Groups, downsample, resnet, upsample};
use crate::Result;
use crate::built::Built;
use crate::family::Precision;
use crate::family::features::built;
use crate::family::graph::{Graph, Kernel, dim, value_name};
use gesso_mil::Var;
use gesso_weights::VaeConfig;

const EPS: f32 = 1e-6;

/// How a VAE half is built.
#[derive(Clone, Debug, PartialEq)]
pub struct VaeOptions {
    /// Height of the latents; the picture's is that times 2 per down block after the first.
    pub height: usize,
    /// Width of the latents.
    pub width: usize,
    /// Element type.
    pub precision: Precision,
}

/// The decoder: `z [1, 4, h, w]` → `image [1, 3, H, W]` in [-1, 1].
///
/// Types: input in the program's precision, output fp32. `z` is what the VAE sees: the latent divided by the scaling factor.
///
/// Errors: `Config` for a configuration or size that does not fit together.
///
/// Source: diffusers `AutoencoderKL.decode`.
pub fn vae_decoder(config: &VaeConfig, options: &VaeOptions) -> Result<Built> {
    check::vae(config, options)?;
    built(None, |_| {
        let mut half = Half::new(config, options);
        half.decoder(options)?;
        Ok(half.g)
    })
}

/// The encoder: `x [1, 3, H, W]` in [-1, 1] → `latent [1, 8, h, w]`, mean and then log-variance, neither clamped nor scaled.
///
/// Types: input in the program's precision, output fp32.
///
/// Errors: `Config` for a configuration or size that does not fit together.
///
/// Source: diffusers `AutoencoderKL.encode`.
pub fn vae_encoder(config: &VaeConfig, options: &VaeOptions) -> Result<Built> {
    check::vae(config, options)?;
    built(None, |_| {
        let mut half = Half::new(config, options);
        half.encoder(options)?;
        Ok(half.g)
    })
}

/// One half under construction.
struct Half<'a> {
    config: &'a VaeConfig,
    groups: Groups,
    g: Graph,
}

impl<'a> Half<'a> {
    fn new(config: &'a VaeConfig, options: &VaeOptions) -> Self {
        Self {
            config,
            groups: Groups {
                count: config.norm_groups,
                eps: EPS,
            },
            g: Graph::new("vae", options.precision),
        }
    }

    fn decoder(&mut self, options: &VaeOptions) -> Result<()> {
        let config = self.config;
        let shape = [1, config.latent_channels, options.height, options.width];
        let dtype = self.g.dtype;
        let z = self
            .g
            .input("z", dtype, &shape, "Latents divided by the scaling factor");
        let mut x = self.conv("post_quant_conv", &z, config.latent_channels, Kernel::POINT)?;
        let deepest = config.block_out_channels.last().copied().unwrap_or(0);
        x = self.conv("decoder.conv_in", &x, deepest, Kernel::SAME)?;
        x = self.mid("decoder.mid_block", &x)?;
        let blocks = config.block_out_channels.len();
        for (i, &channels) in config.block_out_channels.iter().rev().enumerate() {
            let path = format!("decoder.up_blocks.{i}");
            x = self.resnets(&path, x, channels, config.layers_per_block + 1)?;
            if i + 1 < blocks {
                let size = [2 * dim(&x, 2)?, 2 * dim(&x, 3)?];
                x = upsample(&mut self.g, &format!("{path}.upsamplers.0"), &x, size)?;
            }
        }
        let x = self.head("decoder", &x)?;
        let name = self.g.output_name("image", "decoder_conv_out");
        let x = self.g.conv(
            "decoder.conv_out",
            name,
            &x,
            config.out_channels,
            Kernel::SAME,
            true,
        )?;
        self.g.output("image", &x, "Picture in [-1, 1]")
    }

    fn encoder(&mut self, options: &VaeOptions) -> Result<()> {
        let config = self.config;
        let blocks = config.block_out_channels.len();
        let times = 1usize << blocks.saturating_sub(1);
        let shape = [
            1,
            config.in_channels,
            options.height * times,
            options.width * times,
        ];
        let dtype = self.g.dtype;
        let picture = self.g.input("x", dtype, &shape, "Picture in [-1, 1]");
        let first = config.block_out_channels.first().copied().unwrap_or(0);
        let mut x = self.conv("encoder.conv_in", &picture, first, Kernel::SAME)?;
        for (i, &channels) in config.block_out_channels.iter().enumerate() {
            let path = format!("encoder.down_blocks.{i}");
            x = self.resnets(&path, x, channels, config.layers_per_block)?;
            if i + 1 < blocks {
                // One row below and one column to the right.
                x = downsample(
                    &mut self.g,
                    &format!("{path}.downsamplers.0"),
                    &x,
                    [0, 1, 0, 1],
                )?;
            }
        }
        let x = self.mid("encoder.mid_block", &x)?;
        let x = self.head("encoder", &x)?;
        let moments = 2 * config.latent_channels;
        let x = self.conv("encoder.conv_out", &x, moments, Kernel::SAME)?;
        let name = self.g.output_name("latent", "quant_conv");
        let x = self
            .g
            .conv("quant_conv", name, &x, moments, Kernel::POINT, true)?;
        self.g
            .output("latent", &x, "Mean, then log-variance, of the latents")
    }

    fn conv(&mut self, path: &str, x: &Var, outputs: usize, kernel: Kernel) -> Result<Var> {
        self.g
            .conv(path, &value_name(path), x, outputs, kernel, true)
    }

    fn resnets(&mut self, path: &str, mut x: Var, outputs: usize, count: usize) -> Result<Var> {
        for j in 0..count {
            let path = format!("{path}.resnets.{j}");
            x = resnet(
                &mut self.g,
                &path,
                &value_name(&path),
                &x,
                None,
                outputs,
                self.groups,
            )?;
        }
        Ok(x)
    }

    fn mid(&mut self, path: &str, x: &Var) -> Result<Var> {
        let channels = dim(x, 1)?;
        let first = format!("{path}.resnets.0");
        let x = resnet(
            &mut self.g,
            &first,
            &value_name(&first),
            x,
            None,
            channels,
            self.groups,
        )?;
        let x = self.attention(&format!("{path}.attentions.0"), &x)?;
        let second = format!("{path}.resnets.1");
        resnet(
            &mut self.g,
            &second,
            &value_name(path),
            &x,
            None,
            channels,
            self.groups,
        )
    }

    /// Attention with one head over all positions of `x [1, C, H, W]`, with its residual.
    fn attention(&mut self, path: &str, x: &Var) -> Result<Var> {
        let name = value_name(path);
        let (shape, c) = (x.shape()?, dim(x, 1)?);
        let rows = [dim(x, 0)?, c, dim(x, 2)? * dim(x, 3)?];
        let norm = format!("{path}.group_norm");
        let h = self
            .g
            .group_norm(&norm, &value_name(&norm), x, self.groups.count, EPS)?;
        let mut project = |part: &str| -> Result<Var> {
            let y = self.conv(&format!("{path}.{part}"), &h, c, Kernel::POINT)?;
            self.g.reshape(&format!("{name}_{part}_rows"), &y, &rows)
        };
        let (q, k, v) = (project("to_q")?, project("to_k")?, project("to_v")?);
        let g = &mut self.g;
        let (q, k) = g.scaled_pair(&name, &q, &k, (c as f64).sqrt().recip())?;
        let scores = g.matmul(&format!("{name}_scores"), &q, &k, [true, false])?;
        let weights = g.softmax(&format!("{name}_weights"), &scores, -1)?;
        let o = g.matmul(&format!("{name}_rows"), &v, &weights, [false, true])?;
        let o = g.reshape(&format!("{name}_picture"), &o, &shape)?;
        let o = self.conv(&format!("{path}.to_out.0"), &o, c, Kernel::POINT)?;
        self.g.binary("add", &name, &o, x)
    }

    /// `conv_norm_out` and its activation.
    fn head(&mut self, half: &str, x: &Var) -> Result<Var> {
        let path = format!("{half}.conv_norm_out");
        let name = value_name(&path);
        let x = self.g.group_norm(&path, &name, x, self.groups.count, EPS)?;
        self.g.unary("silu", &format!("{half}_conv_act"), &x)
    }
}
