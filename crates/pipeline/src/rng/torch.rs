//! `torch.randn` on the CPU.

use super::mt19937::Mt19937;
use super::{NormalSource, float32};
use std::f64::consts::TAU;

/// `torch.randn(n, generator=torch.Generator().manual_seed(seed))` in float32, as PyTorch's portable code draws it.
///
/// Below 16 values each is a double-precision Box–Muller deviate, one of each pair being kept for the next; from 16 on
/// the array is filled with 24-bit uniforms and transformed in blocks of 16 in float32, and when n is no multiple of
/// 16 the last 16 values are drawn again. PyTorch builds with AVX2 differ from this by up to 1.5e-6.
/// Source: PyTorch `aten/src/ATen/native/cpu/DistributionTemplates.h`.
#[derive(Clone, Debug)]
pub struct TorchRng {
    bits: Mt19937,
    kept: Option<f64>,
}

const BLOCK: usize = 16;

impl TorchRng {
    /// A generator with this seed, of which PyTorch uses the low 32 bits.
    pub fn new(seed: u64) -> Self {
        Self {
            bits: Mt19937::new(seed as u32),
            kept: None,
        }
    }

    /// Uniform in [0, 1) with 24 bits (`torch.rand` in float32).
    pub fn uniform(&mut self) -> f32 {
        (self.bits.next_u32() & 0xff_ffff) as f32 * (1.0 / 16_777_216.0)
    }

    fn uniform_f64(&mut self) -> f64 {
        let high = u64::from(self.bits.next_u32());
        let low = u64::from(self.bits.next_u32());
        (((high << 32) | low) & ((1 << 53) - 1)) as f64 * (1.0 / 9_007_199_254_740_992.0)
    }

    fn next_normal(&mut self) -> f64 {
        if let Some(kept) = self.kept.take() {
            return kept;
        }
        let (u1, u2) = (self.uniform_f64(), self.uniform_f64());
        let radius = libm::sqrt(-2.0 * libm::log1p(-u2));
        let theta = TAU * u1;
        self.kept = Some(radius * libm::sin(theta));
        radius * libm::cos(theta)
    }

    fn fill(&mut self, block: &mut [f32]) {
        for value in block {
            *value = self.uniform();
        }
    }
}

/// Box–Muller on 16 uniforms: the first eight give radii, the last eight angles.
fn transform(block: &mut [f32]) {
    let (first, second) = block.split_at_mut(BLOCK / 2);
    for (a, b) in first.iter_mut().zip(second) {
        let radius = (-2.0 * float32::log(1.0 - *a)).sqrt();
        let theta = (TAU * f64::from(*b)) as f32;
        *a = radius * float32::cos(theta);
        *b = radius * float32::sin(theta);
    }
}

impl NormalSource for TorchRng {
    fn normal(&mut self, n: usize) -> Vec<f32> {
        if n < BLOCK {
            return (0..n).map(|_| self.next_normal() as f32).collect();
        }
        let mut values = vec![0.0; n];
        self.fill(&mut values);
        values.chunks_exact_mut(BLOCK).for_each(transform);
        if !n.is_multiple_of(BLOCK) {
            let (_, tail) = values.split_at_mut(n - BLOCK);
            self.fill(tail);
            transform(tail);
        }
        values
    }
}
