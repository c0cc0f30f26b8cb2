//! One LoRA in twelve spellings, four files written by LyCORIS, and the kohya and diffusers files of the small models.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod lora_files;

use gesso_testkit::{Golden, fixture};
use gesso_weights::lora::{Format, Lora, ModuleTable, ResolveOptions, ResolvedLora};
use gesso_weights::{Checkpoint, Component, OpenOptions};
use lora_files::{component, merged, relative_error, resolved, table_of_folder};

const EQUIV: &str = "lora/equiv";
/// f32 against f32 of another order.
const SAME: f64 = 1e-5;
/// Expected results stored in f16.
const STORED_F16: f64 = 5e-4;

/// (spelling, result, format)
const SPELLINGS: &[(&str, &str, Format)] = &[
    ("kohya_diffusers_names", "all_alpha", Format::Kohya),
    ("kohya_ldm_names", "all_alpha", Format::Kohya),
    ("kohya_te1_prefix", "all_alpha", Format::Kohya),
    ("lycoris_prefix", "all_alpha", Format::Lycoris),
    ("generic_ldm_dotted", "all_alpha", Format::Generic),
    ("peft_metadata_alpha", "all_alpha", Format::DiffusersPeft),
    ("kohya_noalpha", "all_scale1", Format::Kohya),
    ("peft_noalpha", "all_scale1", Format::DiffusersPeft),
    ("peft_default", "all_scale1", Format::DiffusersPeft),
    ("diffusers_lora_dot", "all_scale1", Format::DiffusersMid),
    (
        "old_processor_noprefix",
        "attn_scale1",
        Format::DiffusersOld,
    ),
    (
        "old_processor_unet_prefix",
        "attn_scale1",
        Format::DiffusersOld,
    ),
];

fn base(of: Component) -> Golden {
    let file = match of {
        Component::Unet => "unet/diffusion_pytorch_model.safetensors",
        _ => "text_encoder/model.safetensors",
    };
    Golden::open(fixture(&format!("{EQUIV}/base_diffusers/{file}")))
}

fn table() -> ModuleTable {
    table_of_folder(&fixture(&format!("{EQUIV}/base_diffusers")))
}

/// Compares every tensor of `expected` with base + delta; how many there were, and the worst relative error.
fn compare(lora: &ResolvedLora, expected: &Golden, allowed: f64) -> (usize, f64) {
    let (unet, text) = (base(Component::Unet), base(Component::TextEncoder));
    let mut worst = 0.0f64;
    let mut count = 0;
    for name in expected.names() {
        let (word, tensor) = name.split_once('.').unwrap();
        let (path, kind) = tensor.rsplit_once('.').unwrap();
        let of = component(word);
        let base = if of == Component::Unet { &unet } else { &text };
        let adapter = lora
            .adapter(of, path)
            .unwrap_or_else(|| panic!("{name} is not adapted"));
        let delta = match kind {
            "weight" => adapter
                .delta(&base.f32(tensor), &base.shape(tensor))
                .unwrap(),
            _ => adapter.bias_delta(&base.f32(tensor)).unwrap().unwrap(),
        };
        let error = relative_error(expected.get(name).1, &merged(base, tensor, &delta));
        assert!(error <= allowed, "{name}: {error:e}");
        worst = worst.max(error);
        count += 1;
    }
    (count, worst)
}

#[test]
fn twelve_spellings_of_one_lora() {
    let table = table();
    for (spelling, result, format) in SPELLINGS {
        let path = fixture(&format!("{EQUIV}/lora_{spelling}.safetensors"));
        let lora = resolved(&path, &table);
        let expected = Golden::open(fixture(&format!("{EQUIV}/expected_{result}.safetensors")));
        let (count, worst) = compare(&lora, &expected, SAME);
        println!("{spelling:28} {count:3} {worst:.1e}");
        assert_eq!(lora.modules.len(), count, "{spelling}");
        assert_eq!(lora.applied, lora.tensors, "{spelling}");
        assert_eq!(lora.format, *format, "{spelling}");
    }
}

#[test]
fn spellings_of_one_group_give_the_same_bits() {
    let table = table();
    for group in ["all_alpha", "all_scale1", "attn_scale1"] {
        let factors: Vec<_> = SPELLINGS
            .iter()
            .filter(|(_, result, _)| *result == group)
            .map(|(spelling, ..)| {
                let path = fixture(&format!("{EQUIV}/lora_{spelling}.safetensors"));
                let lora = resolved(&path, &table);
                lora.modules
                    .iter()
                    .map(|(key, a)| (key.clone(), a.low_rank().unwrap()))
                    .collect::<Vec<_>>()
            })
            .collect();
        assert!(factors.windows(2).all(|w| w[0] == w[1]), "{group}");
    }
}

#[test]
fn files_written_by_lycoris() {
    let table = table();
    for (name, word) in [
        ("lokr", "lokr"),
        ("loha", "loha"),
        ("locon_tucker", "locon-tucker"),
        ("dora", "dora(lora)"),
    ] {
        let path = fixture(&format!("{EQUIV}/writer_lycoris_{name}.safetensors"));
        let lora = resolved(&path, &table);
        let expected = Golden::open(fixture(&format!(
            "{EQUIV}/writer_lycoris_{name}.expected.safetensors"
        )));
        let (count, worst) = compare(&lora, &expected, STORED_F16);
        println!("{name:14} {count} {worst:.1e} {:?}", lora.algorithms());
        assert_eq!(lora.modules.len(), 354, "{name}");
        assert_eq!(lora.applied, lora.tensors, "{name}");
        assert!(
            lora.algorithms().contains_key(word),
            "{:?}",
            lora.algorithms()
        );
        assert!(lora.algorithms()["norm"] > 80);
    }
}

/// (modules of the UNet, of the text encoders)
fn counts(lora: &ResolvedLora) -> (usize, usize) {
    let unet = lora
        .modules
        .keys()
        .filter(|(c, _)| *c == Component::Unet)
        .count();
    (unet, lora.modules.len() - unet)
}

#[test]
fn kohya_files_of_the_small_models() {
    let table = table_of_folder(&fixture("goldens/models/sd1"));
    for (file, expected) in [("a", (192, 18)), ("b", (122, 6))] {
        let lora = resolved(
            &fixture(&format!("goldens/lora/sd1/{file}.safetensors")),
            &table,
        );
        assert_eq!(counts(&lora), expected, "{file}");
        assert_eq!(lora.applied, lora.tensors, "{file}");
        assert!(
            lora.scales().len() > 1,
            "alpha differs from module to module"
        );
    }
}

#[test]
fn adapters_of_the_shapes_model() {
    let table = table_of_folder(&fixture("shapes/base"));
    for (name, modules, format) in [
        ("sketch", 120, Format::Kohya),
        ("pixel", 120, Format::DiffusersPeft),
        ("watercolor", 144, Format::DiffusersMid),
    ] {
        let path = fixture(&format!("shapes/lora/{name}.safetensors"));
        let lora = resolved(&path, &table);
        assert_eq!(lora.modules.len(), modules, "{name}");
        assert_eq!(lora.format, format, "{name}");
        assert_eq!(lora.name(), name);
        let scale = match name {
            "sketch" => "0.5",
            "pixel" => "2",
            _ => "1",
        };
        assert_eq!(lora.scales().keys().collect::<Vec<_>>(), [scale], "{name}");
    }
}

#[test]
fn patterns_leave_tensors_out_and_are_recorded() {
    let table = table();
    let path = fixture(&format!("{EQUIV}/lora_kohya_diffusers_names.safetensors"));
    let options = ResolveOptions {
        ignore: vec!["lora_te_*".into()],
    };
    let lora = Lora::open(&path)
        .unwrap()
        .resolve(&table, &options)
        .unwrap();
    assert!(!lora.touches(Component::TextEncoder));
    assert_eq!(lora.ignored.len(), 6);
    assert!(
        lora.ignored
            .iter()
            .all(|i| i.reason == "pattern `lora_te_*`")
    );
    assert_eq!(lora.applied + lora.ignored.len(), lora.tensors);
}

#[test]
fn tables_of_checkpoints_in_both_layouts() {
    let open = |name: &str| {
        let path = fixture(&format!("{EQUIV}/{name}"));
        let checkpoint = Checkpoint::open(&path, &OpenOptions::default()).unwrap();
        ModuleTable::of_checkpoint(&checkpoint)
    };
    let by_hand = table();
    for name in ["base_diffusers", "base_ldm.safetensors"] {
        let table = open(name);
        assert_eq!(table.modules().len(), by_hand.modules().len(), "{name}");
        for spelling in [
            "kohya_ldm_names",
            "generic_ldm_dotted",
            "peft_metadata_alpha",
        ] {
            let path = fixture(&format!("{EQUIV}/lora_{spelling}.safetensors"));
            assert_eq!(
                resolved(&path, &table).modules.len(),
                17,
                "{name} {spelling}"
            );
        }
    }
}
