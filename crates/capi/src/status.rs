//! Status codes, the message of the last failure, and the catching of panics.

use std::cell::RefCell;
use std::ffi::{CStr, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use gesso_coreml::Error as Files;
use gesso_engine::Error as Engine;

/// What a function returns.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GessoStatus {
    /// Done.
    Ok = 0,
    /// A pointer that must not be null is null.
    NullPointer = 1,
    /// A string is not UTF-8.
    Utf8 = 2,
    /// A file or folder cannot be read or written.
    Io = 3,
    /// The target is there already, or another process writes it.
    Exists = 4,
    /// A file is not what it should be.
    Format = 5,
    /// Something of the model that is not supported.
    Unsupported = 6,
    /// No function, input, output, state or index like that.
    Name = 7,
    /// A required input or state is missing.
    MissingInput = 8,
    /// A shape or a dtype does not fit what the model declares.
    Shape = 9,
    /// A buffer is too short for its shape and strides, or its strides cannot be used.
    Buffer = 10,
    /// A number that is not one of the values listed, or another argument that makes no sense.
    Argument = 11,
    /// The token was set.
    Cancelled = 12,
    /// An op or a constant cannot be computed.
    Execution = 13,
    /// A fault of the library: it panicked. The model may still be used and freed.
    Panic = 14,
    /// The calling thread holds a buffer of the state.
    Busy = 15,
}

/// A status and its message.
#[derive(Debug)]
pub(crate) struct Failure {
    status: GessoStatus,
    message: String,
}

/// What the bodies of functions return.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    pub(crate) fn new(status: GessoStatus, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    /// The same failure with a word on where it happened.
    pub(crate) fn at(mut self, place: &str) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }
}

impl From<Files> for Failure {
    fn from(error: Files) -> Self {
        let status = match &error {
            Files::Io { .. } | Files::DiskFull { .. } | Files::NoSpace { .. } => GessoStatus::Io,
            Files::TargetExists { .. } | Files::TargetBusy { .. } => GessoStatus::Exists,
            Files::TargetName { .. } => GessoStatus::Argument,
            Files::CompiledKind { .. } => GessoStatus::Unsupported,
            Files::Aborted { .. } => GessoStatus::Cancelled,
            _ => GessoStatus::Format,
        };
        Self::new(status, with_sources(&error))
    }
}

impl From<Engine> for Failure {
    fn from(error: Engine) -> Self {
        let status = match &error {
            Engine::UnsupportedOps { .. } | Engine::Unsupported { .. } => GessoStatus::Unsupported,
            Engine::NotAProgram { .. } | Engine::Invalid { .. } => GessoStatus::Format,
            Engine::UnknownFunction { .. }
            | Engine::UnknownInput { .. }
            | Engine::UnknownState { .. } => GessoStatus::Name,
            Engine::MissingInput { .. } | Engine::MissingState { .. } => GessoStatus::MissingInput,
            Engine::InputType { .. } | Engine::Length { .. } | Engine::StateType { .. } => {
                GessoStatus::Shape
            }
            Engine::Cancelled { .. } => GessoStatus::Cancelled,
            _ => GessoStatus::Execution,
        };
        Self::new(status, with_sources(&error))
    }
}

/// The message of an error and of what caused it.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

thread_local! {
    static LAST: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs the body of a function: its failure or panic becomes a status and the thread's message.
pub(crate) fn guard(body: impl FnOnce() -> Outcome) -> GessoStatus {
    let failure = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return GessoStatus::Ok,
        Ok(Err(failure)) => failure,
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no message")
                .to_string();
            // Dropping what was thrown may throw again; it is left where it is.
            std::mem::forget(panic);
            Failure::new(GessoStatus::Panic, format!("the library panicked: {text}"))
        }
    };
    let _ = LAST.try_with(|last| *last.borrow_mut() = failure.message);
    failure.status
}

/// Version of the library, for instance `0.1.0`; static.
#[unsafe(no_mangle)]
pub extern "C" fn gesso_version() -> *const c_char {
    const VERSION: &CStr =
        match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
            Ok(version) => version,
            Err(_) => c"",
        };
    VERSION.as_ptr()
}

/// Copies the message of the last failure on this thread, UTF-8, and returns its length in bytes without the final NUL.
///
/// At most `capacity` bytes are written, the last of them NUL; a message that is too long is cut between two characters.
/// With a null `buffer` or a `capacity` of 0 nothing is written. Empty when nothing has failed on this thread; a call
/// that succeeds leaves the message as it is.
///
/// # Safety
///
/// `buffer` is null or has room for `capacity` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gesso_last_error(buffer: *mut c_char, capacity: usize) -> usize {
    let copy = || {
        LAST.try_with(|last| {
            let last = last.borrow();
            if !buffer.is_null() && capacity > 0 {
                let cut = last.floor_char_boundary(last.len().min(capacity - 1));
                // SAFETY: the caller gives `capacity` bytes; `cut` is smaller than that and at most the message's length.
                unsafe {
                    std::ptr::copy_nonoverlapping(last.as_ptr(), buffer.cast::<u8>(), cut);
                    *buffer.add(cut) = 0;
                }
            }
            last.len()
        })
    };
    catch_unwind(AssertUnwindSafe(copy))
        .ok()
        .and_then(Result::ok)
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_a_status() {
        assert_eq!(guard(|| panic!("no {}", 5)), GessoStatus::Panic);
        LAST.with(|last| assert_eq!(*last.borrow(), "the library panicked: no 5"));
        assert_eq!(guard(|| Ok(())), GessoStatus::Ok);
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let _ = guard(|| Err(Failure::new(GessoStatus::Io, "aéz")));
        let mut buffer = [1; 4];
        // SAFETY: the buffer is as long as said.
        let length = unsafe { gesso_last_error(buffer.as_mut_ptr(), 3) };
        assert_eq!((length, buffer), (4, [97, 0, 1, 1]));
        // SAFETY: nothing is written to null.
        assert_eq!(unsafe { gesso_last_error(std::ptr::null_mut(), 9) }, 4);
    }
}
