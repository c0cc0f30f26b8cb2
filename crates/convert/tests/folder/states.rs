//! Slots as states.

use super::engine::{asset, load, predicted, run, slots, text_inputs, unet_inputs};
use super::*;
use gesso_convert::recipe::{AdapterIo, Override, Target};
use gesso_engine::{Compute, RunOptions};

fn recipe() -> Recipe {
    Recipe {
        adapter_io: AdapterIo::State,
        target: Target::Ios18,
        ..Recipe::default()
    }
}

#[test]
fn states_give_what_inputs_give() {
    states_against_inputs(16);
}

#[test]
fn palettes_beside_states_give_what_inputs_give() {
    states_against_inputs(4);
}

fn states_against_inputs(bits: u8) {
    let checkpoint = shapes();
    let inputs_form = Out::new(
        &checkpoint,
        &Recipe {
            bits,
            ..Recipe::default()
        },
    );
    let states_form = Out::new(&checkpoint, &Recipe { bits, ..recipe() });
    let base = inputs_form.info();
    // An asset fits both, and plain packages without palettes are the same files.
    assert_eq!(base.slots, states_form.info().slots);
    let (one, two) = (hashes(inputs_form.path()), hashes(states_form.path()));
    let same = |k: &str| bits == 16 || k.starts_with("VAE");
    let differing: Vec<_> = one.keys().filter(|k| one[*k] != two[*k]).collect();
    assert!(
        differing
            .iter()
            .all(|k| k.contains("Adaptable.mlpackage") || *k == "gesso.json" || !same(k)),
        "{differing:?}"
    );
    let tables = base.slot_tables().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let asset = asset("watercolor", &checkpoint, &base, dir.path());
    for (component, package, inputs) in [
        ("unet", "Unet", unet_inputs()),
        ("text_encoder", "TextEncoder", text_inputs()),
    ] {
        let name = format!("{package}Adaptable");
        let opened = Package::open(&states_form.package(&name)).unwrap();
        assert_eq!(opened.model.specification_version, 9);
        let program = gesso_mil::from_model(&opened.model).unwrap();
        assert_eq!(gesso_mil::verify(&program), []);
        let factors = predicted(&asset, &dir.path().join(component), component, None);
        let mut held = slots(&[(&factors, 1.0)], &tables[component]);
        for tensor in held.values_mut() {
            let rounded = tensor.as_f32().unwrap().iter();
            let rounded = rounded.map(|&x| f16::from_f32(x).to_f32()).collect();
            *tensor = gesso_engine::Tensor::f32(&tensor.shape, rounded);
        }
        for compute in [Compute::Fp32, Compute::Fp16] {
            let model = load(&states_form.package(&name));
            let mut state = model.make_state(None).unwrap();
            let names: Vec<&str> = state.types().map(|(name, _)| name).collect();
            assert_eq!(names, held.keys().collect::<Vec<_>>());
            let options = RunOptions {
                compute,
                check_finite: true,
                ..RunOptions::default()
            };
            let plain = run(&inputs_form.package(package), &inputs, compute);
            assert!(run(&states_form.package(package), &inputs, compute) == plain);
            let predict = |state: &mut _| {
                model
                    .predict_with_state(None, &inputs, state, &options)
                    .unwrap()
            };
            assert!(predict(&mut state) == plain, "{name}: empty states");
            for (input, tensor) in &held {
                state.write(input, tensor).unwrap();
            }
            let mut fed = inputs.clone();
            fed.extend(held.clone());
            let wanted = run(&inputs_form.package(&name), &fed, compute);
            assert!(wanted != plain);
            // Written once, read by every prediction.
            assert!(predict(&mut state) == wanted, "{name}");
            assert!(predict(&mut state) == wanted, "{name}, again");
        }
    }
}

#[test]
fn what_states_do_not_go_with_is_refused_with_the_reason() {
    let checkpoint = shapes();
    let refused = |change: &dyn Fn(&mut Recipe), parts: [&str; 2]| {
        let mut recipe = recipe();
        change(&mut recipe);
        let dir = tempfile::tempdir().unwrap();
        let error = convert(&checkpoint, &recipe, dir.path(), &mut Silent);
        let message = error.unwrap_err().to_string();
        for part in parts {
            assert!(message.contains(part), "`{part}` is not in: {message}");
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    };
    refused(
        &|r| r.target = Target::Ios16,
        ["ios18", "iOS 18 and macOS 15"],
    );
    refused(
        &|r| r.precision = gesso_convert::family::Precision::Fp32,
        ["`--precision`", "fp16"],
    );
    refused(&|r| r.adapter_rank = 0, ["`--adapter-rank`", "state"]);
}

#[test]
fn only_what_shares_a_palette_with_states_needs_the_newer_system() {
    let checkpoint = shapes();
    let versions = |pattern: &str| {
        let mut recipe = recipe();
        recipe.palettize = vec![Override {
            pattern: pattern.into(),
            bits: 8,
        }];
        let out = Out::new(&checkpoint, &recipe);
        ["TextEncoder", "Unet", "VAEDecoder"].map(|name| {
            let package = Package::open(&out.package(name)).unwrap();
            package.model.specification_version
        })
    };
    assert_eq!(versions("unet:conv_in.weight"), [7, 9, 7]);
    assert_eq!(versions("vae:*.conv1.weight"), [7, 7, 7]);
}
