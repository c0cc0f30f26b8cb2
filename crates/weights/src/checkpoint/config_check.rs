//! Whether a configuration makes sense, before any size is multiplied.

use crate::layout::LARGEST_SIZE;
use crate::{Component, Error, Result, TextConfig, UnetConfig, VaeConfig};

struct Check(Component);

impl Check {
    fn need(&self, holds: bool, field: &str, expected: String, found: usize) -> Result<()> {
        if holds {
            return Ok(());
        }
        Err(Error::Config {
            component: self.0,
            field: field.into(),
            expected,
            found: found.to_string(),
        })
    }

    fn within(&self, field: &str, found: usize, largest: usize) -> Result<()> {
        let holds = (1..=largest).contains(&found);
        self.need(holds, field, format!("1 to {largest}"), found)
    }

    fn divides(&self, field: &str, found: usize, whole: usize, what: &str) -> Result<()> {
        self.within(what, whole, LARGEST_SIZE)?;
        let holds = found > 0 && whole.is_multiple_of(found);
        self.need(
            holds,
            field,
            format!("a divisor of {what} ({whole}); give the right number if it was assumed"),
            found,
        )
    }

    fn blocks(&self, channels: &[usize], layers: usize, groups: usize) -> Result<()> {
        self.within("number of blocks", channels.len(), 8)?;
        self.within("layers per block", layers, 64)?;
        channels
            .iter()
            .try_for_each(|&c| self.divides("norm groups", groups, c, "the channels"))
    }
}

/// Refuses sizes beyond belief, and groups or heads that do not divide the channels.
///
/// Errors: `Config`.
pub(super) fn unet(c: &UnetConfig) -> Result<()> {
    let check = Check(Component::Unet);
    check.blocks(&c.block_out_channels, c.layers_per_block, c.norm_groups)?;
    for (field, size) in [
        ("in_channels", c.in_channels),
        ("out_channels", c.out_channels),
        ("cross_attention_dim", c.cross_attention_dim),
    ] {
        check.within(field, size, LARGEST_SIZE)?;
    }
    for (&channels, &heads) in c.block_out_channels.iter().zip(&c.heads) {
        check.divides("heads", heads, channels, "the channels")?;
    }
    c.transformer_depth
        .iter()
        .try_for_each(|&d| check.within("transformer depth", d, 64))
}

/// As [`unet`].
pub(super) fn vae(c: &VaeConfig) -> Result<()> {
    let check = Check(Component::Vae);
    check.blocks(&c.block_out_channels, c.layers_per_block, c.norm_groups)?;
    for (field, size) in [
        ("in_channels", c.in_channels),
        ("out_channels", c.out_channels),
        ("latent_channels", c.latent_channels),
    ] {
        check.within(field, size, LARGEST_SIZE)?;
    }
    Ok(())
}

/// As [`unet`].
pub(super) fn text(c: &TextConfig) -> Result<()> {
    let check = Check(Component::TextEncoder);
    check.divides("heads", c.heads, c.hidden, "the width")?;
    check.within("layers", c.layers, 256)?;
    for (field, size) in [
        ("vocab_size", c.vocab_size),
        ("intermediate", c.intermediate),
        ("max_positions", c.max_positions),
    ] {
        check.within(field, size, LARGEST_SIZE)?;
    }
    let largest = c.bos.max(c.eos) as usize;
    check.need(
        largest < c.vocab_size,
        "a special token of id",
        format!("less than vocab_size ({})", c.vocab_size),
        largest,
    )
}
