//! A small function becomes a package: where every constant goes, palettes, twins, determinism, refusals.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use gesso_convert::built::{Built, Feature};
use gesso_convert::family::OPSET;
use gesso_convert::{
    About, Bits, Emitted, Progress, Result, Silent, emit, emit_twin, weight_bytes,
};
use gesso_coreml::blob::BlobDType;
use gesso_coreml::package::Package;
use gesso_mil::{Arg, Builder, DType, Literal, Operation, TensorType, Value, ValueData};
use half::f16;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

type Source = BTreeMap<String, Vec<f32>>;

/// 1×1 convolutions `a` (16 → 64) and `b` (64 → 64), a bias, a scalar-like constant of 4 elements and a literal of 64.
fn built(dtype: DType, slots: bool) -> Built {
    let mut g = Builder::new(OPSET);
    let x = g.input("x", TensorType::new(dtype, &[1, 16, 1, 4]));
    let slot = slots.then(|| g.input("adapter_64", TensorType::new(dtype, &[1, 64, 1, 1])));
    let weight = |key: &str, shape: &[usize]| -> Arg {
        Value::external(TensorType::new(dtype, shape), format!("unet:{key}")).into()
    };
    let a = g
        .op(
            "conv",
            "a",
            &[
                ("x", (&x).into()),
                ("weight", weight("a.weight", &[64, 16, 1, 1])),
                ("bias", weight("a.bias", &[64])),
                ("strides", Arg::from([1, 1])),
                ("pad_type", Arg::from("valid")),
                ("pad", Arg::from([0, 0, 0, 0])),
                ("dilations", Arg::from([1, 1])),
                ("groups", Arg::from(1)),
            ],
        )
        .unwrap();
    let table = Value::floats(dtype, &[1, 64, 1, 1], &[0.5; 64]);
    let mut y = g
        .op("mul", "scaled", &[("x", (&a).into()), ("y", table.into())])
        .unwrap();
    if let Some(slot) = &slot {
        y = g
            .op("add", "slotted", &[("x", (&y).into()), ("y", slot.into())])
            .unwrap();
    }
    let small = Value::external(TensorType::new(dtype, &[1, 1, 1, 4]), "unet:small");
    let y = g
        .op("mul", "y", &[("x", (&y).into()), ("y", small.into())])
        .unwrap();
    let b = g
        .op(
            "conv",
            "b",
            &[
                ("x", (&y).into()),
                ("weight", weight("b.weight", &[64, 64, 1, 1])),
                ("strides", Arg::from([1, 1])),
                ("pad_type", Arg::from("valid")),
                ("pad", Arg::from([0, 0, 0, 0])),
                ("dilations", Arg::from([1, 1])),
                ("groups", Arg::from(1)),
            ],
        )
        .unwrap();
    let feature = |name: &str, shape: &[usize], default| Feature {
        name: name.into(),
        dtype,
        shape: shape.into(),
        default,
        description: format!("the {name}"),
    };
    let mut inputs = vec![feature("x", &[1, 16, 1, 4], None)];
    if slots {
        inputs.push(feature("adapter_64", &[1, 64, 1, 1], Some(0.0)));
    }
    Built {
        states: Vec::new(),
        outputs: vec![feature(&b.name, &[1, 64, 1, 4], None)],
        function: g.finish(&[b]),
        inputs,
        generated: BTreeMap::new(),
        slots: None,
        gathered: BTreeSet::new(),
    }
}

fn source() -> Source {
    let values = |n: usize, seed: usize| -> Vec<f32> {
        (0..n)
            .map(|i| ((i * 7919 + seed * 104_729) % 1009) as f32 / 1009.0 - 0.5)
            .collect()
    };
    BTreeMap::from([
        ("unet:a.weight".to_string(), values(64 * 16, 1)),
        ("unet:a.bias".to_string(), values(64, 2)),
        ("unet:small".to_string(), vec![1.0, 2.0, 3.0, 4.0]),
        ("unet:b.weight".to_string(), values(64 * 64, 3)),
    ])
}

fn bits(pairs: &[(&str, u8)]) -> Bits {
    pairs.iter().map(|&(k, b)| (k.to_string(), b)).collect()
}

fn written(dir: &Path, built: &Built, bits: &Bits) -> Result<Emitted> {
    let about = About {
        short_description: "a test".into(),
        version: "v".into(),
        author: "me".into(),
        license: "MIT".into(),
        user_defined: BTreeMap::from([("b".into(), "2".into()), ("a".into(), "1".into())]),
    };
    emit(built, &source(), bits, &about, dir, &mut Silent)
}

/// The package and its operations by name of their first output.
fn read(dir: &Path) -> (Package, BTreeMap<String, Operation>) {
    let package = Package::open(dir).unwrap();
    let program = gesso_mil::from_model(&package.model).unwrap();
    let block = program.functions["main"].body().unwrap().clone();
    let ops = block
        .operations
        .into_iter()
        .map(|op| (op.outputs[0].name.clone(), op))
        .collect();
    (package, ops)
}

fn offset(value: &Value) -> u64 {
    match &value.data {
        ValueData::Blob { file, offset } => {
            assert_eq!(file, "@model_path/weights/weight.bin");
            *offset
        }
        other => panic!("not a blob: {other:?}"),
    }
}

fn fp16(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|&v| f16::from_f32(v).to_le_bytes())
        .collect()
}

/// SHA-256 of every file below `dir`, by relative path.
fn hashes(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            found.extend(
                hashes(&path)
                    .into_iter()
                    .map(|(k, v)| (format!("{name}/{k}"), v)),
            );
        } else {
            found.insert(name, Sha256::digest(std::fs::read(path).unwrap()).to_vec());
        }
    }
    found
}

#[test]
fn constants_go_to_the_weight_file_in_program_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("M.mlpackage");
    let emitted = written(&path, &built(DType::Fp16, false), &Bits::new()).unwrap();
    let (package, ops) = read(&path);
    let mut last = 0;
    for (name, elements) in [
        ("a_weight", source()["unet:a.weight"].clone()),
        ("a_bias", source()["unet:a.bias"].clone()),
        ("scaled_y", vec![0.5; 64]),
        ("b_weight", source()["unet:b.weight"].clone()),
    ] {
        let value = &ops[name].attributes["val"];
        let at = offset(value);
        assert!(at > last, "`{name}` at {at} is not after {last}");
        last = at;
        let record = package.blob("@model_path/weights/weight.bin", at).unwrap();
        assert_eq!(record.dtype, BlobDType::Float16);
        assert_eq!(record.data, fp16(&elements), "{name}");
    }
    // Below ten elements a constant stands in the program.
    assert_eq!(
        ops["y_y"].attributes["val"].data,
        ValueData::Tensor(Literal::Bytes(fp16(&[1.0, 2.0, 3.0, 4.0])))
    );
    let keys: Vec<&str> = emitted.tensors.iter().map(|t| &*t.key).collect();
    assert_eq!(
        keys,
        [
            "unet:a.weight",
            "unet:a.bias",
            "scaled_y",
            "unet:small",
            "unet:b.weight"
        ]
    );
    assert!(!path.with_extension("weights").exists());
}

#[test]
fn the_description_has_features_defaults_and_metadata() {
    let dir = tempfile::tempdir().unwrap();
    let plain = dir.path().join("M.mlpackage");
    let emitted = written(&plain, &built(DType::Fp16, false), &Bits::new()).unwrap();
    let twin = dir.path().join("T.mlpackage");
    emit_twin(
        &built(DType::Fp16, true),
        &emitted,
        &About::default(),
        &twin,
    )
    .unwrap();
    let model = Package::open(&plain).unwrap().model;
    assert_eq!(model.specification_version, 7);
    let description = model.description.unwrap();
    let metadata = description.metadata.unwrap();
    assert_eq!(metadata.author, "me");
    assert_eq!(metadata.license, "MIT");
    assert_eq!(metadata.version_string, "v");
    assert_eq!(metadata.user_defined["a"], "1");
    assert_eq!(description.input.len(), 1);
    let input = Package::open(&twin)
        .unwrap()
        .model
        .description
        .unwrap()
        .input;
    let slot = input[1].r#type.as_ref().unwrap();
    assert!(slot.is_optional);
    // FLOAT16 is 65552; the default is a float, zero, and present.
    let text = format!("{:?}", slot.r#type);
    assert!(text.contains("data_type: Float16"), "{text}");
    assert!(text.contains("FloatDefaultValue(0.0)"), "{text}");
}

#[test]
fn a_palette_is_an_op_with_codes_table_and_shape() {
    let dir = tempfile::tempdir().unwrap();
    for (dtype, n) in [
        (DType::Fp16, 4),
        (DType::Fp16, 6),
        (DType::Fp16, 2),
        (DType::Fp32, 8),
    ] {
        let path = dir.path().join(format!("{dtype}-{n}.mlpackage"));
        let plan = bits(&[("unet:b.weight", n)]);
        let emitted = written(&path, &built(dtype, false), &plan).unwrap();
        let (package, ops) = read(&path);
        assert_eq!(ops["a_weight"].kind, "const");
        let op = &ops["b_weight"];
        assert_eq!(op.kind, "constexpr_lut_to_dense");
        let keys: Vec<&str> = op.attributes.keys().map(|k| &**k).collect();
        assert_eq!(keys, ["indices", "lut", "name", "shape"]);
        assert_eq!(
            op.outputs[0].ty.to_string(),
            format!("tensor<{dtype}, [64, 64, 1, 1]>")
        );
        assert_eq!(
            op.attributes["shape"].data,
            ValueData::Tensor(Literal::Bytes(vec![
                64, 0, 0, 0, 64, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0
            ]))
        );
        let packed_len = 4096 * usize::from(n) / 8;
        let indices = &op.attributes["indices"];
        assert_eq!(
            indices.ty.to_string(),
            format!("tensor<uint8, [{packed_len}]>")
        );
        let record = package
            .blob("@model_path/weights/weight.bin", offset(indices))
            .unwrap();
        assert_eq!(
            (record.dtype, record.data.len()),
            (BlobDType::UInt8, packed_len)
        );
        let lut = &op.attributes["lut"];
        assert_eq!(lut.ty.to_string(), format!("tensor<{dtype}, [{}]>", 1 << n));
        let table: Vec<f32> = match &lut.data {
            ValueData::Blob { offset: at, .. } => {
                assert!(*at > offset(indices), "indices come first");
                let data = package
                    .blob("@model_path/weights/weight.bin", *at)
                    .unwrap()
                    .data;
                if dtype == DType::Fp16 {
                    data.chunks(2)
                        .map(|c| f16::from_le_bytes([c[0], c[1]]).to_f32())
                        .collect()
                } else {
                    data.chunks(4)
                        .map(|c| f32::from_le_bytes(c.try_into().unwrap()))
                        .collect()
                }
            }
            _ => {
                assert_eq!(n, 2, "only a table below ten entries stands in the program");
                lut.as_floats().unwrap()
            }
        };
        // Own decoding: the codes are one stream, least significant bit first.
        let bit = |i: usize| usize::from(record.data[i / 8] >> (i % 8) & 1);
        let (mut signal, mut noise) = (0f64, 0f64);
        for (i, &v) in source()["unet:b.weight"].iter().enumerate() {
            let code: usize = (0..usize::from(n))
                .map(|k| bit(i * usize::from(n) + k) << k)
                .sum();
            let v = f64::from(f16::from_f32(v).to_f32());
            signal += v * v;
            noise += (v - f64::from(table[code])).powi(2);
        }
        let snr = 10.0 * (signal / noise).log10();
        let report = emitted
            .tensors
            .iter()
            .find(|t| t.key == "unet:b.weight")
            .unwrap();
        assert!(
            (report.snr_db.unwrap() - snr).abs() <= 0.006,
            "{:?} {snr}",
            report.snr_db
        );
        // A uniform distribution cut into 2^n pieces has about 6.02 n dB.
        assert!(
            (snr - 6.02 * f64::from(n)).abs() < 2.0,
            "{n} bits: {snr} dB"
        );
        assert_eq!(report.bits, n);
    }
}

#[test]
fn a_twin_shares_the_weight_file() {
    let dir = tempfile::tempdir().unwrap();
    let plan = bits(&[("unet:a.weight", 4), ("unet:b.weight", 4)]);
    let (plain, twin) = (
        dir.path().join("M.mlpackage"),
        dir.path().join("MAdaptable.mlpackage"),
    );
    let emitted = written(&plain, &built(DType::Fp16, false), &plan).unwrap();
    emit_twin(
        &built(DType::Fp16, true),
        &emitted,
        &About::default(),
        &twin,
    )
    .unwrap();
    let file = "Data/com.apple.CoreML/weights/weight.bin";
    assert_eq!(hashes(&plain)[file], hashes(&twin)[file]);
    let inode = |p: &Path| std::fs::metadata(p.join(file)).unwrap().ino();
    assert_eq!(inode(&plain), inode(&twin));
    // Emitted on its own, the slotted program would have the same weights.
    let alone = dir.path().join("Alone.mlpackage");
    written(&alone, &built(DType::Fp16, true), &plan).unwrap();
    assert_eq!(hashes(&alone)[file], hashes(&twin)[file]);
    let (_, ops) = read(&twin);
    let (_, plain_ops) = read(&plain);
    assert_eq!(ops["b_weight"], plain_ops["b_weight"]);
    assert!(ops.contains_key("slotted"));
}

#[test]
fn a_program_with_other_weights_is_not_a_twin() {
    let dir = tempfile::tempdir().unwrap();
    let emitted = written(
        &dir.path().join("M.mlpackage"),
        &built(DType::Fp16, false),
        &Bits::new(),
    );
    let mut other = built(DType::Fp16, true);
    let block = other.function.blocks.get_mut(OPSET).unwrap();
    for op in &mut block.operations {
        if op.outputs[0].name == "b_weight" {
            op.attributes.insert(
                "val".into(),
                Value::external(
                    TensorType::new(DType::Fp16, &[64, 64, 1, 1]),
                    "unet:c.weight",
                ),
            );
        }
    }
    let path = dir.path().join("T.mlpackage");
    let error = emit_twin(&other, &emitted.unwrap(), &About::default(), &path).unwrap_err();
    assert_eq!(
        error.to_string(),
        "constant `b_weight` of the adaptable program is not among the weights of the plain one"
    );
}

#[test]
fn two_runs_and_one_or_two_threads_give_the_same_bytes() {
    let plan = bits(&[("unet:a.weight", 6), ("unet:b.weight", 4)]);
    let run = |threads: usize| {
        let dir = tempfile::tempdir().unwrap();
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            written(
                &dir.path().join("M.mlpackage"),
                &built(DType::Fp16, false),
                &plan,
            )
        })
        .unwrap();
        hashes(dir.path())
    };
    let first = run(1);
    assert_eq!(first.len(), 3);
    assert_eq!(first, run(1));
    assert_eq!(first, run(2));
}

#[test]
fn progress_adds_up_to_the_announced_bytes() {
    struct Sum(u64);
    impl Progress for Sum {
        fn begin(&mut self, _: &str, _: u64) {}
        fn advance(&mut self, bytes: u64) {
            self.0 += bytes;
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("M.mlpackage");
    let (built, plan) = (built(DType::Fp16, false), bits(&[("unet:b.weight", 8)]));
    let mut sum = Sum(0);
    emit(&built, &source(), &plan, &About::default(), &path, &mut sum).unwrap();
    assert_eq!(sum.0, weight_bytes(&built, &plan).unwrap());
    assert_eq!(sum.0, 2 * (64 * 16 + 64 + 64 + 4) + 4096 + 2 * 256);
}

#[test]
fn weights_that_cannot_be_stored_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let message = |change: &dyn Fn(&mut Source), dtype, name: &str| {
        let mut source = source();
        change(&mut source);
        let path = dir.path().join(name);
        let built = built(dtype, false);
        emit(
            &built,
            &source,
            &Bits::new(),
            &About::default(),
            &path,
            &mut Silent,
        )
        .map(|_| ())
        .map_err(|e| e.to_string())
    };
    let large = |s: &mut Source| s.get_mut("unet:a.bias").unwrap()[3] = 1e6;
    let text = message(&large, DType::Fp16, "1").unwrap_err();
    assert!(
        text.starts_with("tensor `unet:a.bias` holds 1000000, which fp16 cannot store"),
        "{text}"
    );
    message(&large, DType::Fp32, "2").unwrap();
    let nan = |s: &mut Source| s.get_mut("unet:a.bias").unwrap()[3] = f32::NAN;
    assert!(
        message(&nan, DType::Fp32, "3")
            .unwrap_err()
            .contains("holds NaN")
    );
    let short = |s: &mut Source| s.get_mut("unet:a.bias").unwrap().truncate(3);
    assert_eq!(
        message(&short, DType::Fp16, "4").unwrap_err(),
        "tensor `unet:a.bias` has 3 elements, but the program declares 64"
    );
    let missing = |s: &mut Source| drop(s.remove("unet:b.weight"));
    assert_eq!(
        message(&missing, DType::Fp16, "5").unwrap_err(),
        "the program wants tensor `unet:b.weight`, but the checkpoint does not have it"
    );
}
