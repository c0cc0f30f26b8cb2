//! Folders that `gesso convert` wrote.

use super::{Page, lines};
use crate::table::{self, Table};
use gesso_convert::folder::FolderInfo;
use serde_json::json;
use std::path::Path;

pub(super) fn page(path: &Path) -> anyhow::Result<Page> {
    let info = FolderInfo::open(path)?;
    let recipe = &info.recipe;
    let head = lines(&[
        ("kind", "converted folder".into()),
        ("model", info.origin.name.clone()),
        ("author", info.origin.author.clone()),
        ("license", info.origin.license.clone()),
        ("family", info.family.clone()),
        ("size", format!("{} × {}", recipe.width, recipe.height)),
        ("bits", recipe.bits.to_string()),
        ("precision", recipe.precision.clone()),
        ("attention", recipe.attention.clone()),
        ("source", info.source_hash.clone()),
        (
            "sampler",
            info.scheduler_hint()
                .map(super::lora::sampler_words)
                .unwrap_or_default(),
        ),
        (
            "tokenizer",
            if info.tokenizer {
                "yes".into()
            } else {
                "no".into()
            },
        ),
    ]);
    let mut packages = Table::new(&[
        "package",
        "inputs",
        "outputs",
        "bytes",
        "palettized",
        "lowest SNR dB",
        "weights of",
    ]);
    for (name, p) in &info.packages {
        packages.row(&[
            name.clone(),
            p.inputs.len().to_string(),
            p.outputs.len().to_string(),
            table::bytes(p.bytes_after),
            p.palettized.len().to_string(),
            p.min_snr_db.map(table::db).unwrap_or_default(),
            p.weights_of.clone().unwrap_or_default(),
        ]);
    }
    let mut slots = Table::new(&["slots", "modules", "rank", "layout hash"]);
    for (component, s) in &info.slots {
        slots.row(&[
            component.clone(),
            s.modules.len().to_string(),
            s.rank.to_string(),
            s.layout_hash.clone(),
        ]);
    }
    let slots = if info.slots.is_empty() {
        String::new()
    } else {
        format!("\n{}", slots.text())
    };
    Ok(Page {
        json: json!({ "kind": "converted folder", "path": path.display().to_string(), "info": info }),
        text: format!("{head}\n{}{slots}", packages.text()),
        problem: None,
    })
}
