//! GLoRA: a low-rank difference and a low-rank map of the base weight's inputs.
//!
//! ```text
//! today   a1 [I, r], a2 [r, I], b1 [O, r], b2 [r, I(, k, k)]   dW = s · (W ×_in (a1·a2) + b1·b2)
//! old     a1 [r, I], a2 [I, r], b1 [r, I], b2 [O, r]           dW = s · (W·a2·a1 + b2·b1)
//! ```
//! Where a square layer with r = I leaves it open, today's form is taken, with a warning.
//! Source: KohakuBlueleaf/LyCORIS `modules/glora.py`; comfyanonymous/ComfyUI `comfy/weight_adapter/glora.py` (old form).

use super::site::{Dims, shape_error};
use super::{Built, Delta, Fault, Site};
use crate::lora::factor::Factor;
use crate::lora::matrix::{product, rounded, transposed, widened};
use crate::lora::part::Part;

#[derive(Debug)]
struct Glora {
    /// `[I, r]`, `[r, I]`, `[O, r]`, `[r, I·k]`.
    a_left: Factor,
    a_right: Factor,
    b_left: Factor,
    b_right: Factor,
    rank: usize,
    dims: Dims,
    scale: f32,
}

pub(super) fn build(site: &mut Site<'_>) -> Result<Built, Fault> {
    let dims = site.dims();
    let have = "another part of GLoRA";
    let a1 = site.need(Part::GloraA1, "`a1.weight`", have)?;
    let a2 = site.need(Part::GloraA2, "`a2.weight`", have)?;
    let b1 = site.need(Part::GloraB1, "`b1.weight`", have)?;
    let b2 = site.need(Part::GloraB2, "`b2.weight`", have)?;
    let size = |f: &Factor| (f.first(), f.shape.get(1).copied().unwrap_or(1));
    let is_new = size(&a1).1 == size(&a2).0
        && size(&a1).1 == size(&b1).1
        && size(&b1).1 == size(&b2).0
        && size(&a1).0 == dims.inputs
        && size(&b1).0 == dims.outputs;
    let is_old =
        size(&b2).1 == size(&b1).0 && size(&b1).0 == size(&a1).0 && size(&a1).0 == size(&a2).1;
    if is_new && is_old {
        site.warnings.push(format!(
            "`{}`: both orders of GLoRA fit, today's is taken",
            site.written
        ));
    }
    let (a_left, a_right, b_left, b_right) = if is_new {
        (a1, a2, b1, b2)
    } else if is_old {
        (a2, a1, b2, b1)
    } else {
        return Err(site.misfit(&a1, "one of the two orders of GLoRA"));
    };
    let rank = a_right.first();
    if rank == 0 {
        return Err(shape_error(&a_right, "a rank of at least 1"));
    }
    site.expect(&a_left, &[dims.inputs, rank])?;
    site.expect(&a_right, &[rank, dims.inputs])?;
    site.expect(&b_left, &[dims.outputs, rank])?;
    site.expect(&b_right, &[rank, dims.inputs, dims.kernel])?;
    let scale = site.scale(Some(rank))?;
    Ok(Built {
        word: "glora",
        rank: Some(rank),
        scale,
        delta: Box::new(Glora {
            a_left,
            a_right,
            b_left,
            b_right,
            rank,
            dims,
            scale,
        }),
    })
}

impl Delta for Glora {
    fn delta(&self, base: &[f32]) -> Vec<f32> {
        let Dims {
            outputs,
            inputs,
            kernel,
        } = self.dims;
        let columns = self.dims.columns();
        let values = |f: &Factor| widened(&f.values());
        let map = product(
            &values(&self.a_left),
            &values(&self.a_right),
            inputs,
            self.rank,
            inputs,
        );
        let map_t = transposed(&map, inputs, inputs);
        let mut out = product(
            &values(&self.b_left),
            &values(&self.b_right),
            outputs,
            self.rank,
            columns,
        );
        // Per output row: mapᵀ [j, i] · W_o [i, k].
        for (out, w) in out
            .chunks_exact_mut(columns.max(1))
            .zip(widened(base).chunks_exact(columns.max(1)))
        {
            for (o, x) in out
                .iter_mut()
                .zip(product(&map_t, w, inputs, inputs, kernel))
            {
                *o = f64::from(self.scale) * (*o + x);
            }
        }
        rounded(&out)
    }

    fn reads_base(&self) -> bool {
        true
    }
}
