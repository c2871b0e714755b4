//! Every way out of a candidacy ends with the key gone for certain. Requests and answers are lost or come late at
//! each point; then the store is looked at.

use std::time::Duration;

use super::faults::{Fate, What};
use super::world::{Candidate, Service, World, candidacy};
use crate::clock::{MS, SECOND};
use crate::election::Candidacy;
use crate::error::Code;
use crate::events::State;
use crate::store::Failure;

/// What may become of a request whose outcome its sender never learns.
const UNANSWERED: [Fate; 5] = [
    Fate::LoseRequest,
    Fate::LoseAnswer,
    Fate::Late(7 * SECOND),
    Fate::FailAfter(Failure::Unknown),
    Fate::FailAfter(Failure::NoLeader),
];

/// A service that leads elsewhere, so that its lease is shared.
fn in_company(world: &mut World) -> (Service, Candidate) {
    let a = world.service();
    let company = world.elect(a, "company");
    (a, company)
}

fn rejoining(world: &mut World, service: Service) -> Candidate {
    let candidate = world.stand(service, Candidacy { rejoin: true, ..candidacy("e") });
    world.expect_event(candidate, State::Follower);
    world.expect_event(candidate, State::Leader);
    candidate
}

fn expect_closed(world: &mut World, candidate: Candidate) {
    world.expect_event(candidate, State::Follower);
    world.expect_event(candidate, State::Closed);
}

// The deletion.

#[test]
fn a_deletion_that_was_never_answered_is_repeated_until_it_is() {
    for fate in UNANSWERED {
        let mut world = World::new();
        let (a, company) = in_company(&mut world);
        let leader = world.elect(a, "e");
        world.once(What::Withdraw, fate);
        let resigned = world.resign(leader);
        assert!(!world.is_leader(leader), "at once");
        world.expect_event(leader, State::Follower);
        world.reject_event(leader);
        world.expect_done(resigned);
        assert_eq!((world.queue_length("e"), world.count(What::Withdraw)), (0, 2), "{fate:?}");
        world.expect_event(leader, State::Closed);
        assert!(world.is_leader(company), "one lost request is no reason to give up the lease");
    }
}

#[test]
fn a_resignation_is_not_answered_before_etcd_has_confirmed_it() {
    let mut world = World::new();
    let (a, _) = in_company(&mut world);
    let leader = world.elect(a, "e");
    world.always(a, What::Withdraw, Fate::Refuse(Failure::NoLeader));
    let mut callers = Vec::new();
    for _ in 0..3 {
        callers.push(world.resign(leader));
        world.run(4 * SECOND);
        assert!(callers.iter().all(|&caller| world.reply_of(caller).is_none()));
    }
    assert_eq!((world.queue_length("e"), world.state(leader)), (1, Some(State::Follower)));
    world.heal();
    callers.into_iter().for_each(|caller| world.expect_done(caller));
    assert_eq!(world.queue_length("e"), 0);
    expect_closed(&mut world, leader);
}

#[test]
fn a_deletion_that_arrives_late_harms_no_later_candidacy() {
    let mut world = World::new();
    let (a, _) = in_company(&mut world);
    let first = world.elect(a, "e");
    let key = world.key_of(first).unwrap().key;
    world.once(What::Withdraw, Fate::Late(8 * SECOND));
    world.resign(first);
    expect_closed(&mut world, first);
    let second = world.elect(a, "e");
    assert_eq!(world.key_of(second).unwrap().key, key);
    world.run(20 * SECOND);
    world.reject_event(second);
}

#[test]
fn where_etcd_forbids_the_deletion_the_lease_is_ended() {
    let mut world = World::new();
    let (a, company) = in_company(&mut world);
    let leader = world.elect(a, "e");
    world.etcd.forbidden = vec![world.prefix("e")];
    let resigned = world.resign(leader);
    world.expect_done(resigned);
    assert_eq!((world.queue_length("e"), world.etcd.own_leases()), (0, 0));
    expect_closed(&mut world, leader);
    world.expect_loss(company, Code::PermissionDenied);
    world.expect_event(company, State::Closed);
}

#[test]
fn who_is_leaving_when_its_lease_is_given_up_leaves_with_it() {
    let mut world = World::new();
    let (a, _) = in_company(&mut world);
    let (forbidden, leaving) = (world.elect(a, "e"), world.elect(a, "f"));
    world.once(What::Withdraw, Fate::LoseRequest);
    let left = world.resign(leaving);
    world.run(MS);
    world.etcd.forbidden = vec![world.prefix("e")];
    let resigned = world.resign(forbidden);
    world.expect_done(resigned);
    world.expect_done(left);
    assert!(world.now < SECOND && world.queue_length("f") == 0, "the lease's end tells of the lost deletion, too");
    expect_closed(&mut world, leaving);
}

// The join.

#[test]
fn alone_a_join_that_was_never_answered_takes_the_lease_with_it() {
    for fate in UNANSWERED {
        for wait in [0, MS, 5 * MS, 5500 * MS] {
            let mut world = World::new();
            let a = world.service();
            let warm = world.elect(a, "warm");
            let resigned = world.resign(warm);
            world.expect_done(resigned);
            world.once(What::Join, fate);
            let candidate = world.campaign(a, "e");
            world.run(wait);
            let resigned = world.resign(candidate);
            world.expect_done(resigned);
            assert_eq!((world.queue_length("e"), world.etcd.own_leases()), (0, 0), "{fate:?} after {wait}");
            world.run(10 * SECOND);
            assert_eq!(world.queue_length("e"), 0, "{fate:?} after {wait}: a ghost");
        }
    }
}

#[test]
fn in_company_a_join_that_was_never_answered_leaves_no_key_and_the_others_their_lease() {
    for fate in UNANSWERED {
        for wait in [0, MS, 5 * MS] {
            let mut world = World::new();
            let (a, company) = in_company(&mut world);
            world.once(What::Join, fate);
            let candidate = world.campaign(a, "e");
            world.run(wait);
            let resigned = world.resign(candidate);
            world.expect_done(resigned);
            assert_eq!(world.queue_length("e"), 0, "{fate:?} after {wait}");
            world.run(10 * SECOND);
            assert_eq!(world.queue_length("e"), 0, "{fate:?} after {wait}: a ghost");
            world.reject_event(company);
        }
    }
}

#[test]
fn two_late_joins_are_both_removed() {
    let mut world = World::new();
    let (a, company) = in_company(&mut world);
    let begun = world.now;
    // They arrive about 1 s and 3 s after the deletion, which is at 10 s.
    world.once(What::Join, Fate::Late(11 * SECOND));
    world.once(What::Join, Fate::Late(8 * SECOND));
    let candidate = world.campaign(a, "e");
    world.run(6 * SECOND);
    let resigned = world.resign(candidate);
    world.expect_done(resigned);
    world.run_until("the first", |w| w.queue_length("e") == 1);
    world.run_until("its end", |w| w.queue_length("e") == 0);
    world.run_until("the second", |w| w.queue_length("e") == 1);
    assert!(world.now - begun > 12 * SECOND);
    world.run(2 * SECOND);
    assert_eq!(world.queue_length("e"), 0, "a ghost");
    assert!(world.is_leader(company));
}

#[test]
fn a_late_key_is_removed_though_that_is_refused_for_long() {
    let mut world = World::new();
    let (a, company) = in_company(&mut world);
    world.once(What::Join, Fate::Late(8 * SECOND));
    let candidate = world.campaign(a, "e");
    world.run(6 * SECOND);
    let resigned = world.resign(candidate);
    world.expect_done(resigned);
    world.run_until("the late key", |w| w.queue_length("e") == 1);
    world.etcd.forbidden = vec![world.prefix("e")];
    world.run(60 * SECOND);
    assert_eq!(world.queue_length("e"), 1);
    world.etcd.forbidden.clear();
    world.run(2 * SECOND);
    assert_eq!(world.queue_length("e"), 0, "a ghost");
    let sessions = &world.process(a).core.sessions;
    assert!(sessions.values().all(|session| session.graves.is_empty()), "nothing is looked for any more");
    assert!(world.is_leader(company));
}

#[test]
fn a_lease_on_which_a_join_may_still_arrive_takes_nobody_new_and_ends_with_its_last() {
    let mut world = World::new();
    let (a, company) = in_company(&mut world);
    world.once(What::Join, Fate::FailAfter(Failure::Unknown));
    let candidate = world.campaign(a, "e");
    let resigned = world.resign(candidate);
    world.expect_done(resigned);
    let again = world.elect(a, "e");
    let (old, new) = (world.key_of(company).unwrap().lease, world.key_of(again).unwrap().lease);
    assert_ne!(old, new);
    let resigned = world.resign(company);
    world.expect_done(resigned);
    world.run(SECOND);
    assert!(!world.etcd.has_lease(old) && world.is_leader(again));
}

#[test]
fn a_join_whose_answer_was_lost_is_recognized_and_leads() {
    for fate in [Fate::LoseAnswer, Fate::FailAfter(Failure::NoLeader)] {
        let mut world = World::new();
        let a = world.service();
        world.once(What::Join, fate);
        let candidate = world.elect(a, "e");
        let key = world.key_of(candidate).unwrap();
        assert_eq!(world.count(What::Join), 2);
        assert_eq!(key.create_revision, key.mod_revision, "created once, not touched again");
        world.run(60 * SECOND);
        world.reject_event(candidate);
    }
}

#[test]
fn a_join_refused_for_want_of_space_may_have_been_applied_and_is_undone() {
    let mut world = World::new();
    let (a, company) = in_company(&mut world);
    world.once(What::Join, Fate::FailAfter(Failure::NoSpace));
    let candidate = world.campaign(a, "e");
    world.expect_event(candidate, State::Follower);
    world.expect_loss(candidate, Code::NoSpace);
    assert_eq!(world.expect_event(candidate, State::Closed).reason, Code::NoSpace);
    assert_eq!(world.queue_length("e"), 0);
    assert!(world.is_leader(company));
}

#[test]
fn a_join_that_arrives_after_closing_creates_nothing() {
    let mut world = World::new();
    let (a, _) = in_company(&mut world);
    world.once(What::Join, Fate::Late(3 * SECOND));
    let candidate = world.campaign(a, "e");
    world.run(MS);
    world.close(a);
    assert_eq!(world.state(candidate), Some(State::Closed));
    world.run_until("the end", |w| !w.processes[0].is_up());
    assert!(world.now < SECOND, "the lease's end is all that is waited for");
    world.run(10 * SECOND);
    assert_eq!(world.queue_length("e"), 0);
}

#[test]
fn a_wait_limit_that_ends_while_a_join_is_unanswered_leaves_nothing() {
    for fate in UNANSWERED {
        let mut world = World::new();
        let (a, company) = in_company(&mut world);
        world.once(What::Join, fate);
        world.always(a, What::Join, Fate::Refuse(Failure::NoLeader));
        let wait_limit = Some(Duration::from_secs(2));
        let candidate = world.stand(a, Candidacy { wait_limit, ..candidacy("e") });
        world.expect_event(candidate, State::Follower);
        world.expect_loss(candidate, Code::WaitLimit);
        world.expect_event(candidate, State::Closed);
        assert_eq!(world.queue_length("e"), 0, "{fate:?}");
        world.run(10 * SECOND);
        assert_eq!(world.queue_length("e"), 0, "{fate:?}: a ghost");
        assert!(world.is_leader(company));
    }
}

// The lease.

#[test]
fn a_lease_whose_grant_was_never_answered_is_not_left_behind() {
    for fate in UNANSWERED {
        for wait in [0, MS, 3 * SECOND, 5001 * MS, 6 * SECOND] {
            let mut world = World::new();
            let a = world.service();
            world.once(What::Grant, fate);
            world.campaign(a, "e");
            world.run(wait);
            world.close(a);
            world.run_until("the end", |w| !w.processes[0].is_up());
            assert_eq!(world.etcd.own_leases(), 0, "{fate:?} after {wait}");
            assert!(world.now <= wait + 17 * SECOND, "a call's time and the time to live at most: {}", world.now);
            world.run(8 * SECOND);
            // Where a second grant was acknowledged, the first makes a lease without keys when it arrives now.
            let leases = world.etcd.own_leases();
            assert!(leases == 0 || world.count(What::Grant) == 2, "{fate:?} after {wait}: it arrived after the end");
        }
    }
}

#[test]
fn a_grant_refused_after_one_that_was_never_answered_does_not_hide_that_one() {
    for closing in [true, false] {
        let mut world = World::new();
        let a = world.service();
        world.once(What::Grant, Fate::LoseAnswer);
        world.once(What::Grant, Fate::Refuse(Failure::NoSpace));
        let candidate = world.campaign(a, "e");
        world.run_until("asked again", |w| w.count(What::Grant) == 2);
        if closing {
            world.close(a);
        } else {
            world.expect_event(candidate, State::Follower);
            world.expect_loss(candidate, Code::NoSpace);
        }
        world.run(SECOND);
        assert_eq!(world.etcd.own_leases(), 0, "closing: {closing}");
    }
}

#[test]
fn a_grant_refused_for_want_of_space_may_have_been_applied_and_is_undone() {
    for fate in [Fate::FailAfter(Failure::NoSpace), Fate::Refuse(Failure::NoSpace)] {
        let mut world = World::new();
        let a = world.service();
        world.once(What::Grant, fate);
        let candidate = world.campaign(a, "e");
        world.expect_event(candidate, State::Follower);
        world.expect_loss(candidate, Code::NoSpace);
        world.close(a);
        world.run(SECOND);
        assert!(world.etcd.own_leases() == 0 && !world.processes[0].is_up(), "{fate:?}");
    }
}

#[test]
fn a_lease_that_was_certainly_not_granted_is_not_ended() {
    let mut world = World::new();
    let a = world.service();
    world.once(What::Grant, Fate::Refuse(Failure::NotSent));
    world.once(What::Grant, Fate::Refuse(Failure::PermissionDenied));
    let candidate = world.campaign(a, "e");
    world.expect_event(candidate, State::Follower);
    world.expect_loss(candidate, Code::PermissionDenied);
    world.close(a);
    assert!(!world.processes[0].is_up() && world.count(What::Revoke) == 0);
}

#[test]
fn a_lease_id_that_somebody_else_has_is_not_taken_over() {
    let mut world = World::new();
    let a = world.service();
    world.once(What::Grant, Fate::Refuse(Failure::LeaseExists));
    let leader = world.elect(a, "e");
    assert_eq!((world.count(What::Grant), world.count(What::KeepAlive)), (2, 0));
    assert!(world.is_leader(leader));
}

#[test]
fn a_lease_found_granted_while_the_service_closes_is_ended_whatever_its_renewal_comes_to() {
    for failure in [Failure::NotSent, Failure::LeaseNotFound] {
        let mut world = World::new();
        let a = world.service();
        world.once(What::Grant, Fate::LoseAnswer);
        world.once(What::KeepAlive, Fate::Refuse(failure));
        world.campaign(a, "e");
        world.run_until("the renewal", |w| w.count(What::KeepAlive) == 1);
        world.close(a);
        assert_eq!(world.count(What::Revoke), 0, "the renewal is on its way");
        world.run(2 * world.latency);
        assert_eq!(world.count(What::Revoke), 1, "{failure:?}");
        world.run_until("the end", |w| !w.processes[0].is_up());
        assert_eq!(world.etcd.own_leases(), 0, "{failure:?}");
    }
}

#[test]
fn a_lease_whose_end_was_never_answered_is_ended_again() {
    for fate in UNANSWERED {
        let mut world = World::new();
        let a = world.service();
        world.elect(a, "e");
        world.once(What::Revoke, fate);
        world.close(a);
        world.run_until("the end", |w| !w.processes[0].is_up());
        assert_eq!((world.queue_length("e"), world.etcd.own_leases()), (0, 0), "{fate:?}");
        assert_eq!(world.count(What::Revoke), 2, "{fate:?}");
    }
}

#[test]
fn the_end_of_a_lease_is_pursued_until_its_time_to_live_is_over_and_no_longer() {
    let mut world = World::new();
    let a = world.service();
    world.elect(a, "e");
    world.always(a, What::Revoke, Fate::LoseRequest);
    world.close(a);
    world.run_until("the end", |w| !w.processes[0].is_up());
    assert_eq!(world.etcd.own_leases(), 0, "not before etcd has ended it");
    assert!(world.now < 12 * SECOND, "{}", world.now);
}

#[test]
fn a_service_without_etcd_is_closed_when_its_lease_is_over_on_a_slower_clock_too() {
    let mut world = World::new();
    world.ttl = Duration::from_secs(600);
    let a = world.service();
    world.set_clock_rate(a, 10_000);
    world.elect(a, "e");
    world.partition(a);
    world.close(a);
    world.run(599 * SECOND);
    assert_eq!((world.processes[0].is_up(), world.queue_length("e")), (true, 1));
    world.run(20 * SECOND);
    assert_eq!((world.processes[0].is_up(), world.queue_length("e")), (false, 0));
}

#[test]
fn a_resignation_without_etcd_is_confirmed_when_the_lease_is_over() {
    let mut world = World::new();
    let (a, b) = (world.service(), world.service());
    let leader = world.elect(a, "e");
    let waiting = world.enqueue(b, "e");
    world.partition(a);
    let resigned = world.resign(leader);
    world.expect_event(leader, State::Follower);
    world.expect_event(waiting, State::Leader);
    assert_eq!(world.reply_of(resigned), None);
    world.expect_done(resigned);
    let closed = world.expect_event(leader, State::Closed);
    assert_eq!((closed.reason, world.queue_length("e")), (Code::Ok, 1));
}

#[test]
fn who_lost_its_session_learns_by_resigning_when_its_key_is_gone() {
    for rejoin in [true, false] {
        let mut world = World::new();
        let a = world.service();
        let leader = world.stand(a, Candidacy { rejoin, ..candidacy("e") });
        world.expect_event(leader, State::Follower);
        world.expect_event(leader, State::Leader);
        world.always(a, What::Revoke, Fate::LoseRequest);
        world.always(a, What::KeepAlive, Fate::LoseAnswer);
        world.expect_loss(leader, Code::SessionExpired);
        let resigned = world.resign(leader);
        world.run(SECOND);
        assert_eq!((world.reply_of(resigned), world.queue_length("e")), (None, 1), "rejoin: {rejoin}");
        world.expect_done(resigned);
        assert_eq!(world.queue_length("e"), 0, "rejoin: {rejoin}");
        assert_eq!(world.state(leader), Some(State::Closed));
    }
}

#[test]
fn what_a_former_session_left_is_gone_before_a_resignation_is_confirmed() {
    let mut world = World::new();
    let a = world.service();
    let candidate = rejoining(&mut world, a);
    world.always(a, What::Revoke, Fate::LoseRequest);
    world.always(a, What::KeepAlive, Fate::LoseAnswer);
    world.expect_loss(candidate, Code::SessionExpired);
    world.rules.retain(|rule| rule.what == What::Revoke);
    world.expect_event(candidate, State::Follower);
    world.run(SECOND);
    assert_eq!(world.queue_length("e"), 2, "it waits behind its own former key");
    let resigned = world.resign(candidate);
    world.expect_done(resigned);
    assert_eq!(world.queue_length("e"), 0);
    expect_closed(&mut world, candidate);
}

// Losses.

#[test]
fn who_stands_again_has_removed_its_former_key() {
    let mut world = World::new();
    let a = world.service();
    let candidate = rejoining(&mut world, a);
    let key = world.key_of(candidate).unwrap().key;
    world.etcd.foreign_lease(77);
    world.once(What::Withdraw, Fate::LoseRequest);
    world.etcd.put(key, b"taken over", 77);
    world.publish();
    world.expect_loss(candidate, Code::KeyDeleted);
    assert_eq!(world.queue_length("e"), 1);
    world.expect_event(candidate, State::Follower);
    assert_eq!(world.queue_length("e"), 0);
    world.expect_event(candidate, State::Leader);
}

#[test]
fn a_loss_that_is_resigned_before_its_end_closes_and_does_not_rejoin() {
    let mut world = World::new();
    let (a, _) = in_company(&mut world);
    let candidate = rejoining(&mut world, a);
    world.once(What::Withdraw, Fate::LoseRequest);
    world.delete_key(candidate);
    world.expect_loss(candidate, Code::KeyDeleted);
    let resigned = world.resign(candidate);
    world.run(SECOND);
    assert_eq!(world.reply_of(resigned), None);
    world.expect_done(resigned);
    world.expect_event(candidate, State::Follower);
    assert_eq!(world.expect_event(candidate, State::Closed).reason, Code::Ok);
    world.run(20 * SECOND);
    assert_eq!(world.count(What::Join), 2, "one for the company, one for itself");
}

#[test]
fn resigned_before_the_reason_of_its_loss_is_known_it_is_closed_without_an_error() {
    let mut world = World::new();
    let (a, _) = in_company(&mut world);
    let leader = world.elect(a, "e");
    world.once(What::KeepAlive, Fate::Slow(SECOND));
    world.delete_key(leader);
    world.run(2 * MS);
    assert!(!world.is_leader(leader));
    world.reject_event(leader);
    let resigned = world.resign(leader);
    world.expect_done(resigned);
    expect_closed(&mut world, leader);
    world.run(10 * SECOND);
    world.reject_event(leader);
}

#[test]
fn a_leader_that_steps_down_for_its_margin_removes_its_key() {
    let mut world = World::new();
    let (a, b) = (world.service(), world.service());
    let step_down_margin = Duration::from_secs(3);
    let leader = world.stand(a, Candidacy { step_down_margin, ..candidacy("e") });
    world.expect_event(leader, State::Follower);
    world.expect_event(leader, State::Leader);
    let waiting = world.enqueue(b, "e");
    world.always(a, What::KeepAlive, Fate::Refuse(Failure::NoLeader));
    world.expect_loss(leader, Code::SessionExpired);
    let lost = world.now;
    world.expect_event(waiting, State::Leader);
    assert!(world.now - lost < 10 * MS, "by the deletion, not by the lease's end");
}

#[test]
fn who_was_leaving_another_cluster_has_left_when_the_lease_is_over() {
    let mut world = World::new();
    let a = world.service();
    let leader = world.elect(a, "e");
    world.always(a, What::Withdraw, Fate::Refuse(Failure::NoLeader));
    let resigned = world.resign(leader);
    world.run(SECOND);
    world.replace_etcd(|etcd, _| etcd.rebuild());
    world.run(9 * SECOND);
    assert_eq!(world.reply_of(resigned), None, "the former cluster may have the key");
    world.expect_done(resigned);
    expect_closed(&mut world, leader);
    world.run(10 * SECOND);
    world.reject_event(leader);
}

#[test]
fn who_was_lost_with_its_cluster_has_left_when_the_lease_is_over() {
    for rejoin in [false, true] {
        let mut world = World::new();
        let a = world.service();
        let leader = world.stand(a, Candidacy { rejoin, ..candidacy("e") });
        world.expect_event(leader, State::Follower);
        world.expect_event(leader, State::Leader);
        world.replace_etcd(|etcd, _| etcd.rebuild());
        world.expect_loss(leader, Code::ClusterChanged);
        if rejoin {
            world.expect_event(leader, State::Follower);
            world.expect_event(leader, State::Leader);
        }
        let resigned = world.resign(leader);
        world.run(8 * SECOND);
        assert_eq!(world.reply_of(resigned), None, "the former cluster may have the key");
        assert_eq!(world.queue_length("e"), 0);
        world.expect_done(resigned);
    }
}

#[test]
fn a_service_is_closed_when_what_it_left_in_another_cluster_is_over() {
    let mut world = World::new();
    let a = world.service();
    let leader = world.elect(a, "e");
    world.replace_etcd(|etcd, _| etcd.rebuild());
    world.expect_loss(leader, Code::ClusterChanged);
    let changed = world.now;
    world.close(a);
    world.run_until("it has finished", |world| world.process(a).finished);
    assert!(world.now - changed > 9 * SECOND, "{}", world.now - changed);
}

#[test]
fn what_a_backup_has_of_us_is_removed_and_confirmed() {
    let mut world = World::new();
    let a = world.service();
    let leader = world.elect(a, "e");
    let token = world.key_of(leader).unwrap().create_revision;
    world.elect(a, "f");
    world.replace_etcd(|etcd, now| etcd.restore(now, token));
    assert_eq!(world.queue_length("e"), 1, "the backup has its key");
    world.expect_loss(leader, Code::ClusterChanged);
    let resigned = world.resign(leader);
    let lost = world.now;
    world.expect_done(resigned);
    assert!(world.now - lost < SECOND, "by its deletion, not by the lease's end");
    assert_eq!(world.queue_length("e"), 0);
}

#[test]
fn a_grant_that_is_under_way_when_the_store_is_restored_leaves_no_lease() {
    let mut world = World::new();
    let (a, b) = (world.service(), world.service());
    world.observe(a, "e");
    world.elect(b, "e");
    world.elect(b, "f");
    world.run(SECOND);
    world.once(What::Grant, Fate::Late(3 * SECOND));
    let candidate = world.campaign(a, "g");
    world.expect_event(candidate, State::Follower);
    world.replace_etcd(|etcd, now| etcd.restore(now, 1));
    world.expect_loss(candidate, Code::ClusterChanged);
    world.close(b);
    world.run(6 * SECOND);
    assert_eq!(world.etcd.own_leases(), 0);
}

#[test]
fn who_left_keys_on_two_leases_has_left_when_both_are_over() {
    let mut world = World::new();
    let a = world.service();
    let leader = world.stand(a, Candidacy { rejoin: true, ..candidacy("e") });
    world.expect_event(leader, State::Follower);
    world.expect_event(leader, State::Leader);
    world.always(a, What::Revoke, Fate::LoseRequest);
    world.replace_etcd(|etcd, _| etcd.rebuild());
    world.expect_loss(leader, Code::ClusterChanged);
    let first_over = world.now + 11 * SECOND;
    world.expect_event(leader, State::Follower);
    world.expect_event(leader, State::Leader);
    world.run(3 * SECOND);
    let resigned = world.resign(leader);
    world.close(a);
    world.expect_done(resigned);
    assert!(world.now >= first_over, "{} before {first_over}", world.now);
    assert_eq!(world.queue_length("e"), 0);
}

#[test]
fn who_waits_for_the_end_of_a_lost_session_waits_on_when_another_cluster_answers() {
    let mut world = World::new();
    let a = world.service();
    let leader = world.elect(a, "e");
    world.observe(a, "f");
    world.always(a, What::Revoke, Fate::LoseRequest);
    world.always(a, What::KeepAlive, Fate::LoseAnswer);
    world.expect_loss(leader, Code::SessionExpired);
    world.expect_event(leader, State::Closed);
    let resigned = world.resign(leader);
    world.run(SECOND);
    assert_eq!(world.reply_of(resigned), None);
    world.replace_etcd(|etcd, _| etcd.rebuild());
    world.run(9 * SECOND);
    assert_eq!(world.reply_of(resigned), None, "the former cluster may have the key");
    world.expect_done(resigned);
}

#[test]
fn closing_answers_those_whose_resignations_are_under_way() {
    for fate in UNANSWERED {
        let mut world = World::new();
        let (a, _) = in_company(&mut world);
        let leader = world.elect(a, "e");
        world.once(What::Withdraw, fate);
        let resigned = world.resign(leader);
        world.run(3 * MS);
        world.close(a);
        world.expect_done(resigned);
        assert_eq!(world.queue_length("e"), 0, "{fate:?}");
        expect_closed(&mut world, leader);
    }
}
