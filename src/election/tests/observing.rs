//! Observers: told the present state, whatever happens between them and the store, and told when it may be stale.
//! `check` compares everything that they are told with what the store held at that revision.

use super::faults::{Fate, What};
use super::world::{Service, Watcher, World};
use crate::clock::{MS, SECOND};
use crate::error::Code;
use crate::events::{Observation, State};
use crate::store::Failure;

/// More than a mirror keeps.
const LARGE: usize = 20 * 1024;

/// An observer that has been told the present state.
fn observer(world: &mut World, service: Service) -> Watcher {
    let watcher = world.observe(service, "e");
    assert!(world.expect_observation(watcher).connected);
    watcher
}

fn key(seen: &Observation) -> Option<Vec<u8>> {
    seen.leader.as_ref().map(|leader| leader.key.to_vec())
}

fn value(seen: &Observation) -> Vec<u8> {
    seen.leader.as_ref().unwrap().value.to_vec()
}

/// The same key again, with another value.
fn put(world: &mut World, key: &[u8], value: &[u8]) {
    let lease = world.etcd.keys(key)[0].lease;
    world.etcd.put(key.to_vec(), value, lease);
    world.publish();
}

fn many(world: &mut World, service: Service, elections: usize) {
    (0..elections).for_each(|i| _ = world.campaign(service, &format!("e{i:02}")));
    world.run(SECOND);
}

#[test]
fn who_observes_an_election_that_it_leads_is_not_told_of_the_time_before() {
    let mut world = World::new();
    let a = world.service();
    world.elect(a, "other");
    world.once(What::Join, Fate::Late(10 * MS));
    let leader = world.campaign(a, "e");
    world.expect_event(leader, State::Follower);
    world.run(5 * MS);
    // The list is in, and says that nobody stands.
    world.stream_lag = 20 * MS;
    let won = world.expect_event(leader, State::Leader);
    let watcher = world.observe(a, "e");
    let told = world.expect_observation(watcher);
    assert_eq!(told.leader.map(|leader| leader.token), Some(won.token));
}

#[test]
fn who_leads_is_told_first_and_after_each_change() {
    let mut world = World::new();
    let (a, b, c) = (world.service(), world.service(), world.service());
    let watcher = world.observe(c, "e");
    let nobody = world.expect_observation(watcher);
    assert!(nobody.leader.is_none() && nobody.connected && nobody.reason == Code::Ok);
    let first = world.elect(a, "e");
    let second = world.enqueue(b, "e");
    let (first_key, second_key) = (world.key_of(first).unwrap(), world.key_of(second).unwrap());
    let seen = world.expect_observation(watcher);
    assert_eq!(seen.leader.as_ref().map(|leader| leader.token), Some(first_key.create_revision));
    assert_eq!((key(&seen), &value(&seen)[..], seen.cluster_id), (Some(first_key.key), &b"value"[..], 0xc1));
    world.resign(first);
    assert_eq!(key(&world.expect_observation(watcher)), Some(second_key.key));
    world.resign(second);
    assert!(world.expect_observation(watcher).leader.is_none());
    world.run(SECOND);
    assert_eq!((world.observations(watcher), world.count(What::List)), (0, 2));
}

#[test]
fn news_takes_its_way_from_the_store_and_no_longer() {
    let mut world = World::new();
    let a = world.service();
    let watcher = observer(&mut world, a);
    world.go_campaign("e");
    let begun = world.now;
    world.expect_observation(watcher);
    assert_eq!(world.now - begun, world.latency);
}

#[test]
fn what_changes_behind_the_leader_is_not_told() {
    let mut world = World::new();
    let a = world.service();
    let leader = world.go_campaign("e");
    let watcher = observer(&mut world, a);
    let behind: Vec<_> = (0..10).map(|_| world.go_campaign("e")).collect();
    put(&mut world, &behind[3], b"new");
    behind.iter().for_each(|key| world.go_resign(key));
    world.jump_wall_clock(a);
    world.run(20 * SECOND);
    assert_eq!((world.observations(watcher), key(world.observed(watcher))), (0, Some(leader)));
}

#[test]
fn a_new_value_of_the_same_leader_is_told() {
    let mut world = World::new();
    let (a, b) = (world.service(), world.service());
    let leader = world.elect(a, "e");
    let watcher = observer(&mut world, b);
    let token = world.key_of(leader).unwrap().create_revision;
    world.proclaim(leader, b"new");
    let seen = world.expect_observation(watcher);
    assert_eq!((value(&seen), seen.leader.unwrap().token), (b"new".to_vec(), token));
}

#[test]
fn a_lost_connection_is_a_flag_on_the_last_state_known() {
    let mut world = World::new();
    let a = world.service();
    let first = world.go_campaign("e");
    let watcher = observer(&mut world, a);
    let known = world.observed(watcher).revision;
    world.partition(a);
    world.break_stream(a);
    let lost = world.expect_observation(watcher);
    assert!(!lost.connected && !lost.closed && lost.reason == Code::Unavailable && !lost.message.is_empty());
    assert_eq!((key(&lost), lost.revision), (Some(first.clone()), known));
    world.go_resign(&first);
    let second = world.go_campaign("e");
    world.run(30 * SECOND);
    assert_eq!(world.observations(watcher), 0, "told once");
    world.heal();
    world.break_stream(a);
    let back = world.expect_observation(watcher);
    assert!(back.connected && back.reason == Code::Ok && back.message.is_empty() && back.revision > known);
    assert_eq!(key(&back), Some(second));
}

#[test]
fn a_connection_that_comes_back_is_told_though_nothing_has_changed() {
    let mut world = World::new();
    let a = world.service();
    let leader = world.go_campaign("e");
    let watcher = observer(&mut world, a);
    for _ in 0..3 {
        world.break_stream(a);
        assert!(!world.expect_observation(watcher).connected);
        let back = world.expect_observation(watcher);
        assert!(back.connected && key(&back).as_ref() == Some(&leader));
    }
}

#[test]
fn an_observer_begun_without_etcd_is_told_so_and_then_who_leads() {
    let mut world = World::new();
    let a = world.service();
    let leader = world.go_campaign("e");
    world.partition(a);
    let watcher = world.observe(a, "e");
    let lost = world.expect_observation(watcher);
    assert!(!lost.connected && lost.leader.is_none() && lost.revision == 0 && lost.reason == Code::Unavailable);
    let late = world.observe(a, "e");
    world.heal();
    for watcher in [watcher, late] {
        world.run_until("the leader", |w| w.observations(watcher) > 0 && w.observed(watcher).connected);
        assert_eq!(key(world.observed(watcher)), Some(leader.clone()));
    }
}

#[test]
fn what_happened_before_a_compaction_is_read_anew() {
    let mut world = World::new();
    let a = world.service();
    let first = world.go_campaign("e");
    let watcher = observer(&mut world, a);
    world.partition(a);
    world.break_stream(a);
    world.expect_observation(watcher);
    world.go_resign(&first);
    let second = world.go_campaign("e");
    world.go_campaign("elsewhere");
    world.etcd.compact();
    world.heal();
    world.break_stream(a);
    assert_eq!(key(&world.expect_observation(watcher)), Some(second));
}

#[test]
fn a_value_too_large_to_keep_is_read_when_it_is_the_leaders() {
    let mut world = World::new();
    let a = world.service();
    let first = world.go_campaign("e");
    let watcher = observer(&mut world, a);
    let second = world.go_campaign("e");
    put(&mut world, &second, &[2; LARGE]);
    world.run(SECOND);
    let reads = world.count(What::Value);
    world.go_resign(&first);
    assert_eq!(value(&world.expect_observation(watcher)), [2; LARGE]);
    put(&mut world, &second, &[3; LARGE]);
    assert_eq!(value(&world.expect_observation(watcher)), [3; LARGE]);
    put(&mut world, &second, b"small");
    assert_eq!(value(&world.expect_observation(watcher)), b"small");
    assert_eq!(world.count(What::Value), reads + 2);
}

#[test]
fn a_successor_that_the_watch_has_told_of_is_known_without_asking() {
    let mut world = World::new();
    let a = world.service();
    let first = world.go_campaign("e");
    let watcher = observer(&mut world, a);
    let second = world.go_campaign("e");
    put(&mut world, &first, &[1; LARGE / 2]);
    put(&mut world, &second, &[2; LARGE / 2]);
    world.run(SECOND);
    while world.observations(watcher) > 0 {
        world.expect_observation(watcher);
    }
    let (begun, reads) = (world.now, world.count(What::Value));
    world.go_resign(&first);
    assert!(value(&world.expect_observation(watcher)) == [2; LARGE / 2]);
    assert_eq!((world.now - begun, world.count(What::Value)), (world.latency, reads));
}

#[test]
fn a_value_that_could_not_be_read_is_no_reason_to_list_every_election() {
    let mut world = World::new();
    let a = world.service();
    many(&mut world, a, 40);
    let leader = world.go_campaign("e");
    let watcher = observer(&mut world, a);
    world.run(SECOND);
    let lists = world.count(What::List);
    world.once(What::Value, Fate::Refuse(Failure::NoLeader));
    put(&mut world, &leader, &[2; LARGE]);
    world.run(SECOND);
    assert!(value(world.observed(watcher)) == [2; LARGE]);
    assert_eq!(world.count(What::List) - lists, 1, "this one's");
}

#[test]
fn a_value_read_late_does_not_hide_a_newer_one() {
    for newer in [&b"new"[..], &[3; LARGE]] {
        let mut world = World::new();
        let a = world.service();
        let leader = world.go_campaign("e");
        let watcher = observer(&mut world, a);
        world.once(What::Value, Fate::Slow(SECOND));
        put(&mut world, &leader, &[2; LARGE]);
        world.run(10 * MS);
        put(&mut world, &leader, newer);
        world.run(5 * SECOND);
        assert!(value(world.observed(watcher)) == newer, "{} bytes", newer.len());
    }
}

#[test]
fn a_value_read_ahead_of_the_watch_is_not_taken_back() {
    for elections in [0, 40] {
        let mut world = World::new();
        let a = world.service();
        many(&mut world, a, elections);
        let leader = world.go_campaign("e");
        let watcher = observer(&mut world, a);
        world.once(What::Value, Fate::Late(50 * MS));
        put(&mut world, &leader, &[2; LARGE]);
        world.run(10 * MS);
        world.stream_lag = SECOND;
        put(&mut world, &leader, b"older");
        put(&mut world, &leader, b"newer");
        assert_eq!(value(&world.expect_observation(watcher)), b"newer");
        world.run(3 * SECOND);
        assert_eq!((world.observations(watcher), value(world.observed(watcher))), (0, b"newer".to_vec()));
        put(&mut world, &leader, b"newest");
        assert_eq!(value(&world.expect_observation(watcher)), b"newest");
    }
}

#[test]
fn a_list_read_after_doubt_does_not_hide_a_newer_value() {
    for elections in [0, 40] {
        let mut world = World::new();
        let a = world.service();
        many(&mut world, a, elections);
        let leader = world.go_campaign("e");
        let watcher = observer(&mut world, a);
        // The list knows of the change before the watch tells it.
        world.stream_lag = 50 * MS;
        put(&mut world, &leader, b"new");
        world.go_campaign("elsewhere");
        world.jump_wall_clock(a);
        world.run(5 * SECOND);
        assert_eq!(value(world.observed(watcher)), b"new", "beside {elections} elections");
    }
}

#[test]
fn while_the_leaders_value_can_not_be_read_the_former_leader_is_only_the_last_known() {
    let mut world = World::new();
    let a = world.service();
    let first = world.go_campaign("e");
    let watcher = observer(&mut world, a);
    let second = world.go_campaign("e");
    put(&mut world, &second, &[2; LARGE]);
    world.always(a, What::Value, Fate::Refuse(Failure::NoLeader));
    world.go_resign(&first);
    let unsure = world.expect_observation(watcher);
    assert!(!unsure.connected && key(&unsure) == Some(first) && unsure.reason == Code::Unavailable);
    world.run(10 * SECOND);
    assert_eq!(world.observations(watcher), 0, "told once");
    assert!(world.count(What::Value) < 30, "asked {} times in 10 s", world.count(What::Value));
    world.heal();
    let back = world.expect_observation(watcher);
    assert!(back.connected && key(&back) == Some(second));
}

#[test]
fn a_leader_that_goes_while_its_value_is_read_is_passed_over() {
    for fate in [Fate::Late(SECOND), Fate::Slow(SECOND), Fate::LoseRequest] {
        let mut world = World::new();
        let a = world.service();
        let first = world.go_campaign("e");
        let watcher = observer(&mut world, a);
        let second = world.go_campaign("e");
        let third = world.go_campaign("e");
        put(&mut world, &second, &[2; LARGE]);
        put(&mut world, &third, &[3; LARGE]);
        world.run(SECOND);
        world.once(What::Value, fate);
        world.go_resign(&first);
        world.run(10 * MS);
        world.go_resign(&second);
        // Without waiting for what became of the former question.
        world.run(10 * MS);
        assert_eq!((key(world.observed(watcher)), world.observed(watcher).connected), (Some(third), true), "{fate:?}");
    }
}

#[test]
fn a_question_about_a_former_leader_that_fails_is_no_trouble() {
    let mut world = World::new();
    let a = world.service();
    let first = world.go_campaign("e");
    let watcher = observer(&mut world, a);
    let second = world.go_campaign("e");
    world.run(SECOND);
    let lists = world.count(What::List);
    world.once(What::Value, Fate::LoseRequest);
    put(&mut world, &first, &[2; LARGE]);
    world.run(10 * MS);
    world.go_resign(&first);
    let seen = world.expect_observation(watcher);
    assert!(seen.connected && key(&seen) == Some(second));
    world.run(10 * SECOND);
    assert_eq!((world.observations(watcher), world.count(What::List)), (0, lists));
}

#[test]
fn a_leader_whose_key_was_created_anew_is_not_asked_for_in_a_hurry() {
    let mut world = World::new();
    let a = world.service();
    let leader = world.go_campaign("e");
    let watcher = observer(&mut world, a);
    let reads = world.count(What::Value);
    world.once(What::Value, Fate::Late(50 * MS));
    put(&mut world, &leader, &[2; LARGE]);
    world.run(10 * MS);
    // The value that is read then is of another term, of which the watch tells much later.
    let lease = world.etcd.keys(&leader)[0].lease;
    world.stream_lag = 3 * SECOND;
    world.go_resign(&leader);
    world.etcd.put(leader.clone(), &[3; LARGE], lease);
    world.publish();
    world.run(2 * SECOND);
    assert_eq!(world.count(What::Value) - reads, 1);
    world.run(2 * SECOND);
    assert_eq!((value(world.observed(watcher)), world.count(What::Value) - reads), (vec![3; LARGE], 2));
}

#[test]
fn many_observers_of_one_election_cost_one_watch_and_one_list() {
    let mut world = World::new();
    let a = world.service();
    let leader = world.go_campaign("e");
    let watchers: Vec<_> = (0..100).map(|_| world.observe(a, "e")).collect();
    world.run(SECOND);
    let late = world.observe(a, "e");
    let begun = world.now;
    assert_eq!(key(&world.expect_observation(late)), Some(leader.clone()));
    assert_eq!(world.now, begun, "known already");
    world.go_resign(&leader);
    for watcher in watchers.into_iter().chain([late]) {
        world.run_until("the end of the term", |w| w.observed(watcher).leader.is_none());
    }
    assert_eq!((world.watches(a), world.count(What::List), world.count(What::Value)), (1, 1, 1));
}

#[test]
fn a_service_observes_elections_that_it_stands_in() {
    for elections in [0, 40] {
        let mut world = World::new();
        let (a, b) = (world.service(), world.service());
        many(&mut world, a, elections);
        let leader = world.elect(a, "e");
        let heir = world.enqueue(b, "e");
        let watcher = observer(&mut world, a);
        assert_eq!(key(world.observed(watcher)), Some(world.key_of(leader).unwrap().key));
        world.proclaim(leader, b"new");
        assert_eq!(value(&world.expect_observation(watcher)), b"new");
        let resigned = world.resign(leader);
        let next = world.expect_observation(watcher);
        world.expect_done(resigned);
        assert_eq!(key(&next), Some(world.key_of(heir).unwrap().key), "after its own campaign has closed");
        let again = world.enqueue(a, "e");
        world.resign(heir);
        world.expect_event(again, State::Leader);
        world.run(SECOND);
        assert_eq!(key(world.observed(watcher)), Some(world.key_of(again).unwrap().key));
    }
}

#[test]
fn an_observer_that_ends_has_a_last_word_and_disturbs_nobody() {
    for elections in [0, 40] {
        let mut world = World::new();
        let (a, b) = (world.service(), world.service());
        many(&mut world, a, elections);
        let leader = world.elect(a, "e");
        let (first, second) = (observer(&mut world, a), observer(&mut world, a));
        world.unobserve(first);
        world.unobserve(first);
        let last = world.expect_observation(first);
        assert!(last.closed && last.connected && last.leader.is_some() && last.reason == Code::Ok);
        let heir = world.enqueue(b, "e");
        world.resign(leader);
        assert_eq!(key(&world.expect_observation(second)), Some(world.key_of(heir).unwrap().key));
        assert_eq!(world.observations(first), 0);
    }
}

#[test]
fn the_last_observer_takes_the_watch_with_it_and_the_next_begins_anew() {
    let mut world = World::new();
    let a = world.service();
    for _ in 0..3 {
        let leader = world.go_campaign("e");
        let watcher = observer(&mut world, a);
        assert_eq!(key(world.observed(watcher)), Some(leader.clone()));
        world.unobserve(watcher);
        world.run(SECOND);
        assert_eq!(world.watches(a), 0);
        world.go_resign(&leader);
    }
    assert_eq!(world.process(a).streams, 1);
}

#[test]
fn an_observer_that_ends_while_its_value_is_read_leaves_nothing() {
    let mut world = World::new();
    let a = world.service();
    let leader = world.go_campaign("e");
    world.once(What::Value, Fate::Slow(SECOND));
    let first = world.observe(a, "e");
    world.run(10 * MS);
    world.unobserve(first);
    let second = observer(&mut world, a);
    world.run(5 * SECOND);
    assert_eq!(key(world.observed(second)), Some(leader));
    world.unobserve(second);
    assert!(world.process(a).core.parts.is_empty());
}

#[test]
fn closing_the_service_is_told_to_every_observer() {
    let mut world = World::new();
    let a = world.service();
    let leader = world.go_campaign("e");
    let known = observer(&mut world, a);
    let new = world.observe(a, "f");
    world.close(a);
    let last = world.expect_observation(known);
    assert!(last.closed && last.connected && key(&last) == Some(leader.clone()));
    let last = world.expect_observation(new);
    assert!(last.closed && !last.connected && last.leader.is_none());
    world.go_resign(&leader);
    world.run(SECOND);
    assert_eq!(world.observations(known) + world.observations(new), 0);
}

#[test]
fn nested_keys_are_a_reason_beside_the_leader_until_they_are_gone() {
    for elections in [0, 40] {
        let mut world = World::new();
        let a = world.service();
        many(&mut world, a, elections);
        let leader = world.go_campaign("e");
        let watcher = observer(&mut world, a);
        let nested = world.go_campaign("e/sub");
        let warned = world.expect_observation(watcher);
        assert!(warned.connected && warned.reason == Code::NameCollision && !warned.message.is_empty());
        assert_eq!(key(&warned), Some(leader.clone()));
        let more = world.go_campaign("e/sub/sub");
        world.go_resign(&nested);
        world.run(SECOND);
        assert_eq!(world.observations(watcher), 0);
        world.go_resign(&more);
        assert_eq!(world.expect_observation(watcher).reason, Code::Ok);
    }
}

#[test]
fn nested_keys_beyond_those_remembered_are_not_forgotten() {
    let mut world = World::new();
    let (a, b) = (world.service(), world.service());
    let mut nested: Vec<_> = (0..100).map(|_| world.go_campaign("e/sub")).collect();
    let watcher = observer(&mut world, a);
    let last = nested.pop().unwrap();
    nested.iter().for_each(|key| world.go_resign(key));
    world.run(SECOND);
    assert_eq!(world.observed(watcher).reason, Code::NameCollision);
    let candidate = world.campaign(a, "e");
    world.expect_event(candidate, State::Follower);
    world.expect_loss(candidate, Code::NameCollision);
    world.go_resign(&last);
    world.elect(b, "e");
}

#[test]
fn an_observer_of_an_inner_election_sees_only_its_own() {
    let mut world = World::new();
    let a = world.service();
    world.go_campaign("e");
    let inner = world.go_campaign("e/sub");
    let watcher = world.observe(a, "e/sub");
    let outer = world.observe(a, "e");
    let seen = world.expect_observation(watcher);
    assert_eq!((key(&seen), seen.reason), (Some(inner.clone()), Code::Ok));
    world.go_resign(&inner);
    assert!(world.expect_observation(watcher).leader.is_none());
    world.run(SECOND);
    assert!(world.observed(outer).leader.is_some() && world.observed(outer).reason == Code::Ok);
}

#[test]
fn another_cluster_is_told_and_nothing_of_the_former_is_kept() {
    for restored in [false, true] {
        let mut world = World::new();
        let a = world.service();
        let before = world.etcd.header().revision;
        (0..50).for_each(|_| _ = world.go_campaign("e"));
        let watcher = observer(&mut world, a);
        let former = world.observed(watcher).clone();
        world.replace_etcd(|etcd, now| if restored { etcd.restore(now, before) } else { etcd.rebuild() });
        let lost = world.expect_observation(watcher);
        assert_eq!((lost.connected, &lost.leader, lost.cluster_id), (false, &former.leader, 0xc1));
        let changed = world.expect_observation(watcher);
        assert_eq!((changed.reason, changed.connected), (Code::ClusterChanged, false));
        assert_eq!((changed.leader, changed.revision), (None, 0));
        let present = world.expect_observation(watcher);
        assert!(present.connected && present.leader.is_none() && present.revision < former.revision);
        assert_eq!(present.cluster_id, if restored { 0xc1 } else { 0xc2 });
        let leader = world.go_campaign("e");
        assert_eq!(key(&world.expect_observation(watcher)), Some(leader));
    }
}

#[test]
fn an_observer_does_not_wait_for_the_key_that_its_own_service_had_in_another_cluster() {
    let mut world = World::new();
    let a = world.service();
    for _ in 0..9 {
        let key = world.go_campaign("e");
        world.go_resign(&key);
    }
    let leader = world.elect(a, "e");
    world.always(a, What::Withdraw, Fate::Refuse(Failure::NoLeader));
    let resigned = world.resign(leader);
    let watcher = world.observe(a, "e");
    world.replace_etcd(|etcd, _| etcd.rebuild());
    world.run_until("the present cluster", |w| {
        w.observations(watcher) > 0 && w.observed(watcher).connected && w.observed(watcher).cluster_id == 0xc2
    });
    assert_eq!(world.reply_of(resigned), None);
}

#[test]
fn a_watch_that_is_not_permitted_is_a_flag_until_it_is() {
    for elections in [0, 40] {
        let mut world = World::new();
        let a = world.service();
        world.etcd.forbidden = vec![world.prefix("e")];
        many(&mut world, a, elections);
        let watcher = world.observe(a, "e");
        let refused = world.expect_observation(watcher);
        assert!(!refused.connected && !refused.closed && refused.reason == Code::PermissionDenied);
        world.run(20 * SECOND);
        assert_eq!(world.observations(watcher), 0, "told once");
        world.etcd.forbidden.clear();
        let leader = world.go_campaign("e");
        assert_eq!(key(&world.expect_observation(watcher)), Some(leader));
    }
}

#[test]
fn a_list_of_everything_that_is_refused_after_its_watch_was_allowed_leaves_one_for_each() {
    let mut world = World::new();
    let a = world.service();
    let leader = world.go_campaign("e39");
    world.always(a, What::List, Fate::Late(10 * MS));
    let watchers: Vec<_> = (0..40).map(|i| world.observe(a, &format!("e{i:02}"))).collect();
    world.run(5 * MS);
    world.etcd.forbidden = vec![world.prefix("secret")];
    world.run(SECOND);
    world.heal();
    for watcher in &watchers {
        world.run_until("a list", |w| w.observations(*watcher) > 0 && w.observed(*watcher).connected);
    }
    assert_eq!(key(world.observed(watchers[39])), Some(leader));
}

#[test]
fn a_slow_watch_is_not_overtaken_by_another_that_covers_the_same_keys() {
    let mut world = World::new();
    let a = world.service();
    let leader = world.go_campaign("e");
    let watcher = observer(&mut world, a);
    world.observe(a, "e/sub");
    world.run(SECOND);
    // etcd keeps the order within a watch, and between watches only while none of them lags behind.
    world.slow_watches = vec![(world.prefix("e"), 50 * MS)];
    world.go_resign(&leader);
    let nested = world.go_campaign("e/sub");
    world.run(SECOND);
    assert!(world.observed(watcher).leader.is_none(), "{:?}", world.observed(watcher));
    assert_eq!(world.observed(watcher).reason, Code::NameCollision);
    world.go_resign(&nested);
}

#[test]
fn nothing_is_overtaken_while_one_watch_takes_over_from_many() {
    for after in 0..14 {
        let mut world = World::new();
        let a = world.service();
        let first = world.go_campaign("e");
        let second = world.go_campaign("e");
        let watcher = observer(&mut world, a);
        (0..31).for_each(|i| _ = world.observe(a, &format!("e{i:02}")));
        world.run(SECOND);
        world.slow_watches = vec![(world.prefix("e"), 20 * MS)];
        world.always(a, What::List, Fate::Slow(5 * MS));
        world.observe(a, "more");
        world.run(after * MS / 2);
        world.go_resign(&first);
        world.run(3 * MS / 2);
        let third = world.go_campaign("e");
        // Told what is known at this very instant.
        for _ in 0..20 {
            world.observe(a, "e");
            world.run(MS / 2);
        }
        put(&mut world, &second, b"new");
        world.run(SECOND);
        assert_eq!((key(world.observed(watcher)), world.watches(a)), (Some(second.clone()), 1), "{after}");
        assert_eq!(value(world.observed(watcher)), b"new", "{after}");
        world.go_resign(&second);
        world.run(SECOND);
        assert_eq!(key(world.observed(watcher)), Some(third));
    }
}

#[test]
fn whatever_breaks_the_last_thing_told_is_the_truth() {
    for seed in 0..60 {
        let mut world = World::seeded(seed);
        let a = world.service();
        many(&mut world, a, if seed % 2 == 0 { 0 } else { 34 });
        let watchers = [world.observe(a, "e"), world.observe(a, "e"), world.observe(a, "f")];
        (world.jitter, world.stream_lag) = (5 * MS, (seed as i64 % 7) * MS);
        let mut keys: Vec<Vec<u8>> = Vec::new();
        if seed % 3 == 0 {
            let lag = (world.random.next() % 40) as i64 * MS;
            (world.jitter, world.stream_lag, world.slow_watches) = (0, 0, vec![(world.prefix("e"), lag)]);
        }
        for _ in 0..150 {
            match world.random.next() % 15 {
                0..4 => keys.push(world.go_campaign("e")),
                4..7 if !keys.is_empty() => {
                    let at = world.random.next() as usize % keys.len().min(3);
                    let key = keys.remove(at);
                    world.go_resign(&key);
                }
                7 if !keys.is_empty() => {
                    let size = if world.random.next().is_multiple_of(2) { 10 } else { LARGE };
                    let value = vec![world.random.next() as u8; size];
                    put(&mut world, &keys[0].clone(), &value);
                }
                8 => world.break_stream(a),
                9 => world.etcd.compact(),
                10 => world.jump_wall_clock(a),
                11 => world.once_perhaps(What::Any, Fate::Refuse(Failure::Unknown)),
                12 => {
                    let more = world.random.next() % 40;
                    world.observe(a, &format!("more{more}"));
                }
                13 => world.once_perhaps(What::Any, Fate::Slow(60 * MS)),
                14 if world.random.next().is_multiple_of(8) => {
                    world.replace_etcd(|etcd, _| etcd.rebuild());
                    keys.clear();
                }
                _ => {}
            }
            let pause = (world.random.next() % 30) as i64 * MS;
            world.run(pause);
        }
        world.heal();
        world.run(20 * SECOND);
        let leader = world.etcd.lowest(&world.prefix("e"));
        for watcher in &watchers[..2] {
            let seen = world.observed(*watcher);
            assert!(seen.connected, "{seed}");
            assert_eq!(key(seen), leader.as_ref().map(|kv| kv.key.clone()), "{seed}");
            assert_eq!(seen.leader.as_ref().map(|l| &l.value[..]), leader.as_ref().map(|kv| &kv.value[..]), "{seed}");
        }
        assert!(world.observed(watchers[2]).leader.is_none());
    }
}
