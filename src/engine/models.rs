//! Every order in which the engine's thread and the program's threads may meet; see `crate::sync`.

use std::sync::Arc;
use std::time::Duration;

use loom::thread;

use super::commands::{self, Command};
use super::{Flag, Mailbox, Term};
use crate::clock::{Clock, SECOND};
use crate::election::{Input, Reply};
use crate::error::Code;
use crate::events::{Event, Level, LogRecord, Observation, State, Status};
use crate::sync::{block_on, check};

const FOR_EVER: Duration = Duration::from_secs(3600);
const LOOK: Option<Duration> = Some(Duration::ZERO);

fn status(state: State) -> Status {
    Status {
        sequence: 1,
        time_ns: 1,
        state,
        at_risk: false,
        reason: if state == State::Error { Code::LeaseRevoked } else { Code::Ok },
        message: String::new(),
        election: "e".into(),
        value: [].into(),
        token: 0,
        cluster_id: 1,
        revision: 1,
        deadline_ns: 0,
    }
}

fn later() -> i64 {
    Clock::Boottime.now() + 3600 * SECOND
}

/// The driver's order: leadership first, then the news of it.
fn lose(mailbox: &Mailbox) {
    mailbox.lead(1, 0, 0);
    mailbox.push_status(1, status(State::Error));
    mailbox.announce();
}

fn mailbox(pulled: bool, term: &Arc<Term>) -> Arc<Mailbox> {
    let mailbox = Mailbox::new(pulled).unwrap();
    mailbox.add(1, "e".into(), None, Some(term.clone())).unwrap();
    Arc::new(mailbox)
}

fn state_of(event: &Event) -> State {
    if let Event::Status(_, status) = event { status.state } else { panic!("{event:?}") }
}

/// The events up to the end, waiting for each.
fn read_all(mailbox: &Mailbox) -> Vec<Event> {
    std::iter::from_fn(|| {
        let delivery = mailbox.take(None).ok()??;
        let event = delivery.event.clone();
        mailbox.give_back(delivery);
        Some(event)
    })
    .collect()
}

fn is_readable(mailbox: &Mailbox) -> bool {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", mailbox.descriptor().unwrap())).unwrap();
    let count = info.lines().find_map(|line| line.strip_prefix("eventfd-count:")).unwrap();
    u64::from_str_radix(count.trim(), 16).unwrap() > 0
}

// Terms.

#[test]
fn a_token_is_never_that_of_another_time_of_leading() {
    check("token", 3, || {
        let term = Arc::new(Term::new(Clock::Boottime));
        term.set(7, later());
        let reader = {
            let term = term.clone();
            thread::spawn(move || {
                let first = term.token();
                assert!(matches!(first, 0 | 7 | 9), "{first}");
                let second = term.token();
                assert!(first != 9 || second == 9, "{second} after {first}");
                // Between its end and 9's beginning there was an instant without leadership, and 7 was over.
                if second == 7 {
                    assert_eq!(first, 7);
                }
            })
        };
        term.set(0, 0);
        term.set(9, later());
        reader.join().unwrap();
        assert_eq!(term.token(), 9);
    });
}

#[test]
fn who_has_seen_the_end_of_a_term_never_gets_its_token() {
    check("ended token", 3, || {
        let term = Arc::new(Term::new(Clock::Boottime));
        term.set(7, later());
        let reader = {
            let term = term.clone();
            thread::spawn(move || {
                if !term.is_leader() {
                    let token = term.token();
                    assert!(matches!(token, 0 | 9), "{token} after the term was seen to be over");
                }
            })
        };
        term.set(0, 0);
        term.set(9, later());
        reader.join().unwrap();
    });
}

#[test]
fn who_leads_has_a_token() {
    check("token of a leader", 3, || {
        let term = Arc::new(Term::new(Clock::Boottime));
        let reader = {
            let term = term.clone();
            thread::spawn(move || {
                if term.is_leader() {
                    assert_eq!((term.token(), term.state()), (7, State::Leader));
                }
            })
        };
        term.set(7, later());
        reader.join().unwrap();
    });
}

#[test]
fn nobody_leads_who_was_told_of_a_loss() {
    check("loss", 3, || {
        let term = Arc::new(Term::new(Clock::Boottime));
        let mailbox = mailbox(false, &term);
        term.set(7, later());
        let reader = {
            let (term, mailbox) = (term.clone(), mailbox.clone());
            thread::spawn(move || {
                let delivery = mailbox.take(None).unwrap().unwrap();
                assert_eq!(state_of(&delivery.event), State::Error);
                assert!(!term.is_leader() && term.token() == 0 && term.remaining() == 0);
                assert_eq!(term.state(), State::Error);
            })
        };
        lose(&mailbox);
        reader.join().unwrap();
    });
}

#[test]
fn nobody_leads_after_resigning_whatever_the_engine_writes() {
    check("bar", 3, || {
        let term = Arc::new(Term::new(Clock::Boottime));
        let engine = {
            let term = term.clone();
            thread::spawn(move || {
                term.set(7, later());
                term.set(7, later());
            })
        };
        term.bar();
        assert!(!term.is_leader() && term.token() == 0);
        let other = {
            let term = term.clone();
            thread::spawn(move || assert!(!term.is_leader()))
        };
        engine.join().unwrap();
        other.join().unwrap();
        assert!(!term.is_leader());
    });
}

#[test]
fn who_waits_for_leadership_hears_of_it_and_of_the_end() {
    check("wait_leader", 3, || {
        let term = Arc::new(Term::new(Clock::Boottime));
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                let term = term.clone();
                thread::spawn(move || term.wait_leader(FOR_EVER))
            })
            .collect();
        term.set(7, later());
        for waiter in waiters {
            waiter.join().unwrap().unwrap();
        }
        let waiter = {
            let term = term.clone();
            thread::spawn(move || term.wait_leader(FOR_EVER))
        };
        term.set(0, 0);
        term.tell(&status(State::Error));
        term.tell(&Status { reason: Code::LeaseRevoked, ..status(State::Closed) });
        let heard = waiter.join().unwrap();
        assert!(heard.is_ok_and(|()| true) || term.wait_leader(FOR_EVER).unwrap_err().code() == Code::LeaseRevoked);
    });
}

#[test]
fn who_waits_for_leadership_hears_of_a_resignation() {
    check("wait_leader, resigned", 3, || {
        let term = Arc::new(Term::new(Clock::Boottime));
        let waiter = {
            let term = term.clone();
            thread::spawn(move || term.wait_leader(FOR_EVER))
        };
        term.bar();
        term.wake();
        assert_eq!(waiter.join().unwrap().unwrap_err().code(), Code::Closed);
    });
}

#[test]
fn a_flag_wakes_who_waits() {
    check("flag", 3, || {
        let flag = Arc::new(Flag::default());
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                let flag = flag.clone();
                thread::spawn(move || assert!(flag.wait(FOR_EVER)))
            })
            .collect();
        flag.set();
        for waiter in waiters {
            waiter.join().unwrap();
        }
    });
}

// The mailbox.

#[test]
fn every_log_line_comes_to_its_handler() {
    check("log lines", 3, || {
        let mailbox = Arc::new(Mailbox::new(false).unwrap());
        assert!(mailbox.set_log_handler(Box::new(|_| {})).unwrap().is_none());
        let engine = {
            let mailbox = mailbox.clone();
            thread::spawn(move || {
                for _ in 0..2 {
                    mailbox.push_log(LogRecord { time_ns: 1, level: Level::Info, message: String::new() });
                    mailbox.announce();
                }
            })
        };
        for _ in 0..2 {
            let delivery = mailbox.take(None).unwrap().unwrap();
            assert!(delivery.handler.is_some());
            mailbox.give_back(delivery);
        }
        engine.join().unwrap();
    });
}

#[test]
fn no_loss_is_lost_and_the_end_comes_last() {
    check("mailbox", 2, || {
        let term = Arc::new(Term::new(Clock::Boottime));
        let mailbox = mailbox(true, &term);
        term.set(7, later());
        let engine = {
            let mailbox = mailbox.clone();
            thread::spawn(move || {
                mailbox.push_status(1, status(State::Leader));
                lose(&mailbox);
                mailbox.push_status(1, status(State::Closed));
                mailbox.end(1);
            })
        };
        let states: Vec<_> = read_all(&mailbox).iter().map(state_of).collect();
        let told = [State::Leader, State::Error, State::Closed];
        assert!(states == told || states == told[1..], "{states:?}");
        engine.join().unwrap();
        assert!(is_readable(&mailbox), "the end");
    });
}

#[test]
fn each_event_goes_to_one_of_two_readers_and_the_end_to_both() {
    check("two readers", 2, || {
        let term = Arc::new(Term::new(Clock::Boottime));
        let mailbox = mailbox(false, &term);
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let mailbox = mailbox.clone();
                thread::spawn(move || read_all(&mailbox).len())
            })
            .collect();
        mailbox.push_status(1, status(State::Follower));
        mailbox.push_status(1, status(State::Closed));
        mailbox.end(1);
        let read: usize = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
        assert_eq!(read, 2);
    });
}

#[test]
fn two_events_at_once_wake_two_readers() {
    check("two wake-ups", 2, || {
        let term = Arc::new(Term::new(Clock::Boottime));
        let mailbox = mailbox(false, &term);
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let mailbox = mailbox.clone();
                thread::spawn(move || assert!(mailbox.take(None).unwrap().is_some()))
            })
            .collect();
        mailbox.push_status(1, status(State::Follower));
        mailbox.push_status(1, status(State::Error));
        mailbox.announce();
        for reader in readers {
            reader.join().unwrap();
        }
    });
}

#[test]
fn the_descriptor_is_readable_exactly_while_there_is_something_to_read() {
    check("descriptor", 2, || {
        let term = Arc::new(Term::new(Clock::Boottime));
        let mailbox = mailbox(true, &term);
        let reader = {
            let mailbox = mailbox.clone();
            thread::spawn(move || mailbox.take(LOOK).unwrap().is_some())
        };
        mailbox.push_status(1, status(State::Follower));
        mailbox.push_status(1, status(State::Error));
        let mut left = 2 - usize::from(reader.join().unwrap());
        while left > 0 {
            assert!(is_readable(&mailbox), "{left} are left");
            assert!(mailbox.take(LOOK).unwrap().is_some());
            left -= 1;
        }
        assert!(!is_readable(&mailbox));
    });
}

#[test]
fn who_looks_on_while_the_service_ends_hears_its_end_or_is_refused() {
    check("late observer", 3, || {
        let mailbox = Arc::new(Mailbox::new(false).unwrap());
        let engine = {
            let mailbox = mailbox.clone();
            thread::spawn(move || mailbox.end(1))
        };
        let added = mailbox.add(2, "e".into(), None, None);
        engine.join().unwrap();
        let ends = read_all(&mailbox);
        match added.is_err() {
            true => assert!(ends.is_empty(), "{ends:?}"),
            false => assert!(matches!(&ends[..], [Event::Observation(2, Observation { closed: true, .. })])),
        }
    });
}

#[test]
fn events_that_make_room_and_readers_agree_on_who_is_unread() {
    check("making room", 2, || {
        let mailbox = Arc::new(Mailbox::new(false).unwrap());
        mailbox.add(2, "e".into(), None, None).unwrap();
        let engine = {
            let mailbox = mailbox.clone();
            thread::spawn(move || {
                for (sequence, closed) in [(1, false), (2, false), (3, true)] {
                    let last = Observation::last(sequence, 1, "e".into(), Code::Ok, "");
                    mailbox.push_observation(2, Observation { closed, ..last });
                }
                mailbox.end(1);
            })
        };
        let sequences: Vec<u64> = read_all(&mailbox)
            .iter()
            .map(|event| if let Event::Observation(_, told) = event { told.sequence } else { 0 })
            .collect();
        assert!(sequences.is_sorted_by(|a, b| a < b) && sequences.last() == Some(&3), "{sequences:?}");
        engine.join().unwrap();
    });
}

#[test]
fn a_handler_is_back_before_its_next_event() {
    check("handlers", 2, || {
        let mailbox = Arc::new(Mailbox::new(false).unwrap());
        let term = Arc::new(Term::new(Clock::Boottime));
        mailbox.add(1, "e".into(), Some(Box::new(|_: &Event| {})), Some(term)).unwrap();
        let engine = {
            let mailbox = mailbox.clone();
            thread::spawn(move || {
                mailbox.push_status(1, status(State::Follower));
                mailbox.push_status(1, status(State::Closed));
                mailbox.end(1);
            })
        };
        let mut told = 0;
        while let Ok(Some(mut delivery)) = mailbox.take(None) {
            delivery.handler.as_mut().unwrap()(&delivery.event);
            told += 1;
            mailbox.give_back(delivery);
        }
        assert_eq!(told, 2);
        engine.join().unwrap();
    });
}

// Commands and replies.

#[test]
fn whoever_asks_while_the_task_ends_gets_an_answer() {
    check("commands", 3, || {
        let (commands, mut received) = commands::channel();
        let commands = Arc::new(commands);
        let callers: Vec<_> = (0..2)
            .map(|_| {
                let commands = commands.clone();
                thread::spawn(move || {
                    let asked = commands.ask(|reply| Input::Resign { id: 1, reply: Some(reply) });
                    asked.and_then(|waiting| waiting.wait(None))
                })
            })
            .collect();
        let answered = match block_on(received.recv()) {
            Some(Command::Ask(_, sender, _)) => sender.send(Ok(Reply::Done)).is_ok(),
            _ => false,
        };
        block_on(received.end());
        let answers: Vec<_> = callers.into_iter().map(|caller| caller.join().unwrap()).collect();
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), usize::from(answered));
        let refused = answers.iter().filter_map(|answer| answer.as_ref().err());
        assert!(refused.into_iter().all(|error| error.code() == Code::Closed));
    });
}
