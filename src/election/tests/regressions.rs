//! What the simulation has found and no other module is about, each with the least that brings it about.

use super::faults::{Fate, What};
use super::world::{Candidate, World, candidacy};
use crate::clock::{MS, SECOND};
use crate::election::Candidacy;
use crate::error::Code;
use crate::events::State;
use crate::store::Failure;

fn value_of(world: &mut World, candidate: Candidate) -> Vec<u8> {
    world.key_of(candidate).unwrap().value
}

#[test]
fn a_proclaim_that_arrives_late_does_not_undo_a_newer_one() {
    let mut world = World::new();
    let a = world.service();
    let leader = world.elect(a, "e");
    world.once(What::Proclaim, Fate::Late(8 * SECOND));
    let callers = [world.proclaim(leader, b"old"), world.proclaim(leader, b"new")];
    callers.into_iter().for_each(|caller| world.expect_done(caller));
    assert!(world.now < 8 * SECOND && value_of(&mut world, leader) == b"new");
    world.run(8 * SECOND);
    assert_eq!(value_of(&mut world, leader), b"new");
}

#[test]
fn a_proclaim_without_an_answer_is_confirmed_by_what_is_there() {
    for fate in [Fate::LoseAnswer, Fate::LoseRequest] {
        let mut world = World::new();
        let a = world.service();
        let leader = world.elect(a, "e");
        world.once(What::Proclaim, fate);
        let callers = [world.proclaim(leader, b"first"), world.proclaim(leader, b"second")];
        callers.into_iter().for_each(|caller| world.expect_done(caller));
        assert_eq!((world.count(What::Proclaim), value_of(&mut world, leader)), (3, b"second".to_vec()));
        world.reject_event(leader);
    }
}

#[test]
fn a_value_that_somebody_else_has_put_in_place_of_ours_is_replaced_by_the_next() {
    let mut world = World::new();
    let a = world.service();
    let leader = world.elect(a, "e");
    let own = world.key_of(leader).unwrap();
    world.etcd.put(own.key, b"theirs", own.lease);
    world.publish();
    let caller = world.proclaim(leader, b"ours");
    world.expect_done(caller);
    assert_eq!(value_of(&mut world, leader), b"ours");
}

#[test]
fn who_resigns_late_is_not_told_that_it_leads_in_doubt() {
    for close in [false, true] {
        let mut world = World::new();
        let a = world.service();
        let leader = world.stand(a, Candidacy { at_risk: true, ..candidacy("e") });
        world.expect_event(leader, State::Follower);
        world.expect_event(leader, State::Leader);
        world.late_wakes = 2 * SECOND;
        let overslept = |world: &mut World| {
            world.run(50 * MS);
            let process = &world.processes[a.0];
            process.core.wake_at().is_some_and(|at| process.local(world.now) > at + 600 * MS)
        };
        assert!((0..200).any(|_| overslept(&mut world)));
        let next = world.life(leader).unread().len();
        match close {
            true => world.close(a),
            false => drop(world.resign(leader)),
        }
        let told: Vec<State> = world.life(leader).unread()[next..].iter().map(|status| status.state).collect();
        assert!(!told.is_empty() && !told.contains(&State::Leader), "{told:?}");
    }
}

#[test]
fn a_campaign_that_rests_is_not_lost_again_with_the_cluster() {
    let mut world = World::new();
    let a = world.service();
    world.elect(a, "other");
    let candidate = world.stand(a, Candidacy { rejoin: true, ..candidacy("e") });
    world.expect_event(candidate, State::Follower);
    world.expect_event(candidate, State::Leader);
    for _ in 0..2 {
        world.replace_etcd(|etcd, _| etcd.rebuild());
        world.run(40 * MS);
    }
    world.expect_loss(candidate, Code::ClusterChanged);
    world.expect_event(candidate, State::Follower);
    world.expect_event(candidate, State::Leader);
}

#[test]
fn a_service_that_only_renews_notices_that_the_store_was_restored() {
    let mut world = World::new();
    let a = world.service();
    let leader = world.elect(a, "e");
    let token = world.key_of(leader).unwrap().create_revision;
    let resigned = world.resign(leader);
    world.expect_done(resigned);
    world.replace_etcd(|etcd, now| etcd.restore(now, token));
    assert_eq!(world.queue_length("e"), 1, "the key is back, and so is the lease");
    world.run(20 * SECOND);
    assert_eq!(world.queue_length("e"), 0);
}

#[test]
fn of_values_that_nobody_waits_for_the_last_is_announced() {
    let mut world = World::new();
    let a = world.service();
    let leader = world.elect(a, "e");
    world.partition(a);
    for number in 0..1000 {
        let caller = world.proclaim(leader, format!("{number}").as_bytes());
        world.forget(leader, caller);
    }
    world.heal();
    let waiting = [world.proclaim(leader, b"first"), world.proclaim(leader, b"second")];
    waiting.into_iter().for_each(|caller| world.expect_done(caller));
    assert_eq!(value_of(&mut world, leader), b"second");
    assert!(world.count(What::Proclaim) < 10, "{}", world.count(What::Proclaim));
}

#[test]
fn the_value_of_a_key_found_as_the_own_is_announced_however_often_that_is_refused() {
    for failure in [Failure::NoSpace, Failure::PermissionDenied, Failure::Refused] {
        let mut world = World::new();
        let a = world.service();
        let other = world.elect(a, "other");
        let lease = world.key_of(other).unwrap().lease;
        world.etcd.put([world.prefix("e"), format!("{lease:x}").into_bytes()].concat(), b"former", lease);
        (0..3).for_each(|_| world.once(What::Proclaim, Fate::Refuse(failure)));
        let leader = world.campaign(a, "e");
        world.expect_event(leader, State::Follower);
        world.expect_event(leader, State::Leader);
        world.run(10 * SECOND);
        assert_eq!((world.count(What::Proclaim), value_of(&mut world, leader)), (4, b"value".to_vec()), "{failure:?}");
    }
}

#[test]
fn who_stopped_waiting_for_a_resignation_gets_no_reply() {
    for close in [false, true] {
        let mut world = World::new();
        let a = world.service();
        let leader = world.elect(a, "e");
        world.partition(a);
        let callers = [world.resign(leader), world.resign(leader)];
        if close {
            world.close(a);
        }
        world.forget(leader, callers[0]);
        world.heal();
        world.expect_done(callers[1]);
    }
}

#[test]
fn a_key_of_our_name_that_is_found_on_the_way_out_is_no_second_loss_and_no_reason_to_stand_again() {
    for resigns in [false, true] {
        let mut world = World::new();
        let a = world.service();
        let leader = world.elect(a, "other");
        let key = world.key_of(leader).unwrap();
        let name = format!("{:x}", key.lease);
        world.etcd.put([world.prefix("e"), name.into_bytes()].concat(), b"theirs", 0);
        world.once(What::Join, Fate::Slow(2 * SECOND));
        let limit = (!resigns).then_some(std::time::Duration::from_secs(1));
        let candidate = world.stand(a, Candidacy { rejoin: true, wait_limit: limit, ..candidacy("e") });
        world.expect_event(candidate, State::Follower);
        if resigns {
            let caller = world.resign(candidate);
            world.expect_event(candidate, State::Follower);
            world.expect_done(caller);
        } else {
            world.expect_loss(candidate, Code::WaitLimit);
        }
        world.expect_event(candidate, State::Closed);
        assert_eq!(world.queue_length("e"), 1, "theirs stays");
    }
}

#[test]
fn a_late_answer_to_a_join_does_not_lead_by_a_key_that_a_newer_list_has_not() {
    let mut world = World::new();
    let a = world.service();
    world.elect(a, "other");
    world.once(What::Join, Fate::Undone(2 * SECOND));
    let candidate = world.campaign(a, "e");
    world.expect_event(candidate, State::Follower);
    // The watch that is opened anew tells only of what comes after the deletion.
    world.run(SECOND);
    world.break_stream(a);
    world.expect_loss(candidate, Code::KeyDeleted);
    world.expect_event(candidate, State::Closed);
}
