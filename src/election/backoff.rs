//! Pauses between attempts, with jitter, and the random numbers for it.

use crate::clock::Nanos;

/// A small generator (SplitMix64, Steele, Lea and Flood 2014): seeded from outside, so that a run can be repeated.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Random(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A lease id: positive, and never 0, which asks etcd to choose.
    pub(crate) fn lease_id(&mut self) -> i64 {
        ((self.next() >> 1) as i64).max(1)
    }
}

/// Pauses that double from `first` to `cap`, each with up to half of it taken off at random, so that many clients
/// that failed together don't return together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    first: Nanos,
    cap: Nanos,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(first: Nanos, cap: Nanos) -> Self {
        Backoff { first, cap: cap.max(first), failures: 0 }
    }

    /// The pause after one more failure.
    pub(crate) fn pause(&mut self, random: &mut Random) -> Nanos {
        let full = self.first.saturating_mul(1 << self.failures.min(20)).min(self.cap);
        self.failures = self.failures.saturating_add(1);
        full - (random.next() % (full as u64 / 2 + 1)) as Nanos
    }

    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_the_cap_and_keep_half_at_least() {
        let mut random = Random::new(1);
        let mut backoff = Backoff::new(100, 1000);
        for full in [100, 200, 400, 800, 1000, 1000] {
            let pause = backoff.pause(&mut random);
            assert!(pause >= full / 2 && pause <= full, "{pause} for {full}");
        }
        backoff.reset();
        assert!(backoff.pause(&mut random) <= 100);
    }

    #[test]
    fn clients_that_failed_together_return_all_over_the_second_half_of_the_pause() {
        let pauses = (0..1000).map(|seed| Backoff::new(1000, 1000).pause(&mut Random::new(seed)));
        let (first, second): (Vec<_>, Vec<_>) = pauses.partition(|pause| *pause < 750);
        assert!(first.len() > 400 && second.len() > 400, "{} and {}", first.len(), second.len());
    }

    /// As its authors' program gives them for the seed 0: whatever is worse at it gives the same lease id twice.
    #[test]
    fn numbers_are_as_random_as_the_generators_authors_say() {
        let mut random = Random::new(0);
        let numbers = [random.next(), random.next(), random.next()];
        assert_eq!(numbers, [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f]);
    }

    #[test]
    fn lease_ids_are_positive_and_differ() {
        let mut random = Random::new(7);
        let ids: std::collections::HashSet<i64> = (0..1000).map(|_| random.lease_id()).collect();
        assert!(ids.len() == 1000 && ids.iter().all(|&id| id > 0));
    }
}
