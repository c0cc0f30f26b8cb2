//! Slots for a whole folder: the files that are there, and adaptable twins of UNet and text encoder beside them.

use super::{NamedBy, Retrofit, check, retrofit};
use crate::asset::hex;
use crate::compile::compile_package;
use crate::folder::{FOLDER_FILE, FeatureInfo, FolderInfo, PackageInfo, SlotsInfo};
use crate::recipe::Part;
use crate::slots::{SlotOptions, SlotTable};
use crate::tree::Tree;
use crate::{Error, Result};
use gesso_coreml::package::{self, Package};
use gesso_coreml::proto::specification::FeatureDescription;
use gesso_coreml::proto::specification::array_feature_type::{ArrayDataType, DefaultOptionalValue};
use gesso_coreml::proto::specification::feature_type::Type;
use serde::Serialize;
use std::fs;
use std::path::Path;

/// What retrofitting a folder did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RetrofittedFolder {
    /// The packages that were added.
    pub packages: Vec<RetrofittedPackage>,
    /// Files that both folders share.
    pub shared: usize,
}

/// A package with slots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RetrofittedPackage {
    /// The file that was given slots.
    pub source: String,
    /// The package that was written.
    pub package: String,
    /// Its component.
    pub component: String,
    /// What told the names of its modules.
    pub named_by: NamedBy,
    /// Modules with a slot.
    pub modules: usize,
    /// Rank of the slots.
    pub rank: usize,
    /// Layout hash of the slots, 64 hexadecimal digits.
    pub layout_hash: String,
    /// Inputs `adapter_W` with their shapes `[n_W, R, W]`.
    pub inputs: Vec<(String, [usize; 3])>,
}

impl RetrofittedPackage {
    /// The package `package`, made from the file `source`.
    pub fn new(source: &str, package: &str, made: &Retrofit) -> Self {
        let (table, rank) = (&made.table, made.table.rank());
        let input = |(width, rows)| (SlotTable::input_name(width), [rows, rank, width]);
        Self {
            source: source.into(),
            package: package.into(),
            component: made.component.as_str().into(),
            named_by: made.named_by,
            modules: table.modules().len(),
            rank,
            layout_hash: hex(&table.layout_hash()),
            inputs: table.widths().into_iter().map(input).collect(),
        }
    }
}

/// Writes into the empty folder `out` what `source` holds, by hard link, and `UnetAdaptable` and `TextEncoderAdaptable` beside the
/// models that `info` lists as `Unet` and `TextEncoder`: as packages, compiled, or both, as the models are. `gesso.json` is `info`
/// with the slots.
///
/// Errors: [`Error::Retrofit`] for a folder that has slots or neither of the two models; those of [`retrofit`].
pub fn retrofit_folder(
    source: &Path,
    mut info: FolderInfo,
    options: SlotOptions,
    out: &Path,
) -> Result<RetrofittedFolder> {
    check(options)?;
    let refuse = |reason: &str| {
        Err(Error::Retrofit {
            file: source.display().to_string(),
            reason: reason.into(),
        })
    };
    if !info.slots.is_empty() {
        return refuse("it has them already");
    }
    if info.packages.contains_key("TextEncoder2") {
        return refuse("models of Stable Diffusion XL are not supported");
    }
    let parts: Vec<Part> = [Part::TextEncoder, Part::Unet]
        .into_iter()
        .filter(|part| info.packages.contains_key(part.package()))
        .collect();
    if parts.is_empty() {
        return refuse("it has neither a UNet nor a text encoder");
    }
    let mut done = RetrofittedFolder {
        packages: Vec::new(),
        shared: share(source, out)?,
    };
    for part in parts {
        let twin = adaptable(source, &mut info, part, options, out)?;
        done.packages.push(twin);
    }
    info.converter = env!("CARGO_PKG_VERSION").into();
    info.recipe.adapter_rank = options.rank;
    info.recipe.adapter_sites = Some(options.sites.word().into());
    info.write(out)?;
    Ok(done)
}

/// Links every file but `gesso.json`; how many there are.
fn share(source: &Path, out: &Path) -> Result<usize> {
    let tree = Tree::read(source)?;
    for folder in &tree.folders {
        let folder = out.join(folder);
        fs::create_dir_all(&folder).map_err(|e| Error::io(&folder, e))?;
    }
    let mut shared = 0;
    for file in tree.files.iter().filter(|f| *f != Path::new(FOLDER_FILE)) {
        package::link(&source.join(file), &out.join(file))?;
        shared += 1;
    }
    Ok(shared)
}

/// Writes the twin of one model and enters it into `info`.
fn adaptable(
    source: &Path,
    info: &mut FolderInfo,
    part: Part,
    options: SlotOptions,
    out: &Path,
) -> Result<RetrofittedPackage> {
    let name = format!("{}Adaptable", part.package());
    let plain = info.packages.get(part.package()).cloned();
    let mut plain = plain.ok_or_else(|| Error::Retrofit {
        file: source.display().to_string(),
        reason: format!("it has no `{}`", part.package()),
    })?;
    let listed = source.join(&plain.file);
    let as_package = listed.with_extension("mlpackage");
    let as_compiled = listed.with_extension("mlmodelc");
    let from = match as_package.exists() {
        true => &as_package,
        false => &as_compiled,
    };
    let beside = Path::new(&plain.file).with_file_name(&name);
    let dir = out.join(beside.with_extension("mlpackage"));
    fs::create_dir_all(&dir).map_err(|e| Error::io(&dir, e))?;
    let made = retrofit(from, options, &dir)?;
    if made.component.as_str() != crate::parts::component(part).as_str() {
        return Err(Error::Retrofit {
            file: from.display().to_string(),
            reason: format!(
                "it is a {}, expected the {}",
                made.component,
                crate::parts::component(part)
            ),
        });
    }
    let twin = Package::open(&dir)?;
    if as_compiled.exists() {
        compile_package(&dir, &out.join(beside.with_extension("mlmodelc")))?;
    }
    let mut file = beside.with_extension("mlpackage");
    let bytes = twin.weight_bytes();
    if let Some(known) = info.packages.get_mut(part.package())
        && known.bytes_after == 0
    {
        // The folder of another converter does not say it.
        (known.bytes_before, known.bytes_after) = (bytes, bytes);
        (plain.bytes_before, plain.bytes_after) = (bytes, bytes);
    }
    let entry = entry(&plain, &twin);
    if !as_package.exists() {
        fs::remove_dir_all(&dir).map_err(|e| Error::io(&dir, e))?;
        file.set_extension("mlmodelc");
    }
    let file = file.display().to_string();
    let report = RetrofittedPackage::new(&plain.file, &file, &made);
    let component = made.component.as_str().to_string();
    let slots = SlotsInfo::from(&made.table);
    info.packages.insert(name, PackageInfo { file, ..entry });
    info.slots.insert(component, slots);
    for (tensor, shape) in made.tensors {
        info.tensors.entry(tensor).or_insert(shape);
    }
    Ok(report)
}

/// What `gesso.json` says of the twin of `plain`.
fn entry(plain: &PackageInfo, twin: &Package) -> PackageInfo {
    let description = twin.model.description.clone().unwrap_or_default();
    let features = |list: &[FeatureDescription]| list.iter().filter_map(feature).collect();
    PackageInfo {
        weights_of: Some(plain.file.clone()),
        inputs: features(&description.input),
        outputs: features(&description.output),
        functions: Vec::new(),
        ..plain.clone()
    }
}

fn feature(feature: &FeatureDescription) -> Option<FeatureInfo> {
    let ty = feature.r#type.as_ref()?;
    let Some(Type::MultiArrayType(array)) = &ty.r#type else {
        return None;
    };
    let dtype = match ArrayDataType::try_from(array.data_type).ok()? {
        ArrayDataType::Float16 => "fp16",
        ArrayDataType::Float32 => "fp32",
        ArrayDataType::Int32 => "int32",
        _ => return None,
    };
    let shape = array.shape.iter().map(|&d| usize::try_from(d));
    Some(FeatureInfo {
        name: feature.name.clone(),
        dtype: dtype.into(),
        shape: shape.collect::<Result<_, _>>().ok()?,
        default: match array.default_optional_value {
            Some(DefaultOptionalValue::FloatDefaultValue(x)) if ty.is_optional => Some(x),
            _ => None,
        },
    })
}
