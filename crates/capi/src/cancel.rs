//! Cancellation tokens.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::pointer::{hand_out, read, take_back};
use crate::status::{GessoStatus, guard};

/// Ends predictions early. It stays set: make a new one for the next prediction.
#[derive(Debug, Default)]
pub struct GessoToken {
    pub(crate) flag: Arc<AtomicBool>,
}

/// Makes a token that is not set.
///
/// # Safety
///
/// `token` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gesso_token_new(token: *mut *mut GessoToken) -> GessoStatus {
    // SAFETY: the caller's promise.
    guard(|| unsafe { hand_out(token, GessoToken::default(), "token") })
}

/// Sets a token: predictions with it end with `GESSO_STATUS_CANCELLED` before their next op. From any thread.
///
/// # Safety
///
/// `token` is a token that is not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gesso_token_set(token: *const GessoToken) -> GessoStatus {
    guard(|| {
        // SAFETY: the caller's promise.
        let token = unsafe { read(token, "token") }?;
        token.flag.store(true, Ordering::Relaxed);
        Ok(())
    })
}

/// Frees a token and sets the variable to null. Predictions that have it go on as if it were never set from here on.
///
/// # Safety
///
/// `token` is null or points to null or to a token; no other thread is inside a function with it, except predictions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gesso_token_free(token: *mut *mut GessoToken) -> GessoStatus {
    guard(|| {
        // SAFETY: the caller's promise.
        drop(unsafe { take_back(token) });
        Ok(())
    })
}
