//! Every option of a recipe changes what it should, and nothing is ignored.

use super::*;
use gesso_convert::family::{Attention, Precision};
use gesso_convert::recipe::{Origin, Override, Part};
use std::collections::BTreeSet;

fn with(change: impl FnOnce(&mut Recipe)) -> Out {
    let mut recipe = Recipe {
        adapter_rank: 0,
        ..Recipe::default()
    };
    change(&mut recipe);
    Out::new(&shapes(), &recipe)
}

fn kinds(out: &Out, name: &str) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for op in out.operations(name) {
        *kinds.entry(op.kind).or_default() += 1;
    }
    kinds
}

/// (kind, name of the first output) of every const and palette.
fn palettes(out: &Out, name: &str) -> BTreeSet<String> {
    out.operations(name)
        .into_iter()
        .filter(|op| op.kind == "constexpr_lut_to_dense")
        .map(|op| op.outputs[0].name.clone())
        .collect()
}

#[test]
fn bits_palettize_layers_of_unet_and_text_encoder_only() {
    let mut sizes = Vec::new();
    for bits in [16, 8, 6, 4, 2, 1] {
        let out = with(|r| r.bits = bits);
        let info = out.info();
        assert_eq!(info.recipe.bits, bits);
        assert!(palettes(&out, "VAEDecoder").is_empty());
        assert!(palettes(&out, "VAEEncoder").is_empty());
        let unet = &info.packages["Unet"];
        assert_eq!(palettes(&out, "Unet").len(), unet.palettized.len());
        assert_eq!(unet.palettized.is_empty(), bits == 16);
        for name in info.packages["TextEncoder"].palettized.keys() {
            assert!(!name.contains("embedding"), "{name}");
        }
        for (name, (b, snr)) in &unet.palettized {
            assert!(
                name.ends_with(".weight") && !name.contains("norm"),
                "{name}"
            );
            assert_eq!(*b, bits);
            assert!(snr.unwrap() > 3.0, "{name}: {snr:?}");
        }
        sizes.push(unet.bytes_after);
    }
    assert!(sizes.is_sorted_by(|a, b| a > b), "{sizes:?}");
}

#[test]
fn weights_of_up_to_2048_elements_stay() {
    let out = with(|r| r.bits = 4);
    let unet = out
        .report
        .packages
        .iter()
        .find(|p| p.package == "Unet.mlpackage")
        .unwrap();
    for tensor in &unet.tensors {
        assert!(tensor.bits >= 16 || tensor.elements > 2048, "{tensor:?}");
    }
    let small = |t: &&gesso_convert::report::TensorReport| t.bits == 16 && t.elements <= 2048;
    assert!(
        unet.tensors
            .iter()
            .filter(small)
            .any(|t| t.key.ends_with("conv_in.weight"))
    );
}

#[test]
fn overrides_win_and_must_match() {
    let set = |pattern: &str, bits| Override {
        pattern: pattern.into(),
        bits,
    };
    let out = with(|r| {
        r.bits = 4;
        r.palettize = vec![
            set("unet:*attn1*", 8),
            set("*.to_q.weight", 16),
            set("vae:decoder.conv_in.weight", 6),
            set("*token_embedding.weight", 8),
        ];
    });
    let info = out.info();
    let unet = &info.packages["Unet"].palettized;
    assert!(unet.keys().all(|k| !k.contains("to_q")));
    let attn1 = unet
        .iter()
        .filter(|(k, _)| k.contains("attn1"))
        .collect::<Vec<_>>();
    assert!(!attn1.is_empty() && attn1.iter().all(|(_, (bits, _))| *bits == 8));
    assert!(
        unet.iter()
            .filter(|(k, _)| !k.contains("attn1"))
            .all(|(_, (bits, _))| *bits == 4)
    );
    assert_eq!(info.packages["VAEDecoder"].palettized.len(), 1);
    assert!(
        info.packages["TextEncoder"]
            .palettized
            .contains_key("text_encoder:text_model.embeddings.token_embedding.weight")
    );
    assert_eq!(info.recipe.palettize[1], ("*.to_q.weight".to_string(), 16));

    let dir = tempfile::tempdir().unwrap();
    let recipe = Recipe {
        palettize: vec![set("*.no_such_layer.*", 8)],
        ..Recipe::default()
    };
    let error = convert(&shapes(), &recipe, dir.path(), &mut Silent).unwrap_err();
    assert_eq!(
        error.to_string(),
        "palettization override `*.no_such_layer.*` matches no weight of the converted components"
    );
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn attention_precision_and_size_reach_the_program() {
    let split = with(|_| {});
    assert!(kinds(&split, "Unet").contains_key("einsum"));
    let original = with(|r| r.attention = Attention::Original);
    assert!(!kinds(&original, "Unet").contains_key("einsum"));
    assert_eq!(original.info().recipe.attention, "ORIGINAL");
    let user = Package::open(&original.package("Unet")).unwrap().model;
    let user = user.description.unwrap().metadata.unwrap().user_defined;
    assert_eq!(user["attention_implementation"], "ORIGINAL");
    assert_eq!(user["compute_unit"], "CPU_AND_GPU");

    let wide = with(|r| r.size = Some((192, 128)));
    let info = wide.info();
    assert_eq!((info.recipe.width, info.recipe.height), (192, 128));
    let shape = |name: &str, i: usize| info.packages[name].inputs[i].shape.clone();
    assert_eq!(shape("Unet", 0), [2, 4, 16, 24]);
    assert_eq!(shape("VAEDecoder", 0), [1, 4, 16, 24]);
    assert_eq!(shape("VAEEncoder", 0), [1, 3, 128, 192]);

    let fp32 = with(|r| r.precision = Precision::Fp32);
    let info = fp32.info();
    assert_eq!(info.recipe.precision, "fp32");
    assert_eq!(info.packages["Unet"].inputs[0].dtype, "fp32");
    let half = split.info().packages["Unet"].bytes_after as f64;
    let ratio = info.packages["Unet"].bytes_after as f64 / half;
    assert!((1.99..=2.0).contains(&ratio), "{ratio}");
}

#[test]
fn the_adapter_rank_is_the_rows_rank() {
    assert!(with(|_| {}).info().slots.is_empty());
    let out = with(|r| r.adapter_rank = 64);
    let info = out.info();
    assert_eq!(info.slots["unet"].rank, 64);
    let inputs = &info.packages["UnetAdaptable"].inputs;
    let slots: Vec<_> = inputs
        .iter()
        .filter(|i| i.name.starts_with("adapter_"))
        .collect();
    assert!(!slots.is_empty());
    for slot in slots {
        assert_eq!(slot.shape[1], 64);
        assert_eq!(slot.name, format!("adapter_{}", slot.shape[2]));
    }
    let other = with(|r| r.adapter_rank = 32);
    assert_eq!(
        other.info().slots["unet"].layout_hash,
        info.slots["unet"].layout_hash
    );
}

#[test]
fn parts_and_origin_are_what_was_asked_for() {
    let out = with(|r| {
        r.parts = [Part::VaeDecoder].into();
        r.origin = Origin {
            name: "shapes".into(),
            author: "us".into(),
            license: "MIT".into(),
        };
    });
    assert_eq!(
        out.info().packages.keys().collect::<Vec<_>>(),
        ["VAEDecoder"]
    );
    let model = Package::open(&out.package("VAEDecoder")).unwrap().model;
    let metadata = model.description.unwrap().metadata.unwrap();
    assert_eq!(metadata.version_string, "shapes");
    assert_eq!(metadata.author, "us");
    assert_eq!(metadata.license, "MIT");
    assert_eq!(metadata.user_defined["identifier"], "shapes");
}
