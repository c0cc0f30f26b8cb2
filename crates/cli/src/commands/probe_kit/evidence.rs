//! `docs/apple-evidence.md`: the last cell of a probe's row tells what devices said.

use super::report::Verdict;
use anyhow::Context;
use std::collections::BTreeMap;

/// What the cell says before any report.
const NONE: &str = "not run yet";

/// The page with the verdicts of one place in it; a place that was there already is replaced.
///
/// Errors: a probe without a row.
pub(super) fn update(
    page: &str,
    place: &str,
    verdicts: &BTreeMap<String, Verdict>,
) -> anyhow::Result<String> {
    let mut lines: Vec<String> = page.lines().map(String::from).collect();
    for (probe, verdict) in verdicts {
        let start = format!("| `{probe}` |");
        let row = lines
            .iter_mut()
            .find(|line| line.starts_with(&start))
            .with_context(|| format!("the page has no row for probe `{probe}`"))?;
        let (before, cell) = last_cell(row)
            .with_context(|| format!("the row of probe `{probe}` does not end in a cell"))?;
        let own = format!("{place}: ");
        let mut told: Vec<&str> = cell
            .split("<br>")
            .map(str::trim)
            .filter(|part| *part != NONE && !part.is_empty() && !part.starts_with(&own))
            .collect();
        let holds = if verdict.holds {
            "holds"
        } else {
            "does not hold"
        };
        let told_now = format!("{own}{holds}: {}", verdict.text);
        told.push(&told_now);
        told.sort_unstable();
        *row = format!("{before}| {} |", told.join("<br>"));
    }
    Ok(lines.join("\n") + "\n")
}

/// A row without its last cell, and that cell.
fn last_cell(row: &str) -> Option<(&str, &str)> {
    let open = row.trim_end().strip_suffix('|')?;
    let at = open.rfind('|')?;
    Some((open.get(..at)?, open.get(at + 1..)?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_second_report_of_the_same_place_replaces_the_first() {
        let page = "# Page\n\n| a | b |\n|---|---|\n| `p` | not run yet |\n";
        let verdicts = |text: &str| {
            let verdict = Verdict {
                text: text.into(),
                holds: true,
            };
            BTreeMap::from([("p".to_string(), verdict)])
        };
        let once = update(page, "Mac, 15", &verdicts("one")).unwrap();
        assert!(once.contains("| `p` | Mac, 15: holds: one |"));
        let twice = update(&once, "Phone, 18", &verdicts("two")).unwrap();
        let thrice = update(&twice, "Mac, 15", &verdicts("three")).unwrap();
        assert!(thrice.contains("| `p` | Mac, 15: holds: three<br>Phone, 18: holds: two |"));
        assert!(update("", "Mac, 15", &verdicts("one")).is_err());
    }
}
