//! Stacking follows `fixtures/swift/stack.json`, which the Swift runtime follows too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use gesso_convert::adapter::{Factors, stack};
use gesso_convert::slots::{Slot, SlotModule, SlotTable};
use gesso_testkit::fixture;
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Document {
    rank: usize,
    modules: Vec<SlotModule>,
    rows: Vec<Slot>,
    adapters: Vec<Adapter>,
    cases: Vec<Case>,
    refused: Refused,
}

#[derive(Deserialize)]
struct Adapter {
    name: String,
    rank: usize,
    rows: Vec<Slot>,
    tensors: BTreeMap<String, Vec<f32>>,
}

#[derive(Deserialize)]
struct Case {
    uses: Vec<(String, f32)>,
    inputs: BTreeMap<String, Vec<f32>>,
}

#[derive(Deserialize)]
struct Refused {
    uses: Vec<(String, f32)>,
    rank: usize,
    needed: usize,
    module: String,
}

#[test]
fn stacking_gives_the_stored_inputs() {
    let text = std::fs::read_to_string(fixture("swift").join("stack.json")).unwrap();
    let document: Document = serde_json::from_str(&text).unwrap();
    let table = SlotTable::new(document.rank, document.modules);
    assert_eq!(table.rows(), document.rows);
    let adapters: BTreeMap<String, Factors> = document
        .adapters
        .into_iter()
        .map(|a| {
            let tensors = a.tensors.into_iter();
            let factors = Factors {
                adapter: a.name.clone(),
                rank: a.rank,
                rows: a.rows,
                tensors: tensors.map(|(w, t)| (format!("adapter_{w}"), t)).collect(),
            };
            (a.name, factors)
        })
        .collect();
    let uses = |list: &[(String, f32)]| -> Vec<(&Factors, f32)> {
        list.iter().map(|(name, s)| (&adapters[name], *s)).collect()
    };
    assert_eq!(document.cases.len(), 4);
    for case in document.cases {
        let made = stack(&uses(&case.uses), &table).unwrap();
        let made: BTreeMap<String, Vec<f32>> = made
            .into_iter()
            .map(|(name, tensor)| (name.trim_start_matches("adapter_").into(), tensor.data))
            .collect();
        assert_eq!(made, case.inputs, "{:?}", case.uses);
    }
    let refused = document.refused;
    let message = stack(&uses(&refused.uses), &table).unwrap_err().to_string();
    for part in [
        format!("rank {} (module `{}`)", refused.rank, refused.module),
        format!("--adapter-rank {}", refused.needed),
    ] {
        assert!(message.contains(&part), "{message}");
    }
}
