//! The command line: every option that the commands take.

use crate::source::PredictionType;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Prepares Stable Diffusion models for Apple devices.
#[derive(Parser, Debug)]
#[command(name = "gesso", version, about, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Threads to use; 0 means one per core. Output bytes do not depend on it.
    #[arg(long, global = true, default_value_t = 0, value_name = "N")]
    pub(crate) threads: usize,
    /// Print a JSON document on stdout instead of a table.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Convert a checkpoint to Core ML packages.
    Convert(Convert),
    /// Make an adapter asset from a LoRA.
    Adapter(Adapter),
    /// Put a delta into a converted folder: a new folder that shares what stays as it is.
    Apply(Apply),
    /// Add adapter slots to a package that another converter made, or to a folder of them.
    Retrofit(Retrofit),
    /// Generate a picture from a converted folder.
    Generate(Generate),
    /// Measure what a conversion lost against its source.
    Verify(crate::commands::verify::Options),
    /// Run one package or compiled model on tensors from a file.
    Run(Run),
    /// Compile a package as Xcode does.
    Compile(Compile),
    /// Make a package from a compiled model.
    Decompile(Decompile),
    /// Check models against the rules of Apple's stack.
    Lint(crate::commands::lint::Options),
    /// Say what a model, folder, adapter, checkpoint or LoRA holds.
    Inspect(crate::commands::inspect::Options),
    /// Say what changed between two models.
    Diff(crate::commands::diff::Options),
    /// Say whether an app will load a folder, and why not.
    Doctor(crate::commands::doctor::Options),
    /// The main job on the built-in shapes model: convert, adapt, verify, generate a grid.
    Demo(Demo),
    /// Tiny packages that tell on an Apple device what cannot be told elsewhere; or read what they told.
    ProbeKit(ProbeKit),
}

/// Arithmetic of the written programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Precision {
    /// Weights and activations in fp16, as apps expect.
    Fp16,
    /// Weights and activations in fp32.
    Fp32,
}

/// How attention is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Attention {
    /// One einsum pair per head; runs well on the Neural Engine.
    SplitEinsum,
    /// All heads at once by matmul; runs well on the GPU.
    Original,
}

/// Which layers have adapter slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AdapterSites {
    /// The projections of every attention.
    Attention,
    /// These, the feed-forward layers and the projections around the UNet's transformers.
    #[value(name = "attention+ff")]
    AttentionFeedForward,
    /// Every linear layer and every convolution, as LCM-, Hyper- and Lightning-LoRAs need.
    All,
}

/// How an app hands adapters over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AdapterIo {
    /// Optional inputs, bound at each prediction.
    Input,
    /// States, written once; needs `--target ios18`. Unproven until a device has spoken.
    State,
}

/// Oldest system that the packages must load on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Target {
    /// iOS 16, macOS 13.
    Ios16,
    /// iOS 18, macOS 15.
    Ios18,
}

/// In which form models are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Packages, for Xcode and for compiling on the device.
    Mlpackage,
    /// Compiled models, as existing apps load them.
    Mlmodelc,
    /// Both, over the same weight files.
    Both,
}

#[derive(Args, Debug)]
pub(crate) struct Convert {
    /// A diffusers folder or a single-file checkpoint (.safetensors).
    pub(crate) checkpoint: PathBuf,
    /// Folder to write.
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: PathBuf,
    /// Bits per weight of text encoder and UNet: 16 (as they are), or a palette of 8, 6, 4, 2 or 1 bits.
    #[arg(long, default_value_t = 16, value_name = "N")]
    pub(crate) bits: u8,
    /// In which form the models are written.
    #[arg(long, value_enum, default_value_t = Format::Both)]
    pub(crate) format: Format,
    /// Bits for the tensors whose name matches a pattern (`*` stands for anything), for instance
    /// `unet:*.conv_shortcut.*=16`; the last match wins.
    #[arg(long, value_name = "PATTERN=BITS")]
    pub(crate) palettize: Vec<String>,
    /// Arithmetic of the programs.
    #[arg(long, value_enum, default_value_t = Precision::Fp16)]
    pub(crate) precision: Precision,
    /// How attention is written.
    #[arg(long, value_enum, default_value_t = Attention::SplitEinsum)]
    pub(crate) attention: Attention,
    /// Picture size in pixels, multiples of 8 [default: the model's own].
    #[arg(long, value_name = "WxH")]
    pub(crate) size: Option<String>,
    /// A LoRA baked into the weights, with its strength (`FILE:0.8`, or `FILE:unet=0.8,te=0.4`); any number of them.
    #[arg(long, value_name = "FILE:STRENGTH")]
    pub(crate) lora: Vec<String>,
    /// Rank of the adapter slots in the extra packages UnetAdaptable and TextEncoderAdaptable: a multiple of 32, or 0
    /// for none.
    #[arg(long, default_value_t = 32, value_name = "R")]
    pub(crate) adapter_rank: usize,
    /// Which layers have slots [default: attention+ff].
    #[arg(long, value_enum)]
    pub(crate) adapter_sites: Option<AdapterSites>,
    /// How an app hands adapters to the packages with slots.
    #[arg(long, value_enum, default_value_t = AdapterIo::Input)]
    pub(crate) adapter_io: AdapterIo,
    /// Oldest system that the packages must load on. What needs nothing newer stays as it is for iOS 16.
    #[arg(long, value_enum, default_value_t = Target::Ios16)]
    pub(crate) target: Target,
    /// One function per style in the packages of text encoder and UNet, the first one as the default: names with a LoRA
    /// baked into the weights (strengths as for `--lora`), or without; equal weights are stored once. Needs
    /// `--target ios18`.
    #[arg(long, value_name = "NAME[=FILE:STRENGTH],…")]
    pub(crate) multifunction: Option<String>,
    /// Name of the model in the packages [default: what the source says].
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Author of the model in the packages [default: what the source says].
    #[arg(long)]
    pub(crate) author: Option<String>,
    /// Licence of the model in the packages [default: what the source says].
    #[arg(long)]
    pub(crate) license: Option<String>,
    #[command(flatten)]
    pub(crate) source: Source,
    /// LoRA tensors that may stay unused, by pattern.
    #[arg(long, value_name = "PATTERN")]
    pub(crate) ignore: Vec<String>,
    /// Replace the output folder if it exists.
    #[arg(long)]
    pub(crate) force: bool,
}

/// What a checkpoint file may not say itself.
#[derive(Args, Debug, Default, Clone)]
pub(crate) struct Source {
    /// Folder with vocab.json and merges.txt, for checkpoints without a tokenizer.
    #[arg(long, value_name = "DIR")]
    pub(crate) tokenizer: Option<PathBuf>,
    /// Diffusers folder whose config.json files describe a single-file checkpoint that is not of the usual size.
    #[arg(long, value_name = "DIR")]
    pub(crate) config: Option<PathBuf>,
    /// The VAE, for a checkpoint without one or instead of its own: another checkpoint, or a VAE's file or folder.
    #[arg(long, value_name = "PATH")]
    pub(crate) vae: Option<PathBuf>,
    /// Go on although the checkpoint has tensors that Gesso does not know; they are listed in the report.
    #[arg(long)]
    pub(crate) allow_unknown: bool,
    /// What the UNet predicts, whatever the checkpoint says [default: what its scheduler_config.json or its metadata says, else
    /// what its weights suggest].
    #[arg(long, value_enum)]
    pub(crate) prediction_type: Option<PredictionType>,
}

/// What an asset holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AssetForm {
    /// Low-rank factors for the adapter slots of a base, at any strength.
    Slots,
    /// New weights for one base at one strength, put in by `gesso apply`; needs `--checkpoint`.
    Delta,
}

#[derive(Args, Debug)]
pub(crate) struct Apply {
    /// Delta that `gesso adapter --as delta` wrote.
    pub(crate) delta: PathBuf,
    /// Converted folder that the delta was made for; it stays as it is.
    #[arg(long, value_name = "DIR")]
    pub(crate) base: PathBuf,
    /// Folder to write.
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: PathBuf,
    /// Replace the output folder if it exists.
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Retrofit {
    /// Package or compiled model of a UNet or text encoder (.mlpackage, .mlmodelc), or a folder with both; it stays as it is.
    #[arg(value_name = "PKG")]
    pub(crate) package: PathBuf,
    /// Rank of the adapter slots: a multiple of 32.
    #[arg(long, default_value_t = 32, value_name = "R")]
    pub(crate) adapter_rank: usize,
    /// Which layers get slots; `all` only where the weights tell the modules' names.
    #[arg(long, value_enum, default_value_t = AdapterSites::AttentionFeedForward)]
    pub(crate) adapter_sites: AdapterSites,
    /// Package, compiled model or folder to write; it shares the weight files.
    #[arg(short, long, value_name = "OUT")]
    pub(crate) output: PathBuf,
    /// Replace the output if it exists.
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Adapter {
    /// LoRA files or PEFT folders; another folder stands for its .safetensors files. With `--merge` or `--as delta`
    /// each may have a strength (`FILE:0.7`, or `FILE:unet=0.8,te=0.4`).
    #[arg(required = true, value_name = "LORA")]
    pub(crate) loras: Vec<PathBuf>,
    /// Converted folder that the adapter is for.
    #[arg(long, value_name = "DIR")]
    pub(crate) base: PathBuf,
    /// Asset to write (.mlmodelcassets); with several LoRAs, or a folder of them, the folder for their assets.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Name shown to users [default: from the LoRA's metadata or file name].
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// What the asset holds.
    #[arg(long = "as", value_enum, default_value_t = AssetForm::Slots)]
    pub(crate) form: AssetForm,
    /// Strength that apps start with; of a delta the strength of LoRAs that are given without one.
    #[arg(long, default_value_t = 1.0, value_name = "S")]
    pub(crate) strength: f32,
    /// Refuse instead of approximating when the LoRA's rank is above the base's, or it has no low-rank form.
    #[arg(long)]
    pub(crate) exact: bool,
    /// Make one asset of the weighted sum of all LoRAs.
    #[arg(long)]
    pub(crate) merge: bool,
    /// Cut every module to this rank by singular values, for a smaller asset.
    #[arg(long, visible_alias = "resize", value_name = "R", conflicts_with = "exact",
          value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) rank: Option<u32>,
    /// Bits per factor, for a smaller asset: 16 (fp16), or a palette of 8, 6 or 4 bits.
    #[arg(long, default_value_t = 16, value_name = "N")]
    pub(crate) bits: u8,
    /// The checkpoint that the base was converted from, for LoRAs that depend on its weights (DoRA, OFT, …).
    #[arg(long, value_name = "CHECKPOINT")]
    pub(crate) checkpoint: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) source: Source,
    /// Tensors that may stay unused, by pattern; recorded in the manifest.
    #[arg(long, value_name = "PATTERN")]
    pub(crate) ignore: Vec<String>,
    /// How many of several LoRAs are worked on at a time; 0 means one per thread.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) jobs: usize,
    /// Replace assets that exist.
    #[arg(long)]
    pub(crate) force: bool,
}

/// Arithmetic of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum EnginePrecision {
    /// Everything in fp32.
    Fp32,
    /// Every value that the program declares fp16 is rounded to fp16 after its op.
    Fp16,
    /// Values in fp32, inside each op f64, by the slow kernels that judge the fast ones.
    Strict,
}

/// Sampler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scheduler {
    /// DPM-Solver++ 2M.
    #[value(name = "dpmpp-2m")]
    DpmPp2m,
    /// PNDM (PLMS).
    Pndm,
    /// Euler.
    Euler,
    /// Euler ancestral.
    #[value(name = "euler-a")]
    EulerAncestral,
    /// DDIM.
    Ddim,
    /// UniPC.
    #[value(name = "unipc")]
    UniPc,
    /// For latent consistency models and LCM-LoRA.
    Lcm,
}

/// Generator of the initial noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Rng {
    /// numpy's RandomState, as Apple's Swift package uses it.
    Numpy,
    /// PyTorch on a CPU.
    Torch,
    /// PyTorch on an Nvidia GPU (Philox).
    Nvidia,
}

#[derive(Args, Debug)]
pub(crate) struct Sampling {
    /// What to draw. `(word:1.2)` and `[word]` weigh words, `<lora:name:0.8>` takes an adapter from `--adapter-dir`.
    #[arg(long)]
    pub(crate) prompt: String,
    /// What to keep away from, with weights too.
    #[arg(long, default_value = "")]
    pub(crate) negative: String,
    /// Seed of the initial noise.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Generator of the initial noise.
    #[arg(long, value_enum, default_value_t = Rng::Numpy)]
    pub(crate) rng: Rng,
    /// Steps of the sampler [default: what a few-step adapter or base asks for, else 20].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) steps: Option<u32>,
    /// Sampler [default: what a few-step adapter or base asks for, else dpmpp-2m].
    #[arg(long, value_enum)]
    pub(crate) scheduler: Option<Scheduler>,
    /// Weight of the prompt against the negative prompt [default: what a few-step adapter or base asks for, else 7.5].
    #[arg(long)]
    pub(crate) guidance: Option<f32>,
}

#[derive(Args, Debug)]
pub(crate) struct Generate {
    /// Folder that `gesso convert` wrote.
    pub(crate) folder: PathBuf,
    #[command(flatten)]
    pub(crate) sampling: Sampling,
    /// Adapter asset with a strength [default: the asset's own]; several are stacked.
    #[arg(long, value_name = "FILE[:STRENGTH]")]
    pub(crate) adapter: Vec<String>,
    /// Folder of the assets `name.mlmodelcassets` that the prompt may name.
    #[arg(long, value_name = "DIR")]
    pub(crate) adapter_dir: Option<PathBuf>,
    /// Function of text encoder and UNet to draw with, in a folder with several [default: the default function].
    #[arg(long, value_name = "NAME", conflicts_with_all = ["adapter", "adapter_dir"])]
    pub(crate) function: Option<String>,
    /// Arithmetic of the engine.
    #[arg(long, value_enum, default_value_t = EnginePrecision::Fp32)]
    pub(crate) precision: EnginePrecision,
    /// Picture to write (.png).
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Replace the picture if it exists.
    #[arg(long)]
    pub(crate) force: bool,
}

/// A component of a converted folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// TextEncoder.
    TextEncoder,
    /// Unet.
    Unet,
    /// VAEDecoder.
    VaeDecoder,
    /// VAEEncoder.
    VaeEncoder,
}

#[derive(Args, Debug)]
pub(crate) struct Run {
    /// Package or compiled model to run (.mlpackage, .mlmodelc).
    pub(crate) package: PathBuf,
    /// Inputs by feature name (.safetensors).
    #[arg(long, value_name = "FILE")]
    pub(crate) inputs: PathBuf,
    /// Outputs by feature name (.safetensors).
    #[arg(long, value_name = "FILE")]
    pub(crate) outputs: PathBuf,
    /// Function to run [default: the package's default function].
    #[arg(long, value_name = "NAME")]
    pub(crate) function: Option<String>,
    /// Arithmetic of the engine.
    #[arg(long, value_enum, default_value_t = EnginePrecision::Fp32)]
    pub(crate) precision: EnginePrecision,
    /// Predictions one after the other on the same inputs; a state is kept from one to the next, outputs are the last one's.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) repeat: u32,
    /// States to begin with, by name (.safetensors) [default: zeros].
    #[arg(long, value_name = "FILE")]
    pub(crate) state: Option<PathBuf>,
    /// States at the end, by name (.safetensors).
    #[arg(long, value_name = "FILE")]
    pub(crate) state_output: Option<PathBuf>,
    /// Replace the written files if they exist.
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Compile {
    /// Package, or a bare model file with its weights beside it (.mlpackage, .mlmodel).
    pub(crate) model: PathBuf,
    /// Compiled model to write (.mlmodelc); it shares the weight files.
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: PathBuf,
    /// Replace the compiled model if it exists.
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Decompile {
    /// Compiled model (.mlmodelc).
    pub(crate) model: PathBuf,
    /// Package to write (.mlpackage); it shares the weight files.
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: PathBuf,
    /// Replace the package if it exists.
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Demo {
    /// Folder to write.
    #[arg(short, long, value_name = "DIR", default_value = "gesso-demo")]
    pub(crate) output: PathBuf,
    /// Keep an existing folder instead of replacing it.
    #[arg(long)]
    pub(crate) keep: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ProbeKit {
    /// Folder to write.
    #[arg(short, long, value_name = "DIR", required_unless_present = "read")]
    pub(crate) output: Option<PathBuf>,
    /// Replace the folder if it exists.
    #[arg(long)]
    pub(crate) force: bool,
    /// Bring the report of a device into the page of evidence.
    #[arg(long, value_name = "REPORT", conflicts_with = "output")]
    pub(crate) read: Option<PathBuf>,
    /// The page of evidence.
    #[arg(long, value_name = "FILE", default_value = "docs/apple-evidence.md")]
    pub(crate) page: PathBuf,
}
