//! Stable Diffusion 2: detection, OpenCLIP's text encoder, and what the UNet predicts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use gesso_testkit::fixture;
use gesso_weights::{
    Checkpoint, Component, Error, Family, OpenOptions, StDType, StFile, TensorRef, TextActivation,
    write_safetensors,
};
use std::collections::BTreeMap;
use std::path::PathBuf;

const ALL: [Component; 3] = [Component::Unet, Component::TextEncoder, Component::Vae];
const TELLING: &str = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias";

/// Owned tensors: name → (dtype, shape, bytes).
type Owned = BTreeMap<String, (StDType, Vec<usize>, Vec<u8>)>;

fn sd2() -> PathBuf {
    fixture("goldens/models/sd2")
}

fn with_configs() -> OpenOptions {
    OpenOptions {
        config_dir: Some(sd2()),
        ..OpenOptions::default()
    }
}

/// What the tensors of the tiny model do not say.
fn numbers() -> OpenOptions {
    OpenOptions {
        heads: Some(4),
        text_heads: Some(4),
        norm_groups: Some(8),
        vae_norm_groups: Some(4),
        ..OpenOptions::default()
    }
}

fn single() -> Owned {
    let file = StFile::open(sd2().join("single_file.safetensors")).unwrap();
    file.tensors()
        .map(|t| (t.name.into(), (t.dtype, t.shape.to_vec(), t.bytes.to_vec())))
        .collect()
}

fn open(
    tensors: &Owned,
    metadata: &[(&str, &str)],
    options: &OpenOptions,
) -> Result<Checkpoint, Error> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
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
    write_safetensors(&path, &metadata.collect(), &views).unwrap();
    // The map stays readable after the file is unlinked.
    Checkpoint::open(&path, options)
}

#[track_caller]
fn same(a: &Checkpoint, b: &Checkpoint) {
    for component in ALL {
        let (a, b) = (
            a.component(component).unwrap(),
            b.component(component).unwrap(),
        );
        assert!(a.names().eq(b.names()), "{component}");
        for tensor in a.iter() {
            assert_eq!(Some(tensor), b.get(tensor.name), "{component}");
        }
    }
    assert_eq!(a.source_hash(&ALL), b.source_hash(&ALL));
}

#[test]
fn a_folder_is_known_by_its_tensors() {
    let c = Checkpoint::open(sd2(), &OpenOptions::default()).unwrap();
    assert_eq!(c.family(), Some(Family::Sd2));
    assert_eq!(c.family_sign(), Some("its UNet projects by linear layers"));
    let unet = c.unet_config().unwrap();
    assert_eq!(unet.heads, [2, 4, 2, 8]);
    assert!(unet.use_linear_projection);
    assert_eq!(c.text_config().unwrap().activation, TextActivation::Gelu);
    assert_eq!(c.scheduler_config().prediction_type, "v_prediction");
    assert!(c.unused().is_empty());
}

#[test]
fn a_single_file_is_the_folder_bit_for_bit_and_names_what_it_leaves_out() {
    let folder = Checkpoint::open(sd2(), &OpenOptions::default()).unwrap();
    let single = Checkpoint::open(sd2().join("single_file.safetensors"), &with_configs()).unwrap();
    assert_eq!(single.family(), Some(Family::Sd2));
    same(&folder, &single);
    assert_eq!(folder.scheduler_json(), single.scheduler_json());
    let names: Vec<&str> = single.unused().iter().map(|u| u.name.as_str()).collect();
    assert_eq!(names.len(), 3 + 12, "{names:?}");
    for rest in [
        "global_step",
        "cond_stage_model.model.logit_scale",
        "cond_stage_model.model.text_projection",
    ] {
        assert!(names.contains(&rest), "{rest}");
    }
    let block = "cond_stage_model.model.transformer.resblocks.3.";
    let of_block = single.unused().iter().filter(|u| u.name.starts_with(block));
    assert!(
        of_block
            .clone()
            .all(|u| u.why.contains("last block of OpenCLIP"))
    );
    assert_eq!(of_block.count(), 12);
}

#[test]
fn an_sgm_file_is_the_same() {
    let (ldm, sgm) = ("cond_stage_model.model.", "conditioner.embedders.0.model.");
    let renamed = single()
        .into_iter()
        .map(|(n, t)| (n.replace(ldm, sgm), t))
        .collect();
    let folder = Checkpoint::open(sd2(), &OpenOptions::default()).unwrap();
    same(&folder, &open(&renamed, &[], &with_configs()).unwrap());
}

#[test]
fn without_configurations_the_tensors_decide() {
    let c = open(&single(), &[], &numbers()).unwrap();
    let folder = Checkpoint::open(sd2(), &OpenOptions::default()).unwrap();
    same(&folder, &c);
    assert_eq!(c.text_config().unwrap(), folder.text_config().unwrap());
    // One head for every 64 channels, as in the published models.
    let options = OpenOptions {
        heads: None,
        ..numbers()
    };
    let c = open(&single(), &[], &options).unwrap();
    assert_eq!(c.unet_config().unwrap().heads, [1; 4]);
}

#[test]
fn of_a_text_encoder_as_wide_as_the_published_one_23_blocks_are_used() {
    for stored in [23, 24] {
        let mut tensors = Owned::new();
        let mut put = |name: &str, shape: &[usize]| {
            let bytes = vec![0; shape.iter().product()];
            let name = format!("cond_stage_model.model.{name}");
            tensors.insert(name, (StDType::F8E4M3, shape.to_vec(), bytes));
        };
        let (d, ff) = (1024, 1);
        put("token_embedding.weight", &[4, d]);
        put("positional_embedding", &[2, d]);
        for part in ["weight", "bias"] {
            put(&format!("ln_final.{part}"), &[d]);
        }
        // One layer's weights would be 12 MB: the shapes are wrong on purpose, behind the count.
        for i in 0..stored {
            put(
                &format!("transformer.resblocks.{i}.mlp.c_fc.weight"),
                &[ff, d],
            );
        }
        let text = open(&tensors, &[], &OpenOptions::default())
            .unwrap_err()
            .to_string();
        // 23 layers of 16 tensors, of which each has one.
        assert!(
            text.contains(&format!("lacks {} tensors", 23 * 15)),
            "{stored}: {text}"
        );
    }
}

#[test]
fn a_projection_that_does_not_divide_by_three_is_missed_by_name() {
    let mut tensors = single();
    let name = "cond_stage_model.model.transformer.resblocks.1.attn.in_proj_bias";
    tensors.insert(name.into(), (StDType::F16, vec![142], vec![0; 284]));
    let text = open(&tensors, &[], &with_configs())
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("lacks 3 tensors") && text.contains("encoder.layers.1.self_attn.q_proj.bias"),
        "{text}"
    );
    // Three equal parts of a wrong size are a wrong shape.
    tensors.insert(name.into(), (StDType::F16, vec![141], vec![0; 282]));
    let text = open(&tensors, &[], &with_configs())
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("q_proj.bias") && text.contains("47"),
        "{text}"
    );
}

#[test]
fn convolutions_in_place_of_linear_projections_are_accepted() {
    let mut tensors = single();
    for (name, (_, shape, _)) in &mut tensors {
        let projects = [".proj_in.weight", ".proj_out.weight"];
        if name.starts_with("model.") && projects.iter().any(|p| name.ends_with(p)) {
            shape.extend([1, 1]);
        }
    }
    let c = open(&tensors, &[], &with_configs()).unwrap();
    let proj_in = c.component(Component::Unet).unwrap();
    let proj_in = proj_in
        .get("mid_block.attentions.0.proj_in.weight")
        .unwrap();
    assert_eq!(proj_in.shape, [32, 32, 1, 1]);
}

/// The prediction type, and the note that explains it.
fn prediction(
    tensors: &Owned,
    metadata: &[(&str, &str)],
    options: &OpenOptions,
) -> (String, String) {
    let c = open(tensors, metadata, options).unwrap();
    let note = c.notes().iter().find(|n| n.starts_with("scheduler: "));
    let side = c.unet_config().unwrap().sample_size;
    let v = c.scheduler_config().prediction_type == "v_prediction";
    assert_eq!(side, if v { 96 } else { 64 });
    (
        c.scheduler_config().prediction_type.clone(),
        note.unwrap().clone(),
    )
}

#[test]
fn the_spread_of_one_bias_tells_v_from_epsilon() {
    let mut tensors = single();
    let n = tensors[TELLING].1[0];
    for (size, wanted, word) in [
        (0.1f32, "v_prediction", "0.100, which is above 0.09"),
        (0.08, "epsilon", "0.080, which is not above 0.09"),
    ] {
        // Half the values at each side of 1: the population's deviation is `size`.
        let values =
            (0..n).flat_map(|i| (if i % 2 == 0 { 1.0 + size } else { 1.0 - size }).to_le_bytes());
        tensors.insert(TELLING.into(), (StDType::F32, vec![n], values.collect()));
        let (found, note) = prediction(&tensors, &[], &numbers());
        assert_eq!(found, wanted);
        assert!(note.contains(word) && note.contains("guessed"), "{note}");
        assert!(note.contains("Stable Diffusion 2"), "{note}");
        // What was said or asked for goes before the guess.
        let other = if wanted == "epsilon" {
            "v_prediction"
        } else {
            "epsilon"
        };
        let said = [("modelspec.prediction_type", other)];
        assert_eq!(prediction(&tensors, &said, &numbers()).0, other);
        let options = OpenOptions {
            prediction_type: Some(other.into()),
            ..numbers()
        };
        let (found, note) = prediction(&tensors, &[], &options);
        assert_eq!(found, other);
        assert!(note.ends_with("that was asked for"), "{note}");
    }
}

#[test]
fn metadata_and_markers_tell() {
    let tensors = single();
    for (key, value, wanted) in [
        ("modelspec.prediction_type", "v", "v_prediction"),
        ("prediction_type", "v_prediction", "v_prediction"),
        ("modelspec.predict_key", "epsilon", "epsilon"),
        ("ss_v_parameterization", "True", "v_prediction"),
        (
            "modelspec.architecture",
            "stable-diffusion-v2-768-v",
            "v_prediction",
        ),
        (
            "modelspec.architecture",
            "stable-diffusion-v2-512",
            "epsilon",
        ),
    ] {
        let (found, note) = prediction(&tensors, &[(key, value)], &numbers());
        assert_eq!(found, wanted, "{key}");
        assert!(
            note.contains(&format!("`{key}` in the metadata is `{value}`")),
            "{note}"
        );
    }
    let mut marked = tensors;
    marked.insert("v_pred".into(), (StDType::F32, vec![0], Vec::new()));
    let (found, note) = prediction(&marked, &[], &numbers());
    assert_eq!(found, "v_prediction");
    assert!(note.contains("marker `v_pred`"), "{note}");
}

#[test]
fn a_model_of_stable_diffusion_1_says_that_it_cannot_be_known() {
    let file = fixture("goldens/models/sd1/single_file.safetensors");
    let c = Checkpoint::open(file, &numbers()).unwrap();
    assert_eq!(
        c.family_sign(),
        Some("its UNet takes text states of width 32")
    );
    let notes = c.notes().join("\n");
    assert!(
        notes.contains("`epsilon` is assumed: nothing in the file says it"),
        "{notes}"
    );
    assert!(notes.contains("--prediction-type"), "{notes}");
}

#[test]
fn what_was_asked_for_goes_before_a_folders_configuration() {
    let options = OpenOptions {
        prediction_type: Some("epsilon".into()),
        ..OpenOptions::default()
    };
    let c = Checkpoint::open(sd2(), &options).unwrap();
    assert_eq!(c.scheduler_config().prediction_type, "epsilon");
    let notes = c.notes().join("\n");
    assert!(
        notes.contains("where the configuration file says `v_prediction`"),
        "{notes}"
    );
    let json: serde_json::Value = serde_json::from_str(c.scheduler_json()).unwrap();
    assert_eq!(json["prediction_type"], "epsilon");
    assert_eq!(json["steps_offset"], 1);
}

#[test]
fn published_widths_are_known_from_the_header() {
    let unet = "model.diffusion_model";
    let mut tensors = Owned::new();
    let mut put = |name: &str, shape: &[usize]| {
        let bytes = vec![0; shape.iter().product()];
        tensors.insert(
            format!("{unet}.{name}"),
            (StDType::F8E4M3, shape.to_vec(), bytes),
        );
    };
    put("input_blocks.0.0.weight", &[320, 4, 3, 3]);
    put(
        "input_blocks.2.1.transformer_blocks.0.attn2.to_k.weight",
        &[320, 1024],
    );
    // Known, and then incomplete: no refusal by family.
    let error = open(&tensors, &[], &OpenOptions::default()).unwrap_err();
    assert!(!matches!(error, Error::Family { .. }), "{error}");
}

#[test]
fn attention_scores_in_fp32_are_mentioned() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("unet")).unwrap();
    let text = std::fs::read_to_string(sd2().join("unet/config.json")).unwrap();
    let asked = text.replace("\"upcast_attention\": false", "\"upcast_attention\": true");
    assert_ne!(text, asked);
    for (config, said) in [(text, false), (asked, true)] {
        std::fs::write(dir.path().join("unet/config.json"), config).unwrap();
        let options = OpenOptions {
            config_dir: Some(dir.path().into()),
            ..numbers()
        };
        let c = open(&single(), &[], &options).unwrap();
        let notes = c.notes().join("\n");
        assert_eq!(notes.contains("`upcast_attention`"), said, "{notes}");
    }
}
