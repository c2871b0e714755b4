//! The engine among answers that no honest store gives: revisions that fall, keys and leases of others, what wasn't
//! asked for, nothing at all. It must not panic, must not lead before it was shown its own key, must tell every
//! campaign's story in order, answer every caller once, and come to an end when it is closed.

#![allow(clippy::panic, reason = "how a fuzz target says that something is wrong")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Answer, CallId, Candidacy, Core, Input, Output, ReadKind, Request, Settings, keys};
use crate::clock::{MS, Nanos, SECOND};
use crate::config::Namespace;
use crate::events::{State, Status, SubscriptionId};
use crate::fuzzing::Choices;
use crate::store::{
    Failure, Header, KeyValue, LeaseState, Op, OpResult, Range, RangeResult, Revision, StoreError, Txn, TxnResult,
    WatchEvent, WatchMessage, WatchRequest,
};

const ELECTIONS: [&str; 5] = ["e", "e/f", "f", "default", "é"];

const FAILURES: [Failure; 14] = [
    Failure::NotSent,
    Failure::Tls,
    Failure::Unknown,
    Failure::NoLeader,
    Failure::LeaseNotFound,
    Failure::LeaseExists,
    Failure::Compacted,
    Failure::Unauthenticated,
    Failure::PermissionDenied,
    Failure::NoSpace,
    Failure::TooManyOps,
    Failure::TooLarge,
    Failure::Canceled,
    Failure::Refused,
];

/// What a campaign has told.
struct Life {
    election: &'static str,
    state: Option<State>,
    sequence: u64,
    token: Revision,
}

struct World<'a> {
    choices: Choices<'a>,
    core: Core,
    now: Nanos,
    calls: BTreeMap<CallId, Request>,
    stream: Option<u64>,
    watches: Vec<i64>,
    /// Leases asked for, and granted.
    leases: BTreeSet<i64>,
    cluster_id: u64,
    revision: Revision,
    /// Keys with the create revisions that answers have shown.
    shown: BTreeSet<(Vec<u8>, Revision)>,
    lives: BTreeMap<SubscriptionId, Life>,
    observers: BTreeSet<SubscriptionId>,
    /// Who waits for a reply, and about which campaign.
    asked: BTreeMap<u64, Option<SubscriptionId>>,
    last_id: u64,
    finished: bool,
}

/// Runs the engine among the answers that these bytes choose.
pub fn answers(data: &[u8]) {
    let mut choices = Choices::new(data);
    let namespace = match choices.once_in(4) {
        true => Namespace::Prefix(choices.pick(&["", "p", "/"]).into()),
        false => Namespace::Layout { root: "_ld".into(), environment: String::new(), service: "s".into() },
    };
    let settings = Settings {
        namespace,
        ttl: Duration::from_secs(choices.pick(&[10, 2, 60])),
        call_timeout: Duration::from_secs(choices.pick(&[5, 1])),
    };
    let mut world = World {
        choices,
        core: Core::new(settings, 1, SECOND),
        now: SECOND,
        calls: BTreeMap::new(),
        stream: None,
        watches: Vec::new(),
        leases: BTreeSet::new(),
        cluster_id: 1,
        revision: 10,
        shown: BTreeSet::new(),
        lives: BTreeMap::new(),
        observers: BTreeSet::new(),
        asked: BTreeMap::new(),
        last_id: 0,
        finished: false,
    };
    for _ in 0..400 {
        if world.choices.is_over() || world.finished {
            break;
        }
        world.step();
    }
    world.come_to_an_end();
}

impl World<'_> {
    fn step(&mut self) {
        match self.choices.below(16) {
            0 => self.campaign(),
            1 => self.act(),
            2 => self.observe_or_read(),
            3 => self.pass(),
            4 | 5 => self.watch(),
            6 if self.choices.once_in(8) => self.feed(Input::Close),
            6 => self.feed(Input::ClockJumped),
            // Something that nobody asked for.
            7 => {
                let call = self.choices.number() as u64;
                let answer = self.any_answer();
                self.feed(Input::Answer { call, result: Ok(answer) });
            }
            _ => self.answer(),
        }
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn asked(&mut self, campaign: Option<SubscriptionId>) -> u64 {
        let id = self.next_id();
        self.asked.insert(id, campaign);
        id
    }

    fn campaign(&mut self) {
        let election = self.choices.pick(&ELECTIONS);
        let candidacy = Candidacy {
            election: election.into(),
            value: self.choices.bytes(3).into(),
            rejoin: self.choices.once_in(2),
            at_risk: self.choices.once_in(2),
            step_down_margin: Duration::from_millis(self.choices.pick(&[0, 500])),
            wait_limit: self.choices.once_in(4).then_some(Duration::from_secs(3)),
        };
        let (id, reply) = (self.next_id(), self.asked(None));
        self.lives.insert(id, Life { election, state: None, sequence: 0, token: 0 });
        self.feed(Input::Campaign { id, candidacy, reply });
    }

    fn any_campaign(&mut self) -> SubscriptionId {
        let ids: Vec<_> = self.lives.keys().copied().collect();
        if ids.is_empty() { self.next_id() } else { self.choices.pick(&ids) }
    }

    fn act(&mut self) {
        let id = self.any_campaign();
        match self.choices.below(4) {
            0 => {
                let reply = self.choices.once_in(2).then(|| self.asked(Some(id)));
                self.feed(Input::Resign { id, reply });
            }
            1 => {
                let (value, reply) = (self.choices.bytes(3).into(), self.asked(Some(id)));
                self.feed(Input::Proclaim { id, value, reply });
            }
            2 => {
                let waiting = self.asked.iter().rev().find_map(|(&reply, campaign)| Some((reply, (*campaign)?)));
                if let Some((reply, id)) = waiting {
                    self.asked.remove(&reply);
                    self.feed(Input::Forget { id, reply });
                }
            }
            _ => {
                let id = self.observers.pop_last().unwrap_or(id);
                self.feed(Input::Unobserve { id });
            }
        }
    }

    fn observe_or_read(&mut self) {
        let election = self.choices.pick(&ELECTIONS).into();
        if self.choices.once_in(2) {
            let reply = self.asked(None);
            let kind = self.choices.pick(&[ReadKind::Leader, ReadKind::Candidates]);
            self.feed(Input::Read { kind, election, timeout: Duration::from_secs(2), reply });
        } else {
            let id = self.next_id();
            self.observers.insert(id);
            self.feed(Input::Observe { id, election });
        }
    }

    fn pass(&mut self) {
        let due = self.core.wake_at().unwrap_or(self.now).max(self.now);
        self.now = match self.choices.below(8) {
            0 => self.now + MS,
            1 => self.now + SECOND,
            2 => self.now + 20 * SECOND,
            // Backwards, which the clock never goes, and the engine must not mind.
            3 => self.now - 5 * MS,
            _ => due,
        };
        self.feed(Input::Wake);
    }

    fn header(&mut self) -> Header {
        let revision = match self.choices.below(12) {
            0 => self.revision - 5,
            1 => self.choices.pick(&[0, -1, i64::MAX, i64::MIN, 1]),
            2 => self.revision + 100,
            3..7 => self.revision,
            _ => self.revision + 1,
        };
        if revision > 0 && revision < i64::MAX / 2 {
            self.revision = revision;
        }
        if self.choices.once_in(40) {
            self.cluster_id = self.choices.pick(&[1, 2, 0, u64::MAX]);
        }
        Header { cluster_id: self.cluster_id, revision }
    }

    fn lease(&mut self) -> i64 {
        let own: Vec<_> = self.leases.iter().copied().collect();
        match self.choices.below(8) {
            0 => self.choices.pick(&[0, -1, 1, i64::MAX, i64::MIN]),
            1 => self.choices.number(),
            _ if own.is_empty() => 0x1f,
            _ => self.choices.pick(&own),
        }
    }

    fn key(&mut self) -> Vec<u8> {
        let election = self.choices.pick(&ELECTIONS);
        let prefix = self.core.keys.election(election);
        let lease = self.lease();
        match self.choices.below(12) {
            0 => [prefix, self.choices.bytes(12)].concat(),
            1 => [prefix, b"deep/".to_vec(), self.choices.bytes(4)].concat(),
            2 => self.choices.bytes(20),
            3 => prefix,
            4 => [prefix, format!("0{lease:x}").into_bytes()].concat(),
            5 => [prefix, format!("{lease:X}").into_bytes()].concat(),
            _ => keys::candidate(&prefix, lease),
        }
    }

    fn key_value(&mut self) -> KeyValue {
        let key = self.key();
        self.key_value_of(key)
    }

    fn key_value_of(&mut self, key: Vec<u8>) -> KeyValue {
        let known: Vec<Revision> = self.shown.iter().filter(|(shown, _)| *shown == key).map(|(_, at)| *at).collect();
        let create_revision = match self.choices.below(8) {
            0 => self.choices.pick(&[0, -1, i64::MAX, i64::MIN, 1]),
            1 => self.revision,
            2 => self.revision + 1,
            _ if known.is_empty() => self.revision - self.choices.below(9) as i64,
            _ => self.choices.pick(&known),
        };
        let large = self.choices.once_in(20);
        KeyValue {
            key,
            value: if large { vec![b'x'; 20_000] } else { self.choices.bytes(3) },
            create_revision,
            mod_revision: self.choices.pick(&[create_revision, self.revision, 0, i64::MAX]),
            lease: self.lease(),
        }
    }

    fn range_result(&mut self, range: &Range) -> RangeResult {
        let count = self.choices.pick(&[1, 0, 1, 2, 3, 9]);
        let mut kvs: Vec<KeyValue> = (0..count)
            .map(|_| match range.end.is_empty() && !self.choices.once_in(8) {
                true => self.key_value_of(range.key.clone()),
                false => self.key_value(),
            })
            .collect();
        if !self.choices.once_in(8) {
            kvs.sort_by_key(|kv| kv.create_revision);
        }
        if range.limit > 0 && !self.choices.once_in(8) {
            kvs.truncate(usize::try_from(range.limit).unwrap_or(usize::MAX));
        }
        RangeResult { kvs, more: self.choices.once_in(6) }
    }

    /// What `txn` could be answered with, mostly.
    fn txn_result(&mut self, txn: &Txn, depth: usize) -> TxnResult {
        let succeeded = !self.choices.once_in(3);
        let ops = if succeeded { &txn.then } else { &txn.otherwise };
        let mut results: Vec<OpResult> = ops
            .iter()
            .map(|op| match (self.choices.below(24), op) {
                (23, _) => OpResult::Put,
                (22, _) => OpResult::Range(self.range_result(&Range::default())),
                (21, _) => OpResult::Delete(self.choices.pick(&[0, 1, -1, i64::MAX])),
                (_, Op::Put { .. }) => OpResult::Put,
                (_, Op::Delete(_)) => OpResult::Delete(self.choices.pick(&[1, 0])),
                (_, Op::Range(range)) => OpResult::Range(self.range_result(range)),
                (_, Op::Txn(inner)) if depth < 3 => OpResult::Txn(self.txn_result(inner, depth + 1)),
                (_, Op::Txn(_)) => OpResult::Put,
            })
            .collect();
        match self.choices.below(24) {
            22 => drop(results.pop()),
            23 => results.push(OpResult::Put),
            _ => {}
        }
        TxnResult { succeeded, results }
    }

    fn lease_state(&mut self, asked: i64) -> LeaseState {
        let ttl_s = match self.choices.below(16) {
            0 => self.choices.pick(&[0, -1, i64::MAX, i64::MIN, 1, 3600]),
            _ => asked,
        };
        LeaseState { header: self.header(), ttl_s }
    }

    fn any_answer(&mut self) -> Answer {
        match self.choices.below(4) {
            0 => Answer::Lease(self.lease_state(10)),
            1 => Answer::Revoked(self.header()),
            2 => {
                let (header, ops) = (self.header(), vec![Op::Range(Range::default()); 2]);
                Answer::Txn(header, self.txn_result(&Txn { then: ops, ..Txn::default() }, 0))
            }
            _ => Answer::Range(self.header(), self.range_result(&Range::default())),
        }
    }

    /// Answers a request under way, the oldest mostly.
    fn answer(&mut self) {
        let ids: Vec<_> = self.calls.keys().copied().collect();
        if ids.is_empty() {
            return self.pass();
        }
        let call = if self.choices.once_in(4) { self.choices.pick(&ids) } else { ids[0] };
        // Twice the same is one answer to what nobody asked any more.
        let request = match self.choices.once_in(30) {
            true => self.calls.get(&call).cloned(),
            false => self.calls.remove(&call),
        };
        let Some(request) = request else { return };
        let result = match self.choices.below(16) {
            0 => Err(StoreError::new(Failure::Unknown, "lost")),
            1 => Err(StoreError::new(self.choices.pick(&FAILURES), "hostile\nmessage")),
            2 => Ok(self.any_answer()),
            _ => Ok(match &request {
                Request::Grant { ttl_s, .. } => Answer::Lease(self.lease_state(*ttl_s)),
                Request::KeepAlive(_) => Answer::Lease(self.lease_state(10)),
                Request::Revoke(_) => Answer::Revoked(self.header()),
                Request::Txn(txn) => {
                    let (header, result) = (self.header(), self.txn_result(txn, 0));
                    Answer::Txn(header, self.honest_join(header, txn, result))
                }
                Request::Range(range) => Answer::Range(self.header(), self.range_result(range)),
            }),
        };
        if let Ok(Answer::Txn(_, result)) = &result {
            self.note_txn(result);
        }
        if let Ok(Answer::Range(_, result)) = &result {
            self.note_range(result);
        }
        self.feed(Input::Answer { call, result });
    }

    /// Joins that win are rare among random ones: half of those alone in their transaction become one.
    fn honest_join(&mut self, header: Header, txn: &Txn, result: TxnResult) -> TxnResult {
        let Some(Op::Put { key, .. }) = txn.then.first() else { return result };
        if self.choices.once_in(2) {
            return result;
        }
        let kv = KeyValue { key: key.clone(), create_revision: header.revision, ..KeyValue::default() };
        let first = RangeResult { kvs: vec![kv], more: false };
        TxnResult { succeeded: true, results: vec![OpResult::Put, OpResult::Range(first)] }
    }

    fn note_txn(&mut self, result: &TxnResult) {
        for result in &result.results {
            match result {
                OpResult::Range(range) => self.note_range(range),
                OpResult::Txn(inner) => self.note_txn(inner),
                OpResult::Put | OpResult::Delete(_) => {}
            }
        }
    }

    fn note_range(&mut self, result: &RangeResult) {
        self.shown.extend(result.kvs.iter().map(|kv| (kv.key.clone(), kv.create_revision)));
    }

    fn watch(&mut self) {
        let Some(open) = self.stream else { return };
        let stream = if self.choices.once_in(16) { open.wrapping_sub(1) } else { open };
        let watches = self.watches.clone();
        let id = match watches.is_empty() || self.choices.once_in(16) {
            true => self.choices.number(),
            false => self.choices.pick(&watches),
        };
        let message = match self.choices.below(12) {
            0..4 => WatchMessage::Created { id, header: self.header() },
            4 => {
                let error = StoreError::new(self.choices.pick(&FAILURES), "hostile");
                WatchMessage::Canceled { id, error }
            }
            5 => WatchMessage::Progress(self.header()),
            6 => {
                let error = StoreError::new(self.choices.pick(&FAILURES), "hostile");
                if stream == open {
                    self.stream = None;
                    self.watches.clear();
                }
                return self.feed(Input::WatchEnded { stream, error });
            }
            _ => {
                let header = self.header();
                let count = self.choices.below(4);
                let events = (0..count).map(|_| self.watch_event(header)).collect();
                WatchMessage::Events { id, header, events }
            }
        };
        self.feed(Input::Watch { stream, message });
    }

    fn watch_event(&mut self, header: Header) -> WatchEvent {
        if self.choices.once_in(2) {
            let kv = self.key_value();
            self.shown.insert((kv.key.clone(), kv.create_revision));
            return WatchEvent::Put(kv);
        }
        let revision = self.choices.pick(&[header.revision, 0, i64::MAX, -1]);
        WatchEvent::Delete { key: self.key(), revision }
    }

    fn feed(&mut self, input: Input) {
        let mut outputs = Vec::new();
        self.core.handle(self.now, input, &mut outputs);
        for output in outputs {
            assert!(!self.finished, "{output:?} after the last output");
            self.take(output);
        }
    }

    fn take(&mut self, output: Output) {
        match output {
            Output::Call { id, request, timeout } => {
                assert!(timeout > 0, "{request:?} has no time");
                if let Request::Grant { lease, .. } = request {
                    assert!(lease > 0);
                    self.leases.insert(lease);
                }
                assert!(self.calls.insert(id, request).is_none(), "call {id} twice");
            }
            Output::OpenWatch { stream } => {
                self.stream = Some(stream);
                self.watches.clear();
            }
            Output::Watch { stream, request } => {
                if let WatchRequest::Create { id, .. } = request
                    && self.stream == Some(stream)
                {
                    assert!(!self.watches.contains(&id), "watch {id} twice");
                    self.watches.push(id);
                }
            }
            Output::CloseWatch { stream } => {
                if self.stream == Some(stream) {
                    self.stream = None;
                }
            }
            Output::Lead { id, token, until } => self.lead(id, token, until),
            Output::Status(id, status) => self.status(id, &status),
            Output::Reply(reply, _) => {
                assert!(self.asked.remove(&reply).is_some(), "{reply} is answered unasked, or twice")
            }
            Output::Finished => self.finished = true,
            Output::Rotate { .. } | Output::Observation(..) | Output::Log(..) => {}
        }
    }

    fn lead(&mut self, id: SubscriptionId, token: Revision, until: Nanos) {
        let Some(life) = self.lives.get_mut(&id) else { panic!("{id} leads, who never stood") };
        life.token = token;
        if token == 0 {
            return;
        }
        assert!(until > self.now, "{id} leads until {until}, it is {}", self.now);
        // With which of its leases, it may have forgotten already.
        let prefix = self.core.keys.election(life.election);
        let mut own = self.leases.iter().map(|&lease| keys::candidate(&prefix, lease));
        assert!(own.any(|key| self.shown.contains(&(key, token))), "{id} leads with {token}, which nobody has shown");
    }

    fn status(&mut self, id: SubscriptionId, status: &Status) {
        let Some(life) = self.lives.get_mut(&id) else { panic!("{status:?} of nobody") };
        let follows = match (life.state, status.state) {
            (None, State::Follower) => true,
            (None | Some(State::Closed), _) => false,
            (Some(State::Error), next) => matches!(next, State::Follower | State::Closed),
            (Some(State::Follower | State::Leader), _) => true,
        };
        assert!(follows, "{status:?} after {:?}", life.state);
        assert_eq!(status.sequence, life.sequence + 1);
        assert_eq!(status.state == State::Leader, life.token != 0 && status.token == life.token, "{status:?}");
        (life.state, life.sequence) = (Some(status.state), status.sequence);
    }

    /// Nobody answers any more; what is under way is lost when there is nothing else to wait for.
    fn come_to_an_end(&mut self) {
        if !self.finished {
            self.feed(Input::Close);
        }
        for _ in 0..2000 {
            if self.finished {
                break;
            }
            if let Some(due) = self.core.wake_at() {
                self.now = self.now.max(due);
                self.feed(Input::Wake);
                continue;
            }
            let Some((call, _)) = self.calls.pop_first() else { panic!("closed, and nothing to wait for") };
            self.feed(Input::Answer { call, result: Err(StoreError::new(Failure::Unknown, "lost")) });
        }
        assert!(self.finished, "closed, and not finished for ever");
        assert!(self.asked.is_empty(), "{:?} were never answered", self.asked);
        let closed = |life: &Life| matches!(life.state, None | Some(State::Closed));
        assert!(self.lives.values().all(closed), "a campaign has not ended");
    }
}
