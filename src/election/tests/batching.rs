//! Small transactions that travel together: who waits and who doesn't, and that nobody suffers for another's sake.
//! Four are under way at once, so the first four calls of an instant fill the slots and the others share a group.

use super::faults::{Fate, What};
use super::world::{Caller, Candidate, Service, World, candidacy};
use crate::clock::{MS, SECOND};
use crate::election::Candidacy;
use crate::error::Code;
use crate::events::State;
use crate::store::Failure;

/// What may become of a group that is not answered as it should be.
const TROUBLE: [Fate; 7] = [
    Fate::LoseRequest,
    Fate::LoseAnswer,
    Fate::Late(6 * SECOND),
    Fate::FailAfter(Failure::Unknown),
    Fate::FailAfter(Failure::NoSpace),
    Fate::Refuse(Failure::NotSent),
    Fate::Refuse(Failure::Refused),
];

/// A service with a lease, a watch, and nothing under way.
fn ready(world: &mut World) -> Service {
    let a = world.service();
    world.elect(a, "ready");
    world.run(SECOND);
    a
}

/// Stands in so many elections in one instant.
fn stand_in(world: &mut World, service: Service, name: &str, count: usize) -> Vec<Candidate> {
    (0..count).map(|i| world.campaign(service, &format!("{name}{i}"))).collect()
}

fn leaders_of(world: &mut World, service: Service, name: &str, count: usize) -> Vec<Candidate> {
    let leaders = stand_in(world, service, name, count);
    world.run(SECOND);
    expect_leaders(world, &leaders);
    leaders
}

fn expect_leaders(world: &mut World, candidates: &[Candidate]) {
    for &candidate in candidates {
        world.expect_event(candidate, State::Follower);
        world.expect_event(candidate, State::Leader);
        world.reject_event(candidate);
    }
}

fn expect_all_done(world: &mut World, callers: Vec<Caller>) {
    callers.into_iter().for_each(|caller| world.expect_done(caller));
}

#[test]
fn the_first_calls_go_at_once_and_the_others_with_the_first_answer() {
    let mut world = World::new();
    let a = ready(&mut world);
    let joins = world.count(What::Join);
    stand_in(&mut world, a, "e", 10);
    assert_eq!((world.count(What::Join) - joins, world.count(What::Group)), (4, 0));
    world.run(2 * world.latency);
    assert_eq!((world.count(What::Join) - joins, world.count(What::Group)), (10, 1));
}

#[test]
fn a_call_waits_ten_milliseconds_for_a_slot_and_no_longer() {
    let mut world = World::new();
    let a = ready(&mut world);
    let joins = world.count(What::Join);
    world.latency = 100 * MS;
    stand_in(&mut world, a, "e", 7);
    world.run(9 * MS);
    assert_eq!(world.count(What::Join) - joins, 4);
    world.run(MS);
    assert_eq!((world.count(What::Join) - joins, world.count(What::Group)), (7, 1));
    world.campaign(a, "later");
    world.run(10 * MS);
    assert_eq!(world.count(What::Join) - joins, 8);
}

#[test]
fn many_campaigns_join_and_resign_in_few_transactions() {
    let mut world = World::new();
    let a = ready(&mut world);
    let begun = world.now;
    let leaders = stand_in(&mut world, a, "e", 900);
    world.run_until("all lead", |w| leaders.iter().all(|&leader| w.is_leader(leader)));
    assert!(world.now - begun <= 10 * world.latency && world.count(What::Group) <= 12);
    let callers = leaders.iter().map(|&leader| world.resign(leader)).collect();
    expect_all_done(&mut world, callers);
    assert!(world.count(What::Group) <= 24, "{}", world.count(What::Group));
    assert_eq!(world.etcd.keys(b"").len(), 1);
}

#[test]
fn a_join_that_has_not_been_sent_is_taken_back() {
    let mut world = World::new();
    let a = ready(&mut world);
    let candidates = stand_in(&mut world, a, "e", 6);
    let joins = world.count(What::Join);
    let resigned = world.resign(candidates[5]);
    assert_eq!(world.state(candidates[5]), Some(State::Closed));
    world.expect_done(resigned);
    world.run(SECOND);
    assert_eq!(world.count(What::Join), joins + 1);
    expect_leaders(&mut world, &candidates[..5]);
}

/// etcd says that it has no room after it has done what reached the limit.
#[test]
fn a_join_that_was_refused_with_others_and_done_is_not_taken_back_without_a_deletion() {
    for moment in 0..20 {
        let mut world = World::new();
        let a = ready(&mut world);
        world.once(What::Group, Fate::FailAfter(Failure::NoSpace));
        let mut candidates = stand_in(&mut world, a, "e", 20);
        world.run(moment * world.latency / 4);
        let last = candidates.pop().unwrap();
        let resigned = world.resign(last);
        world.run(SECOND);
        world.expect_done(resigned);
        assert_eq!((world.queue_length("e19"), world.queue_length("e18")), (0, 1), "moment {moment}");
        expect_leaders(&mut world, &candidates);
    }
}

/// Their candidates may stand again by then, with other keys.
#[test]
fn joins_that_are_refused_together_after_their_session_are_not_sent_again() {
    for (exchanged, rejoin) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut world = World::new();
        let a = ready(&mut world);
        let joins = world.count(What::Join);
        world.once(What::Group, Fate::Late(SECOND));
        let stand = |i| Candidacy { rejoin, ..candidacy(&format!("e{i}")) };
        let candidates: Vec<_> = (0..10).map(|i| world.stand(a, stand(i))).collect();
        world.run(20 * MS);
        assert_eq!(world.count(What::Group), 1);
        if exchanged {
            world.replace_etcd(|etcd, _| etcd.rebuild());
        } else {
            world.revoke_lease(candidates[0]);
        }
        for candidate in &candidates {
            world.run_until("its loss", |w| w.life(*candidate).unread().iter().any(|s| s.state == State::Error));
        }
        world.run(3 * SECOND);
        let expected = if rejoin { 20 } else { 10 };
        assert_eq!(world.count(What::Join) - joins, expected, "exchanged: {exchanged}");
        let callers = candidates.into_iter().map(|candidate| world.resign(candidate)).collect();
        expect_all_done(&mut world, callers);
        world.run(3 * SECOND);
        let withdrawn = if rejoin { 10 } else { 0 };
        assert_eq!(world.count(What::Withdraw), withdrawn, "looked for what was never there, exchanged: {exchanged}");
    }
}

#[test]
fn a_key_that_may_not_be_written_fails_nobody_else() {
    let mut world = World::new();
    let a = ready(&mut world);
    world.etcd.forbidden = vec![world.prefix("e7")];
    let mut candidates = stand_in(&mut world, a, "e", 12);
    let forbidden = candidates.remove(7);
    world.expect_event(forbidden, State::Follower);
    world.expect_loss(forbidden, Code::PermissionDenied);
    expect_leaders(&mut world, &candidates);
    assert!(world.count(What::Group) > 0);
}

#[test]
fn a_deletion_that_is_forbidden_delays_no_other() {
    let mut world = World::new();
    let a = ready(&mut world);
    let leaders = leaders_of(&mut world, a, "e", 12);
    let b = world.service();
    let heirs = stand_in(&mut world, b, "e", 12);
    world.run(SECOND);
    world.etcd.forbidden = vec![world.prefix("e7")];
    let callers = leaders.iter().map(|&leader| world.resign(leader)).collect();
    expect_all_done(&mut world, callers);
    expect_leaders(&mut world, &heirs);
}

#[test]
fn a_server_that_takes_few_operations_gets_smaller_groups_from_then_on() {
    let mut world = World::new();
    let a = ready(&mut world);
    world.etcd.max_ops = 10;
    leaders_of(&mut world, a, "e", 100);
    let (joins, groups) = (world.count(What::Join), world.count(What::Group));
    leaders_of(&mut world, a, "f", 100);
    assert_eq!(world.count(What::Join) - joins, 100, "none was refused");
    assert!((10..40).contains(&(world.count(What::Group) - groups)));
}

#[test]
fn large_values_travel_in_groups_that_the_server_takes() {
    let mut world = World::new();
    let a = ready(&mut world);
    let joins = world.count(What::Join);
    let value = |kib: usize| vec![b'v'; kib * 1024].into();
    let sizes = [1, 1, 1, 1, 300, 300, 1024, 200, 200, 200, 1024, 1, 1];
    let candidates: Vec<_> = (0..sizes.len())
        .map(|i| world.stand(a, Candidacy { value: value(sizes[i]), ..candidacy(&format!("e{i}")) }))
        .collect();
    world.run(SECOND);
    expect_leaders(&mut world, &candidates);
    assert_eq!(world.count(What::Join) - joins, sizes.len(), "none was refused");
    assert!(world.count(What::Group) > 0);
}

#[test]
fn a_group_that_is_too_large_for_the_server_is_sent_singly_and_small_ones_still_go_together() {
    let mut world = World::new();
    let a = ready(&mut world);
    world.once(What::Group, Fate::Refuse(Failure::TooLarge));
    let large = |i| Candidacy { value: vec![b'v'; 100 * 1024].into(), ..candidacy(&format!("e{i}")) };
    let candidates: Vec<_> = (0..8).map(|i| world.stand(a, large(i))).collect();
    world.run(SECOND);
    expect_leaders(&mut world, &candidates);
    let (joins, groups) = (world.count(What::Join), world.count(What::Group));
    stand_in(&mut world, a, "f", 12);
    world.run(2 * world.latency);
    assert_eq!((world.count(What::Join) - joins, world.count(What::Group) - groups), (12, 1));
}

#[test]
fn joins_whose_group_meets_trouble_are_asked_again_and_lead() {
    for fate in TROUBLE {
        let mut world = World::new();
        let a = ready(&mut world);
        world.once(What::Group, fate);
        let candidates = stand_in(&mut world, a, "e", 12);
        world.run(20 * SECOND);
        expect_leaders(&mut world, &candidates);
        for candidate in candidates {
            let key = world.key_of(candidate).unwrap();
            assert_eq!(key.create_revision, key.mod_revision, "{fate:?}: created once, not touched again");
        }
    }
}

#[test]
fn deletions_whose_group_meets_trouble_are_confirmed_in_the_end() {
    for fate in TROUBLE {
        let mut world = World::new();
        let a = ready(&mut world);
        let leaders = leaders_of(&mut world, a, "e", 12);
        world.once(What::Group, fate);
        let callers = leaders.iter().map(|&leader| world.resign(leader)).collect();
        expect_all_done(&mut world, callers);
        assert_eq!(world.etcd.keys(b"").len(), 1, "{fate:?}");
        for leader in leaders {
            world.expect_event(leader, State::Follower);
            world.expect_event(leader, State::Closed);
        }
        assert_eq!(world.etcd.own_leases(), 1, "{fate:?}");
    }
}

#[test]
fn joins_deletions_proclamations_and_lists_that_travel_together_do_what_each_would_alone() {
    for fate in TROUBLE.into_iter().chain([Fate::Served]) {
        let mut world = World::new();
        let a = ready(&mut world);
        let leaders = leaders_of(&mut world, a, "e", 8);
        let b = world.service();
        let heirs = stand_in(&mut world, b, "e", 4);
        let watchers: Vec<_> = (0..8).map(|i| world.observe(a, &format!("e{i}"))).collect();
        world.run(SECOND);
        stand_in(&mut world, a, "busy", 4);
        world.once(What::Group, fate);
        let mut callers: Vec<_> = leaders[..4].iter().map(|&leader| world.resign(leader)).collect();
        callers.extend(leaders[4..].iter().map(|&leader| world.proclaim(leader, b"new")));
        let joined = stand_in(&mut world, a, "f", 4);
        let late = (0..8).map(|i| world.observe(a, &format!("{}{}", ["e", "f"][i % 2], i / 2))).collect::<Vec<_>>();
        world.run(20 * SECOND);
        expect_all_done(&mut world, callers);
        expect_leaders(&mut world, &heirs);
        expect_leaders(&mut world, &joined);
        for (i, watcher) in watchers.into_iter().chain(late).enumerate() {
            let observed = world.observed(watcher).clone();
            let first = world.etcd.lowest(&world.prefix(&observed.election)).unwrap();
            let leader = observed.leader.unwrap();
            assert_eq!((leader.token, &*leader.value), (first.create_revision, &first.value[..]), "{fate:?}, {i}");
        }
        let values = leaders[4..].iter().map(|&leader| world.key_of(leader).unwrap().value);
        assert!(values.collect::<Vec<_>>().iter().all(|value| value == b"new"), "{fate:?}");
    }
}

#[test]
fn a_proclamation_and_the_deletion_of_its_key_in_one_group_leave_no_key() {
    for fate in TROUBLE.into_iter().chain([Fate::Served]) {
        let mut world = World::new();
        let a = ready(&mut world);
        let leader = world.elect(a, "e");
        world.run(SECOND);
        stand_in(&mut world, a, "busy", 4);
        world.once(What::Group, fate);
        let proclaimed = world.proclaim(leader, b"last words");
        let resigned = world.resign(leader);
        world.expect_refusal(proclaimed, Code::NotLeader);
        world.expect_done(resigned);
        assert_eq!(world.queue_length("e"), 0, "{fate:?}");
        world.run(10 * SECOND);
        assert_eq!(world.queue_length("e"), 0, "{fate:?}");
    }
}

#[test]
fn a_group_answered_by_another_cluster_confirms_nothing() {
    let mut world = World::new();
    let a = ready(&mut world);
    let leaders = leaders_of(&mut world, a, "e", 12);
    world.once(What::Group, Fate::Late(SECOND));
    world.always(a, What::Withdraw, Fate::Late(SECOND));
    let callers: Vec<_> = leaders.iter().map(|&leader| world.resign(leader)).collect();
    world.run(20 * MS);
    world.replace_etcd(|etcd, _| etcd.rebuild());
    world.run(5 * SECOND);
    assert!(callers.iter().all(|&caller| world.reply_of(caller).is_none()));
    for (caller, leader) in callers.into_iter().zip(leaders) {
        world.expect_done(caller);
        world.expect_event(leader, State::Follower);
        world.expect_event(leader, State::Closed);
    }
}

#[test]
fn closing_drops_what_waits_for_a_slot() {
    let mut world = World::new();
    let a = ready(&mut world);
    let candidates = stand_in(&mut world, a, "e", 12);
    let sent = world.count(What::Join);
    world.close(a);
    assert!(candidates.into_iter().all(|candidate| world.state(candidate) == Some(State::Closed)));
    world.run(20 * SECOND);
    assert_eq!((world.count(What::Join), world.etcd.keys(b"").len()), (sent, 0));
}

#[test]
fn closing_without_a_lease_asks_nothing_more() {
    let mut world = World::new();
    let a = world.service();
    (0..12).for_each(|i| _ = world.observe(a, &format!("e{i}")));
    world.run(2 * world.latency);
    assert_eq!(world.count(What::List), 4, "eight more wait");
    world.close(a);
    assert!(!world.processes[0].is_up());
    world.run(20 * SECOND);
    assert_eq!(world.count(What::List), 4);
}

#[test]
fn what_was_refused_in_company_is_not_repeated_after_closing() {
    let mut world = World::new();
    let a = ready(&mut world);
    stand_in(&mut world, a, "e", 12);
    world.once(What::Group, Fate::Refuse(Failure::Refused));
    world.run_until("a group", |w| w.count(What::Group) == 1);
    let sent = world.count(What::Join);
    world.close(a);
    world.run(20 * SECOND);
    assert_eq!(world.count(What::Join), sent);
}
