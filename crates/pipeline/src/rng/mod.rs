//! Normal random numbers as NumPy, PyTorch on the CPU and PyTorch on NVIDIA hardware draw them.
//!
//! Seeds give the same latents as in those programs. One call is one draw there: for torch and nvidia the numbers
//! depend on how many are asked at once.

mod float32;
mod mt19937;
mod numpy;
mod philox;
mod torch;

pub use numpy::NumpyRng;
pub use philox::{NvidiaRng, philox4x32_10};
pub use torch::TorchRng;

use crate::{Error, Result};

/// A source of normal deviates, mean 0, standard deviation 1.
pub trait NormalSource {
    /// Draws `n` numbers in one call.
    fn normal(&mut self, n: usize) -> Vec<f32>;
}

/// Whose random numbers to draw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RngKind {
    /// `numpy.random.RandomState(seed).normal`, the default of Apple's package.
    #[default]
    Numpy,
    /// `torch.randn` with a CPU generator, as diffusers uses it.
    Torch,
    /// The Philox generator of CUDA torch.
    Nvidia,
}

impl RngKind {
    /// Name on a command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Numpy => "numpy",
            Self::Torch => "torch",
            Self::Nvidia => "nvidia",
        }
    }

    /// A fresh generator. Torch uses the low 32 bits of the seed, as PyTorch does.
    ///
    /// Errors: `Request` when `numpy` is given more than 32 bits.
    pub fn source(self, seed: u64) -> Result<Box<dyn NormalSource>> {
        Ok(match self {
            Self::Numpy => {
                let seed = u32::try_from(seed).map_err(|_| Error::Request {
                    name: "seed",
                    found: seed.to_string(),
                    expected: "at most 4294967295 for the numpy generator",
                })?;
                Box::new(NumpyRng::new(seed))
            }
            Self::Torch => Box::new(TorchRng::new(seed)),
            Self::Nvidia => Box::new(NvidiaRng::new(seed)),
        })
    }
}
