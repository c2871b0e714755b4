//! From what C passes to Rust's types. Everything is checked; the error names the argument.

use std::ffi::{c_char, c_void};
use std::sync::Arc;
use std::time::Duration;

use super::guard::null;
use super::handle::{Bad, Handle};
use crate::config::{MAX_NAME_BYTES, MAX_VALUE_BYTES};
use crate::error::{Code, Error};
use crate::process;

/// Longer than any program runs, short enough to be added to an instant.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// What a handle stands for.
///
/// # Errors
/// NullPointer, InvalidHandle, Forked.
pub(super) fn live<H: Handle>(handle: *const H, argument: &str) -> Result<Arc<H::Entry>, Error> {
    if handle.is_null() {
        return Err(null(argument));
    }
    process::level().handles.get(handle).map_err(|bad: Bad| bad.error::<H>(argument))
}

/// Ends a handle. NULL and handles that aren't live are none of anybody's concern here.
pub(super) fn freed<H: Handle>(handle: *const H) -> Option<Arc<H::Entry>> {
    process::level().handles.remove(handle).ok()
}

/// The bytes of a NUL-terminated string, of which at most `limit` and the NUL are read; `None` if it is longer.
///
/// # Safety
/// `text` is NULL or points to a string that ends with NUL, alive for `'a`.
unsafe fn bounded<'a>(text: *const c_char, limit: usize, argument: &str) -> Result<Option<&'a [u8]>, Error> {
    if text.is_null() {
        return Err(null(argument));
    }
    // SAFETY: strnlen stops at the NUL or the limit; up to there the caller's string is readable.
    let bytes = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), libc::strnlen(text, limit + 1)) };
    Ok((bytes.len() <= limit).then_some(bytes))
}

fn utf8<'a>(bytes: &'a [u8], code: Code, what: &str) -> Result<&'a str, Error> {
    std::str::from_utf8(bytes)
        .map_err(|e| Error::new(code, format!("{what}: not UTF-8 from byte {} on", e.valid_up_to())))
}

/// The name of an election; NULL means the default one.
///
/// # Safety
/// As [`bounded`].
///
/// # Errors
/// InvalidName.
pub(super) unsafe fn election<'a>(text: *const c_char) -> Result<&'a str, Error> {
    const ARGUMENT: &str = "election";
    if text.is_null() {
        return Ok("");
    }
    // SAFETY: promised by the caller.
    let Some(bytes) = (unsafe { bounded(text, MAX_NAME_BYTES, ARGUMENT) })? else {
        let message = format!("argument `{ARGUMENT}`: longer than the limit of {MAX_NAME_BYTES} bytes");
        return Err(Error::new(Code::InvalidName, message));
    };
    utf8(bytes, Code::InvalidName, &format!("argument `{ARGUMENT}`"))
}

/// The name of an option.
///
/// # Safety
/// As [`bounded`].
///
/// # Errors
/// NullPointer, UnknownOption.
pub(super) unsafe fn option_name<'a>(text: *const c_char) -> Result<&'a str, Error> {
    const ARGUMENT: &str = "name";
    // Longer than any option's name, and short enough to be repeated in the message.
    const LIMIT: usize = 64;
    // SAFETY: promised by the caller.
    let Some(bytes) = (unsafe { bounded(text, LIMIT, ARGUMENT) })? else {
        let message = format!("argument `{ARGUMENT}`: no option has a name of more than {LIMIT} bytes");
        return Err(Error::new(Code::UnknownOption, message));
    };
    utf8(bytes, Code::UnknownOption, &format!("argument `{ARGUMENT}`"))
}

/// The value of the option of this name.
///
/// # Safety
/// As [`bounded`].
///
/// # Errors
/// NullPointer, InvalidValue.
pub(super) unsafe fn option_value<'a>(name: &str, text: *const c_char) -> Result<&'a str, Error> {
    // SAFETY: promised by the caller.
    let Some(bytes) = (unsafe { bounded(text, MAX_VALUE_BYTES, "value") })? else {
        let message = format!("option `{name}`: longer than the limit of 1 MiB");
        return Err(Error::new(Code::InvalidValue, message));
    };
    utf8(bytes, Code::InvalidValue, &format!("option `{name}`"))
}

/// A candidate's value. Its length is checked before it is read.
///
/// # Safety
/// `value` is NULL or points to `len` bytes that live for `'a`.
///
/// # Errors
/// NullPointer for NULL with a length, ValueTooLarge.
pub(super) unsafe fn value<'a>(value: *const c_void, len: usize) -> Result<&'a [u8], Error> {
    if len > MAX_VALUE_BYTES {
        let message = format!("argument `len`: {len} bytes is above the limit of {MAX_VALUE_BYTES}");
        return Err(Error::new(Code::ValueTooLarge, message));
    }
    if len == 0 {
        return Ok(&[]);
    }
    if value.is_null() {
        return Err(null("value"));
    }
    // SAFETY: not NULL, and the caller promises this many bytes.
    Ok(unsafe { std::slice::from_raw_parts(value.cast(), len) })
}

/// A timeout where -1 means the service's `call_timeout`.
///
/// # Errors
/// InvalidArgument below -1.
pub(super) fn timeout(timeout_ms: i32, call_timeout: Duration) -> Result<Duration, Error> {
    match timeout_ms {
        -1 => Ok(call_timeout),
        _ => milliseconds(timeout_ms),
    }
}

/// A timeout where -1 means for ever: `None`.
///
/// # Errors
/// InvalidArgument below -1.
pub(super) fn timeout_or_never(timeout_ms: i32) -> Result<Option<Duration>, Error> {
    match timeout_ms {
        -1 => Ok(None),
        _ => milliseconds(timeout_ms).map(Some),
    }
}

/// A timeout where -1 means for ever: a hundred years.
///
/// # Errors
/// InvalidArgument below -1.
pub(super) fn timeout_or_ages(timeout_ms: i32) -> Result<Duration, Error> {
    timeout(timeout_ms, FOR_EVER)
}

fn milliseconds(timeout_ms: i32) -> Result<Duration, Error> {
    let milliseconds = u64::try_from(timeout_ms).map_err(|_| {
        let message = format!("argument `timeout_ms`: {timeout_ms} is below -1");
        Error::new(Code::InvalidArgument, message)
    })?;
    Ok(Duration::from_millis(milliseconds))
}

/// Whole milliseconds of a duration, rounded down.
pub(super) fn whole_ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_mean_what_the_header_says() {
        let default = Duration::from_secs(5);
        assert_eq!(timeout(-1, default).unwrap(), default);
        assert_eq!(timeout(0, default).unwrap(), Duration::ZERO);
        assert_eq!(timeout_or_never(-1).unwrap(), None);
        assert_eq!(timeout_or_never(i32::MAX).unwrap(), Some(Duration::from_millis(2_147_483_647)));
        let ages = timeout_or_ages(-1).unwrap();
        assert!(ages > Duration::from_secs(1 << 30) && crate::clock::nanos(ages) < i64::MAX / 2);
        for bad in [-2, i32::MIN] {
            let error = timeout(bad, default).unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument);
            assert_eq!(error.message(), format!("argument `timeout_ms`: {bad} is below -1"));
            assert!(timeout_or_never(bad).is_err() && timeout_or_ages(bad).is_err());
        }
    }

    #[test]
    fn a_length_above_the_limit_is_refused_before_the_bytes_are_read() {
        // SAFETY: nothing is read: NULL, or refused for its length.
        unsafe {
            assert_eq!(value(std::ptr::null(), 0).unwrap(), b"");
            assert_eq!(value(std::ptr::null(), 1).unwrap_err().code(), Code::NullPointer);
            let nowhere = std::ptr::without_provenance(16);
            assert_eq!(value(nowhere, MAX_VALUE_BYTES + 1).unwrap_err().code(), Code::ValueTooLarge);
            assert_eq!(value(nowhere, usize::MAX).unwrap_err().code(), Code::ValueTooLarge);
        }
    }

    #[test]
    fn strings_are_checked_and_read_no_further_than_the_limit() {
        let long = [b'a'; MAX_NAME_BYTES + 1];
        // SAFETY: each is NULL, ends with NUL, or is read up to the limit only, which lies inside.
        unsafe {
            assert_eq!(election(std::ptr::null()).unwrap(), "");
            assert_eq!(election(c"shard-7".as_ptr()).unwrap(), "shard-7");
            assert_eq!(election(long.as_ptr().cast()).unwrap_err().code(), Code::InvalidName);
            let error = election(c"a\xff".as_ptr()).unwrap_err();
            assert_eq!(error.message(), "argument `election`: not UTF-8 from byte 1 on");
            assert_eq!(option_name(long.as_ptr().cast()).unwrap_err().code(), Code::UnknownOption);
            assert_eq!(option_name(c"\xff".as_ptr()).unwrap_err().code(), Code::UnknownOption);
            assert_eq!(option_name(std::ptr::null()).unwrap_err().code(), Code::NullPointer);
            let error = option_value("ttl", c"5\xff".as_ptr()).unwrap_err();
            assert_eq!((error.code(), error.message()), (Code::InvalidValue, "option `ttl`: not UTF-8 from byte 1 on"));
        }
    }
}
