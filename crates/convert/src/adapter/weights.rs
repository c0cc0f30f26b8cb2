//! The weights that a base was converted from.

use crate::folder::FolderInfo;
use crate::{Error, Result};
use gesso_weights::{Checkpoint, Component};

/// The source of a base, for differences that depend on its weights.
#[derive(Clone, Copy, Debug)]
pub struct BaseWeights<'a> {
    checkpoint: &'a Checkpoint,
}

impl<'a> BaseWeights<'a> {
    /// `checkpoint` as the source of the converted folder that `base` describes.
    ///
    /// Reads every tensor for the hash.
    ///
    /// Errors: [`Error::OtherCheckpoint`] when the folder was converted from another source.
    pub fn new(checkpoint: &'a Checkpoint, base: &FolderInfo) -> Result<Self> {
        let found = base.hash_of(checkpoint);
        if found != base.source_hash {
            return Err(Error::OtherCheckpoint {
                checkpoint: checkpoint.path().display().to_string(),
                expected: base.source_hash.clone(),
                found,
            });
        }
        Ok(Self { checkpoint })
    }

    /// The checkpoint.
    pub(crate) fn checkpoint(self) -> &'a Checkpoint {
        self.checkpoint
    }

    /// The pristine weight of a module, in row-major order.
    ///
    /// Errors: [`Error::MissingTensor`].
    pub(super) fn weight(self, component: Component, path: &str) -> Result<Vec<f32>> {
        let name = format!("{path}.weight");
        let tensor = self
            .checkpoint
            .component(component)
            .and_then(|tensors| tensors.get(&name))
            .ok_or_else(|| Error::MissingTensor {
                key: format!("{}:{name}", component.as_str()),
            })?;
        Ok(tensor.to_f32().into_owned())
    }
}
