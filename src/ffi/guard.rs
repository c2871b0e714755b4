//! What stands around every export: outputs emptied, errors handed out, panics caught.
//!
//! A body runs between C frames, where a panic would end the process, and so would the unwinding of a thread that is
//! cancelled (pthread_cancel) in the midst of it. A caught one answers PANIC and gives up the
//! leadership that is held through the handle in use, because the state behind it can't be trusted any more.

use std::any::Any;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::error::{ErrorResult, tenure_code, tenure_error};
use super::handle::{Handle, Object};
use super::sys::Uncancelled;
use crate::error::{Code, Error};
use crate::process;

/// An `out_*` argument; `None` for NULL.
pub(super) type Out<'a, T> = Option<&'a mut MaybeUninit<T>>;

/// For calls that use no handle.
pub(super) const NO_HANDLE: usize = 0;

/// What an output is while there is nothing in it.
pub(super) trait Empty {
    fn empty() -> Self;
}

impl<T> Empty for *mut T {
    fn empty() -> Self {
        std::ptr::null_mut()
    }
}

impl Empty for i32 {
    fn empty() -> Self {
        -1
    }
}

/// Runs the body of an export without outputs. `handle` is the address of the one in use.
pub(super) fn call(
    handle: usize,
    mut err: Out<'_, *mut tenure_error>,
    body: impl FnOnce() -> Result<(), Error>,
) -> tenure_code {
    let _uncancelled = Uncancelled::begin();
    clear(&mut err);
    answer(caught(handle, body), err)
}

/// Runs the body of an export with one output, which is filled on success only.
pub(super) fn call_out<T: Empty>(
    handle: usize,
    out: Out<'_, T>,
    argument: &str,
    mut err: Out<'_, *mut tenure_error>,
    body: impl FnOnce() -> Result<T, Error>,
) -> tenure_code {
    let _uncancelled = Uncancelled::begin();
    clear(&mut err);
    let Some(out) = out else {
        // The body owns what the caller gave away, a user_data for instance; here it ends.
        drop(body);
        return answer(Err(null(argument)), err);
    };
    out.write(T::empty());
    let result = caught(handle, body).map(|value| {
        out.write(value);
    });
    answer(result, err)
}

/// Runs the body of an export that answers with a value, `fallback` after a panic.
#[inline]
pub(super) fn value<T>(handle: usize, fallback: T, body: impl FnOnce() -> T) -> T {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(value) => value,
        Err(_) => {
            give_up(handle);
            fallback
        }
    }
}

/// Looks at what a handle stands for, without waiting for anything; the default where it stands for nothing.
#[inline]
pub(super) fn look<H: Handle, T: Default>(handle: *const H, look: impl FnOnce(&H::Entry) -> T) -> T {
    value(handle.addr(), T::default(), || process::level().handles.peek(handle, look).unwrap_or_default())
}

/// Runs the body of an export that answers nothing, or one of our callbacks.
pub(super) fn quiet(handle: usize, body: impl FnOnce()) {
    let _uncancelled = Uncancelled::begin();
    value(handle, (), body);
}

/// The error for a NULL argument.
pub(super) fn null(argument: &str) -> Error {
    Error::new(Code::NullPointer, format!("argument `{argument}`: must not be NULL"))
}

fn clear(err: &mut Out<'_, *mut tenure_error>) {
    if let Some(err) = err {
        err.write(std::ptr::null_mut());
    }
}

fn answer(result: Result<(), Error>, err: Out<'_, *mut tenure_error>) -> tenure_code {
    let Err(error) = result else { return Code::Ok.number() };
    if let Some(err) = err {
        err.write(process::level().results.give(ErrorResult::new(&error)));
    }
    error.code().number()
}

fn caught<T>(handle: usize, body: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| {
        give_up(handle);
        Err(Error::new(Code::Panic, format!("internal defect, please report it: {}", text_of(&*payload))))
    })
}

/// Ends the leadership held through a handle.
#[cold]
fn give_up(handle: usize) {
    // What panicked once may do so again here; there is nobody left to tell, the call answers PANIC either way.
    let _ = catch_unwind(|| {
        let handles = &process::level().handles;
        match handles.find(handle) {
            Some(Object::Campaign(entry)) => entry.campaign.abandon(),
            Some(Object::Service(service)) => {
                for entry in handles.campaigns() {
                    if entry.is_of(&service) {
                        entry.campaign.abandon();
                    }
                }
            }
            Some(_) | None => {}
        }
    });
}

fn text_of(payload: &(dyn Any + Send)) -> &str {
    let owned = payload.downcast_ref::<String>().map(String::as_str);
    owned.or(payload.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;
    use std::ptr::null;

    use super::*;
    use crate::ffi::campaign::{
        tenure_campaign, tenure_campaign_free, tenure_campaign_is_leader, tenure_campaign_wait_leader,
    };
    use crate::ffi::error::{tenure_error_free, tenure_error_of};
    use crate::ffi::options::{tenure_options_free, tenure_options_new, tenure_options_set};
    use crate::ffi::service::{tenure_service, tenure_service_campaign, tenure_service_free, tenure_service_open};

    /// An output as an uninitialised C variable is.
    fn garbage<T>() -> MaybeUninit<*mut T> {
        MaybeUninit::new(std::ptr::without_provenance_mut(0xdead))
    }

    fn taken<T: Copy>(out: &MaybeUninit<T>) -> T {
        // SAFETY: every test writes to it before, as the guard does.
        unsafe { out.assume_init() }
    }

    #[test]
    fn a_planted_panic_answers_panic_with_its_message() {
        let (mut out, mut err) = (garbage::<u8>(), garbage());
        let code = call_out(NO_HANDLE, Some(&mut out), "out_x", Some(&mut err), || panic!("planted {}", 1));
        assert_eq!(code, Code::Panic.number());
        assert!(taken(&out).is_null());
        let (error, message) = tenure_error_of(taken(&err));
        assert_eq!((error, message.as_str()), (6, "internal defect, please report it: planted 1"));
        // SAFETY: the error came from the guard.
        unsafe { tenure_error_free(taken(&err)) };
        assert_eq!(call(NO_HANDLE, None, || panic!("planted")), Code::Panic.number());
        assert_eq!(value(NO_HANDLE, 7, || panic!("planted")), 7);
        quiet(NO_HANDLE, || panic!("planted"));
    }

    #[test]
    fn outputs_are_emptied_before_the_body_and_filled_on_success_only() {
        let (mut out, mut err) = (garbage::<u8>(), garbage());
        let address = std::ptr::from_ref(&out).addr();
        let code = call_out(NO_HANDLE, Some(&mut out), "out_x", Some(&mut err), || Ok(std::ptr::null_mut()));
        assert_eq!(code, 0);
        assert!(taken(&err).is_null() && taken(&out).is_null());
        let code = call_out(NO_HANDLE, Some(&mut out), "out_x", None, || Ok(std::ptr::without_provenance_mut(address)));
        assert_eq!((code, taken(&out).addr()), (0, address));
        let code = call_out(NO_HANDLE, Some(&mut out), "out_x", None, || Err(Code::Timeout.into()));
        assert_eq!(code, Code::Timeout.number());
        assert!(taken(&out).is_null());
    }

    #[test]
    fn a_null_output_is_named_and_the_body_never_runs() {
        let mut err = garbage();
        let code = call_out::<*mut u8>(NO_HANDLE, None, "out_x", Some(&mut err), || unreachable!());
        assert_eq!(code, Code::NullPointer.number());
        assert_eq!(tenure_error_of(taken(&err)).1, "argument `out_x`: must not be NULL");
        // SAFETY: the error came from the guard.
        unsafe { tenure_error_free(taken(&err)) };
    }

    /// Before the lease of a former leader ends.
    const SOON_MS: i32 = 5_000;

    /// A service on a store in this process.
    fn service() -> *mut tenure_service {
        let (mut options, mut service) = (garbage(), garbage());
        assert_eq!(tenure_options_new(Some(&mut options), None), 0);
        let options = taken(&options);
        for (name, value) in [(c"endpoints", c"memory://panics"), (c"service", c"panics")] {
            // SAFETY: the strings end with NUL.
            assert_eq!(unsafe { tenure_options_set(options, name.as_ptr(), value.as_ptr(), None) }, 0);
        }
        assert_eq!(tenure_service_open(options, Some(&mut service), None), 0);
        tenure_options_free(options);
        taken(&service)
    }

    fn lead(service: *mut tenure_service, election: &CStr) -> *mut tenure_campaign {
        let (name, nobody) = (election.as_ptr(), std::ptr::null_mut());
        let mut campaign = garbage();
        // SAFETY: the string ends with NUL.
        let code =
            unsafe { tenure_service_campaign(service, name, null(), None, nobody, None, Some(&mut campaign), None) };
        assert_eq!((code, tenure_campaign_wait_leader(taken(&campaign), SOON_MS, None)), (0, 0));
        taken(&campaign)
    }

    #[test]
    fn a_panic_ends_the_leadership_held_through_the_handle_and_no_other() {
        let services = [service(), service()];
        let [first, second] = [c"first", c"second"].map(|election| lead(services[0], election));
        let third = lead(services[1], c"third");
        let leads = || [first, second, third].map(|campaign| tenure_campaign_is_leader(campaign));
        let panic = |handle| assert_eq!(call(handle, None, || panic!("planted")), Code::Panic.number());
        panic(NO_HANDLE);
        assert_eq!(leads(), [true, true, true]);
        panic(first.addr());
        assert_eq!(leads(), [false, true, true]);
        // Withdrawn, not only hidden: another may lead.
        let again = lead(services[1], c"first");
        assert!(value(services[0].addr(), true, || panic!("planted")));
        assert_eq!((leads(), tenure_campaign_is_leader(again)), ([false, false, true], true));
        let next = lead(services[1], c"second");
        [first, second, third, again, next].into_iter().for_each(|campaign| tenure_campaign_free(campaign));
        services.into_iter().for_each(|service| tenure_service_free(service));
    }
}
