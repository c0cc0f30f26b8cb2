//! Copies of strided views: what slicing, transposing and tiling have in common.

use crate::shape::Walk;

/// Elements of the view `shape`, `strides`, `start` of `src`, row-major. The view must lie within `src`.
pub(crate) fn copied<T: Copy>(
    src: &[T],
    shape: &[usize],
    strides: &[isize],
    start: isize,
) -> Vec<T> {
    let total: usize = shape.iter().product();
    let mut out = Vec::with_capacity(total);
    // The innermost axes that are contiguous in `src` are copied as runs.
    let mut run = 1usize;
    let mut outer = shape.len();
    while let Some(inner) = outer.checked_sub(1) {
        let (size, stride) = (shape.get(inner).copied(), strides.get(inner).copied());
        if size != Some(1) && stride != isize::try_from(run).ok() {
            break;
        }
        run *= size.unwrap_or(1);
        outer = inner;
    }
    let (shape, strides) = (
        shape.get(..outer).unwrap_or(&[]),
        strides.get(..outer).unwrap_or(&[]),
    );
    for offset in Walk::new(shape, strides, start) {
        out.extend_from_slice(src.get(offset..offset + run).unwrap_or(&[]));
    }
    out
}

/// Row-major strides as signed numbers.
pub(crate) fn signed_strides(shape: &[usize]) -> Vec<isize> {
    crate::shape::strides(shape)
        .into_iter()
        .map(|s| s as isize)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_and_single_elements() {
        let src: Vec<i32> = (0..24).collect();
        assert_eq!(
            copied(&src, &[2, 2, 4], &[12, 4, 1], 4),
            [4, 5, 6, 7, 8, 9, 10, 11, 16, 17, 18, 19, 20, 21, 22, 23]
        );
        assert_eq!(copied(&src, &[2, 3], &[1, -4], 8), [8, 4, 0, 9, 5, 1]);
        assert_eq!(copied(&src, &[], &[], 5), [5]);
        assert_eq!(copied(&src, &[0, 3], &[3, 1], 0), [0; 0]);
    }
}
