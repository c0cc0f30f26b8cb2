//! The C test program `c/test.c`: compiled with the C compiler of the machine, linked with the static library, run.
//!
//! Once as it is, once under the address and undefined behaviour sanitizers. The static library is the one that cargo builds
//! beside this test. `CC` names another compiler than `cc`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use gesso_coreml::package::Package;
use gesso_engine::{Model, RunOptions, Tensor};
use gesso_testkit::fixture;

/// Flags of the sanitizers: whatever they find ends the program.
const SANITIZERS: [&str; 2] = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];

fn cc() -> String {
    std::env::var("CC").unwrap_or_else(|_| "cc".into())
}

/// Why something cannot run here: a line on stderr, and a failure where `CI` is `true`.
fn skipped(why: &str) {
    let in_ci = std::env::var("CI").is_ok_and(|v| v == "true");
    assert!(!in_ci, "{why}: with CI=true a skip is a failure");
    eprintln!("SKIPPED: {why}");
}

/// Whether the compiler makes programs that run, with these flags.
fn compiles(flags: &[&str]) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let (source, program) = (folder.path().join("a.c"), folder.path().join("a"));
    std::fs::write(&source, "int main(void) { return 0; }\n").unwrap();
    let mut command = Command::new(cc());
    command.args(flags).arg(&source).arg("-o").arg(&program);
    command.output().is_ok_and(|o| o.status.success())
        && Command::new(&program)
            .output()
            .is_ok_and(|o| o.status.success())
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
    match compiles(&[]) {
        true => compile_and_run(&[]),
        false => skipped(&format!("no C compiler `{}` that makes programs", cc())),
    }
}

#[test]
fn the_c_program_is_clean_under_sanitizers() {
    match compiles(&SANITIZERS) {
        true => compile_and_run(&SANITIZERS),
        false => skipped(&format!(
            "the C compiler `{}` has no address and undefined behaviour sanitizers (Debian: build-essential brings them)",
            cc()
        )),
    }
}

/// A sanitizer that finds nothing in a program with a mistake would find nothing in ours.
#[test]
fn the_sanitizers_find_what_is_there() {
    if !compiles(&SANITIZERS) {
        skipped("no sanitizers");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (source, program) = (folder.path().join("a.c"), folder.path().join("a"));
    for body in [
        "char *p = malloc(8); p[n + 7] = 1; free(p); return 0;",
        "int x = 2147483647; x += n; return x == 0;",
    ] {
        let text =
            format!("#include <stdlib.h>\nint main(int n, char **v) {{ (void)v; {body} }}\n");
        std::fs::write(&source, text).unwrap();
        let mut command = Command::new(cc());
        command
            .args(SANITIZERS)
            .arg(&source)
            .arg("-o")
            .arg(&program);
        assert!(command.output().unwrap().status.success());
        let run = Command::new(&program).output().unwrap();
        assert!(!run.status.success(), "not found: {body}");
    }
}

fn compile_and_run(flags: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let compiled = Command::new(cc())
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic", "-g"])
        .args(flags)
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
