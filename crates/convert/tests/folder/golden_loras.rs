//! The stored goldens of Stable Diffusion 1 and 2 with LoRAs, through whole folders: baked by `convert`, and as assets in slots.

use super::engine::{load, predicted, slots};
use super::*;
use gesso_convert::adapter::{AdapterOptions, Factors, write_adapter};
use gesso_convert::asset::Asset;
use gesso_convert::family::Precision;
use gesso_convert::merged::Baked;
use gesso_convert::slots::Sites;
use gesso_engine::{Kernels, RunOptions, Tensor};
use gesso_testkit::{Golden, Tolerance, fixture};

/// Every stored run: strengths of `a` and `b`.
const RUNS: [(&str, f32, f32); 7] = [
    ("base", 0.0, 0.0),
    ("a_0", 0.0, 0.0),
    ("a_0.5", 0.5, 0.0),
    ("a_1", 1.0, 0.0),
    ("a_-1", -1.0, 0.0),
    ("b_1", 0.0, 1.0),
    ("a_0.7_b_-0.4", 0.7, -0.4),
];

/// A tiny Stable Diffusion at the size of the goldens, without its VAE.
fn recipe(precision: Precision) -> Recipe {
    let mut recipe = Recipe {
        size: Some((192, 128)),
        precision,
        adapter_sites: Sites::All,
        ..Recipe::default()
    };
    recipe
        .parts
        .retain(|part| matches!(part.package(), "Unet" | "TextEncoder"));
    recipe
}

fn golden_lora(family: &str, name: &str, checkpoint: &Checkpoint) -> ResolvedLora {
    Lora::open(
        fixture("goldens/lora")
            .join(family)
            .join(format!("{name}.safetensors")),
    )
    .unwrap()
    .resolve(&modules(checkpoint), &ResolveOptions::default())
    .unwrap()
}

/// A batch of one as the two equal halves of a batch of two.
fn twice(golden: &Golden, name: &str) -> (Vec<usize>, Vec<f32>) {
    let mut shape = golden.shape(name);
    shape[0] = 2;
    (shape, golden.f32(name).repeat(2))
}

/// Inputs of the package, and the outputs with their golden tensors (`{}` for the run).
fn case(
    golden: &Golden,
    component: &str,
) -> (BTreeMap<String, Tensor>, Vec<(&'static str, &'static str)>) {
    if component == "text_encoder" {
        let name = "text_encoder.in.input_ids";
        let ids = Tensor::f32(&golden.shape(name), golden.f32(name));
        return (
            BTreeMap::from([("input_ids".into(), ids)]),
            vec![
                ("last_hidden_state", "text_encoder.{}.out.last_hidden_state"),
                ("pooled_outputs", "text_encoder.{}.out.pooled"),
            ],
        );
    }
    let (sample, x) = twice(golden, "unet.in.sample");
    let (text, states) = twice(golden, "unet.in.encoder_hidden_states");
    let (tokens, width) = (text[1], text[2]);
    let columns: Vec<f32> = (0..2 * width * tokens)
        .map(|i| {
            let (batch, rest) = (i / (width * tokens), i % (width * tokens));
            states[(batch * tokens + rest % tokens) * width + rest / tokens]
        })
        .collect();
    let time = golden.f32("unet.in.timestep").repeat(2);
    (
        BTreeMap::from([
            ("sample".into(), Tensor::f32(&sample, x)),
            ("timestep".into(), Tensor::f32(&[2], time)),
            (
                "encoder_hidden_states".into(),
                Tensor::f32(&[2, width, 1, tokens], columns),
            ),
        ]),
        vec![("noise_pred", "unet.{}.out.noise_pred")],
    )
}

/// Runs `package` and compares every output, both halves of the UNet's batch, with the golden of `run`.
fn judge(
    package: &Path,
    inputs: &BTreeMap<String, Tensor>,
    outputs: &[(&str, &str)],
    golden: &Golden,
    run: &str,
    tolerance: Tolerance,
) {
    let options = RunOptions {
        kernels: Kernels::Fast,
        ..RunOptions::default()
    };
    let out = load(package).predict(None, inputs, &options).unwrap();
    for (output, tensor) in outputs {
        let (_, reference) = golden.get(&tensor.replace("{}", run));
        let found = out[*output].as_f32().unwrap();
        assert_eq!(found.len() % reference.len(), 0);
        for half in found.chunks(reference.len()) {
            let what = format!("{} {run} {output}", package.display());
            tolerance.assert(&what, reference, half);
        }
    }
}

#[test]
fn loras_baked_by_convert_follow_the_goldens_in_fp32() {
    baked_follow("sd1");
}

#[test]
fn loras_baked_into_sd2_follow_the_goldens_in_fp32() {
    baked_follow("sd2");
}

fn baked_follow(family: &str) {
    let checkpoint = open(&fixture("goldens/models").join(family));
    let golden = Golden::open(
        fixture("goldens/lora")
            .join(family)
            .join("golden.safetensors"),
    );
    let loras = ["a", "b"].map(|name| golden_lora(family, name, &checkpoint));
    for (run, a, b) in RUNS {
        let baked = loras.iter().zip([a, b]).map(|(lora, strength)| Baked {
            lora: lora.clone(),
            unet_strength: strength,
            text_encoder_strength: strength,
        });
        let out = Out::new(
            &checkpoint,
            &Recipe {
                adapter_rank: 0,
                loras: baked.collect(),
                ..recipe(Precision::Fp32)
            },
        );
        for (component, package) in [("unet", "Unet"), ("text_encoder", "TextEncoder")] {
            let (inputs, outputs) = case(&golden, component);
            let tolerance = Tolerance::Fp32 { recorded: None };
            let package = out.package(package);
            judge(&package, &inputs, &outputs, &golden, run, tolerance);
        }
    }
}

#[test]
fn assets_in_slots_everywhere_follow_the_goldens() {
    assets_follow("sd1");
}

#[test]
fn assets_in_slots_of_sd2_follow_the_goldens() {
    assets_follow("sd2");
}

fn assets_follow(family: &str) {
    let checkpoint = open(&fixture("goldens/models").join(family));
    let golden = Golden::open(
        fixture("goldens/lora")
            .join(family)
            .join("golden.safetensors"),
    );
    let out = Out::new(&checkpoint, &recipe(Precision::Fp16));
    let base = out.info();
    let tables = base.slot_tables().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let assets = ["a", "b"].map(|name| {
        let file = dir.path().join(format!("{name}.mlmodelcassets"));
        let options = AdapterOptions {
            exact: true,
            ..AdapterOptions::default()
        };
        let lora = golden_lora(family, name, &checkpoint);
        write_adapter(&lora, &base, &options, &file, &mut Silent).unwrap();
        let asset = Asset::open(&file).unwrap();
        asset.fits(&tables, &base.source_hash).unwrap();
        asset
    });
    assert_eq!(assets.each_ref().map(|a| a.manifest().min_reader), [1, 3]);
    for (component, package) in [("unet", "Unet"), ("text_encoder", "TextEncoder")] {
        let (inputs, outputs) = case(&golden, component);
        let factors: Vec<Factors> = assets
            .iter()
            .enumerate()
            .map(|(i, asset)| {
                let dir = dir.path().join(format!("{component}{i}"));
                predicted(asset, &dir, component, None)
            })
            .collect();
        for (run, a, b) in RUNS {
            let strengths = factors.iter().zip([a, b]);
            let used: Vec<_> = strengths.filter(|(_, s)| *s != 0.0).collect();
            let mut fed = slots(&used, &tables[component]);
            fed.extend(inputs.clone());
            let twin = out.package(&format!("{package}Adaptable"));
            judge(&twin, &fed, &outputs, &golden, run, Tolerance::Adapter);
        }
    }
}
