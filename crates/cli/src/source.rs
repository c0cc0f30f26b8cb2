//! Inputs of several commands: checkpoints, LoRAs with strengths, sizes.

use crate::args::Source;
use anyhow::{Context, bail};
use clap::ValueEnum;
use gesso_convert::merged::Baked;
use gesso_convert::recipe::Style;
use gesso_weights::lora::{Lora, ModuleTable, ResolveOptions, ResolvedLora};
use gesso_weights::{Checkpoint, OpenOptions};
use std::path::{Path, PathBuf};

/// Opens a checkpoint with the options that describe it.
pub(crate) fn checkpoint(path: &Path, source: &Source) -> anyhow::Result<Checkpoint> {
    let options = OpenOptions {
        config_dir: source.config.clone(),
        tokenizer: source.tokenizer.clone(),
        vae: source.vae.clone(),
        allow_unknown: source.allow_unknown,
        prediction_type: source.prediction_type.map(|p| p.word().to_string()),
        ..OpenOptions::default()
    };
    Ok(Checkpoint::open(path, &options)?)
}

/// What a UNet predicts, in diffusers' words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PredictionType {
    /// The noise that was added.
    #[value(name = "epsilon")]
    Epsilon,
    /// v, of noise and picture.
    #[value(name = "v_prediction")]
    VPrediction,
    /// The picture.
    #[value(name = "sample")]
    Sample,
}

impl PredictionType {
    /// diffusers' word.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Epsilon => "epsilon",
            Self::VPrediction => "v_prediction",
            Self::Sample => "sample",
        }
    }
}

/// A file with strengths, as it stands on the command line: `FILE`, `FILE:0.8` or `FILE:unet=0.8,te=0.4`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Weighted {
    pub(crate) path: PathBuf,
    /// Strength for the UNet and for the text encoder; `None` when none was given.
    pub(crate) strengths: Option<(f32, f32)>,
}

impl Weighted {
    /// Reads the argument; what follows the last colon is a strength only if it looks like one.
    pub(crate) fn parse(argument: &str) -> anyhow::Result<Self> {
        let whole = || Self {
            path: argument.into(),
            strengths: None,
        };
        let Some((path, tail)) = argument.rsplit_once(':') else {
            return Ok(whole());
        };
        if let Ok(strength) = tail.parse::<f32>() {
            if !strength.is_finite() {
                bail!("the strength of `{path}` is `{tail}`, expected a finite number");
            }
            return Ok(Self {
                path: path.into(),
                strengths: Some((strength, strength)),
            });
        }
        if !tail.contains('=') {
            return Ok(whole());
        }
        let (mut unet, mut text_encoder) = (1.0, 1.0);
        for part in tail.split(',') {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let strength = value.parse::<f32>().ok().filter(|s| s.is_finite());
            match (name, strength) {
                ("unet", Some(s)) => unet = s,
                ("te", Some(s)) => text_encoder = s,
                _ => bail!("`{part}` in `{argument}`: expected `unet=NUMBER` or `te=NUMBER`"),
            }
        }
        Ok(Self {
            path: path.into(),
            strengths: Some((unet, text_encoder)),
        })
    }
}

/// Opens a LoRA and matches it with the modules of `checkpoint`.
pub(crate) fn lora(
    path: &Path,
    checkpoint: &Checkpoint,
    ignore: &[String],
) -> anyhow::Result<ResolvedLora> {
    resolved(path, &ModuleTable::of_checkpoint(checkpoint), ignore)
}

/// Opens a LoRA and matches it with the modules of a table.
pub(crate) fn resolved(
    path: &Path,
    table: &ModuleTable,
    ignore: &[String],
) -> anyhow::Result<ResolvedLora> {
    let options = ResolveOptions {
        ignore: ignore.to_vec(),
    };
    let lora = Lora::open(path)?;
    Ok(lora.resolve(table, &options)?)
}

/// The LoRAs of `--lora`, matched with the modules of `checkpoint`.
pub(crate) fn baked(
    arguments: &[String],
    checkpoint: &Checkpoint,
    ignore: &[String],
) -> anyhow::Result<Vec<Baked>> {
    arguments
        .iter()
        .map(|argument| {
            let weighted = Weighted::parse(argument)?;
            let (unet_strength, text_encoder_strength) = weighted.strengths.unwrap_or((1.0, 1.0));
            let lora = lora(&weighted.path, checkpoint, ignore)?;
            Ok(Baked {
                lora,
                unet_strength,
                text_encoder_strength,
            })
        })
        .collect()
}

/// The functions of `--multifunction`: `NAME` or `NAME=FILE:STRENGTH`, between commas.
///
/// A piece `te=NUMBER` or `unet=NUMBER` behind a file with such strengths belongs to that file.
pub(crate) fn styles(
    argument: &str,
    checkpoint: &Checkpoint,
    ignore: &[String],
) -> anyhow::Result<Vec<Style>> {
    let mut styles = Vec::new();
    for piece in pieces(argument) {
        let (name, file) = match piece.split_once('=') {
            Some((name, file)) => (name, vec![file.to_string()]),
            None => (piece.as_str(), Vec::new()),
        };
        if name.is_empty() || file.iter().any(String::is_empty) {
            bail!("`--multifunction {argument}`: `{piece}` is neither NAME nor NAME=FILE");
        }
        styles.push(Style {
            name: name.into(),
            loras: baked(&file, checkpoint, ignore)?,
        });
    }
    Ok(styles)
}

fn pieces(argument: &str) -> Vec<String> {
    let strength = |piece: &str| {
        let value = ["unet=", "te="].iter().find_map(|n| piece.strip_prefix(n));
        value.is_some_and(|v| v.parse::<f32>().is_ok())
    };
    let mut pieces: Vec<String> = Vec::new();
    for piece in argument.split(',') {
        match pieces.last_mut() {
            Some(last)
                if strength(piece) && last.rsplit_once(':').is_some_and(|(_, t)| strength(t)) =>
            {
                last.push(',');
                last.push_str(piece);
            }
            _ => pieces.push(piece.to_string()),
        }
    }
    pieces
}

/// `WxH` in pixels.
pub(crate) fn size(argument: &str) -> anyhow::Result<(usize, usize)> {
    let parsed = argument
        .split_once('x')
        .and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
    parsed.with_context(|| {
        format!("`--size {argument}`: expected WIDTHxHEIGHT in pixels, for instance 512x768")
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn strengths_follow_the_last_colon() {
        let parse = |s: &str| Weighted::parse(s).unwrap();
        assert_eq!(
            parse("a.safetensors"),
            Weighted {
                path: "a.safetensors".into(),
                strengths: None
            }
        );
        assert_eq!(
            parse("a:b:0.8"),
            Weighted {
                path: "a:b".into(),
                strengths: Some((0.8, 0.8))
            }
        );
        assert_eq!(
            parse("a:unet=0.8,te=-1"),
            Weighted {
                path: "a".into(),
                strengths: Some((0.8, -1.0))
            }
        );
        assert_eq!(parse("c:folder/a").path, PathBuf::from("c:folder/a"));
        assert!(
            Weighted::parse("a:unet=x")
                .unwrap_err()
                .to_string()
                .contains("unet=x")
        );
        assert!(Weighted::parse("a:inf").is_err());
    }

    #[test]
    fn functions_are_split_at_commas_that_are_no_strengths() {
        assert_eq!(
            pieces("base,a=f.safetensors:unet=0.8,te=0.4,b=g"),
            ["base", "a=f.safetensors:unet=0.8,te=0.4", "b=g"]
        );
        // A function may be called like a strength.
        assert_eq!(pieces("base,te=0.4"), ["base", "te=0.4"]);
        assert_eq!(pieces("a=f:0.8,unet=g"), ["a=f:0.8", "unet=g"]);
    }

    #[test]
    fn sizes() {
        assert_eq!(size("512x768").unwrap(), (512, 768));
        assert!(
            size("512")
                .unwrap_err()
                .to_string()
                .contains("WIDTHxHEIGHT")
        );
    }
}
