//! The load-check: every package that Gesso emits, through coremltools' own type inference.

use super::Part;
use crate::python::environment;
use crate::{root, step};
use std::path::{Path, PathBuf};
use std::process::Command;

const REQUIREMENTS: &[&str] = &["coremltools==9.0", "numpy==1.26.4"];

/// Makes the virtual environment under `target/` if it is not there, emits packages of the shapes model in every
/// flavour, and loads each of them with `xtask/oracle/load_check.py`.
pub(super) fn run() -> anyhow::Result<Part> {
    let python = match environment("coremltools", &[REQUIREMENTS])? {
        Ok(python) => python,
        Err(reason) => return Ok(Part::Skipped(reason)),
    };
    let out = root().join("target/load-check");
    let Some(folders) = emit(&out)? else {
        return Ok(Part::Ran(false));
    };
    let script = root().join("xtask/oracle/load_check.py");
    let status = Command::new(python).arg(script).args(folders).status()?;
    Ok(Part::Ran(status.success()))
}

/// Flavours of convert whose packages are load-checked: (folder, arguments).
const FLAVOURS: &[(&str, &[&str])] = &[
    ("fp16", &["--bits", "16"]),
    ("bits8", &["--bits", "8"]),
    ("bits6", &["--bits", "6"]),
    ("bits4", &["--bits", "4"]),
    ("original", &["--bits", "8", "--attention", "original"]),
    ("fp32", &["--precision", "fp32", "--adapter-rank", "0"]),
    (
        "wide",
        &["--bits", "4", "--size", "192x128", "--adapter-rank", "64"],
    ),
    ("sites", &["--bits", "4", "--adapter-sites", "all"]),
    ("states", &["--adapter-io", "state", "--target", "ios18"]),
    (
        "states4",
        &["--bits", "4", "--adapter-io", "state", "--target", "ios18"],
    ),
    (
        "baked",
        &[
            "--bits",
            "8",
            "--lora",
            "fixtures/shapes/lora/watercolor.safetensors:0.8",
        ],
    ),
    (
        "functions",
        &[
            "--bits",
            "4",
            "--target",
            "ios18",
            "--multifunction",
            "base,sketch=fixtures/shapes/lora/sketch.safetensors:0.8",
        ],
    ),
];

/// The command line that the Rust tests have just built beside this program; built here when it is missing.
fn binary() -> anyhow::Result<Option<String>> {
    let name = format!("gesso{}", std::env::consts::EXE_SUFFIX);
    let path = std::env::current_exe()?.with_file_name(name);
    if !path.exists() && !step("cargo", &["build", "--quiet", "-p", "gesso"])? {
        return Ok(None);
    }
    Ok(Some(path.to_string_lossy().into_owned()))
}

/// Emits every flavour, one adapter asset per LoRA, slots for packages of another converter and the probe kit; `None` when a command failed.
fn emit(out: &Path) -> anyhow::Result<Option<Vec<PathBuf>>> {
    let Some(gesso) = binary()? else {
        return Ok(None);
    };
    std::fs::create_dir_all(out)?;
    let mut folders = Vec::new();
    for (name, flavour) in FLAVOURS {
        let folder = out.join(name);
        let target = folder.to_string_lossy().into_owned();
        let mut arguments = vec!["convert", "fixtures/shapes/base", "-o", &target, "--force"];
        arguments.extend(*flavour);
        if !step(&gesso, &arguments)? {
            return Ok(None);
        }
        folders.push(folder);
    }
    let base = out.join("fp16").to_string_lossy().into_owned();
    for style in ["sketch", "pixel", "watercolor"] {
        let lora = format!("fixtures/shapes/lora/{style}.safetensors");
        let asset = out.join(format!("{style}.mlmodelcassets"));
        let target = asset.to_string_lossy().into_owned();
        let arguments = ["adapter", &lora, "--base", &base, "-o", &target, "--force"];
        if !step(&gesso, &arguments)? {
            return Ok(None);
        }
        folders.push(asset);
    }
    let retrofitted = out.join("retrofit");
    let target = retrofitted.to_string_lossy().into_owned();
    let arguments = ["retrofit", "fixtures/apple", "-o", &target, "--force"];
    if !step(&gesso, &arguments)? {
        return Ok(None);
    }
    folders.push(retrofitted);
    let kit = out.join("probe-kit");
    let target = kit.to_string_lossy().into_owned();
    let arguments = ["probe-kit", "-o", &target, "--force"];
    if !step(&gesso, &arguments)? {
        return Ok(None);
    }
    folders.push(kit);
    Ok(Some(folders))
}
