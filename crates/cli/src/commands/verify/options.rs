//! Options of `gesso verify`.

use crate::args::{EnginePrecision, Part, Source};
use std::path::PathBuf;

#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    /// What is judged: a folder that `gesso convert` wrote, or one package or compiled model.
    pub(crate) folder: PathBuf,
    /// What it is compared with: another such folder, or another model. Without it and without `--against` only the
    /// values of the model itself are shown.
    #[arg(conflicts_with = "against")]
    pub(crate) reference: Option<PathBuf>,
    /// The checkpoint it was made from.
    #[arg(long, value_name = "CHECKPOINT")]
    pub(crate) against: Option<PathBuf>,
    /// Adapter asset to judge, with a strength.
    #[arg(
        long,
        value_name = "FILE[:STRENGTH]",
        requires = "lora",
        requires = "against"
    )]
    pub(crate) adapter: Option<String>,
    /// The LoRA that the adapter, or the baked conversion, was made from, with its strength.
    #[arg(long, value_name = "FILE[:STRENGTH]", requires = "against")]
    pub(crate) lora: Vec<String>,
    /// Only these components; the end-to-end picture is compared when all are there.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) components: Vec<Part>,
    /// Arithmetic of the engine for the judged models; `strict` holds for both sides. With `fp16` the largest absolute
    /// value per module is shown, and the first value that is not finite.
    #[arg(long, value_enum, default_value_t = EnginePrecision::Fp32)]
    pub(crate) precision: EnginePrecision,
    /// Compare what each module returns, and name the modules where the figure drops.
    #[arg(long)]
    pub(crate) per_layer: bool,
    /// Draw the figures of `--per-layer` along the depth (.svg).
    #[arg(long, value_name = "FILE", requires = "per_layer")]
    pub(crate) plot: Option<PathBuf>,
    /// Show a value, by its name or by the module that returns it; several are allowed.
    #[arg(long, value_name = "NAME")]
    pub(crate) probe: Vec<String>,
    /// Write the probed values, named `MODEL.NAME` and `MODEL.NAME.reference` (.safetensors).
    #[arg(short, long, value_name = "FILE", requires = "probe")]
    pub(crate) output: Option<PathBuf>,
    /// Inputs by feature name (.safetensors), for one model [default: drawn with a fixed seed].
    #[arg(long, value_name = "FILE", conflicts_with = "against")]
    pub(crate) inputs: Option<PathBuf>,
    /// Function to judge, in the models that have it [default: each model's default function]. With `--against` its
    /// LoRAs are given by `--lora`.
    #[arg(long, value_name = "NAME", conflicts_with = "adapter")]
    pub(crate) function: Option<String>,
    /// Steps of the end-to-end comparison with `--against`; 0 leaves it out.
    #[arg(long, default_value_t = 8)]
    pub(crate) steps: u32,
    /// Prompt of the comparison.
    #[arg(long, default_value = "a red circle")]
    pub(crate) prompt: String,
    /// PSNR in dB that every model must reach [default: by the bits of the conversion; none for two models].
    #[arg(long, value_name = "DB")]
    pub(crate) min_psnr: Option<f64>,
    /// Replace the files of `--plot` and `--output` if they exist.
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) source: Source,
}
