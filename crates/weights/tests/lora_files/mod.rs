//! Adapter files written by tests, and module tables of the models they are for.
#![allow(dead_code)] // each test uses its own part

use gesso_testkit::{Golden, fixture};
use gesso_weights::Component;
use gesso_weights::lora::{
    Lora, LoraError, ModuleInfo, ModuleKind, ModuleTable, ResolveOptions, ResolvedLora,
};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};

/// A tensor to be written: shape and elements.
pub(crate) type Numbers = (Vec<usize>, Vec<f32>);

/// `shape` filled with a fixed pattern of small numbers.
pub(crate) fn pattern(shape: &[usize]) -> Numbers {
    let n: usize = shape.iter().product();
    let data = (0..n)
        .map(|i| ((i * 7919 + n) % 193) as f32 / 193.0 - 0.5)
        .collect();
    (shape.to_vec(), data)
}

/// One number.
pub(crate) fn scalar(x: f32) -> Numbers {
    (vec![], vec![x])
}

/// A folder for one test.
pub(crate) struct Desk(tempfile::TempDir);

impl Desk {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes an f32 safetensors file.
    pub(crate) fn file(
        &self,
        name: &str,
        tensors: &[(&str, Numbers)],
        metadata: &[(&str, &str)],
    ) -> PathBuf {
        let path = self.path(name);
        let raw: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = tensors
            .iter()
            .map(|(name, (shape, data))| {
                let bytes = data.iter().flat_map(|x| x.to_le_bytes()).collect();
                ((*name).to_string(), Dtype::F32, shape.clone(), bytes)
            })
            .collect();
        write_raw(&path, &raw, metadata);
        path
    }

    /// Writes a PEFT folder.
    pub(crate) fn peft(&self, tensors: &[(&str, Numbers)], config: &str) -> PathBuf {
        self.file("adapter_model.safetensors", tensors, &[]);
        std::fs::write(self.path("adapter_config.json"), config).unwrap();
        self.0.path().to_path_buf()
    }
}

pub(crate) fn write_raw(
    path: &Path,
    tensors: &[(String, Dtype, Vec<usize>, Vec<u8>)],
    metadata: &[(&str, &str)],
) {
    let views: Vec<(&str, TensorView<'_>)> = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| {
            (
                name.as_str(),
                TensorView::new(*dtype, shape.clone(), bytes).unwrap(),
            )
        })
        .collect();
    let metadata: HashMap<String, String> = metadata
        .iter()
        .map(|(k, v)| (k.to_string(), v.to_string()))
        .collect();
    let bytes = safetensors::serialize(views, Some(metadata)).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// A UNet module.
pub(crate) fn module(path: &str, shape: &[usize]) -> ModuleInfo {
    module_of(Component::Unet, path, shape)
}

pub(crate) fn module_of(component: Component, path: &str, shape: &[usize]) -> ModuleInfo {
    ModuleInfo {
        component,
        path: path.to_string(),
        weight_shape: shape.to_vec(),
        has_bias: true,
        kind: match shape.len() {
            1 => ModuleKind::Norm,
            2 => ModuleKind::Linear,
            _ => ModuleKind::Conv,
        },
    }
}

/// The rows of a table in `fixtures/lora/maps`.
pub(crate) fn map_rows(path: &Path) -> Vec<BTreeMap<String, String>> {
    let mut text = String::new();
    flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap())
        .read_to_string(&mut text)
        .unwrap();
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap().split('\t').collect();
    lines
        .map(|line| {
            header
                .iter()
                .zip(line.split('\t'))
                .map(|(k, v)| (k.to_string(), v.to_string()))
                .collect()
        })
        .collect()
}

pub(crate) fn component(word: &str) -> Component {
    [
        Component::Unet,
        Component::TextEncoder,
        Component::TextEncoder2,
        Component::Vae,
    ]
    .into_iter()
    .find(|c| c.as_str() == word)
    .unwrap()
}

/// The modules that such a table lists.
pub(crate) fn modules_of_map(path: &Path) -> Vec<ModuleInfo> {
    map_rows(path)
        .iter()
        .map(|row| {
            let shape: Vec<usize> = row["weight_shape"]
                .split('x')
                .map(|n| n.parse().unwrap())
                .collect();
            ModuleInfo {
                component: component(&row["component"]),
                path: row["diffusers_module"].clone(),
                weight_shape: shape,
                has_bias: true,
                kind: match row["kind"].as_str() {
                    "linear" => ModuleKind::Linear,
                    "norm" => ModuleKind::Norm,
                    "embedding" => ModuleKind::Embedding,
                    _ => ModuleKind::Conv,
                },
            }
        })
        .collect()
}

/// The modules of `sd1`, `sd2`, `sdxl` or `sdxl-refiner`.
pub(crate) fn family(name: &str) -> ModuleTable {
    ModuleTable::new(modules_of_map(&fixture(&format!(
        "lora/maps/{name}.lora-modules.tsv.gz"
    ))))
}

pub(crate) fn sd1() -> ModuleTable {
    family("sd1")
}

/// The table of a model in the diffusers layout.
pub(crate) fn table_of_folder(folder: &Path) -> ModuleTable {
    let files = [
        (Component::Unet, "unet/diffusion_pytorch_model.safetensors"),
        (Component::TextEncoder, "text_encoder/model.safetensors"),
        (Component::TextEncoder2, "text_encoder_2/model.safetensors"),
    ];
    let mut tensors = Vec::new();
    for (component, file) in files {
        let path = folder.join(file);
        if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            let file = SafeTensors::deserialize(&bytes).unwrap();
            for (name, view) in file.iter() {
                tensors.push((component, name.to_string(), view.shape().to_vec()));
            }
        }
    }
    ModuleTable::from_tensors(
        tensors
            .iter()
            .map(|(c, name, shape)| (*c, name.as_str(), shape.as_slice())),
    )
}

pub(crate) fn resolved(path: &Path, table: &ModuleTable) -> ResolvedLora {
    resolve(path, table).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

pub(crate) fn resolve(path: &Path, table: &ModuleTable) -> Result<ResolvedLora, LoraError> {
    Lora::open(path)?.resolve(table, &ResolveOptions::default())
}

/// Largest difference over the largest reference value.
pub(crate) fn relative_error(reference: &[f64], x: &[f32]) -> f64 {
    assert_eq!(reference.len(), x.len(), "lengths differ");
    let peak = reference.iter().fold(0.0f64, |m, r| m.max(r.abs()));
    let worst = reference
        .iter()
        .zip(x)
        .map(|(r, &v)| (r - f64::from(v)).abs())
        .fold(0.0f64, |m, e| if e.is_nan() { f64::NAN } else { m.max(e) });
    worst / peak
}

/// `base + delta` of a golden weight.
pub(crate) fn merged(base: &Golden, name: &str, delta: &[f32]) -> Vec<f32> {
    base.f32(name)
        .iter()
        .zip(delta)
        .map(|(w, d)| w + d)
        .collect()
}

/// A file of f32 tensors, resolved against a table; the tensors are given as (key, numbers).
pub(crate) fn files(tensors: &[(String, Numbers)], table: &ModuleTable) -> ResolvedLora {
    let desk = Desk::new();
    let tensors: Vec<(&str, Numbers)> = tensors
        .iter()
        .map(|(k, v)| (k.as_str(), v.clone()))
        .collect();
    resolved(&desk.file("case.safetensors", &tensors, &[]), table)
}

pub(crate) fn message(tensors: &[(String, Numbers)], table: &ModuleTable) -> String {
    let desk = Desk::new();
    let tensors: Vec<(&str, Numbers)> = tensors
        .iter()
        .map(|(k, v)| (k.as_str(), v.clone()))
        .collect();
    let path = desk.file("case.safetensors", &tensors, &[]);
    resolve(&path, table).unwrap_err().to_string()
}

/// The two halves of a linear LoRA in kohya's spelling, with an alpha where there is one.
pub(crate) fn pair(
    module: &str,
    outputs: usize,
    inputs: usize,
    rank: usize,
    alpha: Option<f32>,
) -> Vec<(String, Numbers)> {
    let mut tensors = vec![
        (
            format!("{module}.lora_down.weight"),
            pattern(&[rank, inputs]),
        ),
        (
            format!("{module}.lora_up.weight"),
            pattern(&[outputs, rank]),
        ),
    ];
    tensors.extend(alpha.map(|a| (format!("{module}.alpha"), scalar(a))));
    tensors
}

/// The halves of a convolution of `kernel` × `kernel`.
pub(crate) fn conv(
    module: &str,
    outputs: usize,
    inputs: usize,
    rank: usize,
    kernel: usize,
) -> Vec<(String, Numbers)> {
    vec![
        (
            format!("{module}.lora_down.weight"),
            pattern(&[rank, inputs, kernel, kernel]),
        ),
        (
            format!("{module}.lora_up.weight"),
            pattern(&[outputs, rank, 1, 1]),
        ),
    ]
}

pub(crate) fn scale(lora: &ResolvedLora, component: Component, path: &str) -> f32 {
    lora.adapter(component, path).unwrap().scale()
}
