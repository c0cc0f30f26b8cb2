//! Tiny packages, written straight from programs.

use anyhow::Context;
use gesso_coreml::blob::{BlobDType, BlobWriter};
use gesso_coreml::package::{self, WEIGHT_FILE, WeightFile};
use gesso_coreml::proto::specification::array_feature_type::{ArrayDataType, DefaultOptionalValue};
use gesso_coreml::proto::specification::{
    ArrayFeatureType, FeatureDescription, FeatureType, FunctionDescription, Metadata, Model,
    ModelDescription, StateFeatureType, feature_type, model, state_feature_type,
};
use gesso_mil::{
    Builder, DType, Function, Program, TensorType, Value, ValueData, ValueType, to_proto,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A package in the making.
pub(super) struct Draft {
    dir: PathBuf,
    opset: &'static str,
    weights: PathBuf,
    blob: BlobWriter,
    records: usize,
    functions: BTreeMap<String, Function>,
    optional: BTreeSet<&'static str>,
}

impl Draft {
    /// The package `name` in the folder `packages`, for an opset of `CoreML6` to `CoreML8`.
    pub(super) fn new(packages: &Path, name: &str, opset: &'static str) -> anyhow::Result<Self> {
        let weights = packages.join(format!("{name}.weights"));
        Ok(Self {
            dir: packages.join(format!("{name}.mlpackage")),
            opset,
            blob: BlobWriter::create(&weights)?,
            weights,
            records: 0,
            functions: BTreeMap::new(),
            optional: BTreeSet::new(),
        })
    }

    /// A builder for one of its functions.
    pub(super) fn builder(&self) -> Builder {
        Builder::new(self.opset)
    }

    /// An fp16 constant in the weight file.
    pub(super) fn floats(&mut self, shape: &[usize], values: &[f32]) -> anyhow::Result<Value> {
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|&x| half::f16::from_f32(x).to_le_bytes())
            .collect();
        let ty = TensorType::new(DType::Fp16, shape);
        self.record(ty, BlobDType::Float16, &bytes)
    }

    /// Packed codes in the weight file; their bits fill whole bytes.
    pub(super) fn codes(
        &mut self,
        ty: TensorType,
        dtype: BlobDType,
        packed: &[u8],
    ) -> anyhow::Result<Value> {
        self.record(ty, dtype, packed)
    }

    fn record(&mut self, ty: TensorType, dtype: BlobDType, bytes: &[u8]) -> anyhow::Result<Value> {
        self.records += 1;
        Ok(Value {
            ty: ty.into(),
            data: ValueData::Blob {
                file: WEIGHT_FILE.into(),
                offset: self.blob.push(dtype, bytes, 0)?,
            },
        })
    }

    /// Makes every input of this name optional, zero when missing.
    pub(super) fn optional(&mut self, input: &'static str) {
        self.optional.insert(input);
    }

    /// Adds a function.
    pub(super) fn function(&mut self, name: &str, function: Function) {
        self.functions.insert(name.into(), function);
    }

    /// Writes the package.
    pub(super) fn finish(self, description: &str) -> anyhow::Result<PathBuf> {
        let mut interfaces = Vec::new();
        for (name, function) in &self.functions {
            interfaces.push(self.interface(name, function)?);
        }
        let metadata = Some(Metadata {
            short_description: description.into(),
            author: "Gesso".into(),
            license: "MIT OR Apache-2.0".into(),
            ..Metadata::default()
        });
        let description = match interfaces.as_mut_slice() {
            [only] => ModelDescription {
                input: std::mem::take(&mut only.input),
                output: std::mem::take(&mut only.output),
                state: std::mem::take(&mut only.state),
                metadata,
                ..ModelDescription::default()
            },
            several => ModelDescription {
                default_function_name: several.first().map(|f| f.name.clone()).unwrap_or_default(),
                functions: interfaces,
                metadata,
                ..ModelDescription::default()
            },
        };
        let program = Program {
            version: 1,
            functions: self.functions,
            attributes: BTreeMap::new(),
        };
        let model = Model {
            // Opset CoreML6 belongs to specification version 7, and so on.
            specification_version: self
                .opset
                .trim_start_matches("CoreML")
                .parse::<i32>()
                .context("opset")?
                + 1,
            description: Some(description),
            r#type: Some(model::Type::MlProgram(to_proto(&program)?)),
            ..Model::default()
        };
        self.blob.finish()?;
        if self.records == 0 {
            std::fs::remove_file(&self.weights)?;
            package::write(&self.dir, &model, WeightFile::None)?;
        } else {
            package::write(&self.dir, &model, WeightFile::Move(&self.weights))?;
        }
        Ok(self.dir)
    }

    fn interface(&self, name: &str, function: &Function) -> anyhow::Result<FunctionDescription> {
        let body = function.body().context("a function without a body")?;
        let mut interface = FunctionDescription {
            name: name.into(),
            ..FunctionDescription::default()
        };
        for input in &function.inputs {
            let optional = self.optional.contains(input.name.as_str());
            let feature = feature(&input.name, &input.ty, optional)?;
            match input.ty {
                ValueType::State(_) => interface.state.push(feature),
                _ => interface.input.push(feature),
            }
        }
        for name in &body.outputs {
            let output = body.operations.iter().flat_map(|op| &op.outputs);
            let output = output
                .into_iter()
                .find(|o| o.name == *name)
                .with_context(|| format!("no op gives output `{name}`"))?;
            interface.output.push(feature(name, &output.ty, false)?);
        }
        Ok(interface)
    }
}

fn feature(name: &str, ty: &ValueType, optional: bool) -> anyhow::Result<FeatureDescription> {
    let kind = match ty {
        ValueType::Tensor(ty) => feature_type::Type::MultiArrayType(array(ty, optional)?),
        ValueType::State(inner) => {
            let inner = inner.as_tensor().context("a state of something else")?;
            feature_type::Type::StateType(StateFeatureType {
                r#type: Some(state_feature_type::Type::ArrayType(array(inner, false)?)),
            })
        }
        other => anyhow::bail!("feature `{name}` has type {other}"),
    };
    Ok(FeatureDescription {
        name: name.into(),
        r#type: Some(FeatureType {
            is_optional: optional,
            r#type: Some(kind),
        }),
        ..FeatureDescription::default()
    })
}

fn array(ty: &TensorType, optional: bool) -> anyhow::Result<ArrayFeatureType> {
    let shape = ty.shape().context("an array of unknown shape")?;
    Ok(ArrayFeatureType {
        shape: shape.iter().map(|&d| d as i64).collect(),
        data_type: match ty.dtype {
            DType::Fp16 => ArrayDataType::Float16,
            _ => ArrayDataType::Float32,
        } as i32,
        default_optional_value: optional.then_some(DefaultOptionalValue::FloatDefaultValue(0.0)),
        ..ArrayFeatureType::default()
    })
}
