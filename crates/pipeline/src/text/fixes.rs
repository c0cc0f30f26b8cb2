//! The fixes, in their order, until nothing changes.

use super::charset::CHARSETS;
use super::{entities, mojibake};
use regex::Regex;
use std::borrow::Cow;
use std::sync::LazyLock;
use unicode_normalization::UnicodeNormalization;

/// Longest piece that is looked at as one, in characters.
const LONGEST: usize = 1_000_000;

/// The text with its lines fixed one by one.
///
/// HTML references are decoded up to the first line that has a `<`: after that the text may be HTML on purpose.
pub(crate) fn cleaned(text: &str) -> String {
    let mut decode_html = true;
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let mut rest = line;
        while !rest.is_empty() {
            let end = rest
                .char_indices()
                .nth(LONGEST)
                .map_or(rest.len(), |(end, _)| end);
            let (segment, tail) = rest.split_at(end);
            decode_html &= !segment.contains('<');
            out.push_str(&fixed_segment(segment, decode_html));
            rest = tail;
        }
    }
    out
}

fn fixed_segment(segment: &str, decode_html: bool) -> String {
    let mut text = segment.to_string();
    // Each round undoes one layer; a text has fewer layers than bytes.
    for _ in 0..=segment.len() {
        let unescaped = if decode_html {
            entities::unescaped(&text)
        } else {
            text.clone()
        };
        let encoded = mojibake::fixed(&unescaped);
        let characters: String = encoded.chars().map(c1_as_windows_1252).collect();
        let characters = replaced_characters(&characters);
        let lines = characters
            .replace("\r\n", "\n")
            .replace(['\r', '\u{2028}', '\u{2029}', '\u{85}'], "\n");
        let visible: String = without_terminal_escapes(&lines)
            .chars()
            .filter(|&c| !is_removed(c))
            .collect();
        let composed: String = visible.nfc().collect();
        if composed == text {
            break;
        }
        text = composed;
    }
    text
}

/// C1 controls are read as the Windows-1252 characters of the same byte.
pub(super) fn c1_as_windows_1252(c: char) -> char {
    match (c, CHARSETS.first()) {
        ('\u{80}'..='\u{9f}', Some(windows_1252)) => windows_1252.character(c as u8),
        _ => c,
    }
}

/// Latin ligatures taken apart, full-width and half-width forms made normal, curly quotes made straight.
fn replaced_characters(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match ligature(c) {
            Some(letters) => out.push_str(letters),
            None => match c {
                '\u{3000}' => out.push(' '),
                '\u{ff01}'..='\u{ffef}' => out.extend(std::iter::once(c).nfkc().map(straight)),
                _ => out.push(straight(c)),
            },
        }
    }
    out
}

fn straight(c: char) -> char {
    match c {
        '\u{2bc}' | '\u{2018}'..='\u{201b}' => '\'',
        '\u{201c}'..='\u{201f}' => '"',
        _ => c,
    }
}

fn ligature(c: char) -> Option<&'static str> {
    Some(match c {
        'Ĳ' => "IJ",
        'ĳ' => "ij",
        // The apostrophe of this one is a letter until the quotes are made straight.
        'ŉ' => "'n",
        'Ǳ' => "DZ",
        'ǲ' => "Dz",
        'ǳ' => "dz",
        'Ǆ' => "DŽ",
        'ǅ' => "Dž",
        'ǆ' => "dž",
        'Ǉ' => "LJ",
        'ǈ' => "Lj",
        'ǉ' => "lj",
        'Ǌ' => "NJ",
        'ǋ' => "Nj",
        'ǌ' => "nj",
        'ﬀ' => "ff",
        'ﬁ' => "fi",
        'ﬂ' => "fl",
        'ﬃ' => "ffi",
        'ﬄ' => "ffl",
        'ﬅ' => "ſt",
        'ﬆ' => "st",
        _ => return None,
    })
}

/// Escape sequences that colour a terminal.
fn without_terminal_escapes(text: &str) -> Cow<'_, str> {
    static ESCAPE: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"\x1b\[[\p{Nd};]*[a-zA-Z]").ok());
    match ESCAPE.as_ref() {
        Some(escape) => escape.replace_all(text, ""),
        None => text.into(),
    }
}

/// Control characters without a visible effect.
fn is_removed(c: char) -> bool {
    matches!(
        c,
        '\0'..='\u{8}'
            | '\u{b}'
            | '\u{e}'..='\u{1f}'
            | '\u{7f}'
            | '\u{206a}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffc}'
    )
}

#[cfg(test)]
mod tests {
    use super::cleaned;
    use gesso_testkit::fixture;

    /// Words in many encodings read in many others, and rows of suspicious characters.
    #[test]
    fn texts_come_out_as_from_ftfy() {
        let rows = std::fs::read_to_string(fixture("text/ftfy.json")).unwrap();
        let rows: Vec<(String, String)> = serde_json::from_str(&rows).unwrap();
        assert_eq!(rows.len(), 640);
        for (text, want) in rows {
            assert_eq!(cleaned(&text), want, "{text:?}");
        }
    }

    #[test]
    fn each_fix_is_made() {
        for (text, want) in [
            ("“here’s a test”", "\"here's a test\""),
            ("ﬂuﬃeﬆ ŉ Ǆ", "fluffiest 'n DŽ"),
            ("ＬＯＵＤ　ﾀｰﾝ", "LOUD ターン"),
            ("\u{1b}[36;44mblue\u{1b}[0m", "blue"),
            ("a\r\nb\rc\u{2028}d", "a\nb\nc\nd"),
            ("\u{feff}a\0b\u{206a}c\u{200b}", "abc\u{200b}"),
            ("cafe\u{301}", "café"),
            ("&amp;amp;lt;", "<"),
            // Without a `<` in the source, references are decoded, and those that appear are decoded again.
            ("&amp;lt;b> &amp;", "<b> &"),
            ("&amp;\n<&amp;\n&amp;", "&\n<&amp;\n&amp;"),
            ("schÃ¶n &eacute;", "schön é"),
            ("broken\u{85}line", "broken…line"),
        ] {
            assert_eq!(cleaned(text), want);
        }
    }
}
