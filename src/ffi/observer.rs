//! Observers.

use std::mem::MaybeUninit;

use super::error::{tenure_code, tenure_error};
use super::{convert, guard};
use crate::service::Observer;

/// A subscription to who leads an election.
pub struct tenure_observer(());

/// What an observer handle stands for.
pub(crate) struct ObserverEntry(pub(super) Observer);

/// Ends an observer. Its last event says `closed`; `user_data` ends after it. Doesn't wait; closing twice is fine.
///
/// Errors: none of its own.
#[unsafe(no_mangle)]
pub extern "C" fn tenure_observer_close(
    observer: *mut tenure_observer,
    err: Option<&mut MaybeUninit<*mut tenure_error>>,
) -> tenure_code {
    guard::call(observer.addr(), err, || {
        convert::live(observer, "observer")?.0.close();
        Ok(())
    })
}

/// Frees an observer, which closes it. NULL is fine, and so is freeing twice. May be called inside callbacks.
#[unsafe(no_mangle)]
pub extern "C" fn tenure_observer_free(observer: *mut tenure_observer) {
    guard::quiet(observer.addr(), || {
        if let Some(entry) = convert::freed(observer) {
            entry.0.close();
        }
    });
}
