//! `cargo xtask bench`: the full-size run, with times and peak anonymous memory of each command.

mod engine;
mod gemm;
mod generate;

use crate::{root, step};
use anyhow::Context;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Options of the bench task.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// What to measure instead of the commands.
    #[command(subcommand)]
    part: Option<Part>,
    /// Leave out the verification of the UNet, which runs it twice.
    #[arg(long)]
    no_verify: bool,
}

#[derive(clap::Subcommand)]
enum Part {
    /// The engine against torch 2.7 (installed under `target/`), in one run; writes its section of `docs/benchmarks.md`.
    Engine(engine::Options),
    /// A whole `gesso generate` against the same loop in diffusers, in one run; writes its section of
    /// `docs/benchmarks.md`.
    Generate(generate::Options),
    /// The crates `gemm`, `faer` and `matrixmultiply` on Stable Diffusion's shapes.
    Gemm(gemm::Options),
}

/// One measured command.
struct Row {
    what: String,
    seconds: f64,
    /// User and system time of the process.
    cpu: f64,
    /// Highest `RssAnon` seen, in bytes; mapped file pages are not counted.
    anonymous: u64,
    ok: bool,
}

/// Converts, adapts and verifies the synthetic SD 1.5 that `cargo xtask synth sd15` writes, and prints a table for
/// `docs/benchmarks.md`.
pub(crate) fn run(options: &Options) -> anyhow::Result<bool> {
    match &options.part {
        Some(Part::Engine(options)) => return engine::run(options),
        Some(Part::Generate(options)) => return generate::run(options),
        Some(Part::Gemm(options)) => return gemm::run(options),
        None => {}
    }
    if !step("cargo", &["build", "--release", "--quiet", "-p", "gesso"])?
        || !step("cargo", &["xtask", "synth", "sd15"])?
    {
        return Ok(false);
    }
    let synth = root().join("target/synth/sd15");
    let out = root().join("target/bench");
    std::fs::create_dir_all(&out)?;
    let lora = synth.join("lora/style-r16.safetensors");
    let mut rows = Vec::new();
    for bits in ["16", "8", "4"] {
        let folder = out.join(format!("sd15-{bits}"));
        rows.push(measured(&format!("convert --bits {bits}"), |c| {
            c.arg("convert")
                .arg(&synth)
                .arg("-o")
                .arg(&folder)
                .args(["--bits", bits, "--force"]);
        })?);
        let asset = out.join(format!("style-{bits}.mlmodelcassets"));
        rows.push(measured(
            &format!("adapter, rank 16, base at {bits} bits"),
            |c| {
                c.arg("adapter")
                    .arg(&lora)
                    .arg("--base")
                    .arg(&folder)
                    .arg("-o")
                    .arg(&asset)
                    .arg("--force");
            },
        )?);
    }
    let delta = out.join("style-4-delta.mlmodelcassets");
    rows.push(measured(
        "adapter --as delta, rank 16, base at 4 bits",
        |c| {
            c.arg("adapter")
                .arg(&lora)
                .args(["--as", "delta", "--base"]);
            c.arg(out.join("sd15-4")).arg("--checkpoint").arg(&synth);
            c.arg("-o").arg(&delta).arg("--force");
        },
    )?);
    rows.push(measured("apply that delta", |c| {
        c.arg("apply")
            .arg(&delta)
            .arg("--base")
            .arg(out.join("sd15-4"));
        c.arg("-o").arg(out.join("sd15-4-styled")).arg("--force");
    })?);
    rows.push(thousand(&out)?);
    if !options.no_verify {
        for bits in ["16", "4"] {
            rows.push(measured(
                &format!("verify --components unet, {bits} bits"),
                |c| {
                    c.arg("verify")
                        .arg(out.join(format!("sd15-{bits}")))
                        .arg("--against")
                        .arg(&synth);
                    c.args(["--components", "unet", "--steps", "0"]);
                },
            )?);
        }
        rows.push(measured(
            "verify --components unet --adapter, 16 bits",
            |c| {
                c.arg("verify")
                    .arg(out.join("sd15-16"))
                    .arg("--against")
                    .arg(&synth);
                c.arg("--adapter")
                    .arg(out.join("style-16.mlmodelcassets"))
                    .arg("--lora")
                    .arg(&lora);
                c.args(["--components", "unet", "--steps", "0"]);
            },
        )?);
    }
    println!("| command | seconds | CPU seconds | peak anonymous memory |\n|---|---|---|---|");
    for row in &rows {
        let failed = if row.ok { "" } else { " (FAILED)" };
        println!(
            "| {}{failed} | {:.1} | {:.2} | {:.0} MB |",
            row.what,
            row.seconds,
            row.cpu,
            row.anonymous as f64 / 1e6
        );
    }
    for asset in ["style-16.mlmodelcassets", "style-4-delta.mlmodelcassets"] {
        let bytes = std::fs::metadata(out.join(asset))?.len();
        println!("\n{asset}: {:.1} MB", bytes as f64 / 1e6);
    }
    println!(
        "LoRA: {:.1} MB",
        std::fs::metadata(&lora)?.len() as f64 / 1e6
    );
    Ok(rows.iter().all(|r| r.ok))
}

/// 1,000 LoRAs of the shapes model, one of them cut short, in one call.
fn thousand(out: &Path) -> anyhow::Result<Row> {
    let base = out.join("shapes");
    let convert = measured("convert", |c| {
        c.arg("convert").arg(root().join("fixtures/shapes/base"));
        c.arg("-o").arg(&base).arg("--force");
    })?;
    anyhow::ensure!(convert.ok, "the shapes model does not convert");
    let (loras, assets) = (out.join("loras"), out.join("assets"));
    for folder in [&loras, &assets] {
        if folder.exists() {
            std::fs::remove_dir_all(folder)?;
        }
    }
    std::fs::create_dir_all(&loras)?;
    let sketch = std::fs::read(root().join("fixtures/shapes/lora/sketch.safetensors"))?;
    for i in 0..1000 {
        let bytes = if i == 617 {
            &sketch[..100]
        } else {
            &sketch[..]
        };
        std::fs::write(loras.join(format!("{i:04}.safetensors")), bytes)?;
    }
    let row = measured("adapter, 1,000 LoRAs of 120 modules, one cut short", |c| {
        c.arg("adapter").arg(&loras).arg("--base").arg(&base);
        c.arg("-o").arg(&assets).args(["--jobs", "2"]);
    })?;
    let made = std::fs::read_dir(&assets)?.count();
    Ok(Row {
        ok: row.ok && made == 999,
        ..row
    })
}

/// Runs the release binary, looking at its memory every 10 ms.
fn measured(what: &str, arguments: impl FnOnce(&mut Command)) -> anyhow::Result<Row> {
    let mut command = Command::new(root().join("target/release/gesso"));
    arguments(&mut command);
    eprintln!("+ {command:?}");
    let (start, before) = (Instant::now(), cpu_of_children()?);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .context("cannot start the release binary")?;
    let status = Path::new("/proc")
        .join(child.id().to_string())
        .join("status");
    let mut anonymous = 0;
    let code = loop {
        if let Some(code) = child.try_wait()? {
            break code;
        }
        anonymous = anonymous.max(rss_anon(&status).unwrap_or(0));
        std::thread::sleep(Duration::from_millis(10));
    };
    // 1 means findings: a figure below its threshold is still a measurement.
    let ok = matches!(code.code(), Some(0 | 1));
    Ok(Row {
        what: what.into(),
        seconds: start.elapsed().as_secs_f64(),
        cpu: cpu_of_children()? - before,
        anonymous,
        ok,
    })
}

/// User and system seconds of all children that have ended (`cutime` and `cstime` of this process, in hundredths).
fn cpu_of_children() -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    // The name in parentheses may hold spaces.
    let (_, fields) = text.rsplit_once(')').context("an odd /proc/self/stat")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok());
    let (user, system) = (ticks(13), ticks(14));
    Ok((user.zip(system)).map_or(0.0, |(u, s)| (u + s) / 100.0))
}

/// `RssAnon` of a process in bytes.
fn rss_anon(status: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(status).ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("RssAnon:"))?;
    line.trim()
        .strip_suffix(" kB")?
        .trim()
        .parse::<u64>()
        .ok()
        .map(|kb| kb * 1024)
}
