//! The operations of a program as JSON.

use std::ffi::{CStr, CString};
use std::ptr::null_mut;

use gesso::*;
use serde_json::{Value, json};

use super::rig::*;

fn structure(path: &CStr) -> Value {
    let mut text = null_mut();
    ok(unsafe { gesso_structure(path.as_ptr(), &raw mut text) });
    let value = serde_json::from_slice(unsafe { CStr::from_ptr(text) }.to_bytes()).unwrap();
    ok(unsafe { gesso_string_free(&raw mut text) });
    value
}

#[test]
fn a_package_lists_its_operations() {
    let value = structure(&sample("stateful_ios18"));
    let main = &value["functions"]["main"];
    assert_eq!(main["inputs"], json!(["x", "acc"]));
    assert_eq!(main["block"]["outputs"], json!(["y"]));
    let operations = main["block"]["operations"].as_array().unwrap();
    let kinds: Vec<_> = operations
        .iter()
        .map(|o| o["operator"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds,
        [
            "read_state",
            "add",
            "write_state",
            "read_state",
            "const",
            "mul"
        ]
    );
    assert_eq!(
        operations[1],
        json!({"operator": "add", "inputs": {"x": ["acc_read"], "y": ["x"]}, "outputs": ["acc_new"], "blocks": []})
    );
}

#[test]
fn a_compiled_model_lists_the_same() {
    let package = sample("multifunction_ios18");
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("Multi.mlmodelc");
    let target = CString::new(target.to_str().unwrap()).unwrap();
    ok(unsafe { gesso_compile(package.as_ptr(), target.as_ptr(), 0) });
    let value = structure(&package);
    assert_eq!(structure(&target), value);
    let names: Vec<_> = value["functions"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["alpha", "beta"]);
}

#[test]
fn what_has_no_operations_is_refused() {
    let mut text = null_mut();
    refused(
        unsafe { gesso_structure(c"nothing".as_ptr(), &raw mut text) },
        GessoStatus::Io,
        "`nothing` is not there",
    );
    let folder = tempfile::tempdir().unwrap();
    let path = CString::new(folder.path().to_str().unwrap()).unwrap();
    let status = unsafe { gesso_structure(path.as_ptr(), &raw mut text) };
    assert_ne!(status, GessoStatus::Ok);
    assert!(text.is_null());
    refused(
        unsafe { gesso_structure(path.as_ptr(), null_mut()) },
        GessoStatus::NullPointer,
        "`json` is null",
    );
}
