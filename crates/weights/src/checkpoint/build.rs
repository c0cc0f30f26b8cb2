//! From files to a checkpoint.

use super::family::{Signs, family};
use super::tensors::{Pool, listed, missing_error};
use super::{
    Checkpoint, Family, ModelIndex, Network, OpenOptions, SchedulerConfig, Tensors, Unused,
    config_check, config_file, folder, ignorable, json, open_clip, prediction, single_file,
    tokenizer,
};
use crate::layout::{
    Naming, NoConfig, Row, Shapes, text_config, text_rows, unet_config, unet_rows, vae_config,
    vae_rows,
};
use crate::{Component, Error, Result, StFile, TextActivation, TextConfig, UnetConfig, VaeConfig};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const COMPONENTS: [Component; 3] = [Component::Unet, Component::TextEncoder, Component::Vae];

/// Channels per attention head of Stable Diffusion 2.
const SD2_HEAD_WIDTH: usize = 64;

/// Unclaimed tensors of each component.
type Parts = BTreeMap<Component, (Pool, Naming)>;

/// A checkpoint under construction.
struct Build<'o> {
    path: PathBuf,
    options: &'o OpenOptions,
    /// Folders that may hold `<component>/config.json`, the checkpoint's own first.
    config_dirs: Vec<PathBuf>,
    tokenizer: Option<tokenizer::Files>,
    metadata: BTreeMap<String, String>,
    /// Unclaimed tensors: name for messages, name by which the ignorable ones are known.
    left: Vec<(String, String)>,
    /// Tensors that are known not to be used, beside the ignorable ones.
    skipped: Vec<Unused>,
    /// The text encoder came in OpenCLIP's words.
    open_clip: bool,
    family: Option<(Family, String)>,
    notes: Vec<String>,
}

/// A diffusers folder.
pub(super) fn from_folder(path: &Path, options: &OpenOptions) -> Result<Checkpoint> {
    let own = path.join("tokenizer");
    let mut build = Build::new(path, options, own.is_dir().then_some(own.as_path()))?;
    build.config_dirs.insert(0, path.into());
    let mut parts = BTreeMap::new();
    let mut all = Pool::default();
    for component in COMPONENTS {
        let Some(part) = folder::part(path, component)? else {
            continue;
        };
        for file in &part.files {
            build.describe(file);
            for name in file.names() {
                all.add(file, &format!("{component}.{name}"), name)?;
            }
        }
        build.notes.extend(part.note);
        parts.insert(component, (part.pool, Naming::Diffusers));
    }
    let mut signs = Signs::read(&all, "unet.");
    signs.folders(path)?;
    build.family = family(path, &signs)?;
    if parts.is_empty() {
        return Err(Error::NotACheckpoint {
            path: path.into(),
            reason: "it has no folder `unet`, `text_encoder` or `vae`".into(),
        });
    }
    let index = path.join("model_index.json");
    let model_index = match index.is_file() {
        true => Some(ModelIndex::open(&index)?),
        false => None,
    };
    build.finish(model_index, parts, &|component, name| {
        format!("{component}/{name}")
    })
}

/// A single file.
pub(super) fn from_file(path: &Path, options: &OpenOptions) -> Result<Checkpoint> {
    let mut build = Build::new(path, options, None)?;
    let file = Arc::new(StFile::open(path)?);
    build.describe(&file);
    let mut pool = single_file::pool(&file)?;
    let signs = Signs::read(&pool, single_file::unet_prefix(&pool));
    build.family = family(path, &signs)?;
    let mut parts = BTreeMap::new();
    let mut prefixes = BTreeMap::new();
    for mut part in single_file::parts(path, &mut pool)? {
        prefixes.insert(part.component, part.prefix);
        if single_file::OPEN_CLIP.contains(&part.prefix) {
            let layers = build.text_layers()?;
            let text = open_clip::text_encoder(part.pool, part.prefix, layers);
            part.pool = text.pool;
            build.open_clip = true;
            build.skipped.extend(text.skipped);
        }
        parts.insert(part.component, (part.pool, part.naming));
    }
    build
        .left
        .extend(pool.names().map(|n| (n.to_string(), n.to_string())));
    build.finish(None, parts, &|component, name| {
        format!("{}{name}", prefixes.get(&component).unwrap_or(&""))
    })
}

impl<'o> Build<'o> {
    fn new(path: &Path, options: &'o OpenOptions, tokenizer_dir: Option<&Path>) -> Result<Self> {
        let mut notes = Vec::new();
        let tokenizer = match (options.tokenizer.as_deref(), tokenizer_dir) {
            (Some(given), _) => Some(tokenizer::files(given)?),
            (None, Some(own)) => tokenizer::files(own)
                .inspect_err(|e| notes.push(format!("no tokenizer: {e}")))
                .ok(),
            (None, None) => None,
        };
        Ok(Self {
            path: path.into(),
            options,
            config_dirs: options.config_dir.iter().cloned().collect(),
            tokenizer,
            metadata: BTreeMap::new(),
            left: Vec::new(),
            skipped: Vec::new(),
            open_clip: false,
            family: None,
            notes,
        })
    }

    /// Takes over metadata and notes of a file.
    fn describe(&mut self, file: &StFile) {
        for (key, value) in file.metadata() {
            let entry = self.metadata.entry(key.clone());
            entry.or_insert_with(|| value.clone());
        }
        let name = file.path().file_name().unwrap_or_default();
        for note in file.notes() {
            self.notes
                .push(format!("`{}`: {note}", name.to_string_lossy()));
        }
    }

    fn finish(
        mut self,
        model_index: Option<ModelIndex>,
        mut parts: Parts,
        in_file: &dyn Fn(Component, &str) -> String,
    ) -> Result<Checkpoint> {
        let mut unet = self.network(Component::Unet, &mut parts, Self::unet, unet_rows, in_file)?;
        let text_encoder = self.network(
            Component::TextEncoder,
            &mut parts,
            Self::text,
            text_rows,
            in_file,
        )?;
        let vae = self.network(Component::Vae, &mut parts, Self::vae, vae_rows, in_file)?;
        if unet.is_some() && self.family.is_none() {
            return Err(Error::NotACheckpoint {
                path: self.path,
                reason: "its UNet takes no text states".into(),
            });
        }
        let averaged =
            |(name, _): &&(String, String)| name.starts_with("model_ema.diffusion_model");
        if let Some((name, _)) = self.left.iter().find(averaged).filter(|_| unet.is_none()) {
            return Err(Error::NotACheckpoint {
                reason: format!(
                    "its UNet is there only as an averaged (EMA) copy, as in `{name}`, which is not read"
                ),
                path: self.path,
            });
        }
        if unet.is_none() && text_encoder.is_none() && vae.is_none() {
            return Err(Error::NotACheckpoint {
                path: self.path,
                reason: "no tensor of a UNet, text encoder or VAE is in it".into(),
            });
        }
        let (scheduler, scheduler_json) = self.scheduler(unet.as_ref().map(|n| &n.tensors))?;
        if let Some(unet) = &mut unet
            && self.is_sd2()
            && self.config_file("unet", "config.json").is_none()
        {
            // Of Stable Diffusion 2, the models that predict v were trained at 768 pixels.
            if scheduler.prediction_type == prediction::V {
                unet.config.sample_size = 96;
            }
            let side = unet.config.sample_size;
            self.notes.push(format!(
                "unet: latents of {side}×{side} are assumed, as of Stable Diffusion 2 with `{}`",
                scheduler.prediction_type
            ));
        }
        let unused = self.account()?;
        Ok(Checkpoint {
            path: self.path,
            family: self.family,
            unet,
            text_encoder,
            vae,
            scheduler,
            scheduler_json,
            model_index,
            tokenizer: self.tokenizer,
            metadata: self.metadata,
            unused,
            notes: self.notes,
        })
    }

    /// One component: its configuration, and the tensors that this asks for. What is over goes to `left`.
    fn network<C>(
        &mut self,
        component: Component,
        parts: &mut Parts,
        config: fn(&mut Self, &Pool, Naming) -> Result<C>,
        rows: fn(&C) -> Vec<Row>,
        in_file: &dyn Fn(Component, &str) -> String,
    ) -> Result<Option<Network<C>>> {
        let Some((mut pool, naming)) = parts.remove(&component) else {
            return Ok(None);
        };
        let present = pool.names().any(|n| ignorable::why(n).is_none());
        let network = match present {
            false => None,
            true => {
                let config = config(self, &pool, naming)?;
                let tensors = pool.claim(&self.path, component, naming, &rows(&config))?;
                Some(Network { tensors, config })
            }
        };
        for name in pool.names() {
            self.left.push((in_file(component, name), name.to_string()));
        }
        Ok(network)
    }

    /// Sorts what is left into known and unknown.
    fn account(&mut self) -> Result<Vec<Unused>> {
        self.left.sort();
        let mut unused = std::mem::take(&mut self.skipped);
        let mut unknown = Vec::new();
        for (name, bare) in &self.left {
            match ignorable::why(name).or_else(|| ignorable::why(bare)) {
                Some(why) => unused.push(Unused {
                    name: name.clone(),
                    why,
                }),
                None => unknown.push(name.as_str()),
            }
        }
        if !unknown.is_empty() && !self.options.allow_unknown {
            return Err(Error::Unknown {
                path: self.path.clone(),
                count: unknown.len(),
                names: listed(unknown.into_iter()),
            });
        }
        unused.extend(unknown.into_iter().map(|name| Unused {
            name: name.into(),
            why: "unknown; left out because that was allowed",
        }));
        unused.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(unused)
    }

    /// The first configuration file of a component.
    fn config_file(&self, folder: &str, name: &str) -> Option<PathBuf> {
        self.config_dirs
            .iter()
            .map(|dir| dir.join(folder).join(name))
            .find(|file| file.is_file())
    }

    fn no_config(&self, component: Component, why: NoConfig) -> Error {
        match why {
            NoConfig::Lacks(key) => missing_error(&self.path, component, &[key]),
            NoConfig::Odd {
                field,
                expected,
                found,
            } => Error::Config {
                component,
                field: field.into(),
                expected,
                found,
            },
        }
    }

    fn unet(&mut self, pool: &Pool, naming: Naming) -> Result<UnetConfig> {
        let config = match self.config_file("unet", "config.json") {
            Some(file) => {
                if config_file::upcasts_attention(&file)? {
                    self.notes.push(
                        "unet: its configuration asks for attention scores in fp32 (`upcast_attention`); an fp16 program computes them in fp16, of queries that are scaled first".into(),
                    );
                }
                config_file::unet(&file)?
            }
            None => {
                let heads = self.options.heads.unwrap_or(8);
                let groups = self.options.norm_groups.unwrap_or(32);
                let mut config = unet_config(&Shapes(pool.shapes()), naming, heads, groups)
                    .map_err(|why| self.no_config(Component::Unet, why))?;
                if self.is_sd2() && self.options.heads.is_none() {
                    config.heads = config
                        .block_out_channels
                        .iter()
                        .map(|c| (c / SD2_HEAD_WIDTH).max(1))
                        .collect();
                }
                let (heads, side) = match self.is_sd2() {
                    true => (format!("{:?}", config.heads), ""),
                    false => (heads.to_string(), ", latents of 64×64"),
                };
                self.notes.push(format!(
                    "unet: without a configuration file, {heads} attention heads, {groups} norm groups{side} and eps 1e-5 are assumed"
                ));
                config
            }
        };
        config_check::unet(&config)?;
        Ok(config)
    }

    fn vae(&mut self, pool: &Pool, naming: Naming) -> Result<VaeConfig> {
        let config = match self.config_file("vae", "config.json") {
            Some(file) => config_file::vae(&file)?,
            None => {
                let groups = self.options.vae_norm_groups.unwrap_or(32);
                self.notes.push(format!(
                    "vae: without a configuration file, {groups} norm groups and the scaling factor 0.18215 are assumed"
                ));
                vae_config(&Shapes(pool.shapes()), naming, groups)
                    .map_err(|why| self.no_config(Component::Vae, why))?
            }
        };
        config_check::vae(&config)?;
        Ok(config)
    }

    fn is_sd2(&self) -> bool {
        matches!(self.family, Some((Family::Sd2, _)))
    }

    /// Layers of the text encoder, where a configuration says it.
    fn text_layers(&self) -> Result<Option<usize>> {
        let file = self.config_file("text_encoder", "config.json");
        file.map(|file| Ok(config_file::text(&file)?.layers))
            .transpose()
    }

    fn text(&mut self, pool: &Pool, _: Naming) -> Result<TextConfig> {
        let mut config = match self.config_file("text_encoder", "config.json") {
            Some(file) => config_file::text(&file)?,
            None => {
                let (activation, word) = match self.open_clip || self.is_sd2() {
                    true => (TextActivation::Gelu, "gelu"),
                    false => (TextActivation::QuickGelu, "quick_gelu"),
                };
                let shapes = Shapes(pool.shapes());
                let config = text_config(&shapes, self.options.text_heads, activation)
                    .map_err(|why| self.no_config(Component::TextEncoder, why))?;
                self.notes.push(format!(
                    "text_encoder: without a configuration file, {} attention heads, {word} and eps 1e-5 are assumed",
                    config.heads
                ));
                config
            }
        };
        match &self.tokenizer {
            Some((vocab, _)) => (config.bos, config.eos) = tokenizer::special_ids(vocab)?,
            None => self.notes.push(format!(
                "text_encoder: without a tokenizer, {} and {} are assumed to be the begin- and end-of-text ids",
                config.bos, config.eos
            )),
        }
        config_check::text(&config)?;
        Ok(config)
    }

    /// The scheduler's configuration and its text.
    fn scheduler(&mut self, unet: Option<&Tensors>) -> Result<(SchedulerConfig, String)> {
        let wanted = self.options.prediction_type.as_deref();
        if let Some(file) = self.config_file("scheduler", "scheduler_config.json") {
            let text = json::text(&file)?;
            let mut config = SchedulerConfig::parse(&file, &text)?;
            let Some(wanted) = wanted.filter(|w| *w != config.prediction_type) else {
                return Ok((config, text));
            };
            self.notes.push(format!(
                "scheduler: `{wanted}` as was asked for, where the configuration file says `{}`",
                config.prediction_type
            ));
            config.prediction_type = wanted.into();
            let text = SchedulerConfig::with_prediction_type(&file, &text, wanted)?;
            return Ok((config, text));
        }
        let marked = |marker: &str| self.left.iter().any(|(name, _)| name == marker);
        let evidence = prediction::Evidence {
            metadata: &self.metadata,
            marked_v: marked("v_pred"),
            family: self.family.as_ref().map(|(family, _)| *family),
            unet,
        };
        let (prediction_type, why) = match wanted {
            Some(wanted) => (wanted, "that was asked for".to_string()),
            None => evidence.judged(),
        };
        let config = SchedulerConfig {
            prediction_type: prediction_type.into(),
            rescale_betas_zero_snr: marked("ztsnr"),
            ..SchedulerConfig::default()
        };
        let version = if self.is_sd2() { 2 } else { 1 };
        self.notes.push(format!(
            "scheduler: without a configuration file, that of Stable Diffusion {version} with `{prediction_type}` is assumed: {why}"
        ));
        let text = config.to_json();
        Ok((config, text))
    }
}
