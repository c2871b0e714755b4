//! A thousand campaigns of one service: joining, handing over, leaving, and the leases that they share.

use std::collections::BTreeMap;

use tenure::{Code, Service, State};

use crate::support::Server;
use crate::support::electorate::{Contender, Electorate, LIMIT, Watcher, keys, open, wait_until};

on_each_version! {
    a_thousand_candidates_share_a_lease_and_the_next_take_another
    a_thousand_followers_take_over_when_their_leaders_close
    who_waits_is_elected_whatever_watch_it_waits_on
    observers_of_many_elections_follow_each_of_them
    a_crowd_below_a_prefix_without_a_slash_is_elected_like_any_other
    the_terms_of_a_crowd_end_with_their_lease
    a_crowd_that_resigns_one_by_one_leaves_nothing
    whoever_leaves_a_long_queue_the_next_leads
    a_long_queue_outlives_a_restart_of_the_server
}

const CROWD: usize = 1000;

fn stand(service: &Service, count: usize) -> Vec<Contender> {
    (0..count).map(|i| Contender::stand(service, &format!("crowd-{i}"))).collect()
}

/// How many keys each lease holds.
fn keys_by_lease(e: &Electorate) -> BTreeMap<String, usize> {
    let mut leases = BTreeMap::new();
    for key in keys(e.server, &format!("_ld/{}/", e.service)) {
        *leases.entry(key.rsplit('/').next().unwrap().to_owned()).or_default() += 1;
    }
    leases
}

fn a_thousand_candidates_share_a_lease_and_the_next_take_another(e: &Electorate) {
    let service = e.open();
    let mut crowd = stand(&service, CROWD + 5);
    for leader in &mut crowd {
        assert_eq!(leader.wait_elected().sequence, 2);
    }
    let leases = keys_by_lease(e);
    let mut counts: Vec<_> = leases.values().copied().collect();
    counts.sort_unstable();
    assert_eq!(counts, [5, CROWD]);
    // Word of a deleted key comes by the watch that they share.
    e.delete(&e.keys("crowd-777")[0]);
    crowd[777].expect_loss(Code::KeyDeleted);
    crowd[777].expect_closed();
    assert_eq!(crowd.iter().filter(|leader| leader.campaign.is_leader()).count(), CROWD + 4);
    service.close(LIMIT).unwrap();
    e.assert_no_keys();
    let list = e.server.etcdctl(&["lease", "list"]);
    assert!(leases.keys().all(|lease| !list.contains(lease)));
    crowd.remove(777);
    for leader in &mut crowd {
        assert_eq!(leader.expect_closed().sequence, 3);
    }
}

fn a_thousand_followers_take_over_when_their_leaders_close(e: &Electorate) {
    let (one, other) = (e.open(), e.open());
    let mut leaders = stand(&one, CROWD);
    leaders.iter_mut().for_each(|leader| drop(leader.wait_elected()));
    let mut heirs = stand(&other, CROWD);
    wait_until("all stand", || keys(e.server, &format!("_ld/{}/", e.service)).len() == 2 * CROWD);
    for heir in &mut heirs {
        heir.expect(State::Follower);
        heir.expect_nothing();
    }
    one.close(LIMIT).unwrap();
    for heir in &mut heirs {
        assert_eq!(heir.expect(State::Leader).sequence, 2);
    }
    leaders.iter_mut().for_each(|leader| drop(leader.expect_closed()));
    assert!(heirs.iter().all(|heir| heir.campaign.is_leader()));
    other.close(LIMIT).unwrap();
    e.assert_no_keys();
}

/// Fault 30.
fn the_terms_of_a_crowd_end_with_their_lease(e: &Electorate) {
    let service = e.open();
    let mut crowd = stand(&service, 300);
    crowd.iter_mut().for_each(|leader| drop(leader.wait_elected()));
    e.revoke(keys_by_lease(e).keys().next().unwrap());
    for leader in &mut crowd {
        leader.expect_loss(Code::LeaseRevoked);
        leader.expect_closed();
    }
    Contender::lead(&service, "crowd-0").resign();
}

fn a_crowd_that_resigns_one_by_one_leaves_nothing(e: &Electorate) {
    let service = e.open();
    let mut crowd = stand(&service, 200);
    crowd.iter_mut().for_each(|leader| drop(leader.wait_elected()));
    for leader in &mut crowd {
        leader.resign();
    }
    e.assert_no_keys();
}

/// Few elections have a watch each, many share one: the change happens while some wait.
fn who_waits_is_elected_whatever_watch_it_waits_on(e: &Electorate) {
    let (one, other) = (e.open(), e.open());
    let mut leaders = stand(&one, 60);
    leaders.iter_mut().for_each(|leader| drop(leader.wait_elected()));
    let mut early = (0..10).map(|i| Contender::stand(&other, &format!("crowd-{i}"))).collect::<Vec<_>>();
    wait_until("the early ones stand", || keys(e.server, &format!("_ld/{}/", e.service)).len() == 70);
    // One hand-over on a watch of its own, some during the change, some after it.
    leaders[0].resign();
    early[0].expect(State::Follower);
    early[0].expect(State::Leader);
    let mut late = (10..60).map(|i| Contender::stand(&other, &format!("crowd-{i}"))).collect::<Vec<_>>();
    leaders[1..].iter_mut().for_each(Contender::resign);
    for heir in early[1..].iter_mut().chain(&mut late) {
        heir.wait_elected();
    }
}

fn observers_of_many_elections_follow_each_of_them(e: &Electorate) {
    let (service, onlooker) = (e.open(), e.open());
    let mut watchers: Vec<_> = (0..100).map(|i| Watcher::observe(&onlooker, &format!("crowd-{i}"))).collect();
    watchers.iter_mut().for_each(|watcher| drop(watcher.wait_leader(None)));
    let mut crowd = stand(&service, 100);
    for (watcher, leader) in watchers.iter_mut().zip(&mut crowd) {
        let token = leader.wait_elected().token;
        let told = watcher.next();
        assert_eq!(told.leader.map(|leader| leader.token), Some(token), "{}", told.election);
    }
    service.close(LIMIT).unwrap();
    watchers.iter_mut().for_each(|watcher| drop(watcher.wait_leader(None)));
}

/// One watch on all of it would see strangers' keys as well.
fn a_crowd_below_a_prefix_without_a_slash_is_elected_like_any_other(e: &Electorate) {
    let prefix = format!("{}-", e.service);
    let services = [(); 2].map(|()| open(e.server, &[("prefix", &prefix)]));
    let mut leaders = stand(&services[0], 50);
    leaders.iter_mut().for_each(|leader| drop(leader.wait_elected()));
    let mut heirs = stand(&services[1], 50);
    wait_until("all stand", || keys(e.server, &prefix).len() == 100);
    services[0].close(LIMIT).unwrap();
    heirs.iter_mut().for_each(|heir| drop(heir.wait_elected()));
}

/// Those far behind watch two keys each: their own, and one before it.
fn whoever_leaves_a_long_queue_the_next_leads(e: &Electorate) {
    let services: Vec<_> = (0..24).map(|_| e.open()).collect();
    let mut queue: Vec<_> = services.iter().map(|service| Contender::queue(service, "long")).collect();
    queue[0].expect(State::Leader);
    let all = e.keys("long");
    e.delete(&all[22]);
    queue[22].expect_loss(Code::KeyDeleted);
    e.revoke(all[21].rsplit('/').next().unwrap());
    queue[21].expect_loss(Code::LeaseRevoked);
    for lost in [22, 21] {
        queue.remove(lost).expect_closed();
    }
    // From the middle, the end and the front.
    let places = [10, 9, 8, 18, 15, 0, 0, 5, 4, 3, 8, 8, 8];
    for place in places.into_iter().chain([0; 8]) {
        queue.remove(place).resign();
        if place == 0 {
            queue[0].expect(State::Leader);
        }
    }
    assert_eq!(queue.len(), 1);
    queue[0].resign();
    e.assert_no_keys();
}

fn a_long_queue_outlives_a_restart_of_the_server(e: &Electorate) {
    let server = Server::start(e.server.version());
    let services: Vec<_> = (0..14).map(|_| open(&server, &[("service", "s"), ("ttl", "60s")])).collect();
    let mut queue: Vec<_> = services.iter().map(|service| Contender::queue(service, "long")).collect();
    queue[0].expect(State::Leader);
    server.restart();
    let mut last = queue.pop().unwrap();
    queue.drain(1..).for_each(|mut contender| contender.resign());
    last.expect_nothing();
    queue[0].resign();
    last.expect(State::Leader);
    last.resign();
}
