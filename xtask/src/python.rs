//! Virtual environments for Python tools, made under `target/` when first needed.

use crate::{root, step};
use std::path::PathBuf;
use std::process::Command;

/// The Python of the environment `target/<name>`, or why there is none. `installs` are the arguments of one `pip
/// install` each; the environment is made anew when they differ from those that it was made with.
pub(crate) fn environment(
    name: &str,
    installs: &[&[&str]],
) -> anyhow::Result<Result<PathBuf, String>> {
    let folder = root().join("target").join(name);
    let python = folder.join("bin/python");
    let stamp = folder.join("gesso-requirements.txt");
    let wanted = installs.concat().join("\n");
    if std::fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
        return Ok(Ok(python));
    }
    let base = ["python3.12", "python3.11", "python3.10", "python3"]
        .into_iter()
        .find(|name| {
            let version = Command::new(name)
                .args([
                    "-c",
                    "import sys, venv; print(sys.version_info[:2] < (3, 13))",
                ])
                .output();
            version.is_ok_and(|o| o.stdout.starts_with(b"True"))
        });
    let Some(base) = base else {
        return Ok(Err(
            "no Python between 3.10 and 3.12 with the venv module on PATH".into(),
        ));
    };
    let path = folder.to_string_lossy().into_owned();
    if !step(base, &["-m", "venv", "--clear", &path])? {
        return Ok(Err(format!(
            "`{base} -m venv` failed (on Debian: install python3-venv)"
        )));
    }
    for packages in installs {
        let mut arguments = vec![
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ];
        arguments.extend(*packages);
        if !step(&python.to_string_lossy(), &arguments)? {
            return Ok(Err(format!(
                "pip could not install {} (no network?)",
                packages.join(" ")
            )));
        }
    }
    std::fs::write(&stamp, wanted)?;
    Ok(Ok(python))
}
