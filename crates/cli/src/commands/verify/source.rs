//! Against the checkpoint: the reference is the fp32, unpalettized program of the same source with the same LoRAs merged.
//!
//! It comes from the same graph builder, so this measures loss; that the graph is right is shown by the goldens of other
//! libraries.

use super::options::Options;
use super::pair::{Asked, compare, seeded};
use super::{Report, ids};
use crate::args::{Part, Rng, Sampling, Scheduler};
use crate::base::Base;
use crate::commands::generate::sample;
use crate::commands::{Global, convert};
use crate::measure::Loss;
use crate::networks::{Adapter, EngineNetworks, Inputs, slots};
use crate::progress::Line;
use crate::sampler::Settled;
use crate::{assets, source};
use anyhow::{Context, bail, ensure};
use gesso_convert::Recipe;
use gesso_convert::asset::{Asset, hex};
use gesso_convert::family::Precision;
use gesso_convert::recipe::Part as Package;
use gesso_coreml::stage::{Overwrite, Staging, require_space};
use gesso_engine::Model;
use gesso_pipeline::Prompt;
use gesso_weights::{Checkpoint, Component};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

/// Every model that was asked for, then the final latent and the image.
pub(super) fn judge(
    options: &Options,
    against: &Path,
    asked: &Asked<'_>,
    global: Global,
) -> anyhow::Result<Report> {
    let base = Base::open(&options.folder)?.with_function(options.function.as_deref());
    let checkpoint = source::checkpoint(against, &options.source)?;
    require_source(options, against, &base, &checkpoint)?;
    let parts = parts(options, &base)?;
    let models: Vec<Model> = parts
        .iter()
        .map(|p| base.model(p.package()))
        .collect::<anyhow::Result<_>>()?;
    super::known_probes(options, models.iter())?;
    drop(models);
    let recipe = reference_recipe(options, &base, &checkpoint, &parts)?;
    let scratch = reference(&checkpoint, &recipe, options, global)?;
    let exact = Base::open(scratch.path())?;
    let adapters = assets::load(options.adapter.as_slice(), &base)?.adapters;
    let floor = options.min_psnr.or(default_floor(base.info.recipe.bits));
    let asked = Asked {
        // The base's models run that function by default.
        function: None,
        floor,
        ..asked.clone()
    };
    let ids = ids(&base, options);
    let mut report = Report::default();
    for &part in &parts {
        let component = match part {
            Package::TextEncoder => "text_encoder",
            Package::Unet => "unet",
            Package::VaeDecoder | Package::VaeEncoder => "vae",
        };
        let slots = slots(&base, component, &adapters)?;
        let adaptable = if slots.is_empty() { "" } else { "Adaptable" };
        let name = format!("{}{adaptable}", part.package());
        let reference = exact.model(part.package())?;
        let wanted = seeded(reference.inputs(None)?, ids.as_deref())?;
        let mut inputs: Inputs = wanted.clone();
        inputs.extend(slots);
        let model = base.model(&name)?;
        super::rename_only(&mut inputs, &model, None)?;
        report.add(
            &name,
            compare(&name, (&model, &inputs), (&reference, &wanted), &asked)?,
        );
    }
    let whole = [Package::TextEncoder, Package::Unet, Package::VaeDecoder]
        .iter()
        .all(|p| parts.contains(p));
    if whole && options.steps > 0 && base.info.tokenizer {
        let losses = end_to_end(options, (&base, &adapters), &exact, &asked)?;
        report.losses.extend(losses);
    }
    Ok(report)
}

/// PSNR that every module must reach by default; what 4 bits and less lose is printed, not judged.
fn default_floor(bits: u8) -> Option<f64> {
    match bits {
        16 => Some(45.0),
        8 => Some(35.0),
        _ => None,
    }
}

/// The folder must come from this checkpoint. A folder of another converter does not say where it comes from.
fn require_source(
    options: &Options,
    against: &Path,
    base: &Base,
    checkpoint: &Checkpoint,
) -> anyhow::Result<()> {
    if base.info.source_hash.is_empty() {
        return Ok(());
    }
    let components: BTreeSet<Component> = Package::ALL
        .into_iter()
        .filter(|p| base.has(p.package()))
        .map(|p| match p {
            Package::TextEncoder => Component::TextEncoder,
            Package::Unet => Component::Unet,
            Package::VaeDecoder | Package::VaeEncoder => Component::Vae,
        })
        .collect();
    let components: Vec<Component> = components.into_iter().collect();
    let found = hex(&checkpoint.source_hash(&components));
    ensure!(
        found == base.info.source_hash,
        "`{}` was made from another checkpoint than `{}`: source hash {} against {found}",
        options.folder.display(),
        against.display(),
        base.info.source_hash,
    );
    Ok(())
}

pub(super) fn parts(options: &Options, base: &Base) -> anyhow::Result<Vec<Package>> {
    let asked = |part: Package| {
        let word = match part {
            Package::TextEncoder => Part::TextEncoder,
            Package::Unet => Part::Unet,
            Package::VaeDecoder => Part::VaeDecoder,
            Package::VaeEncoder => Part::VaeEncoder,
        };
        options.components.contains(&word)
    };
    let parts: Vec<Package> = Package::ALL
        .into_iter()
        .filter(|&p| asked(p) || (options.components.is_empty() && base.has(p.package())))
        .collect();
    if let Some(missing) = parts.iter().find(|p| !base.has(p.package())) {
        bail!("`{}` has no `{}`", base.folder.display(), missing.package());
    }
    Ok(parts)
}

/// The recipe of the reference: as the base was made, in fp32, without palettes and slots, with the LoRAs merged.
fn reference_recipe(
    options: &Options,
    base: &Base,
    checkpoint: &Checkpoint,
    parts: &[Package],
) -> anyhow::Result<Recipe> {
    let made = &base.info.recipe;
    let own = made.functions.iter().find(|f| match &options.function {
        Some(name) => f.name == *name,
        None => true,
    });
    let baked = made.loras.len() + own.map_or(0, |f| f.loras.len());
    if options.adapter.is_none() && options.lora.len() != baked {
        bail!(
            "`{}` was converted with {baked} LoRAs merged in, but {} were given by `--lora`\n\n\
             hint: give the same files with the same strengths",
            options.folder.display(),
            options.lora.len()
        );
    }
    ensure!(
        options.adapter.is_none() || baked == 0,
        "an adapter is judged on a base without merged LoRAs; `{}` has {baked}",
        options.folder.display()
    );
    let mut loras = source::baked(&options.lora, checkpoint, &[])?;
    if let (Some(adapter), [lora]) = (&options.adapter, loras.as_mut_slice()) {
        // The LoRA has the strength of the adapter, unless it was given its own.
        let weighted = source::Weighted::parse(adapter)?;
        let own = source::Weighted::parse(&options.lora[0])?.strengths;
        if own.is_none() {
            let (unet, text_encoder) = match weighted.strengths {
                Some(strengths) => strengths,
                None => {
                    let strength = Asset::open(&weighted.path)?.manifest().default_strength;
                    (strength, strength)
                }
            };
            (lora.unet_strength, lora.text_encoder_strength) = (unet, text_encoder);
        }
    }
    Ok(Recipe {
        precision: Precision::Fp32,
        size: Some((made.width, made.height)),
        attention: gesso_convert::family::Attention::Original,
        adapter_rank: 0,
        loras,
        parts: parts.iter().copied().collect(),
        origin: convert::origin(checkpoint),
        ..Recipe::default()
    })
}

/// Writes the reference beside the folder, as a temporary that goes when it is dropped.
fn reference(
    checkpoint: &Checkpoint,
    recipe: &Recipe,
    options: &Options,
    global: Global,
) -> anyhow::Result<Staging> {
    let mut target = options.folder.as_os_str().to_owned();
    target.push(".reference");
    let staging = Staging::new(Path::new(&target), Overwrite::Refuse)?;
    require_space(staging.path(), recipe.bytes_needed(checkpoint)?)?;
    std::fs::create_dir_all(staging.path()).context("cannot create the reference")?;
    let mut line = Line::new();
    global
        .on_threads(|| gesso_convert::convert(checkpoint, recipe, staging.path(), &mut line))??;
    Ok(staging)
}

/// Final latent and image of the same request on both sides; printed, not judged.
fn end_to_end(
    options: &Options,
    (base, adapters): (&Base, &[(Adapter, f32)]),
    exact: &Base,
    asked: &Asked<'_>,
) -> anyhow::Result<Vec<Loss>> {
    let sampling = Sampling {
        prompt: options.prompt.clone(),
        negative: String::new(),
        seed: 0,
        rng: Rng::Numpy,
        steps: Some(options.steps),
        scheduler: Some(Scheduler::DpmPp2m),
        guidance: Some(7.5),
    };
    let settled = Settled::new(&sampling, &[])?;
    let mut line = Line::new();
    let mut networks = EngineNetworks::load(exact, &[], asked.judge.clone())?;
    line.begin("reference", options.steps.into());
    let prompt = Prompt::plain(&options.prompt);
    let wanted = sample(
        exact,
        &sampling,
        &settled,
        prompt.clone(),
        &mut networks,
        &mut line,
    )?;
    let mut networks = EngineNetworks::load(base, adapters, asked.engine.clone())?;
    line.begin("conversion", options.steps.into());
    let start = Instant::now();
    let found = sample(base, &sampling, &settled, prompt, &mut networks, &mut line)?;
    let seconds = start.elapsed().as_secs_f64();
    let steps = options.steps;
    Ok(vec![
        Loss::new(
            &format!("latent after {steps} steps"),
            &wanted.latents,
            &found.latents,
            None,
            seconds,
        ),
        Loss::new("image", &wanted.image, &found.image, None, seconds),
    ])
}
