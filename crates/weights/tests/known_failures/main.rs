//! Public failures of LoRA and checkpoint loaders, each with a tiny input and the right answer. The numbers are those of
//! `docs/lora.md`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod checkpoints;
#[path = "../lora_files/mod.rs"]
mod lora_files;
mod names;
mod numbers;

use gesso_testkit::fixture;
use std::collections::BTreeMap;

/// Every entry of the page names a test of this folder, and every test stands on the page.
#[test]
fn the_page_lists_every_test() {
    let root = fixture("..");
    let page = std::fs::read_to_string(root.join("docs/lora.md")).unwrap();
    let mut entries = BTreeMap::new();
    for line in page.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, number, _, test, _] = cells[..] else {
            continue;
        };
        if let Ok(number) = number.parse::<u32>() {
            entries.insert(number, test.trim_matches('`').to_string());
        }
    }
    assert_eq!(
        entries.keys().copied().collect::<Vec<_>>(),
        (1..=26).collect::<Vec<_>>()
    );
    let mut tests: Vec<&str> = [
        include_str!("checkpoints.rs"),
        include_str!("names.rs"),
        include_str!("numbers.rs"),
    ]
    .iter()
    .flat_map(|source| source.lines())
    .filter_map(|line| line.strip_prefix("fn known_failure_")?.split('(').next())
    .collect();
    tests.sort_unstable();
    let listed: Vec<&str> = entries
        .values()
        .map(|test| test.strip_prefix("known_failure_").unwrap())
        .collect();
    assert_eq!(listed, tests);
}
