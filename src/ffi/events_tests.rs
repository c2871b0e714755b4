//! C sees what the engine said, whole, with every text ended by NUL.

use std::ffi::CStr;

use super::*;
use crate::events::{Level, State};
use crate::ffi::tests::status;

fn text<'a>(pointer: *const c_char) -> &'a str {
    assert!(!pointer.is_null());
    // SAFETY: the tests look at texts of events that are still alive.
    unsafe { CStr::from_ptr(pointer) }.to_str().unwrap()
}

fn bytes<'a>(pointer: *const c_char, len: usize) -> &'a [u8] {
    // SAFETY: as above; the NUL behind is counted in.
    let with_nul = unsafe { std::slice::from_raw_parts(pointer.cast::<u8>(), len + 1) };
    assert_eq!(with_nul[len], 0);
    &with_nul[..len]
}

fn leader() -> Candidate {
    Candidate { value: b"v\0".as_slice().into(), token: 5, key: b"_ld/s/e/1f".as_slice().into(), lease: 0x1f }
}

#[test]
fn a_campaign_event_has_every_field_of_its_status() {
    let seen = Seen::new(&Event::Status(1, status(State::Leader)), None);
    let event = &seen.event;
    assert_eq!((event.struct_size as usize, event.kind), (size_of::<tenure_event>(), 1));
    assert_eq!((event.sequence, event.time_ns, event.state), (3, 45, 2));
    assert_eq!((event.at_risk, event.closed), (true, false));
    assert_eq!((event.reason, text(event.reason_name)), (20, "SESSION_EXPIRED"));
    assert_eq!((text(event.message), text(event.election)), ("no renewal\u{FFFD} for 10 s", "shard-7"));
    assert_eq!(bytes(event.value, event.value_len), b"a\0b");
    assert_eq!((event.token, event.cluster_id, event.revision, event.deadline_ns), (42, u64::MAX, 43, 44));
    assert_eq!((text(event.key), event.key_len, event.lease, event.has_leader), ("", 0, 0, false));
    assert!(event.campaign.is_null() && event.observer.is_null() && event.user_data.is_null());
    assert!(Seen::new(&Event::Status(1, status(State::Closed)), None).event.closed);
}

#[test]
fn an_observer_event_shows_the_leader_or_nobody() {
    let mut observation = Observation {
        sequence: 9,
        time_ns: 8,
        election: "e".into(),
        leader: Some(leader()),
        revision: 6,
        cluster_id: 7,
        connected: true,
        closed: false,
        reason: Code::Ok,
        message: String::new(),
    };
    let seen = Seen::new(&Event::Observation(1, observation.clone()), None);
    let event = &seen.event;
    assert_eq!((event.kind, event.sequence, event.time_ns, event.state, event.reason), (2, 9, 8, 0, 0));
    assert_eq!((event.has_leader, event.connected, event.closed), (true, true, false));
    assert_eq!((event.token, event.lease, event.revision, event.cluster_id), (5, 0x1f, 6, 7));
    assert_eq!(bytes(event.value, event.value_len), b"v\0");
    assert_eq!(bytes(event.key, event.key_len), b"_ld/s/e/1f");
    assert_eq!((text(event.message), text(event.reason_name)), ("", "OK"));

    observation.leader = None;
    observation.closed = true;
    let seen = Seen::new(&Event::Observation(1, observation), None);
    assert_eq!((seen.event.has_leader, seen.event.token, seen.event.closed), (false, 0, true));
    assert_eq!((text(seen.event.value), seen.event.value_len), ("", 0));
}

#[test]
fn a_log_event_is_a_level_and_a_line() {
    let record = LogRecord { time_ns: 7, level: Level::Warn, message: "late".into() };
    let seen = Seen::new(&Event::Log(record), None);
    assert_eq!((seen.event.kind, seen.event.level, text(seen.event.message)), (3, 2, "late"));
    assert_eq!((text(seen.event.election), seen.event.time_ns), ("", 7));
}

#[test]
fn candidates_come_in_order_and_each_whole() {
    let second = Candidate { token: 6, lease: 0, ..leader() };
    let public = process::level().results.give(CandidatesResult::new(&[leader(), second]));
    // SAFETY: alive until freed below.
    let candidates = unsafe { &*public };
    assert_eq!(candidates.count, 2);
    for (index, token) in [5, 6].into_iter().enumerate() {
        // SAFETY: within `count`.
        let candidate = unsafe { &**candidates.items.add(index) };
        assert_eq!((candidate.token, bytes(candidate.value, candidate.value_len)), (token, b"v\0".as_slice()));
        assert_eq!(bytes(candidate.key, candidate.key_len), b"_ld/s/e/1f");
        // SAFETY: freeing one of the list must do nothing.
        unsafe { tenure_candidate_free(std::ptr::from_ref(candidate).cast_mut()) };
    }
    // SAFETY: freeing twice must do nothing the second time.
    unsafe {
        tenure_candidates_free(public);
        tenure_candidates_free(public);
    }
    let single = process::level().results.give(CandidateResult::new(&leader()));
    // SAFETY: alive until freed here.
    unsafe {
        assert_eq!(bytes((*single).key, (*single).key_len), b"_ld/s/e/1f");
        tenure_candidate_free(single);
    }
    let none = process::level().results.give(CandidatesResult::new(&[]));
    // SAFETY: as above.
    unsafe {
        assert_eq!((*none).count, 0);
        tenure_candidates_free(none);
    }
}
