//! Fixture models, their weights, and one run of a built function in the engine.
#![allow(dead_code)] // each test file uses its part of this

use gesso_convert::built::Built;
use gesso_convert::family::Precision;
use gesso_convert::slots::{Role, SlotTable};
use gesso_convert::{About, Bits, Silent, emit};
use gesso_coreml::package::Package;
use gesso_engine::{Model, RunOptions, Tensor};
use gesso_testkit::{Golden, Tolerance, fixture};
use gesso_weights::{TextActivation, TextConfig, UnetConfig, VaeConfig};
use std::collections::BTreeMap;

/// Weights by External key, widened to f64.
pub(crate) type Weights = BTreeMap<String, Vec<f64>>;

/// The tensors of a diffusers folder, for the components that are there.
pub(crate) fn weights(folder: &str) -> Weights {
    let mut weights = Weights::new();
    for (component, file) in [
        ("unet", "diffusion_pytorch_model.safetensors"),
        ("text_encoder", "model.safetensors"),
        ("vae", "diffusion_pytorch_model.safetensors"),
    ] {
        let path = fixture(folder).join(component).join(file);
        if path.exists() {
            let file = Golden::open(path);
            for name in file.names() {
                weights.insert(format!("{component}:{name}"), file.get(name).1.to_vec());
            }
        }
    }
    assert!(!weights.is_empty(), "no weights in `{folder}`");
    weights
}

pub(crate) fn sd1_unet() -> UnetConfig {
    UnetConfig {
        in_channels: 4,
        out_channels: 4,
        block_out_channels: vec![16, 24, 32, 32],
        layers_per_block: 2,
        down_attention: vec![true, true, true, false],
        up_attention: vec![false, true, true, true],
        transformer_depth: vec![1; 4],
        heads: vec![4; 4],
        cross_attention_dim: 32,
        norm_groups: 8,
        norm_eps: 1e-5,
        use_linear_projection: false,
        flip_sin_to_cos: true,
        freq_shift: 0.0,
        sample_size: 16,
        mid_attention: true,
    }
}

pub(crate) fn shapes_unet() -> UnetConfig {
    UnetConfig {
        block_out_channels: vec![48, 64, 64, 32],
        layers_per_block: 1,
        heads: vec![2; 4],
        cross_attention_dim: 64,
        norm_groups: 16,
        ..sd1_unet()
    }
}

pub(crate) fn sd1_text() -> TextConfig {
    TextConfig {
        vocab_size: 1000,
        hidden: 32,
        intermediate: 96,
        layers: 3,
        heads: 4,
        max_positions: 77,
        activation: TextActivation::QuickGelu,
        eps: 1e-5,
        bos: 998,
        eos: 999,
        eos_config_id: 2,
    }
}

pub(crate) fn sd2_unet() -> UnetConfig {
    UnetConfig {
        block_out_channels: vec![16, 16, 32, 32],
        heads: vec![2, 4, 2, 8],
        cross_attention_dim: 48,
        use_linear_projection: true,
        ..sd1_unet()
    }
}

pub(crate) fn sd2_text() -> TextConfig {
    TextConfig {
        hidden: 48,
        intermediate: 128,
        activation: TextActivation::Gelu,
        ..sd1_text()
    }
}

pub(crate) fn shapes_text() -> TextConfig {
    TextConfig {
        vocab_size: 654,
        hidden: 64,
        intermediate: 256,
        layers: 4,
        bos: 652,
        eos: 653,
        eos_config_id: 653,
        ..sd1_text()
    }
}

pub(crate) fn sd1_vae() -> VaeConfig {
    VaeConfig {
        in_channels: 3,
        out_channels: 3,
        latent_channels: 4,
        block_out_channels: vec![8, 16, 16, 16],
        layers_per_block: 2,
        norm_groups: 4,
        scaling_factor: 0.18215,
    }
}

pub(crate) fn large_vae() -> VaeConfig {
    VaeConfig {
        block_out_channels: vec![32; 4],
        norm_groups: 32,
        ..sd1_vae()
    }
}

pub(crate) fn shapes_vae() -> VaeConfig {
    VaeConfig {
        block_out_channels: vec![16, 32, 48, 48],
        layers_per_block: 1,
        norm_groups: 8,
        scaling_factor: 0.49365,
        ..sd1_vae()
    }
}

/// How a program is stored and computed, and what it must reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// fp32 program, strict: the judging kernels.
    Strict,
    /// fp32 program, fp32 compute.
    Fp32,
    /// fp32 program, fp16 emulation, which has nothing to round there.
    Fp32Emulated,
    /// fp16 program, fp32 compute.
    Fp16Weights,
    /// fp16 program, strict: the judging kernels.
    Fp16Strict,
    /// fp16 program, every fp16 value rounded.
    Fp16Emulated,
}

/// The precisions of a program and the modes in which each is run.
pub(crate) const MODES: [(Precision, [Mode; 3]); 2] = [
    (
        Precision::Fp32,
        [Mode::Strict, Mode::Fp32, Mode::Fp32Emulated],
    ),
    (
        Precision::Fp16,
        [Mode::Fp16Weights, Mode::Fp16Strict, Mode::Fp16Emulated],
    ),
];

impl Mode {
    fn run_options(self, probes: &[String]) -> RunOptions {
        let precision = match self {
            Self::Strict | Self::Fp16Strict => gesso_engine::Precision::Strict,
            Self::Fp32 | Self::Fp16Weights => gesso_engine::Precision::Fp32,
            Self::Fp32Emulated | Self::Fp16Emulated => gesso_engine::Precision::Fp16,
        };
        RunOptions {
            threads: 1,
            probes: probes.to_vec(),
            check_finite: true,
            ..RunOptions::new(precision)
        }
    }

    /// Whether slots are judged in this mode; the other two are the plain programs' matter.
    pub(crate) fn with_slots(self) -> bool {
        !matches!(self, Self::Fp32Emulated | Self::Fp16Strict)
    }

    /// What this mode must reach, with the library's own f32 error on the case where that was recorded.
    pub(crate) fn tolerance(self, recorded: Option<f64>) -> Tolerance {
        match self {
            Self::Strict | Self::Fp32 | Self::Fp32Emulated => Tolerance::Fp32 { recorded },
            Self::Fp16Weights | Self::Fp16Strict => Tolerance::Fp16Weights,
            Self::Fp16Emulated => Tolerance::Fp16Emulated,
        }
    }
}

/// Writes `built` as a package and loads it in the engine.
pub(crate) fn model(built: &Built, weights: &Weights) -> Model {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.mlpackage");
    let source: BTreeMap<String, Vec<f32>> = weights
        .iter()
        .map(|(key, values)| (key.clone(), values.iter().map(|&x| x as f32).collect()))
        .collect();
    emit(
        built,
        &source,
        &Bits::new(),
        &About::default(),
        &path,
        &mut Silent,
    )
    .unwrap();
    Model::load(&Package::open(&path).unwrap()).unwrap()
}

/// Runs a model: its outputs and the probed values.
pub(crate) fn predict(
    model: &Model,
    inputs: &BTreeMap<String, Tensor>,
    mode: Mode,
    probes: &[String],
) -> BTreeMap<String, Tensor> {
    model
        .predict(None, inputs, &mode.run_options(probes))
        .unwrap()
}

/// `f32_vs_f64` of a case in a `stats.json`.
pub(crate) fn recorded(folder: &str, case: &str) -> Option<f64> {
    let text = std::fs::read_to_string(fixture(folder).join("stats.json")).unwrap();
    let stats: serde_json::Value = serde_json::from_str(&text).unwrap();
    stats[case]["f32_vs_f64"].as_f64()
}

/// Judges `x`, prints the figure, and panics below the class.
pub(crate) fn judge(
    what: &str,
    mode: Mode,
    recorded: Option<f64>,
    reference: &[f64],
    x: &[f32],
) -> f64 {
    let figure = mode.tolerance(recorded).assert(what, reference, x);
    eprintln!("{what}, {mode:?}: {figure:.1} dB");
    figure
}

/// The axes of a row-major tensor in another order.
pub(crate) fn permuted<T: Copy>(data: &[T], shape: &[usize], order: &[usize]) -> Vec<T> {
    let strides: Vec<usize> = (0..shape.len())
        .map(|i| shape[i + 1..].iter().product())
        .collect();
    let count: usize = shape.iter().product();
    (0..count)
        .map(|flat| {
            let (mut rest, mut from) = (flat, 0);
            for &axis in order.iter().rev() {
                from += rest % shape[axis] * strides[axis];
                rest /= shape[axis];
            }
            data[from]
        })
        .collect()
}

/// Golden text states `[N, S, D]` as `encoder_hidden_states [N, D, 1, S]`.
pub(crate) fn text_states(golden: &Golden, name: &str) -> Tensor {
    let shape = golden.shape(name);
    let data = permuted(&golden.f32(name), &shape, &[0, 2, 1]);
    Tensor::f32(&[shape[0], shape[2], 1, shape[1]], data)
}

/// A golden tensor as it is.
pub(crate) fn tensor(golden: &Golden, name: &str) -> Tensor {
    Tensor::f32(&golden.shape(name), golden.f32(name))
}

/// One LoRA layer: W + scale · up · down.
#[derive(Clone, Debug)]
pub(crate) struct Factors {
    pub(crate) rank: usize,
    /// `[r, I]`, or `[r, I, k, k]` flattened.
    pub(crate) down: Vec<f64>,
    /// `[O, r]`.
    pub(crate) up: Vec<f64>,
    /// alpha / rank.
    pub(crate) scale: f64,
}

/// The factors of a kohya file by External key of the weight, for the modules whose weights are given.
pub(crate) fn kohya(file: &str, weights: &Weights) -> BTreeMap<String, Factors> {
    let lora = Golden::open(fixture(file));
    let mut factors = BTreeMap::new();
    for key in weights.keys() {
        let Some((component, module)) = key
            .strip_suffix(".weight")
            .and_then(|key| key.split_once(':'))
        else {
            continue;
        };
        let prefix = match component {
            "unet" => "lora_unet_",
            _ => "lora_te_",
        };
        let name = format!("{prefix}{}", module.replace('.', "_"));
        if !lora.has(&format!("{name}.lora_down.weight")) {
            continue;
        }
        let (shape, down) = lora.get(&format!("{name}.lora_down.weight"));
        let alpha = format!("{name}.alpha");
        let scale = match lora.has(&alpha) {
            true => lora.get(&alpha).1[0] / shape[0] as f64,
            false => 1.0,
        };
        let one = Factors {
            rank: shape[0],
            down: down.to_vec(),
            up: lora.get(&format!("{name}.lora_up.weight")).1.to_vec(),
            scale,
        };
        factors.insert(key.clone(), one);
    }
    let used = factors.len();
    let there = lora
        .names()
        .filter(|n| n.ends_with(".lora_down.weight"))
        .count();
    assert_eq!(used, there, "every module of `{file}` must be found");
    factors
}

/// The weights with `strength · scale · up · down` added, in f64.
pub(crate) fn merged(weights: &Weights, loras: &[(&BTreeMap<String, Factors>, f64)]) -> Weights {
    let mut merged = weights.clone();
    for (factors, strength) in loras {
        for (key, f) in *factors {
            let weight = merged.get_mut(key).unwrap();
            let inputs = f.down.len() / f.rank;
            for (o, row) in weight.chunks_mut(inputs).enumerate() {
                for (i, w) in row.iter_mut().enumerate() {
                    let product: f64 = (0..f.rank)
                        .map(|r| f.up[o * f.rank + r] * f.down[r * inputs + i])
                        .sum();
                    *w += strength * f.scale * product;
                }
            }
        }
    }
    merged
}

/// The inputs `adapter_W` that carry `loras`, each at its strength, one after the other along the rank; the rest is zero.
pub(crate) fn adapter_inputs(
    table: &SlotTable,
    loras: &[(&BTreeMap<String, Factors>, f64)],
) -> BTreeMap<String, Tensor> {
    let rank = table.rank();
    let mut data: BTreeMap<usize, Vec<f32>> = table
        .widths()
        .iter()
        .map(|(&w, &n)| (w, vec![0.0; n * rank * w]))
        .collect();
    for slot in table.rows() {
        let rows = data.get_mut(&slot.width).unwrap();
        let mut taken = 0;
        for (factors, strength) in loras {
            let key = format!("{}:{}.weight", slot.component, slot.module);
            let Some(f) = factors.get(&key) else { continue };
            let (w, taps) = (slot.width, slot.taps);
            for r in 0..f.rank {
                for t in 0..taps {
                    for i in 0..w {
                        // A convolution's block is [R, k², I]; its factor in the file [r, I, k²].
                        let to = (slot.row * rank + (taken + r) * taps + t) * w + i;
                        rows[to] = match slot.role {
                            Role::Down => f.down[(r * w + i) * taps + t] as f32,
                            Role::Up => (strength * f.scale * f.up[i * f.rank + r]) as f32,
                        };
                    }
                }
            }
            taken += f.rank;
        }
    }
    let widths = table.widths();
    data.into_iter()
        .map(|(w, rows)| {
            (
                SlotTable::input_name(w),
                Tensor::f32(&[widths[&w], rank, w], rows),
            )
        })
        .collect()
}
