//! Messages of a `model.mlmodel` file.
//!
//! Generated from the schema files in `proto/` by `cargo xtask codegen`. Maps are B-tree maps, so the same message
//! always encodes to the same bytes.

/// The model, its description and its feature types: package `CoreML.Specification`.
#[allow(
    missing_docs,
    clippy::all,
    reason = "generated; derived items carry no docs"
)]
pub mod specification;

/// Programs: package `CoreML.Specification.MILSpec`.
#[allow(
    missing_docs,
    clippy::all,
    reason = "generated; derived items carry no docs"
)]
pub mod mil_spec;
