//! What the command-line tests share: the binary, a scratch folder, and checkpoints with one thing wrong.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs
)] // each test uses a part

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The shapes checkpoint.
pub(crate) fn shapes() -> PathBuf {
    gesso_testkit::fixture("shapes/base")
}

/// A LoRA of the shapes model.
pub(crate) fn lora(style: &str) -> PathBuf {
    gesso_testkit::fixture("shapes/lora").join(format!("{style}.safetensors"))
}

/// The binary under test.
pub(crate) fn gesso() -> Command {
    Command::new(env!("CARGO_BIN_EXE_gesso"))
}

/// Runs and expects exit code 0.
pub(crate) fn succeeds(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}\n{}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs, expects exit code 2 and a message that holds every one of `parts`; nothing may look like a panic.
pub(crate) fn refuses(command: &mut Command, parts: &[&str]) {
    let output = command.output().unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(2), "{command:?}\n{text}");
    assert!(
        text.contains("error: ") && !text.contains("panicked"),
        "{text}"
    );
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
}

pub(crate) fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Copies a folder with everything below it.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target)
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

/// The names in a folder, sorted; what is hidden too.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A safetensors file taken apart: its header and its data.
pub(crate) struct Tensors {
    pub(crate) header: serde_json::Map<String, serde_json::Value>,
    pub(crate) data: Vec<u8>,
}

impl Tensors {
    pub(crate) fn open(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap();
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        Self {
            header: serde_json::from_slice(&bytes[8..8 + length]).unwrap(),
            data: bytes[8 + length..].to_vec(),
        }
    }

    pub(crate) fn write(&self, path: &Path) {
        let header = serde_json::to_vec(&self.header).unwrap();
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header);
        bytes.extend(&self.data);
        std::fs::write(path, bytes).unwrap();
    }

    /// Adds a float tensor at the end.
    pub(crate) fn add(&mut self, name: &str, shape: &[usize], value: f32) {
        let start = self.data.len();
        let count: usize = shape.iter().product();
        self.data
            .extend(std::iter::repeat_n(value.to_le_bytes(), count).flatten());
        let entry = serde_json::json!({ "dtype": "F32", "shape": shape, "data_offsets": [start, self.data.len()] });
        self.header.insert(name.into(), entry);
    }
}

/// Replaces the zip member `from` by the equally long name `to`, in both of its headers.
pub(crate) fn rename_member(bytes: &mut [u8], from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    let places: Vec<usize> = (0..=bytes.len() - from.len())
        .filter(|&i| bytes[i..].starts_with(from.as_bytes()))
        .collect();
    assert!(
        places.len() >= 2,
        "`{from}` stands in the archive {} times",
        places.len()
    );
    for at in places {
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
}
