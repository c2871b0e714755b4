//! What a program asks of its campaign without waiting: shared by the engine, which writes, and any thread, which reads.

use std::sync::PoisonError;
use std::time::Duration;

use crate::clock::{Clock, Nanos};
use crate::error::{Code, Error};
use crate::events::{State, Status};
use crate::ffi::sys;
use crate::store::Revision;
use crate::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, Ordering};
use crate::sync::{Condvar, Mutex, MutexGuard};

/// One campaign's leadership.
#[derive(Debug)]
pub(crate) struct Term {
    clock: Clock,
    /// The process that campaigns; a forked child doesn't.
    depth: u32,
    /// Leadership is certain until then, unless barred; 0: not leading.
    until: AtomicI64,
    token: AtomicI64,
    /// Of the last event made, as its number.
    state: AtomicI32,
    /// Resigned or closed, by any thread: nothing leads any more, whatever the engine has yet to hear of it.
    barred: AtomicBool,
    told: Mutex<Told>,
    changed: Condvar,
}

/// The last event made, whether or not it was read.
#[derive(Debug)]
struct Told {
    state: State,
    /// The loss that closed the campaign.
    reason: Option<Box<Error>>,
    /// So many threads wait for leadership.
    waiting: u32,
}

impl Term {
    pub(crate) fn new(clock: Clock) -> Self {
        Term {
            clock,
            depth: sys::fork_depth(),
            until: AtomicI64::new(0),
            token: AtomicI64::new(0),
            state: AtomicI32::new(State::Follower as i32),
            barred: AtomicBool::new(false),
            told: Mutex::new(Told { state: State::Follower, reason: None, waiting: 0 }),
            changed: Condvar::new(),
        }
    }

    /// Two atomic reads, the fork counter and the clock.
    #[inline]
    pub(crate) fn is_leader(&self) -> bool {
        self.remaining() > 0
    }

    /// Nanoseconds for which leadership is certain.
    #[inline]
    pub(crate) fn remaining(&self) -> Nanos {
        let until = self.until.load(Ordering::Acquire);
        if until == 0 || self.barred.load(Ordering::Acquire) || self.is_foreign() {
            return 0;
        }
        (until - self.clock.now()).max(0)
    }

    /// The token while leading, else 0.
    pub(crate) fn token(&self) -> Revision {
        loop {
            let token = self.token.load(Ordering::Acquire);
            if !self.is_leader() {
                return 0;
            }
            // Else one term has ended and another begun between the two looks.
            if self.token.load(Ordering::Acquire) == token {
                return token;
            }
        }
    }

    /// Inherited through a fork.
    #[inline]
    pub(crate) fn is_foreign(&self) -> bool {
        self.depth != sys::fork_depth()
    }

    /// The engine: leading with this token until then; 0, 0: not leading.
    pub(crate) fn set(&self, token: Revision, until: Nanos) {
        if token == 0 {
            self.until.store(0, Ordering::Release);
            self.token.store(0, Ordering::Release);
        } else {
            self.token.store(token, Ordering::Release);
            self.until.store(until, Ordering::Release);
        }
        if token != 0 {
            self.wake();
        }
    }

    /// No leadership from now on, for ever.
    pub(crate) fn bar(&self) {
        self.barred.store(true, Ordering::Release);
        self.until.store(0, Ordering::Release);
    }

    pub(crate) fn is_barred(&self) -> bool {
        self.barred.load(Ordering::Acquire)
    }

    /// The engine: this event was made.
    pub(crate) fn tell(&self, status: &Status) {
        self.state.store(status.state as i32, Ordering::Release);
        let mut told = self.lock();
        told.state = status.state;
        if status.state == State::Closed && status.reason != Code::Ok {
            told.reason = Some(Box::new(Error::new(status.reason, status.message.clone())));
        }
        drop(told);
        self.wake();
    }

    /// The state; LEADER exactly while that is certain, whether or not its event was made yet. Never waits.
    pub(crate) fn state(&self) -> State {
        if self.is_leader() {
            return State::Leader;
        }
        let state = self.state.load(Ordering::Acquire);
        [State::Error, State::Closed].into_iter().find(|known| *known as i32 == state).unwrap_or(State::Follower)
    }

    /// Waits until this campaign leads, or has ended.
    pub(crate) fn wait_leader(&self, timeout: Duration) -> Result<(), Error> {
        let mut told = self.lock();
        told.waiting += 1;
        let unfinished = |told: &mut Told| !self.is_leader() && told.state != State::Closed && !self.is_barred();
        let (mut told, _) =
            self.changed.wait_timeout_while(told, timeout, unfinished).unwrap_or_else(PoisonError::into_inner);
        told.waiting -= 1;
        if self.is_leader() {
            return Ok(());
        }
        match (told.state, &told.reason) {
            (State::Closed, Some(reason)) => Err(Error::clone(reason)),
            (State::Closed, None) => Err(Error::new(Code::Closed, "the campaign is closed")),
            _ if self.is_barred() => Err(Error::new(Code::Closed, "the campaign was resigned")),
            _ => Err(Error::new(Code::Timeout, "not elected in time")),
        }
    }

    /// Wakes who waits in [`wait_leader`](Self::wait_leader), after a change.
    pub(crate) fn wake(&self) {
        let waiting = self.lock().waiting;
        if waiting > 0 {
            self.changed.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
