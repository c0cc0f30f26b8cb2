//! One LoRA in twelve spellings becomes one asset.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use gesso_convert::asset::Asset;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use support::{Tensors, copy, gesso, shapes, succeeds};

/// The spellings by result, as `fixtures/lora/equiv` has them.
const GROUPS: [(&str, usize, &[&str]); 3] = [
    (
        "all_alpha",
        17,
        &[
            "kohya_diffusers_names",
            "kohya_ldm_names",
            "kohya_te1_prefix",
            "lycoris_prefix",
            "generic_ldm_dotted",
            "peft_metadata_alpha",
        ],
    ),
    (
        "all_scale1",
        17,
        &[
            "kohya_noalpha",
            "peft_noalpha",
            "peft_default",
            "diffusers_lora_dot",
        ],
    ),
    (
        "attn_scale1",
        3,
        &["old_processor_noprefix", "old_processor_unet_prefix"],
    ),
];

fn fixture(name: &str) -> PathBuf {
    gesso_testkit::fixture("lora/equiv").join(name)
}

/// The small model of the spellings as a whole checkpoint: it has neither a VAE nor a tokenizer, and fewer tokens than one.
fn checkpoint(scratch: &Path) -> PathBuf {
    let model = scratch.join("model");
    copy(&fixture("base_diffusers"), &model);
    copy(&shapes().join("tokenizer"), &model.join("tokenizer"));
    copy(
        &gesso_testkit::fixture("goldens/models/sd1/vae"),
        &model.join("vae"),
    );
    let folder = model.join("text_encoder");
    let config = folder.join("config.json");
    let mut json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    for (key, id) in [
        ("vocab_size", 654),
        ("bos_token_id", 652),
        ("eos_token_id", 653),
    ] {
        json[key] = id.into();
    }
    std::fs::write(&config, json.to_string()).unwrap();
    let weights = folder.join("model.safetensors");
    let old = Tensors::open(&weights);
    let mut new = Tensors {
        header: serde_json::Map::new(),
        data: Vec::new(),
    };
    for (name, entry) in &old.header {
        if name == "__metadata__" {
            continue;
        }
        let [start, end]: [usize; 2] =
            serde_json::from_value(entry["data_offsets"].clone()).unwrap();
        let at = new.data.len();
        new.data.extend(&old.data[start..end]);
        let mut entry = entry.clone();
        if name.ends_with("token_embedding.weight") {
            let rows = entry["shape"][0].as_u64().unwrap() as usize;
            new.data.resize(at + (end - start) / rows * 654, 0);
            entry["shape"][0] = 654.into();
        }
        entry["data_offsets"] = serde_json::json!([at, new.data.len()]);
        new.header.insert(name.clone(), entry);
    }
    new.write(&weights);
    model
}

/// The members of an asset's packages and its manifest without `metadata`, which is the file's own as it was.
fn content(asset: &Path, dir: &Path) -> (BTreeMap<String, Vec<u8>>, serde_json::Value) {
    let asset = Asset::open(asset).unwrap();
    let mut manifest = serde_json::to_value(asset.manifest()).unwrap();
    manifest
        .as_object_mut()
        .unwrap()
        .remove("metadata")
        .unwrap();
    let members = asset.manifest().members.keys();
    let packages = asset.extract(dir).unwrap();
    assert!(!packages.is_empty());
    let read = |name: &String| (name.clone(), std::fs::read(dir.join(name)).unwrap());
    (members.map(read).collect(), manifest)
}

#[test]
fn the_spellings_of_one_lora_give_the_same_bytes() {
    let scratch = tempfile::tempdir().unwrap();
    let model = checkpoint(scratch.path());
    let base = scratch.path().join("base");
    let mut convert = gesso();
    convert
        .arg("convert")
        .arg(&model)
        .args(["--format", "mlpackage", "--size", "64x64"]);
    succeeds(convert.args(["--adapter-sites", "all", "-o"]).arg(&base));
    for (group, modules, spellings) in GROUPS {
        let mut first: Option<(BTreeMap<String, Vec<u8>>, serde_json::Value)> = None;
        let mut whole: Vec<Vec<u8>> = Vec::new();
        for spelling in spellings {
            let lora = fixture(&format!("lora_{spelling}.safetensors"));
            let asset = scratch.path().join(format!("{spelling}.mlmodelcassets"));
            let mut command = gesso();
            command.arg("adapter").arg(&lora).arg("--base").arg(&base);
            command.args(["--name", "one", "--exact", "-o"]).arg(&asset);
            succeeds(&mut command);
            let (members, manifest) = content(&asset, &scratch.path().join(spelling));
            assert!(members.len() >= 3, "{spelling}: {:?}", members.keys());
            let rows = manifest["rows"].as_array().unwrap();
            let downs = rows.iter().map(|row| &row["module"]);
            let named: std::collections::BTreeSet<String> = downs.map(|m| m.to_string()).collect();
            assert_eq!(named.len(), modules, "{spelling}");
            if manifest["metadata"].is_null() && !has_metadata(&lora) {
                whole.push(std::fs::read(&asset).unwrap());
            }
            match &first {
                None => first = Some((members, manifest)),
                Some((m, j)) => {
                    assert!(*m == members, "{group}: {spelling} has other packages");
                    assert_eq!(*j, manifest, "{group}: {spelling}");
                }
            }
        }
        // Files without metadata of their own give archives that are equal to the last byte.
        assert!(whole.windows(2).all(|pair| pair[0] == pair[1]), "{group}");
    }
}

fn has_metadata(lora: &Path) -> bool {
    Tensors::open(lora).header.contains_key("__metadata__")
}
