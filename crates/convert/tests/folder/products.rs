//! LoHa and LoKr in slots: factors of the products, exact up to the slots' rank.

use super::adapter::{differences, made, missed, wanted};
use super::*;
use gesso_convert::adapter::{AdapterOptions, AdapterReport, write_adapter};
use gesso_weights::{StDType, TensorRef, write_safetensors};

/// 48 × 48 in the shapes model.
const PATH: &str = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q";
const SPELLED: &str = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q";
const SIDE: usize = 48;

fn noise(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    (0..n)
        .map(|_| {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            ((state >> 40) as f32 / 8388608.0 - 1.0) * 0.3
        })
        .collect()
}

/// A file with these tensors of one module, matched to the model.
fn one(
    parts: &[(&str, [usize; 2])],
    alpha: f32,
    checkpoint: &Checkpoint,
    dir: &Path,
) -> ResolvedLora {
    let mut tensors: Vec<(String, Vec<usize>, Vec<f32>)> = parts
        .iter()
        .zip(1..)
        .map(|((part, shape), seed)| {
            let values = noise(shape[0] * shape[1], seed);
            (format!("{SPELLED}.{part}"), shape.to_vec(), values)
        })
        .collect();
    tensors.push((format!("{SPELLED}.alpha"), vec![], vec![alpha]));
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
    let path = dir.join("one.safetensors");
    write_safetensors(&path, &BTreeMap::new(), &refs).unwrap();
    Lora::open(&path)
        .unwrap()
        .resolve(&modules(checkpoint), &ResolveOptions::default())
        .unwrap()
}

fn loha(r: usize) -> [(&'static str, [usize; 2]); 4] {
    [
        ("hada_w1_a", [SIDE, r]),
        ("hada_w1_b", [r, SIDE]),
        ("hada_w2_a", [SIDE, r]),
        ("hada_w2_b", [r, SIDE]),
    ]
}

/// Report of the asset, and the share of the difference's energy that it misses.
fn in_slots(lora: &ResolvedLora, checkpoint: &Checkpoint, dir: &Path) -> (AdapterReport, f64) {
    let base = Out::new(checkpoint, &Recipe::default()).info();
    let options = AdapterOptions::default();
    let file = dir.join("report.mlmodelcassets");
    let report = write_adapter(lora, &base, &options, &file, &mut Silent).unwrap();
    let (asset, _) = made(lora, &base, dir, &options);
    let found = differences(&asset, &base, dir, 1.0);
    let name = format!("unet:{PATH}");
    let lost = missed(&wanted(lora, checkpoint, 1.0)[&name], &found[&name]);
    (report, lost)
}

#[test]
fn products_within_the_rank_are_exact() {
    let checkpoint = shapes();
    let dir = tempfile::tempdir().unwrap();
    let factored = [
        ("lokr_w1", [4, 4]),
        ("lokr_w2_a", [12, 5]),
        ("lokr_w2_b", [5, 12]),
    ];
    for (parts, word, rank) in [(&loha(5)[..], "loha", 25), (&factored[..], "lokr", 20)] {
        let lora = one(parts, 2.5, &checkpoint, dir.path());
        assert!(
            lora.algorithms().contains_key(word),
            "{:?}",
            lora.algorithms()
        );
        let (report, lost) = in_slots(&lora, &checkpoint, dir.path());
        assert_eq!(
            (report.rank["unet"], report.truncated.len()),
            (rank, 0),
            "{word}"
        );
        // fp16 factors.
        assert!(lost.sqrt() < 1e-3, "{word}: {lost}");
    }
}

#[test]
fn products_above_the_rank_are_cut_and_say_what_they_lose() {
    let checkpoint = shapes();
    let base = Out::new(&checkpoint, &Recipe::default()).info();
    let dir = tempfile::tempdir().unwrap();
    let whole = [("lokr_w1", [8, 8]), ("lokr_w2", [6, 6])];
    for (parts, word, rank) in [(&loha(7)[..], "loha", 49), (&whole[..], "lokr", 48)] {
        let lora = one(parts, 7.0, &checkpoint, dir.path());
        let (report, lost) = in_slots(&lora, &checkpoint, dir.path());
        let [cut] = &report.truncated[..] else {
            panic!("{word}: {:?}", report.truncated);
        };
        assert_eq!(
            (cut.algorithm.as_str(), cut.rank, cut.kept),
            (word, rank, 32)
        );
        assert!(
            cut.lost_energy > 1e-6 && cut.lost_energy < 0.3,
            "{word}: {cut:?}"
        );
        let apart = (lost - cut.lost_energy).abs();
        assert!(apart < 1e-3 * lost + 1e-6, "{word}: {lost} {cut:?}");
        let exact = AdapterOptions {
            exact: true,
            ..AdapterOptions::default()
        };
        let file = dir.path().join("never.mlmodelcassets");
        let refused = write_adapter(&lora, &base, &exact, &file, &mut Silent).unwrap_err();
        assert!(
            refused.to_string().contains(&format!("(rank {rank})")),
            "{refused}"
        );
    }
}
