//! All that is waited for: a table from reasons to instants, so that the next wake-up is its minimum.

use std::collections::{BTreeSet, HashMap};

use super::{ReadId, SessionId};
use crate::clock::Nanos;
use crate::events::SubscriptionId;

/// When to …
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// … give a session up because its lease may have ended. Before anything else that is due.
    Deadline(SessionId),
    /// … end a term early for its `step_down_margin`.
    StepDown(SubscriptionId),
    /// … ask for a lease again, renew it, or ask again for its end.
    Session(SessionId),
    /// … stop asking for a lease's end: its time to live is over.
    LeaseOver(SessionId),
    /// … look again for a key that a lost join may have left behind.
    Graves(SessionId),
    /// … repeat a campaign's request, or stand again.
    Campaign(SubscriptionId),
    /// … withdraw a candidacy that was not elected.
    WaitLimit(SubscriptionId),
    /// … repeat a read.
    Read(ReadId),
    /// … give a read up.
    ReadLimit(ReadId),
    /// … open the watch stream again.
    WatchOpen,
    /// … ask the watch stream for a sign of life.
    Heartbeat,
    /// … repeat lists that failed.
    Lists,
    /// … send what waits for a free slot.
    Batch,
}

/// The table.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    order: BTreeSet<(Nanos, Timer)>,
    at: HashMap<Timer, Nanos>,
}

impl Timers {
    pub(crate) fn set(&mut self, timer: Timer, at: Nanos) {
        if let Some(before) = self.at.insert(timer, at) {
            self.order.remove(&(before, timer));
        }
        self.order.insert((at, timer));
    }

    /// Sets it unless it is due earlier already.
    pub(crate) fn set_earlier(&mut self, timer: Timer, at: Nanos) {
        if self.at.get(&timer).is_none_or(|&before| at < before) {
            self.set(timer, at);
        }
    }

    pub(crate) fn clear(&mut self, timer: Timer) {
        if let Some(at) = self.at.remove(&timer) {
            self.order.remove(&(at, timer));
        }
    }

    pub(crate) fn is_set(&self, timer: Timer) -> bool {
        self.at.contains_key(&timer)
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<Nanos> {
        self.order.first().map(|&(at, _)| at)
    }

    #[cfg(test)]
    pub(crate) fn pending(&self) -> impl Iterator<Item = Timer> {
        self.order.iter().map(|&(_, timer)| timer)
    }

    /// Takes the first that is due.
    pub(crate) fn due(&mut self, now: Nanos) -> Option<Timer> {
        let &(at, timer) = self.order.first()?;
        if at > now {
            return None;
        }
        self.clear(timer);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_come_in_order_once_each_and_can_be_moved() {
        let mut timers = Timers::default();
        timers.set(Timer::Heartbeat, 30);
        timers.set(Timer::Batch, 10);
        timers.set(Timer::WatchOpen, 20);
        timers.set(Timer::Batch, 40);
        timers.set_earlier(Timer::WatchOpen, 25);
        timers.clear(Timer::Heartbeat);
        assert_eq!(timers.next(), Some(20));
        assert_eq!(timers.due(19), None);
        assert_eq!(timers.due(50), Some(Timer::WatchOpen));
        assert_eq!(timers.due(50), Some(Timer::Batch));
        assert_eq!((timers.due(50), timers.next()), (None, None));
    }

    #[test]
    fn a_deadline_is_handled_before_what_else_is_due_at_its_instant() {
        let mut timers = Timers::default();
        timers.set(Timer::Session(1), 5);
        timers.set(Timer::Deadline(1), 5);
        assert_eq!(timers.due(5), Some(Timer::Deadline(1)));
    }
}
