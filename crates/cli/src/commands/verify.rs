//! `gesso verify`: what a conversion lost.
//!
//! The reference is the fp32, unpalettized program of the same source with the same LoRAs merged. It comes from the same graph
//! builder, so this measures loss; that the graph is right is shown by the goldens of other libraries.

use super::generate::{sample, tokenizer};
use super::{Global, convert, print_json};
use crate::args::{Part, Rng, Sampling, Scheduler, Verify};
use crate::base::{Base, shape};
use crate::measure::Loss;
use crate::networks::{Adapter, EngineNetworks, Inputs, slots};
use crate::progress::Line;
use crate::table::{self, Table};
use crate::{Outcome, assets, source};
use anyhow::{Context, bail, ensure};
use gesso_convert::Recipe;
use gesso_convert::asset::{Asset, hex};
use gesso_convert::family::Precision;
use gesso_convert::recipe::Part as Package;
use gesso_coreml::stage::{Overwrite, Staging, require_space};
use gesso_engine::{RunOptions, Tensor};
use gesso_pipeline::Prompt;
use gesso_pipeline::rng::{NormalSource, NumpyRng};
use gesso_weights::{Checkpoint, Component};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

pub(super) fn run(options: &Verify, global: Global) -> anyhow::Result<Outcome> {
    let start = Instant::now();
    let losses = losses(options, global)?;
    let passed = losses.iter().all(Loss::passed);
    if global.json {
        print_json(&serde_json::json!({
            "schema": 1,
            "passed": passed,
            "losses": losses,
            "seconds": start.elapsed().as_secs_f64(),
        }))?;
    } else {
        print!("{}", report(&losses).text());
        println!(
            "{} in {:.1} s",
            if passed {
                "passed"
            } else {
                "BELOW THE THRESHOLD"
            },
            start.elapsed().as_secs_f64()
        );
    }
    Ok(if passed {
        Outcome::Done
    } else {
        Outcome::Findings
    })
}

/// PSNR that every module must reach by default; what 4 bits and less lose is printed, not judged.
fn default_floor(bits: u8) -> Option<f64> {
    match bits {
        16 => Some(45.0),
        8 => Some(35.0),
        _ => None,
    }
}

/// The losses of all modules that were asked for, then of the final latent and the image.
pub(crate) fn losses(options: &Verify, global: Global) -> anyhow::Result<Vec<Loss>> {
    let base = Base::open(&options.folder)?;
    let checkpoint = source::checkpoint(&options.against, &options.source)?;
    require_source(options, &base, &checkpoint)?;
    let parts = parts(options, &base)?;
    let recipe = reference_recipe(options, &base, &checkpoint, &parts)?;
    let scratch = reference(&checkpoint, &recipe, options, global)?;
    let exact = Base::open(scratch.path())?;
    let adapters = assets::load(options.adapter.as_slice(), &base)?;
    let comparison = Comparison {
        base: &base,
        exact: &exact,
        adapters,
        engine: global.engine(options.compute),
        judge: global.engine(crate::args::Compute::Fp32),
        floor: options.min_psnr.or(default_floor(base.info.recipe.bits)),
        ids: tokenizer(&base)
            .ok()
            .map(|t| t.encode_77(&options.prompt).0.to_vec()),
    };
    let mut losses = Vec::new();
    for &part in &parts {
        losses.extend(comparison.module(part)?);
    }
    let whole = [Package::TextEncoder, Package::Unet, Package::VaeDecoder]
        .iter()
        .all(|p| parts.contains(p));
    if whole && options.steps > 0 && base.info.tokenizer {
        losses.extend(comparison.end_to_end(options)?);
    }
    Ok(losses)
}

/// The folder must come from this checkpoint. A folder of another converter does not say where it comes from.
fn require_source(options: &Verify, base: &Base, checkpoint: &Checkpoint) -> anyhow::Result<()> {
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
        options.against.display(),
        base.info.source_hash,
    );
    Ok(())
}

fn parts(options: &Verify, base: &Base) -> anyhow::Result<Vec<Package>> {
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
        bail!(
            "`{}` has no `{}`",
            options.folder.display(),
            missing.package()
        );
    }
    Ok(parts)
}

/// The recipe of the reference: as the base was made, in fp32, without palettes and slots, with the LoRAs merged.
fn reference_recipe(
    options: &Verify,
    base: &Base,
    checkpoint: &Checkpoint,
    parts: &[Package],
) -> anyhow::Result<Recipe> {
    let made = &base.info.recipe;
    let baked = made.loras.len();
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
    options: &Verify,
    global: Global,
) -> anyhow::Result<Staging> {
    let mut target = options.folder.as_os_str().to_owned();
    target.push(".reference");
    let staging = Staging::new(std::path::Path::new(&target), Overwrite::Refuse)?;
    require_space(staging.path(), recipe.bytes_needed(checkpoint)?)?;
    std::fs::create_dir_all(staging.path()).context("cannot create the reference")?;
    let mut line = Line::new();
    global
        .on_threads(|| gesso_convert::convert(checkpoint, recipe, staging.path(), &mut line))??;
    Ok(staging)
}

struct Comparison<'a> {
    base: &'a Base,
    exact: &'a Base,
    adapters: Vec<(Adapter, f32)>,
    engine: RunOptions,
    judge: RunOptions,
    floor: Option<f64>,
    /// Token ids of the prompt, when the folder has a tokenizer.
    ids: Option<Vec<i32>>,
}

impl Comparison<'_> {
    /// Every output of one package against the reference's, on the same seeded inputs.
    fn module(&self, part: Package) -> anyhow::Result<Vec<Loss>> {
        let component = match part {
            Package::TextEncoder => "text_encoder",
            Package::Unet => "unet",
            Package::VaeDecoder | Package::VaeEncoder => "vae",
        };
        let slots = slots(self.base, component, &self.adapters)?;
        let name = format!(
            "{}{}",
            part.package(),
            if slots.is_empty() { "" } else { "Adaptable" }
        );
        let exact = self.exact.model(part.package())?;
        let mut inputs = Inputs::new();
        let mut random = NumpyRng::new(1);
        for input in exact.inputs(None)? {
            let shape = shape(input)?;
            let count: usize = shape.iter().product();
            let values = match (input.name.as_str(), &self.ids) {
                ("input_ids", Some(ids)) => ids.iter().map(|&i| i as f32).collect(),
                ("input_ids", None) => (0..count).map(|i| (i % 100) as f32).collect(),
                ("timestep", _) => vec![500.0; count],
                _ => random
                    .normal(count)
                    .into_iter()
                    .map(|x| half::f16::from_f32(x).to_f32())
                    .collect(),
            };
            inputs.insert(input.name.clone(), Tensor::f32(&shape, values));
        }
        let wanted = exact.predict(None, &inputs, &self.judge)?;
        drop(exact);
        inputs.extend(slots);
        let model = self.base.model(&name)?;
        rename_only(&mut inputs, &model)?;
        let start = Instant::now();
        let found = model.predict(None, &inputs, &self.engine)?;
        let seconds = start.elapsed().as_secs_f64();
        let one = wanted.len() == 1;
        wanted
            .iter()
            .map(|(output, tensor)| {
                let label = if one {
                    name.clone()
                } else {
                    format!("{name} {output}")
                };
                let x = found
                    .get(output)
                    .or_else(|| found.values().next().filter(|_| one && found.len() == 1))
                    .with_context(|| format!("`{name}` has no output `{output}`"))?;
                let floats = |t: &Tensor| {
                    t.as_f32()
                        .map(<[f32]>::to_vec)
                        .context("an output is not a float array")
                };
                Ok(Loss::new(
                    &label,
                    &floats(tensor)?,
                    &floats(x)?,
                    self.floor,
                    seconds,
                ))
            })
            .collect()
    }

    /// Final latent and image of the same request on both sides; printed, not judged.
    fn end_to_end(&self, options: &Verify) -> anyhow::Result<Vec<Loss>> {
        let sampling = Sampling {
            prompt: options.prompt.clone(),
            negative: String::new(),
            seed: 0,
            rng: Rng::Numpy,
            steps: options.steps,
            scheduler: Scheduler::DpmPp2m,
            guidance: 7.5,
        };
        let mut line = Line::new();
        let mut networks = EngineNetworks::load(self.exact, &[], self.judge.clone())?;
        line.begin("reference", options.steps.into());
        let prompt = Prompt::plain(&options.prompt);
        let wanted = sample(
            self.exact,
            &sampling,
            prompt.clone(),
            &mut networks,
            &mut line,
        )?;
        let mut networks = EngineNetworks::load(self.base, &self.adapters, self.engine.clone())?;
        line.begin("conversion", options.steps.into());
        let start = Instant::now();
        let found = sample(self.base, &sampling, prompt, &mut networks, &mut line)?;
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
}

/// The name of an only input is free in a folder of another converter.
fn rename_only(inputs: &mut Inputs, model: &gesso_engine::Model) -> anyhow::Result<()> {
    if let ([one], 1) = (model.inputs(None)?, inputs.len())
        && let Some((_, tensor)) = inputs.pop_first()
    {
        inputs.insert(one.name.clone(), tensor);
    }
    Ok(())
}

fn report(losses: &[Loss]) -> Table {
    let mut table = Table::new(&["module", "PSNR dB", "SNR dB", "at least", "s", ""]);
    for loss in losses {
        table.row(&[
            loss.name.clone(),
            table::db(loss.psnr_db),
            table::db(loss.snr_db),
            loss.floor_db.map(table::db).unwrap_or_else(|| "–".into()),
            table::seconds(loss.seconds),
            if loss.passed() {
                String::new()
            } else {
                "FAILED".into()
            },
        ]);
    }
    table
}

/// Losses by name, for the demo's table.
pub(crate) fn by_name(losses: &[Loss]) -> BTreeMap<&str, f64> {
    losses
        .iter()
        .map(|l| (l.name.as_str(), l.psnr_db))
        .collect()
}
