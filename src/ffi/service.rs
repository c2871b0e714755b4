//! Services: opening, taking part, looking, events, closing.

use std::ffi::{c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::sync::Arc;

use super::campaign::{CampaignEntry, tenure_campaign};
use super::error::{tenure_code, tenure_error};
use super::events::{
    CandidateResult, CandidatesResult, EventResult, tenure_candidate, tenure_candidates, tenure_drop_fn, tenure_event,
    tenure_event_fn,
};
use super::observer::{ObserverEntry, tenure_observer};
use super::options::{campaign_options, tenure_campaign_options, tenure_options};
use super::pull::Pull;
use super::subscriber::{Announcement, Subscriber, UserData};
use super::{convert, guard};
use crate::config::Delivery;
use crate::error::{Code, Error};
use crate::events::SubscriptionId;
use crate::process;
use crate::service::{Handler, Service};

/// A connection to one etcd cluster, with a namespace for elections and a session. One per process is normal.
pub struct tenure_service(());

/// What a service handle stands for.
pub(crate) struct ServiceEntry {
    service: Service,
    /// With `events=pull`.
    pull: Option<Pull>,
}

impl ServiceEntry {
    /// Makes a campaign or an observer with `make`, given the handler for its events.
    fn subscribe<T>(
        &self,
        subscriber: &Arc<Subscriber>,
        make: impl FnOnce(Option<Handler>) -> Result<(T, SubscriptionId), Error>,
    ) -> Result<T, Error> {
        match &self.pull {
            Some(pull) => pull.subscribe(subscriber, || make(None)),
            None => make(subscriber.handler()).map(|(made, _)| made),
        }
    }

    /// Refuses a function that would never be called.
    fn check_mode(&self, on_event: tenure_event_fn, argument: &str) -> Result<(), Error> {
        if self.pull.is_some() && on_event.is_some() {
            let message = format!("argument `{argument}`: must be NULL, this service was opened with events=pull");
            return Err(Error::new(Code::WrongMode, message));
        }
        Ok(())
    }
}

/// Opens a service. The options are copied. Waits for etcd for at most the option `dial_timeout`. Free with
/// `tenure_service_free`.
///
/// Errors: INVALID_VALUE for contradicting options, UNAVAILABLE, TLS, AUTHENTICATION_FAILED, PERMISSION_DENIED, SYSTEM.
#[unsafe(no_mangle)]
pub extern "C" fn tenure_service_open(
    options: *const tenure_options,
    out_service: Option<&mut MaybeUninit<*mut tenure_service>>,
    err: Option<&mut MaybeUninit<*mut tenure_error>>,
) -> tenure_code {
    guard::call_out(guard::NO_HANDLE, out_service, "out_service", err, || {
        let options = convert::live(options, "options")?.copy();
        let service = Service::open(&options)?;
        let pull = (options.delivery() == Delivery::Pull).then(Pull::default);
        process::level().handles.insert::<tenure_service>(Arc::new(ServiceEntry { service, pull }))
    })
}

/// Sets who gets log lines (option `log_level`), as events of kind `TENURE_EVENT_LOG`; a second call takes the first
/// one's place. `on_log` must not be NULL. With `events=pull` log lines come from `tenure_service_next_event` instead.
///
/// `drop_user_data`, if not NULL, is called exactly once with `user_data`: after the last line, or before this call
/// returns an error.
///
/// Errors: WRONG_MODE with `events=pull`, CLOSED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_service_set_log_callback(
    service: *mut tenure_service,
    on_log: tenure_event_fn,
    user_data: *mut c_void,
    drop_user_data: tenure_drop_fn,
    err: Option<&mut MaybeUninit<*mut tenure_error>>,
) -> tenure_code {
    let user_data = UserData::new(user_data, drop_user_data);
    guard::call(service.addr(), err, move || {
        let entry = convert::live(service, "service")?;
        entry.check_mode(on_log, "on_log")?;
        let subscriber = Subscriber::new(on_log, user_data);
        // Log lines name no handle.
        drop(Announcement::new(&subscriber));
        let handler = subscriber.handler().filter(|_| on_log.is_some());
        entry.service.set_log_handler(handler.ok_or_else(|| guard::null("on_log"))?)
    })
}

/// Stands for election. Returns at once; the first event is always FOLLOWER. `election` NULL or "" is `default`;
/// `options` NULL are the defaults, others are copied. Free with `tenure_campaign_free`.
///
/// `on_event` gets the campaign's events, the first maybe before this call returns; each holds the handle and
/// `user_data`. It may be NULL, and must be with `events=pull`. `drop_user_data`, if not NULL, is called exactly once
/// with `user_data`: after the campaign's last event (pulled: when that is freed, or when the service is freed with it
/// unread), or before this call returns an error.
///
/// Errors: INVALID_NAME, INVALID_VALUE for options that contradict the service's, CAMPAIGN_IN_PROGRESS while an earlier
/// campaign of this service for the same election isn't closed, WRONG_MODE, CLOSED, SYSTEM.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_service_campaign(
    service: *mut tenure_service,
    election: *const c_char,
    options: *const tenure_campaign_options,
    on_event: tenure_event_fn,
    user_data: *mut c_void,
    drop_user_data: tenure_drop_fn,
    out_campaign: Option<&mut MaybeUninit<*mut tenure_campaign>>,
    err: Option<&mut MaybeUninit<*mut tenure_error>>,
) -> tenure_code {
    let user_data = UserData::new(user_data, drop_user_data);
    guard::call_out(service.addr(), out_campaign, "out_campaign", err, move || {
        let entry = convert::live(service, "service")?;
        // SAFETY: the caller passes NULL or a string that ends with NUL.
        let election = unsafe { convert::election(election)? };
        let options = campaign_options(options)?;
        entry.check_mode(on_event, "on_event")?;
        let subscriber = Subscriber::new(on_event, user_data);
        let announcement = Announcement::new(&subscriber);
        let place = process::level().handles.reserve()?;
        let campaign = entry.subscribe(&subscriber, |handler| {
            let campaign = entry.service.campaign(election, &options, handler)?;
            let id = campaign.id();
            Ok((campaign, id))
        })?;
        let campaign = CampaignEntry::new(campaign, &entry, entry.service.call_timeout());
        let handle = place.fill::<tenure_campaign>(Arc::new(campaign));
        announcement.handle(handle);
        Ok(handle)
    })
}

/// Watches who leads an election, without taking part. The first event tells the state found. `election` NULL or "" is
/// `default`. Free with `tenure_observer_free`.
///
/// `on_event`, `user_data` and `drop_user_data` are as for `tenure_service_campaign`.
///
/// Errors: INVALID_NAME, WRONG_MODE, CLOSED, SYSTEM.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_service_observe(
    service: *mut tenure_service,
    election: *const c_char,
    on_event: tenure_event_fn,
    user_data: *mut c_void,
    drop_user_data: tenure_drop_fn,
    out_observer: Option<&mut MaybeUninit<*mut tenure_observer>>,
    err: Option<&mut MaybeUninit<*mut tenure_error>>,
) -> tenure_code {
    let user_data = UserData::new(user_data, drop_user_data);
    guard::call_out(service.addr(), out_observer, "out_observer", err, move || {
        let entry = convert::live(service, "service")?;
        // SAFETY: the caller passes NULL or a string that ends with NUL.
        let election = unsafe { convert::election(election)? };
        entry.check_mode(on_event, "on_event")?;
        let subscriber = Subscriber::new(on_event, user_data);
        let announcement = Announcement::new(&subscriber);
        let place = process::level().handles.reserve()?;
        let observer = entry.subscribe(&subscriber, |handler| {
            let observer = entry.service.observe(election, handler)?;
            let id = observer.id();
            Ok((observer, id))
        })?;
        let handle = place.fill::<tenure_observer>(Arc::new(ObserverEntry(observer)));
        announcement.handle(handle);
        Ok(handle)
    })
}

/// Who leads an election now, read linearizably from etcd; waits for at most `timeout_ms` (-1: the service's
/// `call_timeout`). `election` NULL or "" is `default`. Free the answer with `tenure_candidate_free`.
///
/// Errors: NO_LEADER, INVALID_NAME, NAME_COLLISION, TIMEOUT, UNAVAILABLE, TLS, AUTHENTICATION_FAILED, PERMISSION_DENIED,
/// CLOSED; INVALID_ARGUMENT for a timeout below -1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_service_leader(
    service: *mut tenure_service,
    election: *const c_char,
    timeout_ms: i32,
    out_leader: Option<&mut MaybeUninit<*mut tenure_candidate>>,
    err: Option<&mut MaybeUninit<*mut tenure_error>>,
) -> tenure_code {
    guard::call_out(service.addr(), out_leader, "out_leader", err, || {
        let entry = convert::live(service, "service")?;
        // SAFETY: the caller passes NULL or a string that ends with NUL.
        let election = unsafe { convert::election(election)? };
        let timeout = convert::timeout(timeout_ms, entry.service.call_timeout())?;
        let leader = entry.service.leader(election, timeout)?;
        Ok(process::level().results.give(CandidateResult::new(&leader)))
    })
}

/// All candidates of an election in their order, the leader first; none is no error. Read linearizably from etcd;
/// waits for at most `timeout_ms` (-1: the service's `call_timeout`). `election` NULL or "" is `default`. Free the
/// answer with `tenure_candidates_free`.
///
/// Errors: INVALID_NAME, NAME_COLLISION, TIMEOUT, UNAVAILABLE, TLS, AUTHENTICATION_FAILED, PERMISSION_DENIED, CLOSED;
/// VALUE_TOO_LARGE when their keys and values are more than 256 MiB together;
/// INVALID_ARGUMENT for a timeout below -1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_service_candidates(
    service: *mut tenure_service,
    election: *const c_char,
    timeout_ms: i32,
    out_candidates: Option<&mut MaybeUninit<*mut tenure_candidates>>,
    err: Option<&mut MaybeUninit<*mut tenure_error>>,
) -> tenure_code {
    guard::call_out(service.addr(), out_candidates, "out_candidates", err, || {
        let entry = convert::live(service, "service")?;
        // SAFETY: the caller passes NULL or a string that ends with NUL.
        let election = unsafe { convert::election(election)? };
        let timeout = convert::timeout(timeout_ms, entry.service.call_timeout())?;
        let candidates = entry.service.candidates(election, timeout)?;
        Ok(process::level().results.give(CandidatesResult::new(&candidates)))
    })
}

/// The next event of the service, with `events=pull`; waits for at most `timeout_ms` (-1: for ever, 0: don't wait).
/// Several threads may wait; each event goes to one of them. Closing the service wakes them. Free the event with
/// `tenure_event_free`.
///
/// Errors: TIMEOUT when nothing came; CLOSED after the last event of a closed service; WRONG_MODE with
/// `events=callback`; INVALID_ARGUMENT for a timeout below -1.
#[unsafe(no_mangle)]
pub extern "C" fn tenure_service_next_event(
    service: *mut tenure_service,
    timeout_ms: i32,
    out_event: Option<&mut MaybeUninit<*mut tenure_event>>,
    err: Option<&mut MaybeUninit<*mut tenure_error>>,
) -> tenure_code {
    guard::call_out(service.addr(), out_event, "out_event", err, || {
        let entry = convert::live(service, "service")?;
        let timeout = convert::timeout_or_never(timeout_ms)?;
        let next = |timeout| entry.service.next_event(timeout);
        let pulled = match &entry.pull {
            Some(pull) => pull.next(timeout, next)?,
            // The engine knows best how to refuse.
            None => next(timeout)?.map(|event| (event, None)),
        };
        let (event, subscriber) =
            pulled.ok_or_else(|| Error::new(Code::Timeout, format!("no event within {timeout_ms} ms")))?;
        Ok(process::level().results.give(EventResult::new(&event, subscriber)))
    })
}

/// A file descriptor for poll, epoll and event loops, with `events=pull`: readable while `tenure_service_next_event`
/// has an event, or the end, to give. Only watch it: don't read it and don't close it; it belongs to the service and
/// ends with `tenure_service_free`.
///
/// Errors: WRONG_MODE with `events=callback`.
#[unsafe(no_mangle)]
pub extern "C" fn tenure_service_event_fd(
    service: *mut tenure_service,
    out_fd: Option<&mut MaybeUninit<c_int>>,
    err: Option<&mut MaybeUninit<*mut tenure_error>>,
) -> tenure_code {
    guard::call_out(service.addr(), out_fd, "out_fd", err, || convert::live(service, "service")?.service.event_fd())
}

/// Closes a service: leadership ends at once, every candidacy is withdrawn, every campaign and observer gets its last
/// event, the session ends. Waits for etcd to confirm, for at most `timeout_ms` (-1: the service's `call_timeout`, 0:
/// don't wait). After OK no callback runs any more. Closing twice is fine; the handle stays until it is freed.
///
/// With `events=pull`, the last events can still be pulled after closing, up to CLOSED.
///
/// Errors: PENDING: not confirmed yet; the library goes on by itself, and calling again waits on. WRONG_THREAD inside a
/// callback of this service. INVALID_ARGUMENT for a timeout below -1.
#[unsafe(no_mangle)]
pub extern "C" fn tenure_service_close(
    service: *mut tenure_service,
    timeout_ms: i32,
    err: Option<&mut MaybeUninit<*mut tenure_error>>,
) -> tenure_code {
    guard::call(service.addr(), err, || {
        let entry = convert::live(service, "service")?;
        let timeout = convert::timeout(timeout_ms, entry.service.call_timeout())?;
        entry.service.close(timeout)
    })
}

/// Frees a service. NULL is fine, and so is freeing twice. A service that isn't closed is closed first, waiting for at
/// most its `call_timeout`; what etcd hasn't confirmed by then goes on in the background. Inside a callback of this
/// service nothing is waited for: closing happens in the background and callbacks go on until it is done.
///
/// Handles of its campaigns and observers stay valid, closed, until they are freed.
#[unsafe(no_mangle)]
pub extern "C" fn tenure_service_free(service: *mut tenure_service) {
    guard::quiet(service.addr(), || {
        let Some(entry) = convert::freed(service) else { return };
        if !entry.service.is_callback_thread() {
            // Pending is no loss: dropping goes on with it in the background.
            let _ = entry.service.close(entry.service.call_timeout());
        }
    });
}
