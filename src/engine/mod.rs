//! What drives the election engine: the library's thread, one task for each service, the events' way out, and what
//! programs read without asking the task.

pub(crate) mod commands;
mod driver;
mod mailbox;
#[cfg(test)]
mod mailbox_tests;
#[cfg(test)]
#[cfg(model)]
mod models;
#[cfg(test)]
#[cfg(not(model))]
mod paused_tests;
mod runtime;
mod term;
#[cfg(test)]
mod term_tests;
mod timer;

use std::hash::{BuildHasher, RandomState};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

pub(crate) use mailbox::Mailbox;
pub(crate) use runtime::Runtime;
pub(crate) use term::Term;
pub(crate) use timer::Timer;

use crate::clock::{Clock, Nanos, nanos};
use crate::election::{Core, Settings, lease_over_after, time_to_live};
use crate::error::{Code, Error};
use crate::events::{Level, Observation, State, Status};
use crate::ffi::sys;
use crate::store::Store;
use crate::sync::{Condvar, Mutex, MutexGuard};
use commands::Received;
use driver::Driver;

/// Something that comes true once and can be waited for.
#[derive(Default)]
pub(crate) struct Flag {
    value: Mutex<bool>,
    changed: Condvar,
}

impl Flag {
    pub(crate) fn set(&self) {
        *self.lock() = true;
        self.changed.notify_all();
    }

    /// Whether it came true in time.
    pub(crate) fn wait(&self, timeout: Duration) -> bool {
        let value = self.lock();
        let (value, _) =
            self.changed.wait_timeout_while(value, timeout, |value| !*value).unwrap_or_else(PoisonError::into_inner);
        *value
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a service's task is made of.
pub(crate) struct Engine {
    pub(crate) settings: Settings,
    pub(crate) clock: Clock,
    /// Makes lease ids and jitter.
    pub(crate) seed: u64,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) log_level: Level,
    pub(crate) commands: Received,
    pub(crate) timer: Timer,
    /// Set when nothing of the service is left at the store.
    pub(crate) finished: Arc<Flag>,
}

impl Engine {
    /// Runs until the service is closed. A defect ends every campaign, and is reported.
    pub(crate) async fn run<S: Store>(mut self, store: S) {
        let ttl = nanos(self.settings.ttl);
        let core = Core::new(self.settings, self.seed, self.clock.now());
        let driver =
            Driver::new(store, core, self.clock, self.mailbox.clone(), self.log_level, &mut self.commands, self.timer);
        let longest_ttl_s = driver.longest_ttl_s.clone();
        let failure = match catch(driver.run()).await {
            Some(result) => result.err(),
            None => Some(Error::new(Code::Panic, "a defect in the library ended the service; please report it")),
        };
        self.commands.end().await;
        if let Some(error) = failure {
            give_up(&self.mailbox, self.clock.now(), &error);
            // Nobody is left to end the lease, so keys may be there until its time to live is over.
            let over = lease_over_after(time_to_live(longest_ttl_s.load(Ordering::Relaxed)).max(ttl));
            #[allow(clippy::disallowed_methods, reason = "the engine is gone, and its timer with it")]
            tokio::time::sleep(Duration::from_nanos(over.unsigned_abs())).await;
        }
        self.finished.set();
    }
}

/// Runs a future to its end; `None` if it panicked.
async fn catch<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|context| match std::panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(std::task::Poll::Ready(value)) => std::task::Poll::Ready(Some(value)),
        Ok(std::task::Poll::Pending) => std::task::Poll::Pending,
        Err(_) => std::task::Poll::Ready(None),
    })
    .await
}

/// The task is gone: nobody renews, so nobody leads. Everybody is told.
fn give_up(mailbox: &Mailbox, now: Nanos, error: &Error) {
    let (reason, message) = (error.code(), error.message().to_owned());
    for (id, election, term) in mailbox.open_subscriptions() {
        let Some(term) = term else {
            mailbox.push_observation(id, Observation::last(u64::MAX, now, election, reason, &message));
            continue;
        };
        term.bar();
        for (sequence, state) in [(u64::MAX - 1, State::Error), (u64::MAX, State::Closed)] {
            let status = Status {
                sequence,
                time_ns: now,
                state,
                at_risk: false,
                reason,
                message: message.clone(),
                election: election.clone(),
                value: [].into(),
                token: 0,
                cluster_id: 0,
                revision: 0,
                deadline_ns: 0,
            };
            mailbox.push_status(id, status);
        }
    }
    mailbox.end(now);
}

/// A seed that differs between processes and services: two that asked for the same leases would take each other's for
/// their own. The keys of the hash alone don't, since processes forked from one inherit them.
pub(crate) fn seed() -> u64 {
    RandomState::new().hash_one((std::process::id(), sys::boottime_ns()))
}
