//! Adapter slots for a package that somebody else made.
//!
//! ```text
//! before   %y = conv(x, weight, bias)
//! after    %y_base = conv(x, weight, bias);  %y = %y_base + up·(down·x)
//! ```
//! The weights stay as they lie in the weight file; only the program grows, by the same ops as a converted adaptable package has.

mod folder;
mod layers;
mod names;
mod order;
mod splice;

pub use folder::{RetrofittedFolder, RetrofittedPackage, retrofit_folder};

use crate::asset::hex;
use crate::describe::feature;
use crate::family::adapted::slot_features;
use crate::slots::{Sites, SlotModule, SlotOptions, SlotTable};
use crate::{Error, Result, decompile_package};
use gesso_coreml::MODEL_PATH;
use gesso_coreml::package::{self, Package, WeightFile};
use gesso_coreml::proto::specification::{Metadata, Model, model};
use gesso_mil::lints;
use gesso_mil::{DType, Function, NamedType, Program, TensorType, to_proto};
use gesso_weights::Component;
use layers::Layer;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Opsets of programs that can take slots: those with fp16 inputs.
const OPSETS: [&str; 3] = ["CoreML6", "CoreML7", "CoreML8"];

/// Where a compiled model is taken apart, in the folder of the package that is being written.
const SCRATCH: &str = ".source";

/// A layer with the name of its module.
#[derive(Clone, Debug)]
struct Module {
    path: String,
    layer: Layer,
}

impl Module {
    fn new(path: String, layer: &Layer) -> Self {
        Self {
            path,
            layer: layer.clone(),
        }
    }
}

/// The component that a program is, and its layers in program order.
type Named = (Component, Vec<Module>);

/// What told the modules' names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NamedBy {
    /// The names of the weights.
    Weights,
    /// Shapes and order of the layers.
    Order,
}

/// What was done to a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retrofit {
    /// The component that the package is.
    pub component: Component,
    /// What told the names of its modules.
    pub named_by: NamedBy,
    /// Its rows.
    pub table: SlotTable,
    /// Shapes of the weights that a LoRA may touch, as far as they are known, by `<component>:<tensor>`, in the layout of diffusers.
    pub tensors: BTreeMap<String, Vec<usize>>,
}

/// Writes the package `dir`: that of `source`, a package or a compiled model, with slots in the layers that `options` chooses, over the same weight files by hard link. Which layer is which
/// module is told by the names of the weights (`…_attn1_to_q_weight_to_fp16`), or without such names by shapes and order.
///
/// `source` stays as it is. `dir` must hold nothing yet; after an error it is left half done, so give it a staged folder.
///
/// Errors: [`Error::Recipe`] for a rank that is not a multiple of 32; [`Error::Retrofit`] for a package that has slots, several
/// functions or another opset, is a part of a network, or whose layers cannot all be told; those of reading and writing.
pub fn retrofit(source: &Path, options: SlotOptions, dir: &Path) -> Result<Retrofit> {
    check(options)?;
    if source.join("Manifest.json").is_file() {
        return write(source, options, source, dir);
    }
    let scratch = dir.join(SCRATCH);
    decompile_package(source, &scratch)?;
    let done = write(&scratch, options, source, dir)?;
    std::fs::remove_dir_all(&scratch).map_err(|e| Error::io(&scratch, e))?;
    Ok(done)
}

fn check(options: SlotOptions) -> Result<()> {
    let rank = options.rank;
    if rank > 0 && rank.is_multiple_of(crate::adapter::RANK_STEP) {
        return Ok(());
    }
    Err(Error::Recipe {
        option: "`--adapter-rank`".into(),
        expected: "a multiple of 32".into(),
        found: rank.to_string(),
    })
}

/// Retrofits `package`, which `source` stands for in messages.
fn write(package: &Path, options: SlotOptions, source: &Path, dir: &Path) -> Result<Retrofit> {
    let package = Package::open(package)?;
    let refuse = |reason: String| Error::Retrofit {
        file: source.display().to_string(),
        reason,
    };
    let (model, done) = model(&package.model, options)?.map_err(refuse)?;
    let mut weights = BTreeMap::new();
    for (name, _) in lints::blobs(&gesso_mil::from_model(&package.model)?) {
        let file = package.files().file(&name)?;
        let place = name.strip_prefix(MODEL_PATH).unwrap_or(&name);
        weights.insert(place.to_string(), file.path().to_path_buf());
    }
    package::write(dir, &model, WeightFile::HardLinkAll(&weights))?;
    Ok(done)
}

/// The model with slots, or the reason why it gets none.
fn model(source: &Model, options: SlotOptions) -> Result<Result<(Model, Retrofit), String>> {
    if !matches!(source.r#type, Some(model::Type::MlProgram(_))) {
        return Ok(Err("it is no ML Program".into()));
    }
    let mut program = gesso_mil::from_model(source)?;
    let before: BTreeSet<_> = gesso_mil::verify(&program).into_iter().collect();
    let function = match only_function(source, &mut program) {
        Ok(function) => function,
        Err(reason) => return Ok(Err(reason)),
    };
    let (named_by, (component, mut modules)) = match named(function, options.sites) {
        Ok(named) => named,
        Err(reason) => return Ok(Err(reason)),
    };
    if options.sites == Sites::Attention {
        modules.retain(|m| names::is_attention(&m.path));
    }
    let tensors = tensors(function, component, &modules);
    let (dtype, table) = match table(options.rank, component, &modules) {
        Ok(found) => found,
        Err(reason) => return Ok(Err(reason)),
    };
    splice::splice(function, &modules, component, dtype, &table)?;
    for input in slot_features(&table, dtype) {
        let ty = TensorType::new(dtype, &input.shape);
        function.inputs.push(NamedType::tensor(input.name, ty));
    }
    let after = gesso_mil::verify(&program);
    if let Some(new) = after.iter().find(|finding| !before.contains(finding)) {
        return Ok(Err(format!("with slots its program is not valid: {new}")));
    }
    let model = described(source, &program, options.sites, &table, dtype)?;
    Ok(Ok((
        model,
        Retrofit {
            component,
            named_by,
            table,
            tensors,
        },
    )))
}

/// The function of a program with no more than one, without slots.
fn only_function<'a>(model: &Model, program: &'a mut Program) -> Result<&'a mut Function, String> {
    let count = program.functions.len();
    let described = model.description.as_ref().map_or(0, |d| d.functions.len());
    let function = match (count, described) {
        (1, 0) => program.functions.values_mut().next(),
        _ => None,
    };
    let function = function.ok_or_else(|| {
        format!("it has {count} functions in a list, expected a package with a single model")
    })?;
    if !OPSETS.contains(&function.opset.as_str()) {
        return Err(format!(
            "its opset is {}, expected one of {}: inputs of fp16 came with iOS 16",
            function.opset,
            OPSETS.join(", ")
        ));
    }
    if let Some(slot) = function
        .inputs
        .iter()
        .find(|i| i.name.starts_with("adapter_"))
    {
        return Err(format!("it has the input `{}` already", slot.name));
    }
    Ok(function)
}

/// The component that the function is and its modules, with what told them.
fn named(function: &Function, sites: Sites) -> Result<(NamedBy, Named), String> {
    let block = function.body().ok_or("its function has no body")?;
    let steps = layers::steps(block, &function.inputs);
    let (named_by, named) = match names::named(&steps, sites)? {
        Some(named) => (NamedBy::Weights, named),
        None if sites == Sites::All => {
            return Err("its weights do not tell modules; by shapes and order alone only attention, feed-forward and projections are told".into());
        }
        None => {
            let convolutions = block.operations.iter().any(|op| op.kind == "conv");
            let named = order::named(&steps, convolutions)
                .map_err(|reason| format!("its weights do not tell modules, and {reason}"))?;
            (NamedBy::Order, named)
        }
    };
    if named.0 == Component::Unet {
        let has = |name: &str| function.inputs.iter().any(|i| i.name == name);
        if !has("sample") || block.outputs.len() != 1 {
            return Err(format!(
                "it is a part of a UNet or a ControlNet, expected the input `sample` and one output; it has the inputs {} and {} outputs",
                listed(function),
                block.outputs.len()
            ));
        }
    }
    Ok((named_by, named))
}

fn listed(function: &Function) -> String {
    let names = function.inputs.iter().map(|i| format!("`{}`", i.name));
    names.collect::<Vec<_>>().join(", ")
}

/// The row table, and the element type of all activations that slots read.
fn table(
    rank: usize,
    component: Component,
    modules: &[Module],
) -> Result<(DType, SlotTable), String> {
    let mut dtypes: BTreeMap<String, DType> = BTreeMap::new();
    for module in modules {
        if let Some(ty) = module.layer.x.ty.as_tensor() {
            dtypes.insert(ty.dtype.to_string(), ty.dtype);
        }
    }
    let mut of = dtypes.into_values();
    let dtype = match (of.next(), of.next()) {
        (Some(dtype @ (DType::Fp16 | DType::Fp32)), None) => dtype,
        (first, second) => {
            let found: Vec<String> = [first, second]
                .iter()
                .flatten()
                .map(DType::to_string)
                .collect();
            return Err(format!(
                "the inputs of its linear layers are {}, expected fp16 or fp32 for all of them",
                found.join(" and ")
            ));
        }
    };
    let rows = modules.iter().map(|m| SlotModule {
        component: component.as_str().into(),
        module: m.path.clone(),
        inputs: m.layer.inputs,
        outputs: m.layer.outputs,
        kernel: m.layer.kernel.size,
    });
    Ok((dtype, SlotTable::new(rank, rows.collect())))
}

/// Shapes of the weights that a LoRA may touch: of all linear layers and convolutions where names tell them, else of `modules`.
fn tensors(
    function: &Function,
    component: Component,
    modules: &[Module],
) -> BTreeMap<String, Vec<usize>> {
    let steps = function.body().map(|b| layers::steps(b, &function.inputs));
    let all = steps.and_then(|steps| names::named(&steps, Sites::All).ok().flatten());
    let all = all.map_or_else(Vec::new, |(_, modules)| modules);
    let modules = all.iter().chain(modules);
    modules.map(|m| tensor(component, m)).collect()
}

/// Name and shape of a module's weight as Stable Diffusion 1 has it: projections of a transformer and shortcuts are 1×1
/// convolutions.
fn tensor(component: Component, module: &Module) -> (String, Vec<usize>) {
    let Layer {
        inputs, outputs, ..
    } = module.layer;
    let path = &module.path;
    let side = module.layer.kernel.size;
    let mut point = ["proj_in", "proj_out", "conv_shortcut"].iter();
    let point = point.any(|end| path.ends_with(&format!(".{end}")));
    let mut shape = vec![outputs, inputs];
    if point || side > 1 {
        shape.extend([side, side]);
    }
    (format!("{component}:{path}.weight"), shape)
}

/// The model of `program`: the features of `model` and the slots, and its metadata with the row table.
fn described(
    model: &Model,
    program: &Program,
    sites: Sites,
    table: &SlotTable,
    dtype: DType,
) -> Result<Model> {
    let mut model = model.clone();
    model.r#type = Some(model::Type::MlProgram(to_proto(program)?));
    let description = model.description.get_or_insert_default();
    description
        .input
        .extend(slot_features(table, dtype).map(|f| feature(&f)));
    let metadata = description.metadata.get_or_insert_with(Metadata::default);
    let rows = serde_json::to_string(table.rows()).map_err(|e| Error::Json {
        file: "gesso.rows".into(),
        reason: e.to_string(),
    })?;
    metadata.user_defined.extend([
        (
            "gesso.version".to_string(),
            env!("CARGO_PKG_VERSION").to_string(),
        ),
        ("gesso.adapter_sites".to_string(), sites.word().to_string()),
        ("gesso.layout_hash".to_string(), hex(&table.layout_hash())),
        ("gesso.adapter_rank".to_string(), table.rank().to_string()),
        ("gesso.rows".to_string(), rows),
    ]);
    Ok(model)
}
