//! The dictionary against the tables of whole models, and trained files of other people.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod lora_files;

use gesso_testkit::{fixture, shared};
use gesso_weights::Component;
use gesso_weights::lora::{Format, Lora, ModuleTable};
use lora_files::{component, map_rows, modules_of_map, resolve, resolved, sd1, table_of_folder};
use std::path::Path;

/// Every spelling in a table leads to its own module; how many modules and spellings.
fn check(path: &Path) -> (usize, usize) {
    let table = ModuleTable::new(modules_of_map(path));
    let mut spellings = 0;
    for row in map_rows(path) {
        let module = (
            component(&row["component"]),
            row["diffusers_module"].as_str(),
        );
        let of = |name: &str| {
            table
                .find(name, None)
                .map(|m| (m.component, m.path.as_str()))
        };
        for column in ["kohya_diffusers_name", "kohya_ldm_name"] {
            if !row[column].is_empty() {
                assert_eq!(of(&row[column]), Some(module), "{}", row[column]);
                spellings += 1;
            }
        }
        for old in row["old_diffusers_prefix"]
            .split(" | ")
            .filter(|o| !o.is_empty())
        {
            let name = [".lora_linear_layer", "_lora"]
                .iter()
                .find_map(|end| old.strip_suffix(end))
                .unwrap();
            assert_eq!(of(name), Some(module), "{old}");
            if let Some(bare) = name.strip_prefix("unet.") {
                assert_eq!(of(bare), Some(module), "{old}");
            }
            spellings += 1;
        }
    }
    (table.modules().len(), spellings)
}

#[test]
fn every_spelling_of_sd1() {
    let (modules, spellings) = check(&fixture("lora/maps/sd1.lora-modules.tsv.gz"));
    assert_eq!(modules, 490);
    assert!(spellings > 1000, "{spellings}");
}

#[test]
fn every_spelling_of_the_larger_models() {
    for (family, count) in [("sd2", 578), ("sdxl", 1409), ("sdxl-refiner", 1002)] {
        let path = fixture(&format!("lora/maps/{family}.lora-modules.tsv.gz"));
        let (modules, _) = check(&path);
        assert_eq!(modules, count, "{family}");
    }
}

#[test]
fn kohya_files_of_the_larger_small_models() {
    for (family, file) in [("sd2", "a"), ("sd2", "b"), ("sdxl", "a"), ("sdxl", "b")] {
        let Some(model) = shared(&format!("goldens/models/{family}")) else {
            return;
        };
        let path = shared(&format!("goldens/lora/{family}/{file}.safetensors")).unwrap();
        let lora = resolved(&path, &table_of_folder(&model));
        assert_eq!(lora.applied, lora.tensors, "{family} {file}");
        assert_eq!(lora.format, Format::Kohya);
    }
}

#[test]
fn a_peft_folder_with_alpha_sixteen_over_rank_four() {
    let Some(path) = shared("lora/real/peft_r4_alpha16") else {
        return;
    };
    let lora = resolved(&path, &sd1());
    assert_eq!((lora.modules.len(), lora.applied), (128, 256));
    assert_eq!(
        lora.scales().into_iter().collect::<Vec<_>>(),
        [("4".to_string(), 128)]
    );
    assert_eq!(lora.format, Format::PeftFolder);
    assert_eq!(lora.name(), "peft_r4_alpha16");
}

#[test]
fn the_numbered_modules_of_cloneofsimo() {
    let Some(path) = shared("lora/real/simo_lora_disney_r1.safetensors") else {
        return;
    };
    let lora = resolved(&path, &sd1());
    assert_eq!(lora.format, Format::CloneOfSimo);
    assert_eq!((lora.modules.len(), lora.applied), (192, 384));
    let ignored: Vec<&str> = lora.ignored.iter().map(|i| i.key.as_str()).collect();
    assert_eq!(ignored, ["<s1>", "<s2>"]);
}

#[test]
fn numbers_stand_for_the_modules_of_the_index_table() {
    use lora_files::{Desk, Numbers, pattern};
    let text = std::fs::read_to_string(fixture("lora/maps/cloneofsimo-sd1-index.tsv")).unwrap();
    let rows: Vec<Vec<&str>> = text
        .lines()
        .skip(1)
        .map(|line| line.split('\t').collect())
        .collect();
    assert_eq!(rows.len(), 192);
    // Each pair is told apart by the value of its first element.
    let mut tensors: Vec<(String, Numbers)> = Vec::new();
    for (n, row) in rows.iter().enumerate() {
        let (out, input): (usize, usize) = (row[3].parse().unwrap(), row[4].parse().unwrap());
        let mut down = pattern(&[1, input]);
        down.1[0] = n as f32;
        tensors.push((format!("{}:{}:down", row[0], row[1]), down));
        tensors.push((format!("{}:{}:up", row[0], row[1]), pattern(&[out, 1])));
    }
    let tensors: Vec<(&str, Numbers)> = tensors
        .iter()
        .map(|(k, v)| (k.as_str(), v.clone()))
        .collect();
    let desk = Desk::new();
    let lora = resolved(&desk.file("simo.safetensors", &tensors, &[]), &sd1());
    for (n, row) in rows.iter().enumerate() {
        let adapter = lora.adapter(component(row[0]), row[2]).unwrap();
        assert_eq!(adapter.low_rank().unwrap().down[0], n as f32, "{row:?}");
    }
    let classes = [("unet", r#"["CrossAttention", "ResnetBlock2D"]"#)];
    let extended = desk.file("extended.safetensors", &tensors, &classes);
    let complaint = resolve(&extended, &sd1()).unwrap_err().to_string();
    assert!(
        complaint.contains("extended LoRA of cloneofsimo"),
        "{complaint}"
    );
}

/// The names and shapes of real files that are stored without their numbers, filled with a pattern.
#[test]
fn files_known_by_their_headers() {
    use lora_files::{Desk, Numbers, pattern};
    for (name, outcome) in [
        // Its stored name says SD1.5; its widths are those of SD2.
        (
            "lora_dot_bf16_sd15_r4",
            Err("was made for SD2 (1024), the model is SD1 (768)"),
        ),
        ("lora_dot_f32_sd15_r4", Ok(128)),
        ("old_processor_unet_prefix_sd15_r4", Ok(128)),
        (
            "old_processor_sd2_r4",
            Err("was made for SD2 (1024), the model is SD1 (768)"),
        ),
        (
            "malformed_double_prefix_sd15_r4",
            Err("none of its tensors has the name of an adapter"),
        ),
        ("ti_diffusers_1vec_768", Err("textual inversion")),
    ] {
        let Some(path) = shared(&format!("lora/headers/{name}.json")) else {
            return;
        };
        let json: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let tensors: Vec<(String, Numbers)> = json["tensors"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(key, entry)| {
                let shape: Vec<usize> = entry[1]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|n| n.as_u64().unwrap() as usize)
                    .collect();
                (key.clone(), pattern(&shape))
            })
            .collect();
        let tensors: Vec<(&str, Numbers)> = tensors
            .iter()
            .map(|(k, v)| (k.as_str(), v.clone()))
            .collect();
        let desk = Desk::new();
        let path = desk.file("case.safetensors", &tensors, &[]);
        match (resolve(&path, &sd1()), outcome) {
            (Ok(lora), Ok(count)) => assert_eq!(lora.modules.len(), count, "{name}"),
            (Err(e), Err(words)) => assert!(e.to_string().contains(words), "{name}: {e}"),
            (got, _) => panic!("{name}: {:?}", got.map(|l| l.modules.len())),
        }
    }
}

#[test]
fn a_name_of_two_components_goes_where_the_configuration_says() {
    use lora_files::{Desk, module_of, pattern};
    let path = "text_model.encoder.layers.0.self_attn.q_proj";
    let table = ModuleTable::new([
        module_of(Component::TextEncoder, path, &[768, 768]),
        module_of(Component::TextEncoder2, path, &[768, 768]),
    ]);
    let (a, b) = (
        format!("base_model.model.{path}.lora_A.weight"),
        format!("base_model.model.{path}.lora_B.weight"),
    );
    let tensors = [
        (a.as_str(), pattern(&[4, 768])),
        (b.as_str(), pattern(&[768, 4])),
    ];
    for (class, component) in [
        ("CLIPTextModel", Component::TextEncoder),
        ("CLIPTextModelWithProjection", Component::TextEncoder2),
    ] {
        let desk = Desk::new();
        let config = format!(r#"{{"auto_mapping": {{"base_model_class": "{class}"}}}}"#);
        let folder = desk.peft(&tensors, &config);
        assert_eq!(Lora::open(&folder).unwrap().format(), Format::PeftFolder);
        let lora = resolved(&folder, &table);
        assert!(lora.adapter(component, path).is_some(), "{class}");
    }
}
