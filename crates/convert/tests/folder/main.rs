//! Whole folders from the shapes model and the tiny golden models: files, recipe options, LoRAs, adapters, determinism.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod adapter;
mod bake;
mod dense;
mod engine;
mod files;
mod golden_loras;
mod losses;
mod merge;
mod other_bases;
mod products;
mod recipe;
mod sd2;
mod states;

use gesso_convert::folder::FolderInfo;
use gesso_convert::{Recipe, Report, Silent, convert};
use gesso_coreml::package::Package;
use gesso_mil::{Operation, Value, ValueData};
use gesso_weights::lora::{Lora, ModuleTable, ResolveOptions, ResolvedLora};
use gesso_weights::{Checkpoint, OpenOptions};
use half::f16;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Name of the weight file inside programs.
const BLOB: &str = "@model_path/weights/weight.bin";
/// Where it lies inside a package.
const WEIGHTS: &str = "Data/com.apple.CoreML/weights/weight.bin";

fn open(path: &Path) -> Checkpoint {
    Checkpoint::open(path, &OpenOptions::default()).unwrap()
}

fn shapes() -> Checkpoint {
    open(&gesso_testkit::fixture("shapes/base"))
}

fn lora(name: &str, checkpoint: &Checkpoint) -> ResolvedLora {
    let path = gesso_testkit::fixture(&format!("shapes/lora/{name}.safetensors"));
    Lora::open(&path)
        .unwrap()
        .resolve(&modules(checkpoint), &ResolveOptions::default())
        .unwrap()
}

fn modules(checkpoint: &Checkpoint) -> ModuleTable {
    ModuleTable::from_tensors(
        checkpoint
            .components()
            .flat_map(|(c, tensors)| tensors.iter().map(move |t| (c, t.name, t.shape))),
    )
}

/// A converted folder.
struct Out {
    dir: TempDir,
    report: Report,
}

impl Out {
    fn new(checkpoint: &Checkpoint, recipe: &Recipe) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let report = convert(checkpoint, recipe, dir.path(), &mut Silent).unwrap();
        Self { dir, report }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn info(&self) -> FolderInfo {
        FolderInfo::open(self.path()).unwrap()
    }

    fn package(&self, name: &str) -> PathBuf {
        self.path().join(format!("{name}.mlpackage"))
    }

    fn operations(&self, name: &str) -> Vec<Operation> {
        let package = Package::open(&self.package(name)).unwrap();
        let program = gesso_mil::from_model(&package.model).unwrap();
        program.functions["main"].body().unwrap().operations.clone()
    }
}

/// SHA-256 of every file below `dir`, by relative path.
fn hashes(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            found.extend(
                hashes(&path)
                    .into_iter()
                    .map(|(k, v)| (format!("{name}/{k}"), v)),
            );
        } else {
            found.insert(name, Sha256::digest(std::fs::read(path).unwrap()).to_vec());
        }
    }
    found
}

/// fp16 elements of a value that lies in the weight file of `package` or stands in the program.
fn elements(package: &Package, value: &Value) -> Vec<f32> {
    match &value.data {
        ValueData::Blob { offset, .. } => package
            .blob(BLOB, *offset)
            .unwrap()
            .data
            .chunks(2)
            .map(|c| f16::from_le_bytes([c[0], c[1]]).to_f32())
            .collect(),
        _ => value.as_floats().unwrap(),
    }
}
