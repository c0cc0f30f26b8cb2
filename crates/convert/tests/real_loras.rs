//! Files from the wild as assets for a base of SD 1.5's shape, which needs no weights.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod rig;

use flate2::read::GzDecoder;
use gesso_convert::Silent;
use gesso_convert::adapter::{AdapterOptions, write_adapter};
use gesso_convert::asset::Asset;
use gesso_convert::family::sd1::{TextOptions, UnetOptions, text_encoder, unet};
use gesso_convert::family::{Attention, Precision};
use gesso_convert::folder::{FolderInfo, OriginInfo, RecipeInfo, SlotsInfo};
use gesso_convert::slots::{Role, SlotOptions};
use gesso_engine::{Kernels, Model, RunOptions};
use gesso_testkit::{fixture, shared};
use gesso_weights::lora::{Lora, ResolveOptions, ResolvedLora};
use gesso_weights::{StDType, TensorRef, TextConfig, UnetConfig, write_safetensors};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

/// `gesso.json` of an SD 1.5 conversion: shapes from the map, slots from the built programs.
fn base() -> FolderInfo {
    let unet_config = UnetConfig {
        block_out_channels: vec![320, 640, 1280, 1280],
        heads: vec![8; 4],
        cross_attention_dim: 768,
        norm_groups: 32,
        sample_size: 64,
        ..rig::sd1_unet()
    };
    let text_config = TextConfig {
        vocab_size: 49408,
        hidden: 768,
        intermediate: 3072,
        layers: 12,
        heads: 12,
        bos: 49406,
        eos: 49407,
        ..rig::sd1_text()
    };
    let unet = unet(
        &unet_config,
        &UnetOptions {
            batch: 2,
            height: 64,
            width: 64,
            tokens: 77,
            precision: Precision::Fp16,
            attention: Attention::SplitEinsum,
            slots: Some(SlotOptions::of_rank(32)),
            controlnet_residuals: false,
        },
    );
    let text = text_encoder(
        &text_config,
        &TextOptions {
            tokens: 77,
            precision: Precision::Fp16,
            slots: Some(SlotOptions::of_rank(32)),
        },
    );
    let slots = [("unet", unet), ("text_encoder", text)]
        .into_iter()
        .map(|(name, built)| {
            (
                name.to_string(),
                SlotsInfo::from(&built.unwrap().slots.unwrap()),
            )
        })
        .collect();
    FolderInfo {
        schema: 1,
        converter: "test".into(),
        family: "sd1".into(),
        origin: OriginInfo::default(),
        source_hash: "0".repeat(64),
        recipe: RecipeInfo {
            bits: 16,
            precision: "fp16".into(),
            attention: "SPLIT_EINSUM".into(),
            width: 512,
            height: 512,
            adapter_rank: 32,
            adapter_sites: None,
            adapter_io: None,
            palettize: Vec::new(),
            loras: Vec::new(),
            functions: Vec::new(),
        },
        packages: BTreeMap::new(),
        deltas: Vec::new(),
        slots,
        tokenizer: true,
        scheduler: serde_json::Value::Null,
        scaling_factor: None,
        tensors: shapes(),
        unused: Vec::new(),
    }
}

/// Shapes of the UNet's and the text encoder's tensors, by `<component>:<tensor>`.
fn shapes() -> BTreeMap<String, Vec<usize>> {
    let file = std::fs::File::open(fixture("lora/maps/sd1.tsv.gz")).unwrap();
    let mut text = String::new();
    GzDecoder::new(file).read_to_string(&mut text).unwrap();
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap().split('\t').collect();
    let column = |name: &str| header.iter().position(|h| *h == name).unwrap();
    let (component, key, shape) = (
        column("component"),
        column("diffusers_key"),
        column("diffusers_shape"),
    );
    lines
        .map(|line| line.split('\t').collect::<Vec<_>>())
        .filter(|cells| ["unet", "text_encoder"].contains(&cells[component]))
        .filter(|cells| !cells[shape].is_empty() && cells[shape] != "-")
        .map(|cells| {
            let sizes = cells[shape].split('x').map(|n| n.parse().unwrap());
            (
                format!("{}:{}", cells[component], cells[key]),
                sizes.collect(),
            )
        })
        .collect()
}

/// The LoRA matched with the base, and its asset.
fn asset(path: &Path, base: &FolderInfo, dir: &Path) -> (ResolvedLora, Asset) {
    let lora = Lora::open(path)
        .unwrap()
        .resolve(&base.module_table().unwrap(), &ResolveOptions::default())
        .unwrap();
    assert_eq!(lora.applied + lora.ignored.len(), lora.tensors);
    let file = dir.join("real.mlmodelcassets");
    let options = AdapterOptions {
        exact: true,
        ..AdapterOptions::default()
    };
    let report = write_adapter(&lora, base, &options, &file, &mut Silent).unwrap();
    assert_eq!(report.modules.values().sum::<usize>(), lora.modules.len());
    let asset = Asset::open(&file).unwrap();
    asset
        .fits(&base.slot_tables().unwrap(), &base.source_hash)
        .unwrap();
    (lora, asset)
}

/// Largest relative error of `up · down` in the asset against the LoRA's own factors, and how many modules were compared.
fn compared(lora: &ResolvedLora, asset: &Asset, dir: &Path) -> (f64, usize) {
    let (mut worst, mut modules) = (0f64, 0);
    for (component, package) in asset.extract(dir).unwrap() {
        let model = Model::load(&gesso_coreml::package::Package::open(&package).unwrap()).unwrap();
        let options = RunOptions {
            kernels: Kernels::Naive,
            ..RunOptions::default()
        };
        let outputs = model.predict(None, &BTreeMap::new(), &options).unwrap();
        let tensors = outputs
            .into_iter()
            .map(|(name, t)| (name, t.as_f32().unwrap().to_vec()))
            .collect();
        let factors = asset.factors(&component, tensors).unwrap();
        let r = factors.rank;
        let row = |path: &str, role: Role| {
            let slot = factors
                .rows
                .iter()
                .find(|s| s.module == path && s.role == role)
                .unwrap();
            let tensor = &factors.tensors[&format!("adapter_{}", slot.width)];
            &tensor[slot.row * r * slot.width..][..r * slot.width]
        };
        for ((c, path), adapter) in &lora.modules {
            if c.as_str() != component {
                continue;
            }
            let exact = adapter.low_rank().unwrap();
            let (down, up) = (row(path, Role::Down), row(path, Role::Up));
            let (inputs, outputs) = (exact.inputs(), exact.outputs());
            let (mut signal, mut noise) = (0f64, 0f64);
            // One output in seven is enough to see scale and place.
            for o in (0..outputs).step_by(7) {
                for i in 0..inputs {
                    let wanted: f64 = (0..exact.rank)
                        .map(|k| {
                            f64::from(exact.up[o * exact.rank + k])
                                * f64::from(exact.down[k * inputs + i])
                        })
                        .sum::<f64>()
                        * f64::from(adapter.scale());
                    let found: f64 = (0..r)
                        .map(|k| f64::from(up[k * outputs + o]) * f64::from(down[k * inputs + i]))
                        .sum();
                    signal += wanted * wanted;
                    noise += (wanted - found).powi(2);
                }
            }
            if signal > 0.0 {
                worst = worst.max((noise / signal).sqrt());
            }
            modules += 1;
        }
    }
    (worst, modules)
}

#[test]
fn a_peft_folder_of_scale_four() {
    let Some(path) = shared("lora/real/peft_r4_alpha16") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let base = base();
    let (lora, asset) = asset(&path, &base, dir.path());
    assert_eq!(
        (lora.modules.len(), lora.applied, lora.tensors),
        (128, 256, 256)
    );
    assert!(lora.modules.values().all(|a| a.scale() == 4.0));
    let (worst, modules) = compared(&lora, &asset, dir.path());
    assert!(worst < 1e-3 && modules == 128, "{worst} {modules}");
    assert_eq!(asset.manifest().rank, 4);
}

#[test]
fn old_diffusers_names_without_a_prefix() {
    let Some(path) = shared("lora/real/diffusers_old_noprefix_r4.safetensors") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let base = base();
    let (lora, asset) = asset(&path, &base, dir.path());
    assert_eq!(
        (lora.modules.len(), lora.applied, lora.tensors),
        (128, 256, 256)
    );
    let (worst, modules) = compared(&lora, &asset, dir.path());
    assert!(worst < 1e-3 && modules == 128, "{worst} {modules}");
    let file = std::fs::metadata(path).unwrap().len() as f64;
    let made = std::fs::metadata(dir.path().join("real.mlmodelcassets"))
        .unwrap()
        .len() as f64;
    // The file holds fp32, the asset fp16.
    assert!(made < 0.55 * file, "{made} {file}");
}

#[test]
fn the_numbered_pairs_of_cloneofsimo() {
    let Some(path) = shared("lora/real/simo_lora_disney_r1.safetensors") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let base = base();
    let (lora, asset) = asset(&path, &base, dir.path());
    assert_eq!(
        (lora.modules.len(), lora.applied, lora.ignored.len()),
        (192, 384, 2)
    );
    let (worst, modules) = compared(&lora, &asset, dir.path());
    assert!(worst < 1e-3 && modules == 192, "{worst} {modules}");
    assert_eq!(asset.manifest().components.len(), 2);
}

/// Writes a kohya LoRA of this rank in fp16 over every module that has a slot.
fn generated(base: &FolderInfo, rank: usize, path: &Path) {
    let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    let mut state = 1u64;
    let mut numbers = |n: usize| -> Vec<u8> {
        (0..n)
            .flat_map(|_| {
                state = state
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                let x = (state >> 40) as f32 / 8388608.0 - 1.0;
                half::f16::from_f32(x * 0.05).to_le_bytes()
            })
            .collect()
    };
    for (component, table) in base.slot_tables().unwrap() {
        let prefix = if component == "unet" {
            "lora_unet"
        } else {
            "lora_te"
        };
        for module in table.modules() {
            let name = format!("{prefix}_{}", module.module.replace('.', "_"));
            let (down, up) = (vec![rank, module.inputs], vec![module.outputs, rank]);
            for (part, shape) in [("lora_down.weight", down), ("lora_up.weight", up)] {
                let bytes = numbers(shape.iter().product());
                tensors.push((format!("{name}.{part}"), shape, bytes));
            }
            let alpha = half::f16::from_f32(rank as f32).to_le_bytes().to_vec();
            tensors.push((format!("{name}.alpha"), vec![], alpha));
        }
    }
    tensors.sort();
    let refs: Vec<TensorRef<'_>> = tensors
        .iter()
        .map(|(name, shape, bytes)| TensorRef {
            name,
            dtype: StDType::F16,
            shape,
            bytes,
        })
        .collect();
    write_safetensors(path, &BTreeMap::new(), &refs).unwrap();
}

#[test]
fn an_asset_is_as_large_as_its_lora() {
    let base = base();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rank4.safetensors");
    generated(&base, 4, &path);
    let (lora, made) = asset(&path, &base, dir.path());
    assert_eq!((lora.modules.len(), lora.applied), (264, 3 * 264));
    assert_eq!(made.manifest().rank, 4);
    let size = |path: &Path| std::fs::metadata(path).unwrap().len() as f64;
    let (was, is) = (size(&path), size(&dir.path().join("real.mlmodelcassets")));
    println!(
        "LoRA {was} bytes, asset {is} bytes, {:+.2} %",
        100.0 * (is / was - 1.0)
    );
    assert!((is / was - 1.0).abs() <= 0.05, "{was} {is}");
}
