//! The clean-up of transformers' slow `CLIPTokenizer` where ftfy is not installed.

use regex::Regex;
use std::sync::LazyLock;
use unicode_normalization::UnicodeNormalization;

/// The text in NFC without control characters and U+FFFD, with spaces around Chinese characters.
///
/// Source: transformers 4.57 `BasicTokenizer(strip_accents=False, do_split_on_punc=False)`.
pub(crate) fn cleaned(text: &str) -> String {
    static CONTROL: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\p{C}").ok());
    let spaced: String = text
        .chars()
        .map(|c| {
            if matches!(c, '\t' | '\n' | '\r') {
                ' '
            } else {
                c
            }
        })
        .collect();
    let visible = match CONTROL.as_ref() {
        Some(control) => control.replace_all(&spaced, ""),
        None => spaced.into(),
    };
    let mut out = String::with_capacity(visible.len());
    for c in visible.chars() {
        match c {
            '\u{fffd}' => {}
            c if is_chinese(c) => out.extend([' ', c, ' ']),
            c => out.push(c),
        }
    }
    out.nfc().collect()
}

/// Whether a character lies in a block of CJK ideographs.
fn is_chinese(c: char) -> bool {
    matches!(
        c,
        '\u{4e00}'..='\u{9fff}'
            | '\u{3400}'..='\u{4dbf}'
            | '\u{20000}'..='\u{2a6df}'
            | '\u{2a700}'..='\u{2b73f}'
            | '\u{2b740}'..='\u{2ceaf}'
            | '\u{f900}'..='\u{faff}'
            | '\u{2f800}'..='\u{2fa1f}'
    )
}
