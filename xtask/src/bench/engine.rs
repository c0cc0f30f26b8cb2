//! `cargo xtask bench engine`: the engine and torch in one run, turn by turn, so that load hits both.

use super::rss_anon;
use crate::python::environment;
use crate::{root, step};
use anyhow::Context;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

/// One `pip install` each. torch comes without the packages for graphics cards that its wheel names.
const INSTALLS: &[&[&str]] = &[
    &["--no-deps", "torch==2.7.0"],
    &[
        "numpy==1.26.4",
        "filelock",
        "typing-extensions",
        "sympy==1.13.3",
        "networkx",
        "jinja2",
        "fsspec",
        "safetensors",
        "setuptools<81",
        "diffusers==0.35.2",
        "transformers==4.57.1",
    ],
];

/// (name, what, GFLOP).
const CASES: &[(&str, &str, f64)] = &[
    ("gemm", "product of 4096 × 4096", 137.4),
    ("unet", "UNet, 2×4×64×64", 1354.0),
    ("vae", "VAE decoder, 512×512", 2480.0),
    ("text", "CLIP-L, 77 tokens", 13.1),
];

const START: &str = "<!-- cargo xtask bench engine -->";
const END: &str = "<!-- end of cargo xtask bench engine -->";

/// Options of the part.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Turns per case; the fastest counts, for seconds and for CPU seconds each. The text encoder, which takes a tenth of
    /// a second, gets ten times as many.
    #[arg(long, default_value_t = 3)]
    repeats: usize,
}

/// Seconds of one run.
#[derive(Clone, Copy)]
pub(super) struct Cost {
    pub(super) wall: f64,
    pub(super) cpu: f64,
}

impl Cost {
    pub(super) const NONE: Self = Self {
        wall: f64::INFINITY,
        cpu: f64::INFINITY,
    };

    pub(super) fn least(self, other: Self) -> Self {
        Self {
            wall: self.wall.min(other.wall),
            cpu: self.cpu.min(other.cpu),
        }
    }
}

/// A process that answers requests with what they cost.
pub(super) struct Server {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Server {
    fn start(command: &mut Command) -> anyhow::Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let requests = child.stdin.take().context("no standard input")?;
        let answers = BufReader::new(child.stdout.take().context("no standard output")?);
        let mut server = Self {
            child,
            requests,
            answers,
        };
        server.answer()?;
        Ok(server)
    }

    fn answer(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        anyhow::ensure!(!line.is_empty(), "a measuring process ended early");
        Ok(line)
    }

    pub(super) fn cost(&mut self, request: &str) -> anyhow::Result<Cost> {
        writeln!(self.requests, "{request}")?;
        let line = self.answer()?;
        let (wall, cpu) = line.trim().split_once(' ').context("an odd answer")?;
        Ok(Cost {
            wall: wall.parse()?,
            cpu: cpu.parse()?,
        })
    }

    /// Highest `RssAnon` while one request runs, in bytes.
    fn memory(&mut self, request: &str) -> anyhow::Result<u64> {
        let status = Path::new("/proc")
            .join(self.child.id().to_string())
            .join("status");
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let watch = scope.spawn(|| {
                let mut most = 0;
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    most = most.max(rss_anon(&status).unwrap_or(0));
                    std::thread::sleep(Duration::from_millis(10));
                }
                most
            });
            let cost = self.cost(request);
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            let most = watch.join().unwrap_or(0);
            cost.map(|_| most)
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A process that has ended already is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What every part needs.
pub(super) struct Ground {
    /// The folder of the release build.
    pub(super) release: PathBuf,
    /// The Python that has torch.
    python: String,
}

impl Ground {
    /// Builds the release binaries, makes the synthetic model and the Python environment, where they are not there yet;
    /// `None` when a command failed, after its own message.
    pub(super) fn prepared() -> anyhow::Result<Option<Self>> {
        let example = [
            "build",
            "--release",
            "--quiet",
            "-p",
            "gesso-engine",
            "--example",
            "bench_serve",
        ];
        let built = step("cargo", &["build", "--release", "--quiet", "-p", "gesso"])?
            && step("cargo", &example)?
            && step("cargo", &["xtask", "synth", "sd15"])?;
        if !built {
            return Ok(None);
        }
        let python = match environment("torch", INSTALLS)? {
            Ok(python) => python.to_string_lossy().into_owned(),
            Err(reason) => anyhow::bail!("{reason}"),
        };
        let imports = Command::new(&python)
            .args(["-c", "import torch"])
            .output()?;
        if !imports.status.success() && !step(&python, &["xtask/oracle/cpu_stub.py"])? {
            return Ok(None);
        }
        let release = std::env::current_exe()?
            .parent()
            .and_then(Path::parent)
            .context("no build folder")?
            .join("release");
        Ok(Some(Self { release, python }))
    }

    /// Converts the synthetic model to `target/bench/sd15-<bits>`; false when that failed.
    pub(super) fn converted(&self, bits: &str) -> anyhow::Result<bool> {
        let gesso = self.release.join("gesso").to_string_lossy().into_owned();
        let folder = format!("target/bench/sd15-{bits}");
        let arguments = [
            "convert",
            "target/synth/sd15",
            "-o",
            &folder,
            "--bits",
            bits,
            "--force",
        ];
        step(&gesso, &arguments)
    }

    /// torch, waiting for requests.
    pub(super) fn torch(&self) -> anyhow::Result<Server> {
        Server::start(
            Command::new(&self.python)
                .args(["xtask/oracle/bench_torch.py", "target/synth/sd15"])
                .current_dir(root()),
        )
    }
}

/// Measures, prints the tables and writes them into `docs/benchmarks.md`; false when torch is faster somewhere.
pub(crate) fn run(options: &Options) -> anyhow::Result<bool> {
    let Some(ground) = Ground::prepared()? else {
        return Ok(false);
    };
    for bits in ["16", "4"] {
        if !ground.converted(bits)? {
            return Ok(false);
        }
    }
    let serve = ground.release.join("examples/bench_serve");
    let engine =
        |packages: &[&str]| Server::start(Command::new(&serve).args(packages).current_dir(root()));
    let mut ours = engine(&[
        "unet=target/bench/sd15-16/Unet.mlpackage",
        "unet4=target/bench/sd15-4/Unet.mlpackage",
        "adaptable=target/bench/sd15-16/UnetAdaptable.mlpackage",
        "vae=target/bench/sd15-16/VAEDecoder.mlpackage",
        "text=target/bench/sd15-16/TextEncoder.mlpackage",
    ])?;
    let mut torch = ground.torch()?;
    let mut costs: BTreeMap<(&str, usize), (Cost, Cost)> = BTreeMap::new();
    for _ in 0..options.repeats {
        for threads in [1, 2] {
            for (name, ..) in CASES {
                let request = format!("{name} {threads}");
                let entry = costs
                    .entry((name, threads))
                    .or_insert((Cost::NONE, Cost::NONE));
                for _ in 0..if *name == "text" { 10 } else { 1 } {
                    entry.0 = entry.0.least(ours.cost(&request)?);
                    entry.1 = entry.1.least(torch.cost(&request)?);
                }
            }
        }
    }
    drop(torch);
    let variants = ["unet", "unet4", "adaptable", "adaptable!"];
    let mut steps = variants.map(|name| (name, Cost::NONE));
    for _ in 0..options.repeats {
        for (name, cost) in &mut steps {
            *cost = cost.least(ours.cost(&format!("{name} 2"))?);
        }
    }
    drop(ours);
    let memory = engine(&["unet4=target/bench/sd15-4/Unet.mlpackage"])?.memory("unet4 2")?;
    let text = tables(&costs, &steps, memory);
    print!("{text}");
    write(&text, START, END)?;
    let slower = |(ours, torch): &(Cost, Cost)| ours.wall > torch.wall || ours.cpu > torch.cpu;
    Ok(!costs.values().any(slower))
}

fn tables(
    costs: &BTreeMap<(&str, usize), (Cost, Cost)>,
    steps: &[(&str, Cost)],
    memory: u64,
) -> String {
    let mut text = String::from(
        "| fp32, threads | engine s | engine CPU s | torch s | torch CPU s | torch ÷ engine, s | torch ÷ engine, CPU s | engine GFLOP per CPU s | of its GEMM |\n|---|---|---|---|---|---|---|---|---|\n",
    );
    for (name, what, flop) in CASES {
        for threads in [1, 2] {
            let Some((ours, torch)) = costs.get(&(*name, threads)) else {
                continue;
            };
            let peak = costs
                .get(&("gemm", threads))
                .map_or(f64::NAN, |(g, _)| 137.4 / g.cpu);
            let rate = flop / ours.cpu;
            // Writing into a string does not fail.
            let _ = writeln!(
                text,
                "| {what}, {threads} | {:.3} | {:.3} | {:.3} | {:.3} | {:.2} | {:.2} | {rate:.0} | {:.0} % |",
                ours.wall,
                ours.cpu,
                torch.wall,
                torch.cpu,
                torch.wall / ours.wall,
                torch.cpu / ours.cpu,
                rate / peak * 100.0
            );
        }
    }
    let base = steps.first().map_or(f64::NAN, |(_, c)| c.cpu);
    text += "\n| one UNet step, 2 threads | s | CPU s | against fp16, CPU s |\n|---|---|---|---|\n";
    let names = [
        "fp16",
        "4 bits",
        "fp16, adapter slots of rank 32, empty",
        "the same, filled",
    ];
    for (what, (_, cost)) in names.iter().zip(steps) {
        let _ = writeln!(
            text,
            "| {what} | {:.2} | {:.2} | {:+.1} % |",
            cost.wall,
            cost.cpu,
            (cost.cpu / base - 1.0) * 100.0
        );
    }
    let _ = writeln!(
        text,
        "\nPeak anonymous memory of one step of the 4-bit package: {:.0} MB.",
        memory as f64 / 1e6
    );
    text
}

/// Puts tables between their markers in `docs/benchmarks.md`.
pub(super) fn write(tables: &str, start: &str, end: &str) -> anyhow::Result<()> {
    let path = root().join("docs/benchmarks.md");
    let page = std::fs::read_to_string(&path)?;
    let (before, rest) = page.split_once(start).context("no start marker")?;
    let (_, after) = rest.split_once(end).context("no end marker")?;
    std::fs::write(path, format!("{before}{start}\n\n{tables}\n{end}{after}"))?;
    Ok(())
}
