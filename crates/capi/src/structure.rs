//! The operations of a program as JSON.

use std::collections::BTreeMap;
use std::ffi::c_char;
use std::path::Path;

use gesso_coreml::compiled::CompiledModel;
use gesso_coreml::package::Package;
use gesso_mil::compiled::{Parts, decompile};
use gesso_mil::{Binding, Block, NamedType, Program};
use serde_json::{Value, json};

use crate::model::c_string;
use crate::pointer::{text, write};
use crate::status::{Failure, GessoStatus, Outcome, guard};

/// Lists the operations of a package (`.mlpackage`) or a compiled model (`.mlmodelc`) as JSON; the caller frees it with
/// `gesso_string_free`. Weights are not read, and the operations need no kernels.
///
/// ```json
/// {"functions": {"main": {"inputs": ["x"],
///   "block": {"inputs": [], "outputs": ["y"],
///     "operations": [{"operator": "concat", "inputs": {"axis": [null], "values": ["x", "x"]},
///                     "outputs": ["y"], "blocks": []}]}}}}
/// ```
///
/// An input of an operation has one or more bindings: the name of a variable, or null for a value that stands there.
///
/// Fails with `IO`, and with `FORMAT` for what is no ML Program.
///
/// # Safety
///
/// `path` ends with NUL; `json` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gesso_structure(
    path: *const c_char,
    json: *mut *mut c_char,
) -> GessoStatus {
    guard(|| {
        // SAFETY: the caller's promise.
        unsafe {
            write(json, std::ptr::null_mut(), "json")?;
            let path = Path::new(text(path, "path")?);
            let text = c_string(&structure(&program(path)?).to_string())?;
            write(json, text.into_raw(), "json")
        }
    })
}

fn program(path: &Path) -> Outcome<Program> {
    let wrong = |error: gesso_mil::Error| {
        Failure::new(GessoStatus::Format, error.to_string()).at(&format!("`{}`", path.display()))
    };
    if path.join("coremldata.bin").is_file() {
        let compiled = CompiledModel::open(path)?;
        let back = decompile(&Parts::from(&compiled)).map_err(wrong)?;
        return gesso_mil::from_model(&back.model).map_err(wrong);
    }
    if !path.exists() {
        let text = format!("`{}` is not there", path.display());
        return Err(Failure::new(GessoStatus::Io, text));
    }
    gesso_mil::from_model(&Package::open(path)?.model).map_err(wrong)
}

fn structure(program: &Program) -> Value {
    let functions: BTreeMap<&str, Value> = program
        .functions
        .iter()
        .map(|(name, function)| {
            let block = function.body().map(structure_of_block);
            let inputs = names(&function.inputs);
            (name.as_str(), json!({"inputs": inputs, "block": block}))
        })
        .collect();
    json!({"functions": functions})
}

fn structure_of_block(block: &Block) -> Value {
    let operations: Vec<Value> = block
        .operations
        .iter()
        .map(|operation| {
            let inputs: BTreeMap<&str, Vec<Option<&str>>> = operation
                .inputs
                .iter()
                .map(|(name, bindings)| (name.as_str(), bindings.iter().map(variable).collect()))
                .collect();
            let blocks: Vec<Value> = operation.blocks.iter().map(structure_of_block).collect();
            json!({
                "operator": operation.kind,
                "inputs": inputs,
                "outputs": names(&operation.outputs),
                "blocks": blocks,
            })
        })
        .collect();
    json!({"inputs": names(&block.inputs), "outputs": block.outputs, "operations": operations})
}

fn variable(binding: &Binding) -> Option<&str> {
    match binding {
        Binding::Name(name) => Some(name),
        Binding::Value(_) => None,
    }
}

fn names(values: &[NamedType]) -> Vec<&str> {
    values.iter().map(|value| value.name.as_str()).collect()
}
