//! One asset, many bases: what takes no part in the layout hash does not matter to it.

use super::adapter::{differences, made, missed};
use super::*;
use gesso_convert::adapter::AdapterOptions;
use gesso_convert::asset::Asset;
use gesso_convert::family::{Attention, Precision};
use gesso_convert::recipe::Part;

#[test]
fn an_asset_fits_every_base_of_its_layout() {
    let checkpoint = shapes();
    let first = Out::new(&checkpoint, &Recipe::default()).info();
    let lora = lora("sketch", &checkpoint);
    let dir = tempfile::tempdir().unwrap();
    let (asset, _) = made(&lora, &first, dir.path(), &AdapterOptions::default());
    let wanted = differences(&asset, &first, &dir.path().join("first"), 0.5);
    let recipe = || Recipe {
        parts: [Part::Unet, Part::TextEncoder].into(),
        ..Recipe::default()
    };
    for (name, recipe) in [
        (
            "rank",
            Recipe {
                adapter_rank: 64,
                ..recipe()
            },
        ),
        (
            "bits",
            Recipe {
                bits: 4,
                ..recipe()
            },
        ),
        (
            "size",
            Recipe {
                size: Some((64, 192)),
                ..recipe()
            },
        ),
        (
            "attention",
            Recipe {
                attention: Attention::Original,
                ..recipe()
            },
        ),
        (
            "precision",
            Recipe {
                precision: Precision::Fp32,
                ..recipe()
            },
        ),
    ] {
        let base = Out::new(&checkpoint, &recipe).info();
        for (component, table) in base.slot_tables().unwrap() {
            let hash = first.slot_tables().unwrap()[&component].layout_hash();
            assert_eq!(table.layout_hash(), hash, "{name} {component}");
        }
        let found = differences(&asset, &base, &dir.path().join(name), 0.5);
        assert!(found.keys().eq(wanted.keys()), "{name}");
        for (module, wanted) in &wanted {
            assert_eq!(missed(wanted, &found[module]), 0.0, "{name} {module}");
        }
    }
}

#[test]
fn assets_of_earlier_versions_are_read() {
    let checkpoint = shapes();
    let base = Out::new(&checkpoint, &Recipe::default()).info();
    let old = |name: &str| gesso_testkit::fixture(&format!("formats/old-assets/{name}"));
    for (name, reader, modules) in [("plain", 1, 4), ("dora", 2, 2)] {
        let asset = Asset::open(&old(&format!("{name}.mlmodelcassets"))).unwrap();
        assert_eq!(
            (asset.manifest().schema, asset.manifest().min_reader),
            (1, reader)
        );
        let lora = Lora::open(old(&format!("{name}.safetensors")))
            .unwrap()
            .resolve(&super::modules(&checkpoint), &ResolveOptions::default())
            .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let options = AdapterOptions {
            default_strength: asset.manifest().default_strength,
            weights: Some(gesso_convert::adapter::BaseWeights::new(&checkpoint, &base).unwrap()),
            ..AdapterOptions::default()
        };
        let (new, _) = made(&lora, &base, dir.path(), &options);
        let was = differences(&asset, &base, &dir.path().join("old"), 1.0);
        let is = differences(&new, &base, &dir.path().join("new"), 1.0);
        assert_eq!(was.len(), modules, "{name}");
        assert_eq!(was, is, "{name}");
    }
}
