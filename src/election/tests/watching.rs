//! The watch stream and the lists that keep the view of an election true, whatever breaks.

use super::faults::{Fate, What};
use super::world::{Candidate, Service, World};
use crate::clock::{MS, SECOND};
use crate::error::Code;
use crate::events::State;
use crate::store::Failure;

/// A leader, and a candidate behind it that sees the queue.
fn leader_and_heir(world: &mut World) -> (Candidate, Candidate) {
    let (a, b) = (world.service(), world.service());
    (world.elect(a, "e"), world.enqueue(b, "e"))
}

fn many(world: &mut World, service: Service, names: std::ops::Range<usize>) -> Vec<Candidate> {
    names.map(|i| world.campaign(service, &format!("e{i:02}"))).collect()
}

fn hand_over(world: &mut World, from: Candidate, to: Candidate) {
    world.resign(from);
    world.expect_event(to, State::Leader);
}

#[test]
fn each_election_has_a_watch_of_its_own_on_one_stream() {
    let mut world = World::new();
    let a = world.service();
    let candidates = many(&mut world, a, 0..3);
    world.run(SECOND);
    assert_eq!(world.watches(a), 3);
    world.resign(candidates[0]);
    world.run(SECOND);
    assert_eq!(world.watches(a), 2);
}

#[test]
fn a_broken_stream_is_opened_again_and_what_was_missed_is_read() {
    let mut world = World::new();
    let (leader, heir) = leader_and_heir(&mut world);
    world.break_stream(heir.service);
    world.run(2 * world.latency);
    hand_over(&mut world, leader, heir);
    assert_eq!(world.watches(heir.service), 1);
}

#[test]
fn a_mute_stream_is_left_for_another_endpoint() {
    let mut world = World::new();
    let (leader, heir) = leader_and_heir(&mut world);
    world.stall_stream(heir.service);
    let begun = world.now;
    hand_over(&mut world, leader, heir);
    assert_eq!(world.process(heir.service).rotations, 1);
    assert!(world.now - begun < 8 * SECOND, "three heartbeats");
}

#[test]
fn a_compacted_watch_is_set_again() {
    let mut world = World::new();
    let (leader, heir) = leader_and_heir(&mut world);
    world.etcd.compact();
    world.cancel_watches(heir.service, Failure::Compacted);
    hand_over(&mut world, leader, heir);
}

#[test]
fn a_stream_that_breaks_again_and_again_is_not_opened_in_a_hurry() {
    let mut world = World::new();
    let (_, heir) = leader_and_heir(&mut world);
    world.partition(heir.service);
    for _ in 0..100 {
        world.break_stream(heir.service);
        world.run(20 * MS);
    }
    world.reject_event(heir);
    let opened = world.process(heir.service).streams;
    assert!(opened < 12, "{opened} in 2 s");
}

#[test]
fn more_than_32_elections_share_one_watch() {
    let mut world = World::new();
    let (a, b) = (world.service(), world.service());
    let leaders = many(&mut world, b, 0..40);
    world.run(SECOND);
    let heirs = many(&mut world, a, 0..32);
    world.run(SECOND);
    assert_eq!((world.watches(a), world.watches(b)), (32, 1));
    let more = many(&mut world, a, 32..40);
    world.run(SECOND);
    assert_eq!(world.watches(a), 1);
    for (heir, leader) in heirs.into_iter().chain(more).zip(leaders) {
        world.expect_event(heir, State::Follower);
        hand_over(&mut world, leader, heir);
    }
}

#[test]
fn nothing_is_missed_while_one_watch_takes_over_from_many() {
    for after in 0..12 {
        let mut world = World::new();
        let (a, b) = (world.service(), world.service());
        let leaders = many(&mut world, b, 0..34);
        world.run(SECOND);
        let heirs = many(&mut world, a, 0..32);
        world.run(SECOND);
        let more = many(&mut world, a, 32..33);
        world.run(after * world.latency / 2);
        let last = many(&mut world, a, 33..34);
        leaders.into_iter().for_each(|leader| _ = world.resign(leader));
        for heir in heirs.into_iter().chain(more).chain(last) {
            world.expect_event(heir, State::Follower);
            world.expect_event(heir, State::Leader);
        }
    }
}

#[test]
fn no_hand_over_waits_for_a_list_of_everything() {
    for doubted in [false, true] {
        let mut world = World::new();
        let (a, b) = (world.service(), world.service());
        let leaders = many(&mut world, b, 0..34);
        world.run(SECOND);
        let heirs = many(&mut world, a, if doubted { 0..34 } else { 0..32 });
        world.run(SECOND);
        world.always(a, What::List, Fate::Slow(SECOND));
        if doubted {
            assert_eq!(world.watches(a), 1);
            world.jump_wall_clock(a);
        } else {
            many(&mut world, a, 32..33);
        }
        world.run(100 * MS);
        let begun = world.now;
        world.expect_event(heirs[0], State::Follower);
        hand_over(&mut world, leaders[0], heirs[0]);
        assert_eq!(world.now - begun, 2 * world.latency, "doubted: {doubted}");
    }
}

#[test]
fn a_refused_watch_on_everything_leaves_one_for_each() {
    let mut world = World::new();
    let (a, b) = (world.service(), world.service());
    world.etcd.forbidden = vec![world.prefix("secret")];
    let leaders = many(&mut world, b, 0..40);
    world.run(SECOND);
    let heirs = many(&mut world, a, 0..40);
    world.run(SECOND);
    assert_eq!(world.watches(a), 40);
    for (heir, leader) in heirs.into_iter().zip(leaders) {
        world.expect_event(heir, State::Follower);
        hand_over(&mut world, leader, heir);
    }
}

#[test]
fn a_follower_that_may_not_look_any_more_leaves_the_queue() {
    let mut world = World::new();
    let (leader, heir) = leader_and_heir(&mut world);
    world.etcd.forbidden = vec![world.prefix("e")];
    for service in [leader.service, heir.service] {
        world.break_stream(service);
    }
    world.expect_loss(heir, Code::PermissionDenied);
    world.run(SECOND);
    // A leader needs no look to know that it leads.
    assert!(world.is_leader(leader));
}

#[test]
fn a_stream_that_broke_while_nothing_was_watched_is_forgotten() {
    for elections in [1, 40] {
        let mut world = World::new();
        let (a, b) = (world.service(), world.service());
        let before = many(&mut world, a, 0..elections);
        world.run(SECOND);
        before.into_iter().for_each(|candidate| _ = world.resign(candidate));
        world.run(SECOND);
        world.break_stream(a);
        world.run(SECOND);
        let leader = world.elect(b, "e");
        let heir = world.enqueue(a, "e");
        assert_eq!(world.watches(a), 1);
        hand_over(&mut world, leader, heir);
    }
}

#[test]
fn an_election_entered_twice_while_there_is_no_stream_has_one_watch() {
    let mut world = World::new();
    let (leader, other) = leader_and_heir(&mut world);
    let a = leader.service;
    world.elect(a, "f");
    world.break_stream(a);
    world.run(MS);
    let resigned = world.resign(leader);
    world.expect_done(resigned);
    let again = world.campaign(a, "e");
    world.run(SECOND);
    assert_eq!(world.watches(a), 2);
    world.resign(again);
    world.resign(other);
    world.run(SECOND);
    assert_eq!(world.watches(a), 1);
}

#[test]
fn candidates_of_an_election_are_listed_in_pages() {
    let mut world = World::new();
    let a = world.service();
    let mut before: Vec<_> = (0..50).map(|_| world.go_campaign("e")).collect();
    let last = before.split_off(49);
    let candidate = world.enqueue(a, "e");
    before.into_iter().for_each(|key| world.go_resign(&key));
    world.run(SECOND);
    world.reject_event(candidate);
    world.go_resign(&last[0]);
    world.expect_event(candidate, State::Leader);
}

#[test]
fn a_list_whose_revision_is_compacted_between_pages_begins_anew() {
    for wide in [1, 40] {
        let mut world = World::new();
        let a = world.service();
        let before: Vec<_> = (0..50).map(|_| world.go_campaign("e")).collect();
        let candidates = many(&mut world, a, 0..wide);
        world.run(SECOND);
        world.resign(candidates[0]);
        let candidate = world.campaign(a, "e");
        for _ in 0..10 {
            world.run(world.latency);
            world.go_campaign("elsewhere");
            world.etcd.compact();
        }
        world.run(SECOND);
        before.into_iter().for_each(|key| world.go_resign(&key));
        world.expect_event(candidate, State::Follower);
        world.expect_event(candidate, State::Leader);
    }
}

#[test]
fn a_list_in_pages_that_is_begun_anew_midway_loses_nobody() {
    for (first, second) in [(1, 2), (3, 2), (5, 4), (7, 2)] {
        let mut world = World::new();
        let (a, b) = (world.service(), world.service());
        many(&mut world, b, 0..40);
        world.run(SECOND);
        let heirs = many(&mut world, a, 0..40);
        world.run(SECOND);
        world.jump_wall_clock(a);
        world.run(first * world.latency);
        world.jump_wall_clock(a);
        world.run(second * world.latency);
        world.jump_wall_clock(a);
        world.run(SECOND);
        for heir in heirs {
            world.expect_event(heir, State::Follower);
            world.reject_event(heir);
        }
    }
}

#[test]
fn the_watch_on_everything_is_used_again_after_compaction_and_never_after_a_refusal() {
    for (failure, watches) in [(Failure::Compacted, 1), (Failure::NoLeader, 1), (Failure::PermissionDenied, 40)] {
        let mut world = World::new();
        let (a, b) = (world.service(), world.service());
        let leaders = many(&mut world, b, 0..40);
        world.run(SECOND);
        let heirs = many(&mut world, a, 0..40);
        world.run(SECOND);
        let watcher = world.observe(a, "e00");
        assert!(world.expect_observation(watcher).connected);
        world.cancel_watches(a, failure);
        assert!(!world.expect_observation(watcher).connected, "{failure:?}");
        world.run(SECOND);
        assert_eq!(world.watches(a), watches, "{failure:?}");
        for (heir, leader) in heirs.into_iter().zip(leaders) {
            world.expect_event(heir, State::Follower);
            hand_over(&mut world, leader, heir);
        }
    }
}

#[test]
fn an_election_that_may_not_be_watched_disturbs_no_other() {
    let mut world = World::new();
    let (leader, heir) = leader_and_heir(&mut world);
    let a = heir.service;
    let watcher = world.observe(a, "e");
    assert!(world.expect_observation(watcher).connected);
    world.etcd.forbidden = vec![world.prefix("secret")];
    let forbidden = world.observe(a, "secret");
    let refused = world.expect_observation(forbidden);
    assert_eq!((refused.connected, refused.reason), (false, Code::PermissionDenied));
    world.run(20 * SECOND);
    assert_eq!((world.observations(watcher), world.process(a).streams), (0, 1));
    hand_over(&mut world, leader, heir);
    world.etcd.forbidden.clear();
    assert!(world.expect_observation(forbidden).connected);
}

#[test]
fn a_list_that_fails_is_told_only_to_its_own_observers() {
    let mut world = World::new();
    let a = world.service();
    world.once(What::List, Fate::Refuse(Failure::NoSpace));
    let (first, second) = (world.observe(a, "e"), world.observe(a, "f"));
    let failed = world.expect_observation(first);
    assert_eq!((failed.connected, failed.reason), (false, Code::NoSpace));
    assert!(world.expect_observation(second).connected);
    assert!(world.expect_observation(first).connected);
}

#[test]
fn changes_told_while_no_list_succeeds_are_not_kept_for_ever() {
    for others in [0, 40] {
        let mut world = World::new();
        let a = world.service();
        many(&mut world, a, 0..others);
        world.run(SECOND);
        world.always(a, What::List, Fate::LoseRequest);
        world.observe(a, "e");
        world.jump_wall_clock(a);
        let mut most = 0;
        for _ in 0..200 {
            world.go_campaign("e");
            world.run(SECOND);
            most = most.max(world.process(a).core.elections["e"].mirror.waiting());
        }
        assert!((1..20).contains(&most), "{most} of 200, with {others} others");
    }
}

#[test]
fn a_list_that_travels_with_a_join_sees_it() {
    let mut world = World::new();
    let a = world.service();
    world.elect(a, "warm");
    // Four transactions under way: what follows goes together.
    let watcher = world.observe(a, "e");
    world.run(world.latency + MS / 2);
    let busy = many(&mut world, a, 0..4);
    world.run(MS);
    world.stream_lag = 5 * MS;
    let candidate = world.campaign(a, "e");
    world.expect_event(candidate, State::Follower);
    world.expect_event(candidate, State::Leader);
    world.run(SECOND);
    world.reject_event(candidate);
    let token = world.key_of(candidate).unwrap().create_revision;
    assert_eq!(world.observed(watcher).leader.as_ref().map(|leader| leader.token), Some(token));
    assert!(world.count(What::Group) > 0 && busy.into_iter().all(|candidate| world.is_leader(candidate)));
}

#[test]
fn a_candidate_key_of_any_bytes_counts() {
    for elections in [0, 40] {
        let mut world = World::new();
        let a = world.service();
        many(&mut world, a, 0..elections);
        let key = [world.prefix("e"), vec![0xff, 0xfe]].concat();
        world.etcd.put(key.clone(), b"", 0);
        let candidate = world.enqueue(a, "e");
        world.go_resign(&key);
        world.expect_event(candidate, State::Leader);
    }
}

#[test]
fn a_leader_on_the_shared_watch_hears_of_its_own_key_without_a_list() {
    for taken in [true, false] {
        let mut world = World::new();
        let a = world.service();
        many(&mut world, a, 0..40);
        world.run(SECOND);
        let lists = world.count(What::List);
        let leader = world.elect(a, "e");
        world.run(SECOND);
        assert_eq!(world.count(What::List), lists);
        let key = world.key_of(leader).unwrap().key;
        match taken {
            true => {
                world.etcd.foreign_lease(77);
                world.etcd.put(key, b"mine", 77);
                world.publish();
            }
            false => world.delete_key(leader),
        }
        world.expect_loss(leader, Code::KeyDeleted);
        world.expect_event(leader, State::Closed);
        assert_eq!(world.queue_length("e"), 0);
    }
}

#[test]
fn a_list_under_way_when_the_service_is_closed_is_not_repeated() {
    for elections in [1, 40] {
        let mut world = World::new();
        let a = world.service();
        let heir = many(&mut world, a, 0..elections)[0];
        world.expect_event(heir, State::Follower);
        world.always(a, What::List, Fate::LoseRequest);
        world.always(a, What::Revoke, Fate::LoseRequest);
        world.break_stream(a);
        let lists = world.count(What::List);
        world.observe(a, "e00");
        world.run_until("a list", |w| w.count(What::List) > lists);
        let lists = world.count(What::List);
        world.close(a);
        world.run(2 * SECOND);
        assert!(world.processes[0].is_up() && world.count(What::List) == lists);
    }
}
