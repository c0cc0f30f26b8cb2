//! Recycled f32 buffers, so that large values do not fault their pages in anew at every op.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Buffers smaller than this are left to the allocator.
const SMALLEST: usize = 1 << 14;
/// Bytes kept at most.
const LIMIT: usize = 512 << 20;

/// Free buffers by length.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    free: Mutex<Free>,
}

#[derive(Debug, Default)]
struct Free {
    bytes: usize,
    by_len: BTreeMap<usize, Vec<Vec<f32>>>,
}

impl Pool {
    /// A buffer of `len` elements with arbitrary contents.
    pub(crate) fn take(&self, len: usize) -> Vec<f32> {
        if len >= SMALLEST {
            let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
            // Nothing much larger than needed, so that a small value does not sit on a large buffer.
            let found = free
                .by_len
                .range(len..=len.saturating_mul(2))
                .next()
                .map(|(&n, _)| n);
            if let Some(n) = found
                && let Some(list) = free.by_len.get_mut(&n)
                && let Some(mut v) = list.pop()
            {
                if list.is_empty() {
                    free.by_len.remove(&n);
                }
                free.bytes -= v.capacity() * 4;
                v.truncate(len);
                return v;
            }
        }
        vec![0.0; len]
    }

    /// Gives a buffer back.
    pub(crate) fn give(&self, mut v: Vec<f32>) {
        if v.capacity() < SMALLEST {
            return;
        }
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = v.capacity() * 4;
        if free.bytes + bytes > LIMIT {
            return;
        }
        // The full length again: contents are arbitrary, but must be initialised once.
        let capacity = v.capacity();
        v.resize(capacity, 0.0);
        free.bytes += bytes;
        free.by_len.entry(capacity).or_default().push(v);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back() {
        let pool = Pool::default();
        let v = pool.take(20_000);
        let address = v.as_ptr();
        pool.give(v);
        let again = pool.take(19_000);
        assert_eq!(again.as_ptr(), address);
        assert_eq!(again.len(), 19_000);
        let other = pool.take(19_000);
        assert_ne!(other.as_ptr(), address);
    }
}
