//! Every order in which threads may pull events and learn whose they are; see `crate::sync`.

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use loom::thread;

use super::pull::Pull;
use super::subscriber::{Announcement, Subscriber, UserData};
use super::tests::status;
use crate::clock::Clock;
use crate::engine::{Mailbox, Term};
use crate::events::State;
use crate::sync::check;

unsafe extern "C" fn count(user_data: *mut c_void) {
    // SAFETY: each model passes a counter that it leaks.
    unsafe { &*user_data.cast::<AtomicUsize>() }.fetch_add(1, Ordering::Relaxed);
}

/// A subscriber without a function, and how often its user_data ended.
fn subscriber() -> (Arc<Subscriber>, &'static AtomicUsize) {
    let drops: &'static AtomicUsize = Box::leak(Box::default());
    let pointer = std::ptr::from_ref(drops).cast_mut().cast();
    (Subscriber::new(None, UserData::new(pointer, Some(count))), drops)
}

#[test]
fn an_event_finds_its_subscriber_and_the_handle_however_early_it_is_pulled() {
    check("pull", 2, || {
        let (pull, mailbox) = (Arc::new(Pull::default()), Arc::new(Mailbox::new(false).unwrap()));
        let pullers: Vec<_> = (0..2)
            .map(|_| {
                let (pull, mailbox) = (pull.clone(), mailbox.clone());
                thread::spawn(move || {
                    let mut pulled = 0;
                    let next = |timeout| {
                        Ok(mailbox.take(timeout)?.map(|delivery| {
                            let event = delivery.event.clone();
                            mailbox.give_back(delivery);
                            event
                        }))
                    };
                    while let Ok(Some((_, subscriber))) = pull.next(None, next) {
                        assert_eq!(subscriber.unwrap().handle(), 16);
                        pulled += 1;
                    }
                    pulled
                })
            })
            .collect();
        let (subscriber, drops) = subscriber();
        let announcement = Announcement::new(&subscriber);
        let term = Arc::new(Term::new(Clock::Boottime));
        let made = pull.subscribe(&subscriber, || {
            mailbox.add(7, "e".into(), None, Some(term))?;
            mailbox.push_status(7, status(State::Follower));
            mailbox.push_status(7, status(State::Closed));
            mailbox.end(1);
            Ok(((), 7))
        });
        made.unwrap();
        announcement.handle(std::ptr::without_provenance_mut::<u8>(16));
        drop((announcement, subscriber));
        let pulled: usize = pullers.into_iter().map(|puller| puller.join().unwrap()).sum();
        assert_eq!(pulled, 2);
        assert_eq!(drops.load(Ordering::Relaxed), 1, "after the last event");
    });
}

#[test]
fn a_handle_that_will_never_be_is_not_waited_for() {
    check("announcement", 3, || {
        let (subscriber, drops) = subscriber();
        let announcement = Announcement::new(&subscriber);
        let waiter = {
            let subscriber = subscriber.clone();
            thread::spawn(move || assert_eq!(subscriber.handle(), 0))
        };
        drop((announcement, subscriber));
        waiter.join().unwrap();
        assert_eq!(drops.load(Ordering::Relaxed), 1);
    });
}
