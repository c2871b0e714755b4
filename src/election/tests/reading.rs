//! Programs' own questions: who leads, and who stands. Each is answered once, by the store or by the end of its time.

use std::time::Duration;

use super::faults::{Fate, What};
use super::world::{Caller, Service, World, candidacy};
use crate::clock::{MS, Nanos, SECOND};
use crate::election::{Candidacy, Core, Input, Output, ReadKind, Reply, Settings};
use crate::error::Code;
use crate::events::{Candidate, State};
use crate::store::Failure;

fn leader(world: &mut World, service: Service) -> Caller {
    world.read(service, ReadKind::Leader, "e", 5 * SECOND)
}

fn candidates(world: &mut World, service: Service) -> Caller {
    world.read(service, ReadKind::Candidates, "e", 5 * SECOND)
}

fn expect_leader(world: &mut World, caller: Caller) -> Candidate {
    match world.expect_reply(caller) {
        Ok(Reply::Leader(leader)) => leader,
        other => panic!("{other:?}"),
    }
}

fn expect_keys(world: &mut World, caller: Caller) -> Vec<Vec<u8>> {
    match world.expect_reply(caller) {
        Ok(Reply::Candidates(found)) => {
            assert!(found.is_sorted_by_key(|candidate| candidate.token), "not in the order of the queue");
            found.into_iter().map(|candidate| candidate.key.to_vec()).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_leader_is_told_with_value_token_key_and_lease() {
    let mut world = World::new();
    let (a, b) = (world.service(), world.service());
    let first = world.elect(a, "e");
    world.enqueue(b, "e");
    let proclaimed = world.proclaim(first, b"new");
    world.expect_done(proclaimed);
    let key = world.key_of(first).unwrap();
    let read = leader(&mut world, b);
    let begun = world.now;
    let seen = expect_leader(&mut world, read);
    assert_eq!((&*seen.value, seen.token), (&b"new"[..], key.create_revision));
    assert_eq!((&*seen.key, seen.lease), (&key.key[..], key.lease));
    assert_eq!(world.now - begun, 2 * world.latency);
}

#[test]
fn an_election_without_candidates_has_no_leader_and_an_empty_queue() {
    let mut world = World::new();
    let a = world.service();
    world.go_campaign("elsewhere");
    let read = leader(&mut world, a);
    let error = world.expect_refusal(read, Code::NoLeader);
    assert!(error.message().contains("`e`"), "{error}");
    let read = candidates(&mut world, a);
    assert!(expect_keys(&mut world, read).is_empty());
}

#[test]
fn a_question_may_wait_for_ever() {
    let namespace = World::new().namespace.clone();
    let settings = Settings { namespace, ttl: Duration::from_secs(10), call_timeout: Duration::from_secs(5) };
    let (mut core, mut outputs) = (Core::new(settings, 1, SECOND), Vec::new());
    let (kind, timeout) = (ReadKind::Leader, Duration::MAX);
    core.handle(SECOND, Input::Read { kind, election: "e".into(), timeout, reply: 1 }, &mut outputs);
    assert!(matches!(outputs[..], [Output::Call { timeout, .. }] if timeout == 5 * SECOND), "{outputs:?}");
    assert_eq!(core.wake_at(), Some(Nanos::MAX));
}

#[test]
fn questions_open_no_watch() {
    let mut world = World::new();
    let a = world.service();
    for _ in 0..3 {
        let read = candidates(&mut world, a);
        expect_keys(&mut world, read);
    }
    world.run(20 * SECOND);
    assert_eq!((world.process(a).streams, world.count(What::Grant)), (0, 0));
}

#[test]
fn candidates_are_listed_in_the_order_in_which_they_came_over_all_pages() {
    let mut world = World::new();
    let a = world.service();
    let keys: Vec<_> = (0..200).map(|_| world.go_campaign("e")).collect();
    assert!(!keys.is_sorted(), "the order of keys is another one");
    let read = candidates(&mut world, a);
    assert_eq!(expect_keys(&mut world, read), keys);
    assert_eq!(world.count(What::Read), 4);
}

#[test]
fn a_queue_exactly_as_long_as_a_page_is_whole() {
    for length in [63, 64, 65, 128] {
        let mut world = World::new();
        let a = world.service();
        let keys: Vec<_> = (0..length).map(|_| world.go_campaign("e")).collect();
        let read = candidates(&mut world, a);
        assert_eq!(expect_keys(&mut world, read), keys);
    }
}

#[test]
fn candidates_of_more_bytes_than_there_is_room_for_are_refused() {
    let mut world = World::new();
    let a = world.service();
    world.etcd.foreign_lease(77);
    for number in 0..100 {
        let key = [world.prefix("e"), format!("{number}").into_bytes()].concat();
        world.etcd.put(key, &[b'x'; 1000], 77);
    }
    let read = candidates(&mut world, a);
    let error = world.expect_refusal(read, Code::ValueTooLarge);
    assert!(error.message().contains("`e`: its candidates hold more than 64 KiB"), "{error}");
    let read = leader(&mut world, a);
    assert_eq!(expect_leader(&mut world, read).value.len(), 1000, "one of them has room");
}

#[test]
fn pages_show_the_queue_of_one_instant() {
    let mut world = World::new();
    let a = world.service();
    let keys: Vec<_> = (0..150).map(|_| world.go_campaign("e")).collect();
    let read = candidates(&mut world, a);
    world.run(3 * world.latency / 2);
    keys.iter().for_each(|key| world.go_resign(key));
    world.go_campaign("e");
    assert_eq!(expect_keys(&mut world, read), keys);
}

#[test]
fn pages_whose_revision_was_compacted_are_read_anew() {
    let mut world = World::new();
    let a = world.service();
    let mut keys: Vec<_> = (0..150).map(|_| world.go_campaign("e")).collect();
    let read = candidates(&mut world, a);
    world.run(3 * world.latency / 2);
    world.go_resign(&keys.remove(10));
    world.etcd.compact();
    assert_eq!(expect_keys(&mut world, read), keys, "nobody twice, nobody left out");
}

#[test]
fn a_page_that_fails_is_asked_for_again() {
    let mut world = World::new();
    let a = world.service();
    let keys: Vec<_> = (0..150).map(|_| world.go_campaign("e")).collect();
    let read = candidates(&mut world, a);
    world.run(world.latency / 2);
    for failure in [Failure::NotSent, Failure::Tls, Failure::Unknown, Failure::NoLeader] {
        world.once(What::Read, Fate::Refuse(failure));
    }
    assert_eq!(expect_keys(&mut world, read), keys);
    assert_eq!(world.count(What::Read), 3 + 4);
}

#[test]
fn a_nested_election_is_a_collision_unless_a_leader_came_before_it() {
    for inner_first in [true, false] {
        let mut world = World::new();
        let a = world.service();
        let first = world.go_campaign(if inner_first { "e/sub" } else { "e" });
        world.go_campaign(if inner_first { "e" } else { "e/sub" });
        let read = leader(&mut world, a);
        if inner_first {
            let error = world.expect_refusal(read, Code::NameCollision);
            assert!(error.message().contains("_ld/s/e/sub/"), "{error}");
        } else {
            assert_eq!(expect_leader(&mut world, read).key.to_vec(), first);
        }
        let read = candidates(&mut world, a);
        world.expect_refusal(read, Code::NameCollision);
    }
}

#[test]
fn an_election_whose_name_only_begins_alike_is_another_one() {
    let mut world = World::new();
    let a = world.service();
    world.go_campaign("e2");
    world.go_campaign("elder");
    let read = leader(&mut world, a);
    world.expect_refusal(read, Code::NoLeader);
}

#[test]
fn a_question_is_repeated_until_etcd_answers() {
    for fate in [Fate::LoseRequest, Fate::LoseAnswer, Fate::Refuse(Failure::NoLeader)] {
        let mut world = World::new();
        let a = world.service();
        let key = world.go_campaign("e");
        world.once(What::Read, fate);
        let read = world.read(a, ReadKind::Leader, "e", 60 * SECOND);
        assert_eq!(expect_leader(&mut world, read).key.to_vec(), key);
        assert_eq!(world.count(What::Read), 2, "{fate:?}");
    }
}

#[test]
fn a_question_that_always_fails_ends_in_time_with_the_last_trouble() {
    let mut world = World::new();
    let a = world.service();
    world.always(a, What::Read, Fate::Refuse(Failure::NoLeader));
    let read = leader(&mut world, a);
    let error = world.expect_refusal(read, Code::Unavailable);
    assert!(error.message().contains("NoLeader by order"), "{error}");
    assert_eq!(world.now, 5 * SECOND);
    let asked = world.count(What::Read);
    assert!((6..30).contains(&asked), "{asked} times in 5 s");
}

#[test]
fn a_question_without_any_answer_ends_in_time() {
    for timeout in [0, MS, SECOND, 5 * SECOND, 60 * SECOND] {
        let mut world = World::new();
        let a = world.service();
        world.partition(a);
        let read = world.read(a, ReadKind::Leader, "e", timeout);
        let error = world.expect_reply(read).unwrap_err();
        assert!([Code::Timeout, Code::Unavailable].contains(&error.code()), "{error}");
        assert_eq!(world.now, timeout);
        let wanted = if timeout < 5 * SECOND { Code::Timeout } else { Code::Unavailable };
        assert!(timeout == 5 * SECOND || error.code() == wanted, "{timeout}: {error}");
        world.run(60 * SECOND);
        assert!(world.process(a).core.reads.is_empty() && world.process(a).core.calls.is_empty());
    }
}

#[test]
fn an_answer_that_comes_too_late_is_none() {
    let mut world = World::new();
    let a = world.service();
    world.go_campaign("e");
    world.once(What::Read, Fate::Slow(SECOND));
    let read = world.read(a, ReadKind::Leader, "e", SECOND);
    world.expect_refusal(read, Code::Timeout);
    world.run(5 * SECOND);
    let read = leader(&mut world, a);
    expect_leader(&mut world, read);
}

#[test]
fn a_definite_refusal_is_told_at_once() {
    for (failure, code) in [
        (Failure::PermissionDenied, Code::PermissionDenied),
        (Failure::Unauthenticated, Code::AuthenticationFailed),
        (Failure::Refused, Code::Refused),
    ] {
        let mut world = World::new();
        let a = world.service();
        world.once(What::Read, Fate::Refuse(failure));
        let read = leader(&mut world, a);
        world.expect_refusal(read, code);
        assert_eq!((world.now, world.count(What::Read)), (2 * world.latency, 1));
    }
}

#[test]
fn who_may_not_look_is_told_so() {
    let mut world = World::new();
    let a = world.service();
    world.go_campaign("e");
    world.etcd.forbidden = vec![world.prefix("e")];
    let reads = [leader(&mut world, a), candidates(&mut world, a)];
    reads.into_iter().for_each(|read| _ = world.expect_refusal(read, Code::PermissionDenied));
    world.etcd.forbidden.clear();
    let read = leader(&mut world, a);
    expect_leader(&mut world, read);
}

#[test]
fn closing_answers_every_question_and_takes_no_more() {
    let mut world = World::new();
    let a = world.service();
    world.elect(a, "other");
    world.always(a, What::Read, Fate::LoseRequest);
    let open = [leader(&mut world, a), candidates(&mut world, a)];
    world.run(SECOND);
    world.close(a);
    assert!(open.iter().all(|&read| world.reply_of(read).is_some()), "at once");
    let late = leader(&mut world, a);
    open.into_iter().chain([late]).for_each(|read| _ = world.expect_refusal(read, Code::Closed));
}

#[test]
fn many_questions_at_once_get_each_their_own_answer() {
    let mut world = World::seeded(7);
    let a = world.service();
    world.jitter = 20 * MS;
    let elections: Vec<String> = (0..30).map(|i| format!("e{i}")).collect();
    let keys: Vec<_> = elections.iter().map(|name| world.go_campaign(name)).collect();
    let reads: Vec<_> = elections.iter().map(|name| world.read(a, ReadKind::Leader, name, 5 * SECOND)).collect();
    for (read, key) in reads.into_iter().zip(keys) {
        assert_eq!(expect_leader(&mut world, read).key.to_vec(), key);
    }
}

#[test]
fn a_question_that_another_cluster_answers_is_asked_there() {
    let mut world = World::new();
    let a = world.service();
    (0..100).for_each(|_| _ = world.go_campaign("e"));
    let known = leader(&mut world, a);
    expect_leader(&mut world, known);
    for first_page in [false, true] {
        let begun = world.now;
        let read = candidates(&mut world, a);
        if first_page {
            world.run(3 * world.latency / 2);
        }
        world.replace_etcd(|etcd, _| etcd.rebuild());
        let keys: Vec<_> = (0..70).map(|_| world.go_campaign("e")).collect();
        assert_eq!(expect_keys(&mut world, read), keys, "of one cluster");
        assert!(world.now - begun < SECOND);
    }
}

#[test]
fn answers_to_questions_of_before_a_change_of_cluster_change_nothing_more() {
    let mut world = World::new();
    let a = world.service();
    let candidate = world.stand(a, Candidacy { rejoin: true, ..candidacy("e") });
    world.expect_event(candidate, State::Follower);
    let token = world.expect_event(candidate, State::Leader).token;
    (0..50).for_each(|_| _ = world.go_campaign("elsewhere"));
    // Known to the service, so that a restored store is seen to be older. Two answers come late: one of before, and
    // one of after to a question of before.
    let read = leader(&mut world, a);
    expect_leader(&mut world, read);
    world.once(What::Read, Fate::Slow(3 * SECOND));
    let before: [(Caller, Nanos); 1] = [(leader(&mut world, a), world.now)];
    world.run(3 * world.latency / 2);
    world.once(What::Read, Fate::Late(2 * SECOND));
    let after = leader(&mut world, a);
    world.replace_etcd(|etcd, now| etcd.restore(now, token - 1));
    world.expect_loss(candidate, Code::ClusterChanged);
    world.expect_event(candidate, State::Follower);
    world.expect_event(candidate, State::Leader);
    assert_eq!((world.reply_of(before[0].0), world.reply_of(after)), (None, None));
    let seen = expect_leader(&mut world, after);
    assert_eq!(seen.token, world.key_of(candidate).unwrap().create_revision);
    let seen = expect_leader(&mut world, before[0].0);
    assert_eq!(seen.token, world.key_of(candidate).unwrap().create_revision, "not of the former store");
    world.run(10 * SECOND);
    world.reject_event(candidate);
}
