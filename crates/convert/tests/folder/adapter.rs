//! Adapter assets of the shapes LoRAs.

use super::*;
use gesso_convert::adapter::{AdapterOptions, Factors, stack, write_adapter};
use gesso_convert::asset::Asset;
use gesso_convert::slots::Role;
use gesso_weights::Component;
use std::collections::BTreeSet;

pub(crate) fn made(
    lora: &ResolvedLora,
    base: &FolderInfo,
    dir: &Path,
    options: &AdapterOptions<'_>,
) -> (Asset, PathBuf) {
    let file = dir.join(format!("{}.mlmodelcassets", lora.name()));
    write_adapter(lora, base, options, &file, &mut Silent).unwrap();
    (Asset::open(&file).unwrap(), file)
}

/// The stored factors of one component, read from the package's weight file.
fn stored(asset: &Asset, dir: &Path, component: &str) -> Factors {
    let packages = asset.extract(dir).unwrap();
    let package = Package::open(&packages[component]).unwrap();
    let program = gesso_mil::from_model(&package.model).unwrap();
    assert!(gesso_mil::verify(&program).is_empty());
    let operations = program.functions["main"].body().unwrap().operations.clone();
    let tensors = operations
        .iter()
        .filter(|op| op.kind == "const" && op.outputs[0].name.starts_with("factors_"))
        .map(|op| {
            let name = op.outputs[0].name.replace("factors_", "adapter_");
            (name, elements(&package, &op.attributes["val"]))
        })
        .collect();
    asset.factors(component, tensors).unwrap()
}

/// For each module of an asset its `up · down`, `[O, I]`, as it lies in the slots at this strength.
pub(crate) fn differences(
    asset: &Asset,
    base: &FolderInfo,
    dir: &Path,
    strength: f32,
) -> BTreeMap<String, Vec<f64>> {
    let tables = base.slot_tables().unwrap();
    asset.fits(&tables, &base.source_hash).unwrap();
    let factors = asset.manifest().components.keys().map(|component| {
        let factors = stored(asset, &dir.join(component), component);
        (component.clone(), factors)
    });
    products(factors.collect(), base, strength)
}

/// For each module of these factors, by component, their `up · down`.
pub(crate) fn products(
    factors: Vec<(String, Factors)>,
    base: &FolderInfo,
    strength: f32,
) -> BTreeMap<String, Vec<f64>> {
    let tables = base.slot_tables().unwrap();
    let mut found = BTreeMap::new();
    for (component, factors) in &factors {
        let table = &tables[component];
        let inputs = stack(&[(factors, strength)], table).unwrap();
        let touched: BTreeSet<&str> = factors.rows.iter().map(|r| &*r.module).collect();
        for path in touched {
            let row = |role| {
                let slot = table.row(component, path, role).unwrap();
                let size = table.rank() * slot.width;
                let tensor = &inputs[&format!("adapter_{}", slot.width)];
                (&tensor.data[slot.row * size..][..size], slot.width)
            };
            let ((down, i), (up, o)) = (row(Role::Down), row(Role::Up));
            let mut product = vec![0f64; o * i];
            for r in 0..table.rank() {
                for y in 0..o {
                    let u = f64::from(up[r * o + y]);
                    for x in 0..i {
                        product[y * i + x] += u * f64::from(down[r * i + x]);
                    }
                }
            }
            found.insert(format!("{component}:{path}"), product);
        }
    }
    found
}

/// `strength · ΔW` of every module, from the base's weights.
pub(crate) fn wanted(
    lora: &ResolvedLora,
    checkpoint: &Checkpoint,
    strength: f64,
) -> BTreeMap<String, Vec<f64>> {
    lora.modules
        .iter()
        .map(|((component, path), adapter)| {
            let tensors = checkpoint.component(*component).unwrap();
            let weight = tensors.get(&format!("{path}.weight")).unwrap();
            let delta = adapter.delta(&weight.to_f32(), weight.shape).unwrap();
            let delta = delta.iter().map(|&d| strength * f64::from(d)).collect();
            (format!("{}:{path}", component.as_str()), delta)
        })
        .collect()
}

/// Share of the energy of `wanted` that `found` misses.
pub(crate) fn missed(wanted: &[f64], found: &[f64]) -> f64 {
    assert_eq!(wanted.len(), found.len());
    let signal: f64 = wanted.iter().map(|w| w * w).sum();
    let noise: f64 = wanted.iter().zip(found).map(|(w, f)| (w - f).powi(2)).sum();
    noise / signal
}

#[test]
fn the_slots_of_every_module_multiply_to_its_difference() {
    let checkpoint = shapes();
    let base = Out::new(&checkpoint, &Recipe::default()).info();
    for name in ["sketch", "pixel", "watercolor"] {
        let lora = lora(name, &checkpoint);
        let dir = tempfile::tempdir().unwrap();
        let (asset, _) = made(&lora, &base, dir.path(), &AdapterOptions::default());
        let found = differences(&asset, &base, dir.path(), -0.5);
        let wanted = wanted(&lora, &checkpoint, -0.5);
        assert!(found.keys().eq(wanted.keys()), "{name}");
        let all =
            |m: &BTreeMap<String, Vec<f64>>| m.values().flatten().copied().collect::<Vec<_>>();
        let snr = -10.0 * missed(&all(&wanted), &all(&found)).log10();
        assert!(snr > 65.0, "{name}: {snr} dB");
    }
}

#[test]
fn an_asset_is_deterministic_and_says_what_it_is() {
    let checkpoint = shapes();
    let base = Out::new(&checkpoint, &Recipe::default()).info();
    let lora = lora("watercolor", &checkpoint);
    let run = |threads| {
        let dir = tempfile::tempdir().unwrap();
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let options = AdapterOptions {
            name: Some("wet".into()),
            default_strength: 0.8,
            exact: true,
            ..AdapterOptions::default()
        };
        let (asset, file) = pool.install(|| made(&lora, &base, dir.path(), &options));
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(
            left.len(),
            1,
            "something is left beside the asset: {left:?}"
        );
        (std::fs::read(file).unwrap(), asset.manifest().clone())
    };
    let (bytes, manifest) = run(1);
    assert_eq!(bytes, run(1).0);
    assert_eq!(bytes, run(2).0);
    assert_eq!(manifest.name, "wet");
    assert_eq!(manifest.rank, 4);
    assert!((manifest.default_strength - 0.8).abs() < 1e-6);
    assert_eq!(manifest.components.len(), 2);
    assert_eq!(manifest.rows.len(), 2 * lora.modules.len());
    assert_eq!(manifest.members.len(), 6);
}

#[test]
fn a_rank_above_the_slots_is_cut_or_refused() {
    let checkpoint = shapes();
    let mut base = Out::new(&checkpoint, &Recipe::default()).info();
    // A base of rank 4, which convert would not make, so that the rank 8 of `sketch` has to be cut.
    for slots in base.slots.values_mut() {
        slots.rank = 4;
    }
    let lora = lora("sketch", &checkpoint);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.mlmodelcassets");
    let cut = write_adapter(&lora, &base, &AdapterOptions::default(), &file, &mut Silent).unwrap();
    assert_eq!(cut.truncated.len(), lora.modules.len());
    assert_eq!(cut.rank["unet"], 4);
    assert!(cut.truncated.iter().all(|t| t.kept == 4 && t.rank == 8));
    assert!(
        cut.truncated
            .iter()
            .all(|t| (0.0..0.9).contains(&t.lost_energy))
    );
    let options = AdapterOptions {
        exact: true,
        ..AdapterOptions::default()
    };
    let message = write_adapter(&lora, &base, &options, &file, &mut Silent)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("have a rank of up to 8, but the base has slots of rank 4"),
        "{message}"
    );
    let first = lora.modules.keys().next().unwrap();
    let named = format!("`{}:{}` (rank 8)", first.0, first.1);
    for part in [&*named, "--adapter-rank 32", "--lora", "--as delta"] {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

#[test]
fn modules_without_a_slot_are_named_with_the_ways_out() {
    let folder = gesso_testkit::fixture("goldens/models/sd1");
    let checkpoint = open(&folder);
    let recipe = Recipe {
        size: Some((128, 128)),
        ..Recipe::default()
    };
    let base = Out::new(&checkpoint, &recipe).info();
    let path = gesso_testkit::fixture("goldens/lora/sd1/b.safetensors");
    let lora = Lora::open(&path)
        .unwrap()
        .resolve(&modules(&checkpoint), &ResolveOptions::default())
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("b.mlmodelcassets");
    let message = write_adapter(&lora, &base, &AdapterOptions::default(), &file, &mut Silent)
        .unwrap_err()
        .to_string();
    for part in [
        "that have no adapter slot",
        "`unet:conv_in` (no slot)",
        "`unet:down_blocks.0.resnets.0.time_emb_proj` (no slot)",
        "--adapter-sites all",
        "--lora FILE:STRENGTH",
        "--as delta",
        "--ignore PATTERN",
    ] {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
    assert!(!message.contains("attn2.to_v"), "{message}");
    assert!(!file.exists());
}

#[test]
fn a_base_without_slots_is_refused() {
    let checkpoint = shapes();
    let recipe = Recipe {
        adapter_rank: 0,
        ..Recipe::default()
    };
    let base = Out::new(&checkpoint, &recipe).info();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.mlmodelcassets");
    let error = write_adapter(
        &lora("sketch", &checkpoint),
        &base,
        &AdapterOptions::default(),
        &file,
        &mut Silent,
    );
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("has no adapter slots")
    );
}

#[test]
fn three_styles_fit_together_and_one_more_says_what_is_needed() {
    let checkpoint = shapes();
    let base = Out::new(&checkpoint, &Recipe::default()).info();
    let tables = base.slot_tables().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let factors: Vec<Factors> = ["sketch", "pixel", "watercolor"]
        .iter()
        .map(|name| {
            let lora = lora(name, &checkpoint);
            assert!(lora.touches(Component::Unet));
            let (asset, _) = made(&lora, &base, dir.path(), &AdapterOptions::default());
            stored(&asset, &dir.path().join(name), "unet")
        })
        .collect();
    let [a, b, c] = &factors[..] else {
        panic!("three")
    };
    stack(&[(a, 1.0), (b, 0.5), (c, 0.25)], &tables["unet"]).unwrap();
    let all = [(a, 1.0), (b, 1.0), (c, 1.0), (a, 1.0), (b, 1.0)];
    let message = stack(&all, &tables["unet"]).unwrap_err().to_string();
    assert!(message.contains("need slots of rank 36"), "{message}");
    assert!(message.contains("--adapter-rank 64"), "{message}");
}
