//! Pulled events: whose they are, and one puller at a time.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::subscriber::Subscriber;
use super::sys;
use crate::error::Error;
use crate::events::{Event, State, SubscriptionId};
use crate::sync::{Condvar, Mutex, MutexGuard};

/// A pulled event and its subscriber, if it has one.
pub(super) type Pulled = (Event, Option<Arc<Subscriber>>);

/// What a service with `events=pull` keeps.
#[derive(Default)]
pub(super) struct Pull {
    /// Held while a subscription is made, so that an event pulled meanwhile waits for its subscriber.
    subscribers: Mutex<HashMap<SubscriptionId, Arc<Subscriber>>>,
    /// Whether a thread is between asking for an event and knowing whose it is. One at a time, else a campaign's last
    /// event could take the subscriber away from an event that another thread has just pulled.
    is_busy: Mutex<bool>,
    free: Condvar,
}

/// The right to pull; given back when dropped.
struct Turn<'a>(&'a Pull);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.is_busy.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.0.free.notify_one();
    }
}

impl Pull {
    /// Makes a subscription with `make`, whose events then find `subscriber`.
    pub(super) fn subscribe<T>(
        &self,
        subscriber: &Arc<Subscriber>,
        make: impl FnOnce() -> Result<(T, SubscriptionId), Error>,
    ) -> Result<T, Error> {
        let mut subscribers = self.subscribers();
        let (made, id) = make()?;
        subscribers.insert(id, subscriber.clone());
        Ok(made)
    }

    /// The next event that `next` gives within the timeout (`None`: for ever).
    pub(super) fn next(
        &self,
        timeout: Option<Duration>,
        next: impl FnOnce(Option<Duration>) -> Result<Option<Event>, Error>,
    ) -> Result<Option<Pulled>, Error> {
        let start_ns = sys::boottime_ns();
        let Some(_turn) = self.turn(timeout) else { return Ok(None) };
        let waited = Duration::from_nanos((sys::boottime_ns() - start_ns).unsigned_abs());
        let event = next(timeout.map(|timeout| timeout.saturating_sub(waited)))?;
        Ok(event.map(|event| {
            let subscriber = self.subscriber_of(&event);
            (event, subscriber)
        }))
    }

    fn turn(&self, timeout: Option<Duration>) -> Option<Turn<'_>> {
        let is_busy = self.is_busy.lock().unwrap_or_else(PoisonError::into_inner);
        let mut is_busy = match timeout {
            None => self.free.wait_while(is_busy, |is_busy| *is_busy).unwrap_or_else(PoisonError::into_inner),
            Some(timeout) => {
                let waited = self.free.wait_timeout_while(is_busy, timeout, |is_busy| *is_busy);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        if *is_busy {
            return None;
        }
        *is_busy = true;
        Some(Turn(self))
    }

    /// Whose event this is. The last one of a subscription takes its subscriber along.
    fn subscriber_of(&self, event: &Event) -> Option<Arc<Subscriber>> {
        let (id, is_last) = match event {
            Event::Status(id, status) => (id, status.state == State::Closed),
            Event::Observation(id, observation) => (id, observation.closed),
            Event::Log(_) => return None,
        };
        let mut subscribers = self.subscribers();
        if is_last { subscribers.remove(id) } else { subscribers.get(id).cloned() }
    }

    fn subscribers(&self) -> MutexGuard<'_, HashMap<SubscriptionId, Arc<Subscriber>>> {
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::c_void;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;
    use crate::ffi::events::EventResult;
    use crate::ffi::subscriber::{Announcement, UserData};
    use crate::process;

    fn status(state: State) -> Event {
        Event::Status(7, super::super::tests::status(state))
    }

    unsafe extern "C" fn count(user_data: *mut c_void) {
        // SAFETY: the tests pass a counter that outlives the subscriber.
        unsafe { &*user_data.cast::<AtomicUsize>() }.fetch_add(1, Ordering::Relaxed);
    }

    #[test]
    fn user_data_lives_until_the_last_event_is_freed() {
        let drops = AtomicUsize::new(0);
        let user_data = std::ptr::from_ref(&drops).cast_mut().cast();
        let subscriber = Subscriber::new(None, UserData::new(user_data, Some(count)));
        drop(Announcement::new(&subscriber));
        let pull = Pull::default();
        pull.subscribe(&subscriber, || Ok(((), 7))).unwrap();
        drop(subscriber);

        let mut pulled = Vec::new();
        for state in [State::Follower, State::Closed] {
            let (event, subscriber) = pull.next(None, |_| Ok(Some(status(state)))).unwrap().unwrap();
            pulled.push(process::level().results.give(EventResult::new(&event, subscriber)));
        }
        for event in pulled {
            assert_eq!(drops.load(Ordering::Relaxed), 0);
            // SAFETY: not freed yet.
            assert_eq!(unsafe { (*event).user_data }, user_data);
            drop(process::level().results.take::<EventResult>(event));
        }
        assert_eq!(drops.load(Ordering::Relaxed), 1);
        assert!(pull.next(None, |_| Ok(Some(status(State::Follower)))).unwrap().unwrap().1.is_none());
    }

    #[test]
    fn a_second_puller_waits_its_turn_no_longer_than_its_timeout() {
        let pull = Pull::default();
        let (inside, wait_inside) = mpsc::channel();
        let (go, wait_go) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            let pull = &pull;
            let first = scope.spawn(move || {
                pull.next(None, |timeout| {
                    assert_eq!(timeout, None);
                    inside.send(()).unwrap();
                    wait_go.recv().unwrap();
                    Ok(Some(status(State::Follower)))
                })
            });
            wait_inside.recv().unwrap();
            let refused = pull.next(Some(Duration::from_millis(1)), |_| unreachable!());
            assert!(refused.unwrap().is_none());
            go.send(()).unwrap();
            let second = pull.next(Some(Duration::from_secs(60)), |timeout| {
                assert!(timeout.unwrap() <= Duration::from_secs(60));
                Ok(None)
            });
            assert!(second.unwrap().is_none());
            assert!(first.join().unwrap().unwrap().is_some());
        });
    }
}
