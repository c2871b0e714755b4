//! What the program reads: events and candidates.

use std::ffi::{c_char, c_void};
use std::sync::Arc;

use super::campaign::tenure_campaign;
use super::error::{code_name, tenure_code};
use super::guard;
use super::handle::Handle;
use super::observer::tenure_observer;
use super::results::{Place, Shared, Texts};
use super::subscriber::Subscriber;
use crate::error::Code;
use crate::events::{Candidate, Event, LogRecord, Observation, Status};
use crate::process;

/// One of `TENURE_EVENT_CAMPAIGN`, `TENURE_EVENT_OBSERVER` and `TENURE_EVENT_LOG`. Ignore kinds that you don't know.
pub type tenure_event_kind = i32;

/// One of `TENURE_STATE_FOLLOWER`, `TENURE_STATE_LEADER`, `TENURE_STATE_ERROR`, `TENURE_STATE_CLOSED`.
pub type tenure_state = i32;

/// One of `TENURE_LEVEL_ERROR` to `TENURE_LEVEL_DEBUG`.
pub type tenure_level = i32;

pub(super) const EVENT_CAMPAIGN: tenure_event_kind = 1;
pub(super) const EVENT_OBSERVER: tenure_event_kind = 2;
pub(super) const EVENT_LOG: tenure_event_kind = 3;

/// Something that happened. Read-only. In a callback it is valid until the callback returns and is not to be freed;
/// from `tenure_service_next_event` it is the program's until `tenure_event_free`.
///
/// `kind` says which fields are meant: fields of other kinds are 0, false or NULL, texts then empty.
#[repr(C)]
pub struct tenure_event {
    /// Size of this struct in the library at hand. Fields at or beyond it don't exist there.
    pub struct_size: u32,
    /// What this event is about.
    pub kind: tenure_event_kind,
    /// Campaign, observer: counts their events from 1; a gap means that newer events took the place of unread ones.
    pub sequence: u64,
    /// When the library told it, in nanoseconds of `tenure_boottime_ns`: the difference is how late the reader is.
    pub time_ns: i64,
    /// Campaign: its handle; NULL when it was freed.
    pub campaign: *mut tenure_campaign,
    /// Observer: its handle; NULL when it was freed.
    pub observer: *mut tenure_observer,
    /// What was given along when the campaign, the observer or the log callback was set up.
    pub user_data: *mut c_void,
    /// Campaign, observer: the election's name; never NULL.
    pub election: *const c_char,
    /// Campaign: the state entered.
    pub state: tenure_state,
    /// Why; `TENURE_OK` where nothing went wrong.
    pub reason: tenure_code,
    /// The reason's name, `SESSION_EXPIRED` for instance; never NULL.
    pub reason_name: *const c_char,
    /// The reason as a sentence, empty where nothing went wrong; log: the line. Never NULL.
    pub message: *const c_char,
    /// Campaign: the candidate's own value; observer: the leader's value. `value_len` bytes, then a NUL that isn't
    /// counted; never NULL.
    pub value: *const c_char,
    /// The value's length in bytes.
    pub value_len: usize,
    /// The fencing token, of the own key or of the leader's: it grows with every term within one cluster. 0 for none.
    pub token: i64,
    /// The cluster that the token belongs to; 0 while unknown.
    pub cluster_id: u64,
    /// The store's revision at which this was so; 0 where the event isn't based on one.
    pub revision: i64,
    /// Campaign that leads: until when leadership is certain unless renewed, in nanoseconds of `tenure_boottime_ns`.
    pub deadline_ns: i64,
    /// Observer: the leader's key in etcd; `key_len` bytes, then a NUL that isn't counted; never NULL.
    pub key: *const c_char,
    /// The key's length in bytes.
    pub key_len: usize,
    /// Observer: the lease that the leader's key is attached to; 0 for none.
    pub lease: i64,
    /// Log: the line's weight.
    pub level: tenure_level,
    /// Campaign that leads: a renewal is overdue, so leadership may end at the deadline.
    pub at_risk: bool,
    /// Observer: whether there is a leader.
    pub has_leader: bool,
    /// Observer: false while etcd is out of reach; the leader named is then the last one known.
    pub connected: bool,
    /// Campaign, observer: this is its last event.
    pub closed: bool,
}

/// Gets events. `user_data` is what was given along, `event` is valid during the call only.
///
/// Called on one thread of the service's own, one event at a time and in order. It may call every function of the
/// library but those that end its own service (they answer `TENURE_WRONG_THREAD`). It may take its time: leadership,
/// renewal and other services don't wait for it, but the service's further events do. It must not unwind: no C++
/// exception, no longjmp, no pthread_exit.
pub type tenure_event_fn = Option<unsafe extern "C" fn(user_data: *mut c_void, event: *const tenure_event)>;

/// Told once that the library needs `user_data` no more, on whichever thread that turns out. Same rules as for
/// `tenure_event_fn`.
pub type tenure_drop_fn = Option<unsafe extern "C" fn(user_data: *mut c_void)>;

/// A leader, or another candidate. Read-only.
#[repr(C)]
pub struct tenure_candidate {
    /// Size of this struct in the library at hand. Fields at or beyond it don't exist there.
    pub struct_size: u32,
    /// The value it announces: `value_len` bytes, then a NUL that isn't counted; never NULL.
    pub value: *const c_char,
    /// The value's length in bytes.
    pub value_len: usize,
    /// Its fencing token: it grows with every term within one cluster.
    pub token: i64,
    /// Its key in etcd: `key_len` bytes, then a NUL that isn't counted; never NULL.
    pub key: *const c_char,
    /// The key's length in bytes.
    pub key_len: usize,
    /// The lease that its key is attached to; 0 for none.
    pub lease: i64,
}

/// The candidates of an election, the leader first, then in the order in which they would follow. Read-only; freed
/// by `tenure_candidates_free`.
#[repr(C)]
pub struct tenure_candidates {
    /// Size of this struct in the library at hand. Fields at or beyond it don't exist there.
    pub struct_size: u32,
    /// How many there are.
    pub count: usize,
    /// Pointers to each; they belong to this struct.
    pub items: *const *const tenure_candidate,
}

/// An event as C sees it, and what it points to.
pub(super) struct Seen {
    event: tenure_event,
    _texts: Texts,
}

/// The texts of an event while it is being made.
#[derive(Default)]
struct Places {
    election: Option<Place>,
    message: Option<Place>,
    value: Option<Place>,
    key: Option<Place>,
}

impl Seen {
    pub(super) fn new(event: &Event, subscriber: Option<&Subscriber>) -> Self {
        let mut seen = match event {
            Event::Status(_, status) => of_campaign(status),
            Event::Observation(_, observation) => of_observer(observation),
            Event::Log(record) => of_log(record),
        };
        if let Some(subscriber) = subscriber {
            seen.event.user_data = subscriber.pointer();
            match event {
                Event::Status(..) => seen.event.campaign = if_live(subscriber),
                Event::Observation(..) => seen.event.observer = if_live(subscriber),
                Event::Log(_) => {}
            }
        }
        seen
    }

    pub(super) fn event(&self) -> *const tenure_event {
        &self.event
    }

    fn finish(mut event: tenure_event, texts: Texts, places: Places) -> Self {
        let at = |place: Option<Place>| place.map_or(c"".as_ptr(), |place| texts.at(place));
        event.election = at(places.election);
        event.message = at(places.message);
        event.value = at(places.value);
        event.key = at(places.key);
        event.reason_name = code_name(event.reason);
        Seen { event, _texts: texts }
    }
}

/// The subscriber's handle, or NULL when it was freed.
fn if_live<H: Handle>(subscriber: &Subscriber) -> *mut H {
    let handle: *mut H = std::ptr::without_provenance_mut(subscriber.handle());
    if process::level().handles.get(handle).is_ok() { handle } else { std::ptr::null_mut() }
}

fn of_campaign(status: &Status) -> Seen {
    let mut texts = Texts::with_room(status.election.len() + status.message.len() + status.value.len());
    let places = Places {
        election: Some(texts.add_text(&status.election)),
        message: Some(texts.add_text(&status.message)),
        value: Some(texts.add(&status.value)),
        key: None,
    };
    let event = tenure_event {
        sequence: status.sequence,
        time_ns: status.time_ns,
        state: status.state as tenure_state,
        reason: status.reason.number(),
        value_len: status.value.len(),
        token: status.token,
        cluster_id: status.cluster_id,
        revision: status.revision,
        deadline_ns: status.deadline_ns,
        at_risk: status.at_risk,
        closed: status.state == crate::events::State::Closed,
        ..empty(EVENT_CAMPAIGN)
    };
    Seen::finish(event, texts, places)
}

fn of_observer(observation: &Observation) -> Seen {
    let leader = observation.leader.as_ref();
    let bytes = leader.map_or(0, |leader| leader.value.len() + leader.key.len());
    let mut texts = Texts::with_room(observation.election.len() + observation.message.len() + bytes);
    let places = Places {
        election: Some(texts.add_text(&observation.election)),
        message: Some(texts.add_text(&observation.message)),
        value: leader.map(|leader| texts.add(&leader.value)),
        key: leader.map(|leader| texts.add(&leader.key)),
    };
    let event = tenure_event {
        sequence: observation.sequence,
        time_ns: observation.time_ns,
        reason: observation.reason.number(),
        value_len: leader.map_or(0, |leader| leader.value.len()),
        token: leader.map_or(0, |leader| leader.token),
        cluster_id: observation.cluster_id,
        revision: observation.revision,
        key_len: leader.map_or(0, |leader| leader.key.len()),
        lease: leader.map_or(0, |leader| leader.lease),
        has_leader: leader.is_some(),
        connected: observation.connected,
        closed: observation.closed,
        ..empty(EVENT_OBSERVER)
    };
    Seen::finish(event, texts, places)
}

fn of_log(record: &LogRecord) -> Seen {
    let mut texts = Texts::with_room(record.message.len());
    let places = Places { message: Some(texts.add_text(&record.message)), ..Places::default() };
    let event = tenure_event { time_ns: record.time_ns, level: record.level as tenure_level, ..empty(EVENT_LOG) };
    Seen::finish(event, texts, places)
}

/// An event of this kind that says nothing; `finish` puts the texts in.
fn empty(kind: tenure_event_kind) -> tenure_event {
    tenure_event {
        struct_size: size_of::<tenure_event>() as u32,
        kind,
        sequence: 0,
        time_ns: 0,
        campaign: std::ptr::null_mut(),
        observer: std::ptr::null_mut(),
        user_data: std::ptr::null_mut(),
        election: std::ptr::null(),
        state: 0,
        reason: Code::Ok.number(),
        reason_name: std::ptr::null(),
        message: std::ptr::null(),
        value: std::ptr::null(),
        value_len: 0,
        token: 0,
        cluster_id: 0,
        revision: 0,
        deadline_ns: 0,
        key: std::ptr::null(),
        key_len: 0,
        lease: 0,
        level: 0,
        at_risk: false,
        has_leader: false,
        connected: false,
        closed: false,
    }
}

/// A pulled event. It keeps the user_data that it shows.
pub(super) struct EventResult {
    seen: Seen,
    _subscriber: Option<Arc<Subscriber>>,
}

// SAFETY: nothing is changed after `new`; the pointers lead into the result's own texts and to static memory, and
// handles and user_data are never looked behind.
unsafe impl Send for EventResult {}
// SAFETY: as above.
unsafe impl Sync for EventResult {}

impl EventResult {
    pub(super) fn new(event: &Event, subscriber: Option<Arc<Subscriber>>) -> Self {
        EventResult { seen: Seen::new(event, subscriber.as_deref()), _subscriber: subscriber }
    }
}

impl Shared for EventResult {
    type Public = tenure_event;
    fn public(&self) -> &tenure_event {
        &self.seen.event
    }
}

fn candidate(candidate: &Candidate, texts: &Texts, (value, key): (Place, Place)) -> tenure_candidate {
    tenure_candidate {
        struct_size: size_of::<tenure_candidate>() as u32,
        value: texts.at(value),
        value_len: candidate.value.len(),
        token: candidate.token,
        key: texts.at(key),
        key_len: candidate.key.len(),
        lease: candidate.lease,
    }
}

/// One candidate.
pub(super) struct CandidateResult {
    public: tenure_candidate,
    _texts: Texts,
}

// SAFETY: nothing is changed after `new`; the pointers lead into `_texts`.
unsafe impl Send for CandidateResult {}
// SAFETY: as above.
unsafe impl Sync for CandidateResult {}

impl CandidateResult {
    pub(super) fn new(of: &Candidate) -> Self {
        let mut texts = Texts::with_room(of.value.len() + of.key.len());
        let places = (texts.add(&of.value), texts.add(&of.key));
        CandidateResult { public: candidate(of, &texts, places), _texts: texts }
    }
}

impl Shared for CandidateResult {
    type Public = tenure_candidate;
    fn public(&self) -> &tenure_candidate {
        &self.public
    }
}

/// All candidates. The vectors' contents stay where they are when the result moves.
pub(super) struct CandidatesResult {
    public: tenure_candidates,
    _pointers: Vec<*const tenure_candidate>,
    _items: Vec<tenure_candidate>,
    _texts: Texts,
}

// SAFETY: nothing is changed after `new`; the pointers lead into the result's own vectors.
unsafe impl Send for CandidatesResult {}
// SAFETY: as above.
unsafe impl Sync for CandidatesResult {}

impl CandidatesResult {
    pub(super) fn new(of: &[Candidate]) -> Self {
        let mut texts = Texts::with_room(of.iter().map(|c| c.value.len() + c.key.len() + 2).sum());
        let places: Vec<_> = of.iter().map(|c| (texts.add(&c.value), texts.add(&c.key))).collect();
        let items: Vec<_> = of.iter().zip(places).map(|(of, places)| candidate(of, &texts, places)).collect();
        let pointers: Vec<_> = items.iter().map(std::ptr::from_ref).collect();
        let public = tenure_candidates {
            struct_size: size_of::<tenure_candidates>() as u32,
            count: items.len(),
            items: pointers.as_ptr(),
        };
        CandidatesResult { public, _pointers: pointers, _items: items, _texts: texts }
    }
}

impl Shared for CandidatesResult {
    type Public = tenure_candidates;
    fn public(&self) -> &tenure_candidates {
        &self.public
    }
}

/// Frees an event of `tenure_service_next_event`. NULL is fine; the event of a callback is left alone. With a
/// campaign's or observer's last event its `user_data` may end here.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_event_free(event: *mut tenure_event) {
    guard::quiet(guard::NO_HANDLE, || drop(process::level().results.take::<EventResult>(event)));
}

/// Frees a candidate of `tenure_service_leader`. NULL is fine; one of a `tenure_candidates` is left alone.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_candidate_free(candidate: *mut tenure_candidate) {
    guard::quiet(guard::NO_HANDLE, || drop(process::level().results.take::<CandidateResult>(candidate)));
}

/// Frees candidates, each of them included. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tenure_candidates_free(candidates: *mut tenure_candidates) {
    guard::quiet(guard::NO_HANDLE, || drop(process::level().results.take::<CandidatesResult>(candidates)));
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
