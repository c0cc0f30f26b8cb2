//! What all LoRAs of one call have in common: the base, its modules, the options.

use crate::args::Adapter;
use crate::base::Base;
use crate::commands::overwrite;
use crate::source;
use gesso_convert::Progress;
use gesso_convert::adapter::{AdapterOptions, AdapterReport, write_adapter};
use gesso_coreml::stage::Staging;
use gesso_weights::lora::ModuleTable;
use std::path::Path;

/// Makes assets for one base.
pub(super) struct Maker<'a> {
    options: &'a Adapter,
    base: &'a Base,
    modules: ModuleTable,
}

impl<'a> Maker<'a> {
    /// Errors: a base without slots.
    pub(super) fn new(options: &'a Adapter, base: &'a Base) -> anyhow::Result<Self> {
        Ok(Self {
            options,
            base,
            modules: base.modules()?,
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
        let staging = Staging::file(output, overwrite(self.options.force))?;
        let adapter = AdapterOptions {
            name: self.options.name.clone(),
            default_strength: self.options.strength,
            exact: self.options.exact,
        };
        let report = write_adapter(&lora, &self.base.info, &adapter, staging.path(), progress)?;
        staging.commit()?;
        Ok(report)
    }
}
