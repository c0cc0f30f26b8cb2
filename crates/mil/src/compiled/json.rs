//! JSON as Apple's compiler prints it: two spaces of indent, ` : ` between key and value, `/` escaped, an empty array over three
//! lines.

use std::fmt::Write;

/// A JSON value with its keys in the order they were given.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json {
    Text(String),
    Number(i64),
    Array(Vec<Json>),
    Object(Pairs),
}

/// Keys and values in order.
pub(super) type Pairs = Vec<(String, Json)>;

impl From<&str> for Json {
    fn from(s: &str) -> Self {
        Self::Text(s.into())
    }
}
impl From<String> for Json {
    fn from(s: String) -> Self {
        Self::Text(s)
    }
}

impl Json {
    /// The value as text, without a final newline.
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, 0);
        out
    }

    fn write(&self, out: &mut String, depth: usize) {
        match self {
            Self::Text(s) => quoted(out, s),
            Self::Number(n) => {
                let _ = write!(out, "{n}");
            }
            Self::Array(items) => lines(out, depth, ('[', ']'), items, |out, item| {
                item.write(out, depth + 1)
            }),
            Self::Object(pairs) => lines(out, depth, ('{', '}'), pairs, |out, (key, value)| {
                quoted(out, key);
                out.push_str(" : ");
                value.write(out, depth + 1);
            }),
        }
    }
}

fn lines<T>(
    out: &mut String,
    depth: usize,
    marks: (char, char),
    items: &[T],
    mut one: impl FnMut(&mut String, &T),
) {
    out.push(marks.0);
    out.push('\n');
    for (i, item) in items.iter().enumerate() {
        let _ = write!(out, "{:1$}", "", 2 * (depth + 1));
        one(out, item);
        out.push_str(if i + 1 < items.len() { ",\n" } else { "\n" });
    }
    if items.is_empty() {
        out.push('\n');
    }
    let _ = write!(out, "{:1$}{2}", "", 2 * depth, marks.1);
}

fn quoted(out: &mut String, s: &str) {
    out.push('"');
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '/' => out.push_str("\\/"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if (c as u32) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
