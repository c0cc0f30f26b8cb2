//! What the modules of two programs return, compared while both run.
//!
//! The reference runs on a thread of its own and sends each value as it comes about; the judged program takes the one that
//! belongs to its own. So only a few values are there at a time, as long as the two have their modules in about the same
//! order.

use super::names::dotted;
use crate::measure::Loss;
use crate::table::{self, Table};
use gesso_engine::{Seen, Tap, ValueInfo};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

/// Values that may wait between the two predictions.
const WAITING: usize = 4;

/// A module drops when its SNR is this much below the lowest before it.
const DROP_DB: f64 = 20.0;

/// What stands before the first module: what weights rounded to fp16 reach.
const START_DB: f64 = 75.0;

/// One module of both programs.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pair {
    /// Path with underscores, as the judged program has it.
    pub(super) module: String,
    /// Name of the value in the judged program.
    pub(super) judged: String,
    /// Name of the value in the reference.
    pub(super) reference: String,
}

/// The modules of two programs.
#[derive(Clone, Debug, Default)]
pub(super) struct Pairing {
    /// In the order of the judged program.
    pub(super) pairs: Vec<Pair>,
    only_judged: Vec<String>,
    only_reference: Vec<String>,
}

impl Pairing {
    /// Pairs modules of the same path. One program may lie inside another network (`text_encoder_text_model_…`): then the
    /// beginning that most modules share is left out.
    pub(super) fn new(judged: &[ValueInfo], reference: &[ValueInfo]) -> Self {
        let returned = |values: &[ValueInfo]| -> Vec<(String, String)> {
            let returned = values.iter().filter(|v| v.returned);
            returned
                .map(|v| (v.module.clone(), v.name.clone()))
                .collect()
        };
        let (judged, reference) = (returned(judged), returned(reference));
        let theirs: BTreeMap<&str, &str> = reference
            .iter()
            .map(|(m, v)| (m.as_str(), v.as_str()))
            .collect();
        let (own, other) = prefix(&judged, &reference);
        let mut pairing = Self::default();
        let mut used = BTreeSet::new();
        for (module, value) in &judged {
            let bare = module
                .strip_prefix(&own)
                .map(|rest| format!("{other}{rest}"));
            let found = bare.and_then(|name| theirs.get_key_value(name.as_str()));
            match found {
                Some((theirs, reference)) => {
                    used.insert(*theirs);
                    pairing.pairs.push(Pair {
                        module: module.clone(),
                        judged: value.clone(),
                        reference: (*reference).into(),
                    });
                }
                None => pairing.only_judged.push(dotted(module)),
            }
        }
        let rest = reference.iter().filter(|(m, _)| !used.contains(m.as_str()));
        pairing.only_reference = rest.map(|(m, _)| dotted(m)).collect();
        pairing
    }
}

/// What stands before the modules of the judged program, and of the reference, where most of them then agree.
fn prefix(judged: &[(String, String)], reference: &[(String, String)]) -> (String, String) {
    let agree = |own: &str, other: &str| {
        let names: BTreeSet<&str> = reference.iter().map(|(m, _)| m.as_str()).collect();
        let bare = judged.iter().filter_map(|(m, _)| m.strip_prefix(own));
        bare.filter(|m| names.contains(format!("{other}{m}").as_str()))
            .count()
    };
    let mut candidates = vec![(String::new(), String::new())];
    for (a, _) in judged {
        for (b, _) in reference {
            if let Some(own) = a.strip_suffix(b.as_str()).filter(|p| p.ends_with('_')) {
                candidates.push((own.into(), String::new()));
            }
            if let Some(other) = b.strip_suffix(a.as_str()).filter(|p| p.ends_with('_')) {
                candidates.push((String::new(), other.into()));
            }
        }
    }
    candidates.sort();
    candidates.dedup();
    let best = candidates
        .into_iter()
        // The first of those with most agreement, so that no prefix is preferred.
        .rev()
        .max_by_key(|(own, other)| agree(own, other));
    best.unwrap_or_default()
}

/// What one module lost.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Layer {
    pub(super) module: String,
    /// Name of the value in the judged program.
    pub(super) value: String,
    /// Op that gives it.
    pub(super) op: String,
    #[serde(serialize_with = "crate::measure::finite")]
    pub(super) psnr_db: f64,
    #[serde(serialize_with = "crate::measure::finite")]
    pub(super) snr_db: f64,
}

/// What the modules of one program lost, in its order.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Layers {
    pub(super) layers: Vec<Layer>,
    /// Modules whose SNR is 20 dB or more below the lowest before them.
    pub(super) drops: Vec<String>,
    /// Modules that only one side has, or that return another shape.
    pub(super) only_judged: Vec<String>,
    pub(super) only_reference: Vec<String>,
    pub(super) other_shape: Vec<String>,
}

impl Layers {
    fn new(layers: Vec<Layer>, pairing: Pairing, other_shape: Vec<String>) -> Self {
        let mut lowest = START_DB;
        let mut drops = Vec::new();
        for layer in &layers {
            if layer.snr_db <= lowest - DROP_DB {
                drops.push(layer.module.clone());
            }
            lowest = lowest.min(layer.snr_db);
        }
        Self {
            layers,
            drops,
            only_judged: pairing.only_judged,
            only_reference: pairing.only_reference,
            other_shape,
        }
    }
}

impl Layers {
    pub(super) fn table(&self, model: &str) -> Table {
        let module = format!("{model}: module");
        let mut table = Table::new(&[&module, "PSNR dB", "SNR dB", "op", ""]);
        for layer in &self.layers {
            let drops = self.drops.contains(&layer.module);
            table.row(&[
                layer.module.clone(),
                table::db(layer.psnr_db),
                table::db(layer.snr_db),
                layer.op.clone(),
                if drops { "drops".into() } else { String::new() },
            ]);
        }
        table
    }

    /// Where it drops first, and what could not be compared.
    pub(super) fn verdict(&self, model: &str) -> String {
        let count = self.layers.len();
        let mut text = match self.drops.first() {
            Some(module) => format!("{model}: drops first at `{module}`, of {count} modules"),
            None => format!("{model}: no module of {count} drops by {DROP_DB} dB"),
        };
        for (what, list) in [
            ("only in the judged model", &self.only_judged),
            ("only in the reference", &self.only_reference),
            ("of another shape", &self.other_shape),
        ] {
            if let Some(first) = list.first() {
                text.push_str(&format!("; {} {what} (`{first}`)", list.len()));
            }
        }
        text
    }
}

/// A value on its way from the reference.
#[derive(Debug)]
struct Sent {
    name: String,
    shape: Vec<usize>,
    data: Vec<f32>,
}

/// The reference's side.
#[derive(Debug)]
pub(super) struct Sender(SyncSender<Sent>);

impl Tap for Sender {
    fn see(&self, seen: &Seen<'_>) -> Result<(), String> {
        let sent = Sent {
            name: seen.name.into(),
            shape: seen.shape.to_vec(),
            data: seen.data.to_vec(),
        };
        self.0
            .send(sent)
            .map_err(|_| "the judged prediction has ended".into())
    }
}

/// The judged side.
#[derive(Debug)]
pub(super) struct Comparer(Mutex<State>);

#[derive(Debug)]
struct State {
    pairing: Pairing,
    receiver: Option<Receiver<Sent>>,
    /// What came before its turn.
    early: BTreeMap<String, Sent>,
    layers: Vec<Layer>,
    other_shape: Vec<String>,
}

/// Both sides of a comparison.
pub(super) fn sides(pairing: Pairing) -> (Sender, Comparer) {
    let (sender, receiver) = sync_channel(WAITING);
    let state = State {
        pairing,
        receiver: Some(receiver),
        early: BTreeMap::new(),
        layers: Vec::new(),
        other_shape: Vec::new(),
    };
    (Sender(sender), Comparer(Mutex::new(state)))
}

impl Comparer {
    /// The values that it needs to see.
    pub(super) fn names(&self) -> BTreeSet<String> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pairs = state.pairing.pairs.iter();
        pairs.map(|p| p.judged.clone()).collect()
    }

    /// Lets the reference go on, or end, without being heard.
    pub(super) fn hang_up(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .receiver = None;
    }

    /// What was found.
    pub(super) fn finish(&self) -> Layers {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let layers = std::mem::take(&mut state.layers);
        let pairing = std::mem::take(&mut state.pairing);
        Layers::new(layers, pairing, std::mem::take(&mut state.other_shape))
    }
}

impl Tap for Comparer {
    fn see(&self, seen: &Seen<'_>) -> Result<(), String> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = state.pairing.pairs.iter().find(|p| p.judged == seen.name);
        let Some(pair) = found.cloned() else {
            return Ok(());
        };
        let module = dotted(&pair.module);
        let Some(sent) = state.take(&pair.reference) else {
            return Err("the reference has ended before it gave this value".into());
        };
        let Some(reference) = like(&sent.shape, &sent.data, seen.shape) else {
            state.other_shape.push(module);
            return Ok(());
        };
        let loss = Loss::new("", &reference, seen.data, None, 0.0);
        state.layers.push(Layer {
            module,
            value: seen.name.into(),
            op: seen.kind.into(),
            psnr_db: loss.psnr_db,
            snr_db: loss.snr_db,
        });
        Ok(())
    }
}

impl State {
    fn take(&mut self, name: &str) -> Option<Sent> {
        if let Some(sent) = self.early.remove(name) {
            return Some(sent);
        }
        loop {
            let sent = self.receiver.as_ref()?.recv().ok()?;
            if sent.name == name {
                return Some(sent);
            }
            self.early.insert(sent.name.clone(), sent);
        }
    }
}

/// `data` of shape `from` in the order of shape `to`: the same but for sizes of one, or with channels and positions
/// exchanged (`[.., S, C]` and `[.., C, S]`, where `S` may be written as `H, W`).
fn like(from: &[usize], data: &[f32], to: &[usize]) -> Option<Vec<f32>> {
    let bare =
        |shape: &[usize]| -> Vec<usize> { shape.iter().copied().filter(|&n| n != 1).collect() };
    let (from, to) = (bare(from), bare(to));
    if from == to {
        return Some(data.to_vec());
    }
    // Past the sizes that both begin with, one side has two sizes left, the other those turned.
    let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let (rows, columns) = match (&from[shared..], &to[shared..]) {
        (&[rows, columns], [first, rest @ ..]) if *first == columns => {
            (rest.iter().product::<usize>() == rows).then_some((rows, columns))?
        }
        ([first, rest @ ..], &[positions, channels]) if *first == channels => {
            (rest.iter().product::<usize>() == positions).then_some((channels, positions))?
        }
        _ => return None,
    };
    let mut turned = Vec::with_capacity(data.len());
    for matrix in data.chunks_exact((rows * columns).max(1)) {
        for column in 0..columns {
            turned.extend((0..rows).map(|row| matrix[row * columns + column]));
        }
    }
    Some(turned)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn values(modules: &[&str]) -> Vec<ValueInfo> {
        let value = |module: &&str| ValueInfo {
            name: format!("{module}_value"),
            kind: "conv".into(),
            module: (*module).into(),
            returned: true,
        };
        modules.iter().map(value).collect()
    }

    #[test]
    fn modules_pair_by_path_and_past_a_prefix() {
        let plain = Pairing::new(&values(&["a", "b_c", "d"]), &values(&["d", "a", "e"]));
        let modules: Vec<&str> = plain.pairs.iter().map(|p| p.module.as_str()).collect();
        assert_eq!(modules, ["a", "d"]);
        assert_eq!(plain.only_judged, ["b_c"]);
        assert_eq!(plain.only_reference, ["e"]);
        let inner = ["text_model_fc1", "text_model_fc2", "text_model_x_fc1"];
        let outer = [
            "te_text_model_fc1",
            "te_text_model_fc2",
            "te_text_model_x_fc1",
        ];
        let there = Pairing::new(&values(&inner), &values(&outer));
        assert_eq!(there.pairs.len(), 3);
        assert_eq!(there.pairs[2].reference, "te_text_model_x_fc1_value");
        let back = Pairing::new(&values(&outer), &values(&inner));
        assert_eq!(back.pairs.len(), 3);
        assert_eq!(back.pairs[0].reference, "text_model_fc1_value");
    }

    #[test]
    fn layouts_that_differ_by_ones_or_by_the_last_two_sizes() {
        let data: Vec<f32> = (0u8..6).map(f32::from).collect();
        assert_eq!(like(&[1, 2, 3], &data, &[2, 1, 3]).unwrap(), data);
        assert_eq!(
            like(&[1, 2, 3], &data, &[1, 3, 1, 2]).unwrap(),
            [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]
        );
        // [S, C] = [6, 2] with S = 2 · 3 written as H, W; and back.
        let pairs: Vec<f32> = (0u8..12).map(f32::from).collect();
        let turned = [0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 1.0, 3.0, 5.0, 7.0, 9.0, 11.0];
        assert_eq!(like(&[1, 6, 2], &pairs, &[1, 2, 2, 3]).unwrap(), turned);
        assert_eq!(like(&[1, 2, 2, 3], &turned, &[1, 6, 2]).unwrap(), pairs);
        assert!(like(&[6], &data, &[2, 3]).is_none());
        assert!(like(&[2, 3, 1, 7], &data, &[3, 2, 7]).is_none());
    }

    #[test]
    fn drops_are_held_against_the_lowest_before() {
        let layer = |(n, db): (usize, &f64)| Layer {
            module: n.to_string(),
            value: String::new(),
            op: String::new(),
            psnr_db: 0.0,
            snr_db: *db,
        };
        let drops = |db: &[f64]| {
            let layers = db.iter().enumerate().map(layer).collect();
            Layers::new(layers, Pairing::default(), Vec::new()).drops
        };
        assert_eq!(
            drops(&[120.0, 90.0, f64::INFINITY, 56.0, 37.0, 36.0]),
            Vec::<String>::new()
        );
        assert_eq!(
            drops(&[120.0, 30.0, 28.0, 60.0, 5.0, f64::NEG_INFINITY]),
            ["1", "4", "5"]
        );
    }
}
