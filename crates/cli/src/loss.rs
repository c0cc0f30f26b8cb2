//! Losses against the exact merge, as lines of a report.

use crate::table;
use gesso_convert::loss::Losses;
use std::collections::BTreeMap;

/// One line per component. `what` says what was measured.
pub(crate) fn lines(losses: &BTreeMap<String, Losses>, what: &str) -> Vec<String> {
    losses
        .iter()
        .map(|(component, losses)| line(component, losses, what))
        .collect()
}

fn line(component: &str, losses: &Losses, what: &str) -> String {
    match (losses.snr_db, losses.lowest_snr_db, &losses.lowest) {
        (Some(whole), Some(lowest), Some(module)) => format!(
            "loss: {what} of `{component}` have an SNR of {} dB against the exact fp32 merge, lowest {} dB in `{module}`",
            table::db(whole),
            table::db(lowest)
        ),
        _ => format!("loss: {what} of `{component}` are those of the exact fp32 merge"),
    }
}

/// The lowest SNR of any component in dB; empty when nothing was lost.
pub(crate) fn lowest(losses: &BTreeMap<String, Losses>) -> String {
    let all = losses.values().filter_map(|l| l.lowest_snr_db);
    all.reduce(f64::min).map(table::db).unwrap_or_default()
}
