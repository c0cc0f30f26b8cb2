//! Every tensor of a file ends up applied, ignored with a reason, or in an error with the nearest known name.

use super::module::{ModuleTable, folded};

/// A tensor that was left out, and why.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ignored {
    /// Its key.
    pub key: String,
    /// The reason, or the pattern that named it.
    pub reason: String,
}

/// A tensor that belongs to no module of a model.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unmatched {
    /// Its key.
    pub key: String,
    /// The known module whose name is nearest, when it is near enough to be meant.
    pub nearest: Option<String>,
}

impl Unmatched {
    pub(crate) fn new(key: &str, table: &ModuleTable) -> Self {
        Self {
            key: key.to_string(),
            nearest: nearest(table, key).map(str::to_string),
        }
    }
}

/// Tensors that mean nothing for the weights: (end of the key, reason).
const IGNORABLE_ENDS: &[(&str, &str)] = &[
    (".lora_mask", "training mask"),
    (".scale_input", "activation scale of fp8 inference"),
    (".input_scale", "activation scale of fp8 inference"),
    (".scalar", "left over from training, already multiplied in"),
    (".dropout", "left over from training"),
    (".rank_dropout", "left over from training"),
    (".module_dropout", "left over from training"),
];

/// Why a tensor may be left out without asking, by its name alone.
pub(crate) fn ignorable(key: &str) -> Option<&'static str> {
    if key.starts_with("bundle_emb.") || (key.starts_with('<') && key.ends_with('>')) {
        return Some("textual inversion vectors, no weights of the model");
    }
    if key == "scaled_fp8" {
        return Some("marker of fp8 files");
    }
    if key.starts_with("optimizer.") {
        return Some("left over from training");
    }
    IGNORABLE_ENDS
        .iter()
        .find(|(end, _)| key.ends_with(end))
        .map(|(_, reason)| *reason)
}

/// Whether `pattern`, in which `*` stands for any run of characters and `?` for one, covers all of `text`.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&c) if c == '?' || text.get(t) == Some(&c) => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|&c| c == '*')
}

/// How many keys an error lists.
const LISTED: usize = 5;

/// One line per key, the first few, each with the nearest known module.
pub(crate) fn listing(keys: &[String], table: &ModuleTable) -> String {
    let mut lines: Vec<String> = keys
        .iter()
        .take(LISTED)
        .map(|key| match nearest(table, key) {
            Some(name) => format!("  `{key}` (nearest known module: `{name}`)"),
            None => format!("  `{key}`"),
        })
        .collect();
    if keys.len() > LISTED {
        lines.push(format!("  … and {} more", keys.len() - LISTED));
    }
    lines.join("\n")
}

/// Likewise for lines that are already written.
pub(crate) fn first_lines(lines: &[String]) -> String {
    let mut shown: Vec<String> = lines.iter().take(LISTED).cloned().collect();
    if lines.len() > LISTED {
        shown.push(format!("  … and {} more", lines.len() - LISTED));
    }
    shown.join("\n")
}

/// The spelling nearest to the module part of `key`, when it is near enough to be meant.
fn nearest<'a>(table: &'a ModuleTable, key: &str) -> Option<&'a str> {
    let module = super::part::Key::parse(key).map_or(key, |k| k.module);
    let wanted: Vec<u8> = folded(module).into_bytes();
    let mut best: Option<(usize, &str)> = None;
    for (spelling, written) in table.written() {
        let limit = best.map_or(wanted.len() / 4 + 2, |(d, _)| d.saturating_sub(1));
        if let Some(d) = distance(&wanted, spelling.as_bytes(), limit) {
            best = Some((d, written));
            if d == 0 {
                break;
            }
        }
    }
    best.map(|(_, written)| written)
}

/// Edit distance, or `None` beyond `limit`.
fn distance(a: &[u8], b: &[u8], limit: usize) -> Option<usize> {
    if a.len().abs_diff(b.len()) > limit {
        return None;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let mut least = left;
        for (cell, y) in row.iter_mut().skip(1).zip(b) {
            let above = *cell;
            let step = usize::from(x != y);
            *cell = (diagonal + step).min(above + 1).min(left + 1);
            diagonal = above;
            left = *cell;
            least = least.min(left);
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
        if least > limit {
            return None;
        }
    }
    row.last().copied().filter(|&d| d <= limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        assert!(glob("*.diff_b", "a.b.diff_b"));
        assert!(glob("lora_te_*_q_proj.*", "lora_te_x_q_proj.alpha"));
        assert!(glob("a?c*", "abc"));
        assert!(!glob("a?c", "ac"));
        assert!(!glob("abc", "abcd"));
        assert!(glob("*", ""));
    }

    #[test]
    fn distances() {
        assert_eq!(distance(b"kitten", b"sitting", 5), Some(3));
        assert_eq!(distance(b"kitten", b"sitting", 2), None);
        assert_eq!(distance(b"", b"ab", 2), Some(2));
        assert_eq!(distance(b"same", b"same", 0), Some(0));
    }
}
