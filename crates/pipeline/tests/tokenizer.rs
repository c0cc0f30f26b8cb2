//! The tokenizer against transformers' slow `CLIPTokenizer` with ftfy.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use gesso_pipeline::Tokenizer;
use gesso_pipeline::tokenizer::{CONTEXT, CleanUp};
use gesso_testkit::{Golden, fixture};
use serde_json::Value;
use std::fs::read_to_string;

fn tokenizer(folder: &str) -> Tokenizer {
    let read = |name: &str| read_to_string(fixture(folder).join(name)).unwrap();
    Tokenizer::from_strings(&read("vocab.json"), &read("merges.txt")).unwrap()
}

fn json(path: &str) -> Value {
    // Python writes infinities as bare words.
    let text = read_to_string(fixture(path)).unwrap();
    serde_json::from_str(&text.replace("-Infinity", "null")).unwrap()
}

fn ids(value: &Value) -> Vec<i32> {
    let values = value.as_array().unwrap();
    values.iter().map(|v| v.as_i64().unwrap() as i32).collect()
}

/// Ids of a column of the goldens against ours, cut and padded ones too.
fn check_column(tokenizer: &Tokenizer, column: &str) {
    let rows = json("goldens/tokenizer/goldens.json");
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), 454);
    let mut wrong = Vec::new();
    for row in rows {
        let text = row["text"].as_str().unwrap();
        let want = ids(row.get(column).unwrap_or(&row["ids"]));
        let found = tokenizer.encode(text);
        let (cut, truncated) = tokenizer.encode_77(text);
        let mut padded = want.clone();
        padded.resize(CONTEXT, 49407);
        padded[CONTEXT - 1] = 49407;
        if found != want || cut.as_slice() != padded || truncated != (want.len() > CONTEXT) {
            wrong.push(format!("{text:?}: {found:?} instead of {want:?}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn all_stored_prompts_give_the_ids_of_the_slow_tokenizer() {
    check_column(&tokenizer("goldens/tokenizer"), "slow_ftfy");
}

#[test]
fn all_stored_prompts_give_the_ids_without_ftfy() {
    let tokenizer = tokenizer("goldens/tokenizer").cleaning_with(CleanUp::Basic);
    check_column(&tokenizer, "slow_noftfy");
}

#[test]
fn the_shapes_vocabulary_gives_the_stored_ids() {
    // The stored ids were made without ftfy.
    let tokenizer = tokenizer("shapes/base/tokenizer").cleaning_with(CleanUp::Basic);
    assert_eq!(
        (tokenizer.start(), tokenizer.end(), tokenizer.pad()),
        (652, 653, 653)
    );
    let golden = Golden::open(fixture("shapes/golden/text_encoder.safetensors"));
    let (shape, want) = golden.get("input_ids");
    assert_eq!(shape, [5, CONTEXT]);
    let prompts = json("shapes/golden/golden.json");
    let prompts = prompts["text_encoder_prompts"].as_array().unwrap();
    for (prompt, want) in prompts.iter().zip(want.chunks_exact(CONTEXT)) {
        let (found, _) = tokenizer.encode_77(prompt.as_str().unwrap());
        let found: Vec<f64> = found.iter().map(|&id| id.into()).collect();
        assert_eq!(found, want, "{prompt}");
    }
}
