//! HTML character references.

use super::charset::CHARSETS;
use regex::{Captures, Regex};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// `name;code+code` per line; made by `data/html_entities.py`.
const TABLE: &str = include_str!("../../data/html_entities.txt");

static NAMED: LazyLock<BTreeMap<&str, String>> = LazyLock::new(|| {
    let character = |code: &str| char::from_u32(u32::from_str_radix(code, 16).ok()?);
    let row = |line: &'static str| {
        let (name, codes) = line.split_once(';')?;
        let characters: Option<String> = codes.split('+').map(character).collect();
        Some((name, characters?))
    };
    TABLE.lines().filter_map(row).collect()
});

static REFERENCE: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new("&(#?)([0-9A-Za-z]{1,24});").ok());

/// Decodes the references that are complete: a name or number of at most 24 characters and a semicolon.
///
/// A semicolon is never decoded, so that `&#59;` stays as it is.
pub(super) fn unescaped(text: &str) -> String {
    let Some(reference) = REFERENCE.as_ref() else {
        return text.into();
    };
    let decode = |found: &Captures<'_>| {
        let part = |i| found.get(i).map_or("", |m| m.as_str());
        let decoded = match part(1) {
            "" => NAMED.get(part(2)).cloned(),
            _ => number(part(2)),
        };
        decoded.unwrap_or_else(|| part(0).into())
    };
    reference.replace_all(text, decode).into_owned()
}

/// What a numeric reference stands for, as browsers read it; `None` when it is no number.
fn number(digits: &str) -> Option<String> {
    let (digits, radix) = match digits.strip_prefix(['x', 'X']) {
        Some(hex) => (hex, 16),
        None => (digits, 10),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    // Up to 24 hexadecimal digits fit.
    let code = u128::from_str_radix(digits, radix).ok()?;
    let windows_1252 = CHARSETS.first()?;
    match u32::try_from(code).unwrap_or(u32::MAX) {
        0 => Some('\u{fffd}'.into()),
        59 => None,
        code @ 0x80..=0x9f => Some(windows_1252.character(code as u8).into()),
        0x1..=0x8 | 0xb | 0xe..=0x1f | 0x7f | 0xfdd0..=0xfdef => Some(String::new()),
        code if code <= 0x10_ffff && code & 0xfffe == 0xfffe => Some(String::new()),
        code => Some(char::from_u32(code).unwrap_or('\u{fffd}').into()),
    }
}

#[cfg(test)]
mod tests {
    use super::unescaped;

    #[test]
    fn references_decode_as_browsers_do() {
        for (text, want) in [
            ("&amp;&lt;b&gt;", "&<b>"),
            (
                "P&eacute;rez P&EACUTE;REZ P&EaCUTE;",
                "Pérez PÉREZ P&EaCUTE;",
            ),
            ("BUNDESSTRA&SZLIG;E", "BUNDESSTRASSE"),
            (
                "&notanentity; &lt & &; &#; &#x;",
                "&notanentity; &lt & &; &#; &#x;",
            ),
            ("&#39;&#x27;&#X27;&#128512;", "'''😀"),
            (
                "&#0;|&#1;|&#x80;|&#x81;|&#xd800;|&#99999999999999999999;",
                "\u{fffd}||€|\u{81}|\u{fffd}|\u{fffd}",
            ),
            ("&#12ab; &#59; &#xfffe;.", "&#12ab; &#59; ."),
            ("&NotEqualTilde;", "\u{2242}\u{338}"),
        ] {
            assert_eq!(unescaped(text), want);
        }
    }
}
