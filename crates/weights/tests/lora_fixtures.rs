//! One layer per file: base, adapter and the merged weight that LyCORIS or PEFT computed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod lora_files;

use gesso_testkit::{Golden, fixture};
use gesso_weights::Component;
use gesso_weights::lora::{Adapter, ModuleTable};
use lora_files::{Desk, Numbers, merged, module, relative_error, resolved};

const LAYER: &str = "down_blocks.0.attentions.0.proj_in";
/// The libraries themselves ran in f32.
const WORST: f64 = 1e-5;
const CASES: usize = 69;

fn names() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(fixture("lora/fixtures"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names.len(), CASES);
    names
}

/// The adapter tensors of a case under the names of one module, and its adapter. PEFT keeps alpha in its configuration.
fn adapter(case: &str, golden: &Golden) -> Adapter {
    let table = ModuleTable::new([module(LAYER, &golden.shape("base.weight"))]);
    let prefix = if case.starts_with("peft_") {
        format!("base_model.model.{LAYER}.")
    } else {
        format!("lora_unet_{}.", LAYER.replace('.', "_"))
    };
    let tensors: Vec<(String, Numbers)> = golden
        .names()
        .filter_map(|name| {
            let end = name.strip_prefix("adapter.")?;
            Some((
                format!("{prefix}{end}"),
                (golden.shape(name), golden.f32(name)),
            ))
        })
        .collect();
    let tensors: Vec<(&str, Numbers)> = tensors
        .iter()
        .map(|(k, v)| (k.as_str(), v.clone()))
        .collect();
    let desk = Desk::new();
    let path = if case.starts_with("peft_") {
        desk.peft(&tensors, &config(case, golden))
    } else {
        desk.file("case.safetensors", &tensors, &[])
    };
    let lora = resolved(&path, &table);
    assert_eq!(lora.applied, tensors.len(), "{case}");
    lora.adapter(Component::Unet, LAYER).unwrap().clone()
}

/// Scale 0.5 for all PEFT cases, 1 for the rank-stabilised ones.
fn config(case: &str, golden: &Golden) -> String {
    if case.contains("ia3") {
        let feedforward = if case.ends_with("_in") {
            "[\"proj_in\"]"
        } else {
            "[]"
        };
        return format!(r#"{{"peft_type": "IA3", "feedforward_modules": {feedforward}}}"#);
    }
    let rank = ["lora_A.weight", "hada_w1_b", "lokr_w2_b", "lokr_w1_b"]
        .iter()
        .map(|end| format!("adapter.{end}"))
        .find(|name| golden.has(name))
        .map(|name| golden.shape(&name)[0])
        .unwrap();
    let kind = ["loha", "lokr"]
        .iter()
        .find(|k| case.contains(*k))
        .map_or("LORA".to_string(), |k| k.to_uppercase());
    let key = if kind == "LORA" {
        "lora_alpha"
    } else {
        "alpha"
    };
    let (alpha, rslora) = if case.contains("rslora") {
        ((rank as f64).sqrt(), true)
    } else {
        (rank as f64 * 0.5, false)
    };
    format!(r#"{{"peft_type": "{kind}", "r": {rank}, "{key}": {alpha}, "use_rslora": {rslora}}}"#)
}

#[test]
fn every_case_equals_the_library_that_made_it() {
    for name in names() {
        let golden = Golden::open(fixture(&format!("lora/fixtures/{name}")));
        let case = name.trim_end_matches(".safetensors");
        let adapter = adapter(case, &golden);
        let base = golden.f32("base.weight");
        let delta = adapter.delta(&base, &golden.shape("base.weight")).unwrap();
        let got = merged(&golden, "base.weight", &delta);
        let error = relative_error(golden.get("expected.weight").1, &got);
        println!("{case:32} {:14} {error:.1e}", adapter.algorithm());
        assert!(error <= WORST, "{case}: {error:e}");
        assert!(delta.iter().any(|d| *d != 0.0), "{case} changes nothing");
        if golden.has("expected.bias") {
            let base = golden.f32("base.bias");
            let delta = adapter.bias_delta(&base).unwrap().unwrap();
            let got = merged(&golden, "base.bias", &delta);
            assert!(
                relative_error(golden.get("expected.bias").1, &got) <= WORST,
                "{case}"
            );
        }
    }
}

#[test]
fn exact_factors_multiply_to_the_same_difference() {
    let mut with_factors = 0;
    for name in names() {
        let golden = Golden::open(fixture(&format!("lora/fixtures/{name}")));
        let case = name.trim_end_matches(".safetensors");
        let adapter = adapter(case, &golden);
        let base = golden.f32("base.weight");
        let delta = adapter.delta(&base, &golden.shape("base.weight")).unwrap();
        let Some(factors) = adapter.low_rank() else {
            let dense = ["dora", "glora", "ia3", "oft", "norm", "full"];
            assert!(dense.iter().any(|w| case.contains(w)), "{case}");
            continue;
        };
        let reference: Vec<f64> = delta.iter().map(|&d| d.into()).collect();
        assert!(
            relative_error(&reference, &factors.delta()) <= WORST,
            "{case}"
        );
        assert!(!adapter.reads_base(), "{case}");
        with_factors += 1;
    }
    assert!(with_factors > 25, "{with_factors}");
}

#[test]
fn the_bias_of_peft_is_scaled_like_the_weight() {
    let golden = Golden::open(fixture("lora/fixtures/peft_lora_bias_lin.safetensors"));
    let adapter = adapter("peft_lora_bias_lin", &golden);
    let delta = adapter.bias_delta(&[0.0; 24]).unwrap().unwrap();
    let half: Vec<f32> = golden
        .f32("adapter.lora_B.bias")
        .iter()
        .map(|b| b * 0.5)
        .collect();
    assert_eq!(delta, half);
}
