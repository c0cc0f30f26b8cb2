//! One adapted module: what is added to its weight and bias.

use super::algorithm::Delta;
use super::error::LoraError;
use super::factor::Factor;
use super::low_rank::LowRank;
use std::sync::Arc;

/// What an adapter file does to one module.
#[derive(Clone, Debug)]
pub struct Adapter {
    pub(crate) path: String,
    pub(crate) word: &'static str,
    pub(crate) dora: bool,
    pub(crate) rank: Option<usize>,
    pub(crate) scale: f32,
    pub(crate) weight_shape: Vec<usize>,
    /// Input channels of the adapter, where the base has more of them.
    pub(crate) padded_from: Option<usize>,
    pub(crate) delta: Arc<dyn Delta>,
    /// Changes of the bias, each with its multiplier.
    pub(crate) bias: Vec<(Factor, f32)>,
}

impl Adapter {
    /// Word of the algorithm: `lora`, `locon`, `locon-tucker`, `loha`, `loha-tucker`, `lokr`, `full`, `set-weight`, `norm`, `bias`,
    /// `ia3`, `glora`, `oft`, `oft-diag`, `boft`.
    pub fn algorithm(&self) -> &'static str {
        self.word
    }

    /// Whether a DoRA magnitude is applied on top of the algorithm.
    pub fn is_dora(&self) -> bool {
        self.dora
    }

    /// Rank of the stored factors (block size for OFT and BOFT); `None` for whole tensors.
    pub fn rank(&self) -> Option<usize> {
        self.rank
    }

    /// What the product of the factors is multiplied with, alpha / rank in most formats.
    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// Shape of the base weight.
    pub fn weight_shape(&self) -> &[usize] {
        &self.weight_shape
    }

    /// Whether dW depends on the base weight (DoRA, GLoRA's first half, OFT, BOFT, IA3, `set-weight`), so that it has to be
    /// computed from the pristine one.
    pub fn reads_base(&self) -> bool {
        self.delta.reads_base()
    }

    /// Whether the weight changes at all; a `bias` entry changes only the bias.
    pub fn changes_weight(&self) -> bool {
        self.word != "bias"
    }

    /// dW at strength 1 in the layout of `base_weight`, the module's pristine weight of shape `shape`, which may differ from
    /// the resolved shape by trailing ones.
    ///
    /// Errors: `Base` when the element counts differ.
    pub fn delta(&self, base_weight: &[f32], shape: &[usize]) -> Result<Vec<f32>, LoraError> {
        let expected: usize = self.weight_shape.iter().product();
        let shaped: usize = shape.iter().product();
        if base_weight.len() != expected || shaped != expected {
            return Err(LoraError::Base {
                module: self.path.clone(),
                expected: self.weight_shape.clone(),
                shape: shape.to_vec(),
                found: base_weight.len(),
            });
        }
        match (self.padded_from, self.weight_shape.as_slice()) {
            (Some(channels), [_, inputs, kernel @ ..]) => {
                let kernel: usize = kernel.iter().product();
                let narrow = cut(base_weight, *inputs * kernel, channels * kernel);
                let delta = self.delta.delta(&narrow);
                Ok(widen(&delta, channels * kernel, *inputs * kernel))
            }
            _ => Ok(self.delta.delta(base_weight)),
        }
    }

    /// Exact factors of dW, where the algorithm has them: LoRA, LoCon with or without core, LoHa (rank r²), LoKr (product of
    /// the two ranks). `None` for everything that reads the base, for whole tensors and for norms.
    pub fn low_rank(&self) -> Option<LowRank> {
        let factors = self.delta.low_rank()?;
        match (self.padded_from, self.weight_shape.as_slice()) {
            (Some(channels), [_, inputs, kernel @ ..]) => {
                let kernel: usize = kernel.iter().product();
                let down = widen(&factors.down, channels * kernel, *inputs * kernel);
                Some(LowRank { down, ..factors })
            }
            _ => Some(factors),
        }
    }

    /// What is added to the bias `[O]` at strength 1; `None` when it stays as it is. `base_bias` is the pristine bias.
    ///
    /// Errors: `Base` when its length is not that of the adapter's.
    pub fn bias_delta(&self, base_bias: &[f32]) -> Result<Option<Vec<f32>>, LoraError> {
        let own = self.delta.bias_delta(base_bias);
        if self.bias.is_empty() && own.is_none() {
            return Ok(None);
        }
        let mut sum = own.unwrap_or_else(|| vec![0.0; base_bias.len()]);
        for (factor, multiplier) in &self.bias {
            if factor.elements() != sum.len() {
                return Err(LoraError::Base {
                    module: format!("{} (bias)", self.path),
                    expected: factor.shape.clone(),
                    shape: vec![base_bias.len()],
                    found: base_bias.len(),
                });
            }
            for (s, v) in sum.iter_mut().zip(factor.values()) {
                *s += multiplier * v;
            }
        }
        Ok(Some(sum))
    }
}

/// Rows of `from` elements cut to their first `to`.
fn cut(values: &[f32], from: usize, to: usize) -> Vec<f32> {
    values
        .chunks_exact(from.max(1))
        .flat_map(|row| row.iter().take(to).copied())
        .collect()
}

/// Rows of `from` elements filled up with zeros to `to`.
fn widen(values: &[f32], from: usize, to: usize) -> Vec<f32> {
    values
        .chunks_exact(from.max(1))
        .flat_map(|row| {
            let zeros = to.saturating_sub(from);
            row.iter().copied().chain(std::iter::repeat_n(0.0, zeros))
        })
        .collect()
}
