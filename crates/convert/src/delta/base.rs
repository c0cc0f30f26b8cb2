//! The models of a converted folder, as a delta sees them: which tensor lies where in which weight file.

use crate::family::value_name;
use crate::folder::{FolderInfo, PackageInfo};
use crate::merged::component_of;
use crate::{Error, Result};
use gesso_coreml::ModelFiles;
use gesso_coreml::blob::BlobRecord;
use gesso_coreml::compiled::CompiledModel;
use gesso_coreml::package::{Package, WEIGHT_FILE};
use gesso_coreml::proto::specification::Model;
use gesso_mil::compiled::{Parts, decompile};
use gesso_mil::{Binding, DType, Operation, Program, TensorType, Value, ValueData};
use gesso_weights::Component;
use std::collections::BTreeMap;
use std::path::Path;

/// One model of a base that has weights of its own.
pub(super) struct BaseModel {
    /// Its name in `gesso.json`.
    pub name: String,
    pub component: Component,
    program: Program,
    files: ModelFiles,
}

/// How a tensor is stored.
pub(super) struct Stored<'a> {
    /// fp16 or fp32.
    pub dtype: DType,
    /// Number of elements.
    pub count: usize,
    pub form: Form<'a>,
}

impl Stored<'_> {
    fn places(&self) -> [Option<&Place<'_>>; 2] {
        match &self.form {
            Form::Dense(place) => [Some(place), None],
            Form::Palette { indices, lut, .. } => [Some(indices), Some(lut)],
        }
    }

    fn records(&self) -> impl Iterator<Item = &BlobRecord<'_>> {
        self.places().into_iter().flatten().filter_map(|p| match p {
            Place::Record(record) => Some(record),
            Place::Inline(_) => None,
        })
    }

    /// Bytes in the weight file.
    pub(super) fn bytes(&self) -> u64 {
        self.records().map(|record| record.data.len() as u64).sum()
    }

    /// First byte in the weight file; 0 for what lies in the program alone.
    pub(super) fn offset(&self) -> u64 {
        self.records().map(|r| r.data_offset).min().unwrap_or(0)
    }
}

/// Where the elements are.
pub(super) enum Form<'a> {
    /// As they are.
    Dense(Place<'a>),
    /// Packed codes and a table of 2^bits values.
    Palette {
        bits: u8,
        indices: Place<'a>,
        lut: Place<'a>,
    },
}

/// A value of the program.
pub(super) enum Place<'a> {
    /// A record of the weight file.
    Record(BlobRecord<'a>),
    /// Elements that stand in the program itself.
    Inline(&'a Value),
}

impl BaseModel {
    /// The models of the folder `dir` that have weights of the text encoder or the UNet, in the order of `gesso.json`; those that
    /// share the weight file of another are left out.
    ///
    /// Errors: those of reading; [`Error::DeltaModel`] for a model of several functions.
    pub(super) fn all(dir: &Path, info: &FolderInfo) -> Result<Vec<Self>> {
        let mut models = Vec::new();
        for (name, package) in &info.packages {
            if package.weights_of.is_none()
                && let Some(model) = Self::open(dir, name, package)?
            {
                models.push(model);
            }
        }
        Ok(models)
    }

    fn open(dir: &Path, name: &str, package: &PackageInfo) -> Result<Option<Self>> {
        let path = dir.join(&package.file);
        let (model, files) = if path.exists() {
            let package = Package::open(&path)?;
            (package.model.clone(), package.files().clone())
        } else {
            // A folder may hold the compiled model alone.
            let compiled = CompiledModel::open(&path.with_extension("mlmodelc"))?;
            let model = decompile(&Parts::from(&compiled))?.model;
            (model, compiled.files().clone())
        };
        let component = match component(&model) {
            Some(component) if component != Component::Vae => component,
            _ => return Ok(None),
        };
        let program = gesso_mil::from_model(&model)?;
        if program.functions.len() != 1 {
            return Err(Error::DeltaModel {
                package: name.into(),
                reason: format!(
                    "it has {} functions, which share their weights",
                    program.functions.len()
                ),
            });
        }
        Ok(Some(Self {
            name: name.into(),
            component,
            program,
            files,
        }))
    }

    /// The weight file.
    pub(super) fn weights(&self) -> Result<&[u8]> {
        Ok(self.files.file(WEIGHT_FILE)?)
    }

    /// Weights by the name of their value.
    pub(super) fn tensors(&self) -> BTreeMap<&str, &Operation> {
        let functions = self.program.functions.values();
        functions
            .filter_map(|function| function.body())
            .flat_map(|body| &body.operations)
            .filter(|op| matches!(op.kind.as_str(), "const" | "constexpr_lut_to_dense"))
            .filter_map(|op| Some((op.outputs.first()?.name.as_str(), op)))
            .collect()
    }

    /// How the tensor `key` is stored; `None` when it is none of this model's weights. `tensors` are those of [`Self::tensors`].
    ///
    /// Errors: [`Error::DeltaModel`] for a form that converted folders do not have; those of reading the weight file.
    pub(super) fn stored<'a>(
        &'a self,
        key: &str,
        tensors: &BTreeMap<&str, &'a Operation>,
    ) -> Result<Option<Stored<'a>>> {
        let tensor = key.split_once(':').map_or(key, |(_, tensor)| tensor);
        let Some(op) = tensors.get(value_name(tensor).as_str()) else {
            return Ok(None);
        };
        let unknown = |reason: &str| Error::DeltaModel {
            package: self.name.clone(),
            reason: format!("weight `{tensor}` {reason}"),
        };
        let ty = op.outputs.first().and_then(|o| o.ty.as_tensor());
        let (dtype, count) = ty
            .and_then(|ty| Some((ty.dtype, ty.count()?)))
            .filter(|(dtype, _)| matches!(dtype, DType::Fp16 | DType::Fp32))
            .ok_or_else(|| unknown("is not fp16 or fp32"))?;
        // Up to iOS 17 the parts of a palette are attributes, from iOS 18 on literal inputs.
        let attribute = |name: &str| {
            let input = op.inputs.get(name).and_then(|b| b.first());
            let input = input.and_then(|binding| match binding {
                Binding::Value(value) => Some(value),
                Binding::Name(_) => None,
            });
            op.attributes
                .get(name)
                .or(input)
                .ok_or_else(|| unknown(&format!("has no `{name}`")))
        };
        let form = if op.kind == "const" {
            Form::Dense(self.place(attribute("val")?)?)
        } else {
            let lut = attribute("lut")?;
            let values = lut.ty.as_tensor().and_then(TensorType::count);
            let bits = values
                .filter(|n| n.is_power_of_two() && *n <= 256)
                .map(|n| n.ilog2() as u8)
                .ok_or_else(|| unknown("has a palette that is no power of two"))?;
            Form::Palette {
                bits,
                indices: self.place(attribute("indices")?)?,
                lut: self.place(lut)?,
            }
        };
        Ok(Some(Stored { dtype, count, form }))
    }

    fn place<'a>(&'a self, value: &'a Value) -> Result<Place<'a>> {
        match &value.data {
            ValueData::Blob { file, offset } if file == WEIGHT_FILE => {
                Ok(Place::Record(self.files.blob(file, *offset)?))
            }
            ValueData::Blob { file, .. } => Err(Error::DeltaModel {
                package: self.name.clone(),
                reason: format!("its weights lie in `{file}`, expected `{WEIGHT_FILE}`"),
            }),
            _ => Ok(Place::Inline(value)),
        }
    }
}

/// The component that a model of ours says it has.
fn component(model: &Model) -> Option<Component> {
    let metadata = model.description.as_ref()?.metadata.as_ref()?;
    component_of(metadata.user_defined.get("gesso.component")?)
}
