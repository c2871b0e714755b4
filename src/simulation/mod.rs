//! The whole library under random faults, a seed each: the Rust API, the engine's tasks, mailboxes, terms, timers and
//! the in-process store, on the runtime's paused clock. (`election::tests::simulation` has the pure engine alone, which
//! is faster, and a store that knows more faults: there clocks differ, leases end late, members restart.)
//!
//! `network` is what may go wrong between a process and the store, `process` what its program does, and hears.
//! Between all steps, 5 ms of virtual time at most, `Simulation::check` looks at:
//!
//! - at most one process says `is_leader()` for an election, and its key is the lowest (invariant 1);
//! - a LEADER is read only while `is_leader()` is true, with its token; none after resign or close has begun; CLOSED comes
//!   once, last, and for every campaign (3, 4);
//! - tokens of successive leaders grow (7);
//! - a program that reads no events keeps its term, and hears of the loss (8);
//! - when the faults are over, every election that somebody stands in has a leader within [`RECOVERY`], a resignation
//!   and the closing of all services are confirmed, and no key and no lease is left (5, 6).

mod dice;
mod network;
mod process;

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::Clock;
use crate::config::CampaignOptions;
use crate::events::Level;
use crate::seeds::{self, Counts};
use crate::store::memory::Memory;
use crate::store::{Failure, KeyValue, Revision, Store};
use dice::Dice;
use network::Weather;
use process::Process;

/// Seeds of a run that asks for no number of its own.
const SEEDS: u64 = 100;

/// From the last fault to a leader: a lease may have to end, and somebody who stands again rests up to 10 s.
const RECOVERY: Duration = Duration::from_secs(60);

const STEP: Duration = Duration::from_millis(5);

const LONGEST_TTL: Duration = Duration::from_secs(8);

/// What all keys start with.
const PREFIX: &str = "sim/";

const KINDS: [&str; 17] = [
    "request lost",
    "request served, answer lost",
    "request late",
    "request refused",
    "partition",
    "store away",
    "watch lags",
    "watch stream broken",
    "watch stream mute",
    "all watches broken",
    "process stopped",
    "process killed",
    "key deleted",
    "lease revoked",
    "another cluster",
    "compaction",
    "service closed",
];

#[allow(clippy::disallowed_methods, reason = "paused time")]
fn now() -> Instant {
    Instant::now()
}

#[allow(clippy::disallowed_methods, reason = "paused time")]
async fn sleep(time: Duration) {
    tokio::time::sleep(time).await;
}

async fn sleep_until(at: Instant) {
    tokio::time::sleep_until(at).await;
}

/// SIGSTOP for a task.
#[derive(Default)]
struct Gate(Mutex<(bool, Option<Waker>)>);

impl Gate {
    fn set(&self, stopped: bool) {
        let mut gate = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        gate.0 = stopped;
        gate.1.take_if(|_| !stopped).into_iter().for_each(Waker::wake);
    }

    fn is_stopped(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    async fn guard(self: Arc<Self>, task: impl Future<Output = ()>) {
        let mut task = std::pin::pin!(task);
        poll_fn(|context| {
            let mut gate = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if gate.0 {
                gate.1 = Some(context.waker().clone());
                return Poll::Pending;
            }
            drop(gate);
            task.as_mut().poll(context)
        })
        .await;
    }
}

/// One run.
struct Simulation {
    dice: Dice,
    clock: Clock,
    began: Instant,
    traced: bool,
    /// All that is the same for the same seed.
    trace: String,
    counts: Counts,
    store: Memory,
    elections: Vec<&'static str>,
    processes: Vec<Process>,
    faults: u64,
    /// Tokens of keys that were removed by hand: who is about to hear that it leads by one may do so, until it hears of
    /// the removal.
    excused: BTreeSet<Revision>,
    /// Another cluster has taken the store's place: until then somebody may lead by a lease of the former.
    bygone: Option<Instant>,
    /// The last leader of each election.
    terms: BTreeMap<&'static str, Revision>,
}

impl Simulation {
    fn new(seed: u64, traced: bool) -> Self {
        let mut dice = Dice::new(seed);
        let elections = ["e", "f", "g/1", "g/2"][..1 + dice.below(4) as usize].to_vec();
        let faults = dice.below(60);
        Simulation {
            dice,
            clock: Clock::Runtime(now()),
            began: now(),
            traced,
            trace: String::new(),
            counts: Counts::new(),
            store: Memory::new(),
            elections,
            processes: Vec::new(),
            faults,
            excused: BTreeSet::new(),
            bygone: None,
            terms: BTreeMap::new(),
        }
    }

    async fn run(mut self) -> (String, Counts) {
        for _ in 0..2 + self.dice.below(3) {
            self.open();
        }
        for _ in 0..20 + self.dice.below(40) {
            let most = [5, 50, 500, 3000][self.dice.below(4) as usize];
            let pause = Duration::from_millis(self.dice.below(most));
            self.pass(pause).await;
            if self.dice.chance(self.faults) { self.fault().await } else { self.act().await }
        }
        self.come_to_rest().await;
        self.end().await;
        for process in &self.processes {
            for (what, times) in process.network.take_counts() {
                *self.counts.entry(what).or_default() += times;
            }
        }
        (self.trace, self.counts)
    }

    fn tell(&mut self, what: &str) {
        let line = format!("{:>9} {what}\n", self.began.elapsed().as_millis());
        if self.traced {
            eprint!("{line}");
        }
        self.trace += &line;
    }

    fn note(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
        self.tell(&format!("* {what}"));
    }

    fn open(&mut self) {
        let ttl = Duration::from_secs(2 + self.dice.below(LONGEST_TTL.as_secs() - 1));
        let level = if self.traced { Level::Debug } else { Level::Off };
        let process = Process::open(&self.store, self.clock, &mut self.dice, ttl, level);
        self.processes.push(process);
        self.note("service opened");
    }

    /// Lets time pass, and looks.
    async fn pass(&mut self, time: Duration) {
        let until = now() + time;
        loop {
            self.check();
            if now() >= until {
                break;
            }
            sleep_until((now() + STEP).min(until)).await;
        }
        // Whatever can happen without time passing, happens before anything else does.
        for _ in 0..30 {
            tokio::task::yield_now().await;
        }
        self.check();
    }

    fn running(&self) -> Vec<usize> {
        (0..self.processes.len()).filter(|at| self.processes[*at].is_running()).collect()
    }

    async fn act(&mut self) {
        let running = self.running();
        let alive = self.processes.iter().filter(|process| process.is_alive()).count();
        if alive < 2 || (alive < 4 && self.processes.len() < 8 && self.dice.chance(10)) {
            self.open();
        }
        let Some(at) = self.dice.pick(&running) else { return };
        let election = self.dice.pick(&self.elections).unwrap_or("e");
        match self.dice.below(100) {
            0..50 => self.campaign(at, election).await,
            50..70 => {
                let chosen = self.dice.next();
                let told = self.processes[at].resign(chosen);
                self.tell(&format!("{at} {told}"));
            }
            70..80 => {
                let (chosen, value) = (self.dice.next(), format!("value {}", self.dice.below(9)));
                let told = self.processes[at].proclaim(chosen, value.as_bytes());
                self.tell(&format!("{at} {told}"));
            }
            80..90 => {
                self.processes[at].observe(election);
                self.tell(&format!("{at} observes {election}"));
            }
            90..96 => {
                let chosen = self.dice.next();
                self.processes[at].unobserve(chosen);
            }
            _ => {
                self.note("service closed");
                self.processes[at].close();
            }
        }
    }

    async fn campaign(&mut self, at: usize, election: &'static str) {
        let options = CampaignOptions {
            value: Some(b"v"[..].into()),
            rejoin: self.dice.chance(60),
            at_risk: self.dice.chance(50),
            step_down_margin: Duration::ZERO,
            wait_limit: self.dice.chance(10).then(|| Duration::from_millis(10 + self.dice.below(20_000))),
        };
        let told = self.processes[at].campaign(election, options).await;
        self.tell(&format!("{at} stands in {election}: {told}"));
    }

    async fn fault(&mut self) {
        let alive: Vec<usize> = (0..self.processes.len()).filter(|at| self.processes[*at].is_alive()).collect();
        let Some(at) = self.dice.pick(&alive) else { return };
        match self.dice.below(100) {
            0..40 => self.change_weather(at),
            40..50 => {
                self.note("watch stream broken");
                self.processes[at].network.break_streams();
            }
            50..58 => {
                self.note("watch stream mute");
                self.processes[at].network.mute_streams();
            }
            58..62 => {
                self.note("all watches broken");
                self.store.break_watches(Failure::NoLeader);
            }
            62..66 => {
                self.note("compaction");
                // Refused where nothing has changed since the last time.
                let last = self.store.keys(b"").iter().map(|kv| kv.mod_revision).max();
                drop(self.store.compact(last.unwrap_or(1)));
            }
            66..78 => {
                let stopped = self.processes[at].gate.is_stopped();
                self.note(if stopped { "process goes on" } else { "process stopped" });
                self.processes[at].gate.set(!stopped);
            }
            78..82 => {
                self.note("process killed");
                self.processes[at].kill();
            }
            82..96 => self.administrate().await,
            _ if self.dice.chance(40) => {
                self.note("another cluster");
                self.terms.clear();
                self.bygone = Some(now() + LONGEST_TTL);
                // The new one counts from below.
                self.excused.clear();
                self.store.rebuild();
            }
            _ => {}
        }
    }

    fn change_weather(&mut self, at: usize) {
        let dice = &mut self.dice;
        let some = |dice: &mut Dice, most: u64| if dice.chance(25) { dice.below(most) } else { 0 };
        let ms = Duration::from_millis;
        let weather = Weather {
            latency: ms(1 + some(dice, 400)),
            jitter: ms(some(dice, 1000)),
            watch_lag: ms(some(dice, 2000)),
            lost: some(dice, 60),
            unanswered: some(dice, 60),
            refused: some(dice, 60),
            late: some(dice, 60),
            mute: dice.chance(15),
            deaf: dice.chance(15),
            away: dice.chance(10),
        };
        self.processes[at].network.set_weather(weather);
        self.note("weather");
        for (happens, what) in [
            (weather.mute || weather.deaf, "partition"),
            (weather.away, "store away"),
            (weather.watch_lag > ms(0), "watch lags"),
        ] {
            if happens {
                self.note(what);
            }
        }
    }

    /// Somebody deletes a key, or ends a lease.
    async fn administrate(&mut self) {
        let keys = self.store.keys(PREFIX.as_bytes());
        let Some(kv) = self.dice.pick(&keys) else { return };
        let revoked = self.dice.chance(50);
        let gone = keys.iter().filter(|other| if revoked { other.lease == kv.lease } else { other.key == kv.key });
        self.excused.extend(gone.map(|kv| kv.create_revision));
        if revoked {
            self.note("lease revoked");
            self.store.revoke(kv.lease, RECOVERY).await.unwrap();
        } else {
            self.note("key deleted");
            let then = vec![crate::store::Op::Delete(kv.key)];
            self.store.txn(crate::store::Txn { then, ..Default::default() }, RECOVERY).await.unwrap();
        }
    }

    /// Who says that it leads: process, campaign and token.
    fn claims(&self) -> Vec<(&'static str, (usize, u64, Revision))> {
        let processes = self.processes.iter().enumerate();
        processes.flat_map(|(at, p)| p.claims().map(move |(e, id, token)| (e, (at, id, token)))).collect()
    }

    fn candidates(&self, election: &str) -> Vec<KeyValue> {
        let prefix = [PREFIX, election, "/"].concat();
        let mut all = self.store.keys(prefix.as_bytes());
        all.retain(|kv| !kv.key[prefix.len()..].contains(&b'/'));
        all
    }

    /// See the module.
    fn check(&mut self) {
        let mut led = BTreeMap::new();
        for (election, claim) in self.claims() {
            let token = claim.2;
            if self.excused.contains(&token) || self.bygone.is_some_and(|until| now() < until) {
                continue;
            }
            if let Some(other) = led.insert(election, claim) {
                panic!("`{election}` is led by {claim:?} and {other:?}");
            }
            let lowest = self.candidates(election).first().map(|kv| kv.create_revision);
            assert_eq!(lowest, Some(token), "{claim:?} leads `{election}`");
            let last = self.terms.insert(election, token).unwrap_or(0);
            assert!(token >= last, "token {token} after {last}");
            if token > last {
                self.note(if last > 0 { "hand-over" } else { "first leader" });
            }
        }
        for at in 0..self.processes.len() {
            for line in self.processes[at].read() {
                self.tell(&format!("{at} hears {line}"));
            }
        }
    }

    async fn come_to_rest(&mut self) {
        self.tell("the faults are over");
        let clear = Weather { latency: Duration::from_millis(1), ..Weather::default() };
        for process in &mut self.processes {
            process.network.set_weather(clear);
            process.gate.set(false);
            process.reads = true;
        }
        let limit = now() + RECOVERY;
        while let Some(why) = self.unrest() {
            assert!(now() < limit, "no rest: {why}");
            self.pass(Duration::from_millis(250)).await;
        }
        self.tell("all is at rest");
        self.pass(Duration::from_secs(15)).await;
        assert_eq!(self.unrest(), None);
    }

    /// Every election that somebody stands in has a leader, everybody else waits behind it, and nobody is on the way out.
    fn unrest(&self) -> Option<String> {
        let claims = self.claims();
        for election in &self.elections {
            let standing: usize = self.processes.iter().map(|p| p.standing(election)).sum();
            let leaders = claims.iter().filter(|(of, _)| of == election).count();
            let keys = self.candidates(election).len();
            if leaders != standing.min(1) || keys != standing {
                return Some(format!("`{election}`: {standing} stand, {leaders} lead, {keys} keys"));
            }
            let first = self.candidates(election).first().map(|kv| kv.create_revision);
            let seen = |p: &Process| p.sees(election).is_none_or(|token| token == first);
            if let Some(at) = self.processes.iter().position(|p| p.is_running() && !seen(p)) {
                return Some(format!("{at} does not see who leads `{election}`"));
            }
        }
        self.processes.iter().find_map(Process::unfinished)
    }

    /// Everybody goes; nothing is left.
    async fn end(&mut self) {
        for at in self.running() {
            if self.dice.chance(50) {
                let token = self.claims().into_iter().find(|(_, claim)| claim.0 == at);
                if token.is_some() {
                    let told = self.processes[at].resign(0);
                    self.tell(&format!("{at} {told}"));
                }
            }
            self.processes[at].close();
        }
        let limit = now() + RECOVERY;
        while let Some(at) = self.processes.iter().position(|p| p.is_alive() && !p.is_closed()) {
            assert!(now() < limit, "{at} is not closed");
            self.pass(Duration::from_millis(50)).await;
        }
        self.check();
        self.processes.iter_mut().for_each(Process::check_end);
        let keys = self.store.keys(b"");
        assert!(keys.is_empty(), "left: {keys:?}");
        let late = self.processes.iter().any(|p| p.network.late_grant.load(std::sync::atomic::Ordering::Relaxed));
        assert!(late || self.store.leases().is_empty(), "left: {:x?}", self.store.leases());
    }
}

fn run(seed: u64, traced: bool) -> (String, Counts) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async { Simulation::new(seed, traced).run().await })
}

#[test]
fn the_whole_library_under_random_faults_keeps_all_invariants_and_comes_to_rest() {
    let test = "the_whole_library_under_random_faults";
    seeds::Simulation { test, seeds: SEEDS, share: 50, kinds: &KINDS }.run(|seed, traced| run(seed, traced).1);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 1..8 {
        let (first, second) = (run(seed, false).0, run(seed, false).0);
        let differ = first.lines().zip(second.lines()).find(|(a, b)| a != b);
        assert_eq!((differ, first.len()), (None, second.len()), "seed {seed}");
    }
}
