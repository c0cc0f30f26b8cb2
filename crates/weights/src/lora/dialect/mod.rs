//! How each family of tools spells the modules of a model.

mod cloneofsimo;
mod diffusers;
mod generic;
mod kohya;
mod ldm;
mod peft;

pub(crate) use cloneofsimo::{EXTENDED_CLASSES, ordinal};
pub(crate) use ldm::ldm_path;

use super::module::ModuleInfo;

/// Every name that a family of tools has for a module, prefix included, without the suffix that says which tensor it is. The
/// second argument is the module's path in the LDM layout, where it has one.
pub(crate) type Dialect = fn(&ModuleInfo, Option<&str>) -> Vec<String>;

/// All dialects. The index format of cloneofsimo has no names and is resolved by [`ordinal`].
pub(crate) const DIALECTS: &[Dialect] =
    &[kohya::spell, diffusers::spell, peft::spell, generic::spell];

/// `path` and, where there is one, `ldm`, behind each of `prefixes`.
fn prefixed(prefixes: &[&str], paths: &[&str]) -> Vec<String> {
    prefixes
        .iter()
        .flat_map(|prefix| paths.iter().map(move |path| format!("{prefix}{path}")))
        .collect()
}

/// The canonical path and the LDM path of a module.
fn paths<'a>(module: &'a ModuleInfo, ldm: Option<&'a str>) -> Vec<&'a str> {
    std::iter::once(module.path.as_str()).chain(ldm).collect()
}
