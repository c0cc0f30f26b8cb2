//! Damaged and unusual checkpoints: what is missing, what is unknown, what is left out and why.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use gesso_testkit::fixture;
use gesso_weights::{
    Checkpoint, Component, Error, OpenOptions, StDType, StFile, TensorRef, write_safetensors,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const ALL: [Component; 3] = [Component::Unet, Component::TextEncoder, Component::Vae];

/// Owned tensors: name → (dtype, shape, bytes).
type Owned = BTreeMap<String, (StDType, Vec<usize>, Vec<u8>)>;

fn read(path: &Path) -> Owned {
    let file = StFile::open(path).unwrap();
    file.tensors()
        .map(|t| (t.name.into(), (t.dtype, t.shape.to_vec(), t.bytes.to_vec())))
        .collect()
}

fn write(path: &Path, tensors: &Owned, metadata: &[(&str, &str)]) {
    let views: Vec<_> = tensors
        .iter()
        .map(|(name, (dtype, shape, bytes))| TensorRef {
            name,
            dtype: *dtype,
            shape,
            bytes,
        })
        .collect();
    let metadata = metadata.iter().map(|(k, v)| (k.to_string(), v.to_string()));
    write_safetensors(path, &metadata.collect(), &views).unwrap();
}

fn options() -> OpenOptions {
    OpenOptions {
        config_dir: Some(fixture("goldens/models/sd1")),
        ..OpenOptions::default()
    }
}

fn single() -> Owned {
    read(&fixture("goldens/models/sd1/single_file.safetensors"))
}

/// Opens a single file with these tensors.
fn open(tensors: &Owned, options: &OpenOptions) -> Result<Checkpoint, Error> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    write(&path, tensors, &[]);
    // The map stays readable after the file is unlinked.
    Checkpoint::open(&path, options)
}

fn message(tensors: &Owned) -> String {
    let text = open(tensors, &options()).expect_err("was read").to_string();
    let start = text.find('`').unwrap();
    let end = text.find("model.safetensors").unwrap_or(start + 1);
    text.replace(&text[start + 1..end.max(start + 1)], "")
}

fn original() -> [u8; 32] {
    open(&single(), &options()).unwrap().source_hash(&ALL)
}

#[test]
fn missing_unet_tensors_are_named() {
    let mut tensors = single();
    tensors.remove("model.diffusion_model.input_blocks.4.0.in_layers.2.bias");
    assert_eq!(
        message(&tensors),
        "the unet of `model.safetensors` lacks 1 tensors: `down_blocks.1.resnets.0.conv1.bias`"
    );
    tensors.retain(|name, _| !name.starts_with("model.diffusion_model.output_blocks.11."));
    let text = message(&tensors);
    assert!(text.contains("lacks 39 tensors"), "{text}");
    assert_eq!(text.matches('`').count(), 2 * 11, "{text}");
    assert!(text.ends_with(", …"), "{text}");
}

#[test]
fn missing_unet_tensors_are_named_without_configuration_too() {
    let mut tensors = single();
    tensors.remove("model.diffusion_model.input_blocks.1.0.in_layers.2.weight");
    let mut options = options();
    options.config_dir = None;
    (options.norm_groups, options.vae_norm_groups) = (Some(8), Some(4));
    let text = open(&tensors, &options).unwrap_err().to_string();
    assert!(
        text.ends_with("lacks 1 tensors: `down_blocks.0.resnets.0.conv1.weight`"),
        "{text}"
    );
}

#[test]
fn whole_components_may_be_absent() {
    let mut tensors = single();
    tensors.retain(|name, _| !name.starts_with("first_stage_model."));
    let c = open(&tensors, &options()).unwrap();
    assert!(c.component(Component::Vae).is_none());
    assert!(matches!(
        c.vae_config(),
        Err(Error::Absent {
            component: Component::Vae,
            ..
        })
    ));
    assert_eq!(c.components().count(), 2);
    tensors.retain(|name, _| name.ends_with("position_ids"));
    let text = message(&tensors);
    assert!(
        text.contains("is not a checkpoint") || text.contains("`"),
        "{text}"
    );
}

#[test]
fn an_averaged_copy_does_not_stand_for_the_unet() {
    let tensors = single()
        .into_iter()
        .map(
            |(name, tensor)| match name.strip_prefix("model.diffusion_model.") {
                Some(rest) => (
                    format!("model_ema.diffusion_model{}", rest.replace('.', "")),
                    tensor,
                ),
                None => (name, tensor),
            },
        )
        .collect();
    let text = message(&tensors);
    assert!(text.contains("only as an averaged (EMA) copy"), "{text}");
}

#[test]
fn unknown_tensors_are_refused_unless_allowed() {
    let mut tensors = single();
    let stray = (StDType::F16, vec![1], vec![0; 2]);
    tensors.insert("model.diffusion_model.extra.weight".into(), stray.clone());
    tensors.insert("who.knows".into(), stray);
    assert_eq!(
        message(&tensors),
        "`model.safetensors` holds 2 tensors of unknown use: `model.diffusion_model.extra.weight`, `who.knows`\n\n\
         hint: allow unknown tensors if they may be left out"
    );
    let mut options = options();
    options.allow_unknown = true;
    let c = open(&tensors, &options).unwrap();
    let unknown: Vec<_> = c
        .unused()
        .iter()
        .filter(|u| u.why.starts_with("unknown"))
        .collect();
    assert_eq!(unknown.len(), 2);
    assert_eq!(c.source_hash(&ALL), original());
}

#[test]
fn known_leftovers_are_left_out_with_a_reason() {
    let mut tensors = single();
    let stray = (StDType::F32, vec![1], vec![0; 4]);
    let known = [
        "model_ema.decay",
        "model_ema.diffusion_modelinput_blocks00weight",
        "betas",
        "alphas_cumprod_prev",
        "sqrt_one_minus_alphas_cumprod",
        "posterior_variance",
        "first_stage_model.loss.logvar",
        "cond_stage_model.transformer.text_projection.weight",
        "cond_stage_model.logit_scale",
        "global_step",
    ];
    for name in known {
        tensors.insert(name.into(), stray.clone());
    }
    let c = open(&tensors, &options()).unwrap();
    let unused: Vec<_> = c.unused().iter().map(|u| u.name.as_str()).collect();
    for name in known {
        assert!(unused.contains(&name), "{name}: {unused:?}");
    }
    assert_eq!(unused.len(), known.len() + 1);
    assert!(c.unused().iter().all(|u| !u.why.is_empty()));
    assert_eq!(c.source_hash(&ALL), original());
}

#[test]
fn spellings_of_one_model_have_one_hash() {
    let rename = |f: &dyn Fn(&str) -> String| -> Owned {
        single().into_iter().map(|(k, v)| (f(&k), v)).collect()
    };
    let wrapped = rename(&|k| format!("state_dict.{k}"));
    let frameless = rename(&|k| k.replace("transformer.text_model.", "transformer."));
    let words = [
        ("q", "to_q"),
        ("k", "to_k"),
        ("v", "to_v"),
        ("proj_out", "to_out.0"),
    ];
    let modern = rename(&|k| {
        let pair = words
            .iter()
            .find(|(w, _)| k.contains(&format!("attn_1.{w}.")));
        let (from, to) = pair.unwrap_or(&("\0", ""));
        k.replace(&format!("attn_1.{from}."), &format!("attn_1.{to}."))
    });
    let mut squeezed = single();
    for (name, (_, shape, _)) in &mut squeezed {
        if name.contains("mid.attn_1") && shape.len() == 4 {
            shape.truncate(2);
        }
    }
    assert!(modern.keys().any(|k| k.contains("attn_1.to_q.")));
    for variant in [wrapped, frameless, modern, squeezed] {
        assert_ne!(variant, single());
        let c = open(&variant, &options()).unwrap();
        assert_eq!(c.source_hash(&ALL), original());
    }
    let mut changed = single();
    changed
        .get_mut("model.diffusion_model.out.2.bias")
        .unwrap()
        .2[0] ^= 1;
    assert_ne!(
        open(&changed, &options()).unwrap().source_hash(&ALL),
        original()
    );
}

#[test]
fn shapes_and_types_must_fit() {
    let mut tensors = single();
    let name = "model.diffusion_model.time_embed.0.weight";
    tensors.get_mut(name).unwrap().1.reverse();
    assert_eq!(
        message(&tensors),
        "tensor `time_embedding.linear_1.weight` of the unet has shape [16, 64], expected [64, 16]"
    );
    let mut tensors = single();
    let projection = "model.diffusion_model.input_blocks.1.1.proj_in.weight";
    tensors.get_mut(projection).unwrap().1 = vec![16, 16, 1, 1, 1];
    let text = open(&tensors, &options()).unwrap_err().to_string();
    assert!(
        text.ends_with("expected [16, 16] or [16, 16, 1, 1]"),
        "{text}"
    );
    let mut tensors = single();
    tensors
        .get_mut("model.diffusion_model.out.2.bias")
        .unwrap()
        .0 = StDType::I16;
    let text = open(&tensors, &options()).unwrap_err().to_string();
    assert!(
        text.contains("`model.diffusion_model.out.2.bias`") && text.contains("has dtype `I16`"),
        "{text}"
    );
}

#[test]
fn markers_and_metadata_set_the_prediction() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("v.safetensors");
    let mut tensors = single();
    tensors.insert("v_pred".into(), (StDType::F32, vec![0], vec![]));
    tensors.insert("ztsnr".into(), (StDType::F32, vec![0], vec![]));
    let said = [("modelspec.license", "MIT"), ("modelspec.author", "me")];
    write(&path, &tensors, &said);
    let options = OpenOptions {
        norm_groups: Some(8),
        vae_norm_groups: Some(4),
        ..OpenOptions::default()
    };
    let c = Checkpoint::open(&path, &options).unwrap();
    assert_eq!(c.scheduler_config().prediction_type, "v_prediction");
    assert!(c.scheduler_config().rescale_betas_zero_snr);
    assert!(
        c.scheduler_json()
            .contains("\"prediction_type\": \"v_prediction\"")
    );
    assert_eq!(
        (c.license(), c.author(), c.title()),
        (Some("MIT"), Some("me"), None)
    );
    write(&path, &single(), &[("modelspec.prediction_type", "v")]);
    let c = Checkpoint::open(&path, &options).unwrap();
    assert_eq!(c.scheduler_config().prediction_type, "v_prediction");
}

/// A copy of the folder fixture's UNet, to be damaged.
fn copied() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let unet = dir.path().join("unet");
    std::fs::create_dir(&unet).unwrap();
    let from = fixture("goldens/models/sd1/unet");
    for name in ["config.json", "diffusion_pytorch_model.safetensors"] {
        std::fs::copy(from.join(name), unet.join(name)).unwrap();
    }
    (dir, unet)
}

#[test]
fn variants_and_shards_of_a_folder() {
    let (dir, unet) = copied();
    let plain = unet.join("diffusion_pytorch_model.safetensors");
    let open = || Checkpoint::open(dir.path(), &OpenOptions::default());
    let hash = open().unwrap().source_hash(&ALL);

    let fp16 = unet.join("diffusion_pytorch_model.fp16.safetensors");
    std::fs::rename(&plain, &fp16).unwrap();
    let c = open().unwrap();
    assert_eq!(c.source_hash(&ALL), hash);
    let note = "unet: the `fp16` variant is read; there is no plain one";
    assert!(c.notes().iter().any(|n| n == note), "{:?}", c.notes());

    let tensors = read(&fp16);
    let (mut first, mut second, mut map) = (Owned::new(), Owned::new(), BTreeMap::new());
    for (i, (name, tensor)) in tensors.into_iter().enumerate() {
        let (shard, file) = match i % 2 {
            0 => (&mut first, "a-00001-of-00002.safetensors"),
            _ => (&mut second, "a-00002-of-00002.safetensors"),
        };
        map.insert(name.clone(), file);
        shard.insert(name, tensor);
    }
    write(&unet.join("a-00001-of-00002.safetensors"), &first, &[]);
    write(&unet.join("a-00002-of-00002.safetensors"), &second, &[]);
    let index = unet.join("diffusion_pytorch_model.safetensors.index.json");
    let put = |map: &BTreeMap<String, &str>| {
        let text = serde_json::json!({ "metadata": {}, "weight_map": map }).to_string();
        std::fs::write(&index, text).unwrap();
    };
    put(&map);
    let c = open().unwrap();
    assert_eq!(c.source_hash(&ALL), hash);
    assert!(
        !c.notes().iter().any(|n| n == note),
        "the plain index wins over the variant"
    );

    let mut damaged = map.clone();
    damaged.insert("no.such".into(), "a-00001-of-00002.safetensors");
    put(&damaged);
    let text = open().unwrap_err().to_string();
    assert!(
        text.ends_with("tensor `no.such` is not in `a-00001-of-00002.safetensors`"),
        "{text}"
    );
    damaged.insert("no.such".into(), "../../secret.safetensors");
    put(&damaged);
    let text = open().unwrap_err().to_string();
    assert!(
        text.contains("the file of tensor `no.such` is \"../../secret.safetensors\""),
        "{text}"
    );
    damaged.insert("no.such".into(), "gone.safetensors");
    put(&damaged);
    let text = open().unwrap_err().to_string();
    assert!(
        text.ends_with("its file `gone.safetensors` is missing"),
        "{text}"
    );
    let (name, tensor) = first.pop_first().unwrap();
    second.insert(name.clone(), tensor);
    write(&unet.join("a-00002-of-00002.safetensors"), &second, &[]);
    put(&map);
    let text = open().unwrap_err().to_string();
    assert!(
        text.starts_with(&format!("tensor `{name}` stands twice")),
        "{text}"
    );
}

#[test]
fn old_folders_name_the_attention_of_the_vae_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    let vae = dir.path().join("vae");
    std::fs::create_dir(&vae).unwrap();
    let from = fixture("goldens/models/sd1/vae");
    std::fs::copy(from.join("config.json"), vae.join("config.json")).unwrap();
    let words = [
        ("to_q", "query"),
        ("to_k", "key"),
        ("to_v", "value"),
        ("to_out.0", "proj_attn"),
    ];
    let mut old = Owned::new();
    let mut renamed = 0;
    for (name, mut tensor) in read(&from.join("diffusion_pytorch_model.safetensors")) {
        let word = words.iter().find(|(w, _)| name.contains(&format!(".{w}.")));
        let name = match word {
            Some((new, old)) => name.replace(new, old),
            None => name,
        };
        renamed += usize::from(word.is_some());
        // Some of these folders keep the weights as 1×1 convolutions.
        if word.is_some() && tensor.1.len() == 2 {
            tensor.1.extend([1, 1]);
        }
        old.insert(name, tensor);
    }
    assert_eq!(renamed, 16);
    write(&vae.join("diffusion_pytorch_model.safetensors"), &old, &[]);
    let c = Checkpoint::open(dir.path(), &OpenOptions::default()).unwrap();
    let whole = open(&single(), &options()).unwrap();
    let only_vae = [Component::Vae];
    assert_eq!(c.source_hash(&only_vae), whole.source_hash(&only_vae));
    assert_eq!(
        c.component(Component::Vae)
            .unwrap()
            .source_key("encoder.mid_block.attentions.0.to_out.0.bias"),
        Some("encoder.mid_block.attentions.0.proj_attn.bias")
    );
}

#[test]
fn pickles_in_a_folder_are_refused_with_a_way_out() {
    let (dir, unet) = copied();
    std::fs::remove_file(unet.join("diffusion_pytorch_model.safetensors")).unwrap();
    let open = || Checkpoint::open(dir.path(), &OpenOptions::default()).unwrap_err();
    assert!(
        open()
            .to_string()
            .ends_with("it holds no .safetensors file")
    );
    std::fs::write(unet.join("diffusion_pytorch_model.bin"), b"PK\x03\x04").unwrap();
    let text = open().to_string();
    assert!(text.contains("diffusion_pytorch_model.bin"), "{text}");
    assert!(
        text.contains("hint: get the .safetensors version"),
        "{text}"
    );
}

#[test]
fn configurations_must_agree_with_the_tensors() {
    let (dir, unet) = copied();
    let file = unet.join("config.json");
    let text = std::fs::read_to_string(&file).unwrap();
    let open = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        std::fs::write(&file, text.replace(from, to)).unwrap();
        Checkpoint::open(dir.path(), &OpenOptions::default())
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        open("\"cross_attention_dim\": 32", "\"cross_attention_dim\": 48"),
        "tensor `down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight` of the unet has shape [16, 32], expected [16, 48]"
    );
    assert_eq!(
        open("\"attention_head_dim\": 4", "\"attention_head_dim\": 5"),
        "the unet's configuration has heads 5, expected a divisor of the channels (16); give the right number if it was assumed"
    );
    assert_eq!(
        open(
            "\"dual_cross_attention\": false",
            "\"dual_cross_attention\": true"
        ),
        "the unet's configuration has `dual_cross_attention` true, expected null or false"
    );
    let huge = open("\"layers_per_block\": 2", "\"layers_per_block\": 1000000");
    assert!(
        huge.contains("layers per block 1000000, expected 1 to 64"),
        "{huge}"
    );
    let huge = open(
        "\"in_channels\": 4",
        "\"in_channels\": 18446744073709551615",
    );
    assert!(huge.ends_with("expected a size from 1 to 2^20"), "{huge}");
    let broken = open("{", "");
    assert!(
        broken.contains("config.json` is not a valid configuration"),
        "{broken}"
    );
}

#[test]
fn folders_without_components_are_not_checkpoints() {
    let dir = tempfile::tempdir().unwrap();
    let text = Checkpoint::open(dir.path(), &OpenOptions::default())
        .unwrap_err()
        .to_string();
    assert!(
        text.ends_with("is not a checkpoint: it has no folder `unet`, `text_encoder` or `vae`"),
        "{text}"
    );
}
