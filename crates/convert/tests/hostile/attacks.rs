//! `fixtures/attacks`: each file is refused with the message that `expected.tsv` promises.

use crate::alone;
use gesso_coreml::blob::BlobFile;
use gesso_coreml::compiled::{CompiledModel, Header};
use gesso_coreml::package::Package;
use gesso_coreml::proto::specification::Model;
use gesso_testkit::fixture;
use gesso_weights::safetensors::StFile;
use prost::Message;
use std::collections::BTreeSet;
use std::path::Path;

/// An error and its causes in one line.
fn said(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text += &format!(": {inner}");
        cause = inner.source();
    }
    text
}

fn read(reader: &str, path: &Path) -> Result<(), String> {
    let bytes = || std::fs::read(path).unwrap();
    match reader {
        "blob" => {
            let bytes = bytes();
            let file = BlobFile::new(&bytes, "weight.bin").map_err(said)?;
            file.records().try_for_each(|r| r.map(drop)).map_err(said)
        }
        "model" => Model::decode(&*bytes())
            .map_err(said)
            .and_then(|model| gesso_mil::from_model(&model).map(drop).map_err(said)),
        "package" => Package::open(path).map(drop).map_err(said),
        "coremldata" => Header::read(&bytes(), path).map(drop).map_err(said),
        "compiled" => CompiledModel::open(path).map(drop).map_err(said),
        "zip" => gesso_convert::asset::check(&bytes(), path)
            .map(drop)
            .map_err(said),
        "delta" => gesso_convert::delta::check(&bytes(), path)
            .map(drop)
            .map_err(said),
        "text" => gesso_mil::text::parse(&String::from_utf8(bytes()).unwrap())
            .map(drop)
            .map_err(said),
        "safetensors" => StFile::open(path).map(drop).map_err(said),
        other => panic!("no reader is called `{other}`"),
    }
}

#[test]
fn every_attack_is_refused_with_its_message() {
    let _alone = alone();
    let folder = fixture("attacks");
    let table = std::fs::read_to_string(folder.join("expected.tsv")).unwrap();
    let mut listed = BTreeSet::new();
    let mut wrong = Vec::new();
    for line in table.lines() {
        let [reader, name, expected] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("three columns expected: {line}");
        };
        listed.insert(format!("{reader}/{name}"));
        match read(reader, &folder.join(reader).join(name)) {
            Ok(()) => wrong.push(format!("{reader}/{name} is accepted")),
            Err(message) if message.contains(expected) => {}
            Err(message) => wrong.push(format!(
                "{reader}/{name}: expected `{expected}`, found `{message}`"
            )),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let mut there = BTreeSet::new();
    for reader in std::fs::read_dir(&folder).unwrap() {
        let reader = reader.unwrap();
        if !reader.file_type().unwrap().is_dir() {
            continue;
        }
        for file in std::fs::read_dir(reader.path()).unwrap() {
            let (reader, file) = (reader.file_name(), file.unwrap().file_name());
            there.insert(format!("{}/{}", reader.display(), file.display()));
        }
    }
    assert_eq!(listed, there);
}
