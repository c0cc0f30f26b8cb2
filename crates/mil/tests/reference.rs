//! `docs/ops.md` is the op table.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use gesso_mil::ops::{OPS, reference};

#[test]
fn the_page_is_the_table() {
    let path = gesso_testkit::project_root().join("docs/ops.md");
    if std::env::var("GESSO_WRITE_DOCS").is_ok_and(|v| v == "1") {
        std::fs::write(&path, reference()).unwrap();
    }
    let page = std::fs::read_to_string(&path).unwrap();
    assert!(
        page == reference(),
        "docs/ops.md is not the op table; write it with GESSO_WRITE_DOCS=1"
    );
}

#[test]
fn one_row_per_op_and_opset() {
    let mut rows: Vec<_> = OPS
        .iter()
        .flat_map(|g| g.iter())
        .map(|r| (r.name, r.since))
        .collect();
    let count = rows.len();
    rows.sort_unstable();
    rows.dedup();
    assert_eq!(rows.len(), count);
}
