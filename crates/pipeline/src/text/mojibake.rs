//! Text that was decoded with the wrong encoding, found and decoded again.

use super::charset::{CHARSETS, Charset, LATIN_1};
use super::fixes::c1_as_windows_1252;
use regex::{Regex, bytes};
use std::collections::BTreeSet;
use std::sync::LazyLock;

/// Kinds of characters by how they appear in wrongly decoded text, as parts of a character class.
const KINDS: &[(&str, &str)] = &[
    ("common", "\u{a0}\u{ad}·´–—―…’"),
    ("c1", "\u{80}-\u{9f}"),
    ("bad", "¦¤¨¬¯¸ƒˆˇ˘˛˜†‡‰⌐◊\u{fffd}ªº"),
    ("law", "¶§"),
    ("currency", "¢£¥₧€"),
    ("opening", "¡«¿©΄΅‘‚“„•‹\u{f8ff}"),
    ("closing", "®»˝”›™"),
    ("numeric", "²³¹±¼½¾×µ÷⁄∂∆∏∑√∞∩∫≈≠≡≤≥№"),
    ("faces", "Ò-ÖÙ-Üò-öø-üŐŌŪŲ°"),
    ("upper", "À-ÑØÜÝĂĀĄĆČĎĐĘĚĒĖĞĢİĪĶĹĽŁĻŃŇŅŒŘŚŞŠŢŤŮŰŸŹŻŽҐ"),
    ("lower", "ßà-ñăąāćčďđęěēėğģįīķĺľłļœŕśşšťüźżžґﬁﬂ"),
    ("upper-plain", "ÞΑ-ΩΆΈΉΊΌΎΏΪΫЁ-Я"),
    ("lower-plain", "α-ωάέήίΰа-џ"),
    ("box", "│┌┐┘├┤┬┼═-╬▀▄█▌▐░▒▓"),
    ("latin", "A-Za-z"),
    ("small", "a-z"),
    ("space", r"\s\x1c-\x1f"),
    ("word", r"\p{L}\p{N}_"),
];

/// Runs of characters that make sense only as an accident. Each element is one character: kinds separated by spaces,
/// then after `=` single characters; `!` in front means any other character, `!` alone any at all, `^` the start.
const UNLIKELY: &[&[&str]] = &[
    &["c1"],
    &[
        "bad lower upper box opening closing currency numeric law",
        "bad",
    ],
    &["latin", "lower-plain upper-plain", "bad"],
    &[
        "bad",
        "lower upper box opening closing currency numeric law",
    ],
    &["lower lower-plain box closing currency numeric", "upper"],
    &["box closing currency numeric", "lower"],
    &["lower box closing", "currency"],
    &["space", "upper", "currency"],
    &["upper box", "numeric law"],
    &["lower upper box currency closing", "opening", "numeric"],
    &["lower upper currency numeric box law", "closing", "opening"],
    &["currency numeric box", "opening"],
    &["small", "upper", "opening currency"],
    &["box", "faces"],
    &["lower upper currency numeric opening closing law", "box"],
    &["box", "closing"],
    &["lower upper", "opening closing", "word"],
    &["=Œœ", "!latin"],
    &["upper", "=°"],
    // Windows-1252 readings of two bytes.
    &["=ÂÃÎÐ", "opening closing=€œŠš¢£Ÿž\u{a0}\u{ad}®©°·»–—´"],
    &["=×", "=²³"],
    // Arabic read as Windows-1252: four characters are required.
    &[
        "=ØÙ",
        "common currency bad numeric opening=ŸŠ®°µ»",
        "=ØÙ",
        "common currency bad numeric opening=ŸŠ®°µ»",
    ],
    // South Asian scripts read as Windows-1252.
    &["=à", "=²µ¹¼½¾"],
    // MacRoman readings.
    &["=√", "=±∂†≠®™´≤≥¥µø"],
    &["=≈", "=°¢"],
    &["=‚", "=Ä", "=ìîïòôúùû†°¢π"],
    &["=‚", "=âó", "=àä°ê"],
    // U+2000 and following read as Windows-1251, 1253 and 1257.
    &["=в", "=Ђ"],
    &["=β", "=€", "=™\u{a0}Ά\u{ad}®°"],
    &["=ā", "=€"],
    // Latin-1, Cyrillic or Greek read as Windows-1251 or 1253.
    &["=ВГРС", "c1 bad opening closing currency=°µ", "=ВГРС"],
    &["=ΒΓΞΟ", "c1 bad opening closing currency=°", "=ΒΓΞΟ"],
    &["=Г", "=ў", "=В", "=Ђ", "=В", "!", "latin= "],
    // à, á and the no-break space read as Windows-1252.
    &["=Ã", "=\u{a0}¡"],
    &["small", "=ÃÂ", "= "],
    &["small", "space", "=ÃÂ", "= "],
    &["^", "=ÃÂ", "= "],
    &["small closing=.,?!", "=Â", "opening closing= "],
];

static BADNESS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let runs: Vec<String> = UNLIKELY
        .iter()
        .map(|run| run.iter().map(|element| class(element)).collect())
        .collect();
    Regex::new(&runs.join("|")).ok()
});

/// The expression for one element of [`UNLIKELY`].
fn class(element: &str) -> String {
    let (negated, element) = match element.strip_prefix('!') {
        Some("") => return ".".into(),
        Some(rest) => ("^", rest),
        None => ("", element),
    };
    if element == "^" {
        return element.into();
    }
    let (kinds, singles) = element.split_once('=').unwrap_or((element, ""));
    let members: String = kinds
        .split_whitespace()
        .filter_map(|name| KINDS.iter().find(|(kind, _)| *kind == name))
        .map(|(_, members)| *members)
        .collect();
    format!("[{negated}{members}{singles}]")
}

/// Whether the text has runs that look like an accident.
fn is_bad(text: &str) -> bool {
    BADNESS.as_ref().is_some_and(|re| re.is_match(text))
}

/// The text with wrong decodings undone, layer by layer.
pub(super) fn fixed(text: &str) -> String {
    let mut text = text.to_string();
    // Undoing a layer shortens the text or removes C1 controls.
    for _ in 0..=text.len() {
        match fixed_once(&text) {
            Some(next) if next != text => text = next,
            _ => break,
        }
    }
    text
}

fn fixed_once(text: &str) -> Option<String> {
    if text.is_ascii() || !is_bad(text) {
        return None;
    }
    let charsets = std::iter::once(&LATIN_1).chain(&CHARSETS);
    if let Some(decoded) = charsets.filter_map(|c| decoded_again(text, c)).next() {
        return Some(decoded);
    }
    let inside = decoded_inside(text);
    if inside != text {
        return Some(inside);
    }
    if let Some(windows) = latin_1_as_windows_1252(text)
        && windows != text
    {
        return Some(windows);
    }
    Some(text.chars().map(c1_as_windows_1252).collect())
}

/// The text as UTF-8, if `charset` was the mistake.
fn decoded_again(text: &str, charset: &Charset) -> Option<String> {
    let mut bytes = charset.encoded(text)?;
    if charset.name != "macintosh" {
        bytes = with_no_break_spaces(bytes);
    }
    if charset.lossy {
        bytes = with_lost_bytes_marked(&bytes);
    }
    utf8_or_variant(&bytes)
}

fn byte_pattern(pattern: &str) -> Option<bytes::Regex> {
    bytes::Regex::new(pattern).ok()
}

/// Puts back bytes 0xa0 that were turned into spaces, where the sequence would be UTF-8 otherwise.
fn with_no_break_spaces(bytes: Vec<u8>) -> Vec<u8> {
    static SPACED: LazyLock<Option<bytes::Regex>> = LazyLock::new(|| {
        byte_pattern(concat!(
            r"(?s-u)[\xc2\xc3\xc5\xce\xd0\xd9] ",
            r"|[\xe2\xe3] [\x80-\x84\x86-\x9f\xa1-\xbf]",
            r"|[\xe0-\xe3][\x80-\x84\x86-\x9f\xa1-\xbf] ",
            r"|\xf0 [\x80-\xbf][\x80-\xbf]",
            r"|\xf0[\x80-\xbf] [\x80-\xbf]",
            r"|\xf0[\x80-\xbf][\x80-\xbf] ",
        ))
    });
    let Some(spaced) = SPACED.as_ref() else {
        return bytes;
    };
    if !spaced.is_match(&bytes) {
        return bytes;
    }
    let words = with_a_grave_as_word(&bytes);
    spaced
        .replace_all(&words, |found: &bytes::Captures<'_>| -> Vec<u8> {
            let run = found.get(0).map_or(&[][..], |m| m.as_bytes());
            run.iter()
                .map(|&b| if b == b' ' { 0xa0 } else { b })
                .collect()
        })
        .into_owned()
}

/// `à` that stands as a word keeps the space after it, but for the Portuguese words that begin with it.
fn with_a_grave_as_word(bytes: &[u8]) -> Vec<u8> {
    const GOES_ON: [&[u8]; 5] = [b" ", b"quele", b"quela", b"quilo", b"s "];
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&byte, tail)) = rest.split_first() {
        out.push(byte);
        rest = tail;
        if byte == 0xc3
            && let Some(after) = tail.strip_prefix(b" ")
            && !GOES_ON.iter().any(|word| after.starts_with(word))
        {
            out.extend_from_slice(b"\xa0 ");
            rest = after;
        }
    }
    out
}

/// Replaces UTF-8 sequences in which bytes were lost (0x1a, or one `?`) by U+FFFD.
fn with_lost_bytes_marked(bytes: &[u8]) -> Vec<u8> {
    static LOST: LazyLock<Option<bytes::Regex>> = LazyLock::new(|| {
        byte_pattern(concat!(
            r"(?s-u)[\xc2-\xdf]\x1a",
            r"|[\xc2\xc3]\?",
            r"|\xed[\xa0-\xaf][\x1a?]\xed[\xb0-\xbf][\x1a?\x80-\xbf]",
            r"|\xed[\xa0-\xaf][\x1a?\x80-\xbf]\xed[\xb0-\xbf][\x1a?]",
            r"|[\xe0-\xef][\x1a?][\x1a\x80-\xbf]",
            r"|[\xe0-\xef][\x1a\x80-\xbf][\x1a?]",
            r"|[\xf0-\xf4][\x1a?][\x1a\x80-\xbf][\x1a\x80-\xbf]",
            r"|[\xf0-\xf4][\x1a\x80-\xbf][\x1a?][\x1a\x80-\xbf]",
            r"|[\xf0-\xf4][\x1a\x80-\xbf][\x1a\x80-\xbf][\x1a?]",
            r"|\x1a",
        ))
    });
    match LOST.as_ref() {
        Some(lost) => lost.replace_all(bytes, "\u{fffd}".as_bytes()).into_owned(),
        None => bytes.to_vec(),
    }
}

/// UTF-8, also with surrogate pairs encoded one by one (CESU-8) and NUL as C0 80.
fn utf8_or_variant(bytes: &[u8]) -> Option<String> {
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    loop {
        match rest {
            [0xc0, 0x80, tail @ ..] => {
                plain.push(0);
                rest = tail;
            }
            [
                0xed,
                high @ 0xa0..=0xaf,
                middle @ 0x80..=0xbf,
                0xed,
                low @ 0xb0..=0xbf,
                last @ 0x80..=0xbf,
                tail @ ..,
            ] => {
                let bits = |byte: &u8, mask: u8| u32::from(byte & mask);
                let code = (bits(high, 0xf) << 16)
                    + (bits(middle, 0x3f) << 10)
                    + (bits(low, 0xf) << 6)
                    + bits(last, 0x3f)
                    + 0x1_0000;
                let mut encoded = [0; 4];
                let c = char::from_u32(code)?;
                plain.extend_from_slice(c.encode_utf8(&mut encoded).as_bytes());
                rest = tail;
            }
            [byte, tail @ ..] => {
                plain.push(*byte);
                rest = tail;
            }
            [] => return String::from_utf8(plain).ok(),
        }
    }
}

/// Characters that stand for the first and further bytes of UTF-8 in one of the Western encodings.
struct Clues {
    first: [BTreeSet<char>; 3],
    further: BTreeSet<char>,
}

/// Further-byte characters that may well stand for themselves beside wrongly decoded text.
const PUNCTUATION: &str = " –—―‘’‚“”„•…";

static CLUES: LazyLock<Clues> = LazyLock::new(|| {
    let western = || {
        let windows = CHARSETS.iter().filter(|c| c.name.starts_with("windows"));
        windows.chain([&LATIN_1])
    };
    let set = |bytes: &[u8]| {
        western()
            .flat_map(|c| bytes.iter().map(|&b| c.character(b)))
            .collect::<BTreeSet<char>>()
    };
    let range = |bytes: std::ops::RangeInclusive<u8>| set(&bytes.collect::<Vec<_>>());
    let mut further = range(0x80..=0xbf);
    further.insert(' ');
    Clues {
        first: [range(0xc2..=0xdf), range(0xe0..=0xef), set(&[0xf0, 0xf3])],
        further,
    }
});

/// Wrongly decoded runs inside of text that is right.
fn decoded_inside(text: &str) -> String {
    let clues = &*CLUES;
    let characters: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let (mut at, mut before) = (0, None);
    while let Some(&c) = characters.get(at) {
        let glued =
            before.is_some_and(|b: char| clues.further.contains(&b) && !PUNCTUATION.contains(b));
        let length = if glued {
            0
        } else {
            run_length(clues, characters.get(at..).unwrap_or(&[]))
        };
        if length == 0 {
            out.push(c);
            before = Some(c);
            at += 1;
            continue;
        }
        let run = characters.get(at..at + length).unwrap_or(&[]);
        let run_text: String = run.iter().collect();
        if length < characters.len() && is_bad(&run_text) {
            out.push_str(&fixed(&run_text));
        } else {
            out.push_str(&run_text);
        }
        before = run.last().copied();
        at += length;
    }
    out
}

/// Length of the characters from the start that look like whole UTF-8 sequences.
fn run_length(clues: &Clues, characters: &[char]) -> usize {
    let mut length = 0;
    while let Some(first) = characters.get(length) {
        let Some(further) = clues.first.iter().position(|set| set.contains(first)) else {
            break;
        };
        let end = length + further + 2;
        match characters.get(length + 1..end) {
            Some(rest) if rest.iter().all(|c| clues.further.contains(c)) => length = end,
            _ => break,
        }
    }
    length
}

/// Latin-1 text read as Windows-1252, unless it has bytes that Windows-1252 leaves free.
fn latin_1_as_windows_1252(text: &str) -> Option<String> {
    let bytes = LATIN_1.encoded(text)?;
    let windows_1252 = CHARSETS.first()?;
    bytes
        .into_iter()
        .map(|byte| match byte {
            0x81 | 0x8d | 0x8f | 0x90 | 0x9d => None,
            // Here 0x1a is itself.
            0x1a => Some('\u{1a}'),
            _ => Some(windows_1252.character(byte)),
        })
        .collect()
}
