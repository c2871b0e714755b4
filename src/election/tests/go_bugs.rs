//! What goes wrong in etcd's Go package `concurrency` and in the v3election service made of it, and must not here.
//! Each test sets up one of the numbered bugs EC-1 to EC-21 and asserts what a candidate is owed instead.
//!
//! Elsewhere: EC-13 (`ResumeElection` forgets the slash) by construction: nothing resumes by name, and `keys` has the
//! one prefix for everybody. The first half of EC-16 (a watch from a past revision) by construction, too: a watch
//! request has no revision; what it costs, tests on real servers measure. EC-21 is the server's own code, which this
//! library never calls; the test here holds it to taking no lease but its session's.

use super::faults::{Fate, What};
use super::world::{Candidate, World, candidacy};
use crate::clock::{MS, Nanos, SECOND};
use crate::election::Candidacy;
use crate::error::Code;
use crate::events::State;
use crate::store::{Failure, Op, Txn};

fn leader_and_heir(world: &mut World) -> (Candidate, Candidate) {
    let (a, b) = (world.service(), world.service());
    (world.elect(a, "e"), world.enqueue(b, "e"))
}

fn session_deadline(world: &mut World, candidate: Candidate) -> Nanos {
    let process = world.process(candidate.service);
    process.core.sessions.values().next().unwrap().deadline
}

/// EC-1
#[test]
fn a_candidate_that_lost_its_lease_is_not_elected_when_the_leader_goes() {
    for stalled in [false, true] {
        let mut world = World::new();
        let (leader, heir) = leader_and_heir(&mut world);
        let last = world.service();
        let last = world.enqueue(last, "e");
        if stalled {
            world.stall_stream(heir.service);
        }
        world.revoke_lease(heir);
        world.resign(leader);
        world.expect_event(last, State::Leader);
        world.expect_loss(heir, Code::LeaseRevoked);
        world.expect_event(heir, State::Closed);
        assert_eq!(world.leader_of("e"), Some(last));
    }
}

/// EC-2
#[test]
fn a_waiting_candidate_hears_at_once_that_its_own_key_is_gone() {
    for revoked in [true, false] {
        let mut world = World::new();
        let (leader, heir) = leader_and_heir(&mut world);
        let begun = world.now;
        if revoked {
            world.revoke_lease(heir)
        } else {
            world.delete_key(heir)
        }
        world.expect_loss(heir, if revoked { Code::LeaseRevoked } else { Code::KeyDeleted });
        let asked = if revoked { 5 } else { 3 };
        assert!(world.now - begun <= asked * world.latency, "the news, and a question or two for the reason");
        assert!(world.is_leader(leader));
    }
}

/// EC-3
#[test]
fn a_join_that_was_applied_and_never_answered_leaves_no_ghost() {
    for fate in [Fate::LoseAnswer, Fate::FailAfter(Failure::Unknown), Fate::Slow(400 * MS), Fate::Late(400 * MS)] {
        let mut world = World::new();
        let (a, b) = (world.service(), world.service());
        world.elect(a, "other");
        world.once(What::Join, fate);
        let candidate = world.campaign(a, "e");
        world.run(3 * world.latency / 2);
        let resigned = world.resign(candidate);
        world.expect_done(resigned);
        assert_eq!(world.queue_length("e"), 0, "{fate:?}");
        world.elect(b, "e");
    }
}

/// EC-4, EC-5
#[test]
fn a_quiet_candidate_outlives_a_compaction_and_a_broken_watch() {
    for failure in [None, Some(Failure::Compacted), Some(Failure::NoLeader)] {
        let mut world = World::new();
        let (leader, heir) = leader_and_heir(&mut world);
        world.go_campaign("elsewhere");
        world.run(20 * SECOND);
        world.etcd.compact();
        match failure {
            Some(failure) => world.cancel_watches(heir.service, failure),
            None => world.break_stream(heir.service),
        }
        world.resign(leader);
        world.expect_event(heir, State::Leader);
        assert_eq!(world.queue_length("e"), 1);
    }
}

/// EC-5
#[test]
fn a_watch_that_died_in_silence_is_noticed_and_replaced() {
    let mut world = World::new();
    let (leader, heir) = leader_and_heir(&mut world);
    world.stall_stream(heir.service);
    world.resign(leader);
    let begun = world.now;
    world.expect_event(heir, State::Leader);
    assert!(world.now - begun < world.ttl.as_nanos() as Nanos, "by asking for signs of life");
}

/// EC-6
#[test]
fn resigning_again_after_a_failed_deletion_still_waits_for_the_deletion() {
    let mut world = World::new();
    let (leader, heir) = leader_and_heir(&mut world);
    world.always(leader.service, What::Withdraw, Fate::Refuse(Failure::Unknown));
    let callers = [world.resign(leader), world.resign(leader)];
    world.run(SECOND);
    let late = world.resign(leader);
    assert!(callers.into_iter().chain([late]).all(|caller| world.reply_of(caller).is_none()));
    assert_eq!(world.queue_length("e"), 2, "the key is there, and nobody says otherwise");
    world.heal();
    callers.into_iter().chain([late]).for_each(|caller| world.expect_done(caller));
    assert_eq!(world.queue_length("e"), 1);
    world.expect_event(heir, State::Leader);
}

/// EC-7
#[test]
fn withdrawing_while_etcd_is_out_of_reach_ends_with_the_lease_at_the_latest() {
    let mut world = World::new();
    let (_, heir) = leader_and_heir(&mut world);
    world.partition(heir.service);
    let begun = world.now;
    let resigned = world.resign(heir);
    world.expect_event(heir, State::Follower);
    assert_eq!(world.now, begun, "told at once, confirmed later");
    world.expect_done(resigned);
    let ttl = world.ttl.as_nanos() as Nanos;
    assert!(world.now - begun < 2 * ttl + 2 * SECOND, "a renewal sent before the deadline may have been the last");
    assert_eq!(world.queue_length("e"), 1);
}

/// EC-8
#[test]
fn a_proclamation_that_fails_leaves_a_leader_that_can_resign() {
    for failure in [Failure::NoSpace, Failure::TooLarge, Failure::PermissionDenied] {
        let mut world = World::new();
        let (leader, heir) = leader_and_heir(&mut world);
        world.once(What::Proclaim, Fate::Refuse(failure));
        let refused = world.proclaim(leader, b"new");
        assert!(world.expect_reply(refused).is_err());
        assert!(world.is_leader(leader), "{failure:?}");
        assert_eq!(world.key_of(leader).unwrap().value, b"value");
        let resigned = world.resign(leader);
        world.expect_done(resigned);
        assert_eq!(world.queue_length("e"), 1);
        world.expect_event(heir, State::Leader);
    }
}

/// EC-9
#[test]
fn who_does_not_lead_has_no_token_and_proclaims_nothing() {
    let mut world = World::new();
    let (leader, heir) = leader_and_heir(&mut world);
    assert!(world.life(heir).unread().is_empty() && !world.is_leader(heir));
    let early = world.proclaim(heir, b"mine");
    world.expect_refusal(early, Code::NotLeader);
    world.delete_key(leader);
    world.expect_loss(leader, Code::KeyDeleted);
    for former in [leader, leader] {
        let late = world.proclaim(former, b"mine");
        world.expect_refusal(late, Code::NotLeader);
    }
    world.expect_event(heir, State::Leader);
    assert_eq!((world.count(What::Proclaim), world.key_of(heir).unwrap().value), (0, b"value".to_vec()));
}

/// EC-10
#[test]
fn calls_in_any_order_at_any_instant_leave_nothing_and_answer_everybody() {
    for (first, second) in (0..8).flat_map(|first| (0..4).map(move |second| (first, second))) {
        let mut world = World::new();
        let (a, b) = (world.service(), world.service());
        let candidate = world.campaign(a, "e");
        world.run(first * MS / 2);
        let proclaimed = world.proclaim(candidate, b"new");
        let resigned = world.resign(candidate);
        world.run(second * MS / 2);
        let again = world.resign(candidate);
        let (next, refused_or_not) = world.try_stand(a, candidacy("e"));
        [resigned, again].into_iter().for_each(|caller| world.expect_done(caller));
        world.expect_refusal(proclaimed, Code::NotLeader);
        if world.expect_reply(refused_or_not).is_ok() {
            let resigned = world.resign(next);
            world.expect_done(resigned);
        }
        assert_eq!(world.queue_length("e"), 0, "{first} {second}");
        world.elect(b, "e");
    }
}

/// EC-11
#[test]
fn two_campaigns_never_share_a_key() {
    let mut world = World::new();
    let (leader, heir) = leader_and_heir(&mut world);
    for taken in [leader, heir] {
        let (second, refused) = world.try_stand(taken.service, candidacy("e"));
        world.expect_refusal(refused, Code::CampaignInProgress);
        let resigned = world.resign(second);
        world.expect_done(resigned);
    }
    world.run(SECOND);
    assert!(world.is_leader(leader), "resigning what never stood dethrones nobody");
    assert_eq!(world.queue_length("e"), 2);
}

/// EC-12
#[test]
fn an_election_nested_in_another_is_reported_whoever_came_first() {
    for inner_first in [true, false] {
        let mut world = World::new();
        let (a, b) = (world.service(), world.service());
        let (first, second) = if inner_first { ("e/sub", "e") } else { ("e", "e/sub") };
        let leader = world.elect(a, first);
        let late = world.campaign(b, second);
        world.expect_event(late, State::Follower);
        if inner_first {
            world.expect_loss(late, Code::NameCollision);
        } else {
            world.expect_event(late, State::Leader);
            let heir = world.service();
            let heir = world.campaign(heir, "e");
            world.expect_event(heir, State::Follower);
            world.expect_loss(heir, Code::NameCollision);
        }
        assert!(world.is_leader(leader));
    }
}

/// EC-14
#[test]
fn observers_hear_that_nobody_leads_and_see_through_changes_of_one_revision() {
    let mut world = World::new();
    let a = world.service();
    let first = world.go_campaign("e");
    let watcher = world.observe(a, "e");
    world.expect_observation(watcher);
    // One leaves and another comes in one transaction: there was never an instant without a leader.
    let next = [world.prefix("e"), b"abc".to_vec()].concat();
    let put = Op::Put { key: next.clone(), value: b"next".to_vec(), lease: 0 };
    world.etcd.txn(Txn { then: vec![put, Op::Delete(first)], ..Txn::default() }).unwrap();
    world.publish();
    let seen = world.expect_observation(watcher).leader.unwrap();
    assert_eq!((&*seen.key, &*seen.value), (&next[..], &b"next"[..]));
    world.go_resign(&next);
    let nobody = world.expect_observation(watcher);
    assert!(nobody.leader.is_none() && nobody.connected && !nobody.closed);
}

/// EC-14
#[test]
fn an_observer_whose_watch_and_reads_fail_goes_on_when_they_can() {
    let mut world = World::new();
    let a = world.service();
    world.always(a, What::List, Fate::Refuse(Failure::Refused));
    let watcher = world.observe(a, "e");
    world.run(5 * SECOND);
    assert!(!world.observed(watcher).connected && !world.observed(watcher).closed);
    let key = world.go_campaign("e");
    world.etcd.compact();
    world.cancel_watches(a, Failure::Compacted);
    world.heal();
    world.run_until("the leader", |w| w.observed(watcher).connected);
    assert_eq!(world.observed(watcher).leader.as_ref().map(|leader| leader.key.to_vec()), Some(key));
}

/// EC-15
#[test]
fn a_leader_is_told_the_revision_at_which_its_term_began() {
    let mut world = World::new();
    let (leader, heir) = leader_and_heir(&mut world);
    let token = world.key_of(heir).unwrap().create_revision;
    (0..5).for_each(|_| _ = world.go_campaign("elsewhere"));
    world.resign(leader);
    let won = world.expect_event(heir, State::Leader);
    assert_eq!((won.token, won.revision), (token, token + 6), "of the deletion before it");
    let proclaimed = world.proclaim(heir, b"new");
    world.expect_done(proclaimed);
    assert_eq!(world.key_of(heir).unwrap().create_revision, token);
}

/// EC-16
#[test]
fn a_hand_over_is_as_quick_for_who_has_hardly_waited() {
    for waited in [5, 10, 50, 250, 5000] {
        let mut world = World::new();
        let (a, b) = (world.service(), world.service());
        let leader = world.elect(a, "e");
        world.elect(b, "other");
        let heir = world.campaign(b, "e");
        world.run(waited * MS);
        let begun = world.now;
        world.resign(leader);
        world.expect_event(heir, State::Follower);
        world.expect_event(heir, State::Leader);
        assert_eq!(world.now - begun, 2 * world.latency, "after {waited} ms");
    }
}

/// EC-17
#[test]
fn a_leader_that_hears_nothing_steps_down_before_etcd_can_elect_another() {
    // Slow answers: what counts is when the renewal was sent.
    for slow in [0, 400 * MS, 1200 * MS] {
        let mut world = World::new();
        let (leader, heir) = leader_and_heir(&mut world);
        world.always(leader.service, What::KeepAlive, Fate::Slow(slow));
        world.run(30 * SECOND);
        assert!(world.is_leader(leader));
        world.partition(leader.service);
        let deadline = session_deadline(&mut world, leader);
        world.expect_loss(leader, Code::SessionExpired);
        let late = world.processes[leader.service.0].local(world.now) - deadline;
        assert!(late < 2 * MS, "at the deadline, not by polling");
        assert_eq!(world.queue_length("e"), 2, "its key is there yet");
        world.expect_event(heir, State::Leader);
    }
}

/// EC-18
#[test]
fn the_first_deadline_is_that_of_the_grant() {
    let mut world = World::new();
    let a = world.service();
    world.always(a, What::KeepAlive, Fate::LoseRequest);
    let leader = world.elect(a, "e");
    world.expect_loss(leader, Code::SessionExpired);
    let sent = 0;
    assert!(world.now > sent + 9 * SECOND && world.now < sent + 10 * SECOND, "{}", world.now);
}

/// EC-19
#[test]
fn a_lease_that_was_given_up_is_never_renewed_again() {
    let mut world = World::new();
    let (a, b) = (world.service(), world.service());
    let lost = world.elect(a, "e");
    world.elect(b, "kept");
    world.partition(a);
    world.expect_loss(lost, Code::SessionExpired);
    world.heal();
    world.run(SECOND);
    assert_eq!(world.etcd.own_leases(), 1);
    world.close(b);
    world.run(SECOND);
    let renewals = world.count(What::KeepAlive);
    world.run(60 * SECOND);
    assert_eq!((world.count(What::KeepAlive), world.etcd.own_leases()), (renewals, 0));
}

/// EC-20
#[test]
fn a_lease_that_can_not_be_renewed_is_ended_and_the_reason_is_told() {
    let mut world = World::new();
    let a = world.service();
    world.always(a, What::KeepAlive, Fate::Refuse(Failure::Unauthenticated));
    let leader = world.elect(a, "e");
    let lost = world.expect_loss(leader, Code::SessionExpired);
    assert!(lost.message.contains("Unauthenticated"), "{}", lost.message);
    world.run(SECOND);
    assert_eq!((world.count(What::Revoke), world.etcd.own_leases()), (1, 0));
}

/// EC-20
#[test]
fn a_lease_that_died_before_it_was_of_use_is_replaced() {
    let mut world = World::new();
    let a = world.service();
    world.once(What::Grant, Fate::LoseAnswer);
    let candidate = world.campaign(a, "e");
    world.expect_event(candidate, State::Follower);
    // The second grant hears that the lease exists; it ends before the renewal arrives that is to tell for how long.
    world.run_until("a renewal", |w| w.count(What::KeepAlive) == 1);
    let dead = world.process(a).core.sessions.values().next().unwrap().lease;
    world.etcd.revoke(dead);
    world.expect_event(candidate, State::Leader);
    assert!(world.is_leader(candidate) && world.etcd.own_leases() == 1);
    assert_ne!(world.key_of(candidate).unwrap().lease, dead);
}

/// EC-21
#[test]
fn a_term_takes_one_lease_for_as_long_as_it_lasts() {
    let mut world = World::new();
    let a = world.service();
    let leader = world.stand(a, Candidacy { at_risk: true, ..candidacy("e") });
    world.run(3600 * SECOND);
    for value in [b"1", b"2", b"3"] {
        let proclaimed = world.proclaim(leader, value);
        world.expect_done(proclaimed);
    }
    assert!(world.is_leader(leader));
    world.expect_event(leader, State::Follower);
    world.expect_event(leader, State::Leader);
    world.reject_event(leader);
    for _ in 0..5 {
        let resigned = world.resign(leader);
        world.expect_done(resigned);
    }
    assert_eq!((world.count(What::Grant), world.etcd.own_leases()), (1, 1));
}
