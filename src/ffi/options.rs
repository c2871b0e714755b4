//! Options of services and campaigns.

use std::ffi::{c_char, c_void};
use std::mem::MaybeUninit;
use std::sync::{Arc, Mutex, PoisonError};

use super::error::{tenure_code, tenure_error};
use super::{convert, guard};
use crate::config::{CampaignOptions, ServiceOptions};
use crate::error::Error;
use crate::process;

/// Options of a service: names and values as text, listed in docs/options.md.
pub struct tenure_options(());

/// Options of a campaign: names and values as text, listed in docs/options.md.
pub struct tenure_campaign_options(());

/// Options behind a handle, which any thread may set and read.
#[derive(Default)]
pub(crate) struct Settable<T>(Mutex<T>);

pub(crate) type OptionsEntry = Settable<ServiceOptions>;
pub(crate) type CampaignOptionsEntry = Settable<CampaignOptions>;

impl<T: Clone + Default> Settable<T> {
    fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The options as they are now.
    pub(super) fn copy(&self) -> T {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change<E>(&self, change: impl FnOnce(&mut T) -> Result<(), E>) -> Result<(), E> {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Makes the options of a service, all at their defaults; `service` or `prefix` has to be set before opening one.
/// Free with `tenure_options_free`.
///
/// Errors: SYSTEM.
#[unsafe(no_mangle)]
pub extern "C" fn tenure_options_new(
    out_options: Option<&mut MaybeUninit<*mut tenure_options>>,
    err: Option<&mut MaybeUninit<*mut tenure_error>>,
) -> tenure_code {
    guard::call_out(guard::NO_HANDLE, out_options, "out_options", err, || {
        process::level().handles.insert::<tenure_options>(Settable::new())
    })
}

/// Sets one option by name. The value is checked here; contradictions between options are found by
/// `tenure_service_open`. On an error nothing is changed.
///
/// Errors: UNKNOWN_OPTION, INVALID_VALUE (the message says what is wrong).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_options_set(
    options: *mut tenure_options,
    name: *const c_char,
    value: *const c_char,
    err: Option<&mut MaybeUninit<*mut tenure_error>>,
) -> tenure_code {
    guard::call(options.addr(), err, || {
        let options = convert::live(options, "options")?;
        // SAFETY: the caller passes NULL or strings that end with NUL.
        let name = unsafe { convert::option_name(name)? };
        // SAFETY: the same.
        let value = unsafe { convert::option_value(name, value)? };
        options.change(|options| options.set(name, value).map(|_| ()))
    })
}

/// Frees options. NULL is fine, and so is freeing twice; services opened with them keep their copy.
#[unsafe(no_mangle)]
pub extern "C" fn tenure_options_free(options: *mut tenure_options) {
    guard::quiet(options.addr(), || drop(convert::freed(options)));
}

/// Makes the options of a campaign, all at their defaults. Free with `tenure_campaign_options_free`.
///
/// Errors: SYSTEM.
#[unsafe(no_mangle)]
pub extern "C" fn tenure_campaign_options_new(
    out_options: Option<&mut MaybeUninit<*mut tenure_campaign_options>>,
    err: Option<&mut MaybeUninit<*mut tenure_error>>,
) -> tenure_code {
    guard::call_out(guard::NO_HANDLE, out_options, "out_options", err, || {
        process::level().handles.insert::<tenure_campaign_options>(Settable::new())
    })
}

/// Sets one option by name. The value is checked here; contradictions with the service's options are found by
/// `tenure_service_campaign`. On an error nothing is changed.
///
/// Errors: UNKNOWN_OPTION, INVALID_VALUE (the message says what is wrong).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_campaign_options_set(
    options: *mut tenure_campaign_options,
    name: *const c_char,
    value: *const c_char,
    err: Option<&mut MaybeUninit<*mut tenure_error>>,
) -> tenure_code {
    guard::call(options.addr(), err, || {
        let options = convert::live(options, "options")?;
        // SAFETY: the caller passes NULL or strings that end with NUL.
        let name = unsafe { convert::option_name(name)? };
        // SAFETY: the same.
        let value = unsafe { convert::option_value(name, value)? };
        options.change(|options| options.set(name, value).map(|_| ()))
    })
}

/// Sets what the candidate announces, as `len` bytes of any kind, which are copied; `value` may be NULL when `len`
/// is 0.
///
/// Errors: VALUE_TOO_LARGE above 1 MiB.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_campaign_options_set_value(
    options: *mut tenure_campaign_options,
    value: *const c_void,
    len: usize,
    err: Option<&mut MaybeUninit<*mut tenure_error>>,
) -> tenure_code {
    guard::call(options.addr(), err, || {
        let options = convert::live(options, "options")?;
        // SAFETY: the caller passes NULL or `len` bytes.
        let value = unsafe { convert::value(value, len)? };
        options.change(|options| options.set_value(value).map(|_| ()))
    })
}

/// Frees options. NULL is fine, and so is freeing twice; campaigns started with them keep their copy.
#[unsafe(no_mangle)]
pub extern "C" fn tenure_campaign_options_free(options: *mut tenure_campaign_options) {
    guard::quiet(options.addr(), || drop(convert::freed(options)));
}

/// A campaign's options; the defaults for NULL.
///
/// # Errors
/// InvalidHandle, Forked.
pub(super) fn campaign_options(options: *const tenure_campaign_options) -> Result<CampaignOptions, Error> {
    if options.is_null() { Ok(CampaignOptions::new()) } else { Ok(convert::live(options, "options")?.copy()) }
}
