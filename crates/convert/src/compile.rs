//! Packages to compiled models (`.mlmodelc`) and back. Weight files are shared by hard link where that is possible.

use crate::{Error, Result};
use gesso_coreml::compiled::{self, CompiledModel};
use gesso_coreml::mmap::Mapped;
use gesso_coreml::package::{self, Package, WeightFile};
use gesso_coreml::proto::specification::Model;
use gesso_coreml::{MODEL_PATH, package::read_model};
use gesso_mil::compiled::{Parts, Source};
use prost::Message;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::Path;

/// Compiles a package, or a bare model file with its weights beside it, into the folder `target`.
///
/// The class name in `metadata.json` is the file stem of `source`. `target` is made when it is missing and must hold no
/// model yet; nothing is removed after an error, so give it a staged folder.
///
/// Errors: those of reading the source; [`gesso_mil::Error::Compile`] for what cannot be compiled, and for a model file
/// with parts that this version does not know, which would be lost; those of [`compiled::write`].
pub fn compile_package(source: &Path, target: &Path) -> Result<()> {
    if source.is_dir() {
        return compile_opened(&Package::open(source)?, target);
    }
    compile_model(&read_model(source)?, source, &stem(source), target)
}

/// Compiles a package that is open, as [`compile_package`] does.
///
/// Errors: as [`compile_package`], but for those of opening.
pub fn compile_opened(package: &Package, target: &Path) -> Result<()> {
    let name = stem(&package.path);
    compile_model(&package.model, &package.model_file, &name, target)
}

/// Compiles the model that was read from `file`, with its weights beside it.
fn compile_model(model: &Model, file: &Path, name: &str, target: &Path) -> Result<()> {
    let bytes = Mapped::open(file)?;
    nothing_unknown(model, &bytes, file)?;
    let made = gesso_mil::compiled::compile(
        model,
        &Source {
            name,
            model_name: &stem(file),
            model_hash: Sha256::digest(&*bytes).into(),
        },
    )?;
    let folder = file.parent().unwrap_or(Path::new(""));
    let weights = made
        .weights
        .into_iter()
        .map(|(at, from)| (at, folder.join(from)))
        .collect();
    Ok(compiled::write(target, &made.files, &weights)?)
}

/// Takes a compiled model back to a package in the folder `target`.
///
/// Errors: those of [`CompiledModel::open`], [`gesso_mil::compiled::decompile`] and [`package::write`].
pub fn decompile_package(source: &Path, target: &Path) -> Result<()> {
    let compiled = CompiledModel::open(source)?;
    let back = gesso_mil::compiled::decompile(&Parts::from(&compiled))?;
    let mut weights = BTreeMap::new();
    for path in back.weights {
        let file = compiled.files().file(&format!("{MODEL_PATH}{path}"))?;
        weights.insert(path, file.path().to_path_buf());
    }
    let weights = WeightFile::HardLinkAll(&weights);
    Ok(package::write(target, &back.model, weights)?)
}

/// Refuses a model whose bytes hold more than was read from them.
fn nothing_unknown(model: &Model, bytes: &[u8], file: &Path) -> Result<()> {
    let known = model.encoded_len();
    if known == bytes.len() {
        return Ok(());
    }
    Err(Error::Program(gesso_mil::Error::Compile(format!(
        "`{}` has {} bytes, but what is known of it takes {known}: it holds fields of a kind that cannot be compiled here",
        file.display(),
        bytes.len()
    ))))
}

fn stem(path: &Path) -> String {
    path.file_stem()
        .map(|s| s.to_string_lossy().into_owned())
        .unwrap_or_default()
}
