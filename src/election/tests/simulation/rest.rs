//! When the faults are over: every election that somebody stands in has one leader, observers know it, nobody waits
//! for anything, nothing is left of those who have gone; and so it stays, through orderly changes of leaders.

use std::collections::{BTreeMap, BTreeSet};

use super::Simulation;
use super::faults::LATEST;
use crate::clock::{MS, Nanos, SECOND};
use crate::election::tests::world::{Candidate, Service};
use crate::election::timers::Timer;
use crate::events::{Observation, State, Status};
use crate::store::{Header, KeyValue};

/// From the last fault to rest: a lease may have to end, and somebody who stands again rests up to 10 s.
const RECOVERY: Nanos = 60 * SECOND;

/// What candidates and observers were told last, and the store's revision.
type Told = (Vec<(Candidate, Option<Status>)>, Vec<Observation>, Header);

impl Simulation {
    /// Ends all faults and waits until everything is as it should be.
    pub(super) fn come_to_rest(&mut self) {
        self.tell("the faults are over");
        self.world.heal();
        (self.world.latency, self.world.jitter, self.world.stream_lag, self.world.late_wakes) = (MS, 0, 0, 0);
        (self.world.etcd.expiry_lag, self.world.etcd.behind) = (0, 0);
        self.world.slow_watches.clear();
        (self.world.etcd.forbidden, self.world.etcd.max_ops) = (Vec::new(), 128);
        (0..self.world.processes.len()).for_each(|at| self.world.resume(Service(at)));
        // What is late arrives, though sent in the last moment and by a slow network.
        self.pass(LATEST + 2 * SECOND);
        for kv in self.world.etcd.keys(b"") {
            if self.world.etcd.is_foreign(kv.lease) {
                self.world.go_resign(&kv.key);
            }
        }
        if self.restored {
            self.clear_up();
        }
        let limit = self.world.now + RECOVERY;
        while let Some(why) = self.unrest() {
            assert!(self.world.now < limit, "no rest: {why}");
            self.pass(250 * MS);
        }
        self.tell("all is at rest");
        let told = self.told();
        self.pass(30 * SECOND);
        assert_eq!(self.unrest(), None);
        assert_eq!(self.told(), told, "news without a reason");
    }

    /// Who restores a backup below running services has to. When the store has meanwhile gone beyond what they knew,
    /// they can't tell that it was restored: they keep alive what came back on their leases, and miss no key of their
    /// own that didn't.
    fn clear_up(&mut self) {
        self.pass(30 * SECOND);
        let living: Vec<Candidate> = self.candidates.iter().copied().filter(|c| !self.is_over(*c)).collect();
        let mut owned = BTreeSet::new();
        for candidate in living {
            match self.world.key_of(candidate) {
                Some(kv) => {
                    owned.insert(kv.key);
                }
                None => {
                    self.world.resign(candidate);
                }
            }
        }
        for kv in self.world.etcd.keys(b"") {
            if !owned.contains(&kv.key) {
                self.world.go_resign(&kv.key);
            }
        }
    }

    /// Leaders resign, and those who come next lead at once.
    pub(super) fn hand_over(&mut self) {
        for _ in 0..3 {
            for candidate in self.candidates.clone() {
                if !self.is_over(candidate) && self.world.is_leader(candidate) {
                    self.world.resign(candidate);
                }
            }
            self.pass(SECOND);
            assert_eq!(self.unrest(), None, "after all leaders have resigned");
        }
    }

    fn told(&self) -> Told {
        let candidates = self.candidates.iter().map(|c| (*c, self.life_of(*c).last().cloned()));
        let watchers = self.world.processes.iter().flat_map(|process| process.observed.values().cloned());
        (candidates.collect(), watchers.collect(), self.world.etcd.header())
    }

    /// What is not yet as it should be.
    fn unrest(&mut self) -> Option<String> {
        self.unfinished().or_else(|| self.wrong_queue()).or_else(|| self.wrong_view())
    }

    fn unfinished(&self) -> Option<String> {
        let limited = |c: &&Candidate| {
            let core = &self.world.processes[c.service.0].core;
            !self.is_over(**c) && core.timers.is_set(Timer::WaitLimit(c.id))
        };
        if let Some(candidate) = self.candidates.iter().find(limited) {
            return Some(format!("{candidate:?} will not wait for ever"));
        }
        if let Some(service) = self.world.unanswered().find(|service| self.world.processes[service.0].is_up()) {
            return Some(format!("a caller of {service:?} waits"));
        }
        let up = self.world.processes.iter().enumerate().filter(|(_, process)| process.is_up());
        let mut sessions = BTreeSet::new();
        for (at, process) in up {
            if process.closing {
                return Some(format!("{at} is still closing"));
            }
            let is_mute = process.stream.as_ref().is_some_and(|stream| stream.stalled);
            if is_mute && !process.core.elections.is_empty() {
                return Some(format!("{at} has not noticed yet that its stream is mute"));
            }
            sessions.extend(process.core.sessions.values().map(|session| session.lease));
        }
        let left = self.world.etcd.leases_left().find(|lease| !sessions.contains(lease));
        left.map(|lease| format!("lease {lease:x} is left"))
    }

    /// Every key is a living candidate's, every living candidate has one, and the lowest of them leads.
    fn wrong_queue(&mut self) -> Option<String> {
        let mut owners: BTreeMap<Vec<u8>, Candidate> = BTreeMap::new();
        for candidate in self.candidates.clone() {
            if self.is_over(candidate) {
                continue;
            }
            let state = self.life_of(candidate).state;
            if self.life_of(candidate).resigned || state == Some(State::Error) {
                return Some(format!("{candidate:?} is {state:?} and on its way out"));
            }
            let Some(kv) = self.world.key_of(candidate) else {
                return Some(format!("{candidate:?} has no key"));
            };
            owners.insert(kv.key, candidate);
        }
        for election in self.elections.iter().chain(&self.crowd) {
            let prefix = self.world.prefix(election);
            let mut queue = self.candidates_of(&prefix);
            queue.sort_by_key(|kv| (kv.create_revision, kv.key.clone()));
            for (place, kv) in queue.iter().enumerate() {
                let Some(&owner) = owners.get(&kv.key) else {
                    return Some(format!("{kv:?} is nobody's"));
                };
                let leads = self.world.is_leader(owner);
                if leads != (place == 0) || leads != (self.life_of(owner).state == Some(State::Leader)) {
                    return Some(format!("{owner:?} is number {place} of `{election}`, is_leader {leads}"));
                }
                self.check_value(owner, kv);
            }
        }
        let keys = self.world.etcd.keys(b"").len();
        (keys != owners.len()).then(|| format!("{keys} keys of {} candidates", owners.len()))
    }

    /// Not those of elections nested inside.
    fn candidates_of(&self, prefix: &[u8]) -> Vec<KeyValue> {
        let mut all = self.world.etcd.keys(prefix);
        all.retain(|kv| !kv.key[prefix.len()..].contains(&b'/'));
        all
    }

    /// The last value that was confirmed, or one asked for later whose outcome nobody knows.
    fn check_value(&self, candidate: Candidate, kv: &KeyValue) {
        let values = &self.values[&candidate];
        let confirmed = |caller| self.world.reply_of(caller).is_some_and(|reply| reply.is_ok());
        let last = values.iter().rposition(|(caller, _)| caller.is_none_or(confirmed)).unwrap_or(0);
        // A restored store may have an older one, and be beyond the revision by which that could be told.
        let possible = if self.restored { values } else { &values[last..] };
        let is_right = possible.iter().any(|(_, value)| **value == kv.value);
        assert!(is_right, "{candidate:?} announces {}, but asked for {:?}", Short(&kv.value), {
            values.iter().map(|(caller, value)| (caller, Short(value).to_string())).collect::<Vec<_>>()
        });
    }

    fn wrong_view(&self) -> Option<String> {
        for &watcher in &self.watchers {
            if !self.world.processes[watcher.service.0].is_up() {
                continue;
            }
            let Some(seen) = self.world.processes[watcher.service.0].observed.get(&watcher.id) else {
                return Some(format!("{watcher:?} was never told anything"));
            };
            let prefix = self.world.prefix(&seen.election);
            let leader = self.candidates_of(&prefix).into_iter().min_by_key(|kv| (kv.create_revision, kv.key.clone()));
            let view = seen.leader.as_ref().map(|l| (l.token, l.key.to_vec(), l.lease, l.value.to_vec()));
            let truth = leader.map(|kv| (kv.create_revision, kv.key, kv.lease, kv.value));
            if !seen.connected || view != truth {
                return Some(format!("{watcher:?} sees {seen:?}, but there is {truth:?}"));
            }
        }
        None
    }
}

/// A value as text, and not all of a large one.
struct Short<'a>(&'a [u8]);

impl std::fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` of {} B", String::from_utf8_lossy(&self.0[..self.0.len().min(20)]), self.0.len())
    }
}
