//! Texts with random damage: the parser answers with a program or an error, never with a panic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use gesso_mil::text::{parse, print};
use std::fs;

/// Xorshift with a fixed seed: every run damages the same bytes.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n.max(1) as u64) as usize
    }
}

/// Pieces that mean something to the parser.
const WORDS: &[&str] = &[
    "tensor<",
    "tuple<",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "<",
    ">",
    ",",
    ";",
    "=",
    "->",
    "\"",
    "\\",
    "?",
    "-",
    "0x",
    "0x1p+99999",
    "18446744073709551616",
    "-1",
    "nan",
    "uint4",
    "state<",
    "BLOBFILE",
    "é",
    "\u{0}",
    "func",
    "[0, 99999999999]",
    "program(1.3)",
];

fn damage(text: &str, random: &mut Random) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for _ in 0..=random.below(3) {
        let at = random.below(chars.len());
        let end = (at + random.below(40)).min(chars.len());
        let piece: Vec<char> = match random.below(5) {
            0 => Vec::new(),
            1 => WORDS[random.below(WORDS.len())].chars().collect(),
            2 => chars[at..end]
                .iter()
                .chain(&chars[at..end])
                .copied()
                .collect(),
            3 => {
                let from = random.below(chars.len());
                chars[from..(from + 30).min(chars.len())].to_vec()
            }
            _ => vec![char::from(random.below(128) as u8)],
        };
        let end = if random.below(2) == 0 { at } else { end };
        chars.splice(at..end, piece);
        if random.below(20) == 0 {
            chars.truncate(at);
        }
        if chars.is_empty() {
            break;
        }
    }
    chars.into_iter().collect()
}

#[test]
fn damaged_texts_never_panic_and_what_parses_prints_stably() {
    let samples = gesso_testkit::fixture("formats/samples");
    let mut texts = Vec::new();
    for name in [
        "stateful_ios18",
        "lut4_pertensor_ios16",
        "lut2_pertensor_ios18",
        "multifunction_ios18",
    ] {
        texts.push(fs::read_to_string(samples.join(name).join("program.mil.txt")).unwrap());
    }
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut read, mut refused) = (0, 0);
    for round in 0..4000 {
        let text = damage(&texts[round % texts.len()], &mut random);
        match parse(&text) {
            Err(_) => refused += 1,
            Ok((program, style)) => {
                read += 1;
                if let Ok(printed) = print(&program, style) {
                    let (again, _) = parse(&printed).unwrap_or_else(|e| panic!("{e}\n{printed}"));
                    assert_eq!(print(&again, style).unwrap(), printed);
                }
            }
        }
    }
    // Both ways are taken often enough to mean something.
    assert!(
        read > 100 && refused > 1000,
        "{read} read, {refused} refused"
    );
}
