//! Byte-pair merges.

use crate::{Error, Result};
use std::collections::BTreeMap;

/// Most merges of CLIP's vocabulary that are read, as transformers does it.
const MOST: usize = 49152 - 256 - 2;

/// Rank of each pair that may be merged, by its first and second symbol.
#[derive(Clone, Debug)]
pub(super) struct Merges {
    ranks: BTreeMap<String, BTreeMap<String, usize>>,
}

impl Merges {
    /// Reads `merges.txt`: the first line is skipped.
    ///
    /// Errors: `Merges` for a line that is no pair or whose merged symbol `is_known` does not know.
    pub(super) fn parse(text: &str, is_known: impl Fn(&str) -> bool) -> Result<Self> {
        let mut ranks: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
        for (rank, line) in text.trim().split('\n').skip(1).take(MOST).enumerate() {
            let refuse = |reason| Error::Merges {
                line: rank + 2,
                reason,
            };
            let mut symbols = line.split_whitespace();
            let (Some(first), Some(second), None) =
                (symbols.next(), symbols.next(), symbols.next())
            else {
                return Err(refuse(format!(
                    "expected two symbols, found {}",
                    line.split_whitespace().count()
                )));
            };
            let merged = format!("{first}{second}");
            if !is_known(&merged) {
                return Err(refuse(format!("`{merged}` is not in `vocab.json`")));
            }
            ranks
                .entry(first.into())
                .or_default()
                .insert(second.into(), rank);
        }
        Ok(Self { ranks })
    }

    fn rank(&self, first: &str, second: &str) -> Option<usize> {
        self.ranks.get(first)?.get(second).copied()
    }

    /// Merges the symbols of one word as far as they go, always every place of the pair of lowest rank.
    pub(super) fn tokens(&self, mut symbols: Vec<String>) -> Vec<String> {
        loop {
            let ranked = symbols.windows(2).filter_map(|pair| match pair {
                [first, second] => {
                    let rank = self.rank(first, second)?;
                    Some((rank, first.as_str(), second.as_str()))
                }
                _ => None,
            });
            let Some((_, first, second)) = ranked.min() else {
                return symbols;
            };
            let (first, second) = (first.to_string(), second.to_string());
            let mut merged: Vec<String> = Vec::with_capacity(symbols.len());
            let mut rest = symbols.into_iter().peekable();
            while let Some(mut symbol) = rest.next() {
                if symbol == first && rest.next_if_eq(&second).is_some() {
                    symbol.push_str(&second);
                }
                merged.push(symbol);
            }
            symbols = merged;
        }
    }
}
