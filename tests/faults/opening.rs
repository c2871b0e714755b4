//! Opening a service while etcd is away or mute: an error in time, or with `open_offline` a service that waits for it.

use std::time::{Duration, Instant};

use tenure::{Code, Service, State};

use crate::candidate::{Candidate, options};
use crate::stage::{Stage, record};
use crate::support::{Direction, Server};

/// Opening fails within the option `dial_timeout`, give or take what a busy machine takes.
fn assert_unavailable(server: &Server) {
    let mut options = options(&server.endpoint(), 2);
    options.set("dial_timeout", "1s").unwrap();
    let start = Instant::now();
    let error = Service::open(&options).map(drop).unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.message().contains(&server.address()), "{error}");
}

/// A candidate that stands while there is no etcd, and is elected once `back` has brought it.
fn stands_until(server: &Server, back: impl FnOnce()) {
    let mut options = options(&server.endpoint(), 2);
    options.set("dial_timeout", "500ms").unwrap();
    options.set("open_offline", "true").unwrap();
    let candidate = Candidate::stand_with(&options, &[]);
    // Nothing more comes while there is no etcd.
    let early = candidate.campaign.wait_leader(Duration::from_millis(500));
    assert_eq!(early.unwrap_err().code(), Code::Timeout);
    candidate.assert_silent();
    back();
    candidate.next(State::Leader);
}

#[test]
fn opening_without_etcd_fails_in_time_unless_offline_is_allowed() {
    let server = Stage::solo();
    server.kill();
    assert_unavailable(&server);
    stands_until(&server, || server.restart());
}

#[test]
fn opening_on_a_mute_etcd_fails_in_time_unless_offline_is_allowed() {
    let server = Stage::solo();
    server.stop();
    assert_unavailable(&server);
    stands_until(&server, || server.cont());
}

#[test]
fn a_service_opens_past_endpoints_that_are_mute() {
    let server = Stage::solo();
    let mute = [record().proxy(&server), record().proxy(&server)];
    mute.iter().for_each(|proxy| proxy.swallow(Direction::ToClient));
    let endpoints = [mute[0].endpoint(), server.endpoint(), mute[1].endpoint()].join(",");
    let mut options = options(&endpoints, 2);
    options.set("dial_timeout", "3s").unwrap();
    // Which endpoint comes first is by chance.
    for _ in 0..3 {
        drop(Service::open(&options).unwrap());
    }
    Candidate::stand_with(&options, &[]).next(State::Leader);
}
