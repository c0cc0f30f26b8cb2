//! `gesso retrofit` on packages that coremltools made in the style of Apple's converter, and on folders of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod changed;
mod folders;
mod refused;
mod slots;
#[path = "../support/mod.rs"]
mod support;

use gesso_convert::adapter::{Factors, stack};
use gesso_convert::asset::Asset;
use gesso_convert::folder::FolderInfo;
use gesso_coreml::compiled::CompiledModel;
use gesso_coreml::package::Package;
use gesso_engine::{Model, RunOptions, Tensor};
use gesso_testkit::{Golden, fixture};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use support::{copy, gesso, succeeds};

pub(crate) const UNET: &str = "Stable_Diffusion_version_sd1_unet.mlpackage";
pub(crate) const TEXT: &str = "Stable_Diffusion_version_sd1_text_encoder.mlpackage";
pub(crate) const WEIGHTS: &str = "Data/com.apple.CoreML/weights/weight.bin";
pub(crate) const LORA: &str = "goldens/lora/sd1";

pub(crate) type Tensors = BTreeMap<String, Tensor>;

/// A folder as Apple's converter leaves it; the UNet in this form.
pub(crate) fn folder(root: &Path, unet: &str) -> PathBuf {
    let folder = root.join(unet);
    let apple = fixture("apple");
    copy(&apple.join(TEXT), &folder.join(TEXT));
    let from = match unet {
        "palettized" => apple.join("palettized").join(UNET),
        _ => apple.join(UNET),
    };
    copy(&from, &folder.join(UNET));
    if unet == "original" {
        let model = folder
            .join(UNET)
            .join("Data/com.apple.CoreML/model.mlmodel");
        std::fs::copy(apple.join("original/model.mlmodel"), model).unwrap();
    }
    folder
}

pub(crate) fn retrofitted(folder: &Path) -> PathBuf {
    let out = folder.with_extension("slots");
    succeeds(gesso().arg("retrofit").arg(folder).arg("-o").arg(&out));
    out
}

pub(crate) fn load(path: &Path) -> Model {
    if path.extension().unwrap() == "mlmodelc" {
        return Model::load_compiled(&CompiledModel::open(path).unwrap()).unwrap();
    }
    Model::load(&Package::open(path).unwrap()).unwrap()
}

pub(crate) fn predict(path: &Path, inputs: &Tensors) -> Tensors {
    let options = RunOptions::default();
    load(path).predict(None, inputs, &options).unwrap()
}

pub(crate) fn golden() -> Golden {
    Golden::open(fixture(LORA).join("golden.safetensors"))
}

/// Inputs of the golden for one of the models.
pub(crate) fn inputs(golden: &Golden, text: bool) -> Tensors {
    let tensor = |name: &str| Tensor::f32(&golden.shape(name), golden.f32(name));
    if text {
        return BTreeMap::from([("input_ids".into(), tensor("text_encoder.in.input_ids"))]);
    }
    let states = golden.f32("unet.in.encoder_hidden_states");
    let turned = (0..32).flat_map(|d| (0..77).map(move |s| s * 32 + d));
    let states = turned.map(|i| states[i]).collect();
    BTreeMap::from([
        ("sample".into(), tensor("unet.in.sample")),
        ("timestep".into(), tensor("unet.in.timestep")),
        (
            "encoder_hidden_states".into(),
            Tensor::f32(&[1, 32, 1, 77], states),
        ),
    ])
}

pub(crate) fn bits(tensors: &Tensors) -> BTreeMap<String, Vec<u32>> {
    let bits = |t: &Tensor| t.as_f32().unwrap().iter().map(|x| x.to_bits()).collect();
    tensors
        .iter()
        .map(|(name, t)| (name.clone(), bits(t)))
        .collect()
}

/// The factors of an asset, from its packages.
pub(crate) fn factors(asset: &Path, scratch: &Path) -> BTreeMap<String, Factors> {
    let asset = Asset::open(asset).unwrap();
    let packages = asset.extract(scratch).unwrap();
    packages
        .into_iter()
        .map(|(component, package)| {
            let out = predict(&package, &Tensors::new());
            let out = out
                .into_iter()
                .map(|(n, t)| (n, t.as_f32().unwrap().to_vec()));
            let factors = asset.factors(&component, out.collect()).unwrap();
            (component, factors)
        })
        .collect()
}

/// The slot inputs of a component with these factors.
pub(crate) fn filled(
    info: &FolderInfo,
    component: &str,
    factors: &Factors,
    strength: f32,
) -> Tensors {
    let table = &info.slot_tables().unwrap()[component];
    let stacked = stack(&[(factors, strength)], table).unwrap();
    let tensor = |(name, t): (String, _)| (name, slot(t));
    stacked.into_iter().map(tensor).collect()
}

pub(crate) fn slot(t: gesso_convert::adapter::SlotTensor) -> Tensor {
    Tensor::f32(&t.shape, t.data)
}

pub(crate) fn adapter(lora: &Path, base: &Path) -> PathBuf {
    let asset = base.with_extension("mlmodelcassets");
    let mut command = gesso();
    let command = command.arg("adapter").arg(lora).arg("--base").arg(base);
    succeeds(command.arg("-o").arg(&asset));
    asset
}
