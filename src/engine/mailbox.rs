//! The events of one service on their way to the program: bounded, in order for each campaign and observer, and never
//! losing a loss.
//!
//! Unread events make room for newer ones: an observation for the next, a LEADER for the end of its term, and of many
//! losses in a row the first that the program must hear and the latest. So a program that never reads costs a few
//! events for each campaign, and reads the truth when it does.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::term::Term;
use crate::clock::Nanos;
use crate::error::{Code, Error};
use crate::events::{Event, LogRecord, Observation, State, Status, SubscriptionId};
use crate::ffi::sys;
use crate::service::Handler;
use crate::store::Revision;
use crate::sync::{Condvar, Mutex, MutexGuard};

/// Unread events kept for one campaign: a loss to be heard, and the last ones.
const KEPT: usize = 4;

/// Room for so many campaigns with something unread is kept when all was read.
const SPARE: usize = 64;

/// Unread log lines kept; the oldest make room.
const KEPT_LOGS: usize = 256;

/// See the module.
pub(crate) struct Mailbox {
    queue: Mutex<Queue>,
    ready: Condvar,
    /// Readable while there is something to read; with events pulled only.
    descriptor: Option<File>,
}

#[derive(Default)]
struct Queue {
    subscriptions: HashMap<SubscriptionId, Subscription>,
    /// Who has something unread, each once; `None` for the log.
    order: VecDeque<Option<SubscriptionId>>,
    logs: VecDeque<LogRecord>,
    log_handler: Option<Handler>,
    ended: bool,
    /// Whoever waits is still to be woken.
    unannounced: bool,
}

struct Subscription {
    election: Arc<str>,
    unread: VecDeque<Event>,
    /// Out while it is being called.
    handler: Option<Handler>,
    /// A campaign's.
    term: Option<Arc<Term>>,
    /// An event of it is or was on its way to the program.
    is_heard: bool,
}

/// An event to deliver, with the handler to call, which goes back by [`Mailbox::give_back`].
pub(crate) struct Delivery {
    pub(crate) event: Event,
    pub(crate) handler: Option<Handler>,
}

impl Mailbox {
    /// A mailbox for pulling has a descriptor.
    pub(crate) fn new(pulled: bool) -> Result<Self, Error> {
        let descriptor = match pulled {
            true => {
                Some(sys::eventfd().map_err(|e| Error::new(Code::System, format!("no descriptor for events: {e}")))?)
            }
            false => None,
        };
        Ok(Mailbox { queue: Mutex::default(), ready: Condvar::new(), descriptor })
    }

    pub(crate) fn descriptor(&self) -> Option<RawFd> {
        self.descriptor.as_ref().map(File::as_raw_fd)
    }

    /// A campaign comes with its term, an observer without.
    ///
    /// # Errors
    /// [`Code::Closed`] when nothing will come any more.
    pub(crate) fn add(
        &self,
        id: SubscriptionId,
        election: Arc<str>,
        handler: Option<Handler>,
        term: Option<Arc<Term>>,
    ) -> Result<(), Error> {
        let subscription = Subscription { election, unread: VecDeque::new(), handler, term, is_heard: false };
        let mut queue = self.lock();
        if queue.ended {
            // The handler is dropped after the lock.
            return Err(Error::new(Code::Closed, "the service is closed"));
        }
        queue.subscriptions.insert(id, subscription);
        Ok(())
    }

    /// Takes a subscription back that never began. False: the program hears of it by its events, so it did.
    #[must_use]
    pub(crate) fn remove(&self, id: SubscriptionId) -> bool {
        let mut queue = self.lock();
        let is_unheard = queue.subscriptions.get(&id).is_some_and(|subscription| !subscription.is_heard);
        let removed = is_unheard.then(|| queue.subscriptions.remove(&id));
        drop(queue);
        // The handler is dropped here, outside the lock.
        removed.is_some()
    }

    /// Log lines made before, while the service opened, come first. The former handler is dropped by the caller.
    ///
    /// # Errors
    /// [`Code::Closed`] when nothing will come any more.
    pub(crate) fn set_log_handler(&self, handler: Handler) -> Result<Option<Handler>, Error> {
        let mut queue = self.lock();
        if queue.ended {
            // Nobody might be left to take it out again.
            return Err(Error::new(Code::Closed, "the service is closed"));
        }
        self.enqueue_logs(&mut queue);
        let former = queue.log_handler.replace(handler);
        drop(queue);
        self.announce();
        Ok(former)
    }

    /// Nothing will be delivered any more: the handler that has no last event of its own.
    pub(crate) fn take_log_handler(&self) -> Option<Handler> {
        self.lock().log_handler.take()
    }

    /// Nobody will pull any more: the handlers whose last event was not. They end in the caller's thread, since a
    /// mailbox may end in the engine's, which runs no code of the program's.
    pub(crate) fn take_handlers(&self) -> Vec<Handler> {
        self.lock().subscriptions.values_mut().filter_map(|subscription| subscription.handler.take()).collect()
    }

    /// A campaign leads with this token until then; 0, 0: not.
    pub(crate) fn lead(&self, id: SubscriptionId, token: Revision, until: Nanos) {
        let queue = self.lock();
        if let Some(term) = queue.subscriptions.get(&id).and_then(|subscription| subscription.term.as_ref()) {
            term.set(token, until);
        }
    }

    /// To be [`announce`](Self::announce)d, as what else is pushed.
    pub(crate) fn push_status(&self, id: SubscriptionId, status: Status) {
        self.push(id, Event::Status(id, status));
    }

    pub(crate) fn push_observation(&self, id: SubscriptionId, observation: Observation) {
        self.push(id, Event::Observation(id, observation));
    }

    fn push(&self, id: SubscriptionId, event: Event) {
        let mut queue = self.lock();
        let ended = queue.ended;
        let Some(subscription) = queue.subscriptions.get_mut(&id) else { return };
        if let (Some(term), Event::Status(_, status)) = (&subscription.term, &event) {
            term.tell(status);
        }
        if ended {
            return;
        }
        let was_empty = subscription.unread.is_empty();
        subscription.push(event);
        if was_empty {
            self.enqueue(&mut queue, Some(id));
        }
    }

    pub(crate) fn push_log(&self, record: LogRecord) {
        let mut queue = self.lock();
        if queue.ended {
            return;
        }
        let heard = self.descriptor.is_some() || queue.log_handler.is_some();
        if heard && queue.logs.is_empty() {
            self.enqueue(&mut queue, None);
        }
        queue.logs.push_back(record);
        if queue.logs.len() > KEPT_LOGS {
            queue.logs.pop_front();
        }
    }

    /// Wakes who waits for what was pushed. One of them is enough: who takes an event and leaves others wakes the next.
    /// Outside the lock, else the first that it does is to wait again.
    pub(crate) fn announce(&self) {
        let unannounced = std::mem::take(&mut self.lock().unannounced);
        if unannounced {
            self.ready.notify_one();
        }
    }

    /// Nothing more will come; what is unread can still be read. An observer whose last event is not among that was
    /// made while the service closed, and the engine never heard of it: its first event is its last. (A campaign's
    /// maker waits for the engine, and takes it back.)
    pub(crate) fn end(&self, now: Nanos) {
        let mut guard = self.lock();
        let queue = &mut *guard;
        queue.ended = true;
        for (&id, subscription) in &mut queue.subscriptions {
            let is_told = subscription.unread.back().is_some_and(Event::is_last);
            if subscription.term.is_some() || is_told {
                continue;
            }
            if subscription.unread.is_empty() {
                queue.order.push_back(Some(id));
            }
            let last = Observation::last(1, now, subscription.election.clone(), Code::Ok, "");
            subscription.push(Event::Observation(id, last));
        }
        self.signal();
        drop(guard);
        // Whoever waits, and not one of them only.
        self.ready.notify_all();
    }

    /// The next event to deliver; `None` when the time is over.
    ///
    /// # Errors
    /// [`Code::Closed`] when nothing will come any more.
    pub(crate) fn take(&self, timeout: Option<Duration>) -> Result<Option<Delivery>, Error> {
        #[allow(clippy::disallowed_methods, reason = "a thread that waits for events, not the engine")]
        let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut queue = self.lock();
        loop {
            if let Some(delivery) = queue.pop() {
                if !queue.order.is_empty() {
                    // There may be another waiter, and what is left may have come without a signal of its own.
                    self.ready.notify_one();
                } else if !queue.ended {
                    self.unsignal();
                }
                return Ok(Some(delivery));
            }
            if queue.ended {
                return Err(Error::new(Code::Closed, "the service is closed, and all its events were read"));
            }
            self.unsignal();
            queue = match until {
                None => self.ready.wait(queue).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    #[allow(clippy::disallowed_methods, reason = "a thread that waits for events, not the engine")]
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Ok(None);
                    }
                    self.ready.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// After a delivery: the handler waits for the next event, or is dropped after the last. Outside the lock: a
    /// handler's end may run the program's code.
    pub(crate) fn give_back(&self, delivery: Delivery) {
        // Where there is none, or of two threads that pull the other one has it, nothing goes back.
        let Delivery { event, handler: Some(handler) } = delivery else { return };
        let mut queue = self.lock();
        match event {
            Event::Status(id, _) | Event::Observation(id, _) => {
                if let Some(subscription) = queue.subscriptions.get_mut(&id) {
                    subscription.handler = Some(handler);
                    return;
                }
            }
            Event::Log(_) => {
                if queue.log_handler.is_none() {
                    queue.log_handler = Some(handler);
                    // Those of its time away.
                    self.enqueue_logs(&mut queue);
                    drop(queue);
                    return self.announce();
                }
            }
        }
        drop(queue);
        drop(handler);
    }

    /// The engine failed: every campaign and observer that is not closed yet.
    pub(crate) fn open_subscriptions(&self) -> Vec<(SubscriptionId, Arc<str>, Option<Arc<Term>>)> {
        let queue = self.lock();
        queue.subscriptions.iter().map(|(&id, s)| (id, s.election.clone(), s.term.clone())).collect()
    }

    /// Lines that were made while there was no handler.
    fn enqueue_logs(&self, queue: &mut MutexGuard<'_, Queue>) {
        if !queue.logs.is_empty() && !queue.order.contains(&None) {
            self.enqueue(queue, None);
        }
    }

    fn enqueue(&self, queue: &mut MutexGuard<'_, Queue>, who: Option<SubscriptionId>) {
        if queue.order.is_empty() {
            queue.unannounced = true;
            self.signal();
        }
        queue.order.push_back(who);
    }

    /// Under the lock, as `unsignal`: else they could overtake each other.
    fn signal(&self) {
        if let Some(mut descriptor) = self.descriptor.as_ref() {
            // Fails only when the count is at its maximum, and then it is readable.
            let _ = descriptor.write(&1u64.to_ne_bytes());
        }
    }

    fn unsignal(&self) {
        if let Some(mut descriptor) = self.descriptor.as_ref() {
            // Fails only when there was no signal.
            let _ = descriptor.read(&mut [0; 8]);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn pop(&mut self) -> Option<Delivery> {
        while let Some(next) = self.order.pop_front() {
            let delivery = match next {
                None => self.pop_log(),
                Some(id) => self.pop_event(id),
            };
            if self.order.is_empty() {
                self.order.shrink_to(SPARE);
            }
            if delivery.is_some() {
                return delivery;
            }
        }
        None
    }

    fn pop_log(&mut self) -> Option<Delivery> {
        let record = self.logs.pop_front()?;
        if !self.logs.is_empty() {
            self.order.push_back(None);
        }
        Some(Delivery { event: Event::Log(record), handler: self.log_handler.take() })
    }

    fn pop_event(&mut self, id: SubscriptionId) -> Option<Delivery> {
        let subscription = self.subscriptions.get_mut(&id)?;
        // A LEADER whose deadline passed unread, before the engine could take it back, is not told any more.
        let event = subscription.unread.pop_front().filter(|event| subscription.is_true(event));
        if subscription.unread.is_empty() {
            // Room for four events is more than all else that is kept for a campaign.
            subscription.unread = VecDeque::new();
        } else {
            self.order.push_back(Some(id));
        }
        let event = event?;
        subscription.is_heard = true;
        let handler = if event.is_last() {
            self.subscriptions.remove(&id).and_then(|subscription| subscription.handler)
        } else {
            subscription.handler.take()
        };
        Some(Delivery { event, handler })
    }
}

impl Subscription {
    fn push(&mut self, event: Event) {
        match event.state() {
            // Observations: the newest is all that counts.
            None => self.unread.clear(),
            Some(State::Leader) => {
                if self.unread.back().is_some_and(|last| last.state() == Some(State::Leader)) {
                    self.unread.pop_back();
                }
            }
            // The term ended before its beginning was read.
            Some(_) => self.unread.retain(|unread| unread.state() != Some(State::Leader)),
        }
        self.unread.push_back(event);
        // The first may be the loss of a LEADER that was read; those between were of terms that never were.
        while self.unread.len() > KEPT {
            self.unread.remove(1);
        }
    }

    fn is_true(&self, event: &Event) -> bool {
        event.state() != Some(State::Leader) || self.term.as_ref().is_none_or(|term| term.is_leader())
    }
}

impl Event {
    fn state(&self) -> Option<State> {
        match self {
            Event::Status(_, status) => Some(status.state),
            Event::Observation(..) | Event::Log(_) => None,
        }
    }

    fn is_last(&self) -> bool {
        match self {
            Event::Status(_, status) => status.state == State::Closed,
            Event::Observation(_, observation) => observation.closed,
            Event::Log(_) => false,
        }
    }
}
