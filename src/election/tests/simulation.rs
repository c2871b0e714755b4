//! Random programs and random faults, a seed each: the world checks its invariants after every step, and when the
//! faults are over everything must come to rest in the one right state (`rest`), hand over in order, and end clean.
//!
//! `check` has the list of the invariants; `crate::seeds` says how to run many seeds, or one and see all of it.

mod faults;
mod programs;
mod rest;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::check::Life;
use super::faults::What;
use super::world::{Caller, Candidate, Service, Watcher, World};
use crate::clock::{MS, Nanos, SECOND};
use crate::config::Namespace;
use crate::election::backoff::Random;
use crate::seeds::{self, Counts};
use faults::Fault;
use programs::{Asked, Withdrawn};

/// Seeds of a run that asks for no number of its own.
const SEEDS: u64 = 1000;

/// One run.
struct Simulation {
    world: World,
    random: Random,
    /// What may go wrong in this run.
    faults: Vec<Fault>,
    /// So many of a hundred things that happen are faults.
    fault_percent: u64,
    elections: Vec<String>,
    /// Elections of services that are in many.
    crowd: Vec<String>,
    candidates: Vec<Candidate>,
    /// All keys that a candidate has had.
    keys: BTreeMap<Candidate, BTreeSet<Vec<u8>>>,
    /// What it has asked its key's value to be, the first one without an answer to wait for.
    values: BTreeMap<Candidate, Vec<Proclaimed>>,
    watchers: Vec<Watcher>,
    asked: Vec<Asked>,
    withdrawn: Vec<Withdrawn>,
    /// Candidates of Go programs.
    go: Vec<Vec<u8>>,
    /// Requests may arrive after their callers have given up.
    late: bool,
    /// The store has been exchanged so many times.
    exchanges: usize,
    /// By an older state of itself.
    restored: bool,
}

/// A value, and who waits to hear that the key has it.
type Proclaimed = (Option<Caller>, Arc<[u8]>);

impl Simulation {
    fn new(seed: u64, traced: bool) -> Self {
        let mut random = Random::new(seed.wrapping_mul(0x5851_f42d_4c95_7f2d));
        let mut world = World::seeded(random.next());
        world.traced = traced;
        let mut sim = Simulation {
            world,
            random,
            faults: Vec::new(),
            fault_percent: 0,
            elections: Vec::new(),
            crowd: Vec::new(),
            candidates: Vec::new(),
            keys: BTreeMap::new(),
            values: BTreeMap::new(),
            watchers: Vec::new(),
            asked: Vec::new(),
            withdrawn: Vec::new(),
            go: Vec::new(),
            late: false,
            exchanges: 0,
            restored: false,
        };
        sim.fault_percent = sim.below(70);
        sim.faults = Fault::all().filter(|fault| sim.chance(fault.percent())).collect();
        sim.elections = (0..1 + sim.below(4)).map(|i| ["e", "f", "g/1", "g/2"][i as usize].to_owned()).collect();
        if sim.chance(15) {
            sim.crowd = (0..30 + sim.below(12)).map(|i| format!("w{i:02}")).collect();
        }
        if sim.chance(30) {
            let prefix = ["", "p/", "p-"][sim.below(3) as usize];
            sim.world.namespace = Namespace::Prefix(prefix.into());
        }
        sim.change_weather();
        (0..2 + sim.below(3)).for_each(|_| sim.start());
        sim
    }

    /// A whole life: trouble, rest, an orderly end. Answers what is the same for the same seed, and what has happened.
    fn run(mut self) -> ((Nanos, u64, BTreeMap<What, usize>), Counts) {
        for _ in 0..20 + self.below(80) {
            let pause = self.pause();
            self.pass(pause);
            if self.chance(self.fault_percent) { self.fault() } else { self.act() }
        }
        self.come_to_rest();
        self.hand_over();
        self.world.wind_up();
        self.check_answers();
        let ids = self.world.next_id();
        let counts = std::mem::take(&mut self.world.counts);
        ((self.world.now, ids, std::mem::take(&mut self.world.sent)), counts)
    }

    /// Mostly close together, sometimes long enough for a lease to end.
    fn pause(&mut self) -> Nanos {
        let most = [MS, 20 * MS, 300 * MS, SECOND, 5 * SECOND][self.below(5) as usize];
        self.below(most as u64) as Nanos
    }

    fn pass(&mut self, time: Nanos) {
        let until = self.world.now + time;
        while self.world.queue.first_key_value().is_some_and(|(&(at, _), _)| at <= until) {
            self.world.step();
            self.check_answers();
        }
        self.world.now = until;
    }

    fn below(&mut self, end: u64) -> u64 {
        self.random.next() % end.max(1)
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        let at = self.below(from.len() as u64) as usize;
        from.get(at).cloned()
    }

    fn tell(&self, what: &str) {
        self.world.tell(&format!("* {what}"));
    }

    /// Services whose programs run.
    fn services(&self) -> Vec<Service> {
        let running = self.world.processes.iter().enumerate().filter(|(_, p)| p.is_up() && p.stopped.is_none());
        running.map(|(at, _)| Service(at)).collect()
    }

    fn life_of(&self, candidate: Candidate) -> &Life {
        &self.world.processes[candidate.service.0].lives[&candidate.id]
    }

    fn is_over(&self, candidate: Candidate) -> bool {
        let process = &self.world.processes[candidate.service.0];
        !process.is_up() || self.life_of(candidate).state == Some(crate::events::State::Closed)
    }
}

#[test]
fn random_programs_under_random_faults_keep_all_invariants_and_come_to_rest() {
    let test = "random_programs_under_random_faults";
    seeds::Simulation { test, seeds: SEEDS, share: 1, kinds: &faults::KINDS }
        .run(|seed, traced| Simulation::new(seed, traced).run().1);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 1..20 {
        assert_eq!(Simulation::new(seed, false).run(), Simulation::new(seed, false).run(), "seed {seed}");
    }
}
