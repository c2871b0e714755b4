//! Driving sessions: granting, renewing and ending leases. What a session is, `session` says.

use std::collections::BTreeSet;

use super::session::{Phase, Session, SessionId, time_to_live};
use super::timers::Timer;
use super::{CallId, Core, PartPurpose, Purpose, Reply, Request, keys};
use crate::clock::{Nanos, SECOND, nanos};
use crate::error::{Code, Error};
use crate::events::{Level, SubscriptionId};
use crate::store::{Compare, Failure, LeaseState, Op, StoreError, Txn};

/// Between two looks for the key of a lost join.
const DIG_PAUSE: Nanos = SECOND;

impl Core {
    /// The session for a new candidacy: one with room, or a new one.
    pub(super) fn session_for(&mut self, campaign: SubscriptionId, margin: Nanos) -> SessionId {
        let open = self.sessions.iter().filter(|(_, session)| session.is_open()).map(|(&id, _)| id).min();
        let id = open.unwrap_or_else(|| self.new_session());
        if let Some(session) = self.sessions.get_mut(&id) {
            session.members.insert(campaign);
            session.margin = session.margin.max(margin);
        }
        id
    }

    fn new_session(&mut self) -> SessionId {
        let id = self.next_id();
        let lease = self.random.lease_id();
        self.sessions.insert(id, Session::new(lease, nanos(self.ttl)));
        self.send_grant(id);
        id
    }

    fn send_grant(&mut self, id: SessionId) {
        let Some(lease) = self.sessions.get(&id).map(|session| session.lease) else { return };
        let ttl_s = self.ttl.as_secs() as i64;
        let call = self.call(Purpose::Grant(id), Request::Grant { lease, ttl_s }, self.call_timeout);
        if let Some(session) = self.sessions.get_mut(&id) {
            session.sent(call, self.now);
        }
    }

    pub(super) fn granted(&mut self, id: SessionId, call: CallId, result: Result<LeaseState, StoreError>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some((_, sent)) = session.call.take_if(|(current, _)| *current == call) else { return };
        match result {
            Ok(state) => self.lease_held(id, sent, state),
            Err(error) => self.not_granted(id, &error),
        }
    }

    fn not_granted(&mut self, id: SessionId, error: &StoreError) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let exists = error.failure == Failure::LeaseExists;
        let may_be_held = session.grant_unknown || error.failure.is_unknown();
        // A definite answer, even one that leaves open what happened, doesn't arrive again later.
        session.grant_unknown |= error.failure.is_unknown() && error.failure.is_transient();
        session.trouble = error.message.clone();
        if session.phase == Phase::Ending {
            if may_be_held { self.send_revoke(id) } else { self.session_ended(id) }
        } else if exists && session.grant_unknown {
            // Our own earlier request was granted after all. Its instant is unknown: renew to have one.
            self.send_keep_alive(id);
        } else if exists {
            session.lease = self.random.lease_id();
            self.send_grant(id);
        } else if error.failure.is_transient() {
            let pause = session.backoff.pause(&mut self.random);
            self.timers.set(Timer::Session(id), self.now + pause);
            self.log(Level::Warn, format!("no lease yet: {error}"));
        } else {
            let members = std::mem::take(&mut session.members);
            if may_be_held {
                self.end_session(id, &error.message)
            } else {
                self.session_ended(id)
            }
            self.members_lost(members, &Error::from(error));
        }
    }

    /// A grant or renewal was acknowledged.
    fn lease_held(&mut self, id: SessionId, sent: Nanos, state: LeaseState) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.phase == Phase::Ending {
            self.send_revoke(id);
            return;
        }
        let was_at_risk = session.at_risk;
        let held = session.acknowledged(sent, time_to_live(state.ttl_s), self.now);
        if !held {
            self.replace_session(id, "the lease was granted too late to be of use");
            return;
        }
        let first = std::mem::replace(&mut session.phase, Phase::Alive) == Phase::Granting;
        let confirms = session.take_confirmation();
        let pause = if confirms { session.renewal_pause(self.now) } else { 0 };
        let members: Vec<SubscriptionId> = session.members.iter().copied().collect();
        let deadline = session.deadline;
        self.timers.set(Timer::Deadline(id), deadline);
        self.timers.set(Timer::Session(id), self.now + pause);
        for campaign in members {
            if first {
                self.session_ready(campaign);
            } else {
                self.session_renewed(campaign, was_at_risk, confirms);
            }
        }
    }

    /// Ends a session that never held anything; its members get another one.
    fn replace_session(&mut self, id: SessionId, reason: &str) {
        let members =
            self.sessions.get_mut(&id).map(|session| std::mem::take(&mut session.members)).unwrap_or_default();
        self.end_session(id, reason);
        for campaign in members {
            self.session_gone(campaign);
        }
    }

    /// The session's timer: what is due depends on what it does.
    pub(super) fn session_due(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get(&id) else { return };
        if session.call.is_some() || session.verifying.is_some() {
            return;
        }
        match session.phase {
            _ if session.missing => self.send_verify(id),
            Phase::Granting => self.send_grant(id),
            Phase::Alive => self.send_keep_alive(id),
            Phase::Ending => self.send_revoke(id),
        }
    }

    fn send_keep_alive(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get(&id) else { return };
        let (lease, timeout) = (session.lease, session.patience(self.call_timeout));
        let call = self.call(Purpose::KeepAlive(id), Request::KeepAlive(lease), timeout);
        if let Some(session) = self.sessions.get_mut(&id) {
            session.sent(call, self.now);
        }
    }

    pub(super) fn renewed(&mut self, id: SessionId, call: CallId, result: Result<LeaseState, StoreError>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some((_, sent)) = session.call.take_if(|(current, _)| *current == call) else { return };
        match result {
            Ok(state) => self.lease_held(id, sent, state),
            Err(_) if session.phase == Phase::Ending => self.send_revoke(id),
            Err(error) if error.failure == Failure::LeaseNotFound && session.phase == Phase::Granting => {
                self.replace_session(id, "the lease ended before it was of use");
            }
            Err(error) if error.failure == Failure::LeaseNotFound => self.lease_missing(id),
            Err(error) => {
                session.trouble = error.message.clone();
                // A grant is pending as long as nothing was acknowledged; asking for it again is the way on.
                let pause = session.backoff.pause(&mut self.random);
                self.timers.set(Timer::Session(id), self.now + pause);
                let confirms = session.take_confirmation();
                if session.phase == Phase::Alive {
                    self.log(Level::Warn, format!("the lease was not renewed: {error}"));
                    self.session_at_risk(id, &error.message);
                    if confirms {
                        self.deletions_confirmed(id);
                    }
                }
            }
        }
    }

    /// Members whose key is gone, and that waited to hear whether the lease is, too.
    fn deletions_confirmed(&mut self, id: SessionId) {
        let members: Vec<_> = self.sessions.get(&id).map(|s| s.members.iter().copied().collect()).unwrap_or_default();
        for campaign in members {
            self.deletion_confirmed(campaign);
        }
    }

    /// Asks for a renewal now; if one is under way, for another one after it.
    pub(super) fn ask_session(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.phase != Phase::Alive || session.missing {
            return;
        }
        if session.call.is_some() {
            session.ask_again = true;
        } else {
            self.timers.clear(Timer::Session(id));
            self.send_keep_alive(id);
        }
    }

    fn session_at_risk(&mut self, id: SessionId, reason: &str) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if !std::mem::replace(&mut session.at_risk, true) {
            let members: Vec<SubscriptionId> = session.members.iter().copied().collect();
            for campaign in members {
                self.campaign_at_risk(campaign, reason);
            }
        }
    }

    pub(super) fn doubt_sessions(&mut self, reason: &str) {
        let mut alive: Vec<SessionId> =
            self.sessions.iter().filter(|(_, s)| s.phase == Phase::Alive).map(|(&id, _)| id).collect();
        alive.sort_unstable();
        for id in alive {
            self.session_at_risk(id, reason);
            self.ask_session(id);
        }
    }

    /// The deadline has passed, reachable or not.
    pub(super) fn session_expired(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get(&id) else { return };
        let message = match session.trouble.as_str() {
            "" => "the lease was not renewed before its deadline".to_owned(),
            trouble => format!("the lease was not renewed before its deadline: {trouble}"),
        };
        self.lose_session(id, Code::SessionExpired, &message, true);
    }

    /// The store doesn't have the lease, says an answer without a header. Leadership ends here; whether it is the store
    /// that granted the lease is asked before anything is concluded: another cluster's word proves nothing.
    pub(super) fn lease_missing(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.missing = true;
        let members: Vec<SubscriptionId> = session.members.iter().copied().collect();
        let asked = session.verifying.is_some();
        for campaign in members {
            self.lease_lost(campaign);
        }
        if !asked {
            self.send_verify(id);
        }
    }

    fn send_verify(&mut self, id: SessionId) {
        let Some(patience) = self.sessions.get(&id).map(|session| session.patience(self.call_timeout)) else { return };
        let call = self.call(Purpose::Verify(id), Request::Txn(self.any_read()), patience);
        if let Some(session) = self.sessions.get_mut(&id) {
            session.verifying = Some(call);
        }
    }

    /// The answer came from the cluster that granted the lease, or there is none.
    pub(super) fn verified(&mut self, id: SessionId, call: CallId, result: Result<(), StoreError>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.verifying.take_if(|current| *current == call).is_none() {
            return;
        }
        match result {
            Err(error) if error.failure.is_transient() => {
                session.trouble = error.message;
                let pause = session.backoff.pause(&mut self.random);
                self.timers.set(Timer::Session(id), self.now + pause);
            }
            // Refused, it could not be asked; then what was said has to do.
            _ if session.phase == Phase::Ending => self.session_ended(id),
            _ => {
                let message = "the lease is gone: somebody revoked it, or etcd let it expire";
                self.lose_session(id, Code::LeaseRevoked, message, false);
            }
        }
    }

    /// Everything on this lease is lost. `may_live`: the lease may still be there, and with it our keys.
    pub(super) fn lose_session(&mut self, id: SessionId, code: Code, message: &str, may_live: bool) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.phase == Phase::Ending {
            return;
        }
        let members = std::mem::take(&mut session.members);
        session.lost = members.clone();
        self.log(Level::Error, message);
        if may_live {
            self.end_session(id, message);
        } else {
            self.session_ended(id);
        }
        self.members_lost(members, &Error::new(code, message));
    }

    fn members_lost(&mut self, members: BTreeSet<SubscriptionId>, error: &Error) {
        for campaign in members {
            self.session_lost(campaign, error);
        }
    }

    /// Gives the lease up and asks for its end until that is confirmed or its time is over.
    pub(super) fn end_session(&mut self, id: SessionId, reason: &str) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.phase == Phase::Ending {
            return;
        }
        session.phase = Phase::Ending;
        session.backoff.reset();
        session.graves.clear();
        let (asked, over_at) = (session.call.is_some(), session.over_at());
        self.log(Level::Info, format!("ending a lease: {reason}"));
        self.timers.clear(Timer::Deadline(id));
        self.timers.clear(Timer::Graves(id));
        self.timers.set(Timer::LeaseOver(id), over_at);
        // An end can overtake a grant that is under way and leave the lease behind: wait for that one's answer.
        // A renewal that arrives after the end does no harm.
        let granting = self.sessions.get(&id).is_some_and(|s| s.deadline == 0);
        if !(asked && granting) {
            if let Some(session) = self.sessions.get_mut(&id) {
                session.call = None;
            }
            self.send_revoke(id);
        }
    }

    /// Another cluster answers than the one that has the lease. Whether it is gone there can't be asked, so it counts
    /// as there until its time to live is over; in a restored store it may have begun anew, and is ended.
    pub(super) fn bereave_session(&mut self, id: SessionId, restored: bool, reason: &str) {
        let now = self.now;
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.lost.append(&mut session.members);
        session.grant_unknown |= session.call.take().is_some() && session.deadline == 0;
        if restored || !session.foreign {
            session.last_sent = now;
        }
        session.foreign |= !restored;
        session.missing = false;
        session.verifying = None;
        if session.phase != Phase::Ending {
            return self.end_session(id, reason);
        }
        let over_at = session.over_at();
        self.timers.clear(Timer::Session(id));
        self.timers.set(Timer::LeaseOver(id), over_at);
        self.send_revoke(id);
    }

    fn send_revoke(&mut self, id: SessionId) {
        let Some(lease) = self.sessions.get(&id).map(|session| session.lease) else { return };
        let call = self.call(Purpose::Revoke(id), Request::Revoke(lease), self.call_timeout);
        if let Some(session) = self.sessions.get_mut(&id) {
            // Not `sent`: this one gives the lease no time.
            session.call = Some((call, self.now));
        }
    }

    pub(super) fn revoked(&mut self, id: SessionId, call: CallId, result: Result<(), StoreError>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.call.take_if(|(current, _)| *current == call).is_none() {
            return;
        }
        // Where a grant was never answered it may arrive yet: look again until its time to live is over.
        let may_come = session.grant_unknown && session.deadline == 0;
        match result {
            // The word of a cluster that did not grant it; time is left to tell.
            Ok(()) if session.foreign => {}
            Err(error) if error.failure == Failure::LeaseNotFound && session.foreign => {}
            Ok(()) => self.session_ended(id),
            Err(error) if error.failure == Failure::LeaseNotFound && !may_come => self.lease_missing(id),
            Err(error) => {
                session.trouble = error.message.clone();
                let pause = session.backoff.pause(&mut self.random);
                self.timers.set(Timer::Session(id), self.now + pause);
                self.log(Level::Warn, format!("the lease's end is not confirmed yet: {error}"));
            }
        }
    }

    /// Its time to live is over: etcd has ended it, or will as soon as it can do anything.
    pub(super) fn session_over(&mut self, id: SessionId) {
        self.log(Level::Warn, "a lease's end could not be confirmed, but its time to live is over");
        self.session_ended(id);
    }

    fn session_ended(&mut self, id: SessionId) {
        self.clear_session_timers(id);
        let Some(session) = self.sessions.remove(&id) else { return };
        for (campaign, reply) in session.waiters {
            match self.ghost_of(campaign).and_then(|other| self.sessions.get_mut(&other)) {
                Some(other) => other.waiters.push((campaign, reply)),
                None => self.reply(reply, Ok(Reply::Done)),
            }
        }
        for campaign in session.members {
            self.session_gone(campaign);
        }
    }

    pub(super) fn clear_session_timers(&mut self, id: SessionId) {
        for timer in [Timer::Deadline(id), Timer::Session(id), Timer::LeaseOver(id), Timer::Graves(id)] {
            self.timers.clear(timer);
        }
    }

    /// A campaign has no key on this session any more.
    pub(super) fn leave_session(&mut self, id: SessionId, campaign: SubscriptionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.members.remove(&campaign);
        if session.tainted && session.members.is_empty() {
            self.end_session(id, "a lost request of a former candidate may still arrive");
        }
    }

    /// A session that still holds what a lost campaign left behind.
    pub(super) fn ghost_of(&self, campaign: SubscriptionId) -> Option<SessionId> {
        self.sessions.iter().filter(|(_, session)| session.lost.contains(&campaign)).map(|(&id, _)| id).max()
    }

    /// A withdrawn candidate's join was never answered and may arrive yet, after we saw that its key is gone: look
    /// again for a while, and let nobody new join on this lease, so that it ends with its present members.
    pub(super) fn bury(&mut self, id: SessionId, key: Vec<u8>) {
        let now = self.now;
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.tainted = true;
        let until = session.grave_until(now);
        session.graves.insert(key, until);
        self.timers.set_earlier(Timer::Graves(id), now + DIG_PAUSE);
    }

    pub(super) fn dig(&mut self, id: SessionId) {
        let now = self.now;
        let Some(session) = self.sessions.get(&id) else { return };
        let lease = session.lease;
        let keys: Vec<Vec<u8>> = session.graves.keys().cloned().collect();
        if !keys.is_empty() {
            self.timers.set(Timer::Graves(id), now + DIG_PAUSE);
        }
        for key in keys {
            let compares = vec![Compare::Lease(key.clone(), lease)];
            let purpose = PartPurpose::Grave { session: id, key: key.clone(), sent: now };
            self.submit(purpose, Txn { compares, then: vec![Op::Delete(key)], otherwise: vec![] });
        }
    }

    /// Found or not, it is looked for until the time is over: more than one join may have been lost. And on, until a look
    /// after that time is answered: those before may all have been refused.
    pub(super) fn dug(&mut self, id: SessionId, key: &[u8], sent: Nanos) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.graves.get(key).is_some_and(|until| sent >= *until) {
            session.graves.remove(key);
        }
    }

    /// The key of a candidate on this session.
    pub(super) fn own_key(&self, id: SessionId, election: &str) -> Option<Vec<u8>> {
        let lease = self.sessions.get(&id)?.lease;
        Some(keys::candidate(&self.keys.election(election), lease))
    }
}
