//! Arithmetic on dimensions, some of which may be unknown.

use super::context::Context;
use crate::{DType, Dim, Result, TensorType, ValueType};

/// A dimension known only when the program runs.
pub(crate) const UNKNOWN: Dim = Dim::Unknown { variadic: false };

/// The size, when it is known.
pub(crate) fn size(d: Dim) -> Option<usize> {
    match d {
        Dim::Fixed(n) => Some(n),
        Dim::Unknown { .. } => None,
    }
}

/// One output: a tensor.
pub(crate) fn one(dtype: DType, dims: Vec<Dim>) -> Result<Vec<ValueType>> {
    Ok(vec![ValueType::Tensor(TensorType { dtype, dims })])
}

/// Two dimensions that must be the same; the known one wins.
pub(crate) fn same(a: Dim, b: Dim) -> Option<Dim> {
    match (size(a), size(b)) {
        (Some(x), Some(y)) if x != y => None,
        (Some(_), _) => Some(a),
        _ => Some(b),
    }
}

/// Product of dimensions: unknown when one is unknown, `None` when it overflows.
pub(crate) fn product(dims: &[Dim]) -> Option<Dim> {
    let mut n = 1usize;
    for d in dims {
        match size(*d) {
            Some(x) => n = n.checked_mul(x)?,
            None => return Some(UNKNOWN),
        }
    }
    Some(Dim::Fixed(n))
}

/// Sum of dimensions: unknown when one is unknown, `None` when it overflows.
pub(crate) fn sum(dims: &[Dim]) -> Option<Dim> {
    let mut n = 0usize;
    for d in dims {
        match size(*d) {
            Some(x) => n = n.checked_add(x)?,
            None => return Some(UNKNOWN),
        }
    }
    Some(Dim::Fixed(n))
}

/// Broadcast of two shapes, right-aligned; sizes must be equal or 1.
pub(crate) fn broadcast(a: &[Dim], b: &[Dim]) -> Option<Vec<Dim>> {
    let rank = a.len().max(b.len());
    let at = |dims: &[Dim], i: usize| -> Dim {
        (i + dims.len())
            .checked_sub(rank)
            .and_then(|j| dims.get(j).copied())
            .unwrap_or(Dim::Fixed(1))
    };
    (0..rank)
        .map(|i| {
            let (x, y) = (at(a, i), at(b, i));
            match (size(x), size(y)) {
                (Some(1), _) => Some(y),
                (_, Some(1)) => Some(x),
                _ => same(x, y),
            }
        })
        .collect()
}

/// A shape as text, `[2, 77, ?]`.
pub(crate) fn text(dims: &[Dim]) -> String {
    let words: Vec<String> = dims
        .iter()
        .map(|d| size(*d).map_or("?".into(), |n| n.to_string()))
        .collect();
    format!("[{}]", words.join(", "))
}

impl Context<'_> {
    /// Broadcast of two parameters' shapes.
    pub(crate) fn broadcast(&self, a: &TensorType, b: &TensorType) -> Result<Vec<Dim>> {
        broadcast(&a.dims, &b.dims).ok_or_else(|| {
            self.fail(format!(
                "shapes {} and {} do not broadcast",
                text(&a.dims),
                text(&b.dims)
            ))
        })
    }

    /// An axis in `[-rank, rank)`, counted from the front.
    pub(crate) fn axis(&self, parameter: &str, axis: i64, rank: usize) -> Result<usize> {
        let r = i64::try_from(rank).unwrap_or(i64::MAX);
        let a = if axis < 0 {
            axis.saturating_add(r)
        } else {
            axis
        };
        match usize::try_from(a) {
            Ok(a) if a < rank => Ok(a),
            _ => Err(self.wrong(
                parameter,
                &format!("an axis in [-{rank}, {rank})"),
                &axis.to_string(),
            )),
        }
    }

    /// Distinct axes in `[-rank, rank)`, counted from the front, in the order given; `None` when left out.
    pub(crate) fn axes(&self, parameter: &str, rank: usize) -> Result<Option<Vec<usize>>> {
        let Some(given) = self.known_ints(parameter)? else {
            return Ok(None);
        };
        let mut axes = Vec::with_capacity(given.len());
        for &a in &given {
            let axis = self.axis(parameter, a, rank)?;
            if axes.contains(&axis) {
                return Err(self.wrong(parameter, "distinct axes", &format!("{given:?}")));
            }
            axes.push(axis);
        }
        Ok(Some(axes))
    }

    /// A positive size from an integer parameter.
    pub(crate) fn positive(&self, parameter: &str, n: i64) -> Result<usize> {
        usize::try_from(n)
            .ok()
            .filter(|n| *n > 0)
            .ok_or_else(|| self.wrong(parameter, "a positive integer", &n.to_string()))
    }

    /// A size of zero or more from an integer parameter.
    pub(crate) fn non_negative(&self, parameter: &str, n: i64) -> Result<usize> {
        usize::try_from(n)
            .map_err(|_| self.wrong(parameter, "an integer of 0 or more", &n.to_string()))
    }

    /// The dimension at `i`, or an error that names the parameter.
    pub(crate) fn dim(&self, parameter: &str, t: &TensorType, i: usize) -> Result<Dim> {
        t.dims
            .get(i)
            .copied()
            .ok_or_else(|| self.wrong(parameter, &format!("rank above {i}"), &t.to_string()))
    }

    /// Requires a vector of `n` elements (a bias, a gamma) when the parameter is given.
    pub(crate) fn vector(&self, parameter: &str, n: Dim) -> Result<()> {
        let Some(t) = self.optional_tensor(parameter)? else {
            return Ok(());
        };
        match t.dims.as_slice() {
            [d] if same(*d, n).is_some() => Ok(()),
            _ => Err(self.wrong(parameter, &format!("shape {}", text(&[n])), &t.to_string())),
        }
    }
}
