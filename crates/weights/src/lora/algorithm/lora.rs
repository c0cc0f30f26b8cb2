//! LoRA on linear layers and convolutions, LoCon, and LoCon with a Tucker core.
//!
//! ```text
//! linear, k×k   up [O, r(, 1, 1)], down [r, I(, k, k)]            dW = s · up · down
//! Tucker        down [r, I, 1, 1], mid [r, r, k, k]               dW[o, i, k] = s · Σ_mn up[o, m] mid[m, n, k] down[n, i]
//! ```
//! Source: kohya-ss/sd-scripts `networks/lora.py`; KohakuBlueleaf/LyCORIS `modules/locon.py`.

use super::site::{Dims, shape_error};
use super::{Built, Delta, Fault, Site};
use crate::lora::error::LoraError;
use crate::lora::factor::Factor;
use crate::lora::low_rank::LowRank;
use crate::lora::matrix::{product, rounded, widened};
use crate::lora::part::Part;

#[derive(Debug)]
struct Lora {
    up: Factor,
    down: Factor,
    mid: Option<Factor>,
    dims: Dims,
    scale: f32,
}

pub(super) fn build(site: &mut Site<'_>) -> Result<Built, Fault> {
    let dims = site.dims();
    let (down_name, up_name) = ("the down (A) half", "the up (B) half");
    let have = if site.parts.contains_key(&Part::Down) {
        down_name
    } else if site.parts.contains_key(&Part::Up) {
        up_name
    } else {
        "the core (mid)"
    };
    let up = site.need(Part::Up, up_name, have)?;
    let down = site.need(Part::Down, down_name, up_name)?;
    let mid = site.take(Part::Mid);
    let rank = down.first();
    if rank == 0 || down.shape.is_empty() {
        return Err(shape_error(&down, "a rank of at least 1"));
    }
    let (up_rank, down_rank) = match &mid {
        None => (up.rest(), rank),
        Some(mid) => match *mid.shape.as_slice() {
            [m, n, ..] if n == rank => (up.rest(), m),
            _ => return Err(shape_error(mid, "[rank, rank, kH, kW]")),
        },
    };
    if up_rank != down_rank {
        return Err(Fault::Error(LoraError::RankMismatch {
            file: down.file().to_path_buf(),
            down: down.key.clone(),
            down_rank,
            up: up.key.clone(),
            up_rank,
        }));
    }
    if up.first() != dims.outputs {
        return Err(site.misfit(&up, &format!("[{}, {rank}]", dims.outputs)));
    }
    let word = match &mid {
        Some(mid) => {
            site.expect(&down, &[rank, dims.inputs])?;
            let kernel: usize = mid.shape.iter().skip(2).product();
            if kernel != dims.kernel {
                return Err(site.misfit(mid, "the kernel of the base"));
            }
            "locon-tucker"
        }
        None => {
            if down.rest() != dims.columns() {
                return Err(site.misfit(&down, &format!("[{rank}, {}, …]", dims.inputs)));
            }
            if dims.kernel > 1 { "locon" } else { "lora" }
        }
    };
    let scale = site.scale(Some(rank))?;
    Ok(Built {
        word,
        rank: Some(rank),
        scale,
        delta: Box::new(Lora {
            up,
            down,
            mid,
            dims,
            scale,
        }),
    })
}

impl Lora {
    /// Factors with the Tucker core multiplied into the down half.
    fn factors(&self) -> LowRank {
        let rank = self.up.rest();
        let down = match &self.mid {
            None => self.down.values(),
            Some(mid) => {
                let core = core_times_down(
                    &widened(&mid.values()),
                    &widened(&self.down.values()),
                    rank,
                    self.down.first(),
                    self.dims,
                );
                rounded(&core)
            }
        };
        LowRank {
            rank,
            down,
            up: self.up.values(),
            scale: self.scale,
        }
    }
}

impl Delta for Lora {
    fn delta(&self, _base: &[f32]) -> Vec<f32> {
        self.factors().delta()
    }

    fn low_rank(&self) -> Option<LowRank> {
        Some(self.factors())
    }
}

/// `[m, i, k]` = Σ_n `core [m, n, k]` · `down [n, i]`.
pub(super) fn core_times_down(
    core: &[f64],
    down: &[f64],
    m: usize,
    n: usize,
    dims: Dims,
) -> Vec<f64> {
    let (inputs, kernel) = (dims.inputs, dims.kernel);
    // For each m: downᵀ [i, n] · core_m [n, k].
    let down_t = crate::lora::matrix::transposed(down, n, inputs);
    core.chunks_exact((n * kernel).max(1))
        .take(m)
        .flat_map(|slice| product(&down_t, slice, inputs, n, kernel))
        .collect()
}
