//! What reports say about losses, against what is in the files.

use super::adapter::{made, missed, products, wanted};
use super::engine::predicted;
use super::*;
use gesso_convert::adapter::{AdapterOptions, write_adapter};
use gesso_convert::family::Precision;
use gesso_convert::loss::Losses;
use gesso_convert::merged::{Baked, Merged};
use gesso_convert::source::WeightSource;

fn db(missed: f64) -> f64 {
    -10.0 * missed.log10()
}

/// The lowest of the modules, which must be what `losses` names.
fn lowest(losses: &Losses) -> f64 {
    let all = losses.modules.values().flatten();
    let lowest = all.copied().fold(f64::INFINITY, f64::min);
    assert_eq!(losses.lowest_snr_db, Some(lowest));
    let named = losses.lowest.as_ref().unwrap();
    assert_eq!(losses.modules[named], Some(lowest));
    lowest
}

#[test]
fn an_asset_loses_what_its_report_says() {
    let checkpoint = shapes();
    let base = Out::new(&checkpoint, &Recipe::default()).info();
    let lora = lora("sketch", &checkpoint);
    let wanted = wanted(&lora, &checkpoint, 1.0);
    let mut before = f64::INFINITY;
    for (bits, rank) in [(16, None), (8, None), (4, Some(5)), (16, Some(2))] {
        let options = AdapterOptions {
            bits,
            rank,
            ..AdapterOptions::default()
        };
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("again.mlmodelcassets");
        let report = write_adapter(&lora, &base, &options, &file, &mut Silent).unwrap();
        let (asset, _) = made(&lora, &base, dir.path(), &options);
        let factors = asset.manifest().components.keys().map(|component| {
            let dir = dir.path().join(component);
            (component.clone(), predicted(&asset, &dir, component, None))
        });
        let found = products(factors.collect(), &base, 1.0);
        let mut count = 0;
        for (component, losses) in &report.losses {
            for (module, snr) in &losses.modules {
                let name = format!("{component}:{module}");
                let measured = db(missed(&wanted[&name], &found[&name]));
                // Beyond this the f32 arithmetic of the reference counts.
                let [measured, said] =
                    [measured, snr.unwrap_or(f64::INFINITY)].map(|x| x.min(120.0));
                assert!(
                    (measured - said).abs() < 0.1,
                    "{name} at {bits} bits: {measured} {said}"
                );
                count += 1;
            }
            assert!(lowest(losses) <= losses.snr_db.unwrap());
        }
        assert_eq!(count, wanted.len());
        let whole = report.losses["unet"].snr_db.unwrap();
        println!("{bits} bits, rank {rank:?}: {whole} dB");
        assert!(whole < before, "{bits} bits: {whole} dB");
        before = whole;
    }
}

#[test]
fn baked_weights_lose_what_the_report_says() {
    let checkpoint = shapes();
    let loras = [Baked {
        lora: lora("watercolor", &checkpoint),
        unet_strength: 0.7,
        text_encoder_strength: 0.0,
    }];
    let report = |bits, precision| {
        let recipe = Recipe {
            bits,
            precision,
            adapter_rank: 0,
            loras: loras.to_vec(),
            ..Recipe::default()
        };
        Out::new(&checkpoint, &recipe).report
    };
    let dense = report(16, Precision::Fp16);
    // The text encoder's strength is 0: nothing of it is merged.
    assert_eq!(dense.losses.keys().collect::<Vec<_>>(), ["unet"]);
    let losses = &dense.losses["unet"];
    let merged = Merged::new(&checkpoint, &loras);
    for (tensor, snr) in &losses.modules {
        let key = format!("unet:{tensor}");
        let exact = merged.fetch(&key).unwrap().to_f32(&key).unwrap();
        let exact: Vec<f64> = exact.iter().map(|&x| f64::from(x)).collect();
        let stored: Vec<f64> = exact.iter().map(|&x| f16::from_f64(x).to_f64()).collect();
        let measured = db(missed(&exact, &stored));
        assert!(
            (measured - snr.unwrap()).abs() < 0.02,
            "{key}: {measured} {snr:?}"
        );
    }
    let touched = loras[0].lora.modules.keys();
    let unet = touched.filter(|(c, _)| c.as_str() == "unet").count();
    assert_eq!(losses.modules.len(), unet);
    let eight = report(8, Precision::Fp16);
    assert!(lowest(&eight.losses["unet"]) < lowest(losses) - 10.0);
    // In fp32 the merge is stored as it is.
    let exact = &report(16, Precision::Fp32).losses["unet"];
    assert_eq!((exact.snr_db, exact.lowest_snr_db), (None, None));
    assert!(exact.modules.values().all(Option::is_none));
}
