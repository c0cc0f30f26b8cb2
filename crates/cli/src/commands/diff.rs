//! `gesso diff`: what changed between two models.

use super::inspect::model::{all_ops, feature, histogram, inputs, metadata};
use super::{Global, print_json};
use crate::Outcome;
use crate::opened::{Opened, Weights};
use crate::table;
use anyhow::Context;
use gesso_engine::{Constants, Data};
use gesso_mil::{Function, Operation, Program};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    /// The model before.
    before: PathBuf,
    /// The model after.
    after: PathBuf,
}

/// One difference.
struct Change {
    /// What kind of thing: `version`, `feature`, `op`, `weight`, `metadata`.
    area: &'static str,
    name: String,
    before: Option<String>,
    after: Option<String>,
    /// Signal to noise ratio of a weight in dB.
    db: Option<f64>,
}

impl Change {
    fn new(
        area: &'static str,
        name: impl Into<String>,
        before: Option<String>,
        after: Option<String>,
    ) -> Self {
        Self {
            area,
            name: name.into(),
            before,
            after,
            db: None,
        }
    }

    fn line(&self) -> String {
        let (area, name) = (self.area, &self.name);
        let body = match (&self.before, &self.after) {
            (Some(b), Some(a)) => format!("{b} → {a}"),
            (Some(b), None) => format!("removed ({b})"),
            (None, Some(a)) => format!("added ({a})"),
            (None, None) => String::new(),
        };
        let db = self
            .db
            .map(|db| format!(" {} dB", table::db(db)))
            .unwrap_or_default();
        format!("{area} {name}: {body}{db}\n")
    }
}

pub(super) fn run(options: &Options, global: Global) -> anyhow::Result<Outcome> {
    let (before, after) = (
        Opened::open(&options.before)?,
        Opened::open(&options.after)?,
    );
    let changes = changes(&before, &after)?;
    if global.json {
        let list: Vec<Value> = changes
            .iter()
            .map(|c| json!({ "area": c.area, "name": c.name, "before": c.before, "after": c.after, "db": c.db }))
            .collect();
        print_json(&json!({ "schema": 1, "different": !list.is_empty(), "changes": list }))?;
    } else {
        for change in &changes {
            print!("{}", change.line());
        }
        println!("{} differences", changes.len());
    }
    Ok(if changes.is_empty() {
        Outcome::Done
    } else {
        Outcome::Findings
    })
}

fn changes(a: &Opened, b: &Opened) -> anyhow::Result<Vec<Change>> {
    let (pa, pb) = (a.program()?, b.program()?);
    let version =
        |o: &Opened| BTreeMap::from([(String::new(), o.model.specification_version.to_string())]);
    let opsets = |p: &Program| {
        p.functions
            .iter()
            .map(|(n, f)| (n.clone(), f.opset.clone()))
            .collect()
    };
    let counts = |p: &Program| {
        histogram(p)
            .into_iter()
            .map(|(k, n)| (k, n.to_string()))
            .collect()
    };
    let words = |o: &Opened| {
        metadata(
            o.model
                .description
                .as_ref()
                .and_then(|d| d.metadata.as_ref()),
        )
    };
    let mut changes = Vec::new();
    compare("version", &version(a), &version(b), &mut changes);
    compare("opset", &opsets(&pa), &opsets(&pb), &mut changes);
    compare("feature", &features(a), &features(b), &mut changes);
    compare("ops of kind", &counts(&pa), &counts(&pb), &mut changes);
    compare("op", &ops(&pa), &ops(&pb), &mut changes);
    weights((a, &pa), (b, &pb), &mut changes)?;
    compare("metadata", &words(a), &words(b), &mut changes);
    Ok(changes)
}

/// Keys that are in one map only, or with another value.
fn compare(
    area: &'static str,
    a: &BTreeMap<String, String>,
    b: &BTreeMap<String, String>,
    changes: &mut Vec<Change>,
) {
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    for name in names {
        let (before, after) = (a.get(name), b.get(name));
        if before != after {
            changes.push(Change::new(
                area,
                name.as_str(),
                before.cloned(),
                after.cloned(),
            ));
        }
    }
}

fn features(o: &Opened) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for i in o.interfaces() {
        for (role, list) in ["input", "output", "state"].iter().zip(i.lists) {
            found.extend(
                list.iter()
                    .map(|f| (format!("{}/{role} {}", i.function, f.name), feature(f))),
            );
        }
    }
    found
}

/// Ops that are no constants, by function and first output, with what they take and give.
fn ops(p: &Program) -> BTreeMap<String, String> {
    let shown = |op: &Operation| {
        let inputs: Vec<String> = inputs(op)
            .iter()
            .map(|(n, v)| format!("{n}={}", v.join("+")))
            .collect();
        let types: Vec<String> = op.outputs.iter().map(|o| o.ty.to_string()).collect();
        format!("{}({}) {}", op.kind, inputs.join(" "), types.join(", "))
    };
    all_ops(p)
        .into_iter()
        .filter(|(_, op)| op.kind != "const" && !op.kind.starts_with("constexpr_"))
        .map(|(function, op)| {
            let name = op
                .outputs
                .first()
                .map_or(op.kind.as_str(), |o| o.name.as_str());
            (format!("{function}/{name}"), shown(op))
        })
        .collect()
}

/// Constants of the functions that both have: stored form, and signal to noise ratio where the numbers differ.
fn weights(
    a: (&Opened, &Program),
    b: (&Opened, &Program),
    changes: &mut Vec<Change>,
) -> anyhow::Result<()> {
    let (source_a, source_b) = (Weights(a.0.files.clone()), Weights(b.0.files.clone()));
    for (name, fa) in &a.1.functions {
        let Some(fb) = b.1.functions.get(name) else {
            continue;
        };
        let ca = Constants::of(fa, &source_a)
            .with_context(|| format!("constants of `{}`", a.0.path.display()))?;
        let cb = Constants::of(fb, &source_b)
            .with_context(|| format!("constants of `{}`", b.0.path.display()))?;
        let (forms_a, forms_b) = (forms(fa), forms(fb));
        let types_a: BTreeMap<_, _> = ca.tensors().collect();
        let types_b: BTreeMap<_, _> = cb.tensors().collect();
        let names: BTreeSet<&str> = types_a.keys().chain(types_b.keys()).copied().collect();
        for weight in names {
            let shown = |types: &BTreeMap<&str, &gesso_mil::TensorType>,
                         forms: &BTreeMap<&str, String>| {
                let ty = types.get(weight)?;
                Some(format!(
                    "{} {ty}",
                    forms.get(weight).map_or("const", String::as_str)
                ))
            };
            let (before, after) = (shown(&types_a, &forms_a), shown(&types_b, &forms_b));
            let mut change = Change::new("weight", format!("{name}/{weight}"), before, after);
            if let (Some(x), Some(y)) = (ca.tensor(weight), cb.tensor(weight)) {
                let (x, y) = (x?, y?);
                if x.shape == y.shape {
                    change.db = distance(&x.data, &y.data);
                    if change.db == Some(f64::INFINITY) && change.before == change.after {
                        continue;
                    }
                }
            }
            changes.push(change);
        }
    }
    Ok(())
}

/// How each constant is stored: its op, with the entries of a palette.
fn forms(f: &Function) -> BTreeMap<&str, String> {
    let mut found = BTreeMap::new();
    for op in f.body().iter().flat_map(|b| &b.operations) {
        let lut = op
            .attributes
            .get("lut")
            .or_else(|| match op.inputs.get("lut")?.first()? {
                gesso_mil::Binding::Value(v) => Some(v),
                gesso_mil::Binding::Name(_) => None,
            });
        let form = match lut {
            Some(lut) => format!("{} by {}", op.kind, lut.ty),
            None => op.kind.clone(),
        };
        found.extend(op.outputs.iter().map(|o| (o.name.as_str(), form.clone())));
    }
    found
}

/// Signal to noise ratio in dB of the second against the first; infinite when they are equal, `None` for other classes.
fn distance(a: &Data, b: &Data) -> Option<f64> {
    let ratio = |signal: f64, noise: f64| match (signal, noise) {
        (_, 0.0) => f64::INFINITY,
        (signal, noise) => 10.0 * (signal / noise).log10(),
    };
    match (a, b) {
        (Data::F32(a), Data::F32(b)) => {
            let square = |x: f64| x * x;
            let signal = a.iter().map(|x| square(f64::from(*x))).sum();
            let noise = a
                .iter()
                .zip(b)
                // Equal bits have no distance, infinities and NaN included.
                .filter(|(x, y)| x.to_bits() != y.to_bits())
                .map(|(x, y)| square(f64::from(*x) - f64::from(*y)))
                .sum();
            Some(ratio(signal, noise))
        }
        (a, b) if a == b => Some(f64::INFINITY),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        let f = |v: &[f32]| Data::F32(v.to_vec());
        assert_eq!(
            distance(&f(&[1.0, 2.0]), &f(&[1.0, 2.0])),
            Some(f64::INFINITY)
        );
        let db = distance(&f(&[10.0, 0.0]), &f(&[10.0, 1.0]));
        assert!(db.is_some_and(|db| (db - 20.0).abs() < 1e-9), "{db:?}");
        assert_eq!(distance(&Data::I32(vec![1]), &Data::I32(vec![2])), None);
    }
}
