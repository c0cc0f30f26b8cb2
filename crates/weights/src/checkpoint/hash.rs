//! The hash that identifies weights, whatever file they lie in.

use super::Checkpoint;
use crate::Component;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;

/// SHA-256 over the tensors of these components that are there, sorted by `<component>:<canonical name>`. Each contributes
///
/// ```text
/// u64 length, then the name            `unet:conv_in.bias`
/// u64 length, then the dtype           `F16`
/// u64 rank, then u64 per dimension
/// u64 length, then the elements, little endian
/// ```
///
/// with all lengths little endian.
pub(super) fn source_hash(checkpoint: &Checkpoint, components: &[Component]) -> [u8; 32] {
    let mut names: BTreeSet<(String, Component, &str)> = BTreeSet::new();
    for &component in components {
        for name in checkpoint
            .component(component)
            .into_iter()
            .flat_map(|t| t.names())
        {
            names.insert((format!("{component}:{name}"), component, name));
        }
    }
    let mut hasher = Sha256::new();
    let framed = |hasher: &mut Sha256, bytes: &[u8]| {
        hasher.update((bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    for (key, component, name) in names {
        let Some(tensor) = checkpoint.component(component).and_then(|t| t.get(name)) else {
            continue;
        };
        framed(&mut hasher, key.as_bytes());
        framed(&mut hasher, tensor.dtype.as_str().as_bytes());
        hasher.update((tensor.shape.len() as u64).to_le_bytes());
        for &dim in tensor.shape {
            hasher.update((dim as u64).to_le_bytes());
        }
        framed(&mut hasher, tensor.bytes);
    }
    hasher.finalize().into()
}
