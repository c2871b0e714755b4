//! Leases and what follows from them: the deadline, stepping down in time, doubt. Renewals fail in every way, clocks
//! go wrong, processes sleep; the world itself looks for two leaders and for claims on an expired lease.

use std::time::Duration;

use super::faults::{Fate, What};
use super::world::{Candidate, Service, World, candidacy};
use crate::clock::{MS, Nanos, SECOND};
use crate::election::Candidacy;
use crate::error::Code;
use crate::events::State;
use crate::store::Failure;

/// What the time to live of the world's services, 10 s, is worth.
const WORTH: Nanos = 10 * SECOND - 100 * MS - 50 * MS;

fn with_ttl(seconds: u64) -> World {
    let mut world = World::new();
    world.ttl = Duration::from_secs(seconds);
    world
}

/// A leader that wants to hear of danger.
fn watchful(world: &mut World, service: Service) -> Candidate {
    let leader = world.stand(service, Candidacy { at_risk: true, ..candidacy("e") });
    world.expect_event(leader, State::Follower);
    world.expect_event(leader, State::Leader);
    leader
}

fn expect_danger_and_its_end(world: &mut World, leader: Candidate) {
    let danger = world.expect_event(leader, State::Leader);
    let over = world.expect_event(leader, State::Leader);
    assert!(danger.at_risk && !over.at_risk, "{danger:?} {over:?}");
    assert_eq!(danger.token, over.token);
}

/// The deadline of the service's only session, on the world's clock.
fn deadline(world: &mut World, service: Service) -> Nanos {
    let process = world.process(service);
    let mut sessions = process.core.sessions.values();
    let deadline = sessions.next().unwrap().deadline;
    assert!(sessions.next().is_none());
    process.when(deadline)
}

// Having a lease.

#[test]
fn a_service_asks_for_one_lease_when_it_first_stands_and_keeps_it() {
    let mut world = World::new();
    let a = world.service();
    world.observe(a, "e");
    world.run(SECOND);
    assert_eq!(world.count(What::Grant), 0, "observers need none");
    let leaders = ["e", "f", "g"].map(|election| world.elect(a, election));
    leaders.into_iter().for_each(|leader| _ = world.resign(leader));
    world.run(60 * SECOND);
    world.elect(a, "e");
    assert_eq!((world.count(What::Grant), world.etcd.own_leases()), (1, 1));
}

#[test]
fn a_leader_that_renews_leads_for_an_hour() {
    let mut world = World::new();
    let a = world.service();
    let leader = watchful(&mut world, a);
    world.run(3600 * SECOND);
    world.reject_event(leader);
    assert!(world.is_leader(leader));
    let renewals = world.count(What::KeepAlive);
    assert!((1060..1100).contains(&renewals), "{renewals}: one in a third of the time to live");
    assert_eq!(world.count(What::Value), 0, "a renewal's answer that is as new as what is known raises no question");
}

#[test]
fn a_slow_connection_ends_no_term() {
    let mut world = with_ttl(5);
    world.latency = 400 * MS;
    let a = world.service();
    let leader = watchful(&mut world, a);
    world.run(600 * SECOND);
    world.reject_event(leader);
    assert!(world.is_leader(leader));
}

#[test]
fn a_grant_whose_answer_was_lost_is_asked_again_and_renewed() {
    let mut world = World::new();
    let a = world.service();
    world.once(What::Grant, Fate::LoseAnswer);
    world.elect(a, "e");
    assert_eq!((world.count(What::Grant), world.count(What::KeepAlive), world.etcd.own_leases()), (2, 1, 1));
    let sent = world.now - 4 * world.latency;
    assert_eq!(deadline(&mut world, a), sent + WORTH, "from the renewal: when the grant was served is not known");
}

#[test]
fn a_grant_that_does_not_get_through_is_asked_for_until_it_does() {
    let mut world = World::new();
    let a = world.service();
    for fate in [Fate::LoseRequest, Fate::Refuse(Failure::NotSent), Fate::Refuse(Failure::Tls), Fate::LoseRequest] {
        world.once(What::Grant, fate);
    }
    world.elect(a, "e");
    assert_eq!((world.count(What::Grant), world.etcd.own_leases()), (5, 1));
}

#[test]
fn a_long_time_to_live_does_not_make_for_long_pauses() {
    let mut world = with_ttl(24 * 3600);
    let a = world.service();
    world.always(a, What::Grant, Fate::Refuse(Failure::NotSent));
    let candidate = world.campaign(a, "e");
    world.expect_event(candidate, State::Follower);
    world.run(3600 * SECOND);
    world.heal();
    let back = world.now;
    world.expect_event(candidate, State::Leader);
    assert!(world.now - back < 6 * SECOND, "{} ms", (world.now - back) / MS);
}

#[test]
fn a_lease_that_is_gone_before_it_was_of_use_is_replaced_in_silence() {
    let mut world = World::new();
    let a = world.service();
    world.once(What::Grant, Fate::LoseAnswer);
    world.once(What::KeepAlive, Fate::Refuse(Failure::LeaseNotFound));
    world.elect(a, "e");
    assert_eq!((world.count(What::Grant), world.etcd.own_leases()), (3, 1), "the former was ended");
}

#[test]
fn a_lease_granted_to_a_process_that_slept_is_replaced_in_silence() {
    let mut world = World::new();
    let a = world.service();
    let candidate = world.campaign(a, "e");
    world.run(MS / 2);
    world.stop(a);
    world.run(11 * SECOND);
    world.resume(a);
    world.expect_event(candidate, State::Follower);
    world.expect_event(candidate, State::Leader);
    assert_eq!(world.count(What::Grant), 2);
}

#[test]
fn a_longer_time_to_live_than_asked_for_counts() {
    let mut world = with_ttl(1);
    let a = world.service();
    let granted = world.now;
    world.elect(a, "e");
    assert_eq!(deadline(&mut world, a), granted + 2 * SECOND - 20 * MS - 50 * MS, "etcd gives 2 s at least");
    world.run(60 * SECOND);
    assert_eq!(world.etcd.own_leases(), 1);
}

// Losing it.

#[test]
fn the_deadline_counts_from_when_the_last_acknowledged_renewal_was_sent() {
    let mut world = World::new();
    let a = world.service();
    let leader = world.elect(a, "e");
    world.once(What::KeepAlive, Fate::Slow(1500 * MS));
    world.run_until("a renewal", |w| w.count(What::KeepAlive) == 1);
    let sent = world.now;
    world.run(1600 * MS);
    assert_eq!(deadline(&mut world, a), sent + WORTH);
    world.partition(a);
    world.expect_loss(leader, Code::SessionExpired);
    assert_eq!(world.now, sent + WORTH);
}

#[test]
fn renewals_that_are_never_answered_give_no_time_though_the_server_may_have_served_them() {
    for fate in [
        Fate::LoseRequest,
        Fate::LoseAnswer,
        Fate::Slow(2500 * MS),
        Fate::Late(3 * SECOND),
        Fate::FailAfter(Failure::NoLeader),
    ] {
        let mut world = World::new();
        let a = world.service();
        let leader = world.elect(a, "e");
        let granted = world.now - 4 * world.latency;
        world.always(a, What::KeepAlive, fate);
        world.expect_loss(leader, Code::SessionExpired);
        assert_eq!((world.now - granted, world.queue_length("e")), (WORTH, 1), "{fate:?}: before etcd's own end of it");
        assert!(world.count(What::KeepAlive) >= 3, "{fate:?}: several attempts fit");
        world.run(100 * MS);
        assert_eq!(world.queue_length("e"), 0, "{fate:?}: it is given back");
    }
}

#[test]
fn a_round_trip_of_half_the_time_to_live_is_no_reason_to_lead_too_long() {
    let mut world = with_ttl(5);
    world.latency = 1200 * MS;
    let (a, b) = (world.service(), world.service());
    let rejoin = |election| Candidacy { rejoin: true, ..candidacy(election) };
    let candidates = [world.stand(a, rejoin("e")), world.stand(b, rejoin("e"))];
    world.run(120 * SECOND);
    let terms = |w: &mut World, c| w.life(c).unread().iter().filter(|status| status.state == State::Leader).count();
    assert!(candidates.into_iter().map(|candidate| terms(&mut world, candidate)).sum::<usize>() > 0);
}

#[test]
fn a_leader_that_is_cut_off_steps_down_before_another_is_elected_whatever_its_clock() {
    for ttl in [2, 5, 10, 60] {
        for (fast, slow) in [(0, 0), (10_000, 0), (-10_000, 0), (-10_000, 10_000)] {
            let mut world = with_ttl(ttl);
            let (a, b) = (world.service(), world.service());
            world.process(a).fast_ppm = fast;
            world.process(b).fast_ppm = slow;
            let leader = world.elect(a, "e");
            let waiting = world.enqueue(b, "e");
            world.run(33 * SECOND + 700 * MS);
            world.partition(a);
            let cut_off = world.now;
            world.expect_loss(leader, Code::SessionExpired);
            world.reject_event(waiting);
            world.expect_event(waiting, State::Leader);
            let (ttl, took) = (ttl as Nanos * SECOND, world.now - cut_off);
            assert!(took <= ttl + 10 * MS, "{took} at {ttl}");
        }
    }
}

#[test]
fn a_step_down_event_that_comes_late_is_late_for_nobody_who_asks_the_clock() {
    let mut world = World::new();
    let (a, b) = (world.service(), world.service());
    let leader = world.elect(a, "e");
    let waiting = world.enqueue(b, "e");
    world.partition(a);
    world.late_wakes = 300 * MS;
    world.run_until("the next leader", |w| w.leader_of("e") == Some(waiting));
    assert!(!world.is_leader(leader));
    assert_eq!(world.state(leader), Some(State::Leader));
    world.expect_loss(leader, Code::SessionExpired);
}

#[test]
fn a_lost_lease_is_replaced_by_another_one() {
    let mut world = World::new();
    let a = world.service();
    let candidate = world.stand(a, Candidacy { rejoin: true, ..candidacy("e") });
    world.expect_event(candidate, State::Follower);
    let first = world.expect_event(candidate, State::Leader);
    let lease = world.key_of(candidate).unwrap().lease;
    world.partition(a);
    world.expect_loss(candidate, Code::SessionExpired);
    world.run(30 * SECOND);
    world.heal();
    world.expect_event(candidate, State::Follower);
    let second = world.expect_event(candidate, State::Leader);
    assert!(second.token > first.token);
    assert_ne!(world.key_of(candidate).unwrap().lease, lease);
}

#[test]
fn a_revoked_lease_is_noticed_by_the_next_renewal_where_the_watch_is_deaf() {
    let mut world = World::new();
    let (a, b) = (world.service(), world.service());
    let leader = world.elect(a, "e");
    let waiting = world.enqueue(b, "e");
    for candidate in [waiting, leader] {
        world.stall_stream(candidate.service);
        world.revoke_lease(candidate);
        let revoked = world.now;
        world.expect_loss(candidate, Code::LeaseRevoked);
        assert!(world.now - revoked <= 5 * SECOND + 2 * MS);
        world.expect_event(candidate, State::Closed);
    }
}

/// A leader whose first renewal has met this fate 100 ms ago.
fn renewing(world: &mut World, fate: Fate) -> Candidate {
    let a = world.service();
    let leader = world.elect(a, "e");
    world.once(What::KeepAlive, fate);
    world.run_until("a renewal", |w| w.count(What::KeepAlive) == 1);
    world.run(100 * MS);
    leader
}

#[test]
fn a_renewal_that_was_served_before_the_key_went_says_nothing_about_the_reason() {
    let mut world = World::new();
    let leader = renewing(&mut world, Fate::Slow(SECOND));
    world.revoke_lease(leader);
    world.run(2 * MS);
    assert!(!world.is_leader(leader));
    world.reject_event(leader);
    world.expect_loss(leader, Code::LeaseRevoked);
}

#[test]
fn what_a_renewal_says_counts_for_nothing_once_a_join_has_said_that_the_lease_is_gone() {
    for renewal in [Fate::Slow(SECOND), Fate::LoseAnswer] {
        let mut world = World::new();
        let leader = renewing(&mut world, renewal);
        world.stall_stream(leader.service);
        world.revoke_lease(leader);
        world.once(What::Value, Fate::LoseAnswer);
        let second = world.campaign(leader.service, "f");
        world.run(10 * MS);
        assert!(!world.is_leader(leader), "{renewal:?}");
        world.expect_event(second, State::Follower);
        for candidate in [leader, second] {
            world.expect_loss(candidate, Code::LeaseRevoked);
        }
        assert_eq!(world.count(What::Value), 2, "that it is gone was not asked of who had granted it, {renewal:?}");
    }
}

#[test]
fn whether_a_lease_is_gone_is_asked_again_no_later_for_a_renewal_that_is_answered_meanwhile() {
    let mut world = World::new();
    let leader = renewing(&mut world, Fate::Slow(SECOND));
    let sent = world.now - 100 * MS;
    world.stall_stream(leader.service);
    world.revoke_lease(leader);
    world.once(What::Value, Fate::Refuse(Failure::NotSent));
    world.campaign(leader.service, "f");
    world.expect_loss(leader, Code::LeaseRevoked);
    assert!(world.now - sent < SECOND + 10 * MS, "{} ms", (world.now - sent) / MS);
}

#[test]
fn a_join_that_was_served_before_its_lease_went_and_is_answered_after_leads_nothing() {
    let mut world = World::new();
    let a = world.service();
    let leader = world.elect(a, "e");
    world.stall_stream(a);
    world.once(What::Join, Fate::Slow(SECOND));
    let slow = world.campaign(a, "f");
    world.run(100 * MS);
    world.revoke_lease(slow);
    world.once(What::Value, Fate::LoseAnswer);
    let late = world.campaign(a, "g");
    world.run(10 * MS);
    assert!(!world.is_leader(leader));
    for candidate in [slow, late] {
        world.expect_event(candidate, State::Follower);
    }
    for candidate in [leader, slow, late] {
        world.expect_loss(candidate, Code::LeaseRevoked);
        world.expect_event(candidate, State::Closed);
    }
}

#[test]
fn a_thousand_campaigns_share_a_lease_and_each_lease_is_lost_by_itself() {
    let mut world = World::new();
    let a = world.service();
    let leaders: Vec<_> = (0..1003).map(|i| world.campaign(a, &format!("e{i}"))).collect();
    world.run(5 * SECOND);
    assert!(leaders.iter().all(|&leader| world.is_leader(leader)));
    assert_eq!((world.count(What::Grant), world.etcd.own_leases()), (2, 2));
    let resigned = world.resign(leaders[0]);
    world.expect_done(resigned);
    world.elect(a, "in its place");
    assert_eq!(world.count(What::Grant), 2);
    world.revoke_lease(leaders[1]);
    world.run(SECOND);
    let lost = leaders[1..].iter().filter(|&&leader| world.state(leader) == Some(State::Closed)).count();
    assert_eq!(lost, 999);
    assert!(leaders[1000..].iter().all(|&leader| world.is_leader(leader)));
}

// Danger and doubt.

#[test]
fn a_store_without_a_raft_leader_is_a_danger_and_no_loss() {
    let mut world = World::new();
    let a = world.service();
    let leader = watchful(&mut world, a);
    world.always(a, What::Any, Fate::Refuse(Failure::NoLeader));
    world.cancel_watches(a, Failure::NoLeader);
    world.run(8 * SECOND);
    assert!(world.is_leader(leader));
    world.heal();
    expect_danger_and_its_end(&mut world, leader);
    world.run(60 * SECOND);
    world.reject_event(leader);
}

#[test]
fn renewals_that_fail_at_once_are_repeated_in_no_hurry() {
    let mut world = World::new();
    let a = world.service();
    let leader = world.elect(a, "e");
    world.always(a, What::KeepAlive, Fate::Refuse(Failure::NotSent));
    world.expect_loss(leader, Code::SessionExpired);
    let attempts = world.count(What::KeepAlive);
    assert!((5..20).contains(&attempts), "{attempts}");
}

#[test]
fn a_process_that_was_stopped_for_half_its_time_to_live_leads_on_after_a_check() {
    for since_renewal in [0, 1000, 2000, 3000, 3325] {
        let mut world = World::new();
        let a = world.service();
        let leader = watchful(&mut world, a);
        world.run_until("a renewal", |w| w.count(What::KeepAlive) == 1);
        world.run(since_renewal * MS + 2 * MS);
        world.stop(a);
        world.run(5 * SECOND);
        let renewals = world.count(What::KeepAlive);
        world.resume(a);
        expect_danger_and_its_end(&mut world, leader);
        assert_eq!(world.count(What::KeepAlive), renewals + 1);
        world.run(60 * SECOND);
        world.reject_event(leader);
    }
}

#[test]
fn a_process_that_was_stopped_for_too_long_does_not_lead_when_it_goes_on() {
    let mut world = World::new();
    let (a, b) = (world.service(), world.service());
    let leader = watchful(&mut world, a);
    let waiting = world.enqueue(b, "e");
    world.stop(a);
    world.run(20 * SECOND);
    assert!(!world.is_leader(leader) && world.is_leader(waiting));
    world.resume(a);
    world.expect_loss(leader, Code::SessionExpired);
    world.expect_event(leader, State::Closed);
    assert!(world.is_leader(waiting));
}

#[test]
fn a_renewal_that_is_answered_while_the_process_is_stopped_counts_from_its_sending() {
    let mut world = World::new();
    let (a, b) = (world.service(), world.service());
    let leader = watchful(&mut world, a);
    let waiting = world.enqueue(b, "e");
    world.run_until("a renewal", |w| w.count(What::KeepAlive) > 0 && w.processes[0].core.calls.len() == 1);
    world.stop(a);
    world.run(9900 * MS);
    world.reject_event(waiting);
    world.resume(a);
    world.expect_loss(leader, Code::SessionExpired);
}

#[test]
fn wake_ups_that_are_always_late_are_doubted_and_cost_no_term() {
    let mut world = World::new();
    let a = world.service();
    let leader = world.elect(a, "e");
    world.late_wakes = 600 * MS;
    world.run(300 * SECOND);
    world.reject_event(leader);
    assert!(world.is_leader(leader) && world.count(What::List) > 10);
}

#[test]
fn a_wall_clock_that_jumps_is_a_reason_to_ask_and_nothing_more() {
    let mut world = World::new();
    let a = world.service();
    let leader = watchful(&mut world, a);
    world.run(SECOND);
    let (renewals, lists) = (world.count(What::KeepAlive), world.count(What::List));
    world.jump_wall_clock(a);
    assert_eq!((world.count(What::KeepAlive), world.count(What::List)), (renewals + 1, lists + 1), "at once");
    expect_danger_and_its_end(&mut world, leader);
    world.run(60 * SECOND);
    world.reject_event(leader);
}

#[test]
fn what_happened_to_the_lease_while_the_machine_slept_is_found_by_asking() {
    let mut world = World::new();
    let a = world.service();
    let leader = watchful(&mut world, a);
    world.run(SECOND);
    world.stall_stream(a);
    world.revoke_lease(leader);
    world.jump_wall_clock(a);
    assert!(world.expect_event(leader, State::Leader).at_risk);
    world.expect_loss(leader, Code::LeaseRevoked);
    assert!(world.now < 2 * SECOND);
}

#[test]
fn what_happened_to_the_key_while_the_machine_slept_is_found_by_listing() {
    let mut world = World::new();
    let a = world.service();
    let leader = world.elect(a, "e");
    world.run(SECOND);
    world.stall_stream(a);
    world.delete_key(leader);
    world.jump_wall_clock(a);
    world.expect_loss(leader, Code::KeyDeleted);
    assert!(world.now < 2 * SECOND);
}

// Which store says that it is gone.

/// Another one answers, and no stream tells of it.
fn exchange_in_silence(world: &mut World) {
    world.stream_lag = 60 * SECOND;
    world.replace_etcd(|etcd, _| etcd.rebuild());
}

#[test]
fn another_store_that_does_not_have_the_lease_has_not_revoked_it() {
    let mut world = World::new();
    let a = world.service();
    let leader = world.elect(a, "e");
    exchange_in_silence(&mut world);
    world.run_until("a renewal", |w| w.count(What::KeepAlive) > 0);
    world.expect_loss(leader, Code::ClusterChanged);
    world.expect_event(leader, State::Closed);
    let resigned = world.resign(leader);
    world.run(8 * SECOND);
    assert_eq!(world.reply_of(resigned), None, "the former cluster may have the key");
    world.expect_done(resigned);
}

#[test]
fn closing_does_not_believe_another_store_either() {
    let mut world = World::new();
    let a = world.service();
    world.elect(a, "e");
    exchange_in_silence(&mut world);
    let begun = world.now;
    world.close(a);
    world.run_until("it has finished", |world| world.process(a).finished);
    assert!(world.now - begun > 9 * SECOND, "{}", world.now - begun);
}

#[test]
fn a_lease_that_is_said_to_be_gone_ends_the_term_at_once_and_is_asked_about_until_there_is_an_answer() {
    let mut world = World::new();
    let a = world.service();
    let leader = world.elect(a, "e");
    world.stall_stream(a);
    world.once(What::Value, Fate::LoseRequest);
    world.once(What::Value, Fate::Refuse(Failure::NoLeader));
    world.revoke_lease(leader);
    world.run_until("the end of the term", |w| !w.is_leader(leader));
    let ended = world.now;
    world.expect_loss(leader, Code::LeaseRevoked);
    assert!(world.now - ended > SECOND && world.now - ended < 3 * SECOND, "{}", world.now - ended);
    assert_eq!(world.count(What::Value), 3);
}

#[test]
fn a_new_campaign_does_not_stand_on_a_lease_that_is_said_to_be_gone() {
    let mut world = World::new();
    let a = world.service();
    let leader = world.elect(a, "e");
    world.stall_stream(a);
    world.always(a, What::Value, Fate::LoseRequest);
    world.revoke_lease(leader);
    world.run_until("the end of the term", |w| !w.is_leader(leader));
    world.elect(a, "f");
}

#[test]
fn what_is_said_to_be_gone_is_neither_asked_about_in_a_hurry_nor_renewed() {
    let mut world = World::new();
    let a = world.service();
    let leader = world.elect(a, "e");
    world.stall_stream(a);
    world.always(a, What::Value, Fate::Refuse(Failure::NoLeader));
    world.revoke_lease(leader);
    world.run_until("the end of the term", |w| !w.is_leader(leader));
    let renewals = world.count(What::KeepAlive);
    for _ in 0..5 {
        // Not even in doubt: another store's answer would give another reason.
        world.jump_wall_clock(a);
        world.run(SECOND);
    }
    assert_eq!(world.count(What::KeepAlive), renewals);
    assert!((3..20).contains(&world.count(What::Value)), "asked {} times in 5 s", world.count(What::Value));
    world.heal();
    world.expect_loss(leader, Code::LeaseRevoked);
}
