//! Whether a configuration and its options fit together, before anything is divided or multiplied.

use super::{TextOptions, UnetOptions, VaeOptions};
use crate::{Error, Result};
use gesso_weights::{TextConfig, UnetConfig, VaeConfig};

/// No channel count, text length or vocabulary of this family comes near it; products of four fit an index.
const LARGEST: usize = 1 << 20;
/// Largest height or width of latents.
const LARGEST_SIDE: usize = 4096;

struct Check(&'static str);

impl Check {
    fn need(
        &self,
        holds: bool,
        field: &str,
        expected: impl Into<String>,
        found: impl ToString,
    ) -> Result<()> {
        if holds {
            return Ok(());
        }
        Err(Error::Config {
            component: self.0.into(),
            field: field.into(),
            expected: expected.into(),
            found: found.to_string(),
        })
    }

    fn size(&self, field: &str, found: usize, largest: usize) -> Result<()> {
        let expected = format!("1 to {largest}");
        self.need((1..=largest).contains(&found), field, expected, found)
    }

    fn multiple(&self, field: &str, found: usize, of: usize, what: &str) -> Result<()> {
        self.size(what, of, LARGEST)?;
        self.size(field, found, LARGEST)?;
        self.need(
            found.is_multiple_of(of),
            field,
            format!("a multiple of {what} ({of})"),
            found,
        )
    }

    fn blocks(&self, channels: &[usize], groups: usize, layers: usize) -> Result<()> {
        self.size("number of blocks", channels.len(), 8)?;
        self.size("layers_per_block", layers, 64)?;
        for &c in channels {
            self.multiple("block_out_channels", c, groups, "norm_groups")?;
        }
        Ok(())
    }

    fn rank(&self, rank: Option<usize>) -> Result<()> {
        let Some(rank) = rank else { return Ok(()) };
        let fits = rank > 0 && rank.is_multiple_of(32) && rank <= LARGEST;
        self.need(fits, "adapter rank", "a positive multiple of 32", rank)
    }
}

pub(super) fn unet(c: &UnetConfig, o: &UnetOptions) -> Result<()> {
    let check = Check("unet");
    check.blocks(&c.block_out_channels, c.norm_groups, c.layers_per_block)?;
    let blocks = c.block_out_channels.len();
    let lists = [
        ("down_attention", c.down_attention.len()),
        ("up_attention", c.up_attention.len()),
        ("transformer_depth", c.transformer_depth.len()),
        ("heads", c.heads.len()),
    ];
    for (field, found) in lists {
        let expected = format!("one entry per block ({blocks})");
        check.need(
            found == blocks,
            field,
            expected,
            format!("a list of {found}"),
        )?;
    }
    for ((&channels, &heads), &depth) in c
        .block_out_channels
        .iter()
        .zip(&c.heads)
        .zip(&c.transformer_depth)
    {
        check.multiple("block_out_channels", channels, heads, "heads")?;
        check.need(depth <= 64, "transformer_depth", "at most 64", depth)?;
    }
    let first = c.block_out_channels.first().copied().unwrap_or(0);
    check.multiple(
        "block_out_channels",
        first,
        2,
        "the two halves of the time embedding",
    )?;
    let half = (first / 2) as f32;
    check.need(
        c.freq_shift < half,
        "freq_shift",
        format!("below {half}"),
        c.freq_shift,
    )?;
    for (field, size) in [
        ("in_channels", c.in_channels),
        ("out_channels", c.out_channels),
        ("cross_attention_dim", c.cross_attention_dim),
        ("tokens", o.tokens),
        ("batch", o.batch),
    ] {
        check.size(field, size, LARGEST)?;
    }
    check.size("height of the latents", o.height, LARGEST_SIDE)?;
    check.size("width of the latents", o.width, LARGEST_SIDE)?;
    check.rank(o.slots.map(|s| s.rank))
}

pub(super) fn vae(c: &VaeConfig, o: &VaeOptions) -> Result<()> {
    let check = Check("vae");
    check.blocks(&c.block_out_channels, c.norm_groups, c.layers_per_block)?;
    for (field, size) in [
        ("in_channels", c.in_channels),
        ("out_channels", c.out_channels),
        ("latent_channels", c.latent_channels),
    ] {
        check.size(field, size, LARGEST)?;
    }
    check.size("height of the latents", o.height, LARGEST_SIDE)?;
    check.size("width of the latents", o.width, LARGEST_SIDE)
}

pub(super) fn text(c: &TextConfig, o: &TextOptions) -> Result<()> {
    let check = Check("text_encoder");
    check.multiple("hidden", c.hidden, c.heads, "heads")?;
    for (field, size) in [
        ("intermediate", c.intermediate),
        ("vocab_size", c.vocab_size),
        ("max_positions", c.max_positions),
    ] {
        check.size(field, size, LARGEST)?;
    }
    check.need(c.layers <= 1024, "layers", "at most 1024", c.layers)?;
    check.size("tokens", o.tokens, c.max_positions.min(LARGEST / 1024))?;
    let keys = c.vocab_size.saturating_mul(o.tokens);
    check.need(
        keys < i32::MAX as usize,
        "vocab_size",
        format!("below 2147483647 / {} tokens", o.tokens),
        c.vocab_size,
    )?;
    let fits = i32::try_from(c.eos_config_id).is_ok();
    check.need(fits, "eos_config_id", "at most 2147483647", c.eos_config_id)?;
    check.rank(o.slots.map(|s| s.rank))
}
