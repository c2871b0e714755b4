//! What goes wrong in a simulation: only what the design's invariants allow for. A store that lies (a lease that it
//! says is gone but keeps) is none of it.

use super::Simulation;
use crate::clock::{MS, Nanos, SECOND};
use crate::election::tests::faults::{Fate, Rule, What};
use crate::election::tests::world::{Candidate, Service};
use crate::store::Failure;

/// No request arrives later than this.
pub(super) const LATEST: Nanos = 8 * SECOND;

/// A sort of trouble; each run has some of them.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// Requests and answers are lost, late, or refused.
    Request,
    /// Nearly all of them.
    Storm,
    Late,
    Partition,
    Stream,
    Compaction,
    Stop,
    Crash,
    Clock,
    Weather,
    /// Candidates of Go programs come and go.
    Go,
    /// An administrator removes keys and leases, or puts others.
    Administrator,
    Permission,
    NoSpace,
    MaxOps,
    /// Another cluster, or an older state of the same.
    Exchange,
}

impl Fault {
    pub(super) fn all() -> impl Iterator<Item = Fault> {
        use Fault::*;
        [
            Request,
            Storm,
            Late,
            Partition,
            Stream,
            Compaction,
            Stop,
            Crash,
            Clock,
            Weather,
            Go,
            Administrator,
            Permission,
            NoSpace,
            MaxOps,
            Exchange,
        ]
        .into_iter()
    }

    /// How many of a hundred runs have it.
    pub(super) fn percent(self) -> u64 {
        match self {
            Fault::Exchange => 6,
            Fault::Storm | Fault::NoSpace | Fault::Permission => 25,
            _ => 45,
        }
    }
}

impl Simulation {
    pub(super) fn fault(&mut self) {
        let (faults, services) = (self.faults.clone(), self.services());
        let Some(fault) = self.pick(&faults) else { return };
        let up: Vec<Service> =
            (0..self.world.processes.len()).map(Service).filter(|s| self.world.processes[s.0].is_up()).collect();
        let Some(service) = self.pick(&up) else { return };
        self.tell(&format!("{fault:?}, maybe at {service:?}"));
        match fault {
            Fault::Request => self.trouble(service, false),
            Fault::Storm if self.world.rules.is_empty() || self.chance(30) => self.trouble(service, true),
            Fault::Storm => self.world.rules.clear(),
            Fault::Late => self.delay(service),
            Fault::Partition if self.world.processes[service.0].partitioned || self.chance(30) => {
                self.world.processes.iter_mut().for_each(|process| process.partitioned = false);
            }
            Fault::Partition => self.world.partition(service),
            Fault::Stream => self.disturb_stream(service),
            Fault::Compaction => self.world.etcd.compact(),
            Fault::Stop if self.world.processes[service.0].stopped.is_some() || self.chance(30) => {
                up.into_iter().for_each(|service| self.world.resume(service));
            }
            Fault::Stop => self.world.stop(service),
            Fault::Crash => self.world.crash(service),
            Fault::Clock if services.contains(&service) => self.world.jump_wall_clock(service),
            Fault::Clock => {}
            Fault::Weather => self.change_weather(),
            Fault::Go => self.go(),
            Fault::Administrator => self.administrate(),
            Fault::Permission => self.change_permission(),
            Fault::NoSpace => self.fill_space(),
            Fault::MaxOps => self.world.etcd.max_ops = [2, 3, 10, 60, 128][self.below(5) as usize],
            Fault::Exchange => self.exchange(),
        }
    }

    /// Latency and the like, from a good network to one that leads to nothing.
    pub(super) fn change_weather(&mut self) {
        let some = |sim: &mut Self, most: Nanos| (sim.below(10) == 0).then(|| sim.below(most as u64) as Nanos);
        self.world.latency = some(self, 400 * MS).unwrap_or(MS);
        self.world.jitter = some(self, SECOND).unwrap_or(MS);
        self.world.stream_lag = some(self, 2 * SECOND).unwrap_or(0);
        self.world.late_wakes = some(self, 700 * MS).unwrap_or(0);
        self.world.etcd.expiry_lag = some(self, 3 * SECOND).unwrap_or(0);
    }

    fn what(&mut self) -> What {
        use What::*;
        let all = [Any, Grant, KeepAlive, Revoke, Join, Proclaim, Withdraw, List, Value, Read, Group];
        all[self.below(all.len() as u64) as usize]
    }

    fn trouble(&mut self, service: Service, lasting: bool) {
        let what = self.what();
        let fate = match self.below(6) {
            0 => Fate::LoseRequest,
            1 => Fate::LoseAnswer,
            2 => Fate::FailAfter(if self.chance(50) { Failure::Unknown } else { Failure::NoLeader }),
            3 => Fate::Slow(MS + self.below(3 * SECOND as u64) as Nanos),
            _ => Fate::Refuse(self.refusal(what)),
        };
        self.meet(service, what, fate, lasting);
    }

    fn meet(&mut self, service: Service, what: What, fate: Fate, lasting: bool) {
        let service = self.chance(60).then_some(service);
        let times = if lasting { usize::MAX } else { 1 + self.below(4) as usize };
        self.tell(&format!("{what:?} of {service:?} meets {fate:?}, {times} times"));
        self.world.rules.push(Rule { service, what, fate, times });
    }

    /// What a truthful store may say to it.
    fn refusal(&mut self, what: What) -> Failure {
        use Failure::*;
        let mut all = vec![NotSent, Tls, Unknown, NoLeader, Unauthenticated, PermissionDenied, Refused];
        all.extend_from_slice(match what {
            What::Grant => &[LeaseExists, NoSpace],
            What::Join | What::Proclaim => &[NoSpace],
            What::Group => &[TooManyOps, TooLarge],
            What::List | What::Read => &[Compacted],
            _ => &[],
        });
        all[self.below(all.len() as u64) as usize]
    }

    /// A request arrives when who sent it may have given up.
    fn delay(&mut self, service: Service) {
        self.late = true;
        let what = if self.chance(50) { What::Join } else { self.what() };
        let late = self.below(LATEST as u64) as Nanos;
        self.meet(service, what, Fate::Late(late), false);
    }

    fn disturb_stream(&mut self, service: Service) {
        match self.below(3) {
            0 => self.world.stall_stream(service),
            1 => self.world.break_stream(service),
            _ if self.world.processes[service.0].stream.is_some() => {
                let failures = [Failure::Compacted, Failure::NoLeader, Failure::PermissionDenied, Failure::Unknown];
                let failure = failures[self.below(4) as usize];
                self.world.cancel_watches(service, failure);
            }
            _ => {}
        }
    }

    fn go(&mut self) {
        let elections = self.elections.clone();
        if self.go.len() > 2 || self.chance(50) {
            if let Some(key) = self.go.pop() {
                self.world.go_resign(&key);
            }
        } else if let Some(election) = self.pick(&elections) {
            let key = self.world.go_campaign(&election);
            self.go.push(key);
        }
    }

    fn administrate(&mut self) {
        let living: Vec<Candidate> = self.candidates.iter().copied().filter(|c| !self.is_over(*c)).collect();
        let Some(candidate) = self.pick(&living) else { return };
        match self.below(3) {
            0 => self.world.delete_key(candidate),
            1 => self.world.revoke_lease(candidate),
            _ => self.world.take_key(candidate),
        }
    }

    fn change_permission(&mut self) {
        if self.chance(50) {
            return self.world.etcd.forbidden.clear();
        }
        let elections = self.elections.clone();
        let some = self.pick(&elections).unwrap_or_default();
        let prefix = if self.chance(30) { self.world.prefix("")[..1].to_vec() } else { self.world.prefix(&some) };
        self.world.etcd.forbidden.push(prefix);
    }

    fn fill_space(&mut self) {
        if self.chance(50) {
            return self.world.rules.clear();
        }
        for what in [What::Grant, What::Join, What::Proclaim] {
            let fate = Fate::Refuse(Failure::NoSpace);
            self.world.rules.push(Rule { service: None, what, fate, times: usize::MAX });
        }
    }

    fn exchange(&mut self) {
        self.exchanges += 1;
        self.go.clear();
        let revision = self.world.etcd.header().revision;
        let revision = revision - self.below(20).min(revision as u64 - 1) as i64;
        match self.chance(50) {
            true => self.world.replace_etcd(|etcd, _| etcd.rebuild()),
            false => {
                self.restored = true;
                self.world.replace_etcd(|etcd, now| etcd.restore(now, revision));
            }
        }
    }
}
