//! `<lora:name:strength>` inside a prompt.

use super::value;
use crate::{Error, Result};

/// An adapter named in a prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Mention {
    /// Its name, as written.
    pub name: String,
    /// Its strength, 1 where none is written.
    pub strength: f64,
}

/// The text without its mentions, and the mentions.
///
/// A mention is `<`, a word, `:`, anything but `>`, and `>`. Words other than `lora` are errors.
pub(super) fn taken_out(text: &str) -> Result<(String, Vec<Mention>)> {
    let (mut out, mut mentions) = (String::with_capacity(text.len()), Vec::new());
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        let (before, tail) = rest.split_at(at);
        out.push_str(before);
        match bracketed(tail) {
            None => {
                out.push('<');
                rest = tail.get(1..).unwrap_or("");
            }
            Some((kind, arguments, length)) => {
                mentions.push(mention(kind, arguments)?);
                rest = tail.get(length..).unwrap_or("");
            }
        }
    }
    out.push_str(rest);
    Ok((out, mentions))
}

/// Kind and arguments of the mention that `tail` begins with, and its length.
fn bracketed(tail: &str) -> Option<(&str, &str, usize)> {
    let inner = tail.strip_prefix('<')?;
    let end = inner.find('>')?;
    let (kind, arguments) = inner.get(..end)?.split_once(':')?;
    let is_word = !kind.is_empty() && kind.chars().all(|c| c.is_alphanumeric() || c == '_');
    (is_word && !arguments.is_empty()).then_some((kind, arguments, end + 2))
}

fn mention(kind: &str, arguments: &str) -> Result<Mention> {
    let refuse = |reason| Error::Prompt {
        found: format!("<{kind}:{arguments}>"),
        reason,
    };
    if kind != "lora" {
        return Err(refuse("only `<lora:name:strength>` is supported"));
    }
    let (name, strength) = match arguments.split_once(':') {
        None => (arguments, 1.0),
        Some((_, more)) if more.contains(':') => {
            return Err(refuse("expected a name and one strength"));
        }
        Some((name, digits)) => (name, value(digits.trim())?),
    };
    match name.trim() {
        "" => Err(refuse("expected a name")),
        name => Ok(Mention {
            name: name.into(),
            strength,
        }),
    }
}
