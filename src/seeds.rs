//! Runs a simulation for many seeds on all cores, shows how far it is, and sums up what has happened.
//!
//! `TENURE_SEEDS=100000` runs so many seeds, `TENURE_FROM=50001` from that one on, `TENURE_SEED=17` only that one and tells
//! everything that happens.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What has happened, by kind.
pub(crate) type Counts = BTreeMap<&'static str, u64>;

/// A run of so many seeds in which a kind of fault never happens does not do what it is there for.
const ENOUGH: u64 = 1000;

/// A simulation.
pub(crate) struct Simulation<'a> {
    /// The test's path.
    pub(crate) test: &'a str,
    /// Seeds of a run that asks for no number of its own.
    pub(crate) seeds: u64,
    /// Of a number that is asked for, one in so many is run: this one is as much slower than the fastest.
    pub(crate) share: u64,
    /// What has to happen in every run of [`ENOUGH`] seeds.
    pub(crate) kinds: &'a [&'static str],
}

/// Says how to see it again, and lets the others come to an end.
struct Failing<'a>(&'a str, u64, &'a AtomicU64);

impl Drop for Failing<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.2.store(u64::MAX / 2, Ordering::Relaxed);
            let (test, seed) = (self.0, self.1);
            eprintln!("\nsimulation: seed {seed} failed; to see all of it:");
            eprintln!("TENURE_SEED={seed} cargo test --locked --lib {test} -- --nocapture\n");
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok().filter(|value| !value.is_empty())?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable}={value} is not a number")))
}

impl Simulation<'_> {
    /// `run` is given a seed, and whether to tell everything; it panics where something is wrong.
    pub(crate) fn run(&self, run: impl Fn(u64, bool) -> Counts + Sync) {
        let first = number("TENURE_FROM").map_or(1, |from| from.div_ceil(self.share));
        let next = AtomicU64::new(first);
        let run = |seed, traced| {
            let _failing = Failing(self.test, seed, &next);
            run(seed, traced)
        };
        if let Some(seed) = number("TENURE_SEED") {
            run(seed, true);
            return;
        }
        let asked = number("TENURE_SEEDS");
        let seeds = asked.map_or(self.seeds, |seeds| seeds.div_ceil(self.share));
        let last = first + seeds - 1;
        let (done, counts) = (AtomicU64::new(0), Mutex::new(Counts::new()));
        let started = now();
        std::thread::scope(|scope| {
            for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
                scope.spawn(|| {
                    while let Some(seed) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&seed| seed <= last) {
                        let seen = run(seed, false);
                        let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
                        seen.into_iter().for_each(|(what, times)| *counts.entry(what).or_default() += times);
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            if asked.is_some() {
                scope.spawn(|| show_progress(started, &done, &next, first..=last));
            }
        });
        let counts = counts.into_inner().unwrap_or_else(PoisonError::into_inner);
        if asked.is_some() {
            let took = started.elapsed().as_secs_f64();
            eprintln!("{seeds} seeds from {first} on in {took:.0} s; what happened, and how often:");
            counts.iter().for_each(|(what, times)| eprintln!("{times:>12}  {what}"));
        }
        let never: Vec<_> = self.kinds.iter().filter(|kind| !counts.contains_key(**kind)).collect();
        assert!(seeds < ENOUGH || never.is_empty(), "never in {seeds} seeds: {never:?}");
    }
}

/// A line that is written over on a terminal, else one now and then, until nothing is left to do.
fn show_progress(started: Instant, done: &AtomicU64, next: &AtomicU64, all: RangeInclusive<u64>) {
    let terminal = std::io::stderr().is_terminal();
    let pause = if terminal { Duration::from_secs(1) } else { Duration::from_secs(30) };
    let mut told = started;
    let seeds = all.end() - all.start() + 1;
    while next.load(Ordering::Relaxed) <= *all.end() {
        #[allow(clippy::disallowed_methods, reason = "a thread that only tells")]
        std::thread::sleep(Duration::from_millis(100));
        if told.elapsed() < pause {
            continue;
        }
        told = now();
        let done = done.load(Ordering::Relaxed);
        let rate = done as f64 / started.elapsed().as_secs_f64();
        let left = (seeds - done) as f64 / rate.max(0.001);
        let (begin, end) = if terminal { ("\r", "   ") } else { ("", "\n") };
        eprint!("{begin}{done} of {seeds} seeds, {rate:.0}/s, {left:.0} s left{end}");
    }
    if terminal {
        eprintln!();
    }
}

#[allow(clippy::disallowed_methods, reason = "how long it takes, and nothing else")]
fn now() -> Instant {
    Instant::now()
}
