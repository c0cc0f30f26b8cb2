//! `gesso convert --multifunction`: one package with a function per style.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use gesso_convert::folder::FolderInfo;
use gesso_coreml::compiled::CompiledModel;
use gesso_coreml::package::Package;
use gesso_engine::{Model, RunOptions, Tensor};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use support::{gesso, lora, names, refuses, shapes, succeeds};

const WEIGHTS: &str = "Data/com.apple.CoreML/weights/weight.bin";
const PARTS: [&str; 2] = ["TextEncoder", "Unet"];

fn convert(root: &Path, name: &str, options: &[&str]) -> PathBuf {
    let out = root.join(name);
    let mut command = gesso();
    let command = command.arg("convert").arg(shapes()).arg("-o").arg(&out);
    succeeds(command.args(options));
    out
}

/// The functions `base`, `sketch` and `pixel`.
fn styles() -> String {
    let [sketch, pixel] = ["sketch", "pixel"].map(|s| lora(s).display().to_string());
    format!("base,sketch={sketch},pixel={pixel}:unet=0.8,te=0.4")
}

fn load(folder: &Path, name: &str, form: &str) -> Model {
    let path = folder.join(format!("{name}.{form}"));
    match form {
        "mlmodelc" => Model::load_compiled(&CompiledModel::open(&path).unwrap()),
        _ => Model::load(&Package::open(&path).unwrap()),
    }
    .unwrap()
}

/// Outputs of a function as bits, for inputs of fixed numbers and empty slots.
fn outputs(model: &Model, function: Option<&str>) -> BTreeMap<String, Vec<u32>> {
    let mut inputs = BTreeMap::new();
    for input in model.inputs(function).unwrap() {
        if input.name.starts_with("adapter_") {
            continue;
        }
        let shape = input.ty.shape().unwrap();
        let count: usize = shape.iter().product();
        let value = |i: usize| match input.name.as_str() {
            "input_ids" => (i * 7 % 500) as f32,
            "timestep" => 321.0,
            _ => (i as f32 * 0.37).sin(),
        };
        let values = (0..count).map(value).collect();
        inputs.insert(input.name.clone(), Tensor::f32(&shape, values));
    }
    let out = model.predict(function, &inputs, &RunOptions::default());
    let bits = |t: Tensor| t.as_f32().unwrap().iter().map(|x| x.to_bits()).collect();
    out.unwrap()
        .into_iter()
        .map(|(name, t)| (name, bits(t)))
        .collect()
}

/// Converts `checkpoint` with three functions at these bits, and each of them alone; compares what they compute and store.
fn compared(checkpoint: &Path, loras: [String; 2], bits: &str, styled: &[&str]) {
    let root = tempfile::tempdir().unwrap();
    let convert = |name: &str, options: &[&str]| {
        let out = root.path().join(name);
        let mut command = gesso();
        let command = command.arg("convert").arg(checkpoint).arg("-o").arg(&out);
        succeeds(command.args(["--bits", bits]).args(options));
        out
    };
    let plain = ["--adapter-rank", "0", "--format", "mlpackage"];
    let alone = |name: &str, lora: &[&str]| convert(name, &[&plain, lora].concat());
    let [first, second] = &loras;
    let alone = [
        ("base", alone("base", &[])),
        ("sketch", alone("sketch", &["--lora", first])),
        ("pixel", alone("pixel", &["--lora", second])),
    ];
    let styles = format!("base,sketch={first},pixel={second}");
    let all = convert("all", &["--multifunction", &styles, "--target", "ios18"]);
    for part in PARTS {
        let wanted = alone
            .each_ref()
            .map(|(name, folder)| (*name, outputs(&load(folder, part, "mlpackage"), None)));
        if styled.contains(&part) {
            assert_ne!(wanted[0].1, wanted[1].1, "{part}");
            assert_ne!(wanted[0].1, wanted[2].1, "{part}");
        }
        for form in ["mlpackage", "mlmodelc"] {
            let model = load(&all, part, form);
            assert_eq!(model.default_function(), "base");
            let functions: Vec<&str> = model.functions().collect();
            assert_eq!(functions, ["base", "pixel", "sketch"]);
            for (name, wanted) in &wanted {
                let found = outputs(&model, Some(name));
                assert!(found == *wanted, "{part}.{form} {name} at {bits} bits");
            }
            assert!(outputs(&model, None) == wanted[0].1);
        }
        // Slots are those of the default function, over the same weights.
        let twin = load(&all, &format!("{part}Adaptable"), "mlpackage");
        assert!(outputs(&twin, None) == wanted[0].1);
    }
    figures(&all, &alone.map(|(_, folder)| folder), styled);
}

#[test]
fn each_function_gives_what_its_own_package_gives() {
    let [sketch, pixel] = ["sketch", "pixel"].map(|s| lora(s).display().to_string());
    let pixel = format!("{pixel}:unet=0.8,te=0.4");
    compared(&shapes(), [sketch, pixel], "6", &["Unet"]);
}

#[test]
fn functions_of_a_text_encoder_differ_too() {
    let [a, b] = ["a", "b"].map(|s| {
        let lora = gesso_testkit::fixture(&format!("goldens/lora/sd1/{s}.safetensors"));
        lora.display().to_string()
    });
    let b = format!("{b}:unet=0.8,te=0.4");
    let checkpoint = gesso_testkit::fixture("goldens/models/sd1");
    compared(&checkpoint, [a, b], "16", &PARTS);
}

/// The sharing that `gesso.json` states, against the packages alone and the length of the weight file.
fn figures(all: &Path, alone: &[PathBuf], styled: &[&str]) {
    let info = FolderInfo::open(all).unwrap();
    for part in PARTS {
        let package = &info.packages[part];
        let bytes = |folder: &Path| {
            let path = folder.join(format!("{part}.mlpackage")).join(WEIGHTS);
            std::fs::metadata(path).unwrap().len()
        };
        let mut stored = 0;
        for (function, folder) in package.functions.iter().zip(alone) {
            let one = FolderInfo::open(folder).unwrap();
            let wanted = one.packages[part].bytes_after;
            assert_eq!(function.own_bytes + function.shared_bytes, wanted, "{part}");
            stored += function.own_bytes;
        }
        let functions: Vec<&str> = package.functions.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(functions, ["base", "sketch", "pixel"]);
        assert_eq!(package.functions[0].shared_bytes, 0);
        assert_eq!(package.bytes_after, stored);
        let changed = &package.functions[1..];
        assert!(changed.iter().all(|f| f.shared_bytes > 0), "{part}");
        let own = changed.iter().all(|f| f.own_bytes > 0);
        assert_eq!(own, styled.contains(&part), "{part}");
        let separate: u64 = alone.iter().map(|folder| bytes(folder)).sum();
        let shared: u64 = package.functions.iter().map(|f| f.shared_bytes).sum();
        eprintln!(
            "{part}: {} bytes, {separate} in separate packages, {shared} shared",
            bytes(all)
        );
        // Beside the elements a weight file holds 64 bytes per record and padding.
        assert!(bytes(all) >= stored && bytes(all) + shared <= separate + separate / 20);
        // The default function comes first, as in a package of its own.
        let [own, base] = [all, &alone[0]].map(|folder| {
            std::fs::read(folder.join(format!("{part}.mlpackage")).join(WEIGHTS)).unwrap()
        });
        assert_eq!(own.len() > base.len(), styled.contains(&part), "{part}");
    }
    let styles = &info.recipe.functions;
    assert_eq!(
        styles.iter().map(|s| s.loras.len()).collect::<Vec<_>>(),
        [0, 1, 1]
    );
    assert_eq!(styles[2].loras[0].unet_strength, 0.8);
    assert_eq!(styles[2].loras[0].text_encoder_strength, 0.4);
}

/// Pixels of a picture.
fn pixels(path: &Path) -> Vec<u8> {
    let file = std::io::BufReader::new(std::fs::File::open(path).unwrap());
    let mut reader = png::Decoder::new(file).read_info().unwrap();
    let mut data = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut data).unwrap();
    data
}

#[test]
fn commands_take_a_function() {
    let root = tempfile::tempdir().unwrap();
    let styles = styles();
    let all = convert(
        root.path(),
        "all",
        &["--multifunction", &styles, "--target", "ios18"],
    );
    let sketch = lora("sketch").display().to_string();
    let baked = convert(root.path(), "baked", &["--lora", &sketch]);
    let draw = |folder: &Path, options: &[&str]| {
        let picture = root.path().join("picture.png");
        let mut command = gesso();
        command.args([
            "generate",
            "--force",
            "--prompt",
            "a red circle",
            "--steps",
            "2",
            "-o",
        ]);
        succeeds(command.arg(&picture).arg(folder).args(options));
        pixels(&picture)
    };
    let wanted = draw(&baked, &[]);
    assert_eq!(draw(&all, &["--function", "sketch"]), wanted);
    assert_ne!(draw(&all, &[]), wanted);
    assert_eq!(draw(&all, &[]), draw(&all, &["--function", "base"]));

    let verify = |options: &[&str]| {
        let mut command = gesso();
        command.args([
            "verify",
            "--steps",
            "0",
            "--components",
            "unet,text-encoder",
        ]);
        command
            .arg(&all)
            .arg("--against")
            .arg(shapes())
            .args(options);
        command
    };
    succeeds(&mut verify(&["--function", "sketch", "--lora", &sketch]));
    succeeds(&mut verify(&[]));
    let strong = format!("{sketch}:3");
    let output = verify(&["--function", "sketch", "--lora", &strong])
        .output()
        .unwrap();
    assert_eq!(
        output.status.code(),
        Some(1),
        "another strength is another model"
    );
    refuses(
        &mut verify(&["--function", "sketch"]),
        &["1 LoRAs merged in, but 0 were given"],
    );
    refuses(
        &mut verify(&["--function", "oil", "--lora", &sketch]),
        &["oil", "base", "sketch", "pixel"],
    );

    for command in ["lint", "inspect"] {
        succeeds(gesso().arg(command).arg(&all));
    }
    succeeds(gesso().args(["doctor", "--app", "gesso"]).arg(&all));
    let said = succeeds(gesso().arg("inspect").arg(all.join("Unet.mlpackage")));
    assert!(said.contains("sketch") && said.contains("pixel"), "{said}");
    // An adapter fits the twin of the default function.
    let asset = root.path().join("a.mlmodelcassets");
    let mut command = gesso();
    let command = command
        .arg("adapter")
        .arg(lora("watercolor"))
        .arg("--base")
        .arg(&all);
    succeeds(command.arg("-o").arg(&asset));
    draw(&all, &["--adapter", asset.to_str().unwrap()]);
}

#[test]
fn functions_that_cannot_be_are_refused_by_name() {
    let root = tempfile::tempdir().unwrap();
    let sketch = lora("sketch").display().to_string();
    let out = root.path().join("out");
    let refused = |functions: &str, target: &str, parts: &[&str]| {
        let mut command = gesso();
        command.arg("convert").arg(shapes()).arg("-o").arg(&out);
        refuses(
            command.args(["--multifunction", functions, "--target", target]),
            parts,
        );
        assert!(names(root.path()).is_empty());
    };
    let two = format!("base,sketch={sketch}");
    refused(
        &two,
        "ios16",
        &["`--multifunction`", "ios18", "older systems"],
    );
    refused("base", "ios18", &["at least two functions"]);
    refused("base,base", "ios18", &["`base` twice"]);
    refused(
        "base,a-b",
        "ios18",
        &["letters, digits and underscores", "`a-b`"],
    );
    refused(
        "base,sketch=",
        "ios18",
        &["`sketch=` is neither NAME nor NAME=FILE"],
    );
    refused(
        "base,sketch=missing.safetensors",
        "ios18",
        &["missing.safetensors"],
    );
}
