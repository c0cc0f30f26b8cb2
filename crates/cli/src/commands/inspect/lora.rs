//! LoRA files, alone or against a base.

use super::{Options, Page, lines};
use crate::base::Base;
use crate::source;
use crate::table::Table;
use gesso_convert::hint::SchedulerHint;
use gesso_weights::lora::{
    Lora, ModuleInfo, ModuleKind, ModuleTable, ResolveOptions, ResolvedLora,
};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
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
    let speed = release.speed.as_ref().map(|s| s.kind.as_str());
    let hint = SchedulerHint::of(release);
    let ranks = ranks(lora);
    let alphas = lora.alphas();
    let configured = lora.configured_alphas();
    let mut text = lines(&[
        ("kind", "LoRA".into()),
        ("format", lora.format().as_str().into()),
        ("name", release.name.clone()),
        ("family", family.clone()),
        ("few-step release", speed.unwrap_or_default().into()),
        (
            "sampler",
            hint.as_ref().map(sampler_words).unwrap_or_default(),
        ),
        ("note", said(&release.speed_note)),
        ("tensors", lora.tensors().to_string()),
        ("ranks", distribution(&ranks)),
        ("alphas", distribution(&alphas)),
        ("alpha by configuration", configured.join("; ")),
        ("trigger words", release.trigger_words.join(", ")),
        ("frequent tags", tags.join(", ")),
        ("author", said(&release.author)),
        ("license", said(&release.licence)),
        ("base model", said(&release.base_model)),
    ]);
    let mut json = json!({
        "kind": "lora", "path": options.path.display().to_string(), "format": lora.format().as_str(),
        "name": release.name, "family": family, "speed": speed, "scheduler_hint": hint, "note": release.speed_note,
        "tensors": lora.tensors(), "ranks": keyed(&ranks), "alphas": alphas, "configured_alphas": configured,
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
    let problem = match &options.base {
        Some(base) => against(lora, base, options, &mut json, &mut text)?,
        None => None,
    };
    Ok(Page {
        json,
        text,
        problem,
    })
}

/// A sampler in words, with the reason.
pub(super) fn sampler_words(hint: &SchedulerHint) -> String {
    let spacing = hint.timestep_spacing.as_deref();
    let spacing = spacing.map_or(String::new(), |s| format!(" ({s})"));
    format!(
        "{}{spacing}, {} steps, guidance {} ({})",
        hint.scheduler, hint.steps, hint.guidance, hint.because
    )
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

/// Which modules are touched, and which tensors touch none. The answer is why the file cannot be used with the base; what does
/// fit is listed all the same.
fn against(
    lora: &Lora,
    base: &Path,
    options: &Options,
    json: &mut Value,
    text: &mut String,
) -> anyhow::Result<Option<anyhow::Error>> {
    let table = modules(base, options)?;
    let mut allowed = ResolveOptions {
        ignore: options.ignore.clone(),
    };
    let unmatched = lora.unmatched(&table, &allowed)?;
    let (resolved, problem) = match lora.resolve(&table, &allowed) {
        Ok(resolved) => (Some(resolved), None),
        Err(error) => {
            allowed
                .ignore
                .extend(unmatched.iter().map(|u| u.key.clone()));
            (lora.resolve(&table, &allowed).ok(), Some(error.into()))
        }
    };
    json["unmatched"] = unmatched
        .iter()
        .map(|u| json!({ "name": u.key, "nearest": u.nearest }))
        .collect();
    if let Some(resolved) = &resolved {
        let keys = unmatched.iter().map(|u| u.key.as_str()).collect();
        matched(resolved, &table, &keys, json, text);
    }
    *text += &format!(
        "\n{} of {} tensors touch no module of the base\n",
        unmatched.len(),
        lora.tensors()
    );
    for u in &unmatched {
        let nearest = u.nearest.as_ref();
        let nearest = nearest.map_or(String::new(), |n| format!(" (nearest known module: {n})"));
        *text += &format!("unmatched: {}{nearest}\n", u.key);
    }
    Ok(problem)
}

fn matched(
    resolved: &ResolvedLora,
    table: &ModuleTable,
    unmatched: &BTreeSet<&str>,
    json: &mut Value,
    text: &mut String,
) {
    let ignored: Vec<_> = resolved
        .ignored
        .iter()
        .filter(|i| !unmatched.contains(i.key.as_str()))
        .collect();
    let weights = |m: &&ModuleInfo| matches!(m.kind, ModuleKind::Linear | ModuleKind::Conv);
    let missed: Vec<String> = table
        .modules()
        .iter()
        .filter(weights)
        .filter(|m| resolved.adapter(m.component, &m.path).is_none())
        .map(|m| format!("{}:{}", m.component, m.path))
        .collect();
    let all = table.modules().iter().filter(weights).count();
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
    json["missed"] = missed.clone().into();
    json["warnings"] = resolved.warnings.clone().into();
    json["ignored"] = ignored
        .iter()
        .map(|i| json!({ "name": i.key, "reason": i.reason }))
        .collect();
    *text += "\n";
    *text += &lines(&[
        ("modules", resolved.modules.len().to_string()),
        (
            "linears and convolutions of the base",
            format!("{} touched, {} not", all - missed.len(), missed.len()),
        ),
        ("algorithms", distribution(&resolved.algorithms())),
        ("ranks of modules", distribution(&resolved.ranks())),
        ("scales (alpha / rank)", distribution(&resolved.scales())),
        (
            "tensors applied",
            format!("{} of {}", resolved.applied, resolved.tensors),
        ),
        ("ignored", ignored.len().to_string()),
    ]);
    for warning in &resolved.warnings {
        *text += &format!("warning: {warning}\n");
    }
    for i in &ignored {
        *text += &format!("ignored: {} ({})\n", i.key, i.reason);
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
