//! Packages to compiled models.

use std::ffi::c_char;
use std::path::Path;

use gesso_coreml::compiled;
use gesso_coreml::mmap::Mapped;
use gesso_coreml::package::Package;
use gesso_coreml::stage::{Overwrite, Staging};
use gesso_mil::compiled::Source;
use prost::Message;
use sha2::{Digest, Sha256};

use crate::pointer::text;
use crate::status::{Failure, GessoStatus, Outcome, guard};

/// Compiles the package (`.mlpackage`) at `package` to a compiled model (`.mlmodelc`) at `target`.
///
/// The target appears whole or not at all; the folder that holds it must exist. With `overwrite` ≠ 0 an old target is
/// replaced. Weight files are shared by hard link where that is possible.
///
/// Fails with `IO`, `EXISTS`, `FORMAT`, `UNSUPPORTED` for what cannot be compiled.
///
/// # Safety
///
/// Both strings end with NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gesso_compile(
    package: *const c_char,
    target: *const c_char,
    overwrite: i32,
) -> GessoStatus {
    guard(|| {
        // SAFETY: the caller's promise.
        let (package, target) = unsafe { (text(package, "package")?, text(target, "target")?) };
        let overwrite = if overwrite == 0 {
            Overwrite::Refuse
        } else {
            Overwrite::Force
        };
        compile(Path::new(package), Path::new(target), overwrite)
    })
}

fn compile(source: &Path, target: &Path, overwrite: Overwrite) -> Outcome {
    let package = Package::open(source)?;
    let bytes = Mapped::open(&package.model_file)?;
    let known = package.model.encoded_len();
    if known != bytes.len() {
        return Err(Failure::new(
            GessoStatus::Unsupported,
            format!(
                "`{}` has {} bytes, but what is known of it takes {known}: it holds fields that compiling would lose",
                package.model_file.display(),
                bytes.len()
            ),
        ));
    }
    let made = gesso_mil::compiled::compile(
        &package.model,
        &Source {
            name: &stem(source),
            model_name: &stem(&package.model_file),
            model_hash: Sha256::digest(&*bytes).into(),
        },
    )
    .map_err(|e| Failure::new(GessoStatus::Unsupported, e.to_string()))?;
    let folder = package.model_file.parent().unwrap_or(Path::new(""));
    let weights = made
        .weights
        .into_iter()
        .map(|(at, from)| (at, folder.join(from)))
        .collect();
    let staging = Staging::new(target, overwrite)?;
    compiled::write(staging.path(), &made.files, &weights)?;
    Ok(staging.commit()?)
}

fn stem(path: &Path) -> String {
    path.file_stem()
        .map(|s| s.to_string_lossy().into_owned())
        .unwrap_or_default()
}
