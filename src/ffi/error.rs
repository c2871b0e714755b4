//! Codes and error objects.

use std::ffi::{CString, c_char};

use once_cell::race::OnceBox;

use super::guard;
use super::results::{Shared, Texts};
use crate::error::{Code, Error};
use crate::process;

/// One of `TENURE_OK`, `TENURE_NO_LEADER` and so on. Later versions may answer with codes that this header doesn't
/// know; `tenure_code_name` and its like take any number.
pub type tenure_code = i32;

/// What went wrong. Read-only; made by a call that failed and had somewhere to put it; freed by `tenure_error_free`.
#[repr(C)]
pub struct tenure_error {
    /// Size of this struct in the library at hand. Fields at or beyond it don't exist there.
    pub struct_size: u32,
    /// The code that the call returned.
    pub code: tenure_code,
    /// The code's name, `NO_LEADER` for instance; never NULL, never freed.
    pub name: *const c_char,
    /// A sentence that names the thing, the reason and what to do; never NULL.
    pub message: *const c_char,
    /// Whether the same call may succeed later with nothing changed by the caller.
    pub is_retriable: bool,
}

/// A `tenure_error` and what it points to.
pub(super) struct ErrorResult {
    public: tenure_error,
    _texts: Texts,
}

// SAFETY: nothing is changed after `new`; the pointers lead into `_texts` and to static memory.
unsafe impl Send for ErrorResult {}
// SAFETY: as above.
unsafe impl Sync for ErrorResult {}

impl Shared for ErrorResult {
    type Public = tenure_error;
    fn public(&self) -> &tenure_error {
        &self.public
    }
}

impl ErrorResult {
    pub(super) fn new(error: &Error) -> Self {
        let mut texts = Texts::with_room(error.message().len());
        let message = texts.add_text(error.message());
        let public = tenure_error {
            struct_size: size_of::<tenure_error>() as u32,
            code: error.code().number(),
            name: code_name(error.code().number()),
            message: texts.at(message),
            is_retriable: error.is_retriable(),
        };
        ErrorResult { public, _texts: texts }
    }
}

/// The name and the text of every code and, at the end, of numbers that are none, for C.
static CODE_TEXTS: OnceBox<Vec<(CString, CString)>> = OnceBox::new();

fn code_texts(number: i32) -> &'static (CString, CString) {
    let all = CODE_TEXTS.get_or_init(|| {
        let known = Code::ALL.iter().map(|code| (code.name(), code.text()));
        let all = known.chain([("UNKNOWN", "a code of a newer version")]);
        Box::new(all.map(|(name, text)| (c_string(name), c_string(text))).collect())
    });
    let index = usize::try_from(number).unwrap_or(usize::MAX).min(all.len() - 1);
    &all[index]
}

fn c_string(text: &str) -> CString {
    // The table holds no NUL, as a test sees to.
    CString::new(text).unwrap_or_default()
}

/// The name of a code for C, static.
pub(super) fn code_name(number: i32) -> *const c_char {
    code_texts(number).0.as_ptr()
}

/// The name of a code: `NO_LEADER` for `TENURE_NO_LEADER`. Any number is fine; `UNKNOWN` for one that this library
/// doesn't know. Never NULL, never to be freed.
#[unsafe(no_mangle)]
pub extern "C" fn tenure_code_name(code: tenure_code) -> *const c_char {
    guard::value(guard::NO_HANDLE, std::ptr::null(), || code_name(code))
}

/// A short English text for a code. Any number is fine. Never NULL, never to be freed.
#[unsafe(no_mangle)]
pub extern "C" fn tenure_code_text(code: tenure_code) -> *const c_char {
    guard::value(guard::NO_HANDLE, std::ptr::null(), || code_texts(code).1.as_ptr())
}

/// Whether a call that answered with this code may succeed later with nothing changed by the caller. Any number is
/// fine; false for one that this library doesn't know.
#[unsafe(no_mangle)]
pub extern "C" fn tenure_code_is_retriable(code: tenure_code) -> bool {
    guard::value(guard::NO_HANDLE, false, || Code::from_number(code).is_some_and(Code::is_retriable))
}

/// Frees an error. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_error_free(error: *mut tenure_error) {
    guard::quiet(guard::NO_HANDLE, || drop(process::level().results.take::<ErrorResult>(error)));
}

/// Code and message of an error, for tests.
#[cfg(test)]
pub(super) fn tenure_error_of(error: *mut tenure_error) -> (i32, String) {
    assert!(!error.is_null());
    // SAFETY: not NULL, and tests pass only errors that they got and didn't free.
    let (error, message) = unsafe { (&*error, std::ffi::CStr::from_ptr((*error).message)) };
    (error.code, message.to_str().unwrap().to_owned())
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::*;

    fn text(pointer: *const c_char) -> &'static str {
        // SAFETY: static texts of the table.
        unsafe { CStr::from_ptr(pointer) }.to_str().unwrap()
    }

    #[test]
    fn every_code_has_its_texts_and_any_number_is_fine() {
        for code in Code::ALL {
            assert_eq!(text(tenure_code_name(code.number())), code.name());
            assert_eq!(text(tenure_code_text(code.number())), code.text());
            assert_eq!(tenure_code_is_retriable(code.number()), code.is_retriable());
        }
        for unknown in [-1, i32::MIN, Code::ALL.len() as i32, i32::MAX] {
            assert_eq!(text(tenure_code_name(unknown)), "UNKNOWN");
            assert!(!text(tenure_code_text(unknown)).is_empty());
            assert!(!tenure_code_is_retriable(unknown));
        }
    }

    #[test]
    fn an_error_says_what_its_code_says_and_is_freed_once() {
        let error = Error::new(Code::NoLeader, "election `a\0b`: nobody leads");
        let public = process::level().results.give(ErrorResult::new(&error));
        assert_eq!(tenure_error_of(public), (12, "election `a\u{FFFD}b`: nobody leads".into()));
        // SAFETY: still alive.
        let (name, is_retriable) = unsafe { ((*public).name, (*public).is_retriable) };
        assert_eq!((text(name), is_retriable), ("NO_LEADER", true));
        // SAFETY: freeing twice is what is tested, and NULL.
        unsafe {
            tenure_error_free(public);
            tenure_error_free(public);
            tenure_error_free(std::ptr::null_mut());
        }
    }
}
