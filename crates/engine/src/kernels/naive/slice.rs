//! `slice_by_index` and `slice_by_size`.

use super::view::{copied, signed_strides};
use crate::call::Call;
use crate::tensor::{Outputs, each_class};

/// `x[begin:end:stride]` per axis, as in Python. A set `begin_mask` or `end_mask` stands for the whole rest of the axis;
/// `squeeze_mask` takes one index and removes the axis.
pub(crate) fn slice_by_index(call: &mut Call<'_>) -> Outputs {
    let x = call.array("x")?;
    let rank = x.shape.len();
    let begin = call.required_ints("begin")?;
    let end = call.required_ints("end")?;
    let stride = call.ints("stride")?.unwrap_or_else(|| vec![1; rank]);
    let mask = |p: &str| -> crate::Result<Vec<bool>> {
        let given = call.ints(p)?.unwrap_or_else(|| vec![0; rank]);
        Ok(given.into_iter().map(|m| m != 0).collect())
    };
    let (begin_mask, end_mask, squeeze_mask) = (
        mask("begin_mask")?,
        mask("end_mask")?,
        mask("squeeze_mask")?,
    );
    let lengths = [begin.len(), end.len(), stride.len()];
    let masks = [begin_mask.len(), end_mask.len(), squeeze_mask.len()];
    if lengths.iter().chain(&masks).any(|&n| n != rank) {
        return Err(call.wrong(format!(
            "indices of lengths {lengths:?} {masks:?}, rank {rank}"
        )));
    }
    let own = signed_strides(&x.shape);
    let (mut shape, mut view, mut strides, mut start) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for a in 0..rank {
        let at = |v: &[i64]| v.get(a).copied().unwrap_or(0);
        let set = |v: &[bool]| v.get(a).copied().unwrap_or(false);
        let axis = Axis {
            size: x.shape.get(a).copied().unwrap_or(1) as i64,
            begin: (!set(&begin_mask)).then_some(at(&begin)),
            end: (!set(&end_mask)).then_some(at(&end)),
            step: at(&stride),
        };
        let squeezed = set(&squeeze_mask);
        let (first, n) = if squeezed {
            axis.single()
        } else {
            axis.range()
        }
        .ok_or_else(|| {
            call.wrong(format!(
                "index {begin:?} or step {stride:?} for shape {:?}",
                x.shape
            ))
        })?;
        let own = own.get(a).copied().unwrap_or(1);
        start += own * first as isize;
        view.push(n);
        strides.push(own * axis.step as isize);
        if !squeezed {
            shape.push(n);
        }
    }
    Ok(vec![each_class!(x, &shape, |v| copied(
        v, &view, &strides, start
    ))])
}

struct Axis {
    size: i64,
    begin: Option<i64>,
    end: Option<i64>,
    step: i64,
}

impl Axis {
    /// First index and number of elements, clamped as Python does.
    fn range(&self) -> Option<(i64, usize)> {
        let wrapped = |i: i64| if i < 0 { i + self.size } else { i };
        let (low, high) = if self.step < 0 {
            (-1, self.size - 1)
        } else {
            (0, self.size)
        };
        let whole = if self.step < 0 {
            (high, low)
        } else {
            (low, high)
        };
        let begin = self.begin.map_or(whole.0, |i| wrapped(i).clamp(low, high));
        let end = self.end.map_or(whole.1, |i| wrapped(i).clamp(low, high));
        let n = match self.step {
            0 => return None,
            s if s > 0 => (end - begin + s - 1).div_euclid(s),
            s => (begin - end - s - 1).div_euclid(-s),
        };
        let n = n.max(0) as usize;
        Some((if n == 0 { 0 } else { begin }, n))
    }

    /// The one index of a squeezed axis.
    fn single(&self) -> Option<(i64, usize)> {
        let i = self.begin.unwrap_or(0);
        let i = if i < 0 { i + self.size } else { i };
        (0..self.size).contains(&i).then_some((i, 1))
    }
}

/// `size[i]` elements from `begin[i]`; -1 stands for the rest of the axis.
pub(crate) fn slice_by_size(call: &mut Call<'_>) -> Outputs {
    let x = call.array("x")?;
    let begin = call.required_ints("begin")?;
    let size = call.required_ints("size")?;
    if begin.len() != x.shape.len() || size.len() != x.shape.len() {
        return Err(call.wrong(format!("{begin:?} and {size:?} for shape {:?}", x.shape)));
    }
    let strides = signed_strides(&x.shape);
    let (mut shape, mut start) = (Vec::new(), 0);
    for (((&b, &n), &d), &stride) in begin.iter().zip(&size).zip(&x.shape).zip(&strides) {
        let d = d as i64;
        let b = if b < 0 { b + d } else { b };
        let n = if n == -1 { d - b } else { n };
        if b < 0 || n < 0 || b + n > d {
            return Err(call.wrong(format!("{begin:?} and {size:?} exceed {:?}", x.shape)));
        }
        start += stride * b as isize;
        shape.push(n as usize);
    }
    let start = if shape.contains(&0) { 0 } else { start };
    Ok(vec![each_class!(x, &shape, |v| copied(
        v, &shape, &strides, start
    ))])
}
