//! A folder as loaders see it: models by name, packages and compiled models alike.

use crate::opened::{Form, Opened};
use gesso_coreml::proto::specification::array_feature_type::ArrayDataType;
use gesso_coreml::proto::specification::feature_type::Type;
use gesso_coreml::proto::specification::{FeatureDescription, state_feature_type};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A model of the folder.
pub(super) struct Part {
    pub(super) name: String,
    /// File name with its extension.
    pub(super) file: String,
    pub(super) form: Form,
    /// The open model, or why it does not open.
    pub(super) opened: Result<Opened, String>,
    /// What of it does not load by the lints.
    pub(super) errors: Vec<String>,
}

/// A feature of a model.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Feature {
    pub(super) name: String,
    /// `FLOAT16` and so on; empty for other kinds than arrays.
    pub(super) dtype: &'static str,
    pub(super) shape: Vec<i64>,
    pub(super) optional: bool,
    pub(super) flexible: bool,
}

/// The folder.
pub(super) struct Folder {
    pub(super) path: PathBuf,
    /// Models by name without extension.
    pub(super) parts: BTreeMap<String, Part>,
    /// Models in the sub-folder `controlnet`.
    pub(super) control_nets: Vec<Part>,
}

impl Folder {
    /// Looks at every model in the folder. Where a package and a compiled model have one name, the compiled one counts.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let mut parts: BTreeMap<String, Part> = BTreeMap::new();
        for part in parts_in(path)? {
            let taken = parts
                .get(&part.name)
                .is_some_and(|p| p.form == Form::Compiled);
            if !taken {
                parts.insert(part.name.clone(), part);
            }
        }
        let nets = path.join("controlnet");
        Ok(Self {
            path: path.into(),
            parts,
            control_nets: if nets.is_dir() {
                parts_in(&nets)?
            } else {
                Vec::new()
            },
        })
    }

    pub(super) fn part(&self, name: &str) -> Option<&Part> {
        self.parts.get(name)
    }

    /// The models that a picture takes: whole or chunked UNet, text encoders, decoder, and what is optional.
    pub(super) fn used(&self) -> impl Iterator<Item = &Part> {
        self.parts
            .values()
            .filter(|p| MODELS.contains(&p.name.as_str()))
    }

    /// The first model of the UNet, whose description is read, and the last one, whose output is.
    pub(super) fn unet(&self) -> Option<(&Part, &Part)> {
        if let (Some(a), Some(b)) = (self.part("UnetChunk1"), self.part("UnetChunk2")) {
            return Some((a, b));
        }
        let whole = self.part("Unet")?;
        Some((whole, whole))
    }

    /// A model of SDXL: the UNet takes `time_ids` and `text_embeds`.
    pub(super) fn is_xl(&self) -> bool {
        let inputs = self
            .unet()
            .map(|(first, _)| first.inputs())
            .unwrap_or_default();
        ["time_ids", "text_embeds"]
            .iter()
            .all(|name| inputs.iter().any(|f| f.name == *name))
    }
}

/// Names of the models that Apple's package looks for.
pub(super) const MODELS: &[&str] = &[
    "TextEncoder",
    "TextEncoder2",
    "Unet",
    "UnetChunk1",
    "UnetChunk2",
    "ControlledUnet",
    "ControlledUnetChunk1",
    "ControlledUnetChunk2",
    "VAEDecoder",
    "VAEEncoder",
    "SafetyChecker",
];

fn parts_in(folder: &Path) -> anyhow::Result<Vec<Part>> {
    let mut parts = Vec::new();
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)?
        .map(|e| Ok(e?.path()))
        .collect::<std::io::Result<_>>()?;
    paths.sort();
    for path in paths {
        let form = match path.extension().and_then(|e| e.to_str()) {
            Some("mlpackage") => Form::Package,
            Some("mlmodelc") => Form::Compiled,
            _ => continue,
        };
        let text =
            |s: Option<&std::ffi::OsStr>| s.unwrap_or_default().to_string_lossy().into_owned();
        let opened = Opened::open(&path).map_err(|e| format!("{e:#}"));
        let errors = match &opened {
            Ok(o) => gesso_mil::lints::run(&o.model, o.facts())
                .into_iter()
                .filter(|f| f.severity == gesso_mil::lints::Severity::Error)
                .map(|f| f.to_string())
                .collect(),
            Err(e) => vec![e.clone()],
        };
        parts.push(Part {
            name: text(path.file_stem()),
            file: text(path.file_name()),
            form,
            opened,
            errors,
        });
    }
    Ok(parts)
}

impl Part {
    pub(super) fn inputs(&self) -> Vec<Feature> {
        self.list(0)
    }

    pub(super) fn outputs(&self) -> Vec<Feature> {
        self.list(1)
    }

    pub(super) fn states(&self) -> Vec<Feature> {
        self.list(2)
    }

    pub(super) fn input(&self, name: &str) -> Option<Feature> {
        self.inputs().into_iter().find(|f| f.name == name)
    }

    /// Names of its functions when it has several.
    pub(super) fn functions(&self) -> usize {
        let Ok(opened) = &self.opened else { return 0 };
        opened
            .model
            .description
            .as_ref()
            .map_or(0, |d| d.functions.len())
    }

    /// Features of the first function.
    fn list(&self, which: usize) -> Vec<Feature> {
        let Ok(opened) = &self.opened else {
            return Vec::new();
        };
        let interfaces = opened.interfaces();
        let list = interfaces.first().and_then(|i| i.lists.get(which).copied());
        list.unwrap_or_default().iter().map(feature).collect()
    }
}

fn feature(f: &FeatureDescription) -> Feature {
    let ty = f.r#type.as_ref();
    let array = match ty.and_then(|t| t.r#type.as_ref()) {
        Some(Type::MultiArrayType(a)) => Some(a),
        Some(Type::StateType(s)) => s.r#type.as_ref().map(|t| match t {
            state_feature_type::Type::ArrayType(a) => a,
        }),
        _ => None,
    };
    Feature {
        name: f.name.clone(),
        dtype: array
            .and_then(|a| ArrayDataType::try_from(a.data_type).ok())
            .map_or("", |d| d.as_str_name()),
        shape: array.map(|a| a.shape.clone()).unwrap_or_default(),
        optional: ty.is_some_and(|t| t.is_optional),
        flexible: array.is_some_and(|a| a.shape_flexibility.is_some()),
    }
}
