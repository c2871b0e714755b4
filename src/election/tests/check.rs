//! What must hold in the test world after every step, and at the end. Of the invariants in `docs/design.md`:
//!
//! 1. `check_lead` at every change of a claim and `check_claims` at every change of the store: one claim at most, by the
//!    lowest key; `check_told`: a claim ends with the watch's word that its key is gone.
//! 2. Claims are judged by the process's own clock at every look (`Life::claims_at`), whatever it has still to hear.
//! 3. `check_term`: at the event's revision the own key was the lowest, and on the own lease; `check_status`: the deadline
//!    is ahead.
//! 4. `Life::follows` and `check_status`: LEADER never after resign or close, a loss for each, CLOSED last, sequence numbers.
//! 5. `check_end` and the simulation's `wrong_queue`: no key is left that is nobody's, no lease; `check_finished`: none that
//!    is still to end or to be granted when a service says that it is finished; `check_service`: nothing is waited for
//!    that nobody needs.
//! 6. The simulation's `check_withdrawn`, when a resignation is confirmed.
//! 7. `check_term`: the token is above all before.
//! 8. Here nobody reads; the mailbox's tests and `crate::simulation` have slow consumers.
//! 9. `tests/c/fork.c`.
//! 10. The tests of the C ABI; here a debug build checks the engine's own invariants after every input.
//!
//! And liveness: the simulation's `come_to_rest` gives every election a leader within a bound once the faults are over.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::wire::Event;
use super::world::{Candidate, Service, World};
use crate::clock::Nanos;
use crate::election::timers::Timer;
use crate::election::{Candidacy, Request, keys};
use crate::error::Code;
use crate::events::{self, Observation, State, Status, SubscriptionId};
use crate::store::{LeaseId, Revision, WatchEvent};

/// What a campaign has told so far.
#[derive(Debug)]
pub(super) struct Life {
    election: Arc<str>,
    at_risk: bool,
    pub(super) state: Option<State>,
    events: Vec<Status>,
    read: usize,
    /// Resigned, or its service closed.
    pub(super) resigned: bool,
    token: Revision,
    until: Nanos,
    /// The store was exchanged under its feet: its claim may be wrong until it hears of that.
    pub(super) excused: bool,
    /// Its lease was there when another cluster took the store's place, and so it is in the former one.
    pub(super) bereaved: bool,
}

impl Life {
    pub(super) fn new(candidacy: &Candidacy) -> Self {
        Life {
            election: candidacy.election.clone(),
            at_risk: candidacy.at_risk,
            state: None,
            events: Vec::new(),
            read: 0,
            resigned: false,
            token: 0,
            until: 0,
            excused: false,
            bereaved: false,
        }
    }

    pub(super) fn claims_at(&self, local: Nanos) -> bool {
        self.token > 0 && local < self.until
    }

    pub(super) fn election(&self) -> &str {
        &self.election
    }

    pub(super) fn last(&self) -> Option<&Status> {
        self.events.last()
    }

    pub(super) fn unread(&self) -> &[Status] {
        &self.events[self.read..]
    }

    pub(super) fn read(&mut self) -> Status {
        self.read += 1;
        self.events[self.read - 1].clone()
    }

    pub(super) fn died(&mut self) {
        (self.token, self.until) = (0, 0);
    }

    /// FOLLOWER first, CLOSED last, LEADER only from FOLLOWER, and one loss event for each.
    fn follows(&self, next: State) -> bool {
        match (self.state, next) {
            (None, State::Follower) => true,
            (None | Some(State::Closed), _) => false,
            (Some(State::Follower), _) => true,
            (Some(State::Leader), _) => true,
            (Some(State::Error), State::Follower | State::Closed) => true,
            (Some(State::Error), _) => false,
        }
    }
}

impl World {
    /// Who claims to lead now, with the token.
    pub(super) fn claims(&self, election: &str) -> impl Iterator<Item = (Candidate, Revision)> {
        self.processes.iter().enumerate().flat_map(move |(at, process)| {
            let local = process.local(self.now);
            let claiming = process.lives.iter().filter(move |(_, life)| &*life.election == election);
            let claiming = claiming.filter(move |(_, life)| life.claims_at(local));
            claiming.map(move |(&id, life)| (Candidate { service: Service(at), id }, life.token))
        })
    }

    /// A claim that can't be held against the engine: an administrator removed the key, or exchanged the store, and
    /// the news is on its way.
    fn is_excused(&self, candidate: Candidate, token: Revision) -> bool {
        let process = &self.processes[candidate.service.0];
        self.excused.contains(&token)
            || process.lives[&candidate.id].excused
            || process.core.cluster_id != self.etcd.cluster_id
    }

    pub(super) fn check_lead(&mut self, candidate: Candidate, token: Revision, until: Nanos) {
        let life = self.life(candidate);
        if token == 0 {
            life.excused = false;
        } else {
            assert!(!life.resigned, "{candidate:?} leads after it was resigned");
        }
        (life.token, life.until) = (token, until);
        if token > 0 {
            self.check_not_gone(candidate);
        }
        let life = self.life(candidate);
        let election = life.election.clone();
        let sound: Vec<_> = self.claims(&election).filter(|&(other, token)| !self.is_excused(other, token)).collect();
        assert!(sound.len() < 2, "`{election}` is led by all of {sound:?}");
    }

    pub(super) fn check_status(&mut self, candidate: Candidate, status: Status) {
        let local = self.processes[candidate.service.0].local(self.now);
        let cluster_id = self.etcd.cluster_id;
        let life = self.life(candidate);
        assert!(life.follows(status.state), "{status:?} after {:?}", life.state);
        assert_eq!(status.sequence, life.events.last().map_or(0, |last| last.sequence) + 1);
        let was = life.state.replace(status.state);
        if status.state == State::Error {
            assert!(!life.bereaved || status.reason != Code::LeaseRevoked, "another cluster's word: {status:?}");
            life.bereaved = false;
            self.note(status.reason.name());
        } else if status.cluster_id == cluster_id {
            // It stands in the other cluster with a session of its own there.
            life.bereaved = false;
        }
        let life = self.life(candidate);
        life.events.push(status.clone());
        assert_eq!(status.deadline_ns > 0, status.state == State::Leader, "{status:?}");
        match status.state {
            State::Leader => {
                assert!(!life.resigned && life.claims_at(local) && life.token == status.token, "{status:?}");
                assert!(life.at_risk || !status.at_risk, "at_risk unasked for: {status:?}");
                if was != Some(State::Leader) {
                    self.note("terms");
                    self.check_term(candidate, &status);
                }
            }
            _ => assert!(!life.claims_at(local), "{status:?} while it claims to lead"),
        }
    }

    /// The watch has told of changes of keys: a claim on one that is gone must have ended with the word of it.
    pub(super) fn check_told(&mut self, service: Service, events: Vec<WatchEvent>) {
        for event in events {
            let (key, on, revision) = event.outcome();
            if key.rsplit(|&byte| byte == b'/').next() != Some(&keys::candidate(b"", on)) {
                self.process(service).told_gone.insert(key.to_vec(), revision);
            }
        }
        let ids: Vec<SubscriptionId> = self.process(service).lives.keys().copied().collect();
        ids.into_iter().for_each(|id| self.check_not_gone(Candidate { service, id }));
    }

    /// Nobody claims to lead by a key of which its watch has told that it is gone.
    fn check_not_gone(&self, candidate: Candidate) {
        let process = &self.processes[candidate.service.0];
        let life = &process.lives[&candidate.id];
        let place = process.core.place(candidate.id).filter(|_| life.claims_at(process.local(self.now)));
        let key = place.and_then(|(election, session)| process.core.own_key(session, &election));
        let gone = key.and_then(|key| process.told_gone.get(&key)).filter(|gone| **gone > life.token);
        assert_eq!(gone, None, "{candidate:?} leads with {}, but was told that its key is gone", life.token);
    }

    /// A service says that nothing of it is left: no lease that is still to end, and none still to be granted.
    pub(super) fn check_finished(&mut self, service: Service) {
        let process = &self.processes[service.0];
        let local = process.local(self.now);
        let in_flight = |lease: LeaseId| {
            self.queue.values().any(|event| match event {
                Event::Request(of, call, Request::Grant { lease: asked, .. }, _) => {
                    *of == service && *asked == lease && process.calls.contains(call)
                }
                _ => false,
            })
        };
        for (&lease, _) in process.leases.iter().filter(|(_, over)| local < **over && !process.exchanged) {
            let is_over = self.etcd.is_over(lease, self.now) || process.late_grants.contains(&lease);
            assert!(is_over, "{service:?} is finished, but there is lease {lease:x}");
            assert!(!in_flight(lease), "{service:?} is finished, but lease {lease:x} is about to be granted");
        }
    }

    /// A term has begun: proved by one revision of the store, and with a token above all before.
    fn check_term(&mut self, candidate: Candidate, status: &Status) {
        if self.is_excused(candidate, status.token) {
            return;
        }
        let lowest = self.etcd.lowest_at(&self.prefix(&status.election), status.revision);
        let token = lowest.as_ref().map(|(token, _)| *token);
        assert_eq!(token, Some(status.token), "the lowest at revision {} is {lowest:?}: {status:?}", status.revision);
        let core = &self.processes[candidate.service.0].core;
        let key = core.place(candidate.id).and_then(|(election, session)| {
            Some((core.own_key(session, &election)?, core.sessions.get(&session)?.lease))
        });
        let lease = lowest.and_then(|(token, key)| Some((self.etcd.lease_at(&key, token, status.revision)?, key)));
        assert_eq!(lease.map(|(lease, key)| (key, lease)), key, "the key is another's: {status:?}");
        let last = self.terms.insert(status.election.clone(), status.token).unwrap_or(0);
        assert!(status.token > last, "token {} after {last}", status.token);
        if last > 0 {
            self.note("hand-overs");
        }
    }

    pub(super) fn check_observation(&mut self, service: Service, id: SubscriptionId, next: &Observation) {
        let cluster_id = self.etcd.cluster_id;
        let prefix = self.prefix(&next.election);
        if let Some(last) = self.process(service).observed.get(&id) {
            assert!(!last.closed, "{next:?} after {last:?}");
            let anew = next.cluster_id != last.cluster_id || next.reason == Code::ClusterChanged;
            assert!(anew || next.revision >= last.revision, "{next:?} after {last:?}");
        }
        let sequence = self.process(service).observed.get(&id).map_or(0, |last| last.sequence) + 1;
        assert_eq!(next.sequence, sequence, "{next:?}");
        self.note("observations");
        if next.connected && !next.closed && next.cluster_id == cluster_id && !self.processes[service.0].bygone {
            let is_name = |key: &[u8]| !key[prefix.len()..].contains(&b'/');
            let lowest = self.etcd.lowest_at(&prefix, next.revision).filter(|(_, key)| is_name(key));
            let nested = next.reason == Code::NameCollision;
            let leader = next.leader.as_ref().map(|leader| leader.token);
            assert!(nested || leader == lowest.map(|(token, _)| token), "{next:?}");
            let known = |leader: &events::Candidate| {
                self.etcd.had_value(&leader.key, leader.token, &leader.value, next.revision)
            };
            assert!(self.rewound || next.leader.as_ref().is_none_or(known), "an old value: {next:?}");
        }
    }

    /// The store has changed: whoever claims to lead has the lowest key in it.
    pub(super) fn check_claims(&self) {
        let mut lowest: BTreeMap<Vec<u8>, Revision> = BTreeMap::new();
        for kv in self.etcd.keys(b"") {
            let prefix = kv.key.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
            let token = lowest.entry(kv.key[..prefix].to_vec()).or_insert(kv.create_revision);
            *token = kv.create_revision.min(*token);
        }
        for (at, process) in self.processes.iter().enumerate() {
            let local = process.local(self.now);
            for (&id, life) in process.lives.iter().filter(|(_, life)| life.claims_at(local)) {
                let candidate = Candidate { service: Service(at), id };
                let first = lowest.get(&process.core.keys.election(&life.election));
                assert!(
                    first == Some(&life.token) || self.is_excused(candidate, life.token),
                    "{candidate:?} leads with {}, but the lowest is {first:?}",
                    life.token
                );
            }
        }
    }

    /// Nothing is waited for that nobody needs.
    pub(super) fn check_service(&mut self, service: Service) {
        let core = &self.process(service).core;
        for timer in core.timers.pending() {
            let needed = match timer {
                Timer::Deadline(id) | Timer::Session(id) | Timer::LeaseOver(id) | Timer::Graves(id) => {
                    core.sessions.contains_key(&id)
                }
                Timer::StepDown(id) | Timer::Campaign(id) | Timer::WaitLimit(id) => core.campaigns.contains_key(&id),
                Timer::Read(id) | Timer::ReadLimit(id) => core.reads.contains_key(&id),
                Timer::WatchOpen | Timer::Heartbeat | Timer::Lists => !core.closing,
                Timer::Batch => !core.batch.is_empty(),
            };
            assert!(needed, "{timer:?} is for nothing");
        }
        for (name, election) in core.elections.iter().filter(|(_, election)| election.distance.is_some()) {
            let alone = election.campaign.is_some() && election.observers.is_empty();
            assert!(alone, "`{name}` is watched from afar for those who need to see it");
        }
        let afar = core.elections.values().any(|election| election.distance.is_some() && election.watch.is_none());
        let parts: usize = core.groups.values().map(Vec::len).sum();
        assert_eq!(core.parts.len(), parts + core.batch.len(), "lost or forgotten parts");
        assert!(core.groups.keys().all(|group| core.calls.contains_key(group)), "a group without a call");
        if afar {
            self.note("watched from afar");
        }
    }

    pub(super) fn check_end(&mut self) {
        for (at, process) in self.processes.iter().enumerate().filter(|(_, process)| process.finished) {
            for (id, life) in &process.lives {
                let refused = life.state.is_none();
                assert!(refused || life.state == Some(State::Closed), "{id} of {at} ended as {:?}", life.state);
            }
            assert!(process.core.sessions.is_empty() && process.core.campaigns.is_empty());
        }
        let forgotten = self.unanswered().find(|service| self.processes[service.0].finished);
        assert_eq!(forgotten, None, "a caller was never answered");
        assert_eq!(self.etcd.own_leases(), 0, "leases are left");
        let ghosts: Vec<_> = self.etcd.keys(b"").into_iter().filter(|kv| !self.etcd.is_foreign(kv.lease)).collect();
        assert!(ghosts.is_empty(), "{ghosts:?}");
    }
}
