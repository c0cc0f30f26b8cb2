//! Prompts as people write them: weights in brackets and adapters by name.
//!
//! | written | means |
//! |---|---|
//! | `(word)` | weight × 1.1, nested brackets multiply |
//! | `(word:1.3)` | weight × 1.3 |
//! | `[word]` | weight ÷ 1.1 |
//! | `\(` `\)` `\[` `\]` `\\` | the character itself; any other backslash is dropped |
//! | `<lora:sketch>` `<lora:sketch:0.8>` | the adapter `sketch`, with strength 1 or 0.8; taken out of the text |
//!
//! A bracket that is never closed ends with the text; one that was never opened stands for itself. Round and square
//! brackets are matched separately. Source: the syntax that AUTOMATIC1111's web UI documents ("Attention/emphasis");
//! of its other forms, prompt editing `[a:b:0.5]`, alternation `[a|b]`, `AND` and `BREAK` are errors.

mod emphasis;
mod mentions;

pub use emphasis::emphasised;
pub use mentions::Mention;

use crate::{Error, Result};

/// What one more round bracket multiplies a weight by.
const ROUND: f64 = 1.1;

/// What one more square bracket multiplies a weight by.
const SQUARE: f64 = 1.0 / 1.1;

/// A piece of a prompt and the weight of its tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// The text, brackets and backslashes resolved.
    pub text: String,
    /// Its weight; 1 is plain.
    pub weight: f64,
}

/// A prompt in pieces of equal weight.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prompt {
    /// The pieces in order; neighbours differ in weight. None for an empty prompt.
    pub parts: Vec<Part>,
}

impl Prompt {
    /// A text without any syntax.
    pub fn plain(text: impl Into<String>) -> Self {
        let text = text.into();
        let part = Part { text, weight: 1.0 };
        Self {
            parts: Vec::from_iter((!part.text.is_empty()).then_some(part)),
        }
    }

    /// Reads the syntax above; the adapters come beside the prompt, in their order.
    ///
    /// Errors: `Prompt` for syntax that is not supported and numbers that are none.
    pub fn parse(text: &str) -> Result<(Self, Vec<Mention>)> {
        let (text, mentions) = mentions::taken_out(text)?;
        refuse_words(&text)?;
        let parts = weighted(&text)?;
        Ok((Self { parts }, mentions))
    }

    /// [`parse`](Self::parse) where adapters cannot be named: a negative prompt.
    ///
    /// Errors: also `Prompt` when one is.
    pub fn parse_negative(text: &str) -> Result<Self> {
        let (prompt, mentions) = Self::parse(text)?;
        match mentions.first() {
            None => Ok(prompt),
            Some(mention) => Err(Error::Prompt {
                found: format!("<lora:{}>", mention.name),
                reason: "a negative prompt cannot name adapters",
            }),
        }
    }
}

/// `AND` and `BREAK` join prompts in the web UI.
fn refuse_words(text: &str) -> Result<()> {
    let found = text
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .find(|word| matches!(*word, "AND" | "BREAK"));
    match found {
        None => Ok(()),
        Some(word) => Err(Error::Prompt {
            found: word.into(),
            reason: "joining prompts is not supported; for the word itself write small letters",
        }),
    }
}

/// Text so far, and where the open brackets began.
#[derive(Default)]
struct Reader {
    parts: Vec<Part>,
    round: Vec<usize>,
    square: Vec<usize>,
}

impl Reader {
    fn push(&mut self, text: &str) {
        self.parts.push(Part {
            text: text.into(),
            weight: 1.0,
        });
    }

    /// Multiplies the weights of all that was read since `start`.
    fn multiply(&mut self, start: usize, factor: f64) {
        for part in self.parts.iter_mut().skip(start) {
            part.weight *= factor;
        }
    }
}

fn weighted(text: &str) -> Result<Vec<Part>> {
    let mut reader = Reader::default();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let mut taken = c.len_utf8();
        let tail = rest.get(taken..).unwrap_or("");
        match c {
            '\\' => {
                let literal = tail.chars().next().filter(|c| "()[]\\".contains(*c));
                if let Some(literal) = literal {
                    reader.push(literal.encode_utf8(&mut [0; 4]));
                    taken += literal.len_utf8();
                }
            }
            '(' => reader.round.push(reader.parts.len()),
            '[' => reader.square.push(reader.parts.len()),
            ')' => match reader.round.pop() {
                Some(start) => reader.multiply(start, ROUND),
                None => reader.push(")"),
            },
            ']' => match reader.square.pop() {
                Some(start) => reader.multiply(start, SQUARE),
                None => reader.push("]"),
            },
            '|' if !reader.square.is_empty() => {
                return Err(Error::Prompt {
                    found: "[…|…]".into(),
                    reason: "alternating words are not supported",
                });
            }
            ':' => match (number(tail), reader.round.is_empty()) {
                (Some((digits, ')', length)), false) => {
                    let start = reader.round.pop().unwrap_or_default();
                    reader.multiply(start, value(digits)?);
                    taken += length;
                }
                (Some((_, ']', _)), _) if !reader.square.is_empty() => {
                    return Err(Error::Prompt {
                        found: "[…:…:…]".into(),
                        reason: "prompt editing is not supported",
                    });
                }
                _ => reader.push(":"),
            },
            _ => {
                taken = rest.find(SPECIAL).unwrap_or(rest.len()).max(taken);
                reader.push(rest.get(..taken).unwrap_or(""));
            }
        }
        rest = rest.get(taken..).unwrap_or("");
    }
    while let Some(start) = reader.round.pop() {
        reader.multiply(start, ROUND);
    }
    while let Some(start) = reader.square.pop() {
        reader.multiply(start, SQUARE);
    }
    merged(reader.parts)
}

/// Characters that end a run of plain text.
const SPECIAL: [char; 7] = ['\\', '(', ')', '[', ']', ':', '|'];

/// A number between a colon and a closing bracket: its text, the bracket, and the length of all with the bracket.
fn number(tail: &str) -> Option<(&str, char, usize)> {
    let end = tail.find([')', ']'])?;
    let digits = tail.get(..end)?.trim();
    let unsigned = digits.strip_prefix(['+', '-']).unwrap_or(digits);
    let looks = !unsigned.is_empty() && unsigned.chars().all(|c| c.is_ascii_digit() || c == '.');
    let bracket = tail.get(end..)?.chars().next()?;
    looks.then_some((digits, bracket, end + bracket.len_utf8()))
}

/// The value of a weight or strength.
fn value(digits: &str) -> Result<f64> {
    let value = digits.parse::<f64>().ok().filter(|v| v.is_finite());
    value.ok_or_else(|| Error::Prompt {
        found: digits.into(),
        reason: "expected a number",
    })
}

/// Joins neighbours of equal weight and leaves empty pieces out.
fn merged(parts: Vec<Part>) -> Result<Vec<Part>> {
    let mut out: Vec<Part> = Vec::new();
    for part in parts.into_iter().filter(|part| !part.text.is_empty()) {
        if !part.weight.is_finite() {
            return Err(Error::Prompt {
                found: part.text,
                reason: "its weights multiply to more than a number holds",
            });
        }
        match out.last_mut() {
            Some(last) if last.weight == part.weight => last.text.push_str(&part.text),
            _ => out.push(part),
        }
    }
    Ok(out)
}
