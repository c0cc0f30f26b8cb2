//! LoHa: the elementwise product of two low-rank matrices.
//!
//! ```text
//! plain    w_a [O, r], w_b [r, I·k·k]                      dW = s · (w1_a·w1_b) ∘ (w2_a·w2_b)
//! Tucker   w_a [r, O], w_b [r, I], t [r, r, k, k]          dW = s · f(1) ∘ f(2),  f[p, q] = Σ_ij t[i, j] w_a[i, p] w_b[j, q]
//! ```
//! Source: KohakuBlueleaf/LyCORIS `modules/loha.py` (forward pass); huggingface/peft `tuners/loha`.

use super::lora::core_times_down;
use super::site::{Dims, shape_error};
use super::{Built, Delta, Fault, Site};
use crate::lora::factor::Factor;
use crate::lora::low_rank::LowRank;
use crate::lora::matrix::{product, rounded, transposed, widened};
use crate::lora::part::Part;

#[derive(Debug)]
struct Half {
    a: Factor,
    b: Factor,
    core: Option<Factor>,
    rank: usize,
}

#[derive(Debug)]
struct Loha {
    halves: [Half; 2],
    dims: Dims,
    scale: f32,
}

pub(super) fn build(site: &mut Site<'_>) -> Result<Built, Fault> {
    let dims = site.dims();
    let first = half(site, Part::HadaW1A, Part::HadaW1B, Part::HadaT1)?;
    let second = half(site, Part::HadaW2A, Part::HadaW2B, Part::HadaT2)?;
    let rank = first.rank;
    let word = match (&first.core, &second.core) {
        (Some(_), Some(_)) => "loha-tucker",
        (None, None) => "loha",
        (Some(t), None) | (None, Some(t)) => {
            return Err(shape_error(
                t,
                "a core (`hada_t`) in both halves or in none",
            ));
        }
    };
    let scale = site.scale(Some(rank))?;
    Ok(Built {
        word,
        rank: Some(rank),
        scale,
        delta: Box::new(Loha {
            halves: [first, second],
            dims,
            scale,
        }),
    })
}

fn half(site: &mut Site<'_>, a: Part, b: Part, t: Part) -> Result<Half, Fault> {
    let dims = site.dims();
    let have = "another part of LoHa";
    let a = site.need(a, "`hada_w1_a` or `hada_w2_a`", have)?;
    let b = site.need(b, "`hada_w1_b` or `hada_w2_b`", have)?;
    let core = site.take(t);
    let rank = b.first();
    if rank == 0 {
        return Err(shape_error(&b, "a rank of at least 1"));
    }
    match &core {
        None => {
            site.expect(&a, &[dims.outputs, rank])?;
            site.expect(&b, &[rank, dims.columns()])?;
            if a.first() != dims.outputs {
                return Err(site.misfit(&a, &format!("[{}, {rank}]", dims.outputs)));
            }
        }
        Some(core) => {
            site.expect(&b, &[rank, dims.inputs])?;
            site.expect(&a, &[a.first(), dims.outputs])?;
            site.expect(core, &[a.first(), rank, dims.kernel])?;
        }
    }
    Ok(Half { a, b, core, rank })
}

impl Half {
    /// `(left [O, r], right [r, I·k·k])` whose product is this half.
    fn factors(&self, dims: Dims) -> (Vec<f64>, Vec<f64>, usize) {
        let a = widened(&self.a.values());
        let b = widened(&self.b.values());
        match &self.core {
            None => (a, b, self.rank),
            Some(core) => {
                let m = self.a.first();
                let core = widened(&core.values());
                let right = core_times_down(&core, &b, m, self.rank, dims);
                (transposed(&a, m, dims.outputs), right, m)
            }
        }
    }
}

impl Delta for Loha {
    fn delta(&self, _base: &[f32]) -> Vec<f32> {
        let [first, second] = self.halves.each_ref().map(|h| {
            let (left, right, r) = h.factors(self.dims);
            product(&left, &right, self.dims.outputs, r, self.dims.columns())
        });
        let s = f64::from(self.scale);
        first
            .iter()
            .zip(&second)
            .map(|(x, y)| (s * x * y) as f32)
            .collect()
    }

    /// Rank r²: rows of the left factors multiplied pairwise, and rows of the right ones likewise.
    fn low_rank(&self) -> Option<LowRank> {
        let [(l1, r1, n1), (l2, r2, n2)] = self.halves.each_ref().map(|h| h.factors(self.dims));
        let columns = self.dims.columns();
        let up: Vec<f64> = l1
            .chunks_exact(n1)
            .zip(l2.chunks_exact(n2))
            .flat_map(|(x, y)| x.iter().flat_map(move |a| y.iter().map(move |b| a * b)))
            .collect();
        let mut down = Vec::with_capacity(n1 * n2 * columns);
        for x in r1.chunks_exact(columns) {
            for y in r2.chunks_exact(columns) {
                down.extend(x.iter().zip(y).map(|(a, b)| a * b));
            }
        }
        Some(LowRank {
            rank: n1 * n2,
            down: rounded(&down),
            up: rounded(&up),
            scale: self.scale,
        })
    }
}
