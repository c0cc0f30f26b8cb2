//! Differences without factors of their own, in slots.

use super::adapter::{differences, made, missed, wanted};
use super::*;
use gesso_convert::adapter::{AdapterOptions, BaseWeights, write_adapter};
use gesso_weights::{Component, StDType, TensorRef, write_safetensors};

const QUERY: &str = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q";
const KEY: &str = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k";
const OUT: &str = "down_blocks.1.attentions.0.proj_out";
const SPELLED: [&str; 3] = [
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q",
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_k",
    "lora_unet_down_blocks_1_attentions_0_proj_out",
];

/// Numbers without any low-rank structure.
fn noise(n: usize, seed: u64, size: f32) -> Vec<f32> {
    let mut state = seed;
    (0..n)
        .map(|_| {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            ((state >> 40) as f32 / 8388608.0 - 1.0) * size
        })
        .collect()
}

/// A file with DoRA on a query, a whole difference on a key and OFT on a projection.
fn mixed(checkpoint: &Checkpoint, dir: &Path) -> ResolvedLora {
    let unet = checkpoint.component(Component::Unet).unwrap();
    let shape = |path: &str| unet.get(&format!("{path}.weight")).unwrap().shape.to_vec();
    let (q, k, p) = (shape(QUERY), shape(KEY), shape(OUT));
    let weight = unet.get(&format!("{QUERY}.weight")).unwrap().to_f32();
    let magnitude: Vec<f32> = weight
        .chunks(q[1])
        .enumerate()
        .map(|(i, row)| {
            let norm = row.iter().map(|w| w * w).sum::<f32>().sqrt();
            norm * (1.0 + 0.1 * (i % 3) as f32)
        })
        .collect();
    let [q_name, k_name, p_name] = SPELLED;
    let tensors: Vec<(String, Vec<usize>, Vec<f32>)> = vec![
        (
            format!("{q_name}.lora_down.weight"),
            vec![4, q[1]],
            noise(4 * q[1], 1, 0.2),
        ),
        (
            format!("{q_name}.lora_up.weight"),
            vec![q[0], 4],
            noise(4 * q[0], 2, 0.2),
        ),
        (format!("{q_name}.alpha"), vec![], vec![4.0]),
        (format!("{q_name}.dora_scale"), vec![q[0], 1], magnitude),
        (
            format!("{k_name}.diff"),
            k.clone(),
            noise(k[0] * k[1], 3, 0.05),
        ),
        (
            format!("{p_name}.oft_blocks"),
            vec![p[0] / 4, 4, 4],
            noise(p[0] * 4, 4, 0.1),
        ),
        (format!("{p_name}.alpha"), vec![], vec![0.0]),
    ];
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(_, _, v)| v.iter().flat_map(|x| x.to_le_bytes()).collect())
        .collect();
    let refs: Vec<TensorRef<'_>> = tensors
        .iter()
        .zip(&bytes)
        .map(|((name, shape, _), bytes)| TensorRef {
            name,
            dtype: StDType::F32,
            shape,
            bytes,
        })
        .collect();
    let path = dir.join("mixed.safetensors");
    write_safetensors(&path, &BTreeMap::new(), &refs).unwrap();
    Lora::open(&path)
        .unwrap()
        .resolve(&modules(checkpoint), &ResolveOptions::default())
        .unwrap()
}

#[test]
fn differences_without_factors_are_approximated_and_say_what_they_lose() {
    let checkpoint = shapes();
    let base = Out::new(&checkpoint, &Recipe::default()).info();
    let dir = tempfile::tempdir().unwrap();
    let lora = mixed(&checkpoint, dir.path());
    let options = AdapterOptions {
        weights: Some(BaseWeights::new(&checkpoint, &base).unwrap()),
        ..AdapterOptions::default()
    };
    let file = dir.path().join("again.mlmodelcassets");
    let report = write_adapter(&lora, &base, &options, &file, &mut Silent).unwrap();
    let words: Vec<&str> = report.truncated.iter().map(|t| &*t.algorithm).collect();
    assert_eq!(words, ["full", "dora(lora)", "oft"]);

    let (asset, first) = made(&lora, &base, dir.path(), &options);
    assert_eq!(std::fs::read(first).unwrap(), std::fs::read(&file).unwrap());
    let found = differences(&asset, &base, dir.path(), 1.0);
    let wanted = wanted(&lora, &checkpoint, 1.0);
    for cut in &report.truncated {
        let name = format!("{}:{}", cut.component, cut.module);
        assert_eq!(cut.kept, 32, "{name}");
        assert!(cut.lost_energy > 1e-4 && cut.lost_energy < 0.3, "{cut:?}");
        let measured = missed(&wanted[&name], &found[&name]);
        let apart = (measured - cut.lost_energy).abs();
        assert!(
            apart < 1e-3 * cut.lost_energy + 1e-6,
            "{name}: {measured} {}",
            cut.lost_energy
        );
    }
    assert_eq!(
        asset.manifest().base_source_hash.as_deref(),
        Some(&*base.source_hash)
    );
    assert_eq!(asset.manifest().min_reader, 2);
    let other = asset.fits(&base.slot_tables().unwrap(), &"0".repeat(64));
    assert!(
        other
            .unwrap_err()
            .to_string()
            .contains("does not fit this base")
    );
}

#[test]
fn exactness_and_missing_weights_are_refused_by_name() {
    let checkpoint = shapes();
    let base = Out::new(&checkpoint, &Recipe::default()).info();
    let dir = tempfile::tempdir().unwrap();
    let lora = mixed(&checkpoint, dir.path());
    let file = dir.path().join("a.mlmodelcassets");
    let refused = |options: &AdapterOptions<'_>| {
        let made = write_adapter(&lora, &base, options, &file, &mut Silent);
        assert!(!file.exists());
        made.unwrap_err().to_string()
    };
    let message = refused(&AdapterOptions::default());
    for part in [
        "of 2 modules",
        QUERY,
        "dora(lora)",
        OUT,
        "oft",
        "--checkpoint",
    ] {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
    assert!(!message.contains(KEY), "{message}");
    let message = refused(&AdapterOptions {
        exact: true,
        weights: Some(BaseWeights::new(&checkpoint, &base).unwrap()),
        ..AdapterOptions::default()
    });
    assert!(message.contains("no exact low-rank form"), "{message}");
}

#[test]
fn another_checkpoint_than_the_bases_is_refused() {
    let checkpoint = shapes();
    let mut base = Out::new(&checkpoint, &Recipe::default()).info();
    assert!(BaseWeights::new(&checkpoint, &base).is_ok());
    base.source_hash = "0".repeat(64);
    let message = BaseWeights::new(&checkpoint, &base)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("is not what the base was converted from"),
        "{message}"
    );
}
