//! A converted folder, opened for use.

use crate::foreign;
use anyhow::Context;
use gesso_convert::folder::{FOLDER_FILE, FolderInfo};
use gesso_convert::slots::SlotTable;
use gesso_coreml::compiled::CompiledModel;
use gesso_coreml::package::Package;
use gesso_engine::{Feature, Model};
use gesso_weights::lora::ModuleTable;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A folder that `gesso convert` wrote.
pub(crate) struct Base {
    pub(crate) folder: PathBuf,
    pub(crate) info: FolderInfo,
    /// Slots by component.
    pub(crate) slots: BTreeMap<String, SlotTable>,
    /// Function of text encoder and UNet to use; `None` is the default one.
    function: Option<String>,
}

impl Base {
    /// Reads `gesso.json` of `folder`, or what can be told of a folder that another converter made.
    pub(crate) fn open(folder: &Path) -> anyhow::Result<Self> {
        let info = if folder.join(FOLDER_FILE).exists() {
            FolderInfo::open(folder)?
        } else {
            foreign::describe(folder).with_context(|| {
                format!("`{}` is not a folder of converted models", folder.display())
            })?
        };
        let slots = info.slot_tables()?;
        Ok(Self {
            folder: folder.into(),
            info,
            slots,
            function: None,
        })
    }

    /// The same with another function of text encoder and UNet.
    pub(crate) fn with_function(self, function: Option<&str>) -> Self {
        Self {
            function: function.map(str::to_string),
            ..self
        }
    }

    /// Whether the folder has this package.
    pub(crate) fn has(&self, package: &str) -> bool {
        self.info.packages.contains_key(package)
    }

    /// Loads a package of the folder into the engine.
    pub(crate) fn model(&self, package: &str) -> anyhow::Result<Model> {
        let found = self.info.packages.get(package);
        let file = found.with_context(|| {
            format!(
                "`{}` has no `{package}`\n\nhint: convert again without leaving it out",
                self.folder.display()
            )
        })?;
        let path = self.folder.join(&file.file);
        // A folder may hold the compiled model alone.
        let mut model = model(&if path.exists() {
            path
        } else {
            path.with_extension("mlmodelc")
        })?;
        if let (Some(function), "TextEncoder" | "Unet") = (&self.function, package) {
            model
                .set_default_function(function)
                .with_context(|| format!("`{package}` of `{}`", self.folder.display()))?;
        }
        Ok(model)
    }

    /// The modules that have slots, as targets of a LoRA.
    pub(crate) fn modules(&self) -> anyhow::Result<ModuleTable> {
        anyhow::ensure!(
            !self.slots.is_empty(),
            "`{}` has no adapter slots\n\nhint: convert with `--adapter-rank 32`",
            self.folder.display()
        );
        self.info.module_table().map_err(Into::into)
    }

    /// Width and height of its pictures.
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.info.recipe.width, self.info.recipe.height)
    }
}

/// Loads any package or compiled model into the engine.
pub(crate) fn model(path: &Path) -> anyhow::Result<Model> {
    let loaded = if path.join("coremldata.bin").exists() {
        Model::load_compiled(&CompiledModel::open(path)?)
    } else {
        Model::load(&Package::open(path)?)
    };
    loaded.with_context(|| format!("cannot load `{}`", path.display()))
}

/// Known shape of an input or output.
pub(crate) fn shape(feature: &Feature) -> anyhow::Result<Vec<usize>> {
    let shape = feature.ty.shape();
    shape.with_context(|| {
        format!(
            "`{}` has the flexible type {}; only fixed shapes are run here",
            feature.name, feature.ty
        )
    })
}
