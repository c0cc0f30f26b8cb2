//! What lies in a converted folder.

use super::*;
use std::os::unix::fs::MetadataExt;

#[test]
fn the_folder_has_packages_twins_tokenizer_and_a_description() {
    let out = Out::new(&shapes(), &Recipe::default());
    let mut names: Vec<String> = std::fs::read_dir(out.path())
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "TextEncoder.mlpackage",
            "TextEncoderAdaptable.mlpackage",
            "Unet.mlpackage",
            "UnetAdaptable.mlpackage",
            "VAEDecoder.mlpackage",
            "VAEEncoder.mlpackage",
            "gesso.json",
            "merges.txt",
            "vocab.json",
        ]
    );
    let info = out.info();
    assert_eq!((info.recipe.width, info.recipe.height), (128, 128));
    assert_eq!(info.recipe.attention, "SPLIT_EINSUM");
    assert_eq!(info.source_hash.len(), 64);
    assert!(info.tokenizer);
    assert_eq!(info.scheduler["prediction_type"], "epsilon");
    assert!((info.scaling_factor.unwrap() - 0.49365).abs() < 1e-5);
    assert_eq!(
        info.packages["UnetAdaptable"].weights_of.as_deref(),
        Some("Unet.mlpackage")
    );
    assert!(info.packages["Unet"].palettized.is_empty());
    let tables = info.slot_tables().unwrap();
    assert_eq!(tables.keys().collect::<Vec<_>>(), ["text_encoder", "unet"]);
    let text = std::fs::read_to_string(out.path().join("gesso.json")).unwrap();
    assert!(
        !text.contains(&*out.path().to_string_lossy()),
        "a path got into gesso.json"
    );
    assert!(!text.contains("fixtures"), "a path got into gesso.json");
}

#[test]
fn every_package_verifies_and_its_features_are_those_of_the_program() {
    let out = Out::new(
        &shapes(),
        &Recipe {
            bits: 6,
            ..Recipe::default()
        },
    );
    for (name, info) in out.info().packages {
        let package = Package::open(&out.path().join(&info.file)).unwrap();
        let program = gesso_mil::from_model(&package.model).unwrap();
        let findings = gesso_mil::verify(&program);
        assert!(findings.is_empty(), "{name}: {findings:?}");
        let function = &program.functions["main"];
        let inputs: Vec<&str> = function.inputs.iter().map(|i| &*i.name).collect();
        let declared: Vec<&str> = info.inputs.iter().map(|i| &*i.name).collect();
        assert_eq!(inputs, declared, "{name}");
        let outputs: Vec<&str> = info.outputs.iter().map(|o| &*o.name).collect();
        assert_eq!(function.body().unwrap().outputs, outputs, "{name}");
        for input in &info.inputs {
            let slot = input.name.starts_with("adapter_");
            assert_eq!(input.default, slot.then_some(0.0), "{name}: {}", input.name);
        }
    }
}

#[test]
fn twins_share_the_weight_file_at_sixteen_and_four_bits() {
    for bits in [16, 4] {
        let out = Out::new(
            &shapes(),
            &Recipe {
                bits,
                ..Recipe::default()
            },
        );
        let all = hashes(out.path());
        for name in ["Unet", "TextEncoder"] {
            let twin = format!("{name}Adaptable");
            let file = |n: &str| format!("{n}.mlpackage/{WEIGHTS}");
            assert_eq!(all[&file(name)], all[&file(&twin)], "{name} at {bits} bits");
            let inode = |n: &str| {
                std::fs::metadata(out.package(n).join(WEIGHTS))
                    .unwrap()
                    .ino()
            };
            assert_eq!(inode(name), inode(&twin));
        }
    }
}

#[test]
fn metadata_says_what_apps_look_for() {
    let out = Out::new(&shapes(), &Recipe::default());
    let user = |name: &str| {
        let model = Package::open(&out.package(name)).unwrap().model;
        model.description.unwrap().metadata.unwrap().user_defined
    };
    let unet = user("Unet");
    assert!(unet.contains_key("com.github.apple.ml-stable-diffusion.version"));
    assert_eq!(unet["attention_implementation"], "SPLIT_EINSUM");
    assert_eq!(unet["compute_unit"], "CPU_AND_NE");
    assert_eq!(unet["prediction_type"], "epsilon");
    assert_eq!(unet["steps_offset"], "1");
    assert_eq!(unet["set_alpha_to_one"], "false");
    assert_eq!(unet["timestep_spacing"], "leading");
    assert_eq!(unet["hidden_size"], "64");
    assert!(!unet.contains_key("gesso.rows"));
    assert_eq!(user("VAEDecoder")["scaling_factor"], "0.49365");
    let twin = user("UnetAdaptable");
    let info = out.info();
    assert_eq!(twin["gesso.layout_hash"], info.slots["unet"].layout_hash);
    assert_eq!(twin["gesso.adapter_rank"], "32");
    let rows: Vec<gesso_convert::slots::Slot> = serde_json::from_str(&twin["gesso.rows"]).unwrap();
    assert_eq!(rows, info.slots["unet"].rows);
    assert_eq!(twin["gesso.source_hash"], info.source_hash);
}

#[test]
fn two_runs_and_one_or_two_threads_give_the_same_bytes() {
    let checkpoint = shapes();
    let recipe = Recipe {
        bits: 4,
        ..Recipe::default()
    };
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        hashes(pool.install(|| Out::new(&checkpoint, &recipe)).path())
    };
    let first = run(1);
    assert_eq!(first.len(), 6 * 3 + 3);
    assert_eq!(first, run(1));
    assert_eq!(first, run(2));
}

#[test]
fn a_single_file_gives_the_packages_of_its_folder() {
    let folder = gesso_testkit::fixture("goldens/models/sd1");
    let recipe = Recipe {
        size: Some((128, 128)),
        ..Recipe::default()
    };
    let options = OpenOptions {
        config_dir: Some(folder.clone()),
        ..OpenOptions::default()
    };
    let single = Checkpoint::open(folder.join("single_file.safetensors"), &options).unwrap();
    let a = Out::new(&open(&folder), &recipe);
    let b = Out::new(&single, &recipe);
    assert_eq!(a.info().source_hash, b.info().source_hash);
    let packages = |out: &Out| {
        let mut all = hashes(out.path());
        all.retain(|name, _| name.ends_with(WEIGHTS));
        all
    };
    assert_eq!(packages(&a).len(), 6);
    assert_eq!(packages(&a), packages(&b));
    assert_eq!(a.operations("Unet"), b.operations("Unet"));
    assert!(
        b.report.notes.iter().any(|note| note.contains("tokenizer")),
        "{:?}",
        b.report.notes
    );
}

#[test]
fn the_estimate_covers_what_is_written_and_is_not_wild() {
    for bits in [16, 8, 4] {
        let recipe = Recipe {
            bits,
            ..Recipe::default()
        };
        let checkpoint = shapes();
        let needed = recipe.bytes_needed(&checkpoint).unwrap();
        let out = Out::new(&checkpoint, &recipe);
        let mut inodes = BTreeMap::new();
        fn walk(dir: &Path, inodes: &mut BTreeMap<u64, u64>) {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                let meta = std::fs::metadata(&path).unwrap();
                if meta.is_dir() {
                    walk(&path, inodes);
                } else {
                    inodes.insert(meta.ino(), meta.len());
                }
            }
        }
        walk(out.path(), &mut inodes);
        let written: u64 = inodes.values().sum();
        assert!(
            needed >= written,
            "{bits} bits: {needed} estimated, {written} written"
        );
        assert!(
            needed < written + (80 << 20),
            "{bits} bits: {needed} estimated, {written} written"
        );
    }
}
