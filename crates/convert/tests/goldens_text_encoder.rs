//! The text encoder against float64 transformers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod rig;

use gesso_convert::family::sd1::{TextOptions, text_encoder};
use gesso_engine::Tensor;
use gesso_testkit::{Golden, fixture};
use gesso_weights::TextConfig;
use rig::MODES;
use std::collections::BTreeMap;

/// What is compared: value in the program (`None`: the output), golden tensor.
struct Compared<'a> {
    value: &'a str,
    golden: &'a str,
}

fn check(
    what: &str,
    config: &TextConfig,
    weights: &rig::Weights,
    golden: &Golden,
    ids: &str,
    compared: &[Compared<'_>],
    recorded: Option<f64>,
) {
    let (shape, all) = golden.get(ids);
    let (rows, tokens) = (shape[0], shape[1]);
    for (precision, modes) in MODES {
        let options = TextOptions {
            tokens,
            precision,
            slots: None,
        };
        let built = text_encoder(config, &options).unwrap();
        let model = rig::model(&built, weights);
        let outputs: Vec<&str> = built.outputs.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(outputs, ["last_hidden_state", "pooled_outputs"]);
        let probes: Vec<String> = compared
            .iter()
            .filter(|c| !outputs.contains(&c.value))
            .map(|c| c.value.to_string())
            .collect();
        for row in 0..rows {
            let ids: Vec<f32> = all[row * tokens..][..tokens]
                .iter()
                .map(|&i| i as f32)
                .collect();
            let fed = BTreeMap::from([("input_ids".into(), Tensor::f32(&[1, tokens], ids))]);
            for mode in modes {
                let out = rig::predict(&model, &fed, mode, &probes);
                for c in compared {
                    let (_, reference) = golden.get(c.golden);
                    let each = reference.len() / rows;
                    let what = format!("{what} {}, row {row}", c.golden);
                    let reference = &reference[row * each..][..each];
                    rig::judge(
                        &what,
                        mode,
                        recorded,
                        reference,
                        out[c.value].as_f32().unwrap(),
                    );
                }
            }
        }
    }
}

#[test]
fn sd1_follows_transformers() {
    follows("sd1", &rig::sd1_text());
}

#[test]
fn sd2_follows_transformers() {
    follows("sd2", &rig::sd2_text());
}

fn follows(family: &str, config: &TextConfig) {
    let folder = &format!("goldens/models/{family}");
    let golden = Golden::open(fixture(folder).join("golden.safetensors"));
    let compared = [
        ("last_hidden_state", "text_encoder.out.last_hidden_state"),
        ("pooled_outputs", "text_encoder.out.pooled"),
        ("text_model_embeddings", "text_encoder.out.layer0_input"),
        (
            "text_model_encoder_layers_1",
            "text_encoder.out.penultimate",
        ),
    ]
    .map(|(value, golden)| Compared { value, golden });
    check(
        family,
        config,
        &rig::weights(folder),
        &golden,
        "text_encoder.in.input_ids",
        &compared,
        rig::recorded(folder, "text_encoder"),
    );
}

#[test]
fn shapes_follow_transformers() {
    let golden = Golden::open(fixture("shapes/golden/text_encoder.safetensors"));
    let compared = [
        ("last_hidden_state", "last_hidden_state"),
        ("pooled_outputs", "pooler_output"),
    ]
    .map(|(value, golden)| Compared { value, golden });
    let weights = rig::weights("shapes/base");
    check(
        "shapes",
        &rig::shapes_text(),
        &weights,
        &golden,
        "input_ids",
        &compared,
        None,
    );
}
