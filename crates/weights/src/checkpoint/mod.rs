//! Checkpoints: all tensors of a model under canonical names, its configurations, and an account of what is left out.

mod build;
mod config_check;
mod config_file;
mod family;
mod folder;
mod hash;
mod ignorable;
mod json;
mod model_index;
mod open_clip;
mod prediction;
mod scheduler;
mod single_file;
mod tensors;
mod tokenizer;

pub use family::Family;
pub use model_index::ModelIndex;
pub use scheduler::SchedulerConfig;
pub use tensors::Tensors;

use crate::{Component, Error, Result, TextConfig, UnetConfig, VaeConfig};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What cannot be known from a checkpoint, or is to be read differently.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// Leave tensors of unknown use out instead of refusing the file; they are listed by [`Checkpoint::unused`].
    pub allow_unknown: bool,
    /// A diffusers folder whose `unet/config.json`, `text_encoder/config.json`, `vae/config.json` and
    /// `scheduler/scheduler_config.json` stand for those that a checkpoint has not.
    pub config_dir: Option<PathBuf>,
    /// Where the VAE comes from instead of the checkpoint itself: another checkpoint, a VAE's own file, or its folder with
    /// `diffusion_pytorch_model.safetensors`.
    pub vae: Option<PathBuf>,
    /// A folder with `vocab.json` and `merges.txt`, instead of the checkpoint's own.
    pub tokenizer: Option<PathBuf>,
    /// Attention heads of the UNet, where no configuration says it.
    pub heads: Option<usize>,
    /// Attention heads of the text encoder, where no configuration says it.
    pub text_heads: Option<usize>,
    /// Groups of the UNet's GroupNorms, where no configuration says it.
    pub norm_groups: Option<usize>,
    /// Groups of the VAE's GroupNorms, where no configuration says it.
    pub vae_norm_groups: Option<usize>,
    /// What the UNet predicts (`epsilon`, `v_prediction` or `sample`), whatever the checkpoint says.
    pub prediction_type: Option<String>,
}

/// Weights in the folder of a VAE.
const VAE_FILE: &str = "diffusion_pytorch_model.safetensors";

/// A component's tensors and configuration.
#[derive(Clone, Debug)]
struct Network<C> {
    tensors: Tensors,
    config: C,
}

/// A tensor that is in the checkpoint and not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unused {
    /// Its name in the file, or `<component>/<name>` in a folder.
    pub name: String,
    /// Why it is left out.
    pub why: &'static str,
}

/// A checkpoint: a diffusers folder, or one file in the layout of the original latent diffusion code.
///
/// Which family it is, and which tensor is which, is read from names and shapes of the tensors. Tensors are mapped, not loaded.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    path: PathBuf,
    family: Option<(Family, String)>,
    unet: Option<Network<UnetConfig>>,
    text_encoder: Option<Network<TextConfig>>,
    vae: Option<Network<VaeConfig>>,
    scheduler: SchedulerConfig,
    scheduler_json: String,
    model_index: Option<ModelIndex>,
    tokenizer: Option<tokenizer::Files>,
    metadata: BTreeMap<String, String>,
    unused: Vec<Unused>,
    notes: Vec<String>,
}

impl Checkpoint {
    /// Opens a folder or a file.
    ///
    /// Errors: those of [`crate::StFile::open`]; `NotACheckpoint`; `Family` for a recognised family that is not converted;
    /// `Missing`, `Shape`, `DType` for tensors that the structure needs; `Unknown` for tensors that nothing accounts for;
    /// `ConfigFile`, `Config` for configurations; `Tokenizer`.
    pub fn open(path: impl AsRef<Path>, options: &OpenOptions) -> Result<Self> {
        let path = path.as_ref();
        let checkpoint = if path.is_dir() {
            build::from_folder(path, options)
        } else {
            build::from_file(path, options)
        }?;
        match &options.vae {
            Some(vae) => checkpoint.with_vae(vae, options),
            None => Ok(checkpoint.noting_absence()),
        }
    }

    /// This checkpoint with the VAE of another file or folder.
    fn with_vae(mut self, path: &Path, options: &OpenOptions) -> Result<Self> {
        let mut options = OpenOptions {
            vae: None,
            tokenizer: None,
            ..options.clone()
        };
        let own = path.join(VAE_FILE);
        let file = if own.is_file() {
            // Configurations lie in `<folder>/vae/config.json`.
            let parent = path.parent().filter(|_| path.ends_with("vae"));
            options.config_dir = parent.map(Path::to_path_buf).or(options.config_dir);
            own.as_path()
        } else {
            path
        };
        let other = Self::open(file, &options)?;
        if other.vae.is_none() {
            return Err(Error::Absent {
                path: path.into(),
                component: Component::Vae,
            });
        }
        self.vae = other.vae;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        self.notes.push(format!("the VAE comes from `{name}`"));
        let of_vae = other.notes.into_iter().filter(|n| n.starts_with("vae: "));
        self.notes.extend(of_vae);
        Ok(self)
    }

    /// Notes that a model without a VAE makes no pictures.
    fn noting_absence(mut self) -> Self {
        if self.unet.is_some() && self.vae.is_none() {
            self.notes
                .push("there is no VAE in it; `--vae` supplies one".into());
        }
        self
    }

    /// The folder or file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The family; `None` when there is no UNet.
    pub fn family(&self) -> Option<Family> {
        self.family.as_ref().map(|(family, _)| *family)
    }

    /// The sign by which the family is known, for instance ``its UNet takes text states of width 1024``.
    pub fn family_sign(&self) -> Option<&str> {
        self.family.as_ref().map(|(_, sign)| sign.as_str())
    }

    /// Tensors of a component under canonical names; `None` when the checkpoint has no such component.
    pub fn component(&self, component: Component) -> Option<&Tensors> {
        match component {
            Component::Unet => self.unet.as_ref().map(|n| &n.tensors),
            Component::TextEncoder => self.text_encoder.as_ref().map(|n| &n.tensors),
            Component::TextEncoder2 => None,
            Component::Vae => self.vae.as_ref().map(|n| &n.tensors),
        }
    }

    /// The components that are there.
    pub fn components(&self) -> impl Iterator<Item = (Component, &Tensors)> {
        [Component::Unet, Component::TextEncoder, Component::Vae]
            .into_iter()
            .filter_map(|c| Some((c, self.component(c)?)))
    }

    /// Configuration of the UNet.
    ///
    /// Errors: `Absent`.
    pub fn unet_config(&self) -> Result<&UnetConfig> {
        self.config(self.unet.as_ref(), Component::Unet)
    }

    /// Configuration of the text encoder.
    ///
    /// Errors: `Absent`.
    pub fn text_config(&self) -> Result<&TextConfig> {
        self.config(self.text_encoder.as_ref(), Component::TextEncoder)
    }

    /// Configuration of the VAE.
    ///
    /// Errors: `Absent`.
    pub fn vae_config(&self) -> Result<&VaeConfig> {
        self.config(self.vae.as_ref(), Component::Vae)
    }

    fn config<'a, C>(
        &self,
        network: Option<&'a Network<C>>,
        component: Component,
    ) -> Result<&'a C> {
        network.map(|n| &n.config).ok_or_else(|| Error::Absent {
            path: self.path.clone(),
            component,
        })
    }

    /// The scheduler; that of the family when the checkpoint does not say.
    pub fn scheduler_config(&self) -> &SchedulerConfig {
        &self.scheduler
    }

    /// Text of `scheduler_config.json`: the checkpoint's own, or one made from [`Checkpoint::scheduler_config`].
    pub fn scheduler_json(&self) -> &str {
        &self.scheduler_json
    }

    /// What a folder's `model_index.json` says.
    pub fn model_index(&self) -> Option<&ModelIndex> {
        self.model_index.as_ref()
    }

    /// Paths of `vocab.json` and `merges.txt`.
    pub fn tokenizer(&self) -> Option<(&Path, &Path)> {
        let (vocab, merges) = self.tokenizer.as_ref()?;
        Some((vocab, merges))
    }

    /// `__metadata__` of all files together; a file that comes earlier (UNet, text encoder, VAE) wins.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The licence that the metadata states.
    pub fn license(&self) -> Option<&str> {
        self.first_of(&["modelspec.license", "license"])
    }

    /// The author that the metadata states.
    pub fn author(&self) -> Option<&str> {
        self.first_of(&["modelspec.author", "author"])
    }

    /// The title that the metadata states.
    pub fn title(&self) -> Option<&str> {
        self.first_of(&["modelspec.title", "title", "name"])
    }

    fn first_of(&self, keys: &[&str]) -> Option<&str> {
        keys.iter()
            .find_map(|key| self.metadata.get(*key))
            .map(String::as_str)
            .filter(|text| !text.is_empty())
    }

    /// Tensors that are left out, each with the reason. Every tensor of the checkpoint is either here or in a component.
    pub fn unused(&self) -> &[Unused] {
        &self.unused
    }

    /// What was assumed, chosen or skipped while reading, in words.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// SHA-256 over the tensors of `components` by canonical name: equal for a folder and a single file of the same weights.
    pub fn source_hash(&self, components: &[Component]) -> [u8; 32] {
        hash::source_hash(self, components)
    }
}
