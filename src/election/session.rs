//! One session: a lease that is granted, kept alive, and ended for certain, and the deadline that follows from it.
//!
//! Deadline: the instant at which the last *acknowledged* grant or renewal was sent, plus the time to live that the
//! server gave, less 1 % for clock rates and a guard for being late ourselves. The server restarts the time to live
//! when it handles the request, which is later, so it can't end the lease before (Gray and Cheriton, "Leases", 1989).

use std::collections::{BTreeSet, HashMap};

use super::backoff::Backoff;
use super::{CallId, ReplyId};
use crate::clock::{MS, Nanos, SECOND};
use crate::events::SubscriptionId;
use crate::store::LeaseId;

/// Identifies a session within its service.
pub(crate) type SessionId = u64;

/// Keys per lease: etcd deletes all of them in one transaction when the lease ends, and does so quickly up to about
/// this number.
pub(crate) const MAX_MEMBERS: usize = 1000;

/// Taken off every deadline, for the time from the timer to the event.
const GUARD: Nanos = 50 * MS;

/// A server's time to live counts up to this, 73 years, so that no sum with it overflows.
const LONGEST: Nanos = Nanos::MAX / 4;

/// The longest pause between renewals, and between attempts that failed, whatever the time to live.
const MAX_RENEWAL: Nanos = 5 * SECOND;

/// How long a lease of this time to live may exist after it was last asked for or renewed: clock rates and the
/// server's own delays in its favour.
pub(crate) fn lease_over_after(ttl: Nanos) -> Nanos {
    ttl + ttl / 50 + SECOND
}

/// A time to live that a server gave, in s.
pub(crate) fn time_to_live(ttl_s: i64) -> Nanos {
    ttl_s.saturating_mul(SECOND).clamp(0, LONGEST)
}

/// What the session does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Asking for the lease.
    Granting,
    /// Held until the deadline.
    Alive,
    /// Given up; ending the lease until that is confirmed or its time to live is over.
    Ending,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) lease: LeaseId,
    pub(crate) phase: Phase,
    /// Time to live that the server gave.
    ttl: Nanos,
    /// Never falls while alive.
    pub(crate) deadline: Nanos,
    /// The request under way, with the instant it was sent.
    pub(crate) call: Option<(CallId, Nanos)>,
    /// An earlier grant was not answered: the lease may exist.
    pub(crate) grant_unknown: bool,
    /// When the last request that gives the lease time was sent, answered or not: until then plus the time to live
    /// the lease may exist.
    pub(crate) last_sent: Nanos,
    /// How long the last acknowledged request took.
    round_trip: Nanos,
    /// A renewal is overdue or in doubt.
    pub(crate) at_risk: bool,
    /// Something was noticed after the present request was sent: ask once more when it is answered.
    pub(crate) ask_again: bool,
    pub(crate) backoff: Backoff,
    /// Campaigns whose keys are or will be on the lease.
    pub(crate) members: BTreeSet<SubscriptionId>,
    /// The most that any member's leadership ends before the deadline.
    pub(crate) margin: Nanos,
    /// It takes no more members: a lost request of a former one may still arrive.
    pub(crate) tainted: bool,
    /// Keys that a lost join may yet create, and until when to look for them at least.
    pub(crate) graves: HashMap<Vec<u8>, Nanos>,
    /// Who left keys on it when it was given up.
    pub(crate) lost: BTreeSet<SubscriptionId>,
    /// To be told when it has ended, and for which campaign.
    pub(crate) waiters: Vec<(SubscriptionId, ReplyId)>,
    /// Another cluster answers than the one that granted it.
    pub(crate) foreign: bool,
    /// It was said that the lease is gone, without a word on which cluster says so. Until that is known nobody begins to
    /// lead on it, and a renewal's answer, which may be older, tells nothing of why a key went.
    pub(crate) missing: bool,
    /// The question for that word under way.
    pub(crate) verifying: Option<CallId>,
    /// The last failure, for messages.
    pub(crate) trouble: String,
}

impl Session {
    pub(crate) fn new(lease: LeaseId, ttl_asked: Nanos) -> Self {
        Session {
            lease,
            phase: Phase::Granting,
            ttl: ttl_asked,
            deadline: 0,
            call: None,
            grant_unknown: false,
            last_sent: 0,
            round_trip: 0,
            at_risk: false,
            ask_again: false,
            backoff: Backoff::new(20 * MS, (ttl_asked / 6).min(MAX_RENEWAL)),
            members: BTreeSet::new(),
            margin: 0,
            tainted: false,
            graves: HashMap::new(),
            lost: BTreeSet::new(),
            waiters: Vec::new(),
            foreign: false,
            missing: false,
            verifying: None,
            trouble: String::new(),
        }
    }

    /// A grant or renewal goes out.
    pub(crate) fn sent(&mut self, call: CallId, now: Nanos) {
        self.call = Some((call, now));
        self.last_sent = now;
    }

    /// The answer to a grant or renewal sent at `sent`. True if the lease is held, with time left.
    pub(crate) fn acknowledged(&mut self, sent: Nanos, ttl: Nanos, now: Nanos) -> bool {
        self.ttl = ttl;
        self.round_trip = now - sent;
        self.deadline = self.deadline.max(sent + ttl - ttl / 100 - GUARD);
        self.at_risk = false;
        self.backoff.reset();
        now < self.deadline
    }

    /// How long a renewal may take before it counts as lost: so that several fit into what remains, or a single one
    /// on a slow network, where the first on a connection takes two round trips.
    pub(crate) fn patience(&self, call_timeout: Nanos) -> Nanos {
        let usual = (self.ttl / 6).clamp(200 * MS, 2 * SECOND);
        usual.max((3 * self.round_trip).min(self.ttl / 3)).min(call_timeout)
    }

    /// The pause before the next renewal: half of what remains, so that one lost renewal leaves time for others, and
    /// a third of the time to live at most, so that a process that is stopped for half of it has the rest in hand.
    pub(crate) fn renewal_pause(&self, now: Nanos) -> Nanos {
        ((self.deadline - self.margin - now) / 2).clamp(MS, MAX_RENEWAL.min(self.ttl / 3).max(MS))
    }

    /// When the lease is certainly over at the server, too, though it may not have told.
    pub(crate) fn over_at(&self) -> Nanos {
        self.last_sent + lease_over_after(self.ttl)
    }

    /// How long a key may appear that a lost request creates.
    pub(crate) fn grave_until(&self, now: Nanos) -> Nanos {
        now + self.ttl.max(10 * SECOND)
    }

    /// A renewal was answered, or failed: whether that tells how it stands with the lease, since it was sent after all that
    /// was noticed.
    pub(crate) fn take_confirmation(&mut self) -> bool {
        !std::mem::take(&mut self.ask_again) && !self.missing
    }

    /// Alive, as far as anybody has said.
    pub(crate) fn is_held(&self) -> bool {
        self.phase == Phase::Alive && !self.missing
    }

    /// Room for one more member.
    pub(crate) fn is_open(&self) -> bool {
        self.phase != Phase::Ending && !self.tainted && !self.missing && self.members.len() < MAX_MEMBERS
    }

    /// The deadline as a member with this margin sees it.
    pub(crate) fn deadline_with(&self, margin: Nanos) -> Nanos {
        self.deadline - margin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alive() -> Session {
        let mut session = Session::new(7, 10 * SECOND);
        session.sent(1, 0);
        assert!(session.acknowledged(0, 10 * SECOND, 100 * MS));
        session.phase = Phase::Alive;
        session
    }

    #[test]
    fn the_deadline_counts_from_the_sending_and_ends_before_the_lease() {
        let session = alive();
        assert_eq!(session.deadline, 10 * SECOND - 100 * MS - GUARD);
    }

    #[test]
    fn an_answer_to_an_older_request_extends_nothing() {
        let mut session = alive();
        session.acknowledged(5 * SECOND, 10 * SECOND, 5 * SECOND);
        let deadline = session.deadline;
        session.acknowledged(2 * SECOND, 10 * SECOND, 6 * SECOND);
        assert_eq!(session.deadline, deadline);
    }

    #[test]
    fn an_answer_after_the_time_to_live_holds_nothing() {
        let mut session = Session::new(7, 2 * SECOND);
        assert!(!session.acknowledged(0, 2 * SECOND, 2 * SECOND));
    }

    #[test]
    fn renewals_are_at_half_of_what_remains_or_earlier_and_several_fit() {
        let session = alive();
        assert_eq!(session.renewal_pause(0), 10 * SECOND / 3);
        assert_eq!(session.renewal_pause(9 * SECOND), (session.deadline - 9 * SECOND) / 2);
        assert_eq!(session.renewal_pause(20 * SECOND), MS);
        let mut short = Session::new(7, 2 * SECOND);
        short.acknowledged(0, 2 * SECOND, 0);
        assert!(short.renewal_pause(0) + 2 * short.patience(5 * SECOND) < short.deadline);
    }

    #[test]
    fn renewals_have_more_time_on_a_slow_network_but_not_past_the_deadline() {
        let mut session = Session::new(7, 5 * SECOND);
        session.acknowledged(0, 5 * SECOND, 400 * MS);
        assert_eq!(session.patience(5 * SECOND), 1200 * MS);
        session.acknowledged(0, 5 * SECOND, 2 * SECOND);
        assert!(session.renewal_pause(0) + session.patience(5 * SECOND) < session.deadline);
        session.acknowledged(0, 5 * SECOND, 10 * MS);
        assert_eq!(session.patience(5 * SECOND), 5 * SECOND / 6);
    }

    #[test]
    fn a_long_time_to_live_is_renewed_no_more_often_than_every_five_seconds() {
        let mut session = Session::new(7, 60 * SECOND);
        session.acknowledged(0, 60 * SECOND, 0);
        assert_eq!(session.renewal_pause(0), 5 * SECOND);
    }

    #[test]
    fn a_late_request_is_waited_for_as_long_as_one_may_be_on_its_way_however_short_the_time_to_live() {
        assert_eq!(Session::new(7, 2 * SECOND).grave_until(SECOND), 11 * SECOND);
        assert_eq!(Session::new(7, 60 * SECOND).grave_until(SECOND), 61 * SECOND);
    }

    #[test]
    fn no_time_to_live_that_a_server_gives_overflows() {
        let now = 40_000_000 * SECOND;
        for ttl_s in [i64::MIN, -1, 0, 1, 9_000_000_000, i64::MAX] {
            let mut session = Session::new(7, 2 * SECOND);
            session.sent(1, now);
            assert_eq!(session.acknowledged(now, time_to_live(ttl_s), now + MS), ttl_s > 0);
            assert!(session.over_at() > session.deadline && session.grave_until(now) > now);
            assert!(session.patience(SECOND) > 0 && session.renewal_pause(now) > 0);
        }
    }

    #[test]
    fn a_granted_time_to_live_longer_than_asked_for_counts() {
        let mut session = Session::new(7, 2 * SECOND);
        session.acknowledged(0, 60 * SECOND, MS);
        assert!(
            session.deadline > 59 * SECOND && session.over_at() < session.deadline || session.over_at() > 60 * SECOND
        );
    }
}
