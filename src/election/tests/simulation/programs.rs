//! What programs do in a simulation, and whether the answers that they get are true.

use std::time::Duration;

use super::Simulation;
use crate::clock::{MS, Nanos, SECOND};
use crate::election::tests::world::{Caller, Candidate, Service};
use crate::election::{Candidacy, Input, ReadKind, Reply};
use crate::error::Code;
use crate::events::State;
use crate::store::Revision;

/// More than mirrors keep.
const LARGE_VALUE: usize = 17 * 1024;

/// A question under way.
pub(super) struct Asked {
    caller: Caller,
    election: String,
    /// The store when it was asked.
    revision: Revision,
    exchanges: usize,
}

/// A resignation that waits for its confirmation.
pub(super) struct Withdrawn {
    caller: Caller,
    candidate: Candidate,
}

impl Simulation {
    /// Starts a process.
    pub(super) fn start(&mut self) {
        let ttl = 2 + self.below(19);
        self.world.ttl = Duration::from_secs(if self.chance(40) { 2 } else { ttl });
        let service = self.world.service();
        if self.chance(40) {
            let narrow = self.below(5) as usize;
            self.world.process(service).core.watch.narrow = narrow;
        }
        if self.chance(70) {
            let far = self.below(3) as usize;
            self.world.process(service).core.watch.far = far;
        }
        let rate = self.rate();
        self.world.set_clock_rate(service, rate);
        self.world.note("services opened");
        self.tell(&format!("starts {service:?}, ttl {:?}, {rate} ppm", self.world.ttl));
        let (crowd, stands) = (self.crowd.clone(), self.chance(50));
        if self.chance(50) {
            for election in crowd {
                if stands { self.campaign(service, election) } else { self.observe(service, election) }
            }
        }
    }

    pub(super) fn act(&mut self) {
        let services = self.services();
        let up = self.world.processes.iter().filter(|process| process.is_up()).count();
        if up < 2 || (up < 5 && self.world.processes.len() < 9 && self.chance(5)) {
            self.start();
        }
        let Some(service) = self.pick(&services) else { return };
        let all: Vec<String> = self.elections.iter().chain(&self.crowd).cloned().collect();
        let some = if self.chance(90) { self.elections.clone() } else { all };
        let Some(election) = self.pick(&some) else { return };
        match self.below(100) {
            0..40 => self.campaign(service, election),
            40..60 => self.resign(),
            60..70 => self.proclaim(),
            70..79 => self.observe(service, election),
            79..84 => self.unobserve(),
            84..92 => self.ask(service, election),
            92..95 => self.flash(service, election),
            95..97 => self.forget(),
            _ => {
                self.world.note("services closed");
                self.tell(&format!("{service:?} closes"));
                self.world.close(service);
            }
        }
    }

    /// Stands, and has enough of it at once.
    fn flash(&mut self, service: Service, election: String) {
        self.campaign(service, election);
        let latency = self.world.latency as u64;
        let pause = if self.chance(50) { 0 } else { self.below(3 * latency) as Nanos };
        self.pass(pause);
        if !self.services().contains(&service) {
            return;
        }
        let newest = self.candidates.last().copied().filter(|c| c.service == service && !self.is_over(*c));
        match newest.filter(|_| self.chance(60)) {
            Some(candidate) => {
                self.note_keys();
                let caller = self.world.resign(candidate);
                self.withdrawn.push(Withdrawn { caller, candidate });
            }
            None => self.world.close(service),
        }
    }

    /// Somebody stops waiting for an answer.
    fn forget(&mut self) {
        let resigning = self.withdrawn.pop().map(|withdrawn| (withdrawn.candidate, withdrawn.caller));
        let proclaiming = |sim: &Self| {
            let all = sim.values.iter().flat_map(|(c, values)| values.iter().map(|(caller, _)| (*c, *caller)));
            all.filter_map(|(c, caller)| Some((c, caller?))).find(|(_, caller)| sim.world.is_waiting(*caller))
        };
        let Some((candidate, caller)) = resigning.or_else(|| proclaiming(self)) else { return };
        if self.services().contains(&candidate.service) {
            self.world.note("caller stopped waiting");
            self.world.forget(candidate, caller);
        } else if let Some((candidate, caller)) = resigning {
            self.withdrawn.push(Withdrawn { caller, candidate });
        }
    }

    fn value(&mut self) -> Vec<u8> {
        match self.below(20) {
            0 => vec![b'v'; LARGE_VALUE],
            other => format!("value {other}").into_bytes(),
        }
    }

    fn campaign(&mut self, service: Service, election: String) {
        let most = self.world.process(service).core.ttl / 3;
        let candidacy = Candidacy {
            election: election.into(),
            value: self.value().into(),
            rejoin: self.chance(60),
            at_risk: self.chance(50),
            step_down_margin: if self.chance(25) { most / (1 + self.below(8) as u32) } else { Duration::ZERO },
            wait_limit: self.chance(15).then(|| Duration::from_millis(10 + self.below(20_000))),
        };
        let value = candidacy.value.clone();
        let (candidate, caller) = self.world.try_stand(service, candidacy);
        if self.world.reply_of(caller) == Some(Ok(Reply::Done)) {
            self.candidates.push(candidate);
            self.values.insert(candidate, vec![(None, value)]);
        }
    }

    /// Somebody's own candidate, running or over.
    fn own_candidate(&mut self, is_fit: impl Fn(&Self, Candidate) -> bool) -> Option<Candidate> {
        let services = self.services();
        let own = self.candidates.iter().filter(|c| services.contains(&c.service) && is_fit(self, **c));
        let own: Vec<Candidate> = own.copied().collect();
        self.pick(&own)
    }

    fn resign(&mut self) {
        let any = self.chance(10);
        let Some(candidate) = self.own_candidate(|sim, c| any || !sim.is_over(c)) else { return };
        self.note_keys();
        if self.chance(20) {
            self.world.life(candidate).resigned = true;
            self.world.feed(candidate.service, Input::Resign { id: candidate.id, reply: None });
        } else {
            let caller = self.world.resign(candidate);
            self.withdrawn.push(Withdrawn { caller, candidate });
        }
    }

    fn proclaim(&mut self) {
        let any = self.chance(10);
        let leads = |sim: &Self, c| sim.life_of(c).state == Some(State::Leader);
        let Some(candidate) = self.own_candidate(|sim, c| any || leads(sim, c)) else { return };
        for _ in 0..1 + self.below(3) {
            // Its service's time may be over with the first.
            if !self.world.processes[candidate.service.0].is_up() {
                break;
            }
            let value = self.value();
            let caller = self.world.proclaim(candidate, &value);
            self.values.entry(candidate).or_default().push((Some(caller), value.into()));
        }
    }

    fn observe(&mut self, service: Service, election: String) {
        let watcher = self.world.observe(service, &election);
        self.watchers.push(watcher);
    }

    fn unobserve(&mut self) {
        let services = self.services();
        let own: Vec<_> = self.watchers.iter().copied().filter(|w| services.contains(&w.service)).collect();
        if let Some(watcher) = self.pick(&own) {
            self.world.unobserve(watcher);
            self.watchers.retain(|other| *other != watcher);
        }
    }

    fn ask(&mut self, service: Service, election: String) {
        let kind = if self.chance(50) { ReadKind::Leader } else { ReadKind::Candidates };
        let timeout = MS + self.below(10 * SECOND as u64) as Nanos;
        let (revision, exchanges) = (self.world.etcd.header().revision, self.exchanges);
        let caller = self.world.read(service, kind, &election, timeout);
        self.asked.push(Asked { caller, election, revision, exchanges });
    }

    /// Remembers which keys candidates have.
    pub(super) fn note_keys(&mut self) {
        for candidate in self.candidates.clone() {
            let core = &self.world.process(candidate.service).core;
            let key = core.place(candidate.id).and_then(|(election, session)| core.own_key(session, &election));
            self.keys.entry(candidate).or_default().extend(key);
        }
    }

    pub(super) fn check_answers(&mut self) {
        let asked = std::mem::take(&mut self.asked);
        for asked in asked {
            match self.world.reply_of(asked.caller) {
                Some(answer) if asked.exchanges == self.exchanges => {
                    self.world.note("reads");
                    self.check_read(&asked, &answer);
                }
                Some(_) => {}
                None => self.asked.push(asked),
            }
        }
        let withdrawn = std::mem::take(&mut self.withdrawn);
        for withdrawn in withdrawn {
            match self.world.reply_of(withdrawn.caller) {
                Some(Ok(_)) => {
                    self.world.note("resignations confirmed");
                    self.check_withdrawn(withdrawn.candidate);
                }
                Some(Err(error)) => panic!("{error}"),
                None => self.withdrawn.push(withdrawn),
            }
        }
    }

    /// What was read was so at some instant between question and answer.
    fn check_read(&self, asked: &Asked, answer: &Result<Reply, crate::error::Error>) {
        let told: Vec<(Revision, Vec<u8>)> = match answer {
            Ok(Reply::Candidates(all)) => all.iter().map(|c| (c.token, c.key.to_vec())).collect(),
            Ok(Reply::Leader(leader)) => vec![(leader.token, leader.key.to_vec())],
            Ok(Reply::Done) => panic!("{answer:?} to a question"),
            Err(error) if error.code() == Code::NoLeader => Vec::new(),
            Err(_) => return,
        };
        let prefix = self.world.prefix(&asked.election);
        let only_first = !matches!(answer, Ok(Reply::Candidates(_)));
        let is_true = |revision| {
            let mut queue = self.world.etcd.queue_at(&prefix, revision);
            queue.truncate(if only_first { 1 } else { usize::MAX });
            queue == told
        };
        let now = self.world.etcd.header().revision;
        assert!((asked.revision..=now).any(is_true), "never since {}: {answer:?}", asked.revision);
    }

    /// A resignation was confirmed: the candidate has no key any more.
    fn check_withdrawn(&self, candidate: Candidate) {
        let election = self.life_of(candidate).election();
        let again = |c: &&Candidate| c.service == candidate.service && self.life_of(**c).election() == election;
        let newest = self.candidates.iter().filter(again).max();
        // A request that was lost for long may bring the key back for a while, and a new candidate may use it again.
        if self.late || newest != Some(&candidate) || self.exchanges > 0 {
            return;
        }
        for key in self.keys.get(&candidate).into_iter().flatten() {
            let mut left = self.world.etcd.keys(key);
            // A store that is late to end a lease whose time is over can't be waited for.
            left.retain(|kv| {
                !self.world.etcd.is_foreign(kv.lease) && !self.world.etcd.is_over(kv.lease, self.world.now)
            });
            assert!(left.is_empty(), "{candidate:?} has resigned, but there is {left:?}");
        }
    }
}
