//! Names and shapes of Stable Diffusion 1.5, from `fixtures/lora/maps/`.

use anyhow::{Context, Result};
use flate2::read::GzDecoder;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// A tensor of the model.
#[derive(Debug)]
pub(super) struct Tensor {
    pub(super) component: String,
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
}

/// A layer that the adapter touches.
#[derive(Debug)]
pub(super) struct Module {
    /// Name in a kohya file, for instance `lora_unet_mid_block_attentions_0_proj_in`.
    pub(super) name: String,
    /// Shape of its weight, [O, I] or [O, I, 1, 1].
    pub(super) shape: Vec<usize>,
}

/// The decompressed text of a table.
pub(super) fn text(root: &Path, name: &str) -> Result<String> {
    let path = root.join("fixtures/lora/maps").join(name);
    let file = File::open(&path).with_context(|| format!("cannot open `{}`", path.display()))?;
    let mut text = String::new();
    GzDecoder::new(file)
        .read_to_string(&mut text)
        .with_context(|| format!("cannot read `{}`", path.display()))?;
    Ok(text)
}

/// Cells of a table by column, without its first line.
fn rows<'t, const N: usize>(text: &'t str, columns: [&str; N]) -> Result<Vec<[&'t str; N]>> {
    let mut lines = text
        .lines()
        .map(|line| line.split('\t').collect::<Vec<_>>());
    let head = lines.next().context("the table is empty")?;
    let mut at = [0; N];
    for (at, column) in at.iter_mut().zip(columns) {
        *at = head
            .iter()
            .position(|cell| *cell == column)
            .with_context(|| format!("the table has no column `{column}`"))?;
    }
    Ok(lines
        .map(|cells| at.map(|i| cells.get(i).copied().unwrap_or_default()))
        .collect())
}

fn shape(cell: &str) -> Result<Vec<usize>> {
    cell.split('x')
        .map(|n| {
            n.parse()
                .with_context(|| format!("`{cell}` is not a shape"))
        })
        .collect()
}

/// Every tensor of `sd1.tsv.gz`.
pub(super) fn tensors(text: &str) -> Result<Vec<Tensor>> {
    rows(text, ["component", "diffusers_key", "diffusers_shape"])?
        .into_iter()
        .map(|[component, name, cell]| {
            Ok(Tensor {
                component: component.into(),
                name: name.into(),
                shape: shape(cell)?,
            })
        })
        .collect()
}

/// The attention, feed-forward and projection layers of `sd1.lora-modules.tsv.gz`, as kohya's trainer picks them.
pub(super) fn modules(text: &str) -> Result<Vec<Module>> {
    let columns = [
        "component",
        "diffusers_module",
        "kind",
        "weight_shape",
        "kohya_diffusers_name",
    ];
    rows(text, columns)?
        .into_iter()
        .filter(|[component, path, kind, ..]| match *component {
            "unet" => path.contains(".attentions.") && *kind != "norm",
            "text_encoder" => path.contains(".layers.") && *kind == "linear",
            _ => false,
        })
        .map(|[_, _, _, cell, name]| {
            Ok(Module {
                name: name.into(),
                shape: shape(cell)?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root;

    #[test]
    fn counts_are_those_of_the_published_model() -> Result<()> {
        let tensors = tensors(&text(&root(), "sd1.tsv.gz")?)?;
        let of = |component: &str| {
            let it = tensors.iter().filter(|t| t.component == component);
            let sizes: Vec<usize> = it.map(|t| t.shape.iter().product()).collect();
            (sizes.len(), sizes.iter().sum::<usize>())
        };
        assert_eq!(of("unet"), (686, 859_520_964));
        assert_eq!(of("text_encoder"), (196, 123_060_480));
        assert_eq!(of("vae"), (248, 83_653_863));
        Ok(())
    }

    #[test]
    fn the_adapter_touches_192_and_72_modules() -> Result<()> {
        let modules = modules(&text(&root(), "sd1.lora-modules.tsv.gz")?)?;
        let of = |prefix: &str| {
            modules
                .iter()
                .filter(|m| m.name.starts_with(prefix))
                .count()
        };
        assert_eq!((of("lora_unet_"), of("lora_te_")), (192, 72));
        assert_eq!(modules.len(), 264);
        Ok(())
    }
}
