//! Where each element of a buffer lies.

use std::ffi::c_void;

use gesso_engine::Feature;
use gesso_mil::Dim;

use crate::buffer::GessoDtype;
use crate::status::{Failure, GessoStatus, Outcome};

/// A buffer that was checked: every element lies inside.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) shape: Vec<usize>,
    strides: Vec<usize>,
    pub(crate) count: usize,
    pub(crate) dtype: GessoDtype,
}

impl Layout {
    /// Checks shape and strides against the length of the buffer; `writes`: no two elements may be the same.
    pub(crate) fn new(
        shape: &[i64],
        strides: Option<&[i64]>,
        dtype: i32,
        bytes: usize,
        writes: bool,
    ) -> Outcome<Self> {
        let wrong = |text: String| Failure::new(GessoStatus::Buffer, text);
        let dtype = GessoDtype::of(dtype).ok_or_else(|| {
            let text = format!("dtype {dtype} is none of `GessoDtype`");
            Failure::new(GessoStatus::Argument, text)
        })?;
        let sizes = |numbers: &[i64], what: &str| {
            let sizes = numbers.iter().map(|&n| usize::try_from(n));
            sizes
                .collect::<Result<Vec<_>, _>>()
                .map_err(|_| wrong(format!("{what} {numbers:?} has a negative number")))
        };
        let too_large = || wrong(format!("shape {shape:?} is too large"));
        let shape_found = sizes(shape, "shape")?;
        let count = shape_found
            .iter()
            .try_fold(1usize, |n, &size| n.checked_mul(size))
            .ok_or_else(too_large)?;
        let strides_found = match strides {
            Some(strides) => sizes(strides, "strides")?,
            None => {
                let mut step = 1usize;
                let mut strides = Vec::with_capacity(shape_found.len());
                for &size in shape_found.iter().rev() {
                    strides.push(step);
                    step = step.checked_mul(size.max(1)).ok_or_else(too_large)?;
                }
                strides.reverse();
                strides
            }
        };
        let pairs = || shape_found.iter().zip(&strides_found);
        if writes && pairs().any(|(&size, &stride)| size > 1 && stride == 0) {
            return Err(wrong(format!(
                "strides {strides_found:?} of shape {shape:?} put different elements at one place"
            )));
        }
        if count > 0 {
            let needed = pairs()
                .try_fold(0usize, |last, (&size, &stride)| {
                    last.checked_add((size - 1).checked_mul(stride)?)
                })
                .and_then(|last| last.checked_add(1)?.checked_mul(dtype.size()))
                .filter(|&n| isize::try_from(n).is_ok())
                .ok_or_else(too_large)?;
            if needed > bytes {
                return Err(wrong(format!(
                    "a buffer of {bytes} bytes is too short: {} of shape {shape:?} and strides {strides_found:?} takes {needed}",
                    dtype.word()
                )));
            }
        }
        Ok(Self {
            shape: shape_found,
            strides: strides_found,
            count,
            dtype,
        })
    }

    /// Visits the place of each element in row-major order, in elements.
    fn walk(&self, mut visit: impl FnMut(usize)) {
        if self.count == 0 {
            return;
        }
        let pairs: Vec<(usize, usize)> = self
            .shape
            .iter()
            .copied()
            .zip(self.strides.iter().copied())
            .collect();
        let (&(size, stride), outer) = pairs.split_last().unwrap_or((&(1, 0), &[]));
        let mut index = vec![0; outer.len()];
        let mut base = 0;
        loop {
            (0..size).for_each(|i| visit(base + i * stride));
            let mut carried = true;
            for (at, &(size, stride)) in index.iter_mut().zip(outer).rev() {
                *at += 1;
                base += stride;
                if *at < size {
                    carried = false;
                    break;
                }
                base -= size * stride;
                *at = 0;
            }
            if carried {
                return;
            }
        }
    }

    /// Reads every element in row-major order.
    ///
    /// # Safety
    ///
    /// `data` is the buffer that this layout was checked for, with elements of type `T`.
    pub(crate) unsafe fn gather<T: Copy, U>(
        &self,
        data: *const c_void,
        convert: impl Fn(T) -> U,
    ) -> Outcome<Vec<U>> {
        let mut values = Vec::new();
        values.try_reserve_exact(self.count).map_err(|_| {
            let text = format!("no memory for {} elements", self.count);
            Failure::new(GessoStatus::Argument, text)
        })?;
        let data = data.cast::<T>();
        // SAFETY: `new` checked that every place that `walk` visits lies inside.
        self.walk(|at| values.push(convert(unsafe { data.add(at).read_unaligned() })));
        Ok(values)
    }

    /// Writes one value per element in row-major order.
    ///
    /// # Safety
    ///
    /// As [`Layout::gather`], and the buffer may be written.
    pub(crate) unsafe fn scatter<T: Copy, U>(
        &self,
        data: *mut c_void,
        values: &[T],
        convert: impl Fn(T) -> U,
    ) {
        let data = data.cast::<U>();
        let mut values = values.iter();
        self.walk(|at| {
            if let Some(&value) = values.next() {
                // SAFETY: `new` checked that every place that `walk` visits lies inside.
                unsafe { data.add(at).write_unaligned(convert(value)) };
            }
        });
    }

    pub(crate) fn unfit(&self, name: &str, declared: &str) -> Failure {
        let text = format!(
            "`{name}` is declared {declared}, the buffer is {} {:?}",
            self.dtype.word(),
            self.shape
        );
        Failure::new(GessoStatus::Shape, text)
    }

    pub(crate) fn check_dims(&self, feature: &Feature) -> Outcome {
        let dims = &feature.ty.dims;
        let fits = dims.len() == self.shape.len()
            && dims.iter().zip(&self.shape).all(|(dim, &size)| match dim {
                Dim::Fixed(n) => *n == size,
                Dim::Unknown { .. } => true,
            });
        if fits {
            return Ok(());
        }
        Err(self.unfit(&feature.name, &feature.ty.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(shape: &[i64], strides: Option<&[i64]>) -> Vec<usize> {
        let layout = Layout::new(shape, strides, 1, 1 << 20, false).unwrap();
        let mut places = Vec::new();
        layout.walk(|at| places.push(at));
        places
    }

    #[test]
    fn elements_lie_where_strides_say() {
        assert_eq!(places(&[2, 3], None), [0, 1, 2, 3, 4, 5]);
        assert_eq!(places(&[2, 3], Some(&[1, 2])), [0, 2, 4, 1, 3, 5]);
        assert_eq!(places(&[2, 1, 2], Some(&[10, 99, 3])), [0, 3, 10, 13]);
        assert_eq!(places(&[3, 2], Some(&[0, 1])), [0, 1, 0, 1, 0, 1]);
        assert_eq!(places(&[], None), [0]);
        assert_eq!(places(&[4, 0, 2], None), [0; 0]);
    }

    #[test]
    fn a_buffer_is_as_long_as_its_last_element_needs() {
        let ok = |bytes| Layout::new(&[2, 3], Some(&[8, 2]), 2, bytes, true).is_ok();
        assert!(ok(26) && !ok(25));
        let status = |shape: &[i64], strides: Option<&[i64]>, dtype| {
            Layout::new(shape, strides, dtype, 64, true).unwrap_err()
        };
        for (shape, strides) in [
            (&[-1, 2][..], None),
            (&[2, 2], Some(&[-2, 1][..])),
            (&[2, 2], Some(&[0, 1])),
            (&[i64::MAX, i64::MAX], None),
            (&[2, i64::MAX], Some(&[i64::MAX, i64::MAX])),
        ] {
            let text = format!("{:?}", status(shape, strides, 1));
            assert!(text.contains("Buffer"), "{text}");
        }
        assert!(format!("{:?}", status(&[1], None, 9)).contains("Argument"));
    }
}
