//! Unread events make room for newer ones, and no loss is ever lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{Mailbox, Term};
use crate::clock::{Clock, SECOND};
use crate::error::Code;
use crate::events::{Event, Level, LogRecord, Observation, State, Status};

const NOW: Option<Duration> = Some(Duration::ZERO);

fn status(state: State, sequence: u64) -> Status {
    Status {
        sequence,
        time_ns: 1,
        state,
        at_risk: false,
        reason: Code::Ok,
        message: String::new(),
        election: "e".into(),
        value: [].into(),
        token: 1,
        cluster_id: 1,
        revision: 1,
        deadline_ns: 0,
    }
}

fn observation(sequence: u64, closed: bool) -> Observation {
    Observation {
        sequence,
        time_ns: 1,
        election: "e".into(),
        leader: None,
        revision: 1,
        cluster_id: 1,
        connected: true,
        closed,
        reason: Code::Ok,
        message: String::new(),
    }
}

/// A mailbox with campaign 1, whose term lasts a minute.
fn mailbox() -> (Mailbox, Arc<Term>) {
    let mailbox = Mailbox::new(true).unwrap();
    let term = Arc::new(Term::new(Clock::Boottime));
    term.set(1, Clock::Boottime.now() + 60 * SECOND);
    mailbox.add(1, "e".into(), None, Some(term.clone())).unwrap();
    (mailbox, term)
}

fn push(mailbox: &Mailbox, states: &[State]) {
    for (sequence, &state) in (1..).zip(states) {
        mailbox.push_status(1, status(state, sequence));
    }
}

fn read(mailbox: &Mailbox) -> Vec<Event> {
    std::iter::from_fn(|| {
        let delivery = mailbox.take(NOW).ok()??;
        let event = delivery.event.clone();
        mailbox.give_back(delivery);
        Some(event)
    })
    .collect()
}

fn states(events: &[Event]) -> Vec<State> {
    events.iter().map(|e| if let Event::Status(_, s) = e { s.state } else { panic!("{e:?}") }).collect()
}

use State::{Closed, Error, Follower, Leader};

#[test]
fn a_reader_that_keeps_up_reads_everything_in_order() {
    let (mailbox, _term) = mailbox();
    for state in [Follower, Leader, Error, Follower, Closed] {
        push(&mailbox, &[state]);
        assert_eq!(states(&read(&mailbox)), [state]);
    }
}

/// M-1
#[test]
fn a_leader_whose_term_ended_unread_is_not_told() {
    let (mailbox, _term) = mailbox();
    push(&mailbox, &[Follower, Leader, Error, Closed]);
    assert_eq!(states(&read(&mailbox)), [Follower, Error, Closed]);
}

/// M-1, M-14
#[test]
fn a_leader_that_is_barred_or_late_is_not_told() {
    let (mailbox, term) = mailbox();
    push(&mailbox, &[Follower, Leader]);
    term.bar();
    assert_eq!(states(&read(&mailbox)), [Follower]);
    push(&mailbox, &[Closed]);
    assert_eq!(states(&read(&mailbox)), [Closed]);
}

/// M-15
#[test]
fn the_loss_of_a_term_that_was_read_is_kept_whatever_follows() {
    let (mailbox, _term) = mailbox();
    push(&mailbox, &[Follower, Leader]);
    assert_eq!(states(&read(&mailbox)), [Follower, Leader]);
    for _ in 0..1000 {
        push(&mailbox, &[Error, Follower, Leader]);
    }
    let unread = states(&read(&mailbox));
    assert_eq!(unread[0], Error);
    assert_eq!(unread.last(), Some(&Leader));
    assert!(unread.len() <= 4, "{unread:?}");
}

#[test]
fn risk_is_told_once_in_its_latest_form() {
    let (mailbox, _term) = mailbox();
    push(&mailbox, &[Leader, Leader, Leader]);
    let events = read(&mailbox);
    assert!(matches!(&events[..], [Event::Status(1, s)] if s.sequence == 3));
}

/// M-9
#[test]
fn an_observer_reads_the_newest_and_its_end() {
    let (mailbox, _term) = mailbox();
    mailbox.add(2, "e".into(), None, None).unwrap();
    (1..100).for_each(|sequence| mailbox.push_observation(2, observation(sequence, false)));
    assert!(matches!(&read(&mailbox)[..], [Event::Observation(2, o)] if o.sequence == 99));
    mailbox.push_observation(2, observation(100, false));
    mailbox.push_observation(2, observation(101, true));
    assert!(matches!(&read(&mailbox)[..], [Event::Observation(2, o)] if o.closed));
    mailbox.push_observation(2, observation(102, false));
    assert!(read(&mailbox).is_empty(), "nothing comes after the last event");
}

#[test]
fn a_subscription_whose_last_event_is_out_can_not_be_taken_back() {
    for taken in [false, true] {
        let mailbox = Mailbox::new(false).unwrap();
        mailbox.add(2, "e".into(), Some(Box::new(|_: &Event| {})), None).unwrap();
        mailbox.end(1);
        let delivery = taken.then(|| mailbox.take(NOW).unwrap().unwrap());
        assert_eq!(mailbox.remove(2), !taken, "an error would be told to who hears of it by event, too");
        drop(delivery);
        assert_eq!(mailbox.take(NOW).map(|_| ()).unwrap_err().code(), Code::Closed);
    }
}

#[test]
fn a_campaign_that_was_heard_of_can_not_be_taken_back() {
    let (mailbox, _term) = mailbox();
    push(&mailbox, &[Error, Closed]);
    let first = mailbox.take(NOW).unwrap().unwrap();
    assert!(!mailbox.remove(1), "its CLOSED is still to come");
    mailbox.give_back(first);
    assert_eq!(states(&read(&mailbox)), [Closed]);
}

#[test]
fn campaigns_take_turns() {
    let (mailbox, _term) = mailbox();
    mailbox.add(2, "f".into(), None, None).unwrap();
    push(&mailbox, &[Follower, Error]);
    mailbox.push_observation(2, observation(1, false));
    let order: Vec<_> = read(&mailbox).iter().map(|e| matches!(e, Event::Status(..))).collect();
    assert_eq!(order, [true, false, true]);
}

#[test]
fn unread_log_lines_are_bounded_and_the_newest_stay() {
    let (mailbox, _term) = mailbox();
    (0..1000).for_each(|n| mailbox.push_log(LogRecord { time_ns: 1, level: Level::Info, message: n.to_string() }));
    let lines = read(&mailbox);
    assert_eq!(lines.len(), 256);
    assert!(matches!(lines.last(), Some(Event::Log(record)) if record.message == "999"));
}

#[test]
fn log_lines_made_before_there_is_a_handler_wait_for_it() {
    let mailbox = Mailbox::new(false).unwrap();
    mailbox.push_log(LogRecord { time_ns: 1, level: Level::Info, message: "early".into() });
    assert!(read(&mailbox).is_empty());
    assert!(mailbox.set_log_handler(Box::new(|_| {})).unwrap().is_none());
    assert_eq!(read(&mailbox).len(), 1);
    mailbox.push_log(LogRecord { time_ns: 1, level: Level::Info, message: "later".into() });
    assert_eq!(read(&mailbox).len(), 1);
    assert!(mailbox.take_log_handler().is_some());
}

#[test]
fn log_lines_made_while_one_is_being_delivered_are_delivered_too() {
    let mailbox = Mailbox::new(false).unwrap();
    let log = |message: &str| mailbox.push_log(LogRecord { time_ns: 1, level: Level::Info, message: message.into() });
    assert!(mailbox.set_log_handler(Box::new(|_| {})).unwrap().is_none());
    log("first");
    let first = mailbox.take(NOW).unwrap().unwrap();
    log("meanwhile");
    mailbox.give_back(first);
    assert_eq!(read(&mailbox).len(), 1);
    log("later");
    assert_eq!(read(&mailbox).len(), 1);
}

#[test]
fn a_log_handler_that_comes_after_the_end_is_refused_and_not_kept() {
    let mailbox = Mailbox::new(false).unwrap();
    mailbox.end(1);
    let kept = Arc::new(());
    let handler = kept.clone();
    let refused = mailbox.set_log_handler(Box::new(move |_| _ = &handler));
    assert_eq!(refused.err().map(|error| error.code()), Some(Code::Closed));
    assert_eq!(Arc::strong_count(&kept), 1);
}

#[test]
fn the_descriptor_is_readable_exactly_while_there_is_something_to_read() {
    let (mailbox, _term) = mailbox();
    let fd = mailbox.descriptor().unwrap();
    let readable = || {
        let fds = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap();
        let count = fds.lines().find_map(|l| l.strip_prefix("eventfd-count:")).unwrap();
        u64::from_str_radix(count.trim(), 16).unwrap() > 0
    };
    assert!(!readable());
    push(&mailbox, &[Follower, Error]);
    assert!(readable());
    for more in [true, false] {
        let next = mailbox.take(NOW).unwrap().unwrap();
        mailbox.give_back(next);
        assert_eq!(readable(), more);
    }
    push(&mailbox, &[Closed]);
    mailbox.end(1);
    assert_eq!(states(&read(&mailbox)), [Closed]);
    assert!(readable(), "the end is something to read");
    assert_eq!(mailbox.take(NOW).map(|_| ()).unwrap_err().code(), Code::Closed);
    assert!(readable());
}

#[test]
fn a_waiting_reader_wakes_for_events_and_for_the_end() {
    let (mailbox, _term) = mailbox();
    let mailbox = Arc::new(mailbox);
    let reader = {
        let mailbox = mailbox.clone();
        std::thread::spawn(move || {
            let first = mailbox.take(None).unwrap().unwrap();
            mailbox.give_back(first);
            mailbox.take(None).map(|_| ()).unwrap_err().code()
        })
    };
    push(&mailbox, &[Closed]);
    mailbox.end(1);
    assert_eq!(reader.join().unwrap(), Code::Closed);
}

#[test]
fn a_handler_is_dropped_once_after_its_last_event() {
    struct Count(Arc<AtomicUsize>);
    impl Drop for Count {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let drops = Arc::new(AtomicUsize::new(0));
    let count = Count(drops.clone());
    let mailbox = Mailbox::new(false).unwrap();
    let term = Arc::new(Term::new(Clock::Boottime));
    let handler = Box::new(move |_: &Event| assert_eq!(count.0.load(Ordering::SeqCst), 0));
    mailbox.add(1, "e".into(), Some(handler), Some(term)).unwrap();
    push(&mailbox, &[Follower, Error]);
    read(&mailbox);
    assert_eq!(drops.load(Ordering::SeqCst), 0);
    push(&mailbox, &[Closed]);
    read(&mailbox);
    assert_eq!(drops.load(Ordering::SeqCst), 1);
}

#[test]
fn a_handler_is_not_dropped_between_the_events_that_two_threads_pull() {
    let kept = Arc::new(());
    let handler = kept.clone();
    let mailbox = Mailbox::new(true).unwrap();
    let term = Arc::new(Term::new(Clock::Boottime));
    mailbox.add(1, "e".into(), Some(Box::new(move |_| _ = &handler)), Some(term)).unwrap();
    push(&mailbox, &[Follower, Error]);
    let [first, second] = [(); 2].map(|()| mailbox.take(NOW).unwrap().unwrap());
    mailbox.give_back(first);
    mailbox.give_back(second);
    assert_eq!(Arc::strong_count(&kept), 2);
    push(&mailbox, &[Closed]);
    read(&mailbox);
    assert_eq!(Arc::strong_count(&kept), 1);
}

#[test]
fn an_observer_made_while_the_service_closes_is_told_so_once() {
    let (mailbox, _term) = mailbox();
    mailbox.add(2, "late".into(), None, None).unwrap();
    mailbox.add(3, "told".into(), None, None).unwrap();
    mailbox.push_observation(3, observation(7, true));
    mailbox.end(1);
    mailbox.push_observation(2, observation(1, true));
    let ends = read(&mailbox).into_iter().map(|event| match event {
        Event::Observation(id, told) => (id, told.sequence, told.closed),
        other => panic!("{other:?}"),
    });
    assert_eq!(ends.collect::<Vec<_>>(), [(3, 7, true), (2, 1, true)]);
    assert_eq!(mailbox.add(4, "after".into(), None, None).unwrap_err().code(), Code::Closed);
}

#[test]
fn two_events_of_one_campaign_wake_two_threads() {
    // Often enough that the second event comes before the first has been taken.
    for _ in 0..50 {
        let (mailbox, _term) = mailbox();
        std::thread::scope(|scope| {
            let take = || scope.spawn(|| mailbox.take(Some(Duration::from_secs(60))));
            let waiting = [take(), take()];
            push(&mailbox, &[State::Follower, State::Leader]);
            mailbox.announce();
            for thread in waiting {
                assert!(thread.join().unwrap().unwrap().is_some());
            }
        });
    }
}

#[test]
fn the_end_wakes_everybody_who_waits() {
    let (mailbox, _term) = mailbox();
    std::thread::scope(|scope| {
        let waiting = [0, 1, 2].map(|_| scope.spawn(|| mailbox.take(None)));
        mailbox.end(1);
        for thread in waiting {
            assert_eq!(thread.join().unwrap().err().map(|error| error.code()), Some(Code::Closed));
        }
    });
}
