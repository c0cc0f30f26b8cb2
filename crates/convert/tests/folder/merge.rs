//! Sums of LoRAs, and smaller ranks, in one asset.

use super::adapter::{differences, made, missed, wanted};
use super::*;
use gesso_convert::adapter::{AdapterOptions, AdapterReport, write_adapter, write_merged};
use gesso_convert::asset::Asset;
use gesso_convert::merged::Baked;
use gesso_engine::{Model, RunOptions};

fn baked(checkpoint: &Checkpoint, strengths: &[(&str, f32, f32)]) -> Vec<Baked> {
    strengths
        .iter()
        .map(|&(name, unet_strength, text_encoder_strength)| Baked {
            lora: lora(name, checkpoint),
            unet_strength,
            text_encoder_strength,
        })
        .collect()
}

fn merge(
    loras: &[Baked],
    base: &FolderInfo,
    options: &AdapterOptions<'_>,
    dir: &Path,
) -> (Asset, AdapterReport) {
    let file = dir.join("sum.mlmodelcassets");
    let report = write_merged(loras, base, options, &file, &mut Silent).unwrap();
    (Asset::open(&file).unwrap(), report)
}

/// Σ strength · ΔW of every module that any of them changes.
fn sum(loras: &[Baked], checkpoint: &Checkpoint) -> BTreeMap<String, Vec<f64>> {
    let mut sums: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for one in loras {
        for (name, delta) in wanted(&one.lora, checkpoint, 1.0) {
            let strength = if name.starts_with("unet:") {
                one.unet_strength
            } else {
                one.text_encoder_strength
            };
            let total = sums.entry(name).or_insert_with(|| vec![0.0; delta.len()]);
            for (t, d) in total.iter_mut().zip(delta) {
                *t += f64::from(strength) * d;
            }
        }
    }
    sums
}

#[test]
fn a_sum_by_stacking_is_the_sum_of_the_merged_weights() {
    let checkpoint = shapes();
    let base = Out::new(&checkpoint, &Recipe::default()).info();
    let strengths = [
        ("sketch", 0.7, 0.4),
        ("pixel", 0.5, 0.5),
        ("watercolor", -0.25, 1.0),
    ];
    let loras = baked(&checkpoint, &strengths);
    let dir = tempfile::tempdir().unwrap();
    let options = AdapterOptions {
        exact: true,
        ..AdapterOptions::default()
    };
    let (asset, report) = merge(&loras, &base, &options, dir.path());
    assert_eq!((report.rank["unet"], report.truncated.len()), (20, 0));
    let found = differences(&asset, &base, dir.path(), 1.0);
    let sums = sum(&loras, &checkpoint);
    assert!(found.keys().eq(sums.keys()));
    for (name, sum) in &sums {
        let relative = missed(sum, &found[name]).sqrt();
        assert!(relative <= 1e-3, "{name}: {relative}");
    }
    let manifest = asset.manifest();
    assert_eq!(manifest.name, "sketch + pixel + watercolor");
    assert!(manifest.metadata["gesso.merged"].contains("\"text_encoder\":0.4"));
    assert_eq!((manifest.metadata.len(), manifest.min_reader), (1, 1));
}

#[test]
fn a_sum_cut_to_a_rank_loses_what_the_report_says() {
    let checkpoint = shapes();
    let base = Out::new(&checkpoint, &Recipe::default()).info();
    let loras = baked(&checkpoint, &[("sketch", 0.7, 0.7), ("pixel", 0.5, 0.5)]);
    let dir = tempfile::tempdir().unwrap();
    let options = AdapterOptions {
        rank: Some(6),
        ..AdapterOptions::default()
    };
    let (asset, report) = merge(&loras, &base, &options, dir.path());
    assert_eq!(report.rank["unet"], 6);
    let found = differences(&asset, &base, dir.path(), 1.0);
    let sums = sum(&loras, &checkpoint);
    assert_eq!(report.truncated.len(), sums.len());
    for cut in &report.truncated {
        let name = format!("{}:{}", cut.component, cut.module);
        let measured = missed(&sums[&name], &found[&name]);
        let apart = (measured - cut.lost_energy).abs();
        assert!(
            apart < 1e-3 * cut.lost_energy + 1e-6,
            "{name}: {measured} {cut:?}"
        );
        assert_eq!((cut.kept, &*cut.algorithm), (6, "lora"));
    }
}

#[test]
fn a_resized_lora_is_smaller_and_its_own_rank_changes_nothing() {
    let checkpoint = shapes();
    let base = Out::new(&checkpoint, &Recipe::default()).info();
    let lora = lora("sketch", &checkpoint);
    let size = |rank| {
        let dir = tempfile::tempdir().unwrap();
        let options = AdapterOptions {
            rank,
            ..AdapterOptions::default()
        };
        let (asset, file) = made(&lora, &base, dir.path(), &options);
        (std::fs::read(file).unwrap(), asset.manifest().rank)
    };
    let (whole, rank) = size(None);
    assert_eq!(rank, 8);
    assert_eq!(size(Some(8)), (whole.clone(), 8));
    let (small, rank) = size(Some(2));
    assert_eq!(rank, 2);
    assert!(
        small.len() < whole.len() / 2,
        "{} {}",
        small.len(),
        whole.len()
    );
}

#[test]
fn a_sum_of_nothing_is_refused() {
    let checkpoint = shapes();
    let base = Out::new(&checkpoint, &Recipe::default()).info();
    let file = std::env::temp_dir().join("never-written.mlmodelcassets");
    let error = write_merged(&[], &base, &AdapterOptions::default(), &file, &mut Silent);
    assert!(error.unwrap_err().to_string().contains("at least one"));
}

#[test]
fn palettized_factors_are_smaller_and_lose_little() {
    let checkpoint = shapes();
    let base = Out::new(&checkpoint, &Recipe::default()).info();
    let lora = lora("sketch", &checkpoint);
    let make = |bits| -> gesso_convert::Result<(Vec<f64>, u64, BTreeMap<String, f64>)> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("sketch.mlmodelcassets");
        let options = AdapterOptions {
            bits,
            ..AdapterOptions::default()
        };
        let report = write_adapter(&lora, &base, &options, &file, &mut Silent)?;
        let asset = Asset::open(&file)?;
        asset.fits(&base.slot_tables()?, &base.source_hash)?;
        let packages = asset.extract(dir.path())?;
        let model = Model::load(&Package::open(&packages["unet"])?).unwrap();
        let outputs = model.predict(None, &BTreeMap::new(), &RunOptions::default());
        let values: Vec<f64> = outputs
            .unwrap()
            .values()
            .flat_map(|t| t.as_f32().unwrap().iter().map(|&v| f64::from(v)))
            .collect();
        let size = std::fs::metadata(file).unwrap().len();
        Ok((values, size, report.snr_db))
    };
    let (whole, size, none) = make(16).unwrap();
    assert!(none.is_empty());
    let (mut before, mut smallest) = (f64::INFINITY, size);
    for bits in [8, 6, 4] {
        let (values, size, snr) = make(bits).unwrap();
        let measured = -10.0 * missed(&whole, &values).log10();
        assert!(
            size < smallest && measured < before,
            "{bits} bits: {size} bytes, {measured} dB"
        );
        assert!(
            measured >= snr["unet"] - 0.1,
            "{bits} bits: {measured} {snr:?}"
        );
        assert!(
            measured > 4.0 * f64::from(bits),
            "{bits} bits: {measured} dB"
        );
        (before, smallest) = (measured, size);
    }
    let message = make(5).unwrap_err().to_string();
    assert!(message.contains("4, 6, 8 or 16"), "{message}");
}
