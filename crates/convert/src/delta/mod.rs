//! Deltas: assets that replace the weights which a LoRA changes in a given base, already in the base's form.

mod apply;
mod archive;
mod base;
mod make;
mod manifest;
mod replace;

pub use apply::{Applied, AppliedDelta, apply_delta};
pub use archive::{Delta, check};
pub use make::{DeltaOptions, DeltaReport, DeltaTensor, write_delta};
pub use manifest::{DeltaLora, Manifest, Patch, WeightFile};

/// Version of the manifest's form.
pub const SCHEMA: u32 = 1;
/// Version of this reader of deltas.
pub const READER: u32 = 1;
/// Oldest reader that understands what this crate writes.
const MIN_READER: u32 = 1;
/// Says that an archive is a delta.
const KIND: &str = "gesso.delta";

/// Largest manifest that is read: a patch takes about 300 bytes, a large UNet has some thousand tensors.
const MAX_MANIFEST: usize = 64 << 20;
