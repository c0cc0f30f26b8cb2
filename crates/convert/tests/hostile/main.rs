//! Readers against files that mean harm: 50,000 changed samples for each, and one crafted file for each refusal.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod archive;
mod attacks;
mod mutate;
mod mutations;
mod parsers;
mod samples;

use peak_alloc::PeakAlloc;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Counts the bytes of the whole process; [`alone`] keeps the tests of this binary apart.
#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// Held by a test while it runs, so that no other test allocates meanwhile.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Most bytes that were allocated at one time during `work`, above those before it.
fn peak<T>(work: impl FnOnce() -> T) -> (usize, T) {
    HEAP.reset_peak_usage();
    let before = HEAP.current_usage();
    let answer = work();
    (HEAP.peak_usage().saturating_sub(before), answer)
}
