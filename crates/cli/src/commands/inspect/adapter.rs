//! Adapter assets.

use super::{Page, lines};
use crate::table::{self, Table};
use gesso_convert::asset::Asset;
use gesso_convert::delta::Delta;
use serde_json::json;
use std::path::Path;

pub(super) fn page(path: &Path) -> anyhow::Result<Page> {
    if Delta::is_one(path)? {
        return delta(path);
    }
    let asset = Asset::open(path)?;
    let m = asset.manifest();
    let head = lines(&[
        ("kind", "adapter asset".into()),
        ("name", m.name.clone()),
        ("rank", m.rank.to_string()),
        ("default strength", m.default_strength.to_string()),
        ("trigger words", m.trigger_words.join(", ")),
        ("author", m.author.clone().unwrap_or_default()),
        ("license", m.license.clone().unwrap_or_default()),
        (
            "sampler",
            m.scheduler_hint
                .as_ref()
                .map(super::lora::sampler_words)
                .unwrap_or_default(),
        ),
        ("modules", (m.rows.len() / 2).to_string()),
    ]);
    let mut components = Table::new(&["component", "package", "rank", "layout hash"]);
    for (name, c) in &m.components {
        components.row(&[
            name.clone(),
            c.package.clone(),
            c.rank.to_string(),
            c.layout_hash.clone(),
        ]);
    }
    let mut members = Table::new(&["member", "bytes"]);
    for (name, member) in &m.members {
        members.row(&[name.clone(), table::bytes(member.size)]);
    }
    Ok(Page {
        json: json!({ "kind": "adapter asset", "path": path.display().to_string(), "manifest": m }),
        text: format!("{head}\n{}\n{}", components.text(), members.text()),
        problem: None,
    })
}

fn delta(path: &Path) -> anyhow::Result<Page> {
    let delta = Delta::open(path)?;
    let m = delta.manifest();
    let loras = m.loras.iter().map(|l| {
        format!(
            "{} (unet {}, text encoder {})",
            l.name, l.unet, l.text_encoder
        )
    });
    let head = lines(&[
        ("kind", "delta".into()),
        ("name", m.name.clone()),
        ("LoRAs", loras.collect::<Vec<_>>().join(", ")),
        ("trigger words", m.trigger_words.join(", ")),
        ("author", m.author.clone().unwrap_or_default()),
        ("license", m.license.clone().unwrap_or_default()),
        ("source of the base", m.base_source_hash.clone()),
    ]);
    let mut files = Table::new(&["package", "patches", "bytes", "of", "base"]);
    for file in &m.files {
        files.row(&[
            file.package.clone(),
            file.patches.len().to_string(),
            table::bytes(file.patched().unwrap_or(u64::MAX)),
            table::bytes(file.size),
            file.before.clone(),
        ]);
    }
    Ok(Page {
        json: json!({ "kind": "delta", "path": path.display().to_string(), "manifest": m }),
        text: format!("{head}\n{}", files.text()),
        problem: None,
    })
}
