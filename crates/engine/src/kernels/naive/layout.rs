//! Ops that move elements: reshape, transpose, concat, split, stack, tile, pad, reverse.

use super::view::{copied, signed_strides};
use crate::call::Call;
use crate::shape::{around, axis, count};
use crate::tensor::{Array, Buffer, Outputs, each_class};

/// `shape` may hold 0 (the size of the input there) and one -1 (what is left).
pub(crate) fn reshape(call: &mut Call<'_>) -> Outputs {
    let wanted = call.required_ints("shape")?;
    let x = call.take("x")?;
    let mut shape = Vec::with_capacity(wanted.len());
    for (i, &d) in wanted.iter().enumerate() {
        shape.push(match d {
            0 if x.len() != 0 => x.shape.get(i).copied().unwrap_or(0),
            -1 => 1,
            d => usize::try_from(d).map_err(|_| call.wrong(format!("`shape` holds {d}")))?,
        });
    }
    if let Some(free) = wanted.iter().position(|&d| d == -1) {
        let known = call.count(&shape)?.max(1);
        if let Some(slot) = shape.get_mut(free) {
            *slot = x.len() / known;
        }
    }
    if count(&shape) != Some(x.len()) {
        return Err(call.wrong(format!("shape {wanted:?} does not fit {:?}", x.shape)));
    }
    Ok(vec![Array { shape, ..x }])
}

pub(crate) fn identity(call: &mut Call<'_>) -> Outputs {
    Ok(vec![call.take("x")?])
}

/// Removes axes of size 1: those given, or all.
pub(crate) fn squeeze(call: &mut Call<'_>) -> Outputs {
    let given = call.has("axes");
    let rank = call.shape("x")?.len();
    let axes = call.axes("axes", rank)?;
    let x = call.take("x")?;
    let mut shape = Vec::new();
    for (i, &d) in x.shape.iter().enumerate() {
        if axes.contains(&i) && (d == 1 || given) {
            if d != 1 {
                return Err(call.wrong(format!("axis {i} of {:?} is not 1", x.shape)));
            }
        } else {
            shape.push(d);
        }
    }
    Ok(vec![Array { shape, ..x }])
}

/// Inserts axes of size 1; `axes` are positions in the output.
pub(crate) fn expand_dims(call: &mut Call<'_>) -> Outputs {
    let given = call.required_ints("axes")?;
    let x = call.take("x")?;
    let rank = x.shape.len() + given.len();
    let mut new = vec![false; rank];
    for &a in &given {
        match axis(a, rank).and_then(|a| new.get_mut(a)) {
            Some(slot) if !*slot => *slot = true,
            _ => return Err(call.wrong(format!("`axes` {given:?} for rank {rank}"))),
        }
    }
    let mut old = x.shape.iter().copied();
    let shape = new
        .iter()
        .map(|&n| if n { 1 } else { old.next().unwrap_or(1) })
        .collect();
    Ok(vec![Array { shape, ..x }])
}

/// All sizes before the axis are merged, and all from it on.
pub(crate) fn flatten2d(call: &mut Call<'_>) -> Outputs {
    let x_shape = call.shape("x")?;
    let at = call.axis("axis", 1, x_shape.len())?;
    let x = call.take("x")?;
    let (before, size, after) = around(&x_shape, at);
    Ok(vec![Array {
        shape: vec![before, size * after],
        ..x
    }])
}

/// `out.shape[i] = x.shape[perm[i]]`.
pub(crate) fn transpose(call: &mut Call<'_>) -> Outputs {
    let x = call.array("x")?;
    let perm = permutation(call, x.shape.len())?;
    let strides = signed_strides(&x.shape);
    let pick = |p: &usize| x.shape.get(*p).copied().unwrap_or(1);
    let shape: Vec<usize> = perm.iter().map(pick).collect();
    let strides: Vec<isize> = perm
        .iter()
        .map(|&p| strides.get(p).copied().unwrap_or(0))
        .collect();
    Ok(vec![each_class!(x, &shape, |v| copied(
        v, &shape, &strides, 0
    ))])
}

/// The `perm` parameter, checked.
pub(crate) fn permutation(call: &Call<'_>, rank: usize) -> crate::Result<Vec<usize>> {
    let given = call.required_ints("perm")?;
    let perm: Vec<usize> = given.iter().filter_map(|&p| axis(p, rank)).collect();
    let mut sorted = perm.clone();
    sorted.sort_unstable();
    if sorted != (0..rank).collect::<Vec<_>>() {
        return Err(call.wrong(format!("`perm` {given:?} is no permutation of {rank} axes")));
    }
    Ok(perm)
}

/// Joins along an axis; with `interleave` one slice of each in turn.
pub(crate) fn concat(call: &mut Call<'_>) -> Outputs {
    let values = call.many("values")?;
    let interleave = call.flag("interleave", false)?;
    let first = values
        .first()
        .ok_or_else(|| call.wrong("`values` is empty"))?;
    let at = call.axis("axis", 0, first.shape.len())?;
    let parts: Vec<(usize, usize)> = values
        .iter()
        .map(|v| around(&v.shape, at))
        .map(|(_, size, after)| (size, after))
        .collect();
    let (before, _, after) = around(&first.shape, at);
    let mut shape = first.shape.clone();
    for v in &values {
        let same = v.shape.len() == shape.len()
            && v.shape
                .iter()
                .zip(&shape)
                .enumerate()
                .all(|(i, (a, b))| i == at || a == b);
        if !same || v.class() != first.class() {
            return Err(call.wrong(format!("{:?} and {:?} do not fit", first.shape, v.shape)));
        }
    }
    if let Some(slot) = shape.get_mut(at) {
        *slot = parts.iter().map(|p| p.0).sum();
    }
    let pieces = Pieces {
        parts: &parts,
        before,
        after,
        interleave,
    };
    macro_rules! joined {
        ($variant:ident, $make:path) => {{
            let slices: Vec<&[_]> = values
                .iter()
                .filter_map(|v| match &v.buffer {
                    Buffer::$variant(v) => Some(v.as_slice()),
                    _ => None,
                })
                .collect();
            $make(&shape, pieces.joined(&slices))
        }};
    }
    Ok(vec![match &first.buffer {
        Buffer::F32(_) => joined!(F32, Array::f32),
        Buffer::I32(_) => joined!(I32, Array::i32),
        Buffer::Bool(_) => joined!(Bool, Array::bool),
    }])
}

struct Pieces<'a> {
    /// Size along the axis and elements after it, per value.
    parts: &'a [(usize, usize)],
    before: usize,
    after: usize,
    interleave: bool,
}

impl Pieces<'_> {
    fn joined<T: Copy>(&self, slices: &[&[T]]) -> Vec<T> {
        let mut out = Vec::with_capacity(slices.iter().map(|s| s.len()).sum());
        for b in 0..self.before {
            if self.interleave {
                let size = self.parts.first().map_or(0, |p| p.0);
                for i in 0..size {
                    for s in slices {
                        let from = (b * size + i) * self.after;
                        out.extend_from_slice(s.get(from..from + self.after).unwrap_or(&[]));
                    }
                }
            } else {
                for (s, (size, after)) in slices.iter().zip(self.parts) {
                    let n = size * after;
                    out.extend_from_slice(s.get(b * n..(b + 1) * n).unwrap_or(&[]));
                }
            }
        }
        out
    }
}

/// Cuts along an axis into `num_splits` equal parts or into `split_sizes`.
pub(crate) fn split(call: &mut Call<'_>) -> Outputs {
    let x = call.array("x")?;
    let at = call.axis("axis", 0, x.shape.len())?;
    let (_, size, _) = around(&x.shape, at);
    let sizes = if call.has("split_sizes") {
        call.sizes("split_sizes")?
    } else {
        let n = call
            .sizes("num_splits")?
            .first()
            .copied()
            .unwrap_or(0)
            .max(1);
        vec![size / n; n]
    };
    if sizes.iter().sum::<usize>() != size {
        return Err(call.wrong(format!("parts {sizes:?} of an axis of size {size}")));
    }
    let strides = signed_strides(&x.shape);
    let stride = strides.get(at).copied().unwrap_or(1);
    let mut start = 0isize;
    let mut parts = Vec::with_capacity(sizes.len());
    for part in sizes {
        let mut shape = x.shape.clone();
        if let Some(slot) = shape.get_mut(at) {
            *slot = part;
        }
        parts.push(each_class!(x, &shape, |v| copied(
            v, &shape, &strides, start
        )));
        start += stride * part as isize;
    }
    Ok(parts)
}

/// Joins values of one shape along a new axis.
pub(crate) fn stack(call: &mut Call<'_>) -> Outputs {
    let values = call.many("values")?;
    let rank = values.first().map_or(0, |v| v.shape.len());
    let at = call.axis("axis", 0, rank + 1)?;
    let expanded: Vec<_> = values
        .into_iter()
        .map(|mut v| {
            v.shape.insert(at.min(v.shape.len()), 1);
            crate::call::Operand::Array(v)
        })
        .collect();
    call.operands.insert("values", expanded);
    concat(call)
}

/// Repeats each axis `reps[i]` times.
pub(crate) fn tile(call: &mut Call<'_>) -> Outputs {
    let x = call.array("x")?;
    let reps = call.sizes("reps")?;
    if reps.len() != x.shape.len() {
        return Err(call.wrong(format!("`reps` {reps:?} for shape {:?}", x.shape)));
    }
    // As a view with two axes per axis: the repetition (stride 0) and the axis itself.
    let own = signed_strides(&x.shape);
    let mut shape = Vec::new();
    let mut strides = Vec::new();
    let mut result = Vec::new();
    for ((&r, &d), &s) in reps.iter().zip(&x.shape).zip(&own) {
        shape.extend([r, d]);
        strides.extend([0, s]);
        result.push(r * d);
    }
    call.count(&result)?;
    Ok(vec![each_class!(x, &result, |v| copied(
        v, &shape, &strides, 0
    ))])
}

/// Turns the order of the elements along axes around.
pub(crate) fn reverse(call: &mut Call<'_>) -> Outputs {
    let x = call.array("x")?;
    let axes = call.axes("axes", x.shape.len())?;
    let mut start = 0;
    let mut strides = signed_strides(&x.shape);
    for a in axes {
        if let (Some(s), Some(&d)) = (strides.get_mut(a), x.shape.get(a)) {
            start += *s * (d as isize - 1).max(0);
            *s = -*s;
        }
    }
    Ok(vec![each_class!(x, &x.shape, |v| copied(
        v, &x.shape, &strides, start
    ))])
}

/// Pads the last axes: `pad` holds (before, after) per axis; `mode` constant, reflect or replicate.
pub(crate) fn pad(call: &mut Call<'_>) -> Outputs {
    let x = call.array("x")?;
    let pads = call.sizes("pad")?;
    let mode = call.string("mode", "constant")?;
    let value = call.number("constant_val", 0.0)?;
    let rank = x.shape.len();
    let first = rank
        .checked_sub(pads.len() / 2)
        .filter(|_| pads.len().is_multiple_of(2))
        .ok_or_else(|| call.wrong(format!("`pad` {pads:?} for shape {:?}", x.shape)))?;
    // Per axis: where each output position comes from; `None` is the constant.
    let mut maps: Vec<Vec<Option<usize>>> = Vec::with_capacity(rank);
    for (a, &size) in x.shape.iter().enumerate() {
        let (before, after) = match a.checked_sub(first) {
            Some(i) => (pads.get(2 * i).copied(), pads.get(2 * i + 1).copied()),
            None => (None, None),
        };
        let (before, after) = (before.unwrap_or(0), after.unwrap_or(0));
        let n = size as i64;
        if mode == "reflect" && (before >= size.max(1) || after >= size.max(1)) {
            return Err(call.wrong(format!("reflecting {before} and {after} of {size}")));
        }
        let source = |o: usize| {
            let i = o as i64 - before as i64;
            let j = match mode {
                "reflect" if i < 0 => -i,
                "reflect" if i >= n => 2 * n - 2 - i,
                "replicate" => i.clamp(0, (n - 1).max(0)),
                _ => i,
            };
            (0..n).contains(&j).then_some(j as usize)
        };
        maps.push((0..before + size + after).map(source).collect());
    }
    if !["constant", "reflect", "replicate"].contains(&mode) {
        return Err(call.wrong(format!("mode `{mode}` is not known")));
    }
    let shape: Vec<usize> = maps.iter().map(Vec::len).collect();
    call.count(&shape)?;
    Ok(vec![match &x.buffer {
        Buffer::F32(v) => Array::f32(&shape, padded(v, &x.shape, &maps, value as f32)),
        Buffer::I32(v) => Array::i32(&shape, padded(v, &x.shape, &maps, value as i32)),
        Buffer::Bool(v) => Array::bool(&shape, padded(v, &x.shape, &maps, value != 0.0)),
    }])
}

fn padded<T: Copy>(src: &[T], shape: &[usize], maps: &[Vec<Option<usize>>], fill: T) -> Vec<T> {
    let (Some((map, outer)), Some((&size, rows))) = (maps.split_last(), shape.split_last()) else {
        return src.to_vec();
    };
    // Source row of each output row; `None` when the row is constant.
    let mut sources: Vec<Option<usize>> = vec![Some(0)];
    for (map, &d) in outer.iter().zip(rows) {
        sources = sources
            .iter()
            .flat_map(|s| map.iter().map(move |m| Some((*s)? * d + (*m)?)))
            .collect();
    }
    let mut out = Vec::with_capacity(sources.len() * map.len());
    for row in sources {
        let row = row.and_then(|r| src.get(r * size..(r + 1) * size));
        out.extend(map.iter().map(|m| {
            let element = row.and_then(|r| r.get((*m)?));
            element.copied().unwrap_or(fill)
        }));
    }
    out
}
