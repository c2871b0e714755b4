//! What programs see: states, events and answers.

use std::time::Duration;

use super::faults::{Fate, What};
use super::world::{Service, World, candidacy};
use crate::clock::{MS, SECOND};
use crate::election::{Candidacy, ReadKind};
use crate::error::Code;
use crate::events::State;
use crate::store::Failure;

#[test]
fn one_leads_the_other_waits_and_takes_over() {
    let mut world = World::new();
    let (a, b) = (world.service(), world.service());
    let first = world.elect(a, "e");
    let second = world.enqueue(b, "e");
    assert_eq!(world.leader_of("e"), Some(first));
    let resigned = world.resign(first);
    world.expect_event(first, State::Follower);
    world.expect_event(first, State::Closed);
    world.expect_done(resigned);
    let leader = world.expect_event(second, State::Leader);
    assert_eq!((leader.reason, &*leader.value), (Code::Ok, &b"value"[..]));
    assert_eq!(world.leader_of("e"), Some(second));
}

#[test]
fn alone_one_round_trip_after_the_lease_wins() {
    let mut world = World::new();
    let a = world.service();
    world.elect(a, "first");
    let begun = world.now;
    world.elect(a, "second");
    assert_eq!(world.now - begun, 2 * world.latency);
}

#[test]
fn a_join_that_wins_waits_for_no_news_of_itself() {
    let mut world = World::new();
    let a = world.service();
    world.elect(a, "other");
    let watcher = world.observe(a, "e");
    assert!(world.expect_observation(watcher).connected);
    world.stream_lag = SECOND;
    let begun = world.now;
    world.elect(a, "e");
    assert_eq!(world.now - begun, 2 * world.latency);
}

#[test]
fn a_hand_over_takes_the_deletion_and_its_news() {
    let mut world = World::new();
    let (a, b) = (world.service(), world.service());
    let first = world.elect(a, "e");
    let second = world.enqueue(b, "e");
    let begun = world.now;
    world.resign(first);
    world.expect_event(second, State::Leader);
    assert_eq!(world.now - begun, 2 * world.latency, "there, and the news from there; no further question");
}

#[test]
fn candidates_lead_in_the_order_in_which_they_came() {
    let mut world = World::new();
    let services: Vec<_> = (0..5).map(|_| world.service()).collect();
    let mut order: Vec<_> = services.into_iter().map(|service| world.campaign(service, "e")).collect();
    world.run(SECOND);
    order.sort_by_key(|&candidate| world.key_of(candidate).unwrap().create_revision);
    for candidate in order {
        assert_eq!(world.leader_of("e"), Some(candidate));
        world.resign(candidate);
        world.run(SECOND);
    }
    assert_eq!(world.leader_of("e"), None);
}

#[test]
fn a_campaign_resigned_while_it_waits_is_withdrawn() {
    let mut world = World::new();
    let (a, b) = (world.service(), world.service());
    world.elect(a, "e");
    let waiting = world.enqueue(b, "e");
    let resigned = world.resign(waiting);
    world.expect_event(waiting, State::Follower);
    world.expect_event(waiting, State::Closed);
    world.expect_done(resigned);
    assert_eq!(world.queue_length("e"), 1);
}

#[test]
fn a_campaign_resigned_before_it_has_a_lease_is_closed_at_once() {
    let mut world = World::new();
    let a = world.service();
    let candidate = world.campaign(a, "e");
    let resigned = world.resign(candidate);
    world.expect_event(candidate, State::Follower);
    world.expect_event(candidate, State::Follower);
    world.expect_event(candidate, State::Closed);
    assert_eq!(world.now, 0);
    world.expect_done(resigned);
}

#[test]
fn a_campaign_resigned_while_it_joins_never_leads() {
    let mut world = World::new();
    let a = world.service();
    world.elect(a, "other");
    let candidate = world.campaign(a, "e");
    world.run(world.latency + MS / 2);
    assert_eq!(world.queue_length("e"), 1, "joined, the answer is on its way");
    let resigned = world.resign(candidate);
    assert_eq!(world.reply_of(resigned), None, "not before etcd has confirmed it");
    world.expect_done(resigned);
    assert_eq!(world.queue_length("e"), 0);
    let told: Vec<State> = world.life(candidate).unread().iter().map(|status| status.state).collect();
    assert_eq!(told, [State::Follower, State::Follower, State::Closed]);
}

#[test]
fn resigning_again_waits_for_the_same_end_and_resigning_when_closed_is_fine() {
    let mut world = World::new();
    let a = world.service();
    let leader = world.elect(a, "e");
    let callers = [world.resign(leader), world.resign(leader)];
    callers.into_iter().for_each(|caller| world.expect_done(caller));
    let late = world.resign(leader);
    assert!(world.reply_of(late).is_some());
    assert_eq!(world.count(What::Withdraw), 1);
}

#[test]
fn a_second_campaign_of_a_service_waits_for_the_end_of_the_first() {
    let mut world = World::new();
    let a = world.service();
    let leader = world.elect(a, "e");
    let (_, refused) = world.try_stand(a, candidacy("e"));
    world.expect_refusal(refused, Code::CampaignInProgress);
    world.resign(leader);
    let (_, refused) = world.try_stand(a, candidacy("e"));
    world.expect_refusal(refused, Code::CampaignInProgress);
    world.expect_event(leader, State::Follower);
    world.expect_event(leader, State::Closed);
    world.elect(a, "e");
}

#[test]
fn closing_withdraws_everybody_and_then_nothing_more_is_told() {
    let mut world = World::new();
    let (a, b) = (world.service(), world.service());
    let (leader, granted) = (world.elect(a, "e"), world.campaign(a, "joins"));
    let waiting = world.enqueue(b, "e");
    world.close(a);
    for candidate in [leader, granted] {
        assert_eq!(world.state(candidate), Some(State::Closed));
        assert!(!world.is_leader(candidate));
    }
    world.expect_event(waiting, State::Leader);
    let (_, refused) = world.try_stand(b, candidacy("e"));
    world.expect_refusal(refused, Code::CampaignInProgress);
    world.close(b);
    world.run_until("the end", |w| w.processes.iter().all(|process| process.finished));
    assert_eq!(world.queue_length("e"), 0);
}

#[test]
fn closing_in_each_phase_leaves_nothing() {
    for after in [0, 1, 2, 3, 4, 5, 1000] {
        let mut world = World::new();
        let a = world.service();
        let candidate = world.campaign(a, "e");
        world.run(after * MS);
        world.close(a);
        assert_eq!(world.state(candidate), Some(State::Closed));
        world.run_until("the end", |w| !w.processes[0].is_up());
        assert!(world.etcd.keys(b"").is_empty() && world.etcd.own_leases() == 0, "closed after {after} ms");
    }
}

#[test]
fn what_is_asked_of_a_closed_service_is_refused() {
    let mut world = World::new();
    let a = world.service();
    world.elect(a, "e");
    world.close(a);
    let (_, refused) = world.try_stand(a, candidacy("f"));
    world.expect_refusal(refused, Code::Closed);
    let read = world.read(a, ReadKind::Leader, "e", SECOND);
    world.expect_refusal(read, Code::Closed);
    let watcher = world.observe(a, "e");
    assert!(world.expect_observation(watcher).closed);
}

#[test]
fn a_candidate_not_elected_within_its_wait_limit_withdraws() {
    let mut world = World::new();
    let (a, b) = (world.service(), world.service());
    let leader = world.elect(a, "e");
    let wait_limit = Some(Duration::from_secs(3));
    let waiting = world.stand(b, Candidacy { wait_limit, rejoin: true, ..candidacy("e") });
    world.expect_event(waiting, State::Follower);
    world.expect_loss(waiting, Code::WaitLimit);
    assert_eq!(world.now, 3 * SECOND + 4 * MS, "counted from when it stood");
    let closed = world.expect_event(waiting, State::Closed);
    assert_eq!(closed.reason, Code::WaitLimit);
    assert_eq!(world.queue_length("e"), 1);
    assert!(world.is_leader(leader));
}

#[test]
fn a_wait_limit_counts_while_there_is_no_etcd_and_not_for_a_leader() {
    let mut world = World::new();
    let (a, b) = (world.service(), world.service());
    let wait_limit = Some(Duration::from_secs(3));
    world.partition(a);
    let lonely = world.stand(a, Candidacy { wait_limit, ..candidacy("e") });
    world.expect_event(lonely, State::Follower);
    world.expect_loss(lonely, Code::WaitLimit);
    world.expect_event(lonely, State::Closed);
    let leader = world.stand(b, Candidacy { wait_limit, ..candidacy("e") });
    world.run(10 * SECOND);
    assert!(world.is_leader(leader));
}

#[test]
fn with_rejoin_a_lost_candidate_stands_again_with_growing_pauses() {
    let mut world = World::new();
    let a = world.service();
    let candidate = world.stand(a, Candidacy { rejoin: true, ..candidacy("e") });
    world.expect_event(candidate, State::Follower);
    let mut pauses = Vec::new();
    let mut tokens = Vec::new();
    for _ in 0..6 {
        tokens.push(world.expect_event(candidate, State::Leader).token);
        world.delete_key(candidate);
        world.expect_loss(candidate, Code::KeyDeleted);
        let lost = world.now;
        world.expect_event(candidate, State::Follower);
        pauses.push(world.now - lost);
    }
    assert!(tokens.is_sorted() && pauses[0] <= 110 * MS && pauses[5] >= 1600 * MS, "{pauses:?}");
}

#[test]
fn after_a_sound_term_the_first_pause_is_short_again() {
    let mut world = World::new();
    let a = world.service();
    let candidate = world.stand(a, Candidacy { rejoin: true, ..candidacy("e") });
    world.expect_event(candidate, State::Follower);
    for _ in 0..4 {
        world.expect_event(candidate, State::Leader);
        world.run(11 * SECOND);
        world.delete_key(candidate);
        world.expect_loss(candidate, Code::KeyDeleted);
        let lost = world.now;
        world.expect_event(candidate, State::Follower);
        assert!(world.now - lost <= 110 * MS);
    }
}

#[test]
fn resigned_while_it_rests_it_is_closed() {
    let mut world = World::new();
    let a = world.service();
    let candidate = world.stand(a, Candidacy { rejoin: true, ..candidacy("e") });
    world.expect_event(candidate, State::Follower);
    world.expect_event(candidate, State::Leader);
    world.delete_key(candidate);
    world.expect_loss(candidate, Code::KeyDeleted);
    let resigned = world.resign(candidate);
    world.expect_event(candidate, State::Follower);
    world.expect_event(candidate, State::Closed);
    world.expect_done(resigned);
    world.run(20 * SECOND);
    world.reject_event(candidate);
}

#[test]
fn a_leader_in_danger_is_told_only_if_it_asked() {
    for asked in [true, false] {
        let mut world = World::new();
        let a = world.service();
        let leader = world.stand(a, Candidacy { at_risk: asked, ..candidacy("e") });
        world.expect_event(leader, State::Follower);
        world.expect_event(leader, State::Leader);
        world.once(What::KeepAlive, Fate::LoseAnswer);
        world.run(9 * SECOND);
        assert!(world.is_leader(leader));
        if asked {
            let danger = world.expect_event(leader, State::Leader);
            assert!(danger.at_risk && danger.reason == Code::Unavailable && !danger.message.is_empty());
            let over = world.expect_event(leader, State::Leader);
            assert!(!over.at_risk && over.deadline_ns > danger.deadline_ns);
        }
        world.reject_event(leader);
    }
}

#[test]
fn a_margin_ends_the_term_early_and_a_renewal_keeps_it() {
    let mut world = World::new();
    let a = world.service();
    let step_down_margin = Duration::from_secs(3);
    let leader = world.stand(a, Candidacy { step_down_margin, ..candidacy("e") });
    world.expect_event(leader, State::Follower);
    world.expect_event(leader, State::Leader);
    world.run(30 * SECOND);
    world.reject_event(leader);
    world.partition(a);
    let session = world.processes[0].core.sessions.values().next().unwrap().deadline;
    world.expect_loss(leader, Code::SessionExpired);
    let left = session - world.processes[0].local(world.now);
    assert!((0..MS).contains(&(left - 3 * SECOND)) || (left - 3 * SECOND).abs() < MS, "{left}");
    assert_eq!(world.queue_length("e"), 1, "before etcd can elect another");
}

#[test]
fn a_candidate_whose_deadline_is_too_near_leads_after_the_next_renewal() {
    let mut world = World::new();
    let (a, b) = (world.service(), world.service());
    let first = world.elect(a, "e");
    let step_down_margin = Duration::from_secs(3);
    let second = world.stand(b, Candidacy { step_down_margin, ..candidacy("e") });
    world.expect_event(second, State::Follower);
    world.always(b, What::KeepAlive, Fate::Refuse(Failure::Unknown));
    world.run(8 * SECOND);
    world.resign(first);
    world.run(SECOND);
    world.reject_event(second);
    world.heal();
    world.expect_event(second, State::Leader);
}

#[test]
fn a_key_deleted_by_somebody_ends_the_term_at_once() {
    let mut world = World::new();
    let (a, b) = (world.service(), world.service());
    let (leader, other) = (world.elect(a, "e"), world.elect(a, "other"));
    let waiting = world.enqueue(b, "e");
    world.delete_key(leader);
    world.run(world.latency);
    assert!(!world.is_leader(leader));
    let lost = world.expect_loss(leader, Code::KeyDeleted);
    assert!(lost.message.contains("somebody deleted"), "{}", lost.message);
    assert_eq!(world.expect_event(leader, State::Closed).reason, Code::KeyDeleted);
    world.expect_event(waiting, State::Leader);
    assert!(world.is_leader(other));
}

#[test]
fn a_revoked_lease_is_told_from_a_deleted_key() {
    let mut world = World::new();
    let a = world.service();
    let (leader, other) = (world.elect(a, "e"), world.elect(a, "other"));
    world.revoke_lease(leader);
    for candidate in [leader, other] {
        world.expect_loss(candidate, Code::LeaseRevoked);
        assert_eq!(world.expect_event(candidate, State::Closed).reason, Code::LeaseRevoked);
    }
}

#[test]
fn a_key_taken_over_by_another_lease_ends_the_term() {
    let mut world = World::new();
    let a = world.service();
    let leader = world.elect(a, "e");
    let key = world.key_of(leader).unwrap();
    world.etcd.foreign_lease(77);
    world.etcd.put(key.key.clone(), b"mine", 77);
    world.publish();
    world.expect_loss(leader, Code::KeyDeleted);
    world.expect_event(leader, State::Closed);
    assert_eq!(world.queue_length("e"), 0, "the key that it created is its to remove");
}

#[test]
fn a_key_taken_over_while_nobody_watched_ends_the_term() {
    for elections in [1, 40] {
        let mut world = World::new();
        let a = world.service();
        let leaders: Vec<_> = (0..elections).map(|at| world.elect(a, &format!("e{at:02}"))).collect();
        let watcher = world.observe(a, "other");
        world.expect_observation(watcher);
        world.run(SECOND);
        world.etcd.foreign_lease(77);
        let key = world.key_of(leaders[0]).unwrap().key;
        world.break_stream(a);
        world.etcd.put(key, b"mine", 77);
        world.publish();
        world.expect_loss(leaders[0], Code::KeyDeleted);
        world.expect_event(leaders[0], State::Closed);
        assert_eq!(world.queue_length("e00"), 0);
        world.run(SECOND);
        assert!(leaders[1..].iter().all(|leader| world.is_leader(*leader)), "the others lead on");
    }
}

#[test]
fn a_key_of_our_name_that_somebody_else_created_is_a_collision() {
    let mut world = World::new();
    let a = world.service();
    let leader = world.elect(a, "other");
    let key = world.key_of(leader).unwrap();
    let name = format!("{:x}", key.lease);
    world.etcd.put([world.prefix("e"), name.into_bytes()].concat(), b"theirs", 0);
    let candidate = world.campaign(a, "e");
    world.expect_event(candidate, State::Follower);
    world.expect_loss(candidate, Code::NameCollision);
    world.expect_event(candidate, State::Closed);
    assert_eq!(world.queue_length("e"), 1, "theirs stays");
}

#[test]
fn an_election_nested_in_another_is_noticed_when_it_stands_in_the_way() {
    let mut world = World::new();
    let (a, b) = (world.service(), world.service());
    world.elect(a, "jobs/nightly");
    let outer = world.campaign(b, "jobs");
    world.expect_event(outer, State::Follower);
    let error = world.expect_loss(outer, Code::NameCollision);
    assert!(error.message.contains("_ld/s/jobs/nightly/"), "{}", error.message);
    world.expect_event(outer, State::Closed);
}

#[test]
fn a_nested_key_that_comes_later_fails_who_waits_and_spares_who_leads() {
    let mut world = World::new();
    let (a, b, c) = (world.service(), world.service(), world.service());
    let leader = world.elect(a, "jobs");
    let waiting = world.enqueue(b, "jobs");
    world.elect(c, "jobs/nightly");
    world.expect_loss(waiting, Code::NameCollision);
    assert!(world.is_leader(leader));
}

#[test]
fn another_cluster_at_the_same_address_ends_every_candidacy() {
    let mut world = World::new();
    let (a, b) = (world.service(), world.service());
    let leader = world.elect(a, "e");
    let waiting = world.stand(b, Candidacy { rejoin: true, ..candidacy("e") });
    world.run(SECOND);
    world.expect_event(waiting, State::Follower);
    world.replace_etcd(|etcd, _| etcd.rebuild());
    let lost = world.expect_loss(leader, Code::ClusterChanged);
    assert!(lost.message.contains("c2"), "{}", lost.message);
    world.expect_event(leader, State::Closed);
    world.expect_loss(waiting, Code::ClusterChanged);
    world.expect_event(waiting, State::Follower);
    let won = world.expect_event(waiting, State::Leader);
    assert_eq!(won.cluster_id, 0xc2);
}

#[test]
fn a_store_that_fell_back_to_an_older_revision_is_another_one() {
    let mut world = World::new();
    let (a, b) = (world.service(), world.service());
    let leader = world.elect(a, "e");
    let token = world.key_of(leader).unwrap().create_revision;
    world.elect(b, "e2");
    world.replace_etcd(|etcd, now| etcd.restore(now, token - 1));
    let lost = world.expect_loss(leader, Code::ClusterChanged);
    assert!(lost.message.contains("restored"), "{}", lost.message);
}

#[test]
fn who_may_not_join_is_told_so() {
    let mut world = World::new();
    let a = world.service();
    world.etcd.forbidden = vec![world.prefix("secret")];
    let candidate = world.campaign(a, "secret");
    world.expect_event(candidate, State::Follower);
    world.expect_loss(candidate, Code::PermissionDenied);
    assert_eq!(world.expect_event(candidate, State::Closed).reason, Code::PermissionDenied);
}

#[test]
fn what_is_refused_for_now_is_asked_again_but_in_no_hurry() {
    type Ask = fn(&mut World, Service);
    let cases: [(What, Ask); 7] = [
        (What::Grant, |w, a| _ = w.campaign(a, "e")),
        (What::Join, |w, a| _ = w.campaign(a, "e")),
        (What::List, |w, a| _ = w.observe(a, "e")),
        (What::Read, |w, a| _ = w.read(a, ReadKind::Leader, "e", 60 * SECOND)),
        (What::Proclaim, |w, a| {
            let leader = w.elect(a, "e");
            w.proclaim(leader, b"new");
        }),
        (What::Withdraw, |w, a| {
            let leader = w.elect(a, "e");
            w.resign(leader);
        }),
        (What::Revoke, |w, a| {
            w.elect(a, "e");
            w.close(a);
        }),
    ];
    for (what, ask) in cases {
        let mut world = World::new();
        let a = world.service();
        world.always(a, what, Fate::Refuse(Failure::NoLeader));
        ask(&mut world, a);
        world.run(8 * SECOND);
        assert!((8..25).contains(&world.count(what)), "{what:?}: {} times in 8 s", world.count(what));
    }
}

#[test]
fn a_leader_changes_its_value_and_nobody_else_does() {
    let mut world = World::new();
    let (a, b) = (world.service(), world.service());
    let (leader, waiting) = (world.elect(a, "e"), world.enqueue(b, "e"));
    let (first, second) = (world.proclaim(leader, b"1"), world.proclaim(leader, b"2"));
    world.expect_done(first);
    world.expect_done(second);
    assert_eq!(world.key_of(leader).unwrap().value, b"2");
    let refused = world.proclaim(waiting, b"3");
    world.expect_refusal(refused, Code::NotLeader);
    assert!(world.is_leader(leader));
}

#[test]
fn a_proclamation_whose_answer_was_lost_is_repeated_in_order() {
    let mut world = World::new();
    let a = world.service();
    let leader = world.elect(a, "e");
    world.once(What::Proclaim, Fate::LoseAnswer);
    world.once(What::Proclaim, Fate::LoseRequest);
    let (first, second) = (world.proclaim(leader, b"1"), world.proclaim(leader, b"2"));
    world.expect_done(first);
    assert_eq!((world.key_of(leader).unwrap().value, world.reply_of(second)), (b"1".to_vec(), None));
    world.expect_done(second);
    assert_eq!(world.key_of(leader).unwrap().value, b"2");
}

#[test]
fn a_proclamation_on_a_deleted_key_fails_and_ends_the_term() {
    let mut world = World::new();
    let a = world.service();
    let leader = world.elect(a, "e");
    world.run(SECOND);
    world.stall_stream(a);
    world.delete_key(leader);
    let refused = world.proclaim(leader, b"1");
    world.expect_refusal(refused, Code::NotLeader);
    world.expect_loss(leader, Code::KeyDeleted);
    assert_eq!(world.queue_length("e"), 0);
}

#[test]
fn a_proclamation_that_a_resignation_overtakes_is_answered() {
    let mut world = World::new();
    let a = world.service();
    let leader = world.elect(a, "e");
    let callers = [world.proclaim(leader, b"1"), world.proclaim(leader, b"2")];
    let resigned = world.resign(leader);
    for caller in callers {
        world.expect_refusal(caller, Code::NotLeader);
    }
    world.expect_done(resigned);
}

#[test]
fn a_proclaimed_value_is_kept_when_the_candidate_stands_again() {
    let mut world = World::new();
    let a = world.service();
    let candidate = world.stand(a, Candidacy { rejoin: true, ..candidacy("e") });
    world.run(SECOND);
    let proclaimed = world.proclaim(candidate, b"new");
    world.expect_done(proclaimed);
    world.delete_key(candidate);
    world.run(SECOND);
    assert_eq!(world.key_of(candidate).unwrap().value, b"new");
    let won = world.process(a).lives.values().next().unwrap().unread().last().unwrap().clone();
    assert_eq!((won.state, &*won.value), (State::Leader, &b"new"[..]));
}

#[test]
fn a_key_that_is_deleted_before_the_answer_to_the_join_does_not_lead() {
    let mut world = World::new();
    let a = world.service();
    world.once(What::Join, Fate::Slow(SECOND));
    let candidate = world.campaign(a, "e");
    world.expect_event(candidate, State::Follower);
    world.run_until("the key", |w| w.queue_length("e") == 1);
    let key = world.etcd.keys(&world.prefix("e"))[0].key.clone();
    world.run(100 * MS);
    world.etcd.delete(&key);
    world.publish();
    world.expect_loss(candidate, Code::KeyDeleted);
}
