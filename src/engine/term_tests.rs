//! Leadership ends at its deadline, and at once when barred, whatever the engine writes.

use std::sync::Arc;
use std::time::Duration;

use super::Term;
use crate::clock::{Clock, MS, SECOND};
use crate::error::Code;
use crate::events::{State, Status};

fn status(state: State, reason: Code) -> Status {
    Status {
        sequence: 1,
        time_ns: 1,
        state,
        at_risk: false,
        reason,
        message: reason.text().into(),
        election: "e".into(),
        value: [].into(),
        token: 1,
        cluster_id: 1,
        revision: 1,
        deadline_ns: 0,
    }
}

fn now() -> i64 {
    Clock::Boottime.now()
}

#[test]
fn it_leads_until_the_deadline_and_not_after() {
    let term = Term::new(Clock::Boottime);
    assert!(!term.is_leader() && term.token() == 0);
    term.set(7, now() + SECOND);
    assert!(term.is_leader() && term.token() == 7 && term.remaining() <= SECOND);
    term.set(7, now() - 1);
    assert!(!term.is_leader() && term.token() == 0 && term.remaining() == 0);
}

#[test]
fn barred_it_never_leads_again() {
    let term = Term::new(Clock::Boottime);
    term.set(7, now() + SECOND);
    term.bar();
    assert!(!term.is_leader());
    term.set(7, now() + SECOND);
    assert!(!term.is_leader() && term.token() == 0);
}

#[test]
fn the_state_is_leader_exactly_while_that_is_certain() {
    let told = Term::new(Clock::Boottime);
    told.tell(&status(State::Leader, Code::Ok));
    assert_eq!(told.state(), State::Follower);
    let untold = Term::new(Clock::Boottime);
    untold.set(7, now() + 60 * SECOND);
    untold.wait_leader(Duration::ZERO).unwrap();
    assert_eq!(untold.state(), State::Leader);
    untold.set(0, 0);
    assert_eq!(untold.state(), State::Follower);
}

#[test]
fn waiting_ends_with_leadership_the_reason_of_the_loss_or_in_time() {
    let term = Arc::new(Term::new(Clock::Boottime));
    let begun = now();
    assert_eq!(term.wait_leader(Duration::from_millis(20)).unwrap_err().code(), Code::Timeout);
    assert!(now() - begun >= 20 * MS, "{}", now() - begun);
    let waiter = {
        let term = term.clone();
        std::thread::spawn(move || term.wait_leader(Duration::from_secs(60)))
    };
    term.set(7, now() + 60 * SECOND);
    waiter.join().unwrap().unwrap();
    term.set(0, 0);
    term.tell(&status(State::Error, Code::LeaseRevoked));
    term.tell(&status(State::Closed, Code::LeaseRevoked));
    assert_eq!(term.wait_leader(Duration::from_secs(60)).unwrap_err().code(), Code::LeaseRevoked);
}

#[test]
fn a_loss_that_was_made_good_is_not_why_a_campaign_was_closed() {
    let term = Term::new(Clock::Boottime);
    for (state, reason) in
        [(State::Error, Code::SessionExpired), (State::Follower, Code::Ok), (State::Closed, Code::Ok)]
    {
        term.tell(&status(state, reason));
    }
    assert_eq!(term.wait_leader(Duration::from_secs(60)).unwrap_err().code(), Code::Closed);
}

#[test]
fn a_waiter_wakes_when_the_campaign_is_resigned() {
    let term = Arc::new(Term::new(Clock::Boottime));
    let waiter = {
        let term = term.clone();
        std::thread::spawn(move || term.wait_leader(Duration::from_nanos((60 * SECOND + MS) as u64)))
    };
    // So that it does wait.
    #[allow(clippy::disallowed_methods, reason = "a test's thread")]
    std::thread::sleep(Duration::from_millis(20));
    let begun = now();
    term.bar();
    term.wake();
    assert_eq!(waiter.join().unwrap().unwrap_err().code(), Code::Closed);
    assert!(now() - begun < 30 * SECOND);
}
