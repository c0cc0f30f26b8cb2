//! `gesso generate`.

use super::{Global, overwrite, print_json};
use crate::args::{Generate, Rng, Sampling};
use crate::base::Base;
use crate::networks::EngineNetworks;
use crate::picture::Picture;
use crate::progress::Line;
use crate::sampler::Settled;
use crate::{Outcome, assets};
use anyhow::Context;
use gesso_coreml::stage::Staging;
use gesso_pipeline::rng::RngKind;
use gesso_pipeline::schedulers::SchedulerConfig;
use gesso_pipeline::{Output, Prompt, Request, Tokenizer, generate};
use std::ops::ControlFlow;
use std::time::Instant;

pub(super) fn run(options: &Generate, global: Global) -> anyhow::Result<Outcome> {
    let start = Instant::now();
    let base = Base::open(&options.folder)?.with_function(options.function.as_deref());
    let staging = Staging::file(&options.output, overwrite(options.force))?;
    let (prompt, mentions) = Prompt::parse(&options.sampling.prompt)?;
    let mut arguments = options.adapter.clone();
    arguments.extend(assets::named(&mentions, options.adapter_dir.as_deref())?);
    let mut assets = assets::load(&arguments, &base)?;
    let own = base.info.scheduler_hint_of(options.function.as_deref());
    let own = own.cloned();
    assets
        .hints
        .extend(own.map(|hint| (base.info.origin.name.clone(), hint)));
    let settled = Settled::new(&options.sampling, &assets.hints)?;
    for note in &settled.notes {
        eprintln!("note: {note}");
    }
    let adapters = &assets.adapters;
    let mut networks = EngineNetworks::load(&base, adapters, global.engine(options.precision))?;
    let loaded = start.elapsed().as_secs_f64();
    let mut line = Line::new();
    line.begin("sampling", settled.steps.into());
    let output = sample(
        &base,
        &options.sampling,
        &settled,
        prompt,
        &mut networks,
        &mut line,
    )?;
    line.clear();
    let (width, height) = base.size();
    let picture = Picture {
        width,
        height,
        rgb: output.rgb8(),
    };
    let bytes = picture.png(&[
        ("parameters", parameters(options, &settled, &base)),
        ("Software", "Gesso".into()),
    ])?;
    std::fs::write(staging.path(), bytes).context("cannot write the picture")?;
    staging.commit()?;
    let seconds = start.elapsed().as_secs_f64();
    if global.json {
        print_json(&serde_json::json!({
            "schema": 1,
            "picture": options.output,
            "tokens": output.prompt.ids,
            "truncated": output.prompt.truncated,
            "steps": output.timesteps.len(),
            "scheduler": settled.scheduler.name(),
            "guidance": settled.guidance,
            "notes": settled.notes,
            "seconds": { "load": loaded, "all": seconds },
        }))?;
    } else {
        if output.prompt.truncated || output.negative.truncated {
            println!("note: a prompt is longer than 77 tokens; its end was cut off");
        }
        println!(
            "wrote `{}` ({width}x{height}) in {seconds:.1} s",
            options.output.display()
        );
    }
    Ok(Outcome::Done)
}

/// One picture of `prompt`, all else as in `sampling` and `settled`, by the sampling loop.
pub(crate) fn sample(
    base: &Base,
    sampling: &Sampling,
    settled: &Settled,
    prompt: Prompt,
    networks: &mut EngineNetworks,
    line: &mut Line,
) -> anyhow::Result<Output> {
    let (width, height) = base.size();
    let mut scheduler_config = scheduler_config(base)?;
    scheduler_config.timestep_spacing = settled.spacing.or(scheduler_config.timestep_spacing);
    let request = Request {
        prompt,
        negative: Prompt::parse_negative(&sampling.negative)?,
        seed: sampling.seed,
        rng: match sampling.rng {
            Rng::Numpy => RngKind::Numpy,
            Rng::Torch => RngKind::Torch,
            Rng::Nvidia => RngKind::Nvidia,
        },
        steps: settled.steps as usize,
        scheduler: settled.scheduler,
        scheduler_config,
        guidance: settled.guidance,
        width,
        height,
        scaling_factor: base.info.scaling_factor.context("the folder has no VAE")?,
        initial_latents: None,
    };
    let tokenizer = tokenizer(base)?;
    let output = generate(&request, &tokenizer, networks, &mut |_step| {
        line.advance(1);
        ControlFlow::Continue(())
    })?;
    Ok(output)
}

/// The scheduler's configuration as it came with the source.
pub(crate) fn scheduler_config(base: &Base) -> anyhow::Result<SchedulerConfig> {
    match &base.info.scheduler {
        serde_json::Value::Null => Ok(SchedulerConfig::stable_diffusion()),
        value => Ok(serde_json::from_value(value.clone()).context("`scheduler` in `gesso.json`")?),
    }
}

/// The tokenizer of the folder.
pub(crate) fn tokenizer(base: &Base) -> anyhow::Result<Tokenizer> {
    let read = |name: &str| {
        let path = base.folder.join(name);
        std::fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))
    };
    let tokenizer = Tokenizer::from_strings(&read("vocab.json")?, &read("merges.txt")?)?;
    match base.info.family.as_str() {
        // OpenCLIP, the text encoder of Stable Diffusion 2, was trained with id 0 behind the end of the text.
        "sd2" => Ok(tokenizer.padding_with("!")?),
        _ => Ok(tokenizer),
    }
}

/// The parameters as one text, in the order that other tools write them.
fn parameters(options: &Generate, settled: &Settled, base: &Base) -> String {
    use clap::ValueEnum;
    let word = |v: Option<clap::builder::PossibleValue>| {
        v.map(|v| v.get_name().to_string()).unwrap_or_default()
    };
    let s = &options.sampling;
    let (width, height) = base.size();
    let mut text = s.prompt.clone();
    if !s.negative.is_empty() {
        text.push_str(&format!("\nNegative prompt: {}", s.negative));
    }
    text.push_str(&format!(
        "\nSteps: {}, Sampler: {}, CFG scale: {}, Seed: {}, RNG: {}, Size: {width}x{height}, Model: {}, Bits: {}",
        settled.steps,
        settled.scheduler.name(),
        settled.guidance,
        s.seed,
        word(s.rng.to_possible_value()),
        base.info.origin.name,
        base.info.recipe.bits,
    ));
    if let Some(function) = &options.function {
        text.push_str(&format!(", Function: {function}"));
    }
    for adapter in &options.adapter {
        let name = std::path::Path::new(adapter)
            .file_name()
            .map(|n| n.to_string_lossy().into_owned());
        text.push_str(&format!(", Adapter: {}", name.unwrap_or_default()));
    }
    text
}
