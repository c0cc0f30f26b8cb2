//! Packages and compiled models.

use super::weight::{self, Constant};
use super::{Page, lines};
use crate::opened::Opened;
use crate::table::{self, Table};
use gesso_coreml::proto::specification::array_feature_type::{
    ArrayDataType, DefaultOptionalValue, ShapeFlexibility,
};
use gesso_coreml::proto::specification::feature_type::Type;
use gesso_coreml::proto::specification::{
    ArrayFeatureType, FeatureDescription, Metadata, state_feature_type,
};
use gesso_mil::{Binding, Block, Operation, Program};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Names of the three lists of an interface.
const LISTS: [&str; 3] = ["inputs", "outputs", "states"];

pub(super) fn page(opened: &Opened, ops: bool, tensors: bool) -> anyhow::Result<Page> {
    let program = opened.program()?;
    let constants = weight::constants(&program);
    let histogram = histogram(&program);
    let by_dtype = weight::by_dtype(&constants);
    let by_module = weight::by_module(&constants);
    let description = opened.model.description.clone().unwrap_or_default();
    let metadata = metadata(description.metadata.as_ref());
    let opsets: BTreeMap<&str, &str> = program
        .functions
        .iter()
        .map(|(n, f)| (n.as_str(), f.opset.as_str()))
        .collect();

    let mut json = json!({
        "kind": opened.form.word(),
        "path": opened.path.display().to_string(),
        "specification_version": opened.model.specification_version,
        "default_function": description.default_function_name,
        "opsets": opsets,
        "functions": features(opened),
        "histogram": histogram,
        "weight_bytes": opened.files.bytes(),
        "bytes_by_dtype": by_dtype,
        "bytes_by_module": by_module,
        "palettes": palettes(&constants),
        "metadata": metadata,
    });
    let opsets: Vec<&str> = opsets.into_values().collect();
    let mut text = lines(&[
        ("kind", opened.form.word().into()),
        (
            "specification version",
            opened.model.specification_version.to_string(),
        ),
        ("opset", opsets.join(", ")),
        (
            "default function",
            description.default_function_name.clone(),
        ),
        ("weights", table::bytes(opened.files.bytes())),
    ]);
    text += "\n";
    text += &feature_table(opened).text();
    text += &counts("op", "count", &histogram, |n| n.to_string());
    text += &counts("dtype", "bytes", &by_dtype, |n| table::bytes(*n));
    text += &counts("module", "bytes", &by_module, |n| table::bytes(*n));
    text += &palette_table(&constants);
    if !metadata.is_empty() {
        let pairs: Vec<_> = metadata
            .iter()
            .map(|(n, v)| (n.as_str(), v.clone()))
            .collect();
        text += "\n";
        text += &lines(&pairs);
    }
    if ops {
        json["ops"] = all_ops(&program)
            .iter()
            .map(|(f, o)| op_json(f, o))
            .collect();
        text += "\n";
        text += &op_table(&program).text();
    }
    if tensors {
        json["tensors"] = constants.iter().map(tensor_json).collect();
        text += "\n";
        text += &tensor_table(&constants).text();
    }
    Ok(Page {
        json,
        text,
        problem: None,
    })
}

/// A table of counts, the largest first; nothing when there are none.
fn counts<N: Copy + Ord>(
    name: &str,
    what: &str,
    counts: &BTreeMap<String, N>,
    cell: impl Fn(&N) -> String,
) -> String {
    if counts.is_empty() {
        return String::new();
    }
    let mut rows: Vec<_> = counts.iter().collect();
    rows.sort_by_key(|(name, n)| (std::cmp::Reverse(**n), *name));
    let mut table = Table::new(&[name, what]);
    for (name, n) in rows {
        table.row(&[name.clone(), cell(n)]);
    }
    format!("\n{}", table.text())
}

/// Ops by name, constants left out, nested blocks included.
pub(crate) fn histogram(program: &Program) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for (_, op) in all_ops(program).iter().filter(|(_, op)| op.kind != "const") {
        *counts.entry(op.kind.clone()).or_default() += 1;
    }
    counts
}

/// Every op with its function, in program order.
pub(crate) fn all_ops(program: &Program) -> Vec<(&str, &Operation)> {
    fn walk<'a>(function: &'a str, b: &'a Block, found: &mut Vec<(&'a str, &'a Operation)>) {
        for op in &b.operations {
            found.push((function, op));
            for inner in &op.blocks {
                walk(function, inner, found);
            }
        }
    }
    let mut found = Vec::new();
    for (name, f) in &program.functions {
        if let Some(body) = f.body() {
            walk(name, body, &mut found);
        }
    }
    found
}

/// A feature's type in words: `FLOAT16 [2, 4, 64, 64]`.
pub(crate) fn feature(f: &FeatureDescription) -> String {
    let Some(ty) = &f.r#type else {
        return "no type".into();
    };
    let mut words = match &ty.r#type {
        Some(Type::MultiArrayType(a)) => array(a),
        Some(Type::StateType(s)) => match &s.r#type {
            Some(state_feature_type::Type::ArrayType(a)) => format!("state {}", array(a)),
            None => "state".into(),
        },
        Some(Type::ImageType(i)) => format!("image {} × {}", i.width, i.height),
        Some(Type::Int64Type(_)) => "integer".into(),
        Some(Type::DoubleType(_)) => "double".into(),
        Some(Type::StringType(_)) => "string".into(),
        Some(Type::DictionaryType(_)) => "dictionary".into(),
        Some(Type::SequenceType(_)) => "sequence".into(),
        None => "no type".into(),
    };
    if ty.is_optional {
        words += ", optional";
    }
    words
}

fn array(a: &ArrayFeatureType) -> String {
    let dtype = ArrayDataType::try_from(a.data_type).map_or("no dtype", |d| d.as_str_name());
    let mut words = format!("{dtype} {:?}", a.shape);
    match &a.shape_flexibility {
        Some(ShapeFlexibility::EnumeratedShapes(e)) => {
            words += &format!(", {} shapes", e.shapes.len())
        }
        Some(ShapeFlexibility::ShapeRange(r)) => {
            let ranges: Vec<String> = r
                .size_ranges
                .iter()
                .map(|r| match r.upper_bound {
                    high if high < 0 => format!("{}…", r.lower_bound),
                    high => format!("{}…{high}", r.lower_bound),
                })
                .collect();
            words += &format!(", ranges {}", ranges.join(" × "));
        }
        None => {}
    }
    match a.default_optional_value {
        Some(DefaultOptionalValue::IntDefaultValue(v)) => words += &format!(", default {v}"),
        Some(DefaultOptionalValue::FloatDefaultValue(v)) => words += &format!(", default {v}"),
        Some(DefaultOptionalValue::DoubleDefaultValue(v)) => words += &format!(", default {v}"),
        None => {}
    }
    words
}

fn features(opened: &Opened) -> Value {
    let mut functions = serde_json::Map::new();
    for i in opened.interfaces() {
        let mut lists = serde_json::Map::new();
        for (name, list) in LISTS.iter().zip(i.lists) {
            let list: Vec<Value> = list
                .iter()
                .map(|f| json!({ "name": f.name, "type": feature(f), "description": f.short_description }))
                .collect();
            lists.insert((*name).into(), list.into());
        }
        functions.insert(i.function.into(), lists.into());
    }
    functions.into()
}

fn feature_table(opened: &Opened) -> Table {
    let mut table = Table::new(&["function", "role", "name", "type"]);
    for i in opened.interfaces() {
        for (role, list) in ["input", "output", "state"].iter().zip(i.lists) {
            for f in list {
                table.row(&[
                    i.function.into(),
                    (*role).into(),
                    f.name.clone(),
                    feature(f),
                ]);
            }
        }
    }
    table
}

/// Metadata by key, empty values left out.
pub(crate) fn metadata(m: Option<&Metadata>) -> BTreeMap<String, String> {
    let Some(m) = m else { return BTreeMap::new() };
    let own = [
        ("shortDescription", &m.short_description),
        ("versionString", &m.version_string),
        ("author", &m.author),
        ("license", &m.license),
    ];
    let own = own.into_iter().map(|(n, v)| (n.to_string(), v.clone()));
    own.chain(m.user_defined.clone())
        .filter(|(_, v)| !v.is_empty())
        .collect()
}

fn palettes(constants: &[Constant<'_>]) -> Value {
    constants
        .iter()
        .filter_map(|c| {
            let p = weight::palette(c)?;
            Some(json!({
                "function": c.function, "name": c.name(), "type": c.ty.to_string(), "bits": p.bits,
                "groups": p.groups, "vector": p.vector, "bytes": c.bytes(),
            }))
        })
        .collect()
}

fn palette_table(constants: &[Constant<'_>]) -> String {
    let mut table = Table::new(&["palettized", "bits", "groups", "vector", "type", "bytes"]);
    let mut any = false;
    for c in constants {
        let Some(p) = weight::palette(c) else {
            continue;
        };
        any = true;
        table.row(&[
            c.name().into(),
            p.bits.to_string(),
            p.groups.to_string(),
            p.vector.to_string(),
            c.ty.to_string(),
            table::bytes(c.bytes()),
        ]);
    }
    if any {
        format!("\n{}", table.text())
    } else {
        String::new()
    }
}

/// The names that an op takes, parameter by parameter.
pub(crate) fn inputs(op: &Operation) -> BTreeMap<&str, Vec<&str>> {
    op.inputs
        .iter()
        .map(|(parameter, bindings)| {
            let names = bindings.iter().map(|b| match b {
                Binding::Name(n) => n.as_str(),
                Binding::Value(_) => "(literal)",
            });
            (parameter.as_str(), names.collect())
        })
        .collect()
}

fn op_json(function: &str, op: &Operation) -> Value {
    let outputs: Vec<Value> = op
        .outputs
        .iter()
        .map(|o| json!({ "name": o.name, "type": o.ty.to_string() }))
        .collect();
    json!({ "function": function, "op": op.kind, "inputs": inputs(op), "outputs": outputs })
}

fn op_table(program: &Program) -> Table {
    let mut table = Table::new(&["op", "output", "type", "inputs"]);
    for (_, op) in all_ops(program).iter().filter(|(_, op)| op.kind != "const") {
        let inputs: Vec<String> = inputs(op)
            .iter()
            .map(|(p, names)| format!("{p}={}", names.join("+")))
            .collect();
        let names: Vec<&str> = op.outputs.iter().map(|o| o.name.as_str()).collect();
        let types: Vec<String> = op.outputs.iter().map(|o| o.ty.to_string()).collect();
        table.row(&[
            op.kind.clone(),
            names.join(", "),
            types.join(", "),
            inputs.join(" "),
        ]);
    }
    table
}

fn tensor_json(c: &Constant<'_>) -> Value {
    let parts: Vec<Value> = c
        .parts
        .iter()
        .map(|(parameter, t, place)| {
            json!({
                "parameter": parameter, "type": t.to_string(), "bytes": weight::bytes(t),
                "file": place.map(|p| p.0), "offset": place.map(|p| p.1),
            })
        })
        .collect();
    json!({ "function": c.function, "name": c.name(), "op": c.op.kind, "type": c.ty.to_string(), "parts": parts })
}

fn tensor_table(constants: &[Constant<'_>]) -> Table {
    let mut table = Table::new(&["tensor", "op", "type", "stored as", "offset", "bytes"]);
    for c in constants {
        for (parameter, t, place) in &c.parts {
            let stored = if *parameter == "val" {
                t.dtype.to_string()
            } else {
                format!("{parameter} {t}")
            };
            let offset = place.map_or("–".into(), |p| p.1.to_string());
            table.row(&[
                c.name().into(),
                c.op.kind.clone(),
                c.ty.to_string(),
                stored,
                offset,
                weight::bytes(t).to_string(),
            ]);
        }
    }
    table
}
