//! Those who only look: `leader`, `candidates`, `observe`.

use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

use tenure::{Code, State};

use crate::support::electorate::{Contender, Electorate, LIMIT, Watcher, lease_list, open, wait_until};
use crate::support::process::{self, Process};
use crate::support::{Port, Server};

on_each_version! {
    an_election_without_candidates_has_no_leader
    the_queue_is_told_in_order
    a_long_queue_is_told_whole_and_leads_in_its_order
    looking_on_needs_no_lease
    an_observer_follows_every_change_of_leader
    an_observer_is_told_of_proclaimed_values
    an_observer_does_not_hear_of_those_who_only_wait
    many_observers_of_one_election_see_the_same
    a_closed_observer_hears_nothing_more
    a_dropped_observer_hears_its_end
    an_observer_outlives_a_restart_of_the_server
    a_leader_outlives_a_restart_of_the_server
    a_reader_has_its_own_time_limit
    whoever_looks_through_etcds_grpc_proxy_is_told_that_it_will_not_do
}

fn an_election_without_candidates_has_no_leader(e: &Electorate) {
    let service = e.open();
    assert_eq!(service.leader("nobody", LIMIT).unwrap_err().code(), Code::NoLeader);
    assert_eq!(service.candidates("nobody", LIMIT).unwrap(), []);
    let mut watcher = Watcher::observe(&service, "nobody");
    let told = watcher.next();
    assert_eq!((told.sequence, told.leader, told.connected, told.closed), (1, None, true, false));
    assert!(told.cluster_id != 0 && told.revision > 0);
    assert_eq!((told.reason, told.message.as_str()), (Code::Ok, ""));
}

fn the_queue_is_told_in_order(e: &Electorate) {
    let services: Vec<_> = (0..4).map(|_| e.open()).collect();
    let values = ["first", "second", "third", "fourth"];
    let mut queue: Vec<_> = services
        .iter()
        .zip(values)
        .map(|(service, value)| Contender::queue_with(service, "order", &[("value", value)]))
        .collect();
    let told = |at: usize| {
        let candidates = services[at].candidates("order", LIMIT).unwrap();
        candidates.iter().map(|c| String::from_utf8(c.value.to_vec()).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(told(3), values);
    queue[1].resign();
    assert_eq!(told(1), ["first", "third", "fourth"]);
    let keys: Vec<_> = services[0].candidates("order", LIMIT).unwrap();
    let keys: Vec<_> = keys.iter().map(|c| String::from_utf8(c.key.to_vec()).unwrap()).collect();
    assert_eq!(keys, e.keys("order"));
}

/// More candidates than are read at once.
fn a_long_queue_is_told_whole_and_leads_in_its_order(e: &Electorate) {
    let services: Vec<_> = (0..70).map(|_| e.open()).collect();
    let mut queue: Vec<_> = services.iter().map(|service| Contender::stand(service, "long")).collect();
    wait_until("all stand", || e.keys("long").len() == 70);
    let told = services[0].candidates("long", LIMIT).unwrap();
    let keys: Vec<_> = told.iter().map(|candidate| String::from_utf8(candidate.key.to_vec()).unwrap()).collect();
    assert_eq!(keys, e.keys("long"));
    for candidate in told {
        assert_eq!(services[9].leader("long", LIMIT).unwrap(), candidate);
        let leading = wait_for_the_leader(&queue);
        assert_eq!(queue[leading].campaign.token(), candidate.token);
        queue.swap_remove(leading).campaign.resign(LIMIT).unwrap();
    }
}

/// The only one of these that leads.
fn wait_for_the_leader(queue: &[Contender]) -> usize {
    let mut leading = Vec::new();
    wait_until("somebody leads", || {
        leading = (0..queue.len()).filter(|&at| queue[at].campaign.is_leader()).collect();
        !leading.is_empty()
    });
    assert_eq!(leading.len(), 1);
    leading[0]
}

fn looking_on_needs_no_lease(e: &Electorate) {
    let server = Server::start(e.server.version());
    let service = open(&server, &[("service", "looking")]);
    let mut watcher = Watcher::observe(&service, "x");
    watcher.next();
    assert_eq!(service.leader("x", LIMIT).unwrap_err().code(), Code::NoLeader);
    assert!(lease_list(&server).is_empty());
    service.close(LIMIT).unwrap();
    watcher.expect_closed();
}

fn an_observer_follows_every_change_of_leader(e: &Electorate) {
    let services = [e.open(), e.open()];
    let onlooker = e.open();
    let mut watcher = Watcher::observe(&onlooker, "change");
    watcher.wait_leader(None);
    for turn in 0..4 {
        let value = format!("turn {turn}");
        let mut leader = Contender::stand_with(&services[turn % 2], "change", &[("value", &value)]);
        let won = leader.wait_elected();
        let told = watcher.next();
        let seen = told.leader.expect("a leader");
        assert_eq!((&*seen.value, seen.token, told.revision), (value.as_bytes(), won.token, won.revision));
        leader.resign();
        assert_eq!(watcher.next().leader, None, "between two leaders there is nobody");
    }
}

fn an_observer_is_told_of_proclaimed_values(e: &Electorate) {
    let (service, onlooker) = (e.open(), e.open());
    let leader = Contender::lead(&service, "news");
    let mut watcher = Watcher::observe(&onlooker, "news");
    let token = watcher.next().leader.unwrap().token;
    for value in ["one", "two", "three"] {
        leader.campaign.proclaim(value.as_bytes(), LIMIT).unwrap();
        assert_eq!(watcher.wait_leader(Some(value)).leader.unwrap().token, token);
    }
}

fn an_observer_does_not_hear_of_those_who_only_wait(e: &Electorate) {
    let (one, other) = (e.open(), e.open());
    let mut leader = Contender::stand_with(&one, "quiet", &[("value", "first")]);
    leader.wait_elected();
    let mut watcher = Watcher::observe(&one, "quiet");
    watcher.wait_leader(Some("first"));
    for _ in 0..3 {
        Contender::queue(&other, "quiet").resign();
    }
    let _heir = Contender::queue_with(&other, "quiet", &[("value", "second")]);
    leader.resign();
    let told = watcher.next();
    assert_eq!((&*told.leader.unwrap().value, told.sequence), (&b"second"[..], 2));
}

fn many_observers_of_one_election_see_the_same(e: &Electorate) {
    let service = e.open();
    let mut watchers: Vec<_> = (0..20).map(|_| Watcher::observe(&service, "many")).collect();
    let mut leader = Contender::stand_with(&service, "many", &[("value", "here")]);
    leader.wait_elected();
    for watcher in &mut watchers {
        watcher.wait_leader(Some("here"));
    }
    service.close(LIMIT).unwrap();
    for watcher in &mut watchers {
        watcher.expect_closed();
    }
}

fn a_closed_observer_hears_nothing_more(e: &Electorate) {
    let service = e.open();
    let mut watcher = Watcher::observe(&service, "closed");
    let mut other = Watcher::observe(&service, "closed");
    watcher.wait_leader(None);
    watcher.observer.close();
    watcher.observer.close();
    assert_eq!(watcher.expect_closed().reason, Code::Ok);
    other.wait_leader(None);
    let _leader = Contender::stand_with(&service, "closed", &[("value", "v")]);
    other.wait_leader(Some("v"));
}

fn a_dropped_observer_hears_its_end(e: &Electorate) {
    let service = e.open();
    let (sender, events) = std::sync::mpsc::channel();
    let told = move |event: &tenure::Event| sender.send(event.clone()).unwrap();
    drop(service.observe("dropped", Some(Box::new(told))).unwrap());
    let events: Vec<_> = events.iter().collect();
    let Some(tenure::Event::Observation(_, last)) = events.last() else { panic!("{events:?}") };
    assert!(last.closed);
}

/// A server of its own, since it is restarted.
fn an_observer_outlives_a_restart_of_the_server(e: &Electorate) {
    let server = Server::start(e.server.version());
    let onlooker = open(&server, &[("service", "s"), ("ttl", "4s")]);
    let mut watcher = Watcher::observe(&onlooker, "restart");
    watcher.wait_leader(None);
    server.kill();
    let cut = watcher.next();
    assert_eq!((cut.connected, cut.closed, cut.leader), (false, false, None));
    assert!(cut.reason != Code::Ok && !cut.message.is_empty());
    server.restart();
    watcher.wait_leader(None);
    let mut leader = Contender::stand_with(&onlooker, "restart", &[("value", "back")]);
    leader.wait_elected();
    watcher.wait_leader(Some("back"));
}

fn a_leader_outlives_a_restart_of_the_server(e: &Electorate) {
    let server = Server::start(e.server.version());
    let (one, other) = (open(&server, &[("service", "s"), ("ttl", "60s")]), open(&server, &[("service", "s")]));
    let mut leader = Contender::lead(&one, "restart");
    let mut heir = Contender::stand(&other, "restart");
    heir.expect(State::Follower);
    wait_until("both stand", || other.candidates("restart", LIMIT).unwrap().len() == 2);
    let token = leader.campaign.token();
    server.restart();
    assert!(leader.campaign.is_leader());
    // The watch is opened again, or this would not be noticed.
    assert_eq!(other.leader("restart", LIMIT).unwrap().token, token);
    leader.resign();
    heir.expect(State::Leader);
}

fn a_reader_has_its_own_time_limit(e: &Electorate) {
    let server = Server::start(e.server.version());
    let service = open(&server, &[("service", "s")]);
    server.stop();
    let start = std::time::Instant::now();
    let mute = service.leader("x", Duration::from_millis(300)).unwrap_err();
    assert!(matches!(mute.code(), Code::Timeout | Code::Unavailable), "{mute:?}");
    assert!(start.elapsed() >= Duration::from_millis(290), "{:?}", start.elapsed());
    server.cont();
    assert_eq!(service.leader("x", LIMIT).unwrap_err().code(), Code::NoLeader);
}

/// It numbers watches itself and knows no signs of life: who waits behind it would do so for ever.
fn whoever_looks_through_etcds_grpc_proxy_is_told_that_it_will_not_do(e: &Electorate) {
    let port = Port::take();
    let mut proxy = process::command(e.server.version().etcd());
    proxy.args(["grpc-proxy", "start", "--endpoints", &e.server.address(), "--listen-addr", &port.address()]);
    proxy.stdout(Stdio::null()).stderr(Stdio::null());
    let _proxy = Process::spawn(proxy);
    wait_until("the proxy listens", || TcpStream::connect(port.address()).is_ok());
    let service = e.open_with(&[("endpoints", &port.address())]);
    let mut watcher = Watcher::observe(&service, "proxied");
    let told = watcher.next();
    assert!(!told.connected && told.reason == Code::Unavailable && told.message.contains("grpc-proxy"), "{told:?}");
}
