//! A drawing of a program: ops in layers, from inputs at the top to outputs at the bottom.

use gesso_mil::{Binding, Function, Program};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Width and height of a box and the gaps between boxes, in pixels.
const BOX: (usize, usize) = (190, 34);
const GAP: (usize, usize) = (20, 34);

struct Node<'a> {
    title: &'a str,
    subtitle: String,
    layer: usize,
    column: usize,
    from: Vec<usize>,
}

/// The functions of a program, one under the other. Constants are not drawn.
pub(super) fn svg(program: &Program) -> String {
    let mut body = String::new();
    let (mut width, mut top) = (0, 0);
    for (name, f) in &program.functions {
        let nodes = nodes(f);
        // Writing to a string does not fail.
        let _ = writeln!(
            body,
            r#"<text x="10" y="{}" class="f">{}</text>"#,
            top + 18,
            escaped(name)
        );
        top += 26;
        draw(&nodes, top, &mut body);
        let columns = nodes.iter().map(|n| n.column + 1).max().unwrap_or(0);
        let layers = nodes.iter().map(|n| n.layer + 1).max().unwrap_or(0);
        width = width.max(columns * (BOX.0 + GAP.0) + GAP.0);
        top += layers * (BOX.1 + GAP.1) + GAP.1;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{top}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <style>.b{{fill:#eef;stroke:#447}}.i{{fill:#efe;stroke:#474}}.s{{fill:#666;font-size:9px}}.f{{font-size:15px}}\
         .e{{stroke:#99a;fill:none}}</style>\n{body}</svg>\n"
    )
}

fn nodes(f: &Function) -> Vec<Node<'_>> {
    let mut nodes: Vec<Node<'_>> = Vec::new();
    let mut made: BTreeMap<&str, usize> = BTreeMap::new();
    let mut columns: BTreeMap<usize, usize> = BTreeMap::new();
    let mut place = |layer: usize| {
        let column = columns.entry(layer).or_default();
        *column += 1;
        *column - 1
    };
    for input in &f.inputs {
        made.insert(&input.name, nodes.len());
        nodes.push(Node {
            title: &input.name,
            subtitle: input.ty.to_string(),
            layer: 0,
            column: place(0),
            from: Vec::new(),
        });
    }
    for op in f.body().iter().flat_map(|b| &b.operations) {
        if op.kind == "const" || op.kind.starts_with("constexpr_") {
            continue;
        }
        let names = op.inputs.values().flatten().filter_map(|b| match b {
            Binding::Name(n) => made.get(n.as_str()).copied(),
            Binding::Value(_) => None,
        });
        let mut from: Vec<usize> = names.collect();
        from.sort_unstable();
        from.dedup();
        let layer = from
            .iter()
            .filter_map(|&i| nodes.get(i))
            .map(|n| n.layer + 1)
            .max()
            .unwrap_or(1);
        made.extend(op.outputs.iter().map(|o| (o.name.as_str(), nodes.len())));
        let subtitle = op
            .outputs
            .first()
            .map(|o| o.ty.to_string())
            .unwrap_or_default();
        nodes.push(Node {
            title: &op.kind,
            subtitle,
            layer,
            column: place(layer),
            from,
        });
    }
    nodes
}

fn draw(nodes: &[Node<'_>], top: usize, body: &mut String) {
    let at = |n: &Node<'_>| {
        (
            GAP.0 + n.column * (BOX.0 + GAP.0),
            top + n.layer * (BOX.1 + GAP.1),
        )
    };
    for n in nodes {
        let (x, y) = at(n);
        for from in n.from.iter().filter_map(|&i| nodes.get(i)) {
            let (fx, fy) = at(from);
            let (x1, y1, x2) = (fx + BOX.0 / 2, fy + BOX.1, x + BOX.0 / 2);
            let middle = (y1 + y) / 2;
            let _ = writeln!(
                body,
                r#"<path class="e" d="M{x1} {y1}C{x1} {middle} {x2} {middle} {x2} {y}"/>"#
            );
        }
    }
    for n in nodes {
        let (x, y) = at(n);
        let class = if n.layer == 0 { "i" } else { "b" };
        let _ = writeln!(
            body,
            r#"<rect class="{class}" x="{x}" y="{y}" width="{}" height="{}" rx="4"/><text x="{}" y="{}">{}</text><text class="s" x="{}" y="{}">{}</text>"#,
            BOX.0,
            BOX.1,
            x + 6,
            y + 14,
            escaped(n.title),
            x + 6,
            y + 27,
            escaped(&n.subtitle),
        );
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
