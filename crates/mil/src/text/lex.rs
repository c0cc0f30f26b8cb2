//! Tokens of the text form, with the line they stand on.

use crate::{Error, Result};

/// One token.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token<'a> {
    /// An identifier, a reserved word, or a number: letters, digits, `_`, `@`, `.`, and a sign at the start or in an exponent.
    Word(&'a str),
    /// A string literal with its escapes undone.
    Text(String),
    /// `->` or one punctuation mark.
    Mark(&'a str),
}

impl Token<'_> {
    /// The token as it may stand in a message.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Word(w) | Self::Mark(w) => format!("`{w}`"),
            Self::Text(_) => "a string".into(),
        }
    }
}

/// A scanner over the whole text.
#[derive(Clone, Debug)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    line: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            line: 1,
        }
    }

    /// An error at the present line.
    pub(super) fn error(&self, reason: impl Into<String>) -> Error {
        Error::Text {
            line: self.line,
            reason: reason.into(),
        }
    }

    /// The next token, or `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Token<'a>>> {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let blank = rest.len() - rest.trim_start().len();
        self.line += rest
            .as_bytes()
            .iter()
            .take(blank)
            .filter(|&&b| b == b'\n')
            .count();
        self.at += blank;
        let rest = rest.get(blank..).unwrap_or_default();
        let Some(first) = rest.chars().next() else {
            return Ok(None);
        };
        if first == '"' {
            return self.string().map(Some);
        }
        let length = if rest.starts_with("->") {
            2
        } else if is_word(first) || first == '-' || first == '+' {
            word_length(rest)
        } else {
            first.len_utf8()
        };
        let token = rest.get(..length).unwrap_or_default();
        self.at += length;
        Ok(Some(
            if token == "->" || !(is_word(first) || first == '-' || first == '+') {
                Token::Mark(token)
            } else {
                Token::Word(token)
            },
        ))
    }

    fn string(&mut self) -> Result<Token<'a>> {
        let mut out = String::new();
        let mut chars = self
            .text
            .get(self.at + 1..)
            .unwrap_or_default()
            .char_indices();
        while let Some((i, c)) = chars.next() {
            match c {
                '"' => {
                    self.at += i + 2;
                    return Ok(Token::Text(out));
                }
                '\\' => match chars.next().map(|(_, c)| c) {
                    Some('n') => out.push('\n'),
                    Some('t') => out.push('\t'),
                    Some('r') => out.push('\r'),
                    Some(c @ ('"' | '\\')) => out.push(c),
                    other => {
                        return Err(
                            self.error(format!("unknown escape `\\{}`", other.unwrap_or(' ')))
                        );
                    }
                },
                '\n' => {
                    out.push(c);
                    self.line += 1;
                }
                c => out.push(c),
            }
        }
        Err(self.error("a string has no end"))
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '@' | '.' | '?')
}

/// Length of a word; a sign belongs to it at its start and after the exponent mark of a number.
fn word_length(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let number = bytes
        .first()
        .is_some_and(|b| b.is_ascii_digit() || *b == b'-' || *b == b'+');
    let hex = rest.trim_start_matches(['-', '+']).starts_with("0x");
    let mut length = 1;
    while let Some(&b) = bytes.get(length) {
        let exponent = bytes
            .get(length - 1)
            .is_some_and(|p| matches!((p, hex), (b'p', true) | (b'e' | b'E', false)));
        let sign =
            (b == b'-' || b == b'+') && number && exponent && bytes.get(length + 1) != Some(&b'>');
        if !(is_word(char::from(b)) || sign) {
            break;
        }
        length += 1;
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<String> {
        let mut lexer = Lexer::new(text);
        std::iter::from_fn(|| lexer.next().unwrap())
            .map(|t| t.shown())
            .collect()
    }

    #[test]
    fn numbers_keep_their_signs() {
        assert_eq!(
            all("[-0x1.8p-3, 1e-5,-1]"),
            ["`[`", "`-0x1.8p-3`", "`,`", "`1e-5`", "`,`", "`-1`", "`]`"]
        );
        assert_eq!(
            all("} -> (x);"),
            ["`}`", "`->`", "`(`", "`x`", "`)`", "`;`"]
        );
        assert_eq!(all("tensor<fp16, [?, 0]>(\"a\\\"b\")").len(), 13);
    }

    #[test]
    fn an_open_string_is_an_error_with_its_line() {
        let mut lexer = Lexer::new("a\n\"b");
        lexer.next().unwrap();
        assert!(lexer.next().unwrap_err().to_string().contains("line 2"));
    }
}
