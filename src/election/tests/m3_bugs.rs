//! What goes wrong in M3's package `leader`, and must not here. Each test sets up one of the numbered bugs M-1 to
//! M-16 and asserts what a program is owed instead.
//!
//! Elsewhere: M-1, M-14, M-15 and half of M-9 (events that a program doesn't read) are about the mailbox and the term:
//! see `engine::paused_tests` and `engine::mailbox_tests`. The time limit of M-4 is the service's, which answers PENDING
//! then. The first half of M-13 (no time to live means 60 s) is about
//! the options, whose tests hold it to a default and a minimum.

use super::faults::{Fate, What};
use super::world::{World, candidacy};
use crate::clock::{MS, SECOND};
use crate::config::Namespace;
use crate::election::{Candidacy, ReadKind, Reply};
use crate::error::Code;
use crate::events::State;
use crate::store::Failure;

/// M-2
#[test]
fn one_campaign_at_a_time_until_closed_and_from_then_on_a_new_one() {
    let mut world = World::new();
    let a = world.service();
    let first = world.elect(a, "e");
    world.always(a, What::Withdraw, Fate::Refuse(Failure::Unknown));
    world.delete_key(first);
    world.expect_loss(first, Code::KeyDeleted);
    let mut refused = 0;
    let second = loop {
        let closed = world.state(first) == Some(State::Closed);
        let (candidate, caller) = world.try_stand(a, candidacy("e"));
        if world.expect_reply(caller) == Ok(Reply::Done) {
            assert!(closed);
            break candidate;
        }
        assert!(!closed);
        refused += 1;
        world.run(50 * MS);
        if refused == 10 {
            world.heal();
        }
    };
    assert!(refused >= 10);
    world.expect_event(second, State::Follower);
    world.expect_event(second, State::Leader);
    let (_, third) = world.try_stand(a, candidacy("e"));
    world.expect_refusal(third, Code::CampaignInProgress);
}

/// M-3
#[test]
fn a_campaign_resigned_during_its_join_is_a_follower_and_leaves_no_key_on_the_shared_lease() {
    for after in 0..6 {
        let mut world = World::new();
        let (a, b) = (world.service(), world.service());
        let other = world.elect(a, "other");
        let candidate = world.campaign(a, "e");
        world.run(after * MS / 2);
        let resigned = world.resign(candidate);
        world.expect_done(resigned);
        let told: Vec<_> = world.life(candidate).unread().iter().map(|s| (s.state, s.reason)).collect();
        assert!(told.iter().all(|(_, reason)| *reason == Code::Ok), "{told:?}");
        assert_eq!(told.last(), Some(&(State::Closed, Code::Ok)));
        assert_eq!(world.queue_length("e"), 0, "resigned after {after} half ms");
        world.elect(b, "e");
        assert!(world.is_leader(other));
    }
}

/// M-4
#[test]
fn resigning_is_told_at_once_whatever_the_campaign_waits_for() {
    for after in [0, 1, 2, 3, 4, 1000] {
        let mut world = World::new();
        let (a, b) = (world.service(), world.service());
        world.elect(a, "e");
        let waiting = world.campaign(b, "e");
        world.expect_event(waiting, State::Follower);
        world.run(after * MS);
        world.partition(b);
        let begun = world.now;
        world.resign(waiting);
        world.expect_event(waiting, State::Follower);
        assert_eq!(world.now, begun, "after {after} ms");
    }
}

/// M-5
#[test]
fn a_resignation_is_heard_however_soon_it_comes() {
    for after in 0..10 {
        let mut world = World::new();
        let (a, b) = (world.service(), world.service());
        let leader = world.elect(a, "e");
        let candidate = world.campaign(b, "e");
        world.run(after * MS / 2);
        let begun = world.now;
        let resigned = world.resign(candidate);
        world.expect_done(resigned);
        assert!(world.now - begun <= 4 * world.latency, "without waiting for an election");
        assert!(world.is_leader(leader));
    }
}

/// M-6
#[test]
fn a_resignation_that_fails_leaves_no_leader_behind_and_is_not_confirmed() {
    let mut world = World::new();
    let a = world.service();
    let leader = world.elect(a, "e");
    world.always(a, What::Withdraw, Fate::LoseRequest);
    let first = world.resign(leader);
    assert!(!world.is_leader(leader));
    world.expect_event(leader, State::Follower);
    world.run(15 * SECOND);
    let second = world.resign(leader);
    assert_eq!((world.reply_of(first), world.reply_of(second)), (None, None));
    world.heal();
    world.expect_done(second);
    assert_eq!((world.reply_of(first), world.queue_length("e")), (Some(Ok(Reply::Done)), 0));
}

/// M-7
#[test]
fn a_service_closed_during_a_campaign_takes_no_new_lease_and_wins_nothing() {
    for (after, rejoin) in (0..8).flat_map(|after| [(after, true), (after, false)]) {
        let mut world = World::new();
        let a = world.service();
        let candidate = world.stand(a, Candidacy { rejoin, ..candidacy("e") });
        world.run(after * MS / 2);
        world.revoke_lease(candidate);
        world.close(a);
        let grants = world.count(What::Grant);
        world.run(30 * SECOND);
        assert_eq!((world.count(What::Grant), world.state(candidate)), (grants, Some(State::Closed)));
        assert!(!world.process(a).is_up() && world.etcd.own_leases() == 0);
    }
}

/// M-8
#[test]
fn a_campaign_that_is_over_leaves_nothing_in_memory() {
    let mut world = World::new();
    let a = world.service();
    world.elect(a, "kept");
    for round in 0..100 {
        let candidate = world.campaign(a, &format!("e{round}"));
        world.run(5 * MS);
        let resigned = world.resign(candidate);
        world.expect_done(resigned);
        world.run(5 * MS);
    }
    let core = &world.process(a).core;
    assert_eq!((core.campaigns.len(), core.elections.len(), core.sessions.len()), (1, 1, 1));
    assert_eq!((core.calls.len(), core.parts.len(), core.sessions.values().next().unwrap().members.len()), (0, 0, 1));
    assert_eq!(world.watches(a), 1);
}

/// M-9
#[test]
fn observers_end_one_by_one_each_with_a_last_word() {
    let mut world = World::new();
    let a = world.service();
    let watchers: Vec<_> = (0..50).map(|i| world.observe(a, &format!("e{}", i % 5))).collect();
    world.run(SECOND);
    for watcher in watchers {
        world.unobserve(watcher);
        assert!(world.observed(watcher).closed);
    }
    world.run(SECOND);
    let core = &world.process(a).core;
    assert!(core.observers.is_empty() && core.elections.is_empty() && core.parts.is_empty());
    assert_eq!(world.watches(a), 0);
}

/// M-10
#[test]
fn who_only_looks_takes_no_lease() {
    let mut world = World::new();
    let a = world.service();
    for name in 0..20 {
        let name = format!("e{name}");
        world.observe(a, &name);
        let reads = [ReadKind::Leader, ReadKind::Candidates].map(|kind| world.read(a, kind, &name, SECOND));
        reads.into_iter().for_each(|read| _ = world.expect_reply(read));
    }
    world.run(60 * SECOND);
    assert_eq!((world.count(What::Grant), world.etcd.own_leases()), (0, 0));
}

/// M-11
#[test]
fn names_that_overlap_are_reported_instead_of_never_electing() {
    let mut world = World::new();
    world.namespace = Namespace::Layout { root: "_ld".into(), environment: "prod".into(), service: "api".into() };
    let a = world.service();
    let leader = world.elect(a, "default");
    world.namespace = Namespace::Layout { root: "_ld".into(), environment: String::new(), service: "prod".into() };
    let b = world.service();
    let candidate = world.campaign(b, "api");
    world.expect_event(candidate, State::Follower);
    let error = world.expect_loss(candidate, Code::NameCollision);
    assert!(error.message.contains("_ld/prod/api/default/"), "{}", error.message);
    let read = world.read(b, ReadKind::Leader, "api", SECOND);
    world.expect_refusal(read, Code::NameCollision);
    assert!(world.is_leader(leader));
}

/// M-12
#[test]
fn what_is_begun_while_the_service_closes_is_refused_and_leaves_nothing() {
    let mut world = World::new();
    let a = world.service();
    world.elect(a, "e");
    world.always(a, What::Revoke, Fate::Refuse(Failure::Unknown));
    world.close(a);
    let grants = world.count(What::Grant);
    for _ in 0..5 {
        world.run(50 * MS);
        let (_, refused) = world.try_stand(a, candidacy("f"));
        world.expect_refusal(refused, Code::Closed);
        let watcher = world.observe(a, "f");
        assert!(world.observed(watcher).closed && world.observed(watcher).reason == Code::Closed);
    }
    assert!(world.process(a).is_up(), "it still ends its lease");
    let core = &world.process(a).core;
    assert!(core.campaigns.is_empty() && core.observers.is_empty() && core.elections.len() <= 1);
    assert_eq!((world.count(What::Grant), world.queue_length("f")), (grants, 0));
}

/// M-13
#[test]
fn candidates_of_the_same_value_are_different_candidates() {
    let mut world = World::new();
    let (a, b) = (world.service(), world.service());
    let (leader, heir) = (world.elect(a, "e"), world.enqueue(b, "e"));
    let (first, second) = (world.key_of(leader).unwrap(), world.key_of(heir).unwrap());
    assert!(first.value == second.value && first.key != second.key);
    let resigned = world.resign(heir);
    world.expect_done(resigned);
    assert!(world.is_leader(leader));
}

/// M-16
#[test]
fn a_read_that_hangs_delays_no_renewal_and_no_loss() {
    let mut world = World::new();
    let a = world.service();
    let leader = world.elect(a, "e");
    world.always(a, What::Read, Fate::LoseRequest);
    let read = world.read(a, ReadKind::Leader, "e", 100 * SECOND);
    world.run(60 * SECOND);
    assert!(world.is_leader(leader) && world.reply_of(read).is_none());
    world.revoke_lease(leader);
    let begun = world.now;
    world.run_until("the end of leadership", |w| !w.is_leader(leader));
    assert!(world.now - begun <= world.latency);
    world.expect_loss(leader, Code::LeaseRevoked);
    assert!(world.now - begun <= 5 * world.latency);
    world.heal();
    world.expect_refusal(read, Code::NoLeader);
}
