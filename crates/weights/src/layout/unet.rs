//! The UNet.

use super::{Fit, Naming, NoConfig, Row, Rows, Shapes, first_dim};
use crate::UnetConfig;

/// Names of the parts of a UNet with `layers` resnets per down block.
#[derive(Clone, Copy)]
struct Names {
    naming: Naming,
    layers: usize,
}

impl Names {
    fn pick(self, diffusers: &str, ldm: &str) -> String {
        match self.naming {
            Naming::Diffusers => diffusers.into(),
            Naming::Ldm => ldm.into(),
        }
    }

    /// Index of the input block that holds resnet `j` of down block `i`; `j` = layers is the downsampler.
    fn input(self, i: usize, j: usize) -> usize {
        1 + (self.layers + 1) * i + j
    }

    fn down(self, i: usize, j: usize, part: &str) -> String {
        match self.naming {
            Naming::Diffusers => format!("down_blocks.{i}.{part}.{j}"),
            Naming::Ldm => format!(
                "input_blocks.{}.{}",
                self.input(i, j),
                usize::from(part == "attentions")
            ),
        }
    }

    fn downsampler(self, i: usize) -> String {
        match self.naming {
            Naming::Diffusers => format!("down_blocks.{i}.downsamplers.0.conv"),
            Naming::Ldm => format!("input_blocks.{}.0.op", self.input(i, self.layers)),
        }
    }

    fn up(self, i: usize, j: usize, part: &str) -> String {
        match self.naming {
            Naming::Diffusers => format!("up_blocks.{i}.{part}.{j}"),
            Naming::Ldm => format!(
                "output_blocks.{}.{}",
                (self.layers + 1) * i + j,
                usize::from(part == "attentions")
            ),
        }
    }

    /// In an LDM file the upsampler stands behind the attention, where there is one.
    fn upsampler(self, i: usize, attention: bool) -> String {
        match self.naming {
            Naming::Diffusers => format!("up_blocks.{i}.upsamplers.0.conv"),
            Naming::Ldm => format!(
                "output_blocks.{}.{}.conv",
                (self.layers + 1) * i + self.layers,
                if attention { 2 } else { 1 }
            ),
        }
    }

    fn mid(self, part: &str, j: usize) -> String {
        let ldm = match (part, j) {
            ("attentions", _) => 1,
            (_, j) => 2 * j,
        };
        self.pick(
            &format!("mid_block.{part}.{j}"),
            &format!("middle_block.{ldm}"),
        )
    }
}

/// Parts of a resnet: diffusers, LDM.
const RESNET: [(&str, &str); 6] = [
    ("norm1", "in_layers.0"),
    ("conv1", "in_layers.2"),
    ("time_emb_proj", "emb_layers.1"),
    ("norm2", "out_layers.0"),
    ("conv2", "out_layers.3"),
    ("conv_shortcut", "skip_connection"),
];

struct Table<'c> {
    rows: Rows,
    config: &'c UnetConfig,
    time: usize,
    /// The two namings, diffusers first.
    names: [Names; 2],
}

/// Every tensor of a UNet with this configuration.
pub(crate) fn unet_rows(config: &UnetConfig) -> Vec<Row> {
    let names = [Naming::Diffusers, Naming::Ldm].map(|naming| Names {
        naming,
        layers: config.layers_per_block,
    });
    let first = config.block_out_channels.first().copied().unwrap_or(0);
    let mut table = Table {
        rows: Rows::default(),
        config,
        time: 4 * first,
        names,
    };
    table.ends(first);
    let mut skips = vec![first];
    table.down(first, &mut skips);
    table.mid();
    table.up(&mut skips);
    table.rows.0
}

impl Table<'_> {
    fn both(&self, name: impl Fn(Names) -> String) -> [String; 2] {
        self.names.map(name)
    }

    fn ends(&mut self, first: usize) {
        let c = self.config;
        let rows = &mut self.rows;
        rows.layer("conv_in", "input_blocks.0.0", &[first, c.in_channels, 3, 3]);
        rows.layer(
            "time_embedding.linear_1",
            "time_embed.0",
            &[self.time, first],
        );
        rows.layer(
            "time_embedding.linear_2",
            "time_embed.2",
            &[self.time, self.time],
        );
        rows.layer("conv_norm_out", "out.0", &[first]);
        rows.layer("conv_out", "out.2", &[c.out_channels, first, 3, 3]);
    }

    fn down(&mut self, first: usize, skips: &mut Vec<usize>) {
        let c = self.config;
        let last = c.block_out_channels.len().saturating_sub(1);
        let mut channels = first;
        for (i, &out) in c.block_out_channels.iter().enumerate() {
            for j in 0..c.layers_per_block {
                let resnet = self.both(|n| n.down(i, j, "resnets"));
                self.resnet(resnet, channels, out);
                if c.down_attention.get(i) == Some(&true) {
                    let attention = self.both(|n| n.down(i, j, "attentions"));
                    self.transformer(attention, out, i);
                }
                channels = out;
                skips.push(out);
            }
            if i < last {
                let [name, ldm] = self.both(|n| n.downsampler(i));
                self.rows.layer(&name, &ldm, &[out, out, 3, 3]);
                skips.push(out);
            }
        }
    }

    fn mid(&mut self) {
        let last = self.config.block_out_channels.len().saturating_sub(1);
        let channels = self.config.block_out_channels.get(last).copied();
        let channels = channels.unwrap_or(0);
        for j in 0..2 {
            let resnet = self.both(|n| n.mid("resnets", j));
            self.resnet(resnet, channels, channels);
        }
        if self.config.mid_attention {
            let attention = self.both(|n| n.mid("attentions", 0));
            self.transformer(attention, channels, last);
        }
    }

    fn up(&mut self, skips: &mut Vec<usize>) {
        let c = self.config;
        let last = c.block_out_channels.len().saturating_sub(1);
        let mut channels = c.block_out_channels.last().copied().unwrap_or(0);
        for (i, &out) in c.block_out_channels.iter().rev().enumerate() {
            let attended = c.up_attention.get(i) == Some(&true);
            for j in 0..=c.layers_per_block {
                let skip = skips.pop().unwrap_or(0);
                let resnet = self.both(|n| n.up(i, j, "resnets"));
                self.resnet(resnet, channels + skip, out);
                if attended {
                    let attention = self.both(|n| n.up(i, j, "attentions"));
                    self.transformer(attention, out, last - i);
                }
                channels = out;
            }
            if i < last {
                let [name, ldm] = self.both(|n| n.upsampler(i, attended));
                self.rows.layer(&name, &ldm, &[out, out, 3, 3]);
            }
        }
    }

    fn resnet(&mut self, [path, ldm]: [String; 2], i: usize, o: usize) {
        let shapes: [&[usize]; 6] = [
            &[i],
            &[o, i, 3, 3],
            &[o, self.time],
            &[o],
            &[o, o, 3, 3],
            &[o, i, 1, 1],
        ];
        for ((name, theirs), shape) in RESNET.iter().zip(shapes) {
            if *name == "conv_shortcut" && i == o {
                continue;
            }
            self.rows
                .layer(&format!("{path}.{name}"), &format!("{ldm}.{theirs}"), shape);
        }
    }

    fn transformer(&mut self, [path, ldm]: [String; 2], c: usize, level: usize) {
        let rows = &mut self.rows;
        let context = self.config.cross_attention_dim;
        let depth = self.config.transformer_depth.get(level).copied();
        let both = |part: &str| (format!("{path}.{part}"), format!("{ldm}.{part}"));
        let (name, theirs) = both("norm");
        rows.layer(&name, &theirs, &[c]);
        for part in ["proj_in", "proj_out"] {
            let (name, theirs) = both(part);
            rows.projection(&name, &theirs, [c, c], Fit::Pointwise);
        }
        for d in 0..depth.unwrap_or(0) {
            let both = |part: &str| both(&format!("transformer_blocks.{d}.{part}"));
            for part in ["norm1", "norm2", "norm3"] {
                let (name, theirs) = both(part);
                rows.layer(&name, &theirs, &[c]);
            }
            for (attention, width) in [("attn1", c), ("attn2", context)] {
                for (part, width) in [("to_q", c), ("to_k", width), ("to_v", width)] {
                    let (name, theirs) = both(&format!("{attention}.{part}"));
                    rows.weight(&name, &theirs, &[c, width]);
                }
                let (name, theirs) = both(&format!("{attention}.to_out.0"));
                rows.layer(&name, &theirs, &[c, c]);
            }
            let (name, theirs) = both("ff.net.0.proj");
            rows.layer(&name, &theirs, &[8 * c, c]);
            let (name, theirs) = both("ff.net.2");
            rows.layer(&name, &theirs, &[c, 4 * c]);
        }
    }
}

/// Levels and resnets per level.
fn counts(shapes: &Shapes<'_>, naming: Naming) -> Result<(usize, usize), NoConfig> {
    if naming == Naming::Diffusers {
        let levels = shapes.count("down_blocks.");
        return Ok((levels, shapes.count("down_blocks.0.resnets.")));
    }
    let blocks = shapes.count("input_blocks.");
    let levels = 1
        + (0..blocks)
            .filter(|k| shapes.has(&format!("input_blocks.{k}.0.op.")))
            .count();
    // One block for conv_in, `layers` per level, and a downsampler behind each level but the last.
    match blocks.checked_sub(levels) {
        Some(n) if n.is_multiple_of(levels) && n > 0 => Ok((levels, n / levels)),
        _ => Err(NoConfig::Odd {
            field: "number of `input_blocks`",
            expected: format!("{levels} levels of equally many resnets"),
            found: blocks.to_string(),
        }),
    }
}

/// The configuration as far as keys and shapes tell it; `heads` and `norm_groups` are given.
pub(crate) fn unet_config(
    shapes: &Shapes<'_>,
    naming: Naming,
    heads: usize,
    norm_groups: usize,
) -> Result<UnetConfig, NoConfig> {
    let (levels, layers) = counts(shapes, naming)?;
    let names = Names { naming, layers };
    let conv_in = names.pick("conv_in.weight", "input_blocks.0.0.weight");
    let conv_out = names.pick("conv_out.weight", "out.2.weight");
    let part = |at: usize| match naming {
        Naming::Diffusers => RESNET[at].0,
        Naming::Ldm => RESNET[at].1,
    };
    let mut block_out_channels = Vec::new();
    let (mut down, mut up, mut depths) = (Vec::new(), Vec::new(), Vec::new());
    let mid = names.mid("attentions", 0);
    let depth = |path: &str| shapes.count(&format!("{path}.transformer_blocks."));
    for i in 0..levels {
        let path = names.down(i, 0, "resnets");
        let keys = [
            format!("{path}.{}.weight", part(1)),
            format!("{path}.{}.bias", part(1)),
            format!("{path}.{}.weight", part(3)),
        ];
        block_out_channels.push(first_dim(shapes, &keys, 0)?);
        let attention = names.down(i, 0, "attentions");
        let attended = shapes.has(&format!("{attention}.norm."));
        down.push(attended);
        let up_attention = names.up(i, 0, "attentions");
        up.push(shapes.has(&format!("{up_attention}.norm.")));
        depths.push(match (attended, i + 1 == levels) {
            (true, _) => depth(&attention),
            (false, true) => depth(&mid).max(1),
            (false, false) => 1,
        });
    }
    let attended = down.iter().position(|&a| a);
    let attention = attended.map_or(mid.clone(), |i| names.down(i, 0, "attentions"));
    let context = ["attn2.to_k", "attn2.to_v"]
        .map(|part| format!("{attention}.transformer_blocks.0.{part}.weight"));
    Ok(UnetConfig {
        in_channels: first_dim(shapes, &[conv_in], 1)?,
        out_channels: first_dim(shapes, &[conv_out], 0)?,
        layers_per_block: layers,
        heads: vec![heads; block_out_channels.len()],
        block_out_channels,
        down_attention: down,
        up_attention: up,
        transformer_depth: depths,
        cross_attention_dim: first_dim(shapes, &context, 1)?,
        norm_groups,
        norm_eps: 1e-5,
        use_linear_projection: shapes.rank(&format!("{attention}.proj_in.weight")) == Some(2),
        flip_sin_to_cos: true,
        freq_shift: 0.0,
        sample_size: 64,
        mid_attention: shapes.has(&format!("{mid}.norm.")),
    })
}
