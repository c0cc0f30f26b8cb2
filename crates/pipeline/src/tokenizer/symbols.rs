//! Bytes as printable symbols, as GPT-2 introduced them.

use std::sync::LazyLock;

/// Ends the last symbol of a word.
pub(super) const WORD_END: &str = "</w>";

/// The character that stands for each byte: printable Latin-1 for itself, the others by U+0100 and following in order.
static CHARACTERS: LazyLock<[char; 256]> = LazyLock::new(|| {
    let mut free = '\u{100}'..;
    std::array::from_fn(|byte| match byte as u8 {
        byte @ (b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff) => char::from(byte),
        byte => free.next().unwrap_or(char::from(byte)),
    })
});

/// The symbols of a word, one per byte of its UTF-8 form.
pub(super) fn of_word(word: &str) -> Vec<String> {
    let mut symbols: Vec<String> = word
        .bytes()
        .filter_map(|byte| CHARACTERS.get(usize::from(byte)))
        .map(char::to_string)
        .collect();
    if let Some(last) = symbols.last_mut() {
        last.push_str(WORD_END);
    }
    symbols
}
