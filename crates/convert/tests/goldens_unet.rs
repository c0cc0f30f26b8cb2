//! The UNet against float64 diffusers, every case, both attention flavours, every mode of computing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod rig;

use gesso_convert::family::sd1::{UnetOptions, unet};
use gesso_convert::family::{Attention, Precision};
use gesso_engine::Tensor;
use gesso_testkit::{Golden, fixture};
use gesso_weights::UnetConfig;
use rig::MODES;
use std::collections::BTreeMap;

const FLAVOURS: [Attention; 2] = [Attention::Original, Attention::SplitEinsum];

/// Options for a `sample [B, 4, h, w]` and text of `tokens` tokens.
fn options(
    sample: &[usize],
    tokens: usize,
    attention: Attention,
    precision: Precision,
) -> UnetOptions {
    UnetOptions {
        batch: sample[0],
        height: sample[2],
        width: sample[3],
        tokens,
        precision,
        attention,
        slots: None,
        controlnet_residuals: false,
    }
}

fn inputs(golden: &Golden, [sample, timestep, text]: [&str; 3]) -> BTreeMap<String, Tensor> {
    BTreeMap::from([
        ("sample".into(), rig::tensor(golden, sample)),
        ("timestep".into(), rig::tensor(golden, timestep)),
        (
            "encoder_hidden_states".into(),
            rig::text_states(golden, text),
        ),
    ])
}

/// The stored cases of every family; SD1 has `odd_size` besides.
const CASES: [&str; 6] = [
    "sq_t1",
    "wide_b2",
    "tall_b2_mixed",
    "sq_t999",
    "sq_frac",
    "residuals",
];

#[test]
fn sd1_follows_diffusers_in_every_case() {
    let cases = [&CASES[..], &["odd_size"]].concat();
    follows_in("sd1", &rig::sd1_unet(), &cases);
}

#[test]
fn sd2_follows_diffusers_in_every_case() {
    follows_in("sd2", &rig::sd2_unet(), &CASES);
}

fn follows_in(family: &str, config: &UnetConfig, cases: &[&str]) {
    let folder = &format!("goldens/models/{family}");
    let golden = Golden::open(fixture(folder).join("golden.safetensors"));
    let weights = rig::weights(folder);
    for &case in cases {
        let at = |part: &str| format!("unet.{case}.{part}");
        let names = [
            at("in.sample"),
            at("in.timestep"),
            at("in.encoder_hidden_states"),
        ];
        let mut fed = inputs(&golden, names.each_ref().map(String::as_str));
        for i in 0..13 {
            let name = at(&format!("in.additional_residual_{i}"));
            if golden.has(&name) {
                fed.insert(
                    format!("additional_residual_{i}"),
                    rig::tensor(&golden, &name),
                );
            }
        }
        let tokens = golden.shape(&names[2])[1];
        let recorded = rig::recorded(folder, &format!("unet.{case}"));
        for attention in FLAVOURS {
            for (precision, modes) in MODES {
                let mut o = options(&golden.shape(&names[0]), tokens, attention, precision);
                o.controlnet_residuals = case == "residuals";
                let built = unet(config, &o).unwrap();
                let model = rig::model(&built, &weights);
                for mode in modes {
                    let out = rig::predict(&model, &fed, mode, &[]);
                    let what = format!("{family} unet {case} {attention:?}");
                    let (_, reference) = golden.get(&at("out.noise_pred"));
                    rig::judge(
                        &what,
                        mode,
                        recorded,
                        reference,
                        out["noise_pred"].as_f32().unwrap(),
                    );
                }
            }
        }
    }
}

#[test]
fn sd1_modules_follow_diffusers() {
    modules_follow("sd1", &rig::sd1_unet());
}

#[test]
fn sd2_modules_follow_diffusers() {
    modules_follow("sd2", &rig::sd2_unet());
}

fn modules_follow(family: &str, config: &UnetConfig) {
    let folder = &format!("goldens/models/{family}");
    let golden = Golden::open(fixture(folder).join("golden.safetensors"));
    let weights = rig::weights(folder);
    let names = ["sample", "timestep", "encoder_hidden_states"];
    let names = names.map(|n| format!("unet.sq_t1.in.{n}"));
    let fed = inputs(&golden, names.each_ref().map(String::as_str));
    let modules: Vec<&str> = golden
        .names()
        .filter_map(|n| n.strip_prefix("unet.sq_t1.act."))
        .collect();
    assert_eq!(modules.len(), 12);
    let probes: Vec<String> = modules.iter().map(|m| m.replace('.', "_")).collect();
    for attention in FLAVOURS {
        for (precision, modes) in MODES {
            let o = options(&golden.shape(&names[0]), 77, attention, precision);
            let built = unet(config, &o).unwrap();
            let model = rig::model(&built, &weights);
            for mode in modes {
                let out = rig::predict(&model, &fed, mode, &probes);
                for (module, probe) in modules.iter().zip(&probes) {
                    let (shape, reference) = golden.get(&format!("unet.sq_t1.act.{module}"));
                    // Golden [N, S, C], ours [N, C, 1, S].
                    let reference = match shape.len() {
                        3 => rig::permuted(reference, shape, &[0, 2, 1]),
                        _ => reference.to_vec(),
                    };
                    let what = format!("{family} unet {module} {attention:?}");
                    rig::judge(&what, mode, None, &reference, out[probe].as_f32().unwrap());
                }
            }
        }
    }
}

#[test]
fn shapes_follow_diffusers() {
    let golden = Golden::open(fixture("shapes/golden/unet.safetensors"));
    let weights = rig::weights("shapes/base");
    let config: UnetConfig = rig::shapes_unet();
    for case in ["a", "b", "c"] {
        let names = ["sample", "timestep", "context"].map(|n| format!("{case}.{n}"));
        let fed = inputs(&golden, names.each_ref().map(String::as_str));
        for attention in FLAVOURS {
            for (precision, modes) in MODES {
                let o = options(&golden.shape(&names[0]), 77, attention, precision);
                let built = unet(&config, &o).unwrap();
                let model = rig::model(&built, &weights);
                for mode in modes {
                    let out = rig::predict(&model, &fed, mode, &[]);
                    let what = format!("shapes unet {case} {attention:?}");
                    let (_, reference) = golden.get(&format!("{case}.out"));
                    rig::judge(
                        &what,
                        mode,
                        None,
                        reference,
                        out["noise_pred"].as_f32().unwrap(),
                    );
                }
            }
        }
    }
}
