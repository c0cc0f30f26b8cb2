//! CLIP's tokenizer: byte-level byte-pair encoding of cleaned, lower-case text.
//!
//! Gives the ids of transformers' slow `CLIPTokenizer`, by default as with ftfy installed.

mod bpe;
mod symbols;

use crate::{EncodedPrompt, Error, Prompt, Result, text};
use bpe::Merges;
use regex::Regex;
use std::collections::BTreeMap;

/// Tokens of a prompt that the text encoder takes, `<|startoftext|>` and `<|endoftext|>` included.
pub const CONTEXT: usize = 77;

const START: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";

/// What becomes one word: the special tokens, contractions, runs of letters, single digits, runs of anything else.
const WORDS: &str = r"(?i)<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// What happens to a prompt before it is split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CleanUp {
    /// Wrong encodings, HTML references, ligatures, widths, quotes and controls are repaired: transformers' slow
    /// tokenizer with ftfy, like the original CLIP.
    #[default]
    Ftfy,
    /// Controls are removed and Chinese characters stand alone: transformers' slow tokenizer without ftfy.
    Basic,
}

/// A CLIP vocabulary, ready to encode.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    ids: BTreeMap<String, i32>,
    merges: Merges,
    words: Regex,
    start: i32,
    end: i32,
    pad: i32,
    clean_up: CleanUp,
}

impl Tokenizer {
    /// Reads the texts of `vocab.json` (token → id) and `merges.txt` (a version line, then a pair per line).
    ///
    /// The ids of `<|startoftext|>` and `<|endoftext|>` come from the vocabulary; shorter prompts are padded with the
    /// latter.
    ///
    /// Errors: `Vocabulary`, `Merges`.
    pub fn from_strings(vocab_json: &str, merges_txt: &str) -> Result<Self> {
        let refuse = |reason: String| Error::Vocabulary { reason };
        let ids: BTreeMap<String, i32> =
            serde_json::from_str(vocab_json).map_err(|e| refuse(e.to_string()))?;
        if let Some((token, id)) = ids.iter().filter(|(_, id)| **id < 0).min() {
            return Err(refuse(format!("token `{token}` has the negative id {id}")));
        }
        let special = |token: &str| {
            let id = ids.get(token).copied();
            id.ok_or_else(|| refuse(format!("there is no token `{token}`")))
        };
        let (start, end) = (special(START)?, special(END)?);
        let merges = Merges::parse(merges_txt, |symbol| ids.contains_key(symbol))?;
        let words = Regex::new(WORDS).map_err(|e| refuse(e.to_string()))?;
        Ok(Self {
            ids,
            merges,
            words,
            start,
            end,
            pad: end,
            clean_up: CleanUp::Ftfy,
        })
    }

    /// The same tokenizer, padding with another token: `!` for OpenCLIP encoders (SD 2, SDXL's second).
    ///
    /// Errors: `Vocabulary` when there is no such token.
    pub fn padding_with(mut self, token: &str) -> Result<Self> {
        self.pad = self.id(token).ok_or_else(|| Error::Vocabulary {
            reason: format!("there is no token `{token}`"),
        })?;
        Ok(self)
    }

    /// The same tokenizer with another clean-up.
    pub fn cleaning_with(mut self, clean_up: CleanUp) -> Self {
        self.clean_up = clean_up;
        self
    }

    /// The id of a token as `vocab.json` spells it.
    pub fn id(&self, token: &str) -> Option<i32> {
        self.ids.get(token).copied()
    }

    /// Id of `<|startoftext|>`.
    pub fn start(&self) -> i32 {
        self.start
    }

    /// Id of `<|endoftext|>`.
    pub fn end(&self) -> i32 {
        self.end
    }

    /// Id that fills up short prompts.
    pub fn pad(&self) -> i32 {
        self.pad
    }

    /// All ids of a prompt from `<|startoftext|>` to `<|endoftext|>`, neither cut nor padded.
    ///
    /// The names of these two tokens inside of a prompt stand for themselves. What the vocabulary does not know
    /// becomes `<|endoftext|>`.
    pub fn encode(&self, prompt: &str) -> Vec<i32> {
        let mut ids = vec![self.start];
        let mut rest = prompt;
        while let Some((at, special)) = [START, END]
            .into_iter()
            .filter_map(|special| Some((rest.find(special)?, special)))
            .min()
        {
            let (before, after) = rest.split_at(at);
            self.encode_text(before, &mut ids);
            ids.push(self.special(special));
            rest = after.get(special.len()..).unwrap_or("");
        }
        self.encode_text(rest, &mut ids);
        ids.push(self.end);
        ids
    }

    /// The prompt's ids, cut or padded to [`CONTEXT`], and whether it was cut. A cut prompt still ends with
    /// `<|endoftext|>`.
    pub fn encode_77(&self, prompt: &str) -> ([i32; CONTEXT], bool) {
        let all = self.encode(prompt);
        let mut ids = [self.pad; CONTEXT];
        for (to, from) in ids.iter_mut().zip(&all) {
            *to = *from;
        }
        let truncated = all.len() > CONTEXT;
        if truncated && let Some(last) = ids.last_mut() {
            *last = self.end;
        }
        (ids, truncated)
    }

    /// The ids of a prompt with weights, cut or padded to [`CONTEXT`] as [`encode_77`](Self::encode_77) does it.
    ///
    /// Each part is split into words on its own. A prompt of one part has the ids of its text.
    pub fn encode_prompt(&self, prompt: &Prompt) -> EncodedPrompt {
        let (mut ids, mut weights) = (vec![self.start], vec![1.0]);
        for part in &prompt.parts {
            let all = self.encode(&part.text);
            ids.extend(all.iter().skip(1).take(all.len().saturating_sub(2)));
            weights.resize(ids.len(), part.weight);
        }
        let truncated = ids.len() + 1 > CONTEXT;
        ids.truncate(CONTEXT - 1);
        weights.truncate(CONTEXT - 1);
        ids.push(self.end);
        ids.resize(CONTEXT, self.pad);
        weights.resize(CONTEXT, 1.0);
        EncodedPrompt {
            ids,
            weights,
            truncated,
        }
    }

    fn special(&self, name: &str) -> i32 {
        if name == START { self.start } else { self.end }
    }

    fn encode_text(&self, piece: &str, ids: &mut Vec<i32>) {
        let cleaned = match self.clean_up {
            CleanUp::Ftfy => text::fixes::cleaned(piece),
            CleanUp::Basic => text::basic::cleaned(piece),
        };
        let spaced: Vec<&str> = cleaned.split_whitespace().collect();
        let lower = spaced.join(" ").to_lowercase();
        for word in self.words.find_iter(&lower).map(|m| m.as_str()) {
            if word == START || word == END {
                ids.push(self.special(word));
                continue;
            }
            let tokens = self.merges.tokens(symbols::of_word(word));
            ids.extend(
                tokens
                    .iter()
                    .map(|token| self.id(token).unwrap_or(self.end)),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MERGES: &str = "#version: 0.2\na b\nab c</w>\n";

    fn vocabulary(more: &str) -> String {
        format!(r#"{{"a":0,"b":1,"ab":2,"abc</w>":3,"{START}":4,"{END}":5{more}}}"#)
    }

    #[test]
    fn merges_apply_in_their_order_and_unknown_symbols_end_the_text() {
        let tokenizer = Tokenizer::from_strings(&vocabulary(""), MERGES).unwrap();
        assert_eq!(tokenizer.encode("abc"), [4, 3, 5]);
        assert_eq!(tokenizer.encode("abab"), [4, 2, 0, 5, 5]);
        assert_eq!(tokenizer.encode(&format!("abc{END}abc")), [4, 3, 5, 3, 5]);
    }

    #[test]
    fn padding_and_cutting() {
        let tokenizer = Tokenizer::from_strings(&vocabulary(""), MERGES)
            .unwrap()
            .padding_with("a")
            .unwrap();
        let (ids, truncated) = tokenizer.encode_77("abc");
        assert_eq!((&ids[..4], truncated), (&[4, 3, 5, 0][..], false));
        let (ids, truncated) = tokenizer.encode_77(&"abc ".repeat(75));
        assert_eq!((ids[76], ids[75], truncated), (5, 3, false));
        let (ids, truncated) = tokenizer.encode_77(&"abc ".repeat(76));
        assert_eq!((ids[76], ids[75], truncated), (5, 3, true));
        assert!(tokenizer.padding_with("!").is_err());
    }

    #[test]
    fn hostile_vocabularies_are_errors() {
        let long = vocabulary(r#","x":2147483648"#);
        let negative = vocabulary(r#","x":-1"#);
        let fraction = vocabulary(r#","x":1.5"#);
        let texts = [
            "",
            "[]",
            "{",
            "{}",
            "null",
            "{\"a\":\"b\"}",
            r#"{"<|startoftext|>":1}"#,
            &long,
            &negative,
            &fraction,
        ];
        for vocab in texts {
            let found = Tokenizer::from_strings(vocab, MERGES);
            assert!(matches!(found, Err(Error::Vocabulary { .. })), "{vocab}");
        }
    }

    #[test]
    fn hostile_merges_are_errors() {
        for (merges, at) in [
            ("v\na", 2),
            ("v\na b\n\nab c</w>", 3),
            ("v\na b c", 2),
            ("v\na b\nb a", 3),
            ("v\n\u{0}\u{1}", 2),
        ] {
            match Tokenizer::from_strings(&vocabulary(""), merges) {
                Err(Error::Merges { line, .. }) => assert_eq!(line, at, "{merges}"),
                other => panic!("{merges}: {other:?}"),
            }
        }
        assert!(Tokenizer::from_strings(&vocabulary(""), "").is_ok());
    }
}
