//! The test world: services and one etcd in virtual time. Whatever is between them (latency, loss, partitions, broken
//! streams, stopped processes) is a plain field or a verb here, and the same seed gives the same run.
//!
//! After every step `check` looks at everything; when a test is over, the world closes all services and looks for
//! what they left behind.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::check::Life;
use super::etcd::Etcd;
use super::faults::{Fate, Rule, What};
use super::wire::{Event, Stream};
use crate::clock::{MS, Nanos, SECOND};
use crate::config::Namespace;
use crate::election::backoff::Random;
use crate::election::session::Session;
use crate::election::{CallId, Candidacy, Core, Input, ReadKind, Reply, ReplyId, Settings};
use crate::error::{Code, Error};
use crate::events::{Observation, State, Status, SubscriptionId};
use crate::store::{Failure, LeaseId, Revision, StoreError};

/// Nothing that a test waits for takes longer.
const PATIENCE: Nanos = 120 * SECOND;

/// A process with one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Service(pub(super) usize);

/// A candidacy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Candidate {
    pub(super) service: Service,
    pub(super) id: SubscriptionId,
}

/// Somebody who observes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Watcher {
    pub(super) service: Service,
    pub(super) id: SubscriptionId,
}

/// A caller who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Caller(pub(super) ReplyId);

/// A process with one service, as the world sees it.
pub(super) struct Process {
    pub(super) core: Core,
    pub(super) finished: bool,
    pub(super) closing: bool,
    crashed: bool,
    /// No request of it arrives.
    pub(super) mute: bool,
    /// No answer reaches it.
    pub(super) deaf: bool,
    /// What waits for a stopped process.
    pub(super) stopped: Option<Vec<Event>>,
    /// Its clock goes so many parts in a million too fast.
    pub(super) fast_ppm: i64,
    boot: Nanos,
    pub(super) wake: Option<Nanos>,
    pub(super) calls: BTreeSet<CallId>,
    pub(super) stream: Option<Stream>,
    pub(super) lives: BTreeMap<SubscriptionId, Life>,
    pub(super) unread: BTreeMap<SubscriptionId, Vec<Observation>>,
    pub(super) observed: BTreeMap<SubscriptionId, Observation>,
    /// Opened so far.
    pub(super) streams: usize,
    /// The store was exchanged and no stream has been opened since.
    pub(super) bygone: bool,
    pub(super) rotations: usize,
    /// Leases it has asked for, and when on its clock the last request's time to live is over.
    pub(super) leases: BTreeMap<LeaseId, Nanos>,
    /// Grants under way; those given up may be served yet, and make a lease without keys, which ends by itself.
    pub(super) grants: BTreeMap<CallId, LeaseId>,
    pub(super) late_grants: BTreeSet<LeaseId>,
    /// Its watch has told that these keys were no more, or another's, at these revisions.
    pub(super) told_gone: BTreeMap<Vec<u8>, Revision>,
    /// The store was exchanged in its time.
    pub(super) exchanged: bool,
}

impl Process {
    pub(super) fn local(&self, now: Nanos) -> Nanos {
        self.boot + now + now * self.fast_ppm / 1_000_000
    }

    /// The first instant at which its clock shows this.
    pub(super) fn when(&self, local: Nanos) -> Nanos {
        let mut at = (local - self.boot) * 1_000_000 / (1_000_000 + self.fast_ppm) - 2;
        while self.local(at) < local {
            at += 1;
        }
        at
    }

    /// Nothing of its streams gets through.
    pub(super) fn is_cut(&self) -> bool {
        self.mute || self.deaf
    }

    pub(super) fn is_up(&self) -> bool {
        !self.crashed && !self.finished
    }
}

/// See the module.
pub(super) struct World {
    pub(super) now: Nanos,
    pub(super) etcd: Etcd,
    pub(super) processes: Vec<Process>,
    pub(super) ttl: Duration,
    pub(super) namespace: Namespace,
    /// One way.
    pub(super) latency: Nanos,
    /// At most so much more, at random.
    pub(super) jitter: Nanos,
    /// Watch streams take so much longer.
    pub(super) stream_lag: Nanos,
    /// Watches that begin at this key lag so much behind the others of their stream.
    pub(super) slow_watches: Vec<(Vec<u8>, Nanos)>,
    /// Until then every request fails so, and no stream lasts.
    pub(super) outage: Option<(Nanos, Failure)>,
    /// Every wake-up is so late.
    pub(super) late_wakes: Nanos,
    /// The first that matches decides; else a request is served.
    pub(super) rules: Vec<Rule>,
    pub(super) random: Random,
    /// The store was put back to an earlier state of itself: what is new there may have the revision of something that
    /// was never to be, and looks the same without its value.
    pub(super) rewound: bool,
    /// Requests sent, by kind.
    pub(super) sent: BTreeMap<What, usize>,
    /// What has happened, by kind.
    pub(super) counts: BTreeMap<&'static str, u64>,
    /// Tells everything that happens.
    pub(super) traced: bool,
    /// Tokens whose keys were removed by hand.
    pub(super) excused: BTreeSet<Revision>,
    pub(super) terms: BTreeMap<Arc<str>, Revision>,
    pub(super) queue: BTreeMap<(Nanos, u64), Event>,
    /// When leases are looked at next.
    pub(super) expiry: Option<Nanos>,
    pub(super) replies: BTreeMap<ReplyId, (Service, Option<Result<Reply, Error>>)>,
    last_id: u64,
}

pub(super) fn candidacy(election: &str) -> Candidacy {
    Candidacy {
        election: election.into(),
        value: b"value"[..].into(),
        rejoin: false,
        at_risk: false,
        step_down_margin: Duration::ZERO,
        wait_limit: None,
    }
}

fn session_of(core: &Core, id: SubscriptionId) -> Option<&Session> {
    core.sessions.get(&core.place(id)?.1)
}

impl World {
    pub(super) fn new() -> Self {
        World::seeded(1)
    }

    pub(super) fn seeded(seed: u64) -> Self {
        World {
            now: 0,
            etcd: Etcd::new(0xc1),
            processes: Vec::new(),
            ttl: Duration::from_secs(10),
            namespace: Namespace::Layout { root: "_ld".into(), environment: String::new(), service: "s".into() },
            latency: MS,
            jitter: 0,
            stream_lag: 0,
            slow_watches: Vec::new(),
            outage: None,
            late_wakes: 0,
            rules: Vec::new(),
            random: Random::new(seed),
            rewound: false,
            sent: BTreeMap::new(),
            counts: BTreeMap::new(),
            traced: false,
            excused: BTreeSet::new(),
            terms: BTreeMap::new(),
            queue: BTreeMap::new(),
            expiry: None,
            replies: BTreeMap::new(),
            last_id: 0,
        }
    }

    // What programs do.

    pub(super) fn service(&mut self) -> Service {
        let boot = 1000 * SECOND * (self.processes.len() as Nanos + 1);
        let settings =
            Settings { namespace: self.namespace.clone(), ttl: self.ttl, call_timeout: Duration::from_secs(5) };
        self.processes.push(Process {
            core: Core::new(settings, self.random.next(), boot + self.now),
            finished: false,
            closing: false,
            crashed: false,
            mute: false,
            deaf: false,
            stopped: None,
            fast_ppm: 0,
            boot,
            wake: None,
            calls: BTreeSet::new(),
            stream: None,
            lives: BTreeMap::new(),
            unread: BTreeMap::new(),
            observed: BTreeMap::new(),
            streams: 0,
            bygone: false,
            rotations: 0,
            leases: BTreeMap::new(),
            grants: BTreeMap::new(),
            late_grants: BTreeSet::new(),
            told_gone: BTreeMap::new(),
            exchanged: false,
        });
        Service(self.processes.len() - 1)
    }

    pub(super) fn campaign(&mut self, service: Service, election: &str) -> Candidate {
        self.stand(service, candidacy(election))
    }

    pub(super) fn stand(&mut self, service: Service, candidacy: Candidacy) -> Candidate {
        let (candidate, caller) = self.try_stand(service, candidacy);
        assert_eq!(self.reply_of(caller), Some(Ok(Reply::Done)));
        candidate
    }

    pub(super) fn try_stand(&mut self, service: Service, candidacy: Candidacy) -> (Candidate, Caller) {
        let id = self.next_id();
        let caller = self.caller(service);
        self.process(service).lives.insert(id, Life::new(&candidacy));
        self.feed(service, Input::Campaign { id, candidacy, reply: caller.0 });
        (Candidate { service, id }, caller)
    }

    /// A campaign that leads.
    pub(super) fn elect(&mut self, service: Service, election: &str) -> Candidate {
        let candidate = self.campaign(service, election);
        self.expect_event(candidate, State::Follower);
        self.expect_event(candidate, State::Leader);
        candidate
    }

    /// A campaign that waits, its key in place and its view of the queue whole.
    pub(super) fn enqueue(&mut self, service: Service, election: &str) -> Candidate {
        let candidate = self.campaign(service, election);
        self.expect_event(candidate, State::Follower);
        self.run(SECOND);
        self.reject_event(candidate);
        candidate
    }

    pub(super) fn resign(&mut self, candidate: Candidate) -> Caller {
        let caller = self.caller(candidate.service);
        self.life(candidate).resigned = true;
        self.feed(candidate.service, Input::Resign { id: candidate.id, reply: Some(caller.0) });
        caller
    }

    pub(super) fn proclaim(&mut self, candidate: Candidate, value: &[u8]) -> Caller {
        let caller = self.caller(candidate.service);
        self.feed(candidate.service, Input::Proclaim { id: candidate.id, value: value.into(), reply: caller.0 });
        caller
    }

    /// Who asked this about a candidate has stopped waiting: a reply to it is a defect from now on.
    pub(super) fn forget(&mut self, candidate: Candidate, caller: Caller) {
        // Time goes on first, and may bring the answer.
        self.feed(candidate.service, Input::Forget { id: candidate.id, reply: caller.0 });
        self.replies.remove(&caller.0);
    }

    pub(super) fn observe(&mut self, service: Service, election: &str) -> Watcher {
        let id = self.next_id();
        self.process(service).unread.insert(id, Vec::new());
        self.feed(service, Input::Observe { id, election: election.into() });
        Watcher { service, id }
    }

    pub(super) fn unobserve(&mut self, watcher: Watcher) {
        self.feed(watcher.service, Input::Unobserve { id: watcher.id });
    }

    pub(super) fn read(&mut self, service: Service, kind: ReadKind, election: &str, timeout: Nanos) -> Caller {
        let caller = self.caller(service);
        let timeout = Duration::from_nanos(timeout as u64);
        self.feed(service, Input::Read { kind, election: election.into(), timeout, reply: caller.0 });
        caller
    }

    pub(super) fn close(&mut self, service: Service) {
        let process = self.process(service);
        process.closing = true;
        process.lives.values_mut().for_each(|life| life.resigned = true);
        self.feed(service, Input::Close);
    }

    // What they hear.

    /// The campaign's next event, which must be of this state.
    pub(super) fn expect_event(&mut self, candidate: Candidate, state: State) -> Status {
        self.run_until(&format!("{state:?} of {candidate:?}"), |w| !w.life(candidate).unread().is_empty());
        let status = self.life(candidate).read();
        assert_eq!(status.state, state, "{status:?}");
        status
    }

    /// The next event, which must be an ERROR for this reason.
    pub(super) fn expect_loss(&mut self, candidate: Candidate, reason: Code) -> Status {
        let status = self.expect_event(candidate, State::Error);
        assert_eq!(status.reason, reason, "{}", status.message);
        status
    }

    pub(super) fn reject_event(&mut self, candidate: Candidate) {
        let unread = self.life(candidate).unread();
        assert!(unread.is_empty(), "{unread:?}");
    }

    pub(super) fn expect_reply(&mut self, caller: Caller) -> Result<Reply, Error> {
        self.run_until(&format!("reply to {caller:?}"), |w| w.reply_of(caller).is_some());
        self.reply_of(caller).unwrap()
    }

    pub(super) fn expect_done(&mut self, caller: Caller) {
        assert_eq!(self.expect_reply(caller), Ok(Reply::Done));
    }

    pub(super) fn expect_refusal(&mut self, caller: Caller, code: Code) -> Error {
        let error = self.expect_reply(caller).expect_err("refused");
        assert_eq!(error.code(), code, "{error}");
        error
    }

    pub(super) fn reply_of(&self, caller: Caller) -> Option<Result<Reply, Error>> {
        self.replies.get(&caller.0)?.1.clone()
    }

    pub(super) fn is_waiting(&self, caller: Caller) -> bool {
        self.replies.get(&caller.0).is_some_and(|(_, reply)| reply.is_none())
    }

    /// The observer's next unread state.
    pub(super) fn expect_observation(&mut self, watcher: Watcher) -> Observation {
        self.run_until(&format!("an observation of {watcher:?}"), |w| w.observations(watcher) > 0);
        self.process(watcher.service).unread.get_mut(&watcher.id).unwrap().remove(0)
    }

    pub(super) fn observations(&mut self, watcher: Watcher) -> usize {
        self.process(watcher.service).unread[&watcher.id].len()
    }

    /// The last thing that an observer was told.
    pub(super) fn observed(&self, watcher: Watcher) -> &Observation {
        &self.processes[watcher.service.0].observed[&watcher.id]
    }

    /// What `is_leader` would say.
    pub(super) fn is_leader(&self, candidate: Candidate) -> bool {
        let process = &self.processes[candidate.service.0];
        process.lives[&candidate.id].claims_at(process.local(self.now))
    }

    /// Who says that it leads.
    pub(super) fn leader_of(&self, election: &str) -> Option<Candidate> {
        self.claims(election).map(|(candidate, _)| candidate).next()
    }

    pub(super) fn state(&mut self, candidate: Candidate) -> Option<State> {
        self.life(candidate).state
    }

    // What happens to them.

    /// The next request of this kind meets this fate. If there is none before the test heals the world or ends, the test
    /// is not about what it says, and fails.
    pub(super) fn once(&mut self, what: What, fate: Fate) {
        self.rules.push(Rule { service: None, what, fate, times: 1, expected: true });
    }

    /// The same, but there may be none.
    pub(super) fn once_perhaps(&mut self, what: What, fate: Fate) {
        self.rules.push(Rule { service: None, what, fate, times: 1, expected: false });
    }

    /// All requests of this kind, until [`heal`](Self::heal).
    pub(super) fn always(&mut self, service: Service, what: What, fate: Fate) {
        self.rules.push(Rule { service: Some(service), what, fate, times: usize::MAX, expected: false });
    }

    /// Nothing gets through, either way, and the stream never recovers.
    pub(super) fn partition(&mut self, service: Service) {
        self.cut(service, true, true);
    }

    /// The same, in one direction or both.
    pub(super) fn cut(&mut self, service: Service, mute: bool, deaf: bool) {
        let process = self.process(service);
        (process.mute, process.deaf) = (mute, deaf);
        self.stall_stream(service);
    }

    /// Ends partitions.
    pub(super) fn join_networks(&mut self) {
        self.processes.iter_mut().for_each(|process| (process.mute, process.deaf) = (false, false));
    }

    /// Ends partitions, outages and rules.
    pub(super) fn heal(&mut self) {
        for rule in std::mem::take(&mut self.rules) {
            assert!(!rule.expected, "no request has met {rule:?}");
        }
        self.outage = None;
        self.join_networks();
    }

    /// Every member is away or without a leader; when that is over, all leases begin anew, as etcd has it.
    pub(super) fn fail(&mut self, time: Nanos, failure: Failure) {
        self.outage = Some((self.now + time, failure));
        self.etcd.promote(self.now + time);
        (0..self.processes.len()).for_each(|at| self.break_stream(Service(at)));
    }

    /// Writes a line of the trace: µs, then what happens, with byte strings as text.
    pub(super) fn tell(&self, what: &str) {
        if self.traced {
            eprintln!("{:>12} {}", self.now / 1000, readable(what));
        }
    }

    /// Counts what happens.
    pub(super) fn note(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    pub(super) fn stall_stream(&mut self, service: Service) {
        if let Some(stream) = &mut self.process(service).stream {
            stream.stalled = true;
        }
    }

    pub(super) fn break_stream(&mut self, service: Service) {
        let Some(id) = self.process(service).stream.as_ref().map(|stream| stream.id) else { return };
        let error = StoreError::new(Failure::Unknown, "the stream broke");
        self.push(self.now, Event::StreamEnd(service, id, error));
    }

    /// SIGSTOP.
    pub(super) fn stop(&mut self, service: Service) {
        self.process(service).stopped.get_or_insert_default();
    }

    /// SIGCONT.
    pub(super) fn resume(&mut self, service: Service) {
        for event in self.process(service).stopped.take().unwrap_or_default() {
            self.push(self.now, event);
        }
        self.process(service).wake = None;
        self.schedule_wake(service);
    }

    /// SIGKILL.
    pub(super) fn crash(&mut self, service: Service) {
        let process = self.process(service);
        process.crashed = true;
        process.stream = None;
        process.lives.values_mut().for_each(Life::died);
    }

    /// From now on its clock goes so many parts in a million too fast.
    pub(super) fn set_clock_rate(&mut self, service: Service, fast_ppm: i64) {
        let now = self.now;
        let process = self.process(service);
        let shown = process.local(now);
        process.fast_ppm = fast_ppm;
        process.boot += shown - process.local(now);
    }

    pub(super) fn jump_wall_clock(&mut self, service: Service) {
        self.feed(service, Input::ClockJumped);
    }

    /// Puts a key as etcd's Go client does, on a lease that lasts.
    pub(super) fn go_campaign(&mut self, election: &str) -> Vec<u8> {
        let lease = self.next_id() as i64;
        self.etcd.foreign_lease(lease);
        let key = [self.prefix(election), format!("{lease:x}").into_bytes()].concat();
        self.etcd.put(key.clone(), b"go", lease);
        self.publish();
        key
    }

    pub(super) fn go_resign(&mut self, key: &[u8]) {
        self.etcd.delete(key);
        self.publish();
    }

    /// Somebody deletes a key.
    pub(super) fn delete(&mut self, key: &[u8]) {
        self.excuse(key);
        self.etcd.delete(key);
        self.publish();
    }

    /// Somebody puts a key on a lease of their own.
    pub(super) fn take(&mut self, key: Vec<u8>) {
        self.excuse(&key);
        let lease = self.next_id() as i64;
        self.etcd.foreign_lease(lease);
        self.etcd.put(key, b"mine", lease);
        self.publish();
    }

    /// Who has this key can't know yet what becomes of it.
    fn excuse(&mut self, key: &[u8]) {
        let own = self.etcd.keys(key).into_iter().filter(|kv| kv.key == key && !self.etcd.is_foreign(kv.lease));
        self.excused.extend(own.map(|kv| kv.create_revision));
    }

    /// Somebody deletes the campaign's key.
    pub(super) fn delete_key(&mut self, candidate: Candidate) {
        if let Some(kv) = self.key_of(candidate) {
            self.delete(&kv.key);
        }
    }

    /// Somebody puts the campaign's key on a lease of their own.
    pub(super) fn take_key(&mut self, candidate: Candidate) {
        if let Some(kv) = self.key_of(candidate) {
            self.take(kv.key);
        }
    }

    /// Somebody revokes the campaign's lease.
    pub(super) fn revoke_lease(&mut self, candidate: Candidate) {
        if let Some(kv) = self.key_of(candidate) {
            let keys = self.etcd.keys(b"").into_iter().filter(|other| other.lease == kv.lease);
            self.excused.extend(keys.map(|kv| kv.create_revision));
            self.etcd.revoke(kv.lease);
            self.publish();
        }
    }

    /// Another cluster, or the same one from a backup: all that was, was in another world.
    pub(super) fn replace_etcd(&mut self, replace: impl FnOnce(&mut Etcd, Nanos)) {
        self.exchange(replace);
        self.break_streams();
    }

    /// The same, but the streams to the former one end only when that is ordered.
    pub(super) fn exchange(&mut self, replace: impl FnOnce(&mut Etcd, Nanos)) {
        for process in &mut self.processes {
            process.lives.values_mut().for_each(|life| life.excused = true);
        }
        let former = self.etcd.cluster_id;
        let leases: BTreeSet<LeaseId> = self.etcd.leases_left().collect();
        self.processes.iter_mut().for_each(|process| (process.bygone, process.exchanged) = (true, true));
        self.excused.clear();
        self.terms.clear();
        replace(&mut self.etcd, self.now);
        self.rewound |= former == self.etcd.cluster_id;
        for process in &mut self.processes {
            process.told_gone.clear();
            for (&id, life) in process.lives.iter_mut().filter(|_| former != self.etcd.cluster_id) {
                let session = session_of(&process.core, id);
                // Said to be gone, it was before a backup brought it back.
                life.bereaved = session.is_some_and(|session| leases.contains(&session.lease) && !session.missing);
            }
        }
        self.schedule_expiry();
    }

    /// A lease whose grant was never answered is granted by the present cluster, too.
    pub(super) fn end_bereavement(&mut self, service: Service, lease: LeaseId) {
        let Process { core, lives, .. } = self.process(service);
        for (&id, life) in lives {
            let session = session_of(core, id);
            life.bereaved &= session.is_none_or(|session| session.lease != lease);
        }
    }

    pub(super) fn break_streams(&mut self) {
        (0..self.processes.len()).for_each(|at| self.break_stream(Service(at)));
    }

    pub(super) fn prefix(&self, election: &str) -> Vec<u8> {
        crate::election::keys::Keys::new(&self.namespace).election(election)
    }

    /// The campaign's key as the store has it.
    pub(super) fn key_of(&mut self, candidate: Candidate) -> Option<crate::store::KeyValue> {
        let core = &self.process(candidate.service).core;
        let (election, session) = core.place(candidate.id)?;
        let lease = core.sessions.get(&session)?.lease;
        let key = core.own_key(session, &election)?;
        self.etcd.keys(&key).into_iter().find(|kv| kv.key == key && kv.lease == lease)
    }

    /// Keys of the election in the store.
    pub(super) fn queue_length(&self, election: &str) -> usize {
        self.etcd.keys(&self.prefix(election)).len()
    }

    pub(super) fn count(&self, what: What) -> usize {
        self.sent.get(&what).copied().unwrap_or(0)
    }

    // Time.

    pub(super) fn run(&mut self, time: Nanos) {
        let until = self.now + time;
        while self.queue.first_key_value().is_some_and(|(&(at, _), _)| at <= until) {
            self.step();
        }
        self.now = until;
    }

    pub(super) fn run_until(&mut self, what: &str, mut is_true: impl FnMut(&mut World) -> bool) {
        let limit = self.now + PATIENCE;
        while !is_true(self) {
            assert!(self.step() && self.now < limit, "in vain: {what}");
        }
    }

    /// The next thing that happens. False if there is none.
    pub(super) fn step(&mut self) -> bool {
        let Some(((at, _), event)) = self.queue.pop_first() else { return false };
        self.now = self.now.max(at);
        match event {
            Event::Request(service, call, request, fate) => self.serve(service, call, request, fate),
            Event::Expiry => {
                self.expiry.take_if(|next| *next <= at);
                self.etcd.expire(self.now);
                self.publish();
                self.schedule_expiry();
            }
            Event::StreamRequest(service, stream, request) => self.serve_stream(service, stream, request),
            Event::Answer(service, ..)
            | Event::Echo(service, ..)
            | Event::GiveUp(service, _)
            | Event::StreamMessage(service, ..)
            | Event::StreamEnd(service, ..)
            | Event::Wake(service) => self.arrive(service, event),
        }
        true
    }

    pub(super) fn process(&mut self, service: Service) -> &mut Process {
        &mut self.processes[service.0]
    }

    pub(super) fn life(&mut self, candidate: Candidate) -> &mut Life {
        self.process(candidate.service).lives.get_mut(&candidate.id).unwrap()
    }

    fn caller(&mut self, service: Service) -> Caller {
        let id = self.next_id();
        self.replies.insert(id, (service, None));
        Caller(id)
    }

    pub(super) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    // The end.

    /// Closes everything in a world without faults and looks for what is left.
    pub(super) fn wind_up(&mut self) {
        self.heal();
        (self.latency, self.jitter, self.stream_lag, self.late_wakes) = (MS, 0, 0, 0);
        self.slow_watches.clear();
        (self.etcd.expiry_lag, self.etcd.behind) = (0, 0);
        (self.etcd.forbidden, self.etcd.max_ops) = (Vec::new(), 128);
        for at in 0..self.processes.len() {
            self.resume(Service(at));
            if self.processes[at].is_up() && !self.processes[at].closing {
                self.close(Service(at));
            }
        }
        self.run_until("the end of all services", |w| w.processes.iter().all(|process| !process.is_up()));
        while self.step() {}
        self.check_end();
    }

    pub(super) fn unanswered(&self) -> impl Iterator<Item = Service> {
        self.replies.values().filter(|(_, reply)| reply.is_none()).map(|(service, _)| *service)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.wind_up();
        }
    }
}

/// Replaces the lists of numbers that are text, as the derived `Debug` writes byte strings, by that text.
fn readable(line: &str) -> String {
    const SHOWN: usize = 60;
    let mut parts = line.split('[');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let text = part.split_once(']').and_then(|(list, rest)| {
            let bytes: Option<Vec<u8>> = list.split(", ").map(|number| number.parse().ok()).collect();
            let text = String::from_utf8(bytes?).ok().filter(|text| text.chars().all(|c| (' '..='~').contains(&c)))?;
            let dots = if text.len() > SHOWN { "…" } else { "" };
            Some(format!("\"{}{dots}\"{rest}", &text[..text.len().min(SHOWN)]))
        });
        match text {
            Some(text) => out += &text,
            None => out = out + "[" + part,
        }
    }
    out
}

#[test]
fn the_trace_shows_byte_strings_as_text() {
    assert_eq!(
        readable("x { key: [102, 47, 49], ids: [1, 2], none: [] }"),
        "x { key: \"f/1\", ids: [1, 2], none: [] }"
    );
    assert!(readable(&format!("{:?}", [b'v'; 20_000])).len() < 100);
}
