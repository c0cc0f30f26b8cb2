//! LoRA files, alone or against a base.

use super::{Options, Page, lines};
use crate::base::Base;
use crate::source;
use crate::table::Table;
use gesso_weights::lora::{Lora, ModuleTable, ResolveOptions, ResolvedLora};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// Ends of the keys of first factors, whose smaller side is the rank.
const FIRST_FACTORS: &[&str] = &[
    "lora_down.weight",
    "lora_A.weight",
    "lora.down.weight",
    "lora_A.default.weight",
    "hada_w1_b",
    "lokr_w1_b",
    "lokr_w2_b",
];

pub(super) fn page(lora: &Lora, options: &Options) -> anyhow::Result<Page> {
    let release = lora.release();
    let family = lora.family().map(|f| f.to_string()).unwrap_or_default();
    let said = |s: &Option<String>| s.clone().unwrap_or_default();
    let tags: Vec<String> = release
        .frequent_tags
        .iter()
        .map(|(tag, n)| format!("{tag} ({n})"))
        .collect();
    let speed = release
        .speed
        .as_ref()
        .map(|s| format!("{:?}", s.kind))
        .unwrap_or_default();
    let ranks = ranks(lora);
    let mut text = lines(&[
        ("kind", "LoRA".into()),
        ("format", lora.format().as_str().into()),
        ("name", release.name.clone()),
        ("family", family.clone()),
        ("few-step release", speed.clone()),
        ("tensors", lora.tensors().to_string()),
        ("ranks", distribution(&ranks)),
        ("trigger words", release.trigger_words.join(", ")),
        ("frequent tags", tags.join(", ")),
        ("author", said(&release.author)),
        ("license", said(&release.licence)),
        ("base model", said(&release.base_model)),
    ]);
    let mut json = json!({
        "kind": "lora", "path": options.path.display().to_string(), "format": lora.format().as_str(),
        "name": release.name, "family": family, "speed": speed, "tensors": lora.tensors(), "ranks": keyed(&ranks),
        "trigger_words": release.trigger_words, "frequent_tags": release.frequent_tags, "author": release.author,
        "license": release.licence, "base_model": release.base_model, "metadata": release.metadata,
    });
    if options.tensors {
        let mut table = Table::new(&["tensor", "shape"]);
        let mut list = Vec::new();
        for (key, shape) in lora.keys() {
            table.row(&[key.into(), format!("{shape:?}")]);
            list.push(json!({ "name": key, "shape": shape }));
        }
        text += &format!("\n{}", table.text());
        json["list"] = Value::Array(list);
    }
    if let Some(base) = &options.base {
        against(lora, base, options, &mut json, &mut text)?;
    }
    Ok(Page { json, text })
}

/// Ranks by the shapes of the first factors.
fn ranks(lora: &Lora) -> BTreeMap<usize, usize> {
    let mut counts = BTreeMap::new();
    for (key, shape) in lora.keys() {
        if FIRST_FACTORS.iter().any(|end| key.ends_with(end))
            && let Some(rank) = shape.first()
        {
            *counts.entry(*rank).or_default() += 1;
        }
    }
    counts
}

fn distribution<K: ToString>(counts: &BTreeMap<K, usize>) -> String {
    let words: Vec<String> = counts
        .iter()
        .map(|(k, n)| format!("{} ({n})", k.to_string()))
        .collect();
    words.join(", ")
}

fn keyed<K: ToString>(counts: &BTreeMap<K, usize>) -> BTreeMap<String, usize> {
    counts.iter().map(|(k, n)| (k.to_string(), *n)).collect()
}

/// The modules of a base: a converted folder or a checkpoint.
fn modules(base: &Path, options: &Options) -> anyhow::Result<ModuleTable> {
    if base.join("gesso.json").is_file() {
        return Base::open(base)?.info.module_table().map_err(Into::into);
    }
    Ok(ModuleTable::of_checkpoint(&source::checkpoint(
        base,
        &options.source,
    )?))
}

/// Which modules are touched, and which tensors touch none.
fn against(
    lora: &Lora,
    base: &Path,
    options: &Options,
    json: &mut Value,
    text: &mut String,
) -> anyhow::Result<()> {
    let table = modules(base, options)?;
    let unmatched = lora.unmatched(&table)?;
    let resolved = if unmatched.len() == lora.tensors() {
        None
    } else {
        Some(lora.resolve(
            &table,
            &ResolveOptions {
                ignore: unmatched.clone(),
            },
        )?)
    };
    json["unmatched"] = unmatched.clone().into();
    if let Some(resolved) = &resolved {
        matched(resolved, unmatched.len(), json, text);
    }
    *text += &format!(
        "\n{} of {} tensors touch no module of the base\n",
        unmatched.len(),
        lora.tensors()
    );
    for key in &unmatched {
        *text += &format!("unmatched: {key}\n");
    }
    Ok(())
}

fn matched(resolved: &ResolvedLora, unmatched: usize, json: &mut Value, text: &mut String) {
    let ignored: Vec<_> = resolved
        .ignored
        .iter()
        .filter(|i| !i.reason.starts_with("pattern "))
        .collect();
    json["modules"] = resolved
        .modules
        .iter()
        .map(|((component, path), a)| {
            json!({
                "component": component.as_str(), "module": path, "algorithm": a.algorithm(), "dora": a.is_dora(),
                "rank": a.rank(), "scale": a.scale(),
            })
        })
        .collect();
    json["algorithms"] = json!(resolved.algorithms());
    json["scales"] = json!(resolved.scales());
    json["resolved_ranks"] = json!(keyed(&resolved.ranks()));
    json["applied"] = resolved.applied.into();
    json["warnings"] = resolved.warnings.clone().into();
    json["ignored"] = ignored
        .iter()
        .map(|i| json!({ "name": i.key, "reason": i.reason }))
        .collect();
    *text += "\n";
    *text += &lines(&[
        ("modules", resolved.modules.len().to_string()),
        ("algorithms", distribution(&resolved.algorithms())),
        ("ranks of modules", distribution(&resolved.ranks())),
        ("scales (alpha / rank)", distribution(&resolved.scales())),
        (
            "tensors applied",
            format!("{} of {}", resolved.applied, resolved.tensors),
        ),
        (
            "ignored",
            (resolved.ignored.len() - unmatched.min(resolved.ignored.len())).to_string(),
        ),
    ]);
    for warning in &resolved.warnings {
        *text += &format!("warning: {warning}\n");
    }
    let mut table = Table::new(&["component", "module", "algorithm", "rank", "scale"]);
    for ((component, path), a) in &resolved.modules {
        let rank = a.rank().map(|r| r.to_string()).unwrap_or_default();
        table.row(&[
            component.to_string(),
            path.clone(),
            a.algorithm().into(),
            rank,
            a.scale().to_string(),
        ]);
    }
    *text += &format!("\n{}", table.text());
}
