//! Versions, and the clock that deadlines are on.

use std::ffi::{CStr, c_char};

use super::guard;
use super::sys;

/// Counts incompatible changes of the ABI; it is the number in the SONAME.
const ABI: u32 = 0;

const STRING: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
    Ok(version) => version,
    Err(_) => c"",
};

const NUMBER: u32 =
    whole(env!("CARGO_PKG_VERSION_MAJOR"), env!("CARGO_PKG_VERSION_MINOR"), env!("CARGO_PKG_VERSION_PATCH"));

const fn whole(major: &str, minor: &str, patch: &str) -> u32 {
    number(major) * 1_000_000 + number(minor) * 1000 + number(patch)
}

/// Decimal digits as a number, at compile time.
const fn number(digits: &str) -> u32 {
    let (digits, mut index, mut number) = (digits.as_bytes(), 0, 0);
    while index < digits.len() {
        number = number * 10 + (digits[index] - b'0') as u32;
        index += 1;
    }
    number
}

/// The version of the library at hand, `1.2.3`; compare with `TENURE_VERSION_STRING`, that of the header. Static.
#[unsafe(no_mangle)]
pub extern "C" fn tenure_version_string() -> *const c_char {
    guard::value(guard::NO_HANDLE, std::ptr::null(), || STRING.as_ptr())
}

/// The version of the library at hand as major * 1000000 + minor * 1000 + patch; compare with
/// `TENURE_VERSION_NUMBER`, that of the header.
#[unsafe(no_mangle)]
pub extern "C" fn tenure_version_number() -> u32 {
    guard::value(guard::NO_HANDLE, 0, || NUMBER)
}

/// The version of the ABI of the library at hand. A program works with every library whose number equals
/// `TENURE_ABI_VERSION` and whose version is not older than the header's.
#[unsafe(no_mangle)]
pub extern "C" fn tenure_abi_version() -> u32 {
    guard::value(guard::NO_HANDLE, 0, || ABI)
}

/// Now, on the clock that deadlines are on: nanoseconds on CLOCK_BOOTTIME, which goes on while the machine is
/// suspended.
#[unsafe(no_mangle)]
pub extern "C" fn tenure_boottime_ns() -> i64 {
    guard::value(guard::NO_HANDLE, 0, sys::boottime_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_are_those_of_the_package() {
        assert_eq!(STRING.to_str().unwrap(), env!("CARGO_PKG_VERSION"));
        assert_eq!((number("0"), number("12"), number("903")), (0, 12, 903));
        assert_eq!((tenure_version_number(), whole("12", "3", "45")), (NUMBER, 12_003_045));
    }

    #[test]
    fn the_clock_moves_on() {
        let first = tenure_boottime_ns();
        assert!(first > 0 && tenure_boottime_ns() >= first);
    }
}
