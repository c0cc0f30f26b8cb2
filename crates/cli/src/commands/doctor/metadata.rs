//! What MochiDiffusion and Guernika read from `metadata.json` inside a compiled model.

use super::folder::{Folder, Part};
use super::{Answers, Lookup, METADATA};
use crate::opened::Form;
use gesso_mil::compiled::{Source, compile};
use serde_json::Value;

pub(super) const LOOKUPS: &[Lookup] = &[
    Lookup {
        name: "metadata",
        apps: METADATA,
        does: "reads `metadata.json` of the first of Unet, UnetChunk1, ControlledUnet",
        check: there,
    },
    Lookup {
        name: "metadata-form",
        apps: METADATA,
        does: "expects an array with one object in it",
        check: form,
    },
    Lookup {
        name: "histogram",
        apps: METADATA,
        does: "expects the key `mlProgramOperationTypeHistogram` with the counts of ops",
        check: histogram,
    },
    Lookup {
        name: "attention",
        apps: METADATA,
        does: "takes the model for split-einsum when the histogram has `Ios16.einsum`, else for original",
        check: attention,
    },
    Lookup {
        name: "picture-size",
        apps: METADATA,
        does: "reads the size of pictures from the first `inputSchema` of VAEEncoder",
        check: picture_size,
    },
];

/// Models in the order in which their metadata is looked for.
const ORDER: &[&str] = &[
    "Unet",
    "UnetChunk1",
    "ControlledUnet",
    "MultiModalDiffusionTransformer",
];

fn first(f: &Folder) -> Option<&Part> {
    ORDER.iter().find_map(|name| f.part(name))
}

/// The document of a compiled model, or the one that compiling a package gives.
fn document(f: &Folder, part: &Part) -> Result<Value, String> {
    let bytes = match (part.form, &part.opened) {
        (Form::Compiled, _) => std::fs::read(f.path.join(&part.file).join("metadata.json"))
            .map_err(|_| format!("`{}` has no `metadata.json`", part.file))?,
        (Form::Package, Ok(opened)) => {
            let source = Source {
                name: &part.name,
                model_name: "model",
                model_hash: [0; 32],
            };
            let mut compiled = compile(&opened.model, &source)
                .map_err(|e| format!("`{}` cannot be compiled: {e}", part.file))?;
            compiled.files.remove("metadata.json").unwrap_or_default()
        }
        (Form::Package, Err(e)) => return Err(format!("`{}`: {e}", part.file)),
    };
    serde_json::from_slice(&bytes)
        .map_err(|e| format!("`{}/metadata.json` is no JSON: {e}", part.file))
}

fn there(f: &Folder, a: &mut Answers) {
    let Some(part) = first(f) else { return };
    let path = f.path.join(&part.file).join("metadata.json");
    if part.form == Form::Compiled && !path.is_file() {
        a.refuse(format!("`{}` has no `metadata.json`", part.file));
    }
}

/// The document of the UNet, when it can be read.
fn unet(f: &Folder) -> Option<(&Part, Value)> {
    let part = first(f)?;
    Some((part, document(f, part).ok()?))
}

fn form(f: &Folder, a: &mut Answers) {
    let Some(part) = first(f) else { return };
    if part.form == Form::Compiled && !f.path.join(&part.file).join("metadata.json").is_file() {
        return;
    }
    match document(f, part) {
        Err(e) => a.refuse(e),
        Ok(value) => {
            let fits = value
                .as_array()
                .is_some_and(|v| v.len() == 1 && v.iter().all(Value::is_object));
            if !fits {
                a.refuse(format!(
                    "`{}/metadata.json` is no array with one object",
                    part.file
                ));
            }
        }
    }
}

fn histogram(f: &Folder, a: &mut Answers) {
    let Some((part, value)) = unet(f) else { return };
    if value.get(0).is_some() && counts(&value).is_none() {
        a.refuse(format!(
            "`{}/metadata.json` has no `mlProgramOperationTypeHistogram`",
            part.file
        ));
    }
}

fn counts(value: &Value) -> Option<&serde_json::Map<String, Value>> {
    value
        .get(0)?
        .get("mlProgramOperationTypeHistogram")?
        .as_object()
}

fn attention(f: &Folder, a: &mut Answers) {
    let Some((part, value)) = unet(f) else { return };
    let Some(counts) = counts(&value) else { return };
    let other = counts
        .keys()
        .find(|k| k.to_lowercase().ends_with("einsum") && *k != "Ios16.einsum");
    if let Some(key) = other.filter(|_| !counts.contains_key("Ios16.einsum")) {
        a.warn(format!("`{}` counts `{key}` instead of `Ios16.einsum`: the app takes it for original attention", part.file));
    }
}

fn picture_size(f: &Folder, a: &mut Answers) {
    let Some(part) = f.part("VAEEncoder") else {
        a.warn("without VAEEncoder the size is unknown, and ControlNets are hidden");
        return;
    };
    let shape = document(f, part).ok().and_then(|value| {
        let schema = value.get(0)?.get("inputSchema")?.get(0)?;
        Some(schema.get("shape")?.as_str()?.to_string())
    });
    let Some(shape) = shape else {
        a.warn(format!(
            "`{}/metadata.json` tells no shape of the first input: the size is unknown",
            part.file
        ));
        return;
    };
    let sizes: Result<Vec<i64>, _> = serde_json::from_str(&shape);
    let fits = sizes.is_ok_and(|s| matches!(s.as_slice(), [1, 3, h, w] if *h > 0 && *w > 0));
    if !fits {
        a.warn(format!(
            "`{}/metadata.json` has shape `{shape}`, expected `[1, 3, H, W]`: the size is unknown",
            part.file
        ));
    }
}
