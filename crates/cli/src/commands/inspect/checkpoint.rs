//! Checkpoints.

use super::{Options, Page, lines};
use crate::source;
use crate::table::{self, Table};
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub(super) fn page(options: &Options) -> anyhow::Result<Page> {
    anyhow::ensure!(
        options.base.is_none(),
        "`--base` is for LoRA files, but `{}` is not one",
        options.path.display()
    );
    let checkpoint = source::checkpoint(&options.path, &options.source)?;
    let mut components = Vec::new();
    let mut table = Table::new(&["component", "tensors", "parameters", "bytes", "dtypes"]);
    let mut tensors = Table::new(&["tensor", "dtype", "shape"]);
    for (component, all) in checkpoint.components() {
        let mut dtypes: BTreeMap<String, usize> = BTreeMap::new();
        let mut bytes = 0;
        let mut list = Vec::new();
        for t in all.iter() {
            let dtype = format!("{:?}", t.dtype);
            bytes += t.bytes.len() as u64;
            if options.tensors {
                tensors.row(&[
                    format!("{component}.{}", t.name),
                    dtype.clone(),
                    format!("{:?}", t.shape),
                ]);
                list.push(json!({ "name": t.name, "dtype": dtype, "shape": t.shape }));
            }
            *dtypes.entry(dtype).or_default() += 1;
        }
        let words: Vec<String> = dtypes.iter().map(|(d, n)| format!("{n} {d}")).collect();
        table.row(&[
            component.to_string(),
            all.len().to_string(),
            all.parameters().to_string(),
            table::bytes(bytes),
            words.join(", "),
        ]);
        let mut entry = json!({
            "component": component.as_str(), "tensors": all.len(), "parameters": all.parameters(), "bytes": bytes,
            "dtypes": dtypes,
        });
        if options.tensors {
            entry["list"] = Value::Array(list);
        }
        components.push(entry);
    }
    let family = checkpoint.family().map_or("unknown", |f| f.as_str());
    let hash: String = {
        let all: Vec<_> = checkpoint.components().map(|(c, _)| c).collect();
        checkpoint
            .source_hash(&all)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect()
    };
    let prediction = match checkpoint.family() {
        Some(_) => checkpoint.scheduler_config().prediction_type.clone(),
        None => String::new(),
    };
    let said = |s: Option<&str>| s.unwrap_or_default().to_string();
    let head = lines(&[
        ("kind", "checkpoint".into()),
        ("family", family.into()),
        ("because", said(checkpoint.family_sign())),
        ("predicts", prediction.clone()),
        ("title", said(checkpoint.title())),
        ("author", said(checkpoint.author())),
        ("license", said(checkpoint.license())),
        (
            "tokenizer",
            if checkpoint.tokenizer().is_some() {
                "yes".into()
            } else {
                "no".into()
            },
        ),
        ("hash", hash.clone()),
    ]);
    let unused: Vec<Value> = checkpoint
        .unused()
        .iter()
        .map(|u| json!({ "name": u.name, "why": u.why }))
        .collect();
    let mut text = format!("{head}\n{}", table.text());
    for note in checkpoint.notes() {
        text += &format!("note: {note}\n");
    }
    for u in checkpoint.unused() {
        text += &format!("unused: {} ({})\n", u.name, u.why);
    }
    if options.tensors {
        text += &format!("\n{}", tensors.text());
    }
    let json = json!({
        "kind": "checkpoint", "path": options.path.display().to_string(), "family": family, "hash": hash,
        "because": checkpoint.family_sign(), "prediction_type": prediction,
        "components": components, "unused": unused, "notes": checkpoint.notes(), "metadata": checkpoint.metadata(),
    });
    Ok(Page {
        json,
        text,
        problem: None,
    })
}
