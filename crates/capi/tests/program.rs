//! The C test program `c/test.c`: compiled with the C compiler of the machine, linked with the static library, run.
//!
//! The static library is the one that cargo builds beside this test. `GESSO_C_FLAGS` adds flags to the compiler, and
//! `CC` names another one: this is how `docs/c-api.md` runs it under sanitizers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use gesso_coreml::package::Package;
use gesso_engine::{Model, RunOptions, Tensor};
use gesso_testkit::fixture;

/// The C compiler. Without one: a line on stderr, and a failure where `CI` is `true`.
fn compiler() -> Option<String> {
    let cc = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    if Command::new(&cc).arg("--version").output().is_ok() {
        return Some(cc);
    }
    let in_ci = std::env::var("CI").is_ok_and(|v| v == "true");
    assert!(
        !in_ci,
        "no C compiler `{cc}`: with CI=true a skip is a failure"
    );
    eprintln!("SKIPPED: no C compiler `{cc}` on this machine");
    None
}

/// The newest static library beside this test's own file: cargo builds it with the crate.
fn library() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let folders = [own.parent().unwrap(), own.ancestors().nth(2).unwrap()];
    let found = folders
        .iter()
        .flat_map(|folder| std::fs::read_dir(folder).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            name.starts_with("libgesso") && name.ends_with(".a")
        });
    found
        .max_by_key(|path| path.metadata().unwrap().modified().unwrap())
        .expect("cargo builds `libgesso.a` with the crate")
}

fn floats(path: &Path, values: &[f32]) {
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_ne_bytes()).collect();
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn the_c_program_passes() {
    let Some(cc) = compiler() else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let flags = std::env::var("GESSO_C_FLAGS").unwrap_or_default();
    let compiled = Command::new(&cc)
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic", "-g"])
        .args(flags.split_whitespace())
        .arg("-I")
        .arg(crate_folder.join("include"))
        .arg(crate_folder.join("tests/c/test.c"))
        .arg(library())
        .args(["-lpthread", "-ldl", "-lm", "-o"])
        .arg(at("test"))
        .output()
        .unwrap();
    assert!(
        compiled.status.success(),
        "{}",
        String::from_utf8_lossy(&compiled.stderr)
    );

    let package = fixture("formats/samples/base_fp16_ios16/base_fp16_ios16.mlpackage");
    let x: Vec<f32> = (0u16..1024)
        .map(|i| f32::from(i % 97) / 31.0 - 1.5)
        .collect();
    let inputs = BTreeMap::from([("x".to_string(), Tensor::f32(&[1, 16, 8, 8], x.clone()))]);
    let model = Model::load(&Package::open(&package).unwrap()).unwrap();
    let results = model
        .predict(None, &inputs, &RunOptions::default())
        .unwrap();
    floats(&at("x"), &x);
    floats(&at("fc"), results["fc"].as_f32().unwrap());
    let run = Command::new(at("test"))
        .arg(package)
        .arg(at("Base.mlmodelc"))
        .arg(at("x"))
        .arg(at("fc"))
        .arg(fixture(
            "formats/samples/stateful_ios18/stateful_ios18.mlpackage",
        ))
        .output()
        .unwrap();
    assert!(
        run.status.success(),
        "{}{}",
        String::from_utf8_lossy(&run.stdout),
        String::from_utf8_lossy(&run.stderr)
    );
    assert_eq!(String::from_utf8_lossy(&run.stdout), "ok\n");
}

#[test]
fn the_header_declares_every_function() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let header = std::fs::read_to_string(folder.join("include/gesso.h")).unwrap();
    let mut functions = 0;
    for entry in std::fs::read_dir(folder.join("src")).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for after in text.split("#[unsafe(no_mangle)]").skip(1) {
            let name = after
                .split("fn ")
                .nth(1)
                .unwrap()
                .split('(')
                .next()
                .unwrap();
            assert!(
                header.contains(&format!("{name}(")),
                "`{name}` is not in the header"
            );
            functions += 1;
        }
    }
    assert!(functions > 20, "only {functions} functions found");
}
