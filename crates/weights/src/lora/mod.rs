//! LoRA and LyCORIS adapter files: from any tool's spelling to canonical modules and what is added to their weights.
//!
//! ```text
//! Lora::open ── format, configuration ──▶ Lora::resolve(&ModuleTable) ──▶ ResolvedLora { modules: path → Adapter }
//! ```
//! Names are looked up in a dictionary built from the target's module list ([`ModuleTable`]); the algorithm is chosen per
//! module from the tensors that it has; every tensor is applied, ignored with a reason, or an error.

mod accounting;
mod adapter;
mod algorithm;
mod approximate;
mod config;
mod decompose;
mod dialect;
mod error;
mod factor;
mod family;
mod file;
mod format;
mod low_rank;
mod matrix;
mod module;
mod part;
mod release;
mod resolve;
mod resolved;
mod speed;

pub use accounting::{Ignored, Unmatched};
pub use adapter::Adapter;
pub use approximate::approximate;
pub use error::LoraError;
pub use family::Family;
pub use file::Lora;
pub use format::Format;
pub use low_rank::{LowRank, truncate};
pub use module::{ModuleInfo, ModuleKind, ModuleTable};
pub use release::Release;
pub use resolve::ResolveOptions;
pub use resolved::ResolvedLora;
pub use speed::{Sampler, Speed, SpeedKind};
