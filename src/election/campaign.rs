//! One candidacy: its states, its events, and the requests that join, proclaim and withdraw.
//!
//! Of the design's invariants these live here: LEADER only where the store showed the own key as the lowest at one
//! revision and the deadline is ahead (3); no LEADER once withdrawing has begun, and one loss event for each LEADER
//! (4); every way out goes through [`Core::remove_key`] and pursues the key until it is gone (5, 6).

mod proclaim;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::backoff::Backoff;
use super::mirror::Entry;
use super::session::{self, Session, SessionId};
use super::timers::Timer;
use super::{CallId, Candidacy, Core, Output, PartPurpose, Reply, ReplyId, keys};
use crate::clock::{MS, Nanos, SECOND, nanos};
use crate::error::{Code, Error};
use crate::events::{Level, State, Status, SubscriptionId};
use crate::store::{
    Compare, Failure, Header, KeyValue, LeaseId, Op, OpResult, Order, Range, Revision, StoreError, Txn, TxnResult,
    prefix_end,
};

/// The longest pause before standing again.
const MAX_REST: Nanos = 10 * SECOND;

/// A candidacy that lasted this long was a sound one: the next pause is the shortest again.
const SOUND: Nanos = 10 * SECOND;

/// What the candidacy waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// A lease.
    Session,
    /// The answer to its join.
    Joining(CallId),
    /// The next attempt to join.
    JoinPause,
    /// Its turn.
    Waiting,
    /// Nothing: it leads.
    Leading,
    /// Its key is gone; the session is asked whether the lease is, too, to name the right reason.
    Orphaned,
    /// The answer to its key's deletion.
    Withdrawing(CallId),
    /// The next attempt to delete its key.
    WithdrawPause,
    /// The end of the whole session, key included.
    SessionEnd,
    /// The time to stand again.
    Resting,
}

/// What comes when the key is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Close,
    Rest,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Campaign {
    candidacy: Candidacy,
    margin: Nanos,
    phase: Phase,
    /// Set once the way out has begun; from then on nothing leads.
    leaving: Option<After>,
    session: Option<SessionId>,
    /// Create revision of the own key; 0 while it isn't known to exist.
    token: Revision,
    /// A join was not answered and may still create the key.
    join_unknown: bool,
    /// The watch told of the own key's loss before the join's answer told of its creation.
    lost_at: Revision,
    /// It is its turn, but the deadline was too near: to be looked at after the next renewal.
    elected: bool,
    /// Why it was lost; CLOSED repeats it for who has not read the ERROR.
    loss: Option<Box<Error>>,
    at_risk: bool,
    sequence: u64,
    stood_at: Nanos,
    pause: Backoff,
    rest: Backoff,
    resigners: Vec<ReplyId>,
    /// Revision of the own key's last change that is known here.
    changed: Revision,
    proclaims: VecDeque<(Arc<[u8]>, Option<ReplyId>)>,
    proclaiming: Option<CallId>,
}

impl Campaign {
    fn new(candidacy: Candidacy) -> Self {
        Campaign {
            margin: nanos(candidacy.step_down_margin),
            candidacy,
            phase: Phase::Session,
            leaving: None,
            session: None,
            token: 0,
            join_unknown: false,
            lost_at: 0,
            elected: false,
            loss: None,
            at_risk: false,
            sequence: 0,
            stood_at: 0,
            pause: Backoff::new(20 * MS, 2 * SECOND),
            rest: Backoff::new(100 * MS, MAX_REST),
            resigners: Vec::new(),
            changed: 0,
            proclaims: VecDeque::new(),
            proclaiming: None,
        }
    }

    /// Create revision of its key; 0 while that isn't known to exist.
    pub(super) fn token(&self) -> Revision {
        self.token
    }

    pub(super) fn session(&self) -> Option<SessionId> {
        self.session
    }

    /// Its join is under way, or soon will be.
    pub(super) fn is_joining(&self) -> bool {
        matches!(self.phase, Phase::Session | Phase::Joining(_) | Phase::JoinPause)
    }

    /// Needs the whole queue: for a leader the word of its own key's deletion is enough.
    pub(super) fn needs_list(&self) -> bool {
        self.leaving.is_none() && self.phase == Phase::Waiting
    }

    pub(super) fn check(&self, id: SubscriptionId, now: Nanos, sessions: &HashMap<SessionId, Session>) {
        if self.phase == Phase::Leading {
            let session = self.session.and_then(|session| sessions.get(&session));
            let alive = session.is_some_and(|s| s.is_held() && now < s.deadline_with(self.margin));
            assert!(alive, "campaign {id} leads without a session");
            assert!(self.token > 0 && self.leaving.is_none(), "campaign {id} leads without a key or while leaving");
        }
        if self.phase != Phase::Resting && self.phase != Phase::Session && self.leaving.is_none() {
            let member = self.session.and_then(|s| sessions.get(&s)).is_some_and(|s| s.members.contains(&id));
            assert!(member, "campaign {id} in {:?} is no member of its session", self.phase);
        }
    }
}

impl Core {
    pub(super) fn campaign(&mut self, id: SubscriptionId, candidacy: Candidacy, reply: ReplyId) {
        if self.closing {
            return self.reply(reply, Err(Error::new(Code::Closed, "the service is closed")));
        }
        let election = candidacy.election.clone();
        if self.elections.get(&election).is_some_and(|election| election.campaign.is_some()) {
            let message =
                format!("election `{election}`: this service already stands in it; wait for that campaign's CLOSED");
            return self.reply(reply, Err(Error::new(Code::CampaignInProgress, message)));
        }
        self.reply(reply, Ok(Reply::Done));
        self.campaigns.insert(id, Box::new(Campaign::new(candidacy)));
        self.want(&election).campaign = Some(id);
        self.stand(id);
    }

    fn stand(&mut self, id: SubscriptionId) {
        self.status(id, State::Follower, Code::Ok, "");
        let Some(campaign) = self.campaigns.get_mut(&id) else { return };
        campaign.stood_at = self.now;
        campaign.leaving = None;
        campaign.token = 0;
        campaign.join_unknown = false;
        campaign.lost_at = 0;
        campaign.elected = false;
        campaign.loss = None;
        campaign.pause.reset();
        if let Some(limit) = campaign.candidacy.wait_limit {
            self.timers.set(Timer::WaitLimit(id), self.now + nanos(limit));
        }
        self.take_session(id);
    }

    fn take_session(&mut self, id: SubscriptionId) {
        let Some(campaign) = self.campaigns.get_mut(&id) else { return };
        campaign.phase = Phase::Session;
        let (election, margin) = (campaign.candidacy.election.clone(), campaign.margin);
        // What was watched from afar belonged to a former key.
        self.come_near(&election);
        let session = self.session_for(id, margin);
        if let Some(campaign) = self.campaigns.get_mut(&id) {
            campaign.session = Some(session);
        }
        if self.sessions.get(&session).is_some_and(|session| session.phase == session::Phase::Alive) {
            self.join(id);
        }
    }

    /// The session that it waited for has its lease.
    pub(super) fn session_ready(&mut self, id: SubscriptionId) {
        if self.campaigns.get(&id).is_some_and(|c| c.phase == Phase::Session && c.leaving.is_none()) {
            self.join(id);
        }
    }

    /// One round trip: create the own key unless it exists, and see who is first. Alone, this wins.
    fn join(&mut self, id: SubscriptionId) {
        let Some((election, session)) = self.place(id) else { return };
        let (Some(key), Some(lease)) = (self.own_key(session, &election), self.sessions.get(&session).map(|s| s.lease))
        else {
            return;
        };
        let Some(value) = self.campaigns.get(&id).map(|c| c.candidacy.value.to_vec()) else { return };
        let prefix = self.keys.election(&election);
        let first = Op::Range(Range {
            end: prefix_end(&prefix),
            key: prefix,
            limit: 1,
            order: Order::CreateRevision,
            keys_only: true,
            ..Range::default()
        });
        let own = Op::Range(Range { key: key.clone(), ..Range::default() });
        let txn = Txn {
            compares: vec![Compare::CreateRevision(key.clone(), 0)],
            then: vec![Op::Put { key, value, lease }, first.clone()],
            otherwise: vec![own, first],
        };
        let call = self.submit(PartPurpose::Join(id), txn);
        if let Some(campaign) = self.campaigns.get_mut(&id) {
            campaign.phase = Phase::Joining(call);
        }
    }

    pub(super) fn place(&self, id: SubscriptionId) -> Option<(Arc<str>, SessionId)> {
        let campaign = self.campaigns.get(&id)?;
        Some((campaign.candidacy.election.clone(), campaign.session?))
    }

    /// A part that was refused with others is to be sent again. Not a join whose candidate has lost its session since;
    /// and one that has perhaps been done takes a deletion to be taken back.
    pub(super) fn goes_again(&mut self, call: CallId, refused: Failure) -> bool {
        let Some(PartPurpose::Join(id)) = self.parts.get(&call) else { return true };
        let joining = self.campaigns.get_mut(id).filter(|campaign| campaign.phase == Phase::Joining(call));
        let Some(campaign) = joining else { return false };
        campaign.join_unknown |= refused.is_unknown();
        true
    }

    pub(super) fn joined(&mut self, id: SubscriptionId, call: CallId, result: Result<(Header, TxnResult), StoreError>) {
        let Some(campaign) = self.campaigns.get_mut(&id) else { return };
        if campaign.phase != Phase::Joining(call) {
            return;
        }
        match result {
            Ok((header, result)) => self.join_answered(id, header, result),
            Err(error) => {
                campaign.join_unknown |= error.failure.is_unknown();
                if campaign.leaving.is_some() {
                    self.remove_key(id);
                } else if error.failure.is_transient() {
                    campaign.phase = Phase::JoinPause;
                    let pause = campaign.pause.pause(&mut self.random);
                    self.timers.set(Timer::Campaign(id), self.now + pause);
                    self.log(Level::Warn, format!("not joined yet: {error}"));
                } else if error.failure == Failure::LeaseNotFound {
                    campaign.phase = Phase::Orphaned;
                    let Some(session) = campaign.session else { return };
                    self.lease_missing(session);
                } else {
                    self.lose(id, &Error::from(&error));
                }
            }
        }
    }

    fn join_answered(&mut self, id: SubscriptionId, header: Header, result: TxnResult) {
        let Some((election, session)) = self.place(id) else { return };
        let (Some(key), Some(lease)) = (self.own_key(session, &election), self.sessions.get(&session).map(|s| s.lease))
        else {
            return;
        };
        let created = result.succeeded;
        let mut ranges =
            result.results.into_iter().filter_map(|r| if let OpResult::Range(r) = r { Some(r) } else { None });
        let own: Option<KeyValue> =
            if created { None } else { ranges.next().and_then(|range| range.kvs.into_iter().next()) };
        let first = ranges.next().and_then(|range| range.kvs.into_iter().next());
        let Some(campaign) = self.campaigns.get_mut(&id) else { return };
        campaign.phase = Phase::Waiting;
        if created {
            campaign.token = header.revision;
            campaign.changed = header.revision;
        } else if let Some(own) = own.filter(|own| own.lease == lease) {
            campaign.token = own.create_revision;
            campaign.changed = own.mod_revision;
            if *own.value != *campaign.candidacy.value {
                let value = campaign.candidacy.value.clone();
                campaign.proclaims.push_back((value, None));
            }
        } else if campaign.leaving.is_some() {
            // It has told its loss, or was resigned, and will close.
            return self.remove_key(id);
        } else {
            // Ours alone is the lease; a key of its name on another one was put there by somebody.
            let message =
                format!("election `{election}`: a key named after our lease {lease:x} belongs to somebody else");
            return self.lose(id, &Error::new(Code::NameCollision, message));
        }
        let token = campaign.token;
        if campaign.leaving.is_some() {
            return self.remove_key(id);
        }
        if campaign.lost_at > token {
            return self.orphaned(id);
        }
        let known = self.elections.get(&election);
        let mirror = known.map(|election| &election.mirror);
        match first {
            // What is known since may be that the key is gone again, as may be what the watch came too late for.
            _ if mirror.is_some_and(|mirror| mirror.is_synced() && mirror.revision() >= header.revision) => {}
            _ if known.and_then(|election| election.watched).is_some_and(|from| from > header.revision) => {
                self.ensure_list(&election);
            }
            // By its name, since keys alone come without their lease.
            Some(first) if first.create_revision == token && first.key == key => self.lead(id, header.revision),
            Some(first) if self.is_nested(&election, &first.key) => self.collide(id, &first.key),
            _ => self.ensure_list(&election),
        }
        self.send_proclaim(id);
        self.check_candidate(&election);
    }

    fn is_nested(&self, election: &str, key: &[u8]) -> bool {
        key.strip_prefix(self.keys.election(election).as_slice()).is_some_and(|name| name.contains(&b'/'))
    }

    fn collide(&mut self, id: SubscriptionId, key: &[u8]) {
        let Some(campaign) = self.campaigns.get(&id) else { return };
        let message = format!(
            "election `{}`: the key `{}` belongs to another election nested inside; choose names of which none starts with another and a slash",
            campaign.candidacy.election,
            String::from_utf8_lossy(key)
        );
        self.lose(id, &Error::new(Code::NameCollision, message));
    }

    /// The mirror changed, or the candidate did: is it its turn, is its key still there?
    pub(super) fn check_candidate(&mut self, election: &str) {
        let Some(entry) = self.elections.get(election) else { return };
        let Some((id, campaign)) = entry.campaign.and_then(|id| Some((id, self.campaigns.get(&id)?))) else { return };
        let active = matches!(campaign.phase, Phase::Waiting | Phase::Leading) && campaign.leaving.is_none();
        let mirror = &entry.mirror;
        if !active || !mirror.is_synced() || mirror.revision() < campaign.token {
            return;
        }
        let Some(lease) = campaign.session.and_then(|s| self.sessions.get(&s)).map(|s| s.lease) else { return };
        let (revision, waiting) = (mirror.revision(), campaign.phase == Phase::Waiting);
        let own = keys::candidate(b"", lease);
        // A list doesn't say which lease a key is on. Whoever else has changed it may have put it on theirs.
        let changed = |first: &Entry| first.lease.is_none() && first.changed > campaign.changed;
        let first = mirror.leader().filter(|first| *first.name == *own && first.token == campaign.token);
        if campaign.proclaiming.is_none() && first.is_some_and(changed) {
            let election = campaign.candidacy.election.clone();
            return self.read_leader(&election);
        }
        match mirror.is_lowest(&own, campaign.token, lease) {
            None => self.orphaned(id),
            Some(_) if waiting && mirror.nested().is_some() => {
                let key = [self.keys.election(election).as_slice(), mirror.nested().unwrap_or_default()].concat();
                self.collide(id, &key);
            }
            Some(true) if waiting => self.lead(id, revision),
            // Tokens only grow, so nobody can come before a leader in one history of the store.
            Some(false) if !waiting => {
                let message = format!("election `{election}`: a lower candidate appeared below the leader");
                self.lose(id, &Error::new(Code::Internal, message));
            }
            Some(_) => {}
        }
    }

    /// The queue may not be seen any more. Who waits in it would never learn of its turn, and hold up all behind it.
    pub(super) fn may_not_look(&mut self, election: &str, error: &StoreError) {
        let campaign = self.elections.get(election).and_then(|election| election.campaign);
        if let Some(id) = campaign.filter(|id| self.campaigns.get(id).is_some_and(|campaign| campaign.needs_list())) {
            self.lose(id, &Error::from(error));
        }
    }

    /// The watch says which lease a key is on now (0: deleted, or on none), whether or not the mirror is whole.
    pub(super) fn key_changed(&mut self, election: &str, name: &[u8], on: LeaseId, revision: Revision) {
        let Some(id) = self.elections.get(election).and_then(|election| election.campaign) else { return };
        let Some(campaign) = self.campaigns.get_mut(&id) else { return };
        let Some(lease) = campaign.session.and_then(|s| self.sessions.get(&s)).map(|s| s.lease) else { return };
        let lost = on != lease && revision > campaign.token && campaign.leaving.is_none();
        if !lost || keys::candidate(b"", lease) != name {
            return;
        }
        match campaign.phase {
            Phase::Waiting | Phase::Leading => self.orphaned(id),
            Phase::Joining(_) => campaign.lost_at = revision,
            _ => {}
        }
    }

    /// The own key is gone. Leadership ends here; the event waits for the session's word on the reason.
    fn orphaned(&mut self, id: SubscriptionId) {
        self.unlead(id);
        let Some(campaign) = self.campaigns.get_mut(&id) else { return };
        campaign.phase = Phase::Orphaned;
        if let Some(session) = campaign.session {
            self.ask_session(session);
        }
    }

    /// Its lease is gone, and with it the key.
    pub(super) fn lease_lost(&mut self, id: SubscriptionId) {
        self.unlead(id);
        if let Some(campaign) = self.campaigns.get_mut(&id)
            && campaign.phase == Phase::Waiting
        {
            campaign.phase = Phase::Orphaned;
        }
    }

    /// The lease is alive or can't be asked: it was the key alone.
    pub(super) fn deletion_confirmed(&mut self, id: SubscriptionId) {
        let Some(campaign) = self.campaigns.get(&id) else { return };
        if campaign.phase == Phase::Orphaned && campaign.leaving.is_none() {
            let message = format!(
                "election `{}`: somebody deleted this candidate's key, or took it over",
                campaign.candidacy.election
            );
            self.lose(id, &Error::new(Code::KeyDeleted, message));
        }
    }

    /// Proved at `revision`: the own key exists and is the lowest. The deadline decides whether that is still of use.
    fn lead(&mut self, id: SubscriptionId, revision: Revision) {
        let now = self.now;
        let Some(campaign) = self.campaigns.get_mut(&id) else { return };
        let session = campaign.session.and_then(|session| self.sessions.get(&session));
        let Some(session) = session.filter(|session| session.is_held()) else { return };
        let until = session.deadline_with(campaign.margin);
        campaign.elected = now >= until;
        if campaign.elected || campaign.leaving.is_some() || campaign.token == 0 {
            return;
        }
        campaign.phase = Phase::Leading;
        campaign.at_risk = session.at_risk && campaign.candidacy.at_risk;
        let token = campaign.token;
        self.timers.clear(Timer::WaitLimit(id));
        self.emit(Output::Lead { id, token, until });
        self.status_at(id, State::Leader, Code::Ok, "", revision);
        self.set_step_down(id, until);
    }

    /// For a margin only; without one the session's own deadline ends the term.
    fn set_step_down(&mut self, id: SubscriptionId, until: Nanos) {
        if self.campaigns.get(&id).is_some_and(|campaign| campaign.margin > 0) {
            self.timers.set(Timer::StepDown(id), until);
        }
    }

    /// Leadership ends now; the event is the caller's to choose.
    fn unlead(&mut self, id: SubscriptionId) {
        let Some(campaign) = self.campaigns.get_mut(&id) else { return };
        campaign.elected = false;
        campaign.at_risk = false;
        if campaign.phase == Phase::Leading {
            campaign.phase = Phase::Waiting;
            self.timers.clear(Timer::StepDown(id));
            self.emit(Output::Lead { id, token: 0, until: 0 });
        }
    }

    pub(super) fn step_down(&mut self, id: SubscriptionId) {
        if self.campaigns.get(&id).is_some_and(|campaign| campaign.phase == Phase::Leading) {
            let message = "the lease was not renewed before the deadline, less the step_down_margin";
            self.lose(id, &Error::new(Code::SessionExpired, message));
        }
    }

    /// The session's deadline moved. `confirms`: the answer was to a question asked after what was noticed.
    pub(super) fn session_renewed(&mut self, id: SubscriptionId, was_at_risk: bool, confirms: bool) {
        let Some(campaign) = self.campaigns.get(&id) else { return };
        let Some(session) = campaign.session.and_then(|session| self.sessions.get(&session)) else { return };
        let (until, token) = (session.deadline_with(campaign.margin), campaign.token);
        match campaign.phase {
            Phase::Leading => {
                self.emit(Output::Lead { id, token, until });
                self.set_step_down(id, until);
                if was_at_risk {
                    self.risk_passed(id);
                }
            }
            Phase::Orphaned if confirms => self.deletion_confirmed(id),
            Phase::Waiting if campaign.elected => {
                let election = campaign.candidacy.election.clone();
                self.check_candidate(&election);
                // The join's own answer had proved it: without a whole mirror, ask again.
                self.ensure_list(&election);
            }
            _ => {}
        }
    }

    fn risk_passed(&mut self, id: SubscriptionId) {
        let Some(campaign) = self.campaigns.get_mut(&id) else { return };
        if std::mem::take(&mut campaign.at_risk) {
            self.status(id, State::Leader, Code::Ok, "");
        }
    }

    pub(super) fn campaign_at_risk(&mut self, id: SubscriptionId, reason: &str) {
        let Some(campaign) = self.campaigns.get_mut(&id) else { return };
        if campaign.phase == Phase::Leading && campaign.candidacy.at_risk && !campaign.at_risk {
            campaign.at_risk = true;
            self.status(id, State::Leader, Code::Unavailable, reason);
        }
    }

    /// The candidacy fails while its key may be there: tell, remove the key, then close or stand again.
    fn lose(&mut self, id: SubscriptionId, error: &Error) {
        self.unlead(id);
        self.fail_proclaims(id, error);
        self.status(id, State::Error, error.code(), error.message());
        let Some(campaign) = self.campaigns.get_mut(&id) else { return };
        let again = campaign.candidacy.rejoin && error.code() != Code::WaitLimit;
        campaign.loss = Some(Box::new(error.clone()));
        campaign.leaving = Some(if again { After::Rest } else { After::Close });
        self.remove_key(id);
    }

    /// Its session was lost, and with it the key, now or when the session has ended.
    pub(super) fn session_lost(&mut self, id: SubscriptionId, error: &Error) {
        let Some(campaign) = self.campaigns.get_mut(&id) else { return };
        if campaign.leaving.is_some() {
            return self.wait_for_session_end(id);
        }
        campaign.session = None;
        campaign.token = 0;
        campaign.join_unknown = false;
        campaign.loss = Some(Box::new(error.clone()));
        let rejoin = campaign.candidacy.rejoin;
        self.unlead(id);
        self.fail_proclaims(id, error);
        self.status(id, State::Error, error.code(), error.message());
        if rejoin { self.rest(id) } else { self.finish(id) }
    }

    /// The store is another one now, and what this candidate had in the former is out of reach.
    pub(super) fn cluster_lost(&mut self, id: SubscriptionId, what: &str) {
        let Some(campaign) = self.campaigns.get_mut(&id) else { return };
        if campaign.phase == Phase::Resting {
            // Its loss was told, and what it may have left there is its former session's.
            return;
        }
        match campaign.leaving {
            Some(After::Rest) => {
                campaign.session = None;
                self.key_gone(id);
            }
            Some(After::Close) => {
                // A revision of the former store: no observer of this one waits for it.
                campaign.token = 0;
                self.wait_for_session_end(id);
            }
            None => self.session_lost(id, &Error::new(Code::ClusterChanged, what)),
        }
    }

    /// The session is no more: for who was leaving, the key isn't either; the others take another one.
    pub(super) fn session_gone(&mut self, id: SubscriptionId) {
        let Some(campaign) = self.campaigns.get_mut(&id) else { return };
        campaign.session = None;
        if campaign.leaving.is_some() { self.key_gone(id) } else { self.take_session(id) }
    }

    fn wait_for_session_end(&mut self, id: SubscriptionId) {
        let Some(campaign) = self.campaigns.get_mut(&id) else { return };
        campaign.phase = Phase::SessionEnd;
        self.timers.clear(Timer::Campaign(id));
        match campaign.session.and_then(|session| self.sessions.get_mut(&session)) {
            Some(session) => {
                session.members.insert(id);
            }
            None => self.session_gone(id),
        }
    }

    pub(super) fn wait_limit(&mut self, id: SubscriptionId) {
        let Some(campaign) = self.campaigns.get(&id) else { return };
        if campaign.phase != Phase::Leading && campaign.leaving.is_none() {
            let message = format!(
                "election `{}`: not elected within the wait limit of {:?}",
                campaign.candidacy.election,
                campaign.candidacy.wait_limit.unwrap_or_default()
            );
            self.lose(id, &Error::new(Code::WaitLimit, message));
        }
    }

    pub(super) fn resign(&mut self, id: SubscriptionId, reply: Option<ReplyId>) {
        let Some(campaign) = self.campaigns.get_mut(&id) else {
            // Closed; after a loss its lease may still be on its way out.
            let ghost = self.ghost_of(id).and_then(|session| self.sessions.get_mut(&session));
            match (ghost, reply) {
                (Some(session), Some(reply)) => session.waiters.push((id, reply)),
                (None, Some(reply)) => self.reply(reply, Ok(Reply::Done)),
                (_, None) => {}
            }
            return;
        };
        campaign.resigners.extend(reply);
        if campaign.leaving == Some(After::Close) {
            return;
        }
        let was_leaving = campaign.leaving.replace(After::Close).is_some();
        campaign.loss = None;
        self.timers.clear(Timer::WaitLimit(id));
        self.unlead(id);
        self.fail_proclaims(id, &Error::new(Code::NotLeader, "the campaign was resigned"));
        self.status(id, State::Follower, Code::Ok, "");
        let Some(campaign) = self.campaigns.get_mut(&id) else { return };
        match campaign.phase {
            // The way out was begun by a loss; it just ends differently now.
            _ if was_leaving && campaign.phase != Phase::Resting => {}
            Phase::Resting => self.key_gone(id),
            Phase::Joining(call) if self.batch.cancel(call) => {
                self.parts.remove(&call);
                self.remove_key(id);
            }
            Phase::Joining(_) => {}
            _ => self.remove_key(id),
        }
    }

    /// Else a program that asks again and again while etcd is away would leave a waiter behind each time.
    pub(super) fn forget(&mut self, id: SubscriptionId, reply: ReplyId) {
        if let Some(campaign) = self.campaigns.get_mut(&id) {
            campaign.resigners.retain(|waiter| *waiter != reply);
            for (_, waiter) in &mut campaign.proclaims {
                waiter.take_if(|waiter| *waiter == reply);
            }
        }
        for session in self.sessions.values_mut() {
            session.waiters.retain(|(_, waiter)| *waiter != reply);
        }
    }

    /// The one way out: deletes the key if it may exist, and goes on trying until that is confirmed.
    fn remove_key(&mut self, id: SubscriptionId) {
        let Some((election, session_id)) = self.place(id) else { return self.key_gone(id) };
        self.timers.clear(Timer::Campaign(id));
        let Some(campaign) = self.campaigns.get_mut(&id) else { return };
        let Some(session) = self.sessions.get(&session_id) else { return self.key_gone(id) };
        if let Phase::Joining(call) = campaign.phase
            && self.parts.contains_key(&call)
        {
            // A deletion could overtake the join: its answer comes first.
            return;
        }
        if campaign.token == 0 && !campaign.join_unknown {
            return self.key_gone(id);
        }
        if session.phase == session::Phase::Ending {
            return self.wait_for_session_end(id);
        }
        if campaign.join_unknown && session.members.len() == 1 {
            // A join may arrive after any deletion; without the lease it can't do anything.
            campaign.phase = Phase::SessionEnd;
            return self.end_session(session_id, "a join was never answered");
        }
        let key = keys::candidate(&self.keys.election(&election), session.lease);
        let ours = match campaign.token {
            0 => Compare::Lease(key.clone(), session.lease),
            token => Compare::CreateRevision(key.clone(), token),
        };
        let txn = Txn { compares: vec![ours], then: vec![Op::Delete(key)], otherwise: vec![] };
        let call = self.submit(PartPurpose::Withdraw(id), txn);
        if let Some(campaign) = self.campaigns.get_mut(&id) {
            campaign.phase = Phase::Withdrawing(call);
        }
    }

    pub(super) fn withdrawn(
        &mut self,
        id: SubscriptionId,
        call: CallId,
        result: Result<(Header, TxnResult), StoreError>,
    ) {
        let Some((election, session)) = self.place(id) else { return };
        let Some(campaign) = self.campaigns.get_mut(&id) else { return };
        if campaign.phase != Phase::Withdrawing(call) {
            return;
        }
        match result {
            // Deleted, or not there: either way etcd has confirmed that it is gone.
            Ok(_) => {
                if campaign.join_unknown
                    && let Some(key) = self.own_key(session, &election)
                {
                    self.bury(session, key);
                }
                self.key_gone(id);
            }
            Err(error) if error.failure.is_transient() => {
                campaign.phase = Phase::WithdrawPause;
                let pause = campaign.pause.pause(&mut self.random);
                self.timers.set(Timer::Campaign(id), self.now + pause);
                self.log(Level::Warn, format!("the key's deletion is not confirmed yet: {error}"));
            }
            Err(error) => {
                // We may not delete it, so only the lease's end can; a session is not worth a ghost leader.
                let message = format!("a key could not be deleted, so its lease is ended: {error}");
                self.lose_session(session, Error::from(&error).code(), &message, true);
            }
        }
    }

    /// Nothing of the present candidacy is left at the store. What a former one left there must be gone, too, before
    /// the campaign is closed.
    fn key_gone(&mut self, id: SubscriptionId) {
        let ghost = self.ghost_of(id);
        let Some(campaign) = self.campaigns.get_mut(&id) else { return };
        campaign.token = 0;
        campaign.join_unknown = false;
        let session = campaign.session.take();
        let after = campaign.leaving;
        if let Some(session) = session {
            self.leave_session(session, id);
        }
        match (after, ghost) {
            (Some(After::Rest), _) => self.rest(id),
            (_, None) => self.finish(id),
            (_, ghost) => {
                if let Some(campaign) = self.campaigns.get_mut(&id) {
                    campaign.session = ghost;
                }
                self.wait_for_session_end(id);
            }
        }
    }

    fn rest(&mut self, id: SubscriptionId) {
        let now = self.now;
        let Some(campaign) = self.campaigns.get_mut(&id) else { return };
        if now - campaign.stood_at > SOUND {
            campaign.rest.reset();
        }
        campaign.phase = Phase::Resting;
        let pause = campaign.rest.pause(&mut self.random);
        self.timers.clear(Timer::WaitLimit(id));
        self.timers.set(Timer::Campaign(id), now + pause);
    }

    /// The campaign's timer: the pause that it was in is over.
    pub(super) fn campaign_due(&mut self, id: SubscriptionId) {
        match self.campaigns.get(&id).map(|campaign| campaign.phase) {
            Some(Phase::JoinPause) => self.join(id),
            Some(Phase::WithdrawPause) => self.remove_key(id),
            Some(Phase::Resting) => self.stand(id),
            Some(Phase::Waiting | Phase::Leading) => self.send_proclaim(id),
            _ => {}
        }
    }

    /// The last event, and nothing is kept.
    fn finish(&mut self, id: SubscriptionId) {
        match self.campaigns.get(&id).and_then(|campaign| campaign.loss.clone()) {
            Some(loss) => self.status(id, State::Closed, loss.code(), loss.message()),
            None => self.status(id, State::Closed, Code::Ok, ""),
        }
        for timer in [Timer::Campaign(id), Timer::WaitLimit(id), Timer::StepDown(id)] {
            self.timers.clear(timer);
        }
        let Some(campaign) = self.campaigns.remove(&id) else { return };
        for reply in campaign.resigners {
            self.reply(reply, Ok(Reply::Done));
        }
        if let Some(election) = self.elections.get_mut(&campaign.candidacy.election) {
            election.campaign = None;
        }
        self.unwant(&campaign.candidacy.election);
    }

    /// The service closes: its sessions' ends take the keys with them.
    pub(super) fn close_campaign(&mut self, id: SubscriptionId) {
        self.unlead(id);
        self.fail_proclaims(id, &Error::new(Code::Closed, "the service was closed"));
        let Some(campaign) = self.campaigns.get_mut(&id) else { return };
        let resigners = std::mem::take(&mut campaign.resigners);
        campaign.loss = None;
        match campaign.session.and_then(|session| self.sessions.get_mut(&session)) {
            Some(session) => {
                session.waiters.extend(resigners.into_iter().map(|reply| (id, reply)));
                session.lost.insert(id);
            }
            None => resigners.into_iter().for_each(|reply| self.out.push(Output::Reply(reply, Ok(Reply::Done)))),
        }
        self.finish(id);
    }

    fn status(&mut self, id: SubscriptionId, state: State, reason: Code, message: &str) {
        self.status_at(id, state, reason, message, 0);
    }

    fn status_at(&mut self, id: SubscriptionId, state: State, reason: Code, message: &str, revision: Revision) {
        let (now, cluster_id) = (self.now, self.cluster_id);
        let Some(campaign) = self.campaigns.get_mut(&id) else { return };
        campaign.sequence += 1;
        let session = campaign.session.and_then(|session| self.sessions.get(&session));
        let deadline_ns = match (state, session) {
            (State::Leader, Some(session)) => session.deadline_with(campaign.margin),
            _ => 0,
        };
        let status = Status {
            sequence: campaign.sequence,
            time_ns: now,
            state,
            at_risk: campaign.at_risk && state == State::Leader,
            reason,
            message: message.to_owned(),
            election: campaign.candidacy.election.clone(),
            value: campaign.candidacy.value.clone(),
            token: campaign.token,
            cluster_id,
            revision,
            deadline_ns,
        };
        self.emit(Output::Status(id, status));
    }
}
