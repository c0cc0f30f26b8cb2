//! Tables on stdout: columns as wide as their cells, numbers to the right.

/// Rows of equal length under a header.
#[derive(Debug, Default)]
pub(crate) struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(header: &[&str]) -> Self {
        Self {
            header: header.iter().map(|s| (*s).to_string()).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; missing cells stay empty.
    pub(crate) fn row(&mut self, cells: &[String]) {
        let mut row = cells.to_vec();
        row.resize(self.header.len(), String::new());
        self.rows.push(row);
    }

    /// The table as text, one line per row.
    pub(crate) fn text(&self) -> String {
        let columns = self.header.len();
        let all = || std::iter::once(&self.header).chain(&self.rows);
        let width = |c: usize| {
            all()
                .filter_map(|r| r.get(c))
                .map(|s| s.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let numeric: Vec<bool> = (0..columns)
            .map(|c| {
                self.rows
                    .iter()
                    .filter_map(|r| r.get(c))
                    .all(|s| s.is_empty() || is_number(s))
            })
            .collect();
        let mut text = String::new();
        for row in all() {
            let mut line = String::new();
            for ((cell, width), numeric) in row.iter().zip(&widths).zip(&numeric) {
                let pad = " ".repeat(width - cell.chars().count());
                let (before, after) = if *numeric {
                    (pad.as_str(), "")
                } else {
                    ("", pad.as_str())
                };
                line.push_str(&format!("{before}{cell}{after}  "));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

fn is_number(cell: &str) -> bool {
    cell.starts_with(|c: char| c.is_ascii_digit() || "-+∞–".contains(c))
}

/// A byte count in the unit that fits.
pub(crate) fn bytes(n: u64) -> String {
    match n {
        0..10_000 => format!("{n} B"),
        10_000..10_000_000 => format!("{:.1} kB", n as f64 / 1e3),
        10_000_000..10_000_000_000 => format!("{:.1} MB", n as f64 / 1e6),
        _ => format!("{:.2} GB", n as f64 / 1e9),
    }
}

/// A figure in dB; `∞` where nothing was lost.
pub(crate) fn db(x: f64) -> String {
    if x == f64::INFINITY {
        "∞".into()
    } else {
        format!("{x:.1}")
    }
}

/// Seconds.
pub(crate) fn seconds(x: f64) -> String {
    format!("{x:.2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_to_the_right_words_to_the_left() {
        let mut table = Table::new(&["module", "dB"]);
        table.row(&["unet".into(), "41.2".into()]);
        table.row(&["text encoder".into(), "7".into()]);
        assert_eq!(
            table.text(),
            "module          dB\nunet          41.2\ntext encoder     7\n"
        );
    }

    #[test]
    fn units() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_234_567), "1234.6 kB");
        assert_eq!(db(f64::INFINITY), "∞");
    }
}
