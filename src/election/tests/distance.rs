//! Candidates far behind in a queue, which watch two keys instead of the whole election.

use super::faults::{Fate, What};
use super::world::{Candidate, Service, World, candidacy};
use crate::clock::{MS, SECOND};
use crate::election::Candidacy;
use crate::election::distance::FAR;
use crate::error::Code;
use crate::events::State;
use crate::store::Failure;

/// So many candidates, a service each, in order; the first leads and all have come to rest.
fn queue(world: &mut World, candidates: usize) -> Vec<Candidate> {
    let all: Vec<Candidate> = (0..candidates).map(|_| join(world)).collect();
    world.run(SECOND);
    for (place, &candidate) in all.iter().enumerate() {
        world.expect_event(candidate, State::Follower);
        match place {
            0 => _ = world.expect_event(candidate, State::Leader),
            _ => world.reject_event(candidate),
        }
    }
    all
}

fn join(world: &mut World) -> Candidate {
    let service = world.service();
    let candidate = world.stand(service, Candidacy { rejoin: true, ..candidacy("e") });
    world.run_until("its key", |w| w.key_of(candidate).is_some());
    candidate
}

/// Whether it watches two keys and nothing else.
fn is_far(world: &mut World, candidate: Candidate) -> bool {
    let election = &world.process(candidate.service).core.elections["e"];
    let far = election.distance.is_some() && election.watch.is_none();
    assert_eq!(world.watches(candidate.service), if far { 2 } else { 1 });
    far
}

#[test]
fn only_the_first_few_watch_everything() {
    let mut world = World::new();
    let all = queue(&mut world, FAR + 12);
    for (place, &candidate) in all.iter().enumerate() {
        assert_eq!(is_far(&mut world, candidate), place > FAR, "{place}");
    }
}

/// What is asked before must wait for the raft leader's word: an older answer looks like a store that was restored.
#[test]
fn who_takes_its_distance_at_a_member_that_lags_keeps_its_place() {
    let mut world = World::new();
    world.etcd.behind = 2;
    let all = queue(&mut world, FAR + 4);
    for (place, &candidate) in all.iter().enumerate() {
        assert_eq!(is_far(&mut world, candidate), place > FAR, "{place}");
    }
}

#[test]
fn hand_overs_through_a_long_queue_take_no_longer_than_through_a_short_one() {
    let mut world = World::new();
    let all = queue(&mut world, 40);
    for pair in all.windows(2) {
        let begun = world.now;
        world.resign(pair[0]);
        world.expect_event(pair[1], State::Leader);
        assert_eq!(world.now - begun, 2 * world.latency, "{pair:?}");
    }
}

#[test]
fn a_hand_over_is_told_to_a_few() {
    let mut world = World::new();
    let all = queue(&mut world, 200);
    for pair in all.windows(2).take(100) {
        world.resign(pair[0]);
        world.expect_event(pair[1], State::Leader);
        world.run(100 * MS);
        let near = all[1..].iter().filter(|c| world.state(**c) != Some(State::Closed) && !is_far(&mut world, **c));
        assert!(near.count() <= FAR + 1);
    }
}

#[test]
fn whoever_goes_first_the_last_one_comes_to_lead() {
    for seed in 0..20 {
        let mut world = World::seeded(seed);
        let mut all = queue(&mut world, FAR + 9);
        let last = all.pop().unwrap();
        while !all.is_empty() {
            let goes = all.remove(world.random.next() as usize % all.len());
            world.resign(goes);
            let pause = world.random.next() as i64 % (4 * world.latency);
            world.run(pause);
        }
        world.expect_event(last, State::Leader);
    }
}

#[test]
fn nothing_is_missed_while_a_candidate_takes_its_distance() {
    for halves in 0..24 {
        let mut world = World::new();
        let before = queue(&mut world, FAR + 1);
        let last = join(&mut world);
        world.run(halves * world.latency / 2);
        before.iter().rev().for_each(|candidate| _ = world.resign(*candidate));
        world.expect_event(last, State::Follower);
        world.expect_event(last, State::Leader);
    }
}

#[test]
fn who_loses_its_key_from_afar_hears_of_it_at_once() {
    for (what, halves) in [World::delete_key, World::take_key].into_iter().flat_map(|w| (0..24).map(move |h| (w, h))) {
        let mut world = World::new();
        queue(&mut world, FAR + 1);
        let last = join(&mut world);
        world.run(halves * world.latency / 2);
        world.expect_event(last, State::Follower);
        what(&mut world, last);
        let begun = world.now;
        world.expect_loss(last, Code::KeyDeleted);
        assert!(world.now - begun <= 8 * world.latency, "{halves}: {}", world.now - begun);
        world.expect_event(last, State::Follower);
    }
}

/// It lags behind the two watches that take its place.
#[test]
fn what_the_watch_on_everything_has_not_told_yet_is_looked_for_before_it_ends() {
    for (what, halves) in [World::delete_key, World::take_key].into_iter().flat_map(|w| (0..24).map(move |h| (w, h))) {
        let mut world = World::new();
        queue(&mut world, FAR + 1);
        world.slow_watches = vec![(world.prefix("e"), SECOND)];
        let last = join(&mut world);
        world.run(halves * world.latency / 2);
        world.expect_event(last, State::Follower);
        what(&mut world, last);
        world.expect_loss(last, Code::KeyDeleted);
        world.expect_event(last, State::Follower);
    }
}

#[test]
fn who_stands_again_after_a_loss_takes_its_distance_again() {
    let mut world = World::new();
    let all = queue(&mut world, FAR + 4);
    let lost = all[FAR + 2];
    world.revoke_lease(lost);
    world.expect_loss(lost, Code::LeaseRevoked);
    world.expect_event(lost, State::Follower);
    world.run(SECOND);
    assert!(is_far(&mut world, lost));
    world.delete_key(lost);
    world.expect_loss(lost, Code::KeyDeleted);
    world.expect_event(lost, State::Follower);
    world.run(SECOND);
    for &candidate in all.iter().filter(|candidate| **candidate != lost) {
        world.resign(candidate);
    }
    world.expect_event(lost, State::Leader);
}

#[test]
fn leases_that_end_together_leave_nobody_waiting() {
    let mut world = World::new();
    let all = queue(&mut world, FAR + 10);
    let (dead, living) = all.split_at(FAR + 5);
    dead.iter().for_each(|candidate| world.crash(candidate.service));
    world.expect_event(living[0], State::Leader);
    world.run(SECOND);
    assert!(!living.iter().any(|candidate| is_far(&mut world, *candidate)));
}

#[test]
fn who_observes_sees_everything() {
    let mut world = World::new();
    let all = queue(&mut world, FAR + 5);
    let last = all[FAR + 4];
    let watcher = world.observe(last.service, "e");
    let leader = world.key_of(all[0]).unwrap().create_revision;
    assert_eq!(world.expect_observation(watcher).leader.map(|leader| leader.token), Some(leader));
    world.run(SECOND);
    assert!(!is_far(&mut world, last));
    world.resign(all[0]);
    let next = world.key_of(all[1]).unwrap().create_revision;
    assert_eq!(world.expect_observation(watcher).leader.map(|leader| leader.token), Some(next));
    world.unobserve(watcher);
    // With the next change it may be far again.
    world.resign(all[FAR + 1]);
    world.run(SECOND);
    assert!(is_far(&mut world, last));
}

#[test]
fn a_broken_or_mute_stream_is_noticed_from_afar() {
    for breaks in [World::break_stream, World::stall_stream] {
        let mut world = World::new();
        let mut all = queue(&mut world, FAR + 3);
        let last = all.pop().unwrap();
        breaks(&mut world, last.service);
        all.iter().for_each(|candidate| _ = world.resign(*candidate));
        world.expect_event(last, State::Leader);
    }
}

#[test]
fn watches_that_the_store_ends_are_set_again() {
    for failure in [Failure::Compacted, Failure::NoLeader, Failure::NoSpace] {
        let mut world = World::new();
        let mut all = queue(&mut world, FAR + 3);
        let last = all.pop().unwrap();
        world.cancel_watches(last.service, failure);
        all.iter().for_each(|candidate| _ = world.resign(*candidate));
        world.expect_event(last, State::Leader);
        assert_eq!(world.watches(last.service), 1, "{failure:?}");
    }
}

#[test]
fn who_may_not_look_any_more_leaves_the_queue_from_afar() {
    let mut world = World::new();
    let all = queue(&mut world, FAR + 2);
    let last = all[FAR + 1];
    world.etcd.forbidden = vec![world.prefix("e")];
    world.cancel_watches(last.service, Failure::PermissionDenied);
    world.expect_loss(last, Code::PermissionDenied);
}

#[test]
fn a_check_that_fails_leaves_the_watch_on_everything() {
    let failures = [Failure::Unknown, Failure::NotSent, Failure::PermissionDenied];
    for fate in failures.map(Fate::Refuse).into_iter().chain([Fate::LoseAnswer, Fate::LoseRequest]) {
        let mut world = World::new();
        let all = queue(&mut world, FAR + 1);
        world.once(What::Distance, fate);
        let last = join(&mut world);
        world.run(20 * MS);
        all.iter().for_each(|candidate| _ = world.resign(*candidate));
        world.expect_event(last, State::Follower);
        world.expect_event(last, State::Leader);
        world.run(10 * SECOND);
        assert_eq!(world.watches(last.service), 1);
    }
}

#[test]
fn in_doubt_a_candidate_comes_near() {
    let mut world = World::new();
    let all = queue(&mut world, FAR + 2);
    let last = all[FAR + 1];
    let lists = world.count(What::List);
    world.jump_wall_clock(last.service);
    world.run(SECOND);
    assert!(is_far(&mut world, last) && world.count(What::List) > lists);
}

/// Enters so many elections that one watch on everything takes the place of the others.
fn widen(world: &mut World, service: Service) {
    (0..40).for_each(|i| _ = world.campaign(service, &format!("w{i:02}")));
}

#[test]
fn the_watch_on_everything_ends_those_from_afar() {
    let mut world = World::new();
    let all = queue(&mut world, FAR + 2);
    let last = all[FAR + 1];
    widen(&mut world, last.service);
    world.run(SECOND);
    assert_eq!(world.watches(last.service), 1);
}

#[test]
fn the_watch_on_everything_ends_a_distance_that_is_about_to_be_taken() {
    for quarters in 0..40 {
        let mut world = World::new();
        queue(&mut world, FAR + 1);
        let last = join(&mut world);
        world.run(quarters * world.latency / 4);
        widen(&mut world, last.service);
        world.run(SECOND);
        assert_eq!(world.watches(last.service), 1, "after {quarters} quarters of a latency");
    }
}

#[test]
fn the_watch_on_everything_takes_over_from_distance() {
    for halves in 0..24 {
        let mut world = World::new();
        let mut all = queue(&mut world, FAR + 1);
        let last = join(&mut world);
        world.expect_event(last, State::Follower);
        world.run((halves % 4) * 2 * world.latency);
        widen(&mut world, last.service);
        world.run(halves / 4 * world.latency);
        all.drain(..).for_each(|candidate| _ = world.resign(candidate));
        world.expect_event(last, State::Leader);
        world.run(SECOND);
        assert_eq!(world.watches(last.service), 1);
    }
}
