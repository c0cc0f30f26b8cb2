//! The caller's pointers: checked for null, strings for UTF-8. The only place that reads or writes through them, beside
//! the elements of buffers.

use std::ffi::{CStr, c_char};

use crate::status::{Failure, GessoStatus, Outcome};

fn null(what: &str) -> Failure {
    Failure::new(GessoStatus::NullPointer, format!("`{what}` is null"))
}

/// What a pointer points to.
///
/// # Safety
///
/// `pointer` is null or points to a `T` that nobody changes while the result lives.
pub(crate) unsafe fn read<'a, T>(pointer: *const T, what: &str) -> Outcome<&'a T> {
    // SAFETY: the caller's promise.
    unsafe { pointer.as_ref() }.ok_or_else(|| null(what))
}

/// What an optional pointer points to.
///
/// # Safety
///
/// As [`read`].
pub(crate) unsafe fn optional<'a, T>(pointer: *const T) -> Option<&'a T> {
    // SAFETY: the caller's promise.
    unsafe { pointer.as_ref() }
}

/// Writes a result.
///
/// # Safety
///
/// `pointer` is null or may be written.
pub(crate) unsafe fn write<T>(pointer: *mut T, value: T, what: &str) -> Outcome {
    if pointer.is_null() {
        return Err(null(what));
    }
    // SAFETY: the caller's promise; nothing is dropped, the old value may be uninitialised.
    unsafe { pointer.write(value) };
    Ok(())
}

/// An array; null is fine when it is empty.
///
/// # Safety
///
/// `pointer` is null or points to `count` values that nobody changes while the result lives.
pub(crate) unsafe fn slice<'a, T>(pointer: *const T, count: usize, what: &str) -> Outcome<&'a [T]> {
    if count == 0 {
        return Ok(&[]);
    }
    if pointer.is_null() {
        return Err(null(what));
    }
    if count
        .checked_mul(size_of::<T>().max(1))
        .is_none_or(|n| isize::try_from(n).is_err())
    {
        let text = format!("`{what}` cannot have {count} elements");
        return Err(Failure::new(GessoStatus::Argument, text));
    }
    // SAFETY: the caller's promise; not null, and the size fits.
    Ok(unsafe { std::slice::from_raw_parts(pointer, count) })
}

/// A string; `None` for null.
///
/// # Safety
///
/// `pointer` is null or points to a NUL-terminated string that nobody changes while the result lives.
pub(crate) unsafe fn optional_text<'a>(
    pointer: *const c_char,
    what: &str,
) -> Outcome<Option<&'a str>> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    let text = unsafe { CStr::from_ptr(pointer) }.to_str();
    text.map(Some)
        .map_err(|e| Failure::new(GessoStatus::Utf8, format!("`{what}` is not UTF-8: {e}")))
}

/// A string.
///
/// # Safety
///
/// As [`optional_text`].
pub(crate) unsafe fn text<'a>(pointer: *const c_char, what: &str) -> Outcome<&'a str> {
    // SAFETY: the caller's promise.
    unsafe { optional_text(pointer, what) }?.ok_or_else(|| null(what))
}

/// Writes a new handle.
///
/// # Safety
///
/// As [`write`].
pub(crate) unsafe fn hand_out<T>(pointer: *mut *mut T, value: T, what: &str) -> Outcome {
    if pointer.is_null() {
        return Err(null(what));
    }
    // SAFETY: the caller's promise.
    unsafe { write(pointer, Box::into_raw(Box::new(value)), what) }
}

/// Takes a handle back and sets the caller's variable to null; null and a variable with null are fine.
///
/// # Safety
///
/// `pointer` is null or points to null or to a handle that [`hand_out`] made, and nobody uses the handle any more.
pub(crate) unsafe fn take_back<T>(pointer: *mut *mut T) -> Option<Box<T>> {
    // SAFETY: the caller's promise.
    let variable = unsafe { pointer.as_mut() }?;
    let handle = std::mem::replace(variable, std::ptr::null_mut());
    // SAFETY: the caller's promise; each handle passes here once, since the variable is null now.
    (!handle.is_null()).then(|| unsafe { Box::from_raw(handle) })
}
