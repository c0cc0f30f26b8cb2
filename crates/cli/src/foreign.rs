//! Folders that another converter made: the models under the names that Apple's tools give them, and no `gesso.json`.

use crate::base::{model, shape};
use anyhow::{Context, bail};
use gesso_convert::folder::{FOLDER_SCHEMA, FolderInfo, OriginInfo, PackageInfo, RecipeInfo};
use gesso_engine::Model;
use std::collections::BTreeMap;
use std::path::Path;

/// (name in the Swift package, part of the file name that Apple's converter writes).
const MODELS: &[(&str, &str)] = &[
    ("TextEncoder", "text_encoder"),
    ("Unet", "unet"),
    ("VAEDecoder", "vae_decoder"),
    ("VAEEncoder", "vae_encoder"),
];

/// Factor of Stable Diffusion 1 between the VAE's latents and the UNet's; such folders do not say it.
const SCALING_FACTOR: f32 = 0.18215;

/// What can be told of a folder without `gesso.json`: its models, its picture size, whether a tokenizer is there.
///
/// The models may lie in the folder or in its `Resources`, as `Unet.mlmodelc`, `Unet.mlpackage` or
/// `Stable_Diffusion_version_…_unet.mlpackage`. Schedule and scaling factor are those of Stable Diffusion 1.
///
/// Errors: a folder with no such model; a UNet in chunks, which is not joined here.
pub(crate) fn describe(folder: &Path) -> anyhow::Result<FolderInfo> {
    let names = names(folder)?;
    let mut packages = BTreeMap::new();
    for (name, part) in MODELS {
        if let Some(file) = find(&names, name, part) {
            packages.insert((*name).to_string(), package(file));
        }
    }
    if packages.is_empty() {
        bail!(
            "`{}` holds no `gesso.json` and no model under the names that Apple's tools give them",
            folder.display()
        );
    }
    if !packages.contains_key("Unet") && names.iter().any(|n| n.to_lowercase().contains("chunk1")) {
        bail!(
            "the UNet in `{}` is cut into chunks, which are not joined here\n\nhint: convert without chunks",
            folder.display()
        );
    }
    let (width, height) = size(folder, &packages)?;
    Ok(FolderInfo {
        schema: FOLDER_SCHEMA,
        converter: String::new(),
        family: "sd1".into(),
        origin: OriginInfo::default(),
        source_hash: String::new(),
        recipe: RecipeInfo {
            bits: 16,
            precision: "fp16".into(),
            attention: String::new(),
            width,
            height,
            adapter_rank: 0,
            adapter_sites: None,
            adapter_io: None,
            palettize: Vec::new(),
            loras: Vec::new(),
            functions: Vec::new(),
        },
        packages,
        deltas: Vec::new(),
        slots: BTreeMap::new(),
        tokenizer: ["vocab.json", "merges.txt"]
            .iter()
            .all(|n| folder.join(n).is_file()),
        scheduler: serde_json::Value::Null,
        scaling_factor: Some(SCALING_FACTOR),
        tensors: BTreeMap::new(),
        unused: Vec::new(),
    })
}

/// Names in the folder and in its `Resources`, sorted; what lies in the folder itself comes first.
fn names(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for (prefix, place) in [
        ("", folder.to_path_buf()),
        ("Resources/", folder.join("Resources")),
    ] {
        if !prefix.is_empty() && !place.is_dir() {
            continue;
        }
        let entries = std::fs::read_dir(&place)
            .with_context(|| format!("cannot read `{}`", place.display()))?;
        let mut here = Vec::new();
        for entry in entries {
            here.push(format!("{prefix}{}", entry?.file_name().to_string_lossy()));
        }
        here.sort();
        names.extend(here);
    }
    Ok(names)
}

/// The file of one model.
fn find<'a>(names: &'a [String], name: &str, part: &str) -> Option<&'a String> {
    names.iter().find(|file| {
        let base = file.rsplit('/').next().unwrap_or(file);
        let Some((stem, extension)) = base.rsplit_once('.') else {
            return false;
        };
        let known = stem == name
            || stem
                .strip_prefix("Stable_Diffusion_version_")
                .is_some_and(|rest| rest.ends_with(&format!("_{part}")));
        known && matches!(extension, "mlpackage" | "mlmodelc")
    })
}

fn package(file: &str) -> PackageInfo {
    PackageInfo {
        file: file.into(),
        weights_of: None,
        inputs: Vec::new(),
        outputs: Vec::new(),
        bytes_before: 0,
        bytes_after: 0,
        min_snr_db: None,
        functions: Vec::new(),
        palettized: BTreeMap::new(),
    }
}

/// Width and height of the pictures in pixels: from the UNet's `sample`, or from an image of the VAE.
fn size(folder: &Path, packages: &BTreeMap<String, PackageInfo>) -> anyhow::Result<(usize, usize)> {
    let load = |name: &str| {
        packages
            .get(name)
            .map(|p| model(&folder.join(&p.file)))
            .transpose()
    };
    let last_two = |shape: Vec<usize>| match shape.as_slice() {
        [.., h, w] => Some((*w, *h)),
        _ => None,
    };
    let feature = |model: &Model, output: bool| -> anyhow::Result<Option<(usize, usize)>> {
        let features = if output {
            model.outputs(None)?
        } else {
            model.inputs(None)?
        };
        let sample = features
            .iter()
            .find(|f| f.name == "sample")
            .or(features.first());
        sample.map(shape).transpose().map(|s| s.and_then(last_two))
    };
    if let Some(unet) = load("Unet")? {
        let (w, h) =
            feature(&unet, false)?.context("the UNet's `sample` has no height and width")?;
        return Ok((8 * w, 8 * h));
    }
    for (name, output) in [("VAEDecoder", true), ("VAEEncoder", false)] {
        if let Some(found) = load(name)?
            .map(|m| feature(&m, output))
            .transpose()?
            .flatten()
        {
            return Ok(found);
        }
    }
    Ok((512, 512))
}
