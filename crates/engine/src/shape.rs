//! Arithmetic on shapes: sizes, strides, broadcasting, axes.

/// Number of elements; `None` when it does not fit.
pub(crate) fn count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
}

/// Row-major strides in elements.
pub(crate) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    let mut n = 1;
    for (stride, &d) in strides.iter_mut().zip(shape).rev() {
        *stride = n;
        n *= d.max(1);
    }
    strides
}

/// Shape of two operands under numpy's broadcasting; `None` when they do not fit.
pub(crate) fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let padded = |s: &[usize]| -> Vec<usize> {
        std::iter::repeat_n(1, rank - s.len())
            .chain(s.iter().copied())
            .collect()
    };
    padded(a)
        .into_iter()
        .zip(padded(b))
        .map(|pair| match pair {
            (x, y) if x == y => Some(x),
            (1, y) => Some(y),
            (x, 1) => Some(x),
            _ => None,
        })
        .collect()
}

/// Strides with which an operand of `shape` is walked along the broadcast shape `out`; 0 where it is repeated.
pub(crate) fn broadcast_strides(shape: &[usize], out: &[usize]) -> Vec<usize> {
    let own = strides(shape);
    let missing = out.len().saturating_sub(shape.len());
    let mut result = vec![0; out.len()];
    for (i, slot) in result.iter_mut().enumerate().skip(missing) {
        let d = i - missing;
        if shape.get(d).is_some_and(|&n| n != 1) {
            *slot = own.get(d).copied().unwrap_or(0);
        }
    }
    result
}

/// An axis of a shape with this rank, counted from the end when negative.
pub(crate) fn axis(axis: i64, rank: usize) -> Option<usize> {
    let rank = i64::try_from(rank).ok()?;
    let a = if axis < 0 { axis + rank } else { axis };
    (0..rank).contains(&a).then_some(a as usize)
}

/// (product of the sizes before the axis, size of the axis, product of the sizes after it).
pub(crate) fn around(shape: &[usize], axis: usize) -> (usize, usize, usize) {
    let before = shape.iter().take(axis).product();
    let size = shape.get(axis).copied().unwrap_or(1);
    let after = shape.iter().skip(axis + 1).product();
    (before, size, after)
}

/// Walks the offsets of a strided view in row-major order of `shape`.
pub(crate) struct Walk {
    shape: Vec<usize>,
    strides: Vec<isize>,
    index: Vec<usize>,
    offset: isize,
    left: usize,
}

impl Walk {
    pub(crate) fn new(shape: &[usize], strides: &[isize], start: isize) -> Self {
        Self {
            shape: shape.to_vec(),
            strides: strides.to_vec(),
            index: vec![0; shape.len()],
            offset: start,
            left: shape.iter().product(),
        }
    }

    pub(crate) fn unsigned(shape: &[usize], strides: &[usize]) -> Self {
        let strides: Vec<isize> = strides.iter().map(|&s| s as isize).collect();
        Self::new(shape, &strides, 0)
    }
}

impl Iterator for Walk {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let offset = self.offset;
        let axes = self.shape.iter().zip(&self.strides).zip(&mut self.index);
        for ((&size, &stride), index) in axes.rev() {
            *index += 1;
            self.offset += stride;
            if *index < size {
                break;
            }
            self.offset -= stride * size as isize;
            *index = 0;
        }
        usize::try_from(offset).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broadcasting() {
        assert_eq!(broadcast(&[3, 1], &[2, 1, 4]), Some(vec![2, 3, 4]));
        assert_eq!(broadcast(&[], &[2]), Some(vec![2]));
        assert_eq!(broadcast(&[3], &[2]), None);
        assert_eq!(broadcast_strides(&[3, 1], &[2, 3, 4]), vec![0, 1, 0]);
        assert_eq!(strides(&[2, 3, 4]), vec![12, 4, 1]);
        assert_eq!(axis(-1, 3), Some(2));
        assert_eq!(axis(3, 3), None);
        assert_eq!(around(&[2, 3, 4], 1), (2, 3, 4));
    }

    #[test]
    fn walk_of_a_transposed_view() {
        let offsets: Vec<usize> = Walk::unsigned(&[3, 2], &[1, 3]).collect();
        assert_eq!(offsets, [0, 3, 1, 4, 2, 5]);
        let reversed: Vec<usize> = Walk::new(&[3], &[-2], 4).collect();
        assert_eq!(reversed, [4, 2, 0]);
    }
}
