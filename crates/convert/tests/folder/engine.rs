//! Packages and assets in the reference engine: what adapters do to the outputs.

use super::*;
use gesso_convert::adapter::{AdapterOptions, Factors, stack, write_adapter};
use gesso_convert::asset::Asset;
use gesso_convert::family::Precision;
use gesso_convert::merged::Baked;
use gesso_convert::slots::{Role, SlotTable};
use gesso_engine::{Compute, Model, RunOptions, Tensor};

pub(crate) type Values = BTreeMap<String, Tensor>;

pub(crate) fn load(path: &Path) -> Model {
    Model::load(&Package::open(path).unwrap()).unwrap()
}

pub(crate) fn run(path: &Path, inputs: &Values, compute: Compute) -> Values {
    let options = RunOptions {
        compute,
        check_finite: true,
        ..RunOptions::default()
    };
    load(path).predict(None, inputs, &options).unwrap()
}

/// Numbers between -1 and 1 that look random.
fn noise(n: usize, seed: usize) -> Vec<f32> {
    let mut state = seed as u64 + 1;
    (0..n)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / 8_388_608.0 - 1.0
        })
        .collect()
}

pub(crate) fn unet_inputs() -> Values {
    BTreeMap::from([
        (
            "sample".into(),
            Tensor::f32(&[2, 4, 16, 16], noise(2048, 1)),
        ),
        ("timestep".into(), Tensor::f32(&[2], vec![487.0, 487.0])),
        (
            "encoder_hidden_states".into(),
            Tensor::f32(&[2, 64, 1, 77], noise(2 * 64 * 77, 2)),
        ),
    ])
}

pub(crate) fn text_inputs() -> Values {
    let mut ids = vec![653.0; 77];
    ids[..4].copy_from_slice(&[652.0, 301.0, 12.0, 40.0]);
    BTreeMap::from([("input_ids".into(), Tensor::f32(&[1, 77], ids))])
}

/// The factors that the asset's package of `component` hands out at `scale`.
pub(crate) fn predicted(asset: &Asset, dir: &Path, component: &str, scale: Option<f32>) -> Factors {
    let packages = asset.extract(dir).unwrap();
    let inputs = scale
        .map(|s| ("scale".to_string(), Tensor::f32(&[1], vec![s])))
        .into_iter()
        .collect();
    let outputs = run(&packages[component], &inputs, Compute::Fp16)
        .into_iter()
        .map(|(name, tensor)| (name, tensor.as_f32().unwrap().to_vec()))
        .collect();
    asset.factors(component, outputs).unwrap()
}

pub(crate) fn asset(name: &str, checkpoint: &Checkpoint, base: &FolderInfo, dir: &Path) -> Asset {
    let file = dir.join(format!("{name}.mlmodelcassets"));
    let options = AdapterOptions::default();
    write_adapter(&lora(name, checkpoint), base, &options, &file, &mut Silent).unwrap();
    Asset::open(&file).unwrap()
}

pub(crate) fn slots(adapters: &[(&Factors, f32)], table: &SlotTable) -> Values {
    stack(adapters, table)
        .unwrap()
        .into_iter()
        .map(|(name, t)| (name, Tensor::f32(&t.shape, t.data)))
        .collect()
}

#[test]
fn the_scale_of_an_adapter_package_reaches_the_up_rows_only() {
    let checkpoint = shapes();
    let base = Out::new(&checkpoint, &Recipe::default()).info();
    let dir = tempfile::tempdir().unwrap();
    let asset = asset("watercolor", &checkpoint, &base, dir.path());
    let whole = predicted(&asset, &dir.path().join("a"), "text_encoder", None);
    let half = predicted(&asset, &dir.path().join("b"), "text_encoder", Some(0.5));
    assert_eq!(
        whole,
        predicted(&asset, &dir.path().join("c"), "text_encoder", Some(1.0))
    );
    for row in &whole.rows {
        let size = whole.rank * row.width;
        let name = SlotTable::input_name(row.width);
        let factor = if row.role == Role::Up { 0.5 } else { 1.0 };
        let range = row.row * size..(row.row + 1) * size;
        for (w, h) in whole.tensors[&name][range.clone()]
            .iter()
            .zip(&half.tensors[&name][range])
        {
            assert_eq!(half::f16::from_f32(w * factor).to_f32(), *h, "{row:?}");
        }
    }
}

#[test]
fn without_an_adapter_the_twin_is_bit_identical() {
    for bits in [16, 4] {
        let recipe = Recipe {
            bits,
            ..Recipe::default()
        };
        let out = Out::new(&shapes(), &recipe);
        for (name, inputs) in [("Unet", unet_inputs()), ("TextEncoder", text_inputs())] {
            for compute in [Compute::Fp32, Compute::Fp16] {
                let plain = run(&out.package(name), &inputs, compute);
                let twin = run(&out.package(&format!("{name}Adaptable")), &inputs, compute);
                assert_eq!(plain, twin, "{name} at {bits} bits");
            }
        }
    }
}

#[test]
fn adapters_in_slots_do_what_merging_them_does() {
    let checkpoint = shapes();
    let out = Out::new(&checkpoint, &Recipe::default());
    let base = out.info();
    let tables = base.slot_tables().unwrap();
    let mix = [("sketch", 0.8f32), ("watercolor", 0.4)];
    let merged = Out::new(
        &checkpoint,
        &Recipe {
            precision: Precision::Fp32,
            adapter_rank: 0,
            loras: mix
                .iter()
                .map(|&(name, strength)| Baked {
                    lora: lora(name, &checkpoint),
                    unet_strength: strength,
                    text_encoder_strength: strength,
                })
                .collect(),
            ..Recipe::default()
        },
    );
    let dir = tempfile::tempdir().unwrap();
    let assets: Vec<_> = mix
        .iter()
        .map(|&(name, strength)| (asset(name, &checkpoint, &base, dir.path()), strength))
        .collect();
    for (component, package, inputs, output) in [
        ("unet", "Unet", unet_inputs(), "noise_pred"),
        (
            "text_encoder",
            "TextEncoder",
            text_inputs(),
            "last_hidden_state",
        ),
    ] {
        let factors: Vec<_> = assets
            .iter()
            .enumerate()
            .filter(|(_, (asset, _))| asset.manifest().components.contains_key(component))
            .map(|(i, (asset, strength))| {
                let dir = dir.path().join(format!("{component}{i}"));
                (predicted(asset, &dir, component, None), *strength)
            })
            .collect();
        let adapters: Vec<_> = factors.iter().map(|(f, s)| (f, *s)).collect();
        let mut slotted = inputs.clone();
        slotted.extend(slots(&adapters, &tables[component]));
        let twin = out.package(&format!("{package}Adaptable"));
        let found = run(&twin, &slotted, Compute::Fp32);
        let wanted = run(&merged.package(package), &inputs, Compute::Fp32);
        let plain = run(&out.package(package), &inputs, Compute::Fp32);
        let reference: Vec<f64> = wanted[output]
            .as_f32()
            .unwrap()
            .iter()
            .map(|&v| f64::from(v))
            .collect();
        let snr =
            |values: &Values| gesso_testkit::snr_db(&reference, values[output].as_f32().unwrap());
        println!(
            "{package}: slots {:.1} dB, without adapters {:.1} dB",
            snr(&found),
            snr(&plain)
        );
        assert!(snr(&found) >= 60.0, "{package}: {:.1} dB", snr(&found));
        assert!(snr(&plain) < 40.0, "{package}: the adapters change nothing");
    }
}
