//! Adapter assets, checked and run to their factors.

use crate::base::{Base, model};
use crate::networks::Adapter;
use crate::source::Weighted;
use anyhow::Context;
use gesso_convert::asset::Asset;
use gesso_convert::hint::SchedulerHint;
use gesso_coreml::stage::{Overwrite, Staging};
use gesso_engine::{Kernels, RunOptions};
use gesso_pipeline::prompt::Mention;
use std::collections::BTreeMap;
use std::path::Path;

/// Adapters in use.
#[derive(Default)]
pub(crate) struct Loaded {
    /// Each adapter's factors with the strength to stack them with: that of the argument, else the asset's own.
    pub(crate) adapters: Vec<(Adapter, f32)>,
    /// How few-step releases among them want to be sampled, with the name of each.
    pub(crate) hints: Vec<(String, SchedulerHint)>,
}

/// Opens the assets of `--adapter`, checks that they fit the base, and runs their packages once each.
pub(crate) fn load(arguments: &[String], base: &Base) -> anyhow::Result<Loaded> {
    let mut loaded = Loaded::default();
    for argument in arguments {
        let weighted = Weighted::parse(argument)?;
        let asset = Asset::open(&weighted.path)?;
        asset
            .fits(&base.slots, &base.info.source_hash)
            .with_context(|| format!("`{}` does not fit this base", weighted.path.display()))?;
        let manifest = asset.manifest();
        let strength = weighted
            .strengths
            .map_or(manifest.default_strength, |s| s.0);
        let hint = manifest.scheduler_hint.clone().filter(|_| strength != 0.0);
        loaded
            .hints
            .extend(hint.map(|hint| (manifest.name.clone(), hint)));
        let factors = factors(&asset, &weighted.path)?;
        loaded.adapters.push((factors, strength));
    }
    Ok(loaded)
}

/// The assets that a prompt names, as arguments of `--adapter`: `name.mlmodelcassets` in `folder`.
pub(crate) fn named(mentions: &[Mention], folder: Option<&Path>) -> anyhow::Result<Vec<String>> {
    if mentions.is_empty() {
        return Ok(Vec::new());
    }
    let folder = folder.with_context(|| {
        format!(
            "the prompt names the adapter `{}`\n\nhint: say where it is with `--adapter-dir`",
            mentions[0].name
        )
    })?;
    let mut known = BTreeMap::new();
    let listed = std::fs::read_dir(folder);
    for entry in listed.with_context(|| format!("cannot read `{}`", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "mlmodelcassets")
            && let Some(stem) = path.file_stem().and_then(|s| s.to_str())
        {
            known.insert(stem.to_string(), path);
        }
    }
    mentions
        .iter()
        .map(|mention| {
            let path = known.get(&mention.name).with_context(|| {
                let names: Vec<&str> = known.keys().map(String::as_str).collect();
                format!(
                    "the prompt names the adapter `{}`, but `{}` has {}",
                    mention.name,
                    folder.display(),
                    if names.is_empty() {
                        "none".to_string()
                    } else {
                        format!("only `{}`", names.join("`, `"))
                    }
                )
            })?;
            Ok(format!("{}:{}", path.display(), mention.strength))
        })
        .collect()
}

/// The factors of an asset: each of its packages predicts once with scale 1.
fn factors(asset: &Asset, path: &Path) -> anyhow::Result<Adapter> {
    let scratch = std::env::temp_dir().join(format!("gesso-adapter-{}", std::process::id()));
    let scratch = Staging::new(&scratch, Overwrite::Force)?;
    let packages = asset.extract(scratch.path())?;
    // One small product per element: the naive kernels give the same factors on every CPU.
    let options = RunOptions {
        kernels: Kernels::Naive,
        ..RunOptions::default()
    };
    packages
        .into_iter()
        .map(|(component, package)| {
            let outputs = model(&package)?.predict(None, &BTreeMap::new(), &options)?;
            let tensors = outputs
                .into_iter()
                .map(|(name, t)| {
                    let values = t.as_f32().map(<[f32]>::to_vec);
                    Ok((
                        name.clone(),
                        values.with_context(|| format!("output `{name}` is not a float array"))?,
                    ))
                })
                .collect::<anyhow::Result<_>>()?;
            let factors = asset.factors(&component, tensors).with_context(|| {
                format!(
                    "`{}` does not name its component `{component}`",
                    path.display()
                )
            })?;
            Ok((component, factors))
        })
        .collect()
}
