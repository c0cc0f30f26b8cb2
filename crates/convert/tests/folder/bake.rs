//! LoRAs merged into the weights.

use super::*;
use gesso_convert::merged::{Baked, Merged};
use gesso_convert::source::WeightSource;
use gesso_weights::Component;

fn baked(lora: &ResolvedLora, unet_strength: f32, text_encoder_strength: f32) -> Baked {
    Baked {
        lora: lora.clone(),
        unet_strength,
        text_encoder_strength,
    }
}

#[test]
fn weights_are_the_pristine_ones_plus_every_scaled_difference() {
    let checkpoint = shapes();
    let (sketch, water) = (lora("sketch", &checkpoint), lora("watercolor", &checkpoint));
    let loras = [baked(&sketch, 0.5, 1.0), baked(&water, -0.25, 2.0)];
    let merged = Merged::new(&checkpoint, &loras);
    let mut checked = 0;
    for component in [Component::Unet, Component::TextEncoder] {
        let factors = match component {
            Component::Unet => [0.5, -0.25],
            _ => [1.0, 2.0],
        };
        let touched = water.modules.keys().filter(|(c, _)| *c == component);
        for (_, path) in touched.take(20) {
            let tensor = checkpoint
                .component(component)
                .unwrap()
                .get(&format!("{path}.weight"))
                .unwrap();
            let base = tensor.to_f32().into_owned();
            let mut wanted: Vec<f64> = base.iter().map(|&v| f64::from(v)).collect();
            for (lora, strength) in [&sketch, &water].into_iter().zip(factors) {
                if let Some(adapter) = lora.adapter(component, path) {
                    let delta = adapter.delta(&base, tensor.shape).unwrap();
                    wanted
                        .iter_mut()
                        .zip(delta)
                        .for_each(|(w, d)| *w += strength * f64::from(d));
                }
            }
            let key = format!("{component}:{path}.weight");
            let found = merged.fetch(&key).unwrap().to_f32(&key).unwrap();
            for (w, f) in wanted.iter().zip(found.iter()) {
                assert!(
                    (w - f64::from(*f)).abs() <= 1e-6 * (1.0 + w.abs()),
                    "{key}: {w} {f}"
                );
            }
            assert_ne!(base, *found, "{key} did not change");
            checked += 1;
        }
    }
    assert!(checked > 30, "{checked}");
}

#[test]
fn strength_reaches_the_packages_and_zero_changes_nothing() {
    let checkpoint = shapes();
    let water = lora("watercolor", &checkpoint);
    let run = |unet, text| {
        let recipe = Recipe {
            loras: vec![baked(&water, unet, text)],
            adapter_rank: 0,
            ..Recipe::default()
        };
        let out = Out::new(&checkpoint, &recipe);
        let all = hashes(out.path());
        let file = |n: &str| all[&format!("{n}.mlpackage/{WEIGHTS}")].clone();
        (file("Unet"), file("TextEncoder"), file("VAEDecoder"), out)
    };
    let plain = run(0.0, 0.0);
    let unet = run(1.0, 0.0);
    let text = run(0.0, 1.0);
    assert_ne!(plain.0, unet.0);
    assert_eq!(plain.1, unet.1);
    assert_eq!(plain.0, text.0);
    assert_ne!(plain.1, text.1);
    assert_eq!(plain.2, unet.2);
    let report = &plain.3.report.loras[0];
    assert_eq!(
        (report.merged, report.not_merged.len()),
        (0, water.modules.len())
    );
    let report = &unet.3.report.loras[0];
    assert!(report.merged > 0 && !report.not_merged.is_empty());
    assert_eq!(unet.3.info().recipe.loras[0].name, water.name());
    assert_eq!(unet.3.info().source_hash, plain.3.info().source_hash);
}

#[test]
fn a_lora_is_merged_before_palettization() {
    let checkpoint = shapes();
    let recipe = Recipe {
        bits: 8,
        loras: vec![baked(&lora("sketch", &checkpoint), 1.0, 1.0)],
        adapter_rank: 0,
        ..Recipe::default()
    };
    let out = Out::new(&checkpoint, &recipe);
    let palettized = &out.info().packages["Unet"].palettized;
    assert!(
        palettized.values().all(|(_, snr)| snr.unwrap() > 35.0),
        "{palettized:?}"
    );
}

#[test]
fn files_written_by_lycoris_merge_to_what_it_expects() {
    let equiv = |name: &str| gesso_testkit::fixture(&format!("lora/equiv/{name}"));
    let checkpoint = open(&equiv("base_diffusers"));
    for writer in ["lokr", "loha", "locon_tucker", "dora"] {
        let path = equiv(&format!("writer_lycoris_{writer}.safetensors"));
        let lora = Lora::open(&path)
            .unwrap()
            .resolve(&modules(&checkpoint), &ResolveOptions::default())
            .unwrap();
        assert_eq!(lora.applied, lora.tensors, "{writer}");
        let loras = [baked(&lora, 1.0, 1.0)];
        let merged = Merged::new(&checkpoint, &loras);
        let name = format!("writer_lycoris_{writer}.expected.safetensors");
        let expected = gesso_testkit::Golden::open(equiv(&name));
        let mut compared = 0;
        for name in expected.names() {
            let (component, tensor) = name.split_once('.').unwrap();
            let key = format!("{component}:{tensor}");
            let found = merged.fetch(&key).unwrap().to_f32(&key).unwrap();
            let wanted = expected.get(name).1;
            let peak = wanted.iter().fold(0f64, |m, w| m.max(w.abs()));
            let apart = wanted
                .iter()
                .zip(found.iter())
                .fold(0f64, |m, (w, &f)| m.max((w - f64::from(f)).abs()));
            // Stored in f16.
            assert!(apart <= 5e-4 * peak, "{writer} {name}: {apart} of {peak}");
            compared += 1;
        }
        assert!(compared >= 60, "{writer}: {compared}");
    }
}
