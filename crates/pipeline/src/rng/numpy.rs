//! `numpy.random.RandomState`.

use super::NormalSource;
use super::mt19937::Mt19937;

/// `numpy.random.RandomState(seed)`: MT19937, 53-bit uniforms, Marsaglia's polar method with one value kept.
///
/// A draw of n values is a prefix of a longer one. Source: NumPy legacy `RandomState.normal`.
#[derive(Clone, Debug)]
pub struct NumpyRng {
    bits: Mt19937,
    kept: Option<f64>,
}

impl NumpyRng {
    /// A generator with this seed.
    pub fn new(seed: u32) -> Self {
        Self {
            bits: Mt19937::new(seed),
            kept: None,
        }
    }

    /// Next 32 random bits (`randint(0, 2**32, dtype=uint32)`).
    pub fn next_u32(&mut self) -> u32 {
        self.bits.next_u32()
    }

    /// Uniform in [0, 1) with 53 bits (`random_sample`).
    pub fn uniform(&mut self) -> f64 {
        let high = f64::from(self.bits.next_u32() >> 5);
        let low = f64::from(self.bits.next_u32() >> 6);
        (high * 67_108_864.0 + low) / 9_007_199_254_740_992.0
    }

    /// One normal deviate (`normal()`).
    pub fn next_normal(&mut self) -> f64 {
        if let Some(kept) = self.kept.take() {
            return kept;
        }
        loop {
            let x = 2.0 * self.uniform() - 1.0;
            let y = 2.0 * self.uniform() - 1.0;
            let r2 = x * x + y * y;
            if r2 < 1.0 && r2 != 0.0 {
                let f = libm::sqrt(-2.0 * libm::log(r2) / r2);
                self.kept = Some(f * x);
                return f * y;
            }
        }
    }
}

impl NormalSource for NumpyRng {
    fn normal(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.next_normal() as f32).collect()
    }
}
