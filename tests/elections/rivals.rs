//! Mixed electorates: ours with etcd's Go package `concurrency`, the server's election RPC and `etcdctl elect`.

use std::time::{Duration, Instant};

use tenure::State;

use crate::support::electorate::{Contender, Electorate, LIMIT, Watcher, open, wait_until};
use crate::support::rival::{Make, Rival};

on_each_version! {
    ours_waits_behind_every_make_of_rival
    every_make_of_rival_waits_behind_ours
    a_mixed_queue_leads_in_the_order_in_which_it_stood
    everybody_sees_the_same_leader
    a_rival_that_leaves_while_waiting_lets_ours_through
    a_killed_rival_leads_for_its_time_to_live
    a_killed_rival_that_waited_holds_its_place_for_its_time_to_live
    a_key_that_is_on_no_lease_leads_until_it_is_deleted
    a_go_election_at_the_top_is_reached_by_prefix
    etcdctl_reads_our_keys_in_m3_s_layout
}

/// What rivals call the election: the prefix without its last slash.
fn election(e: &Electorate, name: &str) -> String {
    e.prefix(name).trim_end_matches('/').to_owned()
}

/// Stands, and waits until its key is there.
fn queue(e: &Electorate, make: Make, name: &str, value: &str) -> Rival {
    let before = e.keys(name).len();
    let rival = Rival::stand(e.server, make, &election(e, name), value);
    wait_until("the rival's key is there", || e.keys(name).len() > before);
    rival
}

/// Fault 28.
fn ours_waits_behind_every_make_of_rival(e: &Electorate) {
    let service = e.open();
    for make in Make::ALL {
        let mut rival = queue(e, make, "behind", "rival");
        assert_eq!(rival.wait_elected(), e.keys("behind")[0], "{make:?}");
        let mut ours = Contender::queue(&service, "behind");
        assert_eq!(&*service.leader("behind", LIMIT).unwrap().value, b"rival", "{make:?}");
        ours.expect_nothing();
        rival.resign();
        assert_eq!(ours.expect(State::Leader).sequence, 2, "{make:?}");
        ours.resign();
    }
}

/// Fault 28.
fn every_make_of_rival_waits_behind_ours(e: &Electorate) {
    let service = e.open();
    for make in Make::ALL {
        let mut ours = Contender::lead(&service, "before");
        let mut rival = queue(e, make, "before", "rival");
        ours.expect_nothing();
        let token = ours.campaign.token();
        ours.resign();
        assert_eq!(rival.wait_elected(), e.keys("before")[0], "{make:?}");
        let seen = service.leader("before", LIMIT).unwrap();
        assert_eq!((&*seen.value, seen.token > token), (&b"rival"[..], true), "{make:?}");
        rival.resign();
        e.assert_no_keys();
    }
}

/// Fault 28.
fn a_mixed_queue_leads_in_the_order_in_which_it_stood(e: &Electorate) {
    let services = [e.open(), e.open(), e.open(), e.open()];
    let mut ours = vec![Contender::lead(&services[0], "mixed")];
    let mut rivals = Vec::new();
    for (make, service) in Make::ALL.into_iter().zip(&services[1..]) {
        rivals.push(queue(e, make, "mixed", &format!("{make:?}")));
        ours.push(Contender::queue(service, "mixed"));
    }
    let order = e.keys("mixed");
    for turn in 0..3 {
        ours[turn].resign();
        assert_eq!(rivals[turn].wait_elected(), order[2 * turn + 1]);
        ours[turn + 1].expect_nothing();
        rivals[turn].resign();
        ours[turn + 1].expect(State::Leader);
        assert_eq!(e.keys("mixed"), order[2 * turn + 2..]);
    }
}

/// Fault 28.
fn everybody_sees_the_same_leader(e: &Electorate) {
    let service = e.open();
    let mut watcher = Watcher::observe(&service, "seen");
    let mut onlookers = [Make::Go, Make::Rpc].map(|make| Rival::start(e.server, make, &election(e, "seen"), "", 10));
    onlookers.iter_mut().for_each(|onlooker| onlooker.say("observe"));
    let mut askers = [Make::Go, Make::Rpc].map(|make| Rival::start(e.server, make, &election(e, "seen"), "", 10));
    let mut all_see = |value: &str| {
        watcher.wait_leader(Some(value));
        assert_eq!(&*service.leader("seen", LIMIT).unwrap().value, value.as_bytes());
        askers.iter_mut().for_each(|asker| assert_eq!(asker.leader(), value));
        onlookers.iter().for_each(|onlooker| assert_eq!(onlooker.wait_observed(), value));
    };
    let mut ours = Contender::stand_with(&service, "seen", &[("value", "ours")]);
    ours.wait_elected();
    all_see("ours");
    ours.campaign.proclaim(b"ours, moved", LIMIT).unwrap();
    all_see("ours, moved");
    let rival = queue(e, Make::Go, "seen", "go");
    ours.resign();
    rival.wait_elected();
    all_see("go");
}

fn a_rival_that_leaves_while_waiting_lets_ours_through(e: &Electorate) {
    let services = [e.open(), e.open()];
    let mut leader = Contender::lead(&services[0], "leaves");
    let mut rival = queue(e, Make::Etcdctl, "leaves", "rival");
    let mut ours = Contender::queue(&services[1], "leaves");
    e.revoke(&e.leases("leaves")[1]);
    rival.kill();
    leader.resign();
    ours.expect(State::Leader);
}

/// A lease of 3 s lasts at least this much longer, unless its last renewal was very late.
const HELD: Duration = Duration::from_millis(500);

fn a_killed_rival_leads_for_its_time_to_live(e: &Electorate) {
    let service = e.open();
    let mut pairs = [Make::Go, Make::Rpc].map(|make| {
        let name = format!("killed-{make:?}");
        let mut rival = Rival::start(e.server, make, &election(e, &name), "rival", 3);
        rival.say("campaign");
        rival.wait_elected();
        (rival, Contender::queue(&service, &name))
    });
    let start = Instant::now();
    pairs.iter_mut().for_each(|(rival, _)| rival.kill());
    for (_, ours) in &mut pairs {
        ours.expect(State::Leader);
        assert!(start.elapsed() > HELD, "{:?}", start.elapsed());
    }
}

fn a_killed_rival_that_waited_holds_its_place_for_its_time_to_live(e: &Electorate) {
    let services = [e.open(), e.open()];
    let mut leader = Contender::lead(&services[0], "place");
    let mut rival = Rival::start(e.server, Make::Go, &election(e, "place"), "rival", 3);
    rival.say("campaign");
    wait_until("the rival's key is there", || e.keys("place").len() == 2);
    let mut ours = Contender::queue(&services[1], "place");
    let start = Instant::now();
    rival.kill();
    leader.resign();
    ours.expect(State::Leader);
    assert!(start.elapsed() > HELD, "{:?}", start.elapsed());
}

fn a_key_that_is_on_no_lease_leads_until_it_is_deleted(e: &Electorate) {
    let service = e.open();
    let mut watcher = Watcher::observe(&service, "orphan");
    let key = format!("{}by-hand", e.prefix("orphan"));
    e.put(&key, "for ever");
    let seen = watcher.wait_leader(Some("for ever")).leader.unwrap();
    assert_eq!((seen.lease, service.leader("orphan", LIMIT).unwrap()), (0, seen));
    let mut ours = Contender::queue(&service, "orphan");
    ours.expect_nothing();
    e.delete(&key);
    ours.expect(State::Leader);
    ours.resign();
}

fn a_go_election_at_the_top_is_reached_by_prefix(e: &Electorate) {
    let service = open(e.server, &[("prefix", "/")]);
    let name = format!("jobs-{}", e.service);
    let mut rival = Rival::stand(e.server, Make::Go, &format!("/{name}"), "go");
    let key = rival.wait_elected();
    let seen = service.leader(&name, LIMIT).unwrap();
    assert_eq!((String::from_utf8_lossy(&seen.key), &*seen.value), (key.into(), &b"go"[..]));
    let mut ours = Contender::stand(&service, &name);
    ours.expect(State::Follower);
    wait_until("both stand", || service.candidates(&name, LIMIT).unwrap().len() == 2);
    rival.resign();
    ours.expect(State::Leader);
    ours.resign();
}

fn etcdctl_reads_our_keys_in_m3_s_layout(e: &Electorate) {
    let service = e.open_with(&[("environment", "prod")]);
    let mut leader = Contender::stand_with(&service, "shard-7", &[("value", "10.0.0.7:8000")]);
    leader.wait_elected();
    let lease = format!("{:x}", service.leader("shard-7", LIMIT).unwrap().lease);
    let key = format!("_ld/prod/{}/shard-7/{lease}", e.service);
    assert_eq!(e.server.etcdctl(&["get", "--print-value-only", &key]), "10.0.0.7:8000\n");
    let told = e.server.etcdctl(&["lease", "timetolive", "--keys", &lease]);
    assert!(told.contains("granted with TTL(10s)") && told.contains(&key), "{told}");
}
