//! Prompts with weights and adapters against the written-out cases that the Swift twin reads too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use gesso_pipeline::prompt::{Part, Prompt, emphasised};
use gesso_pipeline::{Error, Tokenizer};
use gesso_testkit::fixture;
use serde_json::Value;

fn cases(name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(fixture("text/prompts.json")).unwrap();
    let all: Value = serde_json::from_str(&text).unwrap();
    all[name].as_array().unwrap().clone()
}

#[test]
fn every_written_case_is_read_as_it_says() {
    let cases = cases("prompts");
    assert_eq!(cases.len(), 80);
    for case in cases {
        let text = case["text"].as_str().unwrap();
        match (Prompt::parse(text), case["error"].as_str()) {
            (Err(Error::Prompt { found, .. }), Some(want)) => assert_eq!(found, want, "{text}"),
            (Ok((prompt, mentions)), None) => {
                let parts: Vec<(String, f64)> =
                    serde_json::from_value(case["parts"].clone()).unwrap();
                let found: Vec<_> = prompt.parts.iter().map(|p| &p.text).collect();
                let want: Vec<_> = parts.iter().map(|(t, _)| t).collect();
                assert_eq!(found, want, "{text}");
                // The JSON reader may miss a number by its last bit.
                let off =
                    |((_, w), p): (&(String, f64), &Part)| (w - p.weight).abs() > 4e-16 * w.abs();
                assert!(
                    !parts.iter().zip(&prompt.parts).any(off),
                    "{text}: {prompt:?}"
                );
                let adapters: Vec<(String, f64)> =
                    serde_json::from_value(case["adapters"].clone()).unwrap();
                let found: Vec<_> = mentions.into_iter().map(|m| (m.name, m.strength)).collect();
                assert_eq!(found, adapters, "{text}");
            }
            (found, want) => panic!("{text}: {found:?} instead of {want:?}"),
        }
    }
}

#[test]
fn negative_prompts_name_no_adapters() {
    assert_eq!(
        Prompt::parse_negative("(a)").unwrap().parts,
        [Part {
            text: "a".into(),
            weight: 1.1
        }]
    );
    assert_eq!(
        Prompt::parse_negative("a <lora:sketch:1>")
            .unwrap_err()
            .to_string(),
        "`<lora:sketch>` in the prompt: a negative prompt cannot name adapters"
    );
}

#[test]
fn weights_scale_the_rows_and_keep_the_mean() {
    for case in cases("emphasis") {
        let numbers =
            |name: &str| -> Vec<f64> { serde_json::from_value(case[name].clone()).unwrap() };
        let states: Vec<f32> = numbers("states").iter().map(|&x| x as f32).collect();
        let want: Vec<f32> = numbers("out").iter().map(|&x| x as f32).collect();
        assert_eq!(emphasised(&states, &numbers("weights")), want, "{case}");
    }
}

#[test]
fn parts_become_one_row_of_weighted_tokens() {
    let read =
        |name: &str| std::fs::read_to_string(fixture("shapes/base/tokenizer").join(name)).unwrap();
    let tokenizer = Tokenizer::from_strings(&read("vocab.json"), &read("merges.txt")).unwrap();
    let of = |text: &str| tokenizer.encode_prompt(&Prompt::parse(text).unwrap().0);
    for text in ["", "a large red star on cream", &"star ".repeat(80)] {
        let (ids, truncated) = tokenizer.encode_77(text);
        let found = of(text);
        assert_eq!(
            (found.ids.as_slice(), found.truncated),
            (&ids[..], truncated)
        );
        assert!(found.weights.iter().all(|&w| w == 1.0));
        assert_eq!(found.weights.len(), ids.len());
    }
    let (plain, _) = tokenizer.encode_77("a red star");
    let found = of("a (red:1.5) star");
    assert_eq!(found.ids, plain);
    assert_eq!(found.weights[..5], [1.0, 1.0, 1.5, 1.0, 1.0]);
    let cut = of(&format!("(a:2) {}", "star ".repeat(80)));
    assert!(cut.truncated);
    assert_eq!((cut.ids.len(), cut.ids[76]), (77, tokenizer.end()));
    assert_eq!((cut.weights[1], cut.weights[76]), (2.0, 1.0));
}
