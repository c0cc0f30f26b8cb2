//! The folder of the kit: packages, compiled twins, numbers, and the program that runs them.
//!
//! ```text
//! DIR/
//!   kit.json                          what there is, and what each run must give
//!   packages/<name>.mlpackage
//!   compiled/<name>.mlmodelc          the same packages, compiled by Gesso
//!   data/<probe>/<case>/<kind>.<name>.f32
//!                                     float32, little-endian, row-major; kind: input, state, output
//!   ProbeKit.swift, README.md
//! ```

use super::expected::run;
use super::probes::{Case, Given, PROBES, Probe};
use anyhow::Context;
use gesso_convert::compile_package;
use gesso_engine::{Data, Tensor};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// dB that a result must reach: what fp16 arithmetic leaves of these programs, with room.
pub(super) const FLOOR_DB: f64 = 40.0;

const SWIFT: &str = include_str!("ProbeKit.swift");
const README: &str = include_str!("README.md");

/// Writes the kit into `dir`, which exists and is empty; the answer counts packages and cases.
pub(super) fn write(dir: &Path) -> anyhow::Result<(usize, usize)> {
    let packages = dir.join("packages");
    std::fs::create_dir_all(&packages)?;
    std::fs::create_dir_all(dir.join("compiled"))?;
    let (mut models, mut cases) = (0, 0);
    let mut list = Vec::new();
    for probe in PROBES {
        let made = (probe.build)(&packages, probe)
            .with_context(|| format!("cannot build probe `{}`", probe.id))?;
        for package in &made {
            compile_package(package, &dir.join(compiled(package)))?;
        }
        let mut runs = Vec::new();
        for case in (probe.cases)() {
            let outputs = run(&made, &case)
                .with_context(|| format!("probe `{}`, case `{}`", probe.id, case.name))?;
            runs.push(entry(dir, probe, &case, &outputs)?);
        }
        models += made.len();
        cases += runs.len();
        list.push(json!({
            "id": probe.id,
            "claim": probe.claim,
            "ios": probe.ios,
            "models": made.iter().map(|package| json!({
                "package": format!("packages/{}", name(package)),
                "compiled": compiled(package),
            })).collect::<Vec<_>>(),
            "cases": runs,
        }));
    }
    let kit = json!({ "schema": 1, "floorDb": FLOOR_DB, "probes": list });
    let text = serde_json::to_string_pretty(&kit)? + "\n";
    std::fs::write(dir.join("kit.json"), text)?;
    std::fs::write(dir.join("ProbeKit.swift"), SWIFT)?;
    std::fs::write(dir.join("README.md"), README)?;
    Ok((models, cases))
}

fn name(package: &Path) -> String {
    let name = package.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// Place of the compiled twin in the kit.
fn compiled(package: &Path) -> String {
    let name = PathBuf::from(name(package)).with_extension("mlmodelc");
    format!("compiled/{}", name.display())
}

/// One case of `kit.json`; its numbers go to files.
fn entry(
    dir: &Path,
    probe: &Probe,
    case: &Case,
    outputs: &BTreeMap<String, Tensor>,
) -> anyhow::Result<Value> {
    let folder = format!("data/{}/{}", probe.id, case.name);
    std::fs::create_dir_all(dir.join(&folder))?;
    let array = |kind: &str, name: &str, shape: &[usize], values: &[f32]| {
        let file = format!("{folder}/{kind}.{name}.f32");
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        std::fs::write(dir.join(&file), bytes)?;
        anyhow::Ok(json!({ "name": name, "shape": shape, "file": file }))
    };
    let given = |kind: &str, rows: &[Given]| {
        rows.iter()
            .map(|row| array(kind, row.name, &row.shape, &row.values))
            .collect::<anyhow::Result<Vec<_>>>()
    };
    let expected = outputs.iter().map(|(name, tensor)| match &tensor.data {
        Data::F32(values) => array("output", name, &tensor.shape, values),
        other => anyhow::bail!("output `{name}` is {}", other.word()),
    });
    Ok(json!({
        "name": case.name,
        "function": case.function,
        "inputs": given("input", &case.inputs)?,
        "states": given("state", &case.states)?,
        "outputs": expected.collect::<anyhow::Result<Vec<_>>>()?,
    }))
}
