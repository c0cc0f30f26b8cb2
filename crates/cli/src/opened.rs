//! A model that is open, package or compiled: what the commands that look at models share.

use anyhow::Context;
use gesso_coreml::ModelFiles;
use gesso_coreml::compiled::CompiledModel;
use gesso_coreml::package::Package;
use gesso_coreml::proto::specification::{FeatureDescription, Model};
use gesso_engine::WeightSource;
use gesso_mil::compiled::{Parts, decompile};
use gesso_mil::lints::Facts;
use gesso_mil::{Program, TensorType, from_model};
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// Kind of folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// `.mlpackage`.
    Package,
    /// `.mlmodelc`.
    Compiled,
}

impl Form {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Package => "package",
            Self::Compiled => "compiled model",
        }
    }

    /// What a folder holds, by its content.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        if path.join("Manifest.json").is_file() {
            Some(Self::Package)
        } else if path.join("coremldata.bin").is_file() || path.join("model.mil").is_file() {
            Some(Self::Compiled)
        } else {
            None
        }
    }
}

/// A model with its weight files.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) path: PathBuf,
    pub(crate) form: Form,
    pub(crate) model: Model,
    pub(crate) files: ModelFiles,
    /// Items of the manifest that are not there, and the length of the model file.
    facts: Facts,
}

impl Opened {
    /// Opens a package or a compiled model.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let form = Form::of(path).with_context(|| {
            format!(
                "`{}` is neither a package nor a compiled model",
                path.display()
            )
        })?;
        match form {
            Form::Package => {
                let package = Package::open(path)?;
                Ok(Self {
                    path: path.into(),
                    form,
                    facts: Facts::of(&package),
                    files: package.files().clone(),
                    model: package.model,
                })
            }
            Form::Compiled => {
                let compiled = CompiledModel::open(path)?;
                let decompiled = decompile(&Parts {
                    text: &compiled.text,
                    specification_version: compiled.header.specification_version,
                    description: &compiled.header.description,
                    functions: compiled.header.functions,
                })
                .with_context(|| format!("cannot read `{}`", path.join("model.mil").display()))?;
                let (model, files) = (decompiled.model, compiled.files().clone());
                Ok(Self {
                    path: path.into(),
                    form,
                    facts: Facts::of_files(from_model(&model).ok().as_ref(), &files),
                    files,
                    model,
                })
            }
        }
    }

    /// The program.
    pub(crate) fn program(&self) -> anyhow::Result<Program> {
        from_model(&self.model)
            .with_context(|| format!("cannot read the program of `{}`", self.path.display()))
    }

    /// What the lints ask of the file system.
    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Features of every function: name of the function, inputs, outputs, states.
    pub(crate) fn interfaces(&self) -> Vec<Interface<'_>> {
        let Some(d) = &self.model.description else {
            return Vec::new();
        };
        if d.functions.is_empty() {
            let lists = [&d.input[..], &d.output, &d.state];
            return vec![Interface {
                function: "main",
                lists,
            }];
        }
        d.functions
            .iter()
            .map(|f| Interface {
                function: &f.name,
                lists: [&f.input, &f.output, &f.state],
            })
            .collect()
    }
}

/// Features of one function.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interface<'a> {
    pub(crate) function: &'a str,
    /// Inputs, outputs, states.
    pub(crate) lists: [&'a [FeatureDescription]; 3],
}

/// Weights for the engine's decoder.
#[derive(Debug)]
pub(crate) struct Weights(pub(crate) ModelFiles);

impl WeightSource for Weights {
    fn blob(&self, file: &str, offset: u64, _: &TensorType) -> Result<Cow<'_, [u8]>, String> {
        let record = self.0.blob(file, offset).map_err(|e| e.to_string())?;
        Ok(Cow::Borrowed(record.data))
    }
}

/// The models below a path: the path itself, or every package and compiled model in the folder, by name.
pub(crate) fn models(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if Form::of(path).is_some() || !path.is_dir() {
        return Ok(vec![path.into()]);
    }
    let entries =
        std::fs::read_dir(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry
            .with_context(|| format!("cannot read `{}`", path.display()))?
            .path();
        let named = entry
            .extension()
            .is_some_and(|e| e == "mlpackage" || e == "mlmodelc");
        if named && entry.is_dir() {
            found.push(entry);
        }
    }
    found.sort();
    Ok(found)
}
