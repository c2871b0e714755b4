//! The election engine: a pure state machine. It does no I/O, reads no clock and knows no runtime.
//!
//! [`Core`] is all of one service. What happens comes in by [`Core::handle`], with the time; what is to be done comes
//! out as an ordered list of [`Output`]s; [`Core::wake_at`] says when to come back. Every request has an id that its
//! answer brings back; an answer whose id is not known any more belongs to the past and is dropped.
//!
//! `campaign` holds the states and their invariants, `session` the lease and the deadline, `watch` keeps mirrors true,
//! `distance` spares those far behind a watch on everything, `mirror` is a copy of an election's `queue`, `batch` sends
//! small transactions together, `read` and `observer` serve those who only look.

mod backoff;
mod batch;
mod campaign;
mod distance;
#[cfg(any(test, fuzzing))]
pub(crate) mod hostile;
mod keys;
mod lease;
mod mirror;
mod observer;
mod queue;
mod read;
mod session;
#[cfg(test)]
#[cfg(not(model))]
mod tests;
mod timers;
mod watch;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use batch::{Batch, Part};
use campaign::Campaign;
use keys::Keys;
use observer::Observer;
use read::Read;
use session::{Session, SessionId};
use timers::{Timer, Timers};
use watch::{Election, Watch};

pub(crate) use backoff::Random;
pub(crate) use read::ReadKind;
pub(crate) use session::{lease_over_after, time_to_live};

use crate::clock::{MS, Nanos, SECOND, nanos};
use crate::config::Namespace;
use crate::error::{Code, Error};
use crate::events::{Candidate, Level, Observation, Status, SubscriptionId};
use crate::store::{
    Failure, Header, LeaseId, LeaseState, Op, Range, RangeResult, Revision, StoreError, Txn, TxnResult, WatchMessage,
    WatchRequest,
};

/// Identifies a request to the store.
pub(crate) type CallId = u64;
/// Identifies a caller who waits for an answer; chosen by the driver.
pub(crate) type ReplyId = u64;
/// Identifies a read.
pub(crate) type ReadId = u64;

/// A queued transaction waits at most this long for company.
const BATCH_WAIT: Nanos = 10 * MS;

/// Being woken later than this means that the process or machine slept.
const LATE: Nanos = 500 * MS;
const OVERSLEPT: &str = "the process was not woken in time";

/// What a service is, as far as elections are concerned.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) namespace: Namespace,
    pub(crate) ttl: Duration,
    pub(crate) call_timeout: Duration,
}

/// What a candidate wants.
#[derive(Clone, Debug)]
pub(crate) struct Candidacy {
    pub(crate) election: Arc<str>,
    pub(crate) value: Arc<[u8]>,
    pub(crate) rejoin: bool,
    pub(crate) at_risk: bool,
    pub(crate) step_down_margin: Duration,
    pub(crate) wait_limit: Option<Duration>,
}

/// What happens.
#[derive(Debug)]
pub(crate) enum Input {
    /// Somebody stands; the id is new.
    Campaign { id: SubscriptionId, candidacy: Candidacy, reply: ReplyId },
    /// A candidate withdraws; without `reply` nobody waits.
    Resign { id: SubscriptionId, reply: Option<ReplyId> },
    /// A leader changes its value.
    Proclaim { id: SubscriptionId, value: Arc<[u8]>, reply: ReplyId },
    /// Nobody waits any more for the reply to this; what was asked for goes on.
    Forget { id: SubscriptionId, reply: ReplyId },
    /// Somebody watches an election; the id is new.
    Observe { id: SubscriptionId, election: Arc<str> },
    /// Nobody watches it any more.
    Unobserve { id: SubscriptionId },
    /// Somebody asks who leads or stands.
    Read { kind: ReadKind, election: Arc<str>, timeout: Duration, reply: ReplyId },
    /// The service ends.
    Close,
    /// A request was answered.
    Answer { call: CallId, result: Result<Answer, StoreError> },
    /// The watch stream told something.
    Watch { stream: u64, message: WatchMessage },
    /// The watch stream ended.
    WatchEnded { stream: u64, error: StoreError },
    /// Time has come.
    Wake,
    /// The wall clock went forward against the one that the deadline is on: the machine may have slept unnoticed.
    ClockJumped,
}

/// A request to the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Grant { lease: LeaseId, ttl_s: i64 },
    KeepAlive(LeaseId),
    Revoke(LeaseId),
    Txn(Txn),
    Range(Range),
}

/// The store's answer.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Lease(LeaseState),
    Revoked(Header),
    Txn(Header, TxnResult),
    Range(Header, RangeResult),
}

/// What a caller gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Done,
    Leader(Candidate),
    Candidates(Vec<Candidate>),
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Output {
    /// Ask the store, waiting at most `timeout`.
    Call { id: CallId, request: Request, timeout: Nanos },
    /// Open a watch stream.
    OpenWatch { stream: u64 },
    /// Ask something of the watch stream.
    Watch { stream: u64, request: WatchRequest },
    /// Drop the watch stream.
    CloseWatch { stream: u64 },
    /// Leave the endpoint: it is mute.
    Rotate { reason: String },
    /// `is_leader` is true until the instant `until` from now on; token 0: false from now on.
    Lead { id: SubscriptionId, token: Revision, until: Nanos },
    /// Tell a campaign's owner.
    Status(SubscriptionId, Status),
    /// Tell an observer.
    Observation(SubscriptionId, Observation),
    /// Answer a caller.
    Reply(ReplyId, Result<Reply, Error>),
    /// Write a line.
    Log(Level, String),
    /// Closed, and nothing is left at the store: the last output.
    Finished,
}

/// Why a request was made: what its answer belongs to.
#[derive(Clone, Copy, Debug)]
enum Purpose {
    Grant(SessionId),
    KeepAlive(SessionId),
    Revoke(SessionId),
    /// Which cluster says that the session's lease is gone.
    Verify(SessionId),
    Read(ReadId),
    /// Parts of a batch, see [`Core::groups`].
    Group,
}

/// Why a transaction in a batch was made.
#[derive(Clone, Debug)]
enum PartPurpose {
    Join(SubscriptionId),
    Withdraw(SubscriptionId),
    Proclaim(SubscriptionId),
    Grave { session: SessionId, key: Vec<u8>, sent: Nanos },
    Verify,
    List(Arc<str>),
    Distance(Arc<str>),
    WideList(watch::WidePage),
    LeaderValue(Arc<str>),
}

struct Call {
    purpose: Purpose,
    /// No linearizable answer may be older than what was known when it was asked for. `None`: it was asked of a
    /// former cluster, so that no answer is of use.
    revision: Option<Revision>,
}

/// See the module.
pub(crate) struct Core {
    keys: Keys,
    ttl: Duration,
    call_timeout: Nanos,
    now: Nanos,
    out: Vec<Output>,
    timers: Timers,
    random: Random,
    last_id: u64,
    cluster_id: u64,
    /// The highest revision seen in this cluster.
    revision: Revision,
    calls: HashMap<CallId, Call>,
    groups: HashMap<CallId, Vec<Part>>,
    parts: HashMap<CallId, PartPurpose>,
    batch: Batch,
    sessions: HashMap<SessionId, Session>,
    campaigns: HashMap<SubscriptionId, Box<Campaign>>,
    observers: HashMap<SubscriptionId, Observer>,
    elections: HashMap<Arc<str>, Box<Election>>,
    reads: HashMap<ReadId, Read>,
    watch: Watch,
    closing: bool,
    finished: bool,
}

impl Core {
    /// A service at rest. `seed` makes lease ids and jitter.
    pub(crate) fn new(settings: Settings, seed: u64, now: Nanos) -> Self {
        let ttl = nanos(settings.ttl);
        Core {
            keys: Keys::new(&settings.namespace),
            ttl: settings.ttl,
            // A request that hangs must not use up a whole time to live.
            call_timeout: nanos(settings.call_timeout).min((ttl / 2).max(SECOND)),
            now,
            out: Vec::new(),
            timers: Timers::default(),
            random: Random::new(seed),
            last_id: 0,
            cluster_id: 0,
            revision: 0,
            calls: HashMap::new(),
            groups: HashMap::new(),
            parts: HashMap::new(),
            batch: Batch::new(),
            sessions: HashMap::new(),
            campaigns: HashMap::new(),
            observers: HashMap::new(),
            elections: HashMap::new(),
            reads: HashMap::new(),
            watch: Watch::new(ttl),
            closing: false,
            finished: false,
        }
    }

    /// Takes what happened at `now` and appends what is to be done. What time has brought about comes first: a
    /// deadline that has passed is passed, whatever an answer says that arrives after it.
    pub(crate) fn handle(&mut self, now: Nanos, input: Input, outputs: &mut Vec<Output>) {
        self.now = self.now.max(now);
        let late = self.timers.next().is_some_and(|at| now - at > LATE);
        while let Some(timer) = self.timers.due(self.now) {
            self.timer(timer);
        }
        // Who withdraws is told nothing more of leading, not even that it is in doubt.
        let withdraws = matches!(input, Input::Resign { .. } | Input::Close);
        if late && !withdraws {
            self.doubt(OVERSLEPT);
        }
        self.input(input);
        if late && withdraws {
            self.doubt(OVERSLEPT);
        }
        self.send_batches(false);
        self.send_watches();
        self.send_batches(false);
        self.finish_if_done();
        if cfg!(debug_assertions) {
            self.check_invariants();
        }
        outputs.append(&mut self.out);
    }

    fn input(&mut self, input: Input) {
        match input {
            Input::Campaign { id, candidacy, reply } => self.campaign(id, candidacy, reply),
            Input::Resign { id, reply } => self.resign(id, reply),
            Input::Proclaim { id, value, reply } => self.proclaim(id, value, reply),
            Input::Forget { id, reply } => self.forget(id, reply),
            Input::Observe { id, election } => self.observe(id, election),
            Input::Unobserve { id } => self.unobserve(id),
            Input::Read { kind, election, timeout, reply } => self.read(kind, election, timeout, reply),
            Input::Close => self.close(),
            Input::Answer { call, result } => self.answer(call, result),
            Input::Watch { stream, message } => self.watch_message(stream, message),
            Input::WatchEnded { stream, error } => self.watch_ended(stream, &error),
            Input::Wake => {}
            Input::ClockJumped => self.doubt("the wall clock jumped forward"),
        }
    }

    /// When to call [`handle`](Self::handle) with [`Input::Wake`] at the latest.
    pub(crate) fn wake_at(&self) -> Option<Nanos> {
        self.timers.next()
    }

    fn timer(&mut self, timer: Timer) {
        match timer {
            Timer::Deadline(session) => self.session_expired(session),
            Timer::StepDown(campaign) => self.step_down(campaign),
            Timer::Session(session) => self.session_due(session),
            Timer::LeaseOver(session) => self.session_over(session),
            Timer::Graves(session) => self.dig(session),
            Timer::Campaign(campaign) => self.campaign_due(campaign),
            Timer::WaitLimit(campaign) => self.wait_limit(campaign),
            Timer::Read(read) => self.send_read(read),
            Timer::ReadLimit(read) => self.read_limit(read),
            Timer::WatchOpen => self.open_watch(),
            Timer::Heartbeat => self.heartbeat(),
            Timer::Lists => self.send_lists(),
            Timer::Batch => self.send_batches(true),
        }
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn emit(&mut self, output: Output) {
        self.out.push(output);
    }

    fn log(&mut self, level: Level, message: impl Into<String>) {
        self.emit(Output::Log(level, message.into()));
    }

    fn reply(&mut self, reply: ReplyId, result: Result<Reply, Error>) {
        self.emit(Output::Reply(reply, result));
    }

    fn call(&mut self, purpose: Purpose, request: Request, timeout: Nanos) -> CallId {
        let id = self.next_id();
        self.calls.insert(id, Call { purpose, revision: Some(self.revision) });
        self.emit(Output::Call { id, request, timeout });
        id
    }

    /// Queues a transaction; it goes out at the end of this `handle` unless many are under way.
    fn submit(&mut self, purpose: PartPurpose, txn: Txn) -> CallId {
        let id = self.next_id();
        self.parts.insert(id, purpose);
        self.batch.push(Part { id, txn, alone: false });
        id
    }

    fn send_batches(&mut self, mut late: bool) {
        if self.closing {
            // The sessions' ends undo what these would.
            self.drop_queued();
        }
        while let Some(group) = self.batch.take(late) {
            late = false;
            let request = Request::Txn(batch::join(&group));
            let id = self.call(Purpose::Group, request, self.call_timeout);
            self.groups.insert(id, group);
        }
        if self.batch.is_empty() {
            self.timers.clear(Timer::Batch);
        } else {
            self.timers.set_earlier(Timer::Batch, self.now + BATCH_WAIT);
        }
    }

    fn drop_queued(&mut self) {
        for part in self.batch.drain() {
            self.parts.remove(&part.id);
        }
    }

    fn answer(&mut self, id: CallId, result: Result<Answer, StoreError>) {
        let Some(call) = self.calls.remove(&id) else { return };
        let result = result.and_then(|answer| match self.is_former(&call, &answer) {
            true => Err(StoreError::new(Failure::Unknown, "another cluster answers")),
            false => Ok(answer),
        });
        match (call.purpose, result) {
            (Purpose::Grant(session), result) => self.granted(session, id, lease_state(result)),
            (Purpose::KeepAlive(session), result) => self.renewed(session, id, lease_state(result)),
            (Purpose::Revoke(session), result) => self.revoked(session, id, result.map(|_| ())),
            (Purpose::Verify(session), result) => self.verified(session, id, result.map(|_| ())),
            (Purpose::Read(read), result) => self.read_answer(read, result),
            (Purpose::Group, result) => self.group_answered(id, result),
        }
    }

    /// Whether the answer belongs to a cluster that is not the present one, or to a question that was asked of such.
    fn is_former(&mut self, call: &Call, answer: &Answer) -> bool {
        let Some(revision) = call.revision else { return true };
        let (header, floor) = match answer {
            Answer::Lease(state) => {
                self.verify_revision(state.header, revision);
                (state.header, 0)
            }
            Answer::Revoked(header) => (*header, 0),
            Answer::Txn(header, _) | Answer::Range(header, _) => (*header, revision),
        };
        self.notice_cluster(header, floor)
    }

    /// A renewal's answer may be older than what is known, from a member that lags. Or the store was restored, and
    /// only an answer that can't lag tells. Without that, a service that only renews would keep a restored key alive.
    fn verify_revision(&mut self, header: Header, known: Revision) {
        if header.cluster_id == self.cluster_id && header.revision < known && !self.closing {
            let txn = self.any_read();
            self.submit(PartPurpose::Verify, txn);
        }
    }

    /// Asks for nothing but the header of its answer.
    fn any_read(&self) -> Txn {
        let key = [self.keys.base(), b"\0"].concat();
        Txn { then: vec![Op::Range(Range { key, keys_only: true, ..Range::default() })], ..Txn::default() }
    }

    fn group_answered(&mut self, id: CallId, result: Result<Answer, StoreError>) {
        let Some(group) = self.groups.remove(&id) else { return };
        self.batch.answered();
        let count = group.len();
        let result = match result {
            Ok(Answer::Txn(header, result)) => match batch::split(count, result) {
                Some(results) => Ok((header, results)),
                None => Err(unexpected()),
            },
            Ok(_) => Err(unexpected()),
            Err(error) => Err(error),
        };
        match result {
            Ok((header, results)) => {
                for (part, result) in group.into_iter().zip(results) {
                    self.part_answered(part.id, Ok((header, result)));
                }
            }
            Err(error) if count > 1 && !error.failure.is_transient() => {
                self.batch.refused(&group, error.failure);
                self.log(Level::Debug, format!("{count} requests were refused together, sending them singly: {error}"));
                let alone = error.failure != Failure::TooManyOps;
                for part in group {
                    if self.goes_again(part.id, error.failure) {
                        self.batch.push(Part { alone, ..part });
                    } else {
                        self.parts.remove(&part.id);
                    }
                }
            }
            Err(error) => {
                for part in group {
                    self.part_answered(part.id, Err(error.clone()));
                }
            }
        }
        if self.parts.is_empty() {
            self.parts.shrink_to(batch::SPARE);
        }
    }

    fn part_answered(&mut self, part: CallId, result: Result<(Header, TxnResult), StoreError>) {
        match self.parts.remove(&part) {
            Some(PartPurpose::Join(campaign)) => self.joined(campaign, part, result),
            Some(PartPurpose::Withdraw(campaign)) => self.withdrawn(campaign, part, result),
            Some(PartPurpose::Proclaim(campaign)) => self.proclaimed(campaign, part, result),
            Some(PartPurpose::List(election)) => self.listed(&election, part, result),
            Some(PartPurpose::Distance(election)) => self.distance_checked(&election, part, result),
            Some(PartPurpose::WideList(page)) => self.wide_listed(page, result),
            Some(PartPurpose::LeaderValue(election)) => self.leader_value(&election, part, result),
            Some(PartPurpose::Grave { session, key, sent }) if result.is_ok() => self.dug(session, &key, sent),
            Some(PartPurpose::Grave { .. } | PartPurpose::Verify) | None => {}
        }
    }

    /// Learns from an answer's header. True if it came from another cluster than before, or from a restored one.
    fn notice_cluster(&mut self, header: Header, floor: Revision) -> bool {
        let other = self.cluster_id != 0 && header.cluster_id != self.cluster_id;
        let older = header.revision < floor;
        if other || older {
            let what = if other {
                format!("cluster {:x} answers in place of {:x}", header.cluster_id, self.cluster_id)
            } else {
                format!("the store fell back from revision {floor} to {}: it was restored", header.revision)
            };
            self.log(Level::Error, &what);
            self.cluster_id = header.cluster_id;
            self.revision = header.revision;
            self.cluster_changed(&what, !other);
            return true;
        }
        self.cluster_id = header.cluster_id;
        self.revision = self.revision.max(header.revision);
        false
    }

    /// Nothing of the former cluster holds any more. `restored`: it is the same one, in an older state.
    fn cluster_changed(&mut self, what: &str, restored: bool) {
        // In a restored store whose old lease is still there, a join from before would leave a key.
        self.drop_queued();
        self.calls.values_mut().for_each(|call| call.revision = None);
        let mut ids: Vec<SubscriptionId> = self.campaigns.keys().copied().collect();
        ids.sort_unstable();
        let mut sessions: Vec<SessionId> = self.sessions.keys().copied().collect();
        sessions.sort_unstable();
        for id in sessions {
            self.bereave_session(id, restored, what);
        }
        for id in ids {
            self.cluster_lost(id, what);
        }
        self.restart_reads();
        self.forget_leaders();
        self.restart_watch(Code::ClusterChanged, what);
        for election in self.elections.values_mut() {
            election.mirror.forget();
        }
    }

    fn close(&mut self) {
        if std::mem::replace(&mut self.closing, true) {
            return;
        }
        let mut campaigns: Vec<SubscriptionId> = self.campaigns.keys().copied().collect();
        campaigns.sort_unstable();
        for id in campaigns {
            self.close_campaign(id);
        }
        let mut observers: Vec<SubscriptionId> = self.observers.keys().copied().collect();
        observers.sort_unstable();
        for id in observers {
            self.close_observer(id, Code::Ok, "");
        }
        self.close_reads();
        self.close_watch();
        let mut sessions: Vec<SessionId> = self.sessions.keys().copied().collect();
        sessions.sort_unstable();
        for id in sessions {
            self.end_session(id, "the service was closed");
        }
    }

    fn finish_if_done(&mut self) {
        if self.closing && !self.finished && self.sessions.is_empty() {
            self.finished = true;
            self.emit(Output::Finished);
        }
    }

    /// The clock may have stood still for us: believe nothing until the store has answered.
    fn doubt(&mut self, reason: &str) {
        if self.closing {
            return;
        }
        self.log(Level::Warn, format!("checking the session: {reason}"));
        self.doubt_sessions(reason);
        self.relist_all();
    }

    /// A broken one turns leadership off in release builds (see `lead`); here it stops the test.
    fn check_invariants(&self) {
        for (id, campaign) in &self.campaigns {
            campaign.check(*id, self.now, &self.sessions);
        }
    }
}

fn lease_state(result: Result<Answer, StoreError>) -> Result<LeaseState, StoreError> {
    match result {
        Ok(Answer::Lease(state)) => Ok(state),
        Ok(_) => Err(unexpected()),
        Err(error) => Err(error),
    }
}

/// An answer of the wrong kind: may have happened or not.
fn unexpected() -> StoreError {
    StoreError::new(Failure::Unknown, "the server answered with something that was not asked for")
}
