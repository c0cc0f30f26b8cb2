//! What all LoRAs of one call have in common: the base, its modules, its weights, the options.

use crate::args::Adapter;
use crate::base::Base;
use crate::commands::overwrite;
use crate::source::{self, Weighted};
use anyhow::Context;
use gesso_convert::Progress;
use gesso_convert::adapter::{
    AdapterOptions, AdapterReport, BaseWeights, write_adapter, write_merged,
};
use gesso_convert::merged::Baked;
use gesso_coreml::stage::Staging;
use gesso_weights::Checkpoint;
use gesso_weights::lora::ModuleTable;
use std::path::{Path, PathBuf};

/// Opens the checkpoint of `--checkpoint`.
pub(super) fn checkpoint(options: &Adapter) -> anyhow::Result<Option<Checkpoint>> {
    options
        .checkpoint
        .as_deref()
        .map(|path| source::checkpoint(path, &options.source))
        .transpose()
}

/// Makes assets for one base.
pub(super) struct Maker<'a> {
    options: &'a Adapter,
    base: &'a Base,
    modules: ModuleTable,
    weights: Option<BaseWeights<'a>>,
}

impl<'a> Maker<'a> {
    /// Errors: a base without slots, or one that was converted from another checkpoint.
    pub(super) fn new(
        options: &'a Adapter,
        base: &'a Base,
        checkpoint: Option<&'a Checkpoint>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            options,
            base,
            modules: base.modules()?,
            weights: checkpoint
                .map(|c| BaseWeights::new(c, &base.info))
                .transpose()?,
        })
    }

    /// Writes the asset of one LoRA into a temporary sibling of `output` and moves it into place.
    pub(super) fn make(
        &self,
        lora: &Path,
        output: &Path,
        progress: &mut dyn Progress,
    ) -> anyhow::Result<AdapterReport> {
        let lora = source::resolved(lora, &self.modules, &self.options.ignore)?;
        self.staged(output, |file, options| {
            write_adapter(&lora, &self.base.info, options, file, progress)
        })
    }

    /// Writes the asset of the weighted sum of `loras`, each `FILE[:STRENGTH]`, as [`Self::make`] does.
    pub(super) fn merge(
        &self,
        loras: &[PathBuf],
        output: &Path,
        progress: &mut dyn Progress,
    ) -> anyhow::Result<AdapterReport> {
        let baked = loras
            .iter()
            .map(|argument| {
                let text = argument
                    .to_str()
                    .with_context(|| format!("`{}` is not UTF-8", argument.display()))?;
                let weighted = Weighted::parse(text)?;
                let (unet_strength, text_encoder_strength) =
                    weighted.strengths.unwrap_or((1.0, 1.0));
                let lora = source::resolved(&weighted.path, &self.modules, &self.options.ignore)?;
                Ok(Baked {
                    lora,
                    unet_strength,
                    text_encoder_strength,
                })
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        self.staged(output, |file, options| {
            write_merged(&baked, &self.base.info, options, file, progress)
        })
    }

    fn staged(
        &self,
        output: &Path,
        write: impl FnOnce(&Path, &AdapterOptions<'_>) -> gesso_convert::Result<AdapterReport>,
    ) -> anyhow::Result<AdapterReport> {
        let staging = Staging::file(output, overwrite(self.options.force))?;
        let options = AdapterOptions {
            name: self.options.name.clone(),
            default_strength: self.options.strength,
            exact: self.options.exact,
            rank: self.options.rank.map(|r| r as usize),
            bits: self.options.bits,
            weights: self.weights,
        };
        let report = write(staging.path(), &options)?;
        staging.commit()?;
        Ok(report)
    }
}
