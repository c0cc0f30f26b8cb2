//! What a module declares, from the symbol graphs that `swift-symbolgraph-extract` writes.

use super::table::{Declaration, one_spelling};
use anyhow::Context;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Protocols whose conformances Apple's table lists, besides those named `NS…` and `ML…`.
const SENDABLE: &str = "Sendable";

/// Public declarations of the module, conformances too, from its graph and those of its extensions of other modules.
///
/// A member that a type has from a protocol of the module counts as the type's; one from another module's protocol
/// (`map` of every collection) does not count.
pub(super) fn declarations(graphs: &[Value]) -> anyhow::Result<BTreeSet<Declaration>> {
    let mut all = BTreeSet::new();
    let mut paths = BTreeMap::new();
    for graph in graphs {
        for symbol in list(graph, "symbols") {
            let id = text(&symbol["identifier"]["precise"])?;
            paths.insert(id, path(symbol)?);
        }
    }
    for graph in graphs {
        for symbol in list(graph, "symbols") {
            let id = text(&symbol["identifier"]["precise"])?;
            let own = match id.split_once("::SYNTHESIZED::") {
                Some((origin, _)) => paths.contains_key(origin),
                None => true,
            };
            if own && symbol["accessLevel"] != "internal" {
                all.insert((path(symbol)?, declaration(symbol)?));
            }
        }
        for relation in list(graph, "relationships") {
            let kind = relation["kind"].as_str();
            if kind != Some("conformsTo") && kind != Some("inheritsFrom") {
                continue;
            }
            let Some(path) = relation["source"].as_str().and_then(|id| paths.get(id)) else {
                continue;
            };
            let name = target(relation, &paths);
            if name == "NSObjectProtocol" {
                continue; // What every class of Foundation has.
            }
            if name == SENDABLE || name.starts_with("NS") || name.starts_with("ML") {
                all.insert((path.clone(), format!(": {name}")));
            }
        }
    }
    Ok(all)
}

/// Name of what a relation points to, without its module.
fn target(relation: &Value, paths: &BTreeMap<&str, String>) -> String {
    let id = relation["target"].as_str().unwrap_or_default();
    if let Some(path) = paths.get(id) {
        return path.clone();
    }
    if id == "s:s8SendableP" {
        return SENDABLE.into();
    }
    let name = relation["targetFallback"].as_str().unwrap_or(id);
    name.split_once('.').map_or(name, |(_, name)| name).into()
}

fn list<'a>(graph: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    graph[key].as_array().into_iter().flatten()
}

fn text(value: &Value) -> anyhow::Result<&str> {
    value
        .as_str()
        .context("the symbol graph has another form than Swift 6's")
}

fn path(symbol: &Value) -> anyhow::Result<String> {
    let parts: Vec<&str> = list(symbol, "pathComponents")
        .filter_map(Value::as_str)
        .collect();
    anyhow::ensure!(!parts.is_empty(), "a symbol without a path");
    Ok(parts.join("."))
}

fn declaration(symbol: &Value) -> anyhow::Result<String> {
    let mut declared = String::new();
    for fragment in list(symbol, "declarationFragments") {
        if fragment["kind"] != "attribute" {
            declared.push_str(text(&fragment["spelling"])?);
        }
    }
    Ok(one_spelling(&path(symbol)?, &declared))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::declarations;
    use serde_json::json;

    #[test]
    fn symbols_and_conformances_are_declarations() {
        let graph = json!({
            "symbols": [
                {"identifier": {"precise": "a"}, "accessLevel": "open", "pathComponents": ["MLThing"],
                 "declarationFragments": [{"kind": "keyword", "spelling": "class"}, {"kind": "text", "spelling": " "},
                   {"kind": "identifier", "spelling": "MLThing"}]},
                {"identifier": {"precise": "b::SYNTHESIZED::a"}, "accessLevel": "public",
                 "pathComponents": ["MLThing", "map(_:)"], "declarationFragments": []},
            ],
            "relationships": [
                {"kind": "inheritsFrom", "source": "a", "target": "c", "targetFallback": "Foundation.NSObject"},
                {"kind": "conformsTo", "source": "a", "target": "s:s8SendableP", "targetFallback": "Swift.Sendable"},
                {"kind": "conformsTo", "source": "a", "target": "s:SQ", "targetFallback": "Swift.Equatable"},
            ],
        });
        let got: Vec<_> = declarations(&[graph]).unwrap().into_iter().collect();
        let want = [": NSObject", ": Sendable", "class MLThing"];
        assert_eq!(got, want.map(|d| ("MLThing".to_owned(), d.to_owned())));
    }
}
