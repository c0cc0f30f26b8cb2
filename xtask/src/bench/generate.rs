//! `cargo xtask bench generate`: a whole picture by `gesso generate`, and by the same loop in diffusers.

use super::engine::{Cost, Ground, write};
use crate::root;
use anyhow::Context;
use std::process::{Command, Stdio};
use std::time::Instant;

const START: &str = "<!-- cargo xtask bench generate -->";
const END: &str = "<!-- end of cargo xtask bench generate -->";

/// Options of the part.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Steps of the sampler.
    #[arg(long, default_value_t = 20)]
    steps: usize,
    /// Turns; the fastest counts, for seconds and for CPU seconds each.
    #[arg(long, default_value_t = 1)]
    repeats: usize,
    /// Threads of both.
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

/// Measures, prints the table and writes it into `docs/benchmarks.md`; false when diffusers is faster.
pub(crate) fn run(options: &Options) -> anyhow::Result<bool> {
    let Some(ground) = Ground::prepared()? else {
        return Ok(false);
    };
    if !ground.converted("16")? {
        return Ok(false);
    }
    let mut torch = ground.torch()?;
    let (mut ours, mut theirs) = (Cost::NONE, Cost::NONE);
    for _ in 0..options.repeats {
        ours = ours.least(picture(&ground, options)?);
        let request = format!("loop {} {}", options.steps, options.threads);
        theirs = theirs.least(torch.cost(&request)?);
    }
    let Options { steps, threads, .. } = options;
    let text = format!(
        "| 512×512, {steps} steps with guidance, {threads} threads | s | CPU s |\n|---|---|---|\n\
         | `gesso generate`, fp16 package, the whole command | {:.1} | {:.1} |\n\
         | diffusers, models loaded before | {:.1} | {:.1} |\n\
         | diffusers ÷ `gesso generate` | {:.2} | {:.2} |\n",
        ours.wall,
        ours.cpu,
        theirs.wall,
        theirs.cpu,
        theirs.wall / ours.wall,
        theirs.cpu / ours.cpu
    );
    print!("{text}");
    write(&text, START, END)?;
    Ok(ours.wall <= theirs.wall)
}

/// One picture by the command line, from start to end.
fn picture(ground: &Ground, options: &Options) -> anyhow::Result<Cost> {
    let (cpu, start) = (children_seconds()?, Instant::now());
    let status = Command::new(ground.release.join("gesso"))
        .args(["generate", "target/bench/sd15-16", "--force"])
        .args(["--prompt", "a photograph of an astronaut riding a horse"])
        .args(["--steps", &options.steps.to_string()])
        .args(["--threads", &options.threads.to_string()])
        .args(["-o", "target/bench/picture.png"])
        .current_dir(root())
        .stdout(Stdio::null())
        .status()
        .context("cannot start the release binary")?;
    anyhow::ensure!(status.success(), "`gesso generate` ended with {status}");
    Ok(Cost {
        wall: start.elapsed().as_secs_f64(),
        cpu: children_seconds()? - cpu,
    })
}

/// CPU time of the processes that this one has waited for, user and system; the kernel counts in units of 10 ms.
fn children_seconds() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').context("an odd `/proc/self/stat`")?;
    let ticks = fields.split_whitespace().skip(13).take(2);
    let ticks: Vec<f64> = ticks.map(str::parse).collect::<Result<_, _>>()?;
    Ok(ticks.iter().sum::<f64>() / 100.0)
}
