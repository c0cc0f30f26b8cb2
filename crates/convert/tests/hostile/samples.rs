//! The files that are changed: real ones from `fixtures/`, made smaller where a reader looks at all bytes.

use crate::archive::archive;
use gesso_coreml::package::read_model;
use gesso_mil::compiled::{Source, compile};
use gesso_testkit::fixture;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::PathBuf;

fn packages() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(fixture("formats/samples"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|folder| {
            let name = folder.file_name().unwrap().to_string_lossy().into_owned();
            folder.join(format!("{name}.mlpackage/Data/com.apple.CoreML"))
        })
        .collect();
    found.sort();
    assert!(found.len() >= 26);
    found
}

/// Model messages.
pub(crate) fn models() -> Vec<Vec<u8>> {
    let files = packages().into_iter().map(|p| p.join("model.mlmodel"));
    files.map(|file| std::fs::read(file).unwrap()).collect()
}

/// Weight files of at most 4 KB.
pub(crate) fn blobs() -> Vec<Vec<u8>> {
    let files = packages().into_iter().map(|p| p.join("weights/weight.bin"));
    let blobs: Vec<_> = files
        .filter_map(|file| std::fs::read(file).ok())
        .filter(|bytes| bytes.len() <= 4096)
        .collect();
    assert!(blobs.len() >= 3);
    blobs
}

/// A file of every compiled sample, by its name in the folder.
fn compiled(name: &str) -> Vec<Vec<u8>> {
    let source = Source {
        name: "sample",
        model_name: "model",
        model_hash: [7; 32],
    };
    let files: Vec<_> = packages()
        .iter()
        .map(|p| read_model(&p.join("model.mlmodel")).unwrap())
        .filter_map(|model| compile(&model, &source).ok())
        .filter_map(|mut made| made.files.remove(name))
        .collect();
    assert!(files.len() >= 20, "{name}: {}", files.len());
    files
}

/// Programs as text.
pub(crate) fn texts() -> Vec<Vec<u8>> {
    compiled("model.mil")
}

/// Descriptions of compiled models.
pub(crate) fn descriptions() -> Vec<Vec<u8>> {
    compiled("coremldata.bin")
}

/// Safetensors files of at most 8 KB.
pub(crate) fn safetensors() -> Vec<Vec<u8>> {
    let mut files: Vec<_> = std::fs::read_dir(fixture("lora/fixtures"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let samples: Vec<_> = files
        .iter()
        .map(|file| std::fs::read(file).unwrap())
        .filter(|bytes| bytes.len() <= 8192)
        .collect();
    assert!(samples.len() >= 10);
    samples
}

/// Members of a small adapter asset without its manifest.
fn members() -> BTreeMap<String, Vec<u8>> {
    BTreeMap::from([
        (
            "Unet.mlpackage/Data/com.apple.CoreML/model.mlmodel".into(),
            b"a model".to_vec(),
        ),
        (
            "Unet.mlpackage/Data/com.apple.CoreML/weights/weight.bin".into(),
            vec![2; 64],
        ),
        ("Unet.mlpackage/Manifest.json".into(), b"{}".to_vec()),
    ])
}

/// The manifest of that asset.
pub(crate) fn manifests() -> Vec<Vec<u8>> {
    let listed: BTreeMap<_, _> = members()
        .into_iter()
        .map(|(name, bytes)| {
            let digest = Sha256::digest(&bytes);
            let sha256: String = digest.iter().map(|b| format!("{b:02x}")).collect();
            (
                name,
                serde_json::json!({ "size": bytes.len(), "sha256": sha256 }),
            )
        })
        .collect();
    let manifest = serde_json::json!({
        "schema": 1, "min_reader": 1, "kind": "gesso.adapter", "name": "style", "rank": 4,
        "default_strength": 1.0, "trigger_words": ["style"], "author": null, "license": null,
        "metadata": { "ss_network_dim": "4" },
        "components": { "Unet": {
            "package": "Unet.mlpackage", "layout_hash": "00", "rank": 4,
        } },
        "rows": [
            { "component": "Unet", "module": "mid_block.attn", "width": 8, "role": "down", "row": 0 },
            { "component": "Unet", "module": "mid_block.attn", "width": 8, "role": "up", "row": 1 },
        ],
        "members": listed, "signature": null,
    });
    vec![serde_json::to_vec_pretty(&manifest).unwrap()]
}

/// The asset around a manifest, with right checksums whatever the manifest says.
pub(crate) fn asset(manifest: &[u8]) -> Vec<u8> {
    let members = members();
    let mut rows: Vec<(&str, &[u8])> = members
        .iter()
        .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
        .collect();
    rows.push(("manifest.json", manifest));
    archive(&rows)
}

/// Whole assets.
pub(crate) fn assets() -> Vec<Vec<u8>> {
    manifests().iter().map(|manifest| asset(manifest)).collect()
}

/// New bytes of the two patches of a small delta.
const PATCHES: [&[u8]; 2] = [&[1; 24], &[2; 40]];

/// The manifest of that delta.
pub(crate) fn delta_manifests() -> Vec<Vec<u8>> {
    let sha256 = |bytes: &[u8]| -> String {
        let digest = Sha256::digest(bytes);
        digest.iter().map(|b| format!("{b:02x}")).collect()
    };
    let data = PATCHES.concat();
    let patch = |tensor: &str, offset: usize, bytes: &[u8]| {
        serde_json::json!({
            "tensor": tensor, "offset": offset, "length": bytes.len(), "sha256": sha256(bytes),
        })
    };
    let manifest = serde_json::json!({
        "schema": 1, "min_reader": 1, "kind": "gesso.delta", "name": "style",
        "loras": [{ "name": "style", "unet": 0.7, "text_encoder": 1.0 }],
        "trigger_words": ["style"], "author": null, "license": null, "metadata": {},
        "base_source_hash": sha256(b"source"),
        "files": [{
            "component": "unet", "package": "Unet", "data": "Unet.weights", "size": 512,
            "before": sha256(b"before"), "after": sha256(b"after"),
            "patches": [patch("unet:a.weight", 64, PATCHES[0]), patch("unet:b.weight", 128, PATCHES[1])],
        }],
        "palettized": { "unet:a.weight": [8, 41.5] },
        "members": { "Unet.weights": { "size": data.len(), "sha256": sha256(&data) } },
        "signature": null,
    });
    vec![serde_json::to_vec_pretty(&manifest).unwrap()]
}

/// The delta around a manifest, with right checksums whatever the manifest says.
pub(crate) fn delta(manifest: &[u8]) -> Vec<u8> {
    archive(&[
        ("Unet.weights", &PATCHES.concat()),
        ("manifest.json", manifest),
    ])
}

/// Whole deltas.
pub(crate) fn deltas() -> Vec<Vec<u8>> {
    delta_manifests().iter().map(|m| delta(m)).collect()
}
