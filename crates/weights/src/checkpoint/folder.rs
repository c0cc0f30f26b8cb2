//! The files of a diffusers folder.

use super::json;
use super::tensors::Pool;
use crate::{Component, Error, Result, StFile};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Variants of a weight file, the plain one first. One component is read from one variant only.
const VARIANTS: &[&str] = &["", "fp16", "bf16", "fp32"];

/// Endings of weights that are not safetensors.
const OTHER_ENDINGS: &[&str] = &["bin", "ckpt", "pt", "msgpack", "onnx"];

/// Name of a component's weight file, without ending.
fn stem(component: Component) -> &'static str {
    match component {
        Component::TextEncoder | Component::TextEncoder2 => "model",
        Component::Unet | Component::Vae => "diffusion_pytorch_model",
    }
}

/// The tensors of one component.
pub(super) struct Part {
    pub(super) files: Vec<Arc<StFile>>,
    pub(super) pool: Pool,
    pub(super) note: Option<String>,
}

/// Reads the tensors of `component`; `None` when its folder is not there.
///
/// Errors: those of [`StFile::open`]; `OtherKind` when there are only pickles; `NotACheckpoint` for a folder without
/// weights; `ConfigFile` for a bad index of shards; `Duplicate`.
pub(super) fn part(root: &Path, component: Component) -> Result<Option<Part>> {
    let folder = root.join(component.as_str());
    if !folder.is_dir() {
        return Ok(None);
    }
    let Some((paths, note)) = weight_files(&folder, component)? else {
        return Err(no_weights(&folder)?);
    };
    let mut part = Part {
        files: Vec::new(),
        pool: Pool::default(),
        note,
    };
    for path in paths {
        let file = Arc::new(StFile::open(&path)?);
        for name in file.names() {
            part.pool.add(&file, name, name)?;
        }
        part.files.push(file);
    }
    Ok(Some(part))
}

type Files = (Vec<PathBuf>, Option<String>);

fn weight_files(folder: &Path, component: Component) -> Result<Option<Files>> {
    let stem = stem(component);
    for variant in VARIANTS {
        let dotted = match *variant {
            "" => String::new(),
            v => format!(".{v}"),
        };
        let note = (!variant.is_empty()).then(|| {
            format!("{component}: the `{variant}` variant is read; there is no plain one")
        });
        let whole = folder.join(format!("{stem}{dotted}.safetensors"));
        if whole.is_file() {
            return Ok(Some((vec![whole], note)));
        }
        // Two spellings: `model.fp16.safetensors.index.json` and `model.safetensors.index.fp16.json`.
        for index in [
            format!("{stem}{dotted}.safetensors.index.json"),
            format!("{stem}.safetensors.index{dotted}.json"),
        ] {
            let index = folder.join(index);
            if index.is_file() {
                return Ok(Some((shards(folder, &index)?, note)));
            }
        }
    }
    Ok(None)
}

/// The files that an index names, sorted; every tensor of the index must be in its file.
fn shards(folder: &Path, index: &Path) -> Result<Vec<PathBuf>> {
    let wrong = |reason: String| Error::ConfigFile {
        file: index.into(),
        reason,
    };
    let object = json::object(index)?;
    let map = object
        .get("weight_map")
        .and_then(Value::as_object)
        .ok_or_else(|| wrong("it has no `weight_map`".into()))?;
    let mut names = BTreeSet::new();
    for (tensor, file) in map {
        let name = file.as_str().filter(|f| is_plain_name(f));
        let name = name.ok_or_else(|| {
            wrong(format!(
                "the file of tensor `{tensor}` is {file}, expected a name"
            ))
        })?;
        names.insert(name);
    }
    for name in &names {
        let path = folder.join(name);
        if !path.is_file() {
            return Err(wrong(format!("its file `{name}` is missing")));
        }
        let file = StFile::open(&path)?;
        for (tensor, _) in map.iter().filter(|(_, f)| f.as_str() == Some(name)) {
            if file.get(tensor).is_none() {
                return Err(wrong(format!("tensor `{tensor}` is not in `{name}`")));
            }
        }
    }
    Ok(names.into_iter().map(|name| folder.join(name)).collect())
}

fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && name != ".." && !name.contains(['/', '\\', '\0'])
}

fn no_weights(folder: &Path) -> Result<Error> {
    let entries = std::fs::read_dir(folder).map_err(|e| Error::io("list", folder, e))?;
    let mut others = BTreeSet::new();
    for entry in entries {
        let path = entry.map_err(|e| Error::io("list", folder, e))?.path();
        let ending = path.extension().and_then(|e| e.to_str());
        if ending.is_some_and(|e| OTHER_ENDINGS.contains(&e)) {
            others.insert(path);
        }
    }
    Ok(match others.into_iter().next() {
        Some(file) => Error::OtherKind {
            file,
            what: "the only kind of weights in its folder, and not safetensors; loading a pickle can run any code, so it is not read",
            hint: "get the .safetensors version, or convert it once with a tool that you trust",
        },
        None => Error::NotACheckpoint {
            path: folder.into(),
            reason: "it holds no .safetensors file".into(),
        },
    })
}
