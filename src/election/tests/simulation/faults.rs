//! What goes wrong in a simulation: only what the design's invariants allow for. A store that lies (a lease that it
//! says is gone but keeps) is none of it.

use super::Simulation;
use crate::clock::{MS, Nanos, SECOND};
use crate::election::tests::faults::{Fate, Rule, What};
use crate::election::tests::world::{Candidate, Service};
use crate::store::Failure;

/// No request arrives later than this.
pub(super) const LATEST: Nanos = 8 * SECOND;

/// What goes wrong, as it is counted, and what has to happen meanwhile.
pub(super) const KINDS: [&str; 41] = [
    "another cluster",
    "answer doubled",
    "answer late",
    "answers reordered",
    "caller stopped waiting",
    "candidate of Go resigns",
    "candidate of Go stands",
    "clock jump",
    "clock rate changed",
    "compaction",
    "key deleted",
    "key deleted before its join's answer",
    "key taken before its join",
    "key taken over",
    "lease ended early",
    "lease revoked",
    "leases end late",
    "member lags",
    "members started again",
    "no space",
    "partition, both ways",
    "partition, no answer arrives",
    "partition, no request arrives",
    "permission taken",
    "process killed",
    "process stopped",
    "raft leader changed",
    "request late",
    "request lost",
    "request refused",
    "request served, answer lost",
    "request served, failure answered",
    "restored from a backup",
    "timers late",
    "transactions limited",
    "watch lags behind the others",
    "watch stream broken",
    "watch stream lags",
    "watch stream mute",
    "watched from afar",
    "watches cancelled",
];

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
    /// Members start again, or elect another raft leader.
    Member,
    /// Somebody acts on a key between its join and the answer.
    Ambush,
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
            Member,
            Ambush,
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
            Fault::Exchange => 8,
            Fault::Ambush => 30,
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
            Fault::Partition if self.world.processes[service.0].is_cut() || self.chance(30) => {
                self.world.join_networks();
            }
            Fault::Partition => self.cut(service),
            Fault::Stream => self.disturb_stream(service),
            Fault::Compaction => {
                self.world.note("compaction");
                self.world.etcd.compact();
            }
            Fault::Stop if self.world.processes[service.0].stopped.is_some() || self.chance(30) => self.go_on(&up),
            Fault::Stop => {
                self.world.note("process stopped");
                self.world.stop(service);
            }
            Fault::Crash => {
                self.world.note("process killed");
                self.world.crash(service);
            }
            Fault::Clock => self.change_clock(service, services.contains(&service)),
            Fault::Member => self.disturb_members(),
            Fault::Ambush => self.ambush(service),
            Fault::Weather => self.change_weather(),
            Fault::Go => self.go(),
            Fault::Administrator => self.administrate(),
            Fault::Permission => self.change_permission(),
            Fault::NoSpace => self.fill_space(),
            Fault::MaxOps => {
                self.world.note("transactions limited");
                self.world.etcd.max_ops = [2, 3, 10, 60, 128][self.below(5) as usize];
            }
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
        self.world.etcd.behind = if self.chance(20) { self.below(6) as i64 } else { 0 };
        self.world.slow_watches.clear();
        for name in self.elections.clone() {
            if let Some(lag) = some(self, 2 * SECOND) {
                let prefix = self.world.prefix(&name);
                self.world.slow_watches.push((prefix, lag));
                self.world.note("watch lags behind the others");
            }
            for kv in self.world.etcd.keys(&self.world.prefix(&name)) {
                if let Some(lag) = some(self, 2 * SECOND) {
                    self.world.slow_watches.push((kv.key, lag));
                }
            }
        }
        for (happens, what) in [
            (self.world.etcd.expiry_lag > 0, "leases end late"),
            (self.world.etcd.behind > 0, "member lags"),
            (self.world.stream_lag > 0, "watch stream lags"),
            (self.world.jitter > 100 * MS, "answers reordered"),
            (self.world.late_wakes > 0, "timers late"),
        ] {
            if happens {
                self.world.note(what);
            }
        }
    }

    /// In one direction or both.
    fn cut(&mut self, service: Service) {
        let (mute, deaf, what) = [
            (true, true, "partition, both ways"),
            (true, false, "partition, no request arrives"),
            (false, true, "partition, no answer arrives"),
        ][self.below(3) as usize];
        self.world.note(what);
        self.world.cut(service, mute, deaf);
    }

    /// SIGCONT; after a suspension the wall clock jumps.
    fn go_on(&mut self, services: &[Service]) {
        for &service in services {
            let stopped = self.world.processes[service.0].stopped.is_some();
            self.world.resume(service);
            if stopped && self.chance(50) {
                self.world.note("clock jump");
                self.world.jump_wall_clock(service);
            }
        }
    }

    fn change_clock(&mut self, service: Service, runs: bool) {
        if self.chance(50) {
            let rate = self.rate();
            self.world.note("clock rate changed");
            self.world.set_clock_rate(service, rate);
        } else if runs {
            self.world.note("clock jump");
            self.world.jump_wall_clock(service);
        }
    }

    /// In parts of a million that a clock goes too fast: all that the design allows for.
    pub(super) fn rate(&mut self) -> i64 {
        self.below(20_001) as i64 - 10_000
    }

    /// All leases begin anew with that. With a new raft leader one may end early, as if somebody had revoked it.
    fn disturb_members(&mut self) {
        let restarts = self.chance(50);
        let (failure, most) = if restarts { (Failure::NotSent, 6 * SECOND) } else { (Failure::NoLeader, 2 * SECOND) };
        let time = self.below(most as u64) as Nanos;
        self.world.note(if restarts { "members started again" } else { "raft leader changed" });
        self.world.fail(time, failure);
        let candidate = self.living();
        if let Some(candidate) = candidate.filter(|_| !restarts && self.chance(30)) {
            self.world.note("lease ended early");
            self.world.revoke_lease(candidate);
        }
    }

    fn ambush(&mut self, service: Service) {
        let fate = match self.chance(50) {
            true => Fate::Taken,
            false => Fate::Undone(self.below(2 * SECOND as u64) as Nanos),
        };
        self.meet(service, What::Join, fate, false);
    }

    fn living(&mut self) -> Option<Candidate> {
        let living: Vec<Candidate> = self.candidates.iter().copied().filter(|c| !self.is_over(*c)).collect();
        self.pick(&living)
    }

    fn what(&mut self) -> What {
        use What::*;
        let all = [Any, Grant, KeepAlive, Revoke, Join, Proclaim, Withdraw, List, Distance, Value, Read, Group];
        all[self.below(all.len() as u64) as usize]
    }

    fn trouble(&mut self, service: Service, lasting: bool) {
        let what = self.what();
        let fate = match self.below(7) {
            6 => Fate::Twice(self.below(3 * SECOND as u64) as Nanos),
            0 => Fate::LoseRequest,
            1 => Fate::LoseAnswer,
            2 => Fate::FailAfter(self.failure_after(what)),
            3 => Fate::Slow(MS + self.below(3 * SECOND as u64) as Nanos),
            _ => Fate::Refuse(self.refusal(what)),
        };
        self.meet(service, what, fate, lasting);
    }

    fn meet(&mut self, service: Service, what: What, fate: Fate, lasting: bool) {
        let service = self.chance(60).then_some(service);
        let times = if lasting { usize::MAX } else { 1 + self.below(4) as usize };
        self.tell(&format!("{what:?} of {service:?} meets {fate:?}, {times} times"));
        self.world.rules.push(Rule { service, what, fate, times, expected: false });
    }

    /// What a truthful store may say when it has done it.
    fn failure_after(&mut self, what: What) -> Failure {
        let mut all = vec![Failure::Unknown, Failure::NoLeader];
        if matches!(what, What::Grant | What::Join | What::Proclaim | What::Group) {
            all.push(Failure::NoSpace);
        }
        all[self.below(all.len() as u64) as usize]
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
            0 => {
                self.world.note("watch stream mute");
                self.world.stall_stream(service);
            }
            1 => {
                self.world.note("watch stream broken");
                self.world.break_stream(service);
            }
            _ if self.world.processes[service.0].stream.is_some() => {
                self.world.note("watches cancelled");
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
                self.world.note("candidate of Go resigns");
                self.world.go_resign(&key);
            }
        } else if let Some(election) = self.pick(&elections) {
            self.world.note("candidate of Go stands");
            let key = self.world.go_campaign(&election);
            self.go.push(key);
        }
    }

    fn administrate(&mut self) {
        let Some(candidate) = self.living() else { return };
        match self.below(3) {
            0 => {
                self.world.note("key deleted");
                self.world.delete_key(candidate);
            }
            1 => {
                self.world.note("lease revoked");
                self.world.revoke_lease(candidate);
            }
            _ => {
                self.world.note("key taken over");
                self.world.take_key(candidate);
            }
        }
    }

    fn change_permission(&mut self) {
        if self.chance(50) {
            return self.world.etcd.forbidden.clear();
        }
        let elections = self.elections.clone();
        let some = self.pick(&elections).unwrap_or_default();
        let prefix = if self.chance(30) { self.world.prefix("")[..1].to_vec() } else { self.world.prefix(&some) };
        self.world.note("permission taken");
        self.world.etcd.forbidden.push(prefix);
    }

    fn fill_space(&mut self) {
        if self.chance(50) {
            return self.world.rules.clear();
        }
        self.world.note("no space");
        for what in [What::Grant, What::Join, What::Proclaim] {
            // etcd does what fills the space, and what comes before all members know of it, and says that it failed.
            let (last, rest) = (Fate::FailAfter(Failure::NoSpace), Fate::Refuse(Failure::NoSpace));
            for (fate, times) in [(last, 1 + self.below(3) as usize), (rest, usize::MAX)] {
                self.world.rules.push(Rule { service: None, what, fate, times, expected: false });
            }
        }
    }

    fn exchange(&mut self) {
        self.exchanges += 1;
        self.go.clear();
        let revision = self.world.etcd.header().revision;
        let revision = revision - self.below(20).min(revision as u64 - 1) as i64;
        match self.chance(50) {
            true => {
                self.world.note("another cluster");
                self.world.exchange(|etcd, _| etcd.rebuild());
            }
            false => {
                self.world.note("restored from a backup");
                self.restored = true;
                self.world.exchange(|etcd, now| etcd.restore(now, revision));
            }
        }
        // A connection may outlast what was behind it.
        let ends = self.chance(50);
        for at in 0..self.world.processes.len() {
            if ends { self.world.break_stream(Service(at)) } else { self.world.stall_stream(Service(at)) }
        }
    }
}
