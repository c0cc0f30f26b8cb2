//! The VAE's halves against float64 diffusers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod rig;

use gesso_convert::built::Built;
use gesso_convert::family::Precision;
use gesso_convert::family::sd1::{VaeOptions, vae_decoder, vae_encoder};
use gesso_engine::Tensor;
use gesso_testkit::{Golden, fixture};
use gesso_weights::VaeConfig;
use rig::MODES;
use std::collections::BTreeMap;

/// One run of a half: its input tensor, and what it must give.
struct Case<'a> {
    what: String,
    input: (&'a str, Tensor),
    output: &'a str,
    reference: Vec<f64>,
    recorded: Option<f64>,
}

fn check(case: &Case<'_>, weights: &rig::Weights, build: impl Fn(Precision) -> Built) {
    for (precision, modes) in MODES {
        let fed = BTreeMap::from([(case.input.0.to_string(), case.input.1.clone())]);
        let built = build(precision);
        assert_eq!(built.inputs.len(), 1);
        assert_eq!(built.outputs.len(), 1);
        let model = rig::model(&built, weights);
        for mode in modes {
            let out = rig::predict(&model, &fed, mode, &[]);
            let x = out[case.output].as_f32().unwrap();
            rig::judge(&case.what, mode, case.recorded, &case.reference, x);
        }
    }
}

fn options(latent: &[usize], precision: Precision) -> VaeOptions {
    VaeOptions {
        height: latent[2],
        width: latent[3],
        precision,
    }
}

fn autoencoder(folder: &str, config: &VaeConfig) {
    let golden = Golden::open(fixture(folder).join("golden.safetensors"));
    let weights = rig::weights(folder);
    for name in ["sq", "wide"] {
        let at = |part: &str| format!("vae.{name}.{part}");
        let recorded = rig::recorded(folder, &format!("vae.{name}"));
        let latent = golden.shape(&at("in.z"));
        let decode = Case {
            what: format!("{folder} decode {name}"),
            input: ("z", rig::tensor(&golden, &at("in.z"))),
            output: "image",
            reference: golden.get(&at("out.image")).1.to_vec(),
            recorded,
        };
        check(&decode, &weights, |p| {
            vae_decoder(config, &options(&latent, p)).unwrap()
        });
        let encode = Case {
            what: format!("{folder} encode {name}"),
            input: ("x", rig::tensor(&golden, &at("in.image"))),
            output: "latent",
            reference: golden.get(&at("out.moments")).1.to_vec(),
            recorded,
        };
        check(&encode, &weights, |p| {
            vae_encoder(config, &options(&latent, p)).unwrap()
        });
    }
}

#[test]
fn sd1_follows_diffusers() {
    autoencoder("goldens/models/sd1", &rig::sd1_vae());
}

#[test]
fn sd2_follows_diffusers() {
    autoencoder("goldens/models/sd2", &rig::sd1_vae());
}

#[test]
fn thirty_two_groups_follow_diffusers() {
    autoencoder("goldens/models/vae", &rig::large_vae());
}

#[test]
fn shapes_follow_diffusers() {
    let golden = Golden::open(fixture("shapes/golden/vae.safetensors"));
    let weights = rig::weights("shapes/base");
    let config = rig::shapes_vae();
    let latent = golden.shape("encode.mean");
    for (input, output) in [
        ("encode.mean", "decode_mean.image"),
        ("decode_random.latent", "decode_random.image"),
    ] {
        let case = Case {
            what: format!("shapes {output}"),
            input: ("z", rig::tensor(&golden, input)),
            output: "image",
            reference: golden.get(output).1.to_vec(),
            recorded: None,
        };
        check(&case, &weights, |p| {
            vae_decoder(&config, &options(&latent, p)).unwrap()
        });
    }
    let moments = [golden.get("encode.mean").1, golden.get("encode.logvar").1].concat();
    let case = Case {
        what: "shapes encode".into(),
        input: ("x", rig::tensor(&golden, "encode.image")),
        output: "latent",
        reference: moments,
        recorded: None,
    };
    check(&case, &weights, |p| {
        vae_encoder(&config, &options(&latent, p)).unwrap()
    });
}
