//! Addresses: which are understood, and what is made of those where nobody answers.

use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use tenure::{Code, State};

use crate::stage::{Candidate, LIMIT, assert_says, lead, open, refused};
use crate::support::{Folder, Port, Server, Version};

/// An address that takes connections and never says a word.
fn mute() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

#[test]
fn a_dead_or_mute_endpoint_among_others_costs_no_call() {
    let server = Server::builder().start();
    let (dead, (_listener, mute)) = (Port::take(), mute());
    let endpoints = format!("{},{},{mute}", dead.address(), server.address());
    // Each service starts at an endpoint of its own choice.
    thread::scope(|scope| {
        for number in 0..12 {
            let endpoints = &endpoints;
            scope.spawn(move || {
                let service = open(&[("endpoints", endpoints), ("dial_timeout", "6s")]);
                let election = format!("spread-{number}");
                let leader = lead(&service, &election, &[]);
                for _ in 0..20 {
                    service.leader(&election, LIMIT).unwrap();
                }
                leader.campaign.resign(LIMIT).unwrap();
            });
        }
    });
}

#[test]
fn if_no_endpoint_answers_each_is_named_within_the_dial_timeout() {
    let (dead, silent) = (Port::take(), [mute(), mute(), mute(), mute()]);
    let mut endpoints = vec![dead.address()];
    endpoints.extend(silent.iter().map(|(_, address)| address.clone()));
    let started = Instant::now();
    let error = refused(&[("endpoints", &endpoints.join(",")), ("dial_timeout", "3s")]);
    // Three seconds for each would be fifteen.
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert_says(&error, Code::Unavailable, &[&format!("http://{}: Connection refused", dead.address())]);
    for (_, address) in &silent {
        assert_says(&error, Code::Unavailable, &[&format!("http://{address}: not connected within")]);
    }
}

#[test]
fn an_offline_service_joins_when_etcd_comes() {
    let server = Server::builder().start();
    server.kill();
    let service = open(&[("endpoints", &server.address()), ("open_offline", "true"), ("dial_timeout", "500ms")]);
    let candidate = Candidate::stand(&service, "late", &[]);
    candidate.expect(State::Follower);
    let error = service.leader("late", Duration::from_millis(300)).unwrap_err();
    assert_says(&error, Code::Unavailable, &[&server.endpoint()]);
    candidate.expect_silence();
    server.restart();
    candidate.expect(State::Leader);
}

#[test]
fn a_server_is_reached_by_its_unix_socket() {
    let folder = Folder::new();
    let socket = format!("unix://{}:0", folder.path().join("etcd").display());
    // 3.4 takes no path but a relative one.
    let server = Server::builder().version(Version::V37);
    let server = server.argument(format!("--listen-client-urls={socket}")).start();
    let service = open(&[("endpoints", &socket)]);
    lead(&service, "socket", &[]).campaign.resign(LIMIT).unwrap();
    server.kill();
    assert_says(&refused(&[("endpoints", &socket)]), Code::Unavailable, &[&socket]);
}

#[test]
fn a_server_is_reached_by_its_ipv6_address() {
    let port = Port::take();
    let address = format!("[::1]:{}", port.number);
    if TcpListener::bind(&address).is_err() {
        // No IPv6 here: the address must be understood all the same.
        assert_says(&refused(&[("endpoints", &address)]), Code::Unavailable, &[&format!("http://{address}")]);
        return;
    }
    let _server = Server::builder().argument(format!("--listen-client-urls=http://{address}")).start();
    for endpoint in [address.clone(), format!("http://{address}/")] {
        let service = open(&[("endpoints", &endpoint)]);
        lead(&service, "six", &[]).campaign.resign(LIMIT).unwrap();
    }
}
