//! How soon things happen. The tests print it; `make faults-figures` runs them often and collects what they print.

use std::env;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use tenure::{CampaignOptions, Code, Service, State};

use crate::candidate::{Seen, enter, eventually, next, next_change, options, queue_of};
use crate::stage::{Stage, record};
use crate::support::program::boottime_ns;
use crate::support::{Direction, Server};

const MS: i64 = 1_000_000;
const SECOND: i64 = 1000 * MS;

/// How often each thing is measured: the variable TENURE_FIGURES, or a few times.
pub(crate) fn times() -> usize {
    env::var("TENURE_FIGURES").map_or(3, |times| times.parse().expect("TENURE_FIGURES is a number"))
}

/// Prints the least, the median and the most.
pub(crate) fn report(what: &str, ttl_s: i64, mut ns: Vec<i64>) {
    ns.sort_unstable();
    let [least, median, most] = [ns[0], ns[ns.len() / 2], ns[ns.len() - 1]].map(|ns| ns / MS);
    println!("figures: ttl {ttl_s} s, {what}: n {}, least {least} ms, median {median} ms, most {most} ms", ns.len());
}

struct Pair {
    leader: Receiver<Seen>,
    heir: Receiver<Seen>,
}

fn stand(server: &Server, endpoint: &str, ttl_s: u32, number: usize) -> Receiver<Seen> {
    let service = Arc::new(Service::open(&options(endpoint, ttl_s)).unwrap());
    record().add_service(&service);
    let mut at_risk = CampaignOptions::new();
    at_risk.set("at_risk", "true").unwrap();
    let election = format!("pair-{number}");
    let prefix = format!("_ld/faults/{election}/");
    let before = queue_of(server, &prefix).len();
    let (campaign, events) = enter(&service, &election, &at_risk);
    record().keep(campaign);
    next(&events, State::Follower);
    eventually("it stands", || queue_of(server, &prefix).len() > before);
    events
}

/// Requests of leaders vanish, each a little later than the last one's, so at any point between two renewals.
fn detection(ttl_s: u32) {
    let server = Stage::solo();
    let count = times();
    let proxies: Vec<_> = (0..count).map(|_| record().proxy(&server)).collect();
    let pairs: Vec<Pair> = proxies
        .iter()
        .enumerate()
        .map(|(number, proxy)| {
            let leader = stand(&server, &proxy.endpoint(), ttl_s, number);
            next(&leader, State::Leader);
            Pair { leader, heir: stand(&server, &server.endpoint(), ttl_s, number) }
        })
        .collect();
    let ttl = i64::from(ttl_s) * SECOND;
    let started = boottime_ns();
    let step = ttl / 2 / i64::try_from(count).unwrap();
    let mut cut = Vec::new();
    for (place, proxy) in (0..).zip(&proxies) {
        eventually("its turn", || boottime_ns() >= started + place * step);
        proxy.swallow(Direction::ToServer);
        cut.push(boottime_ns());
    }
    let (mut risks, mut losses, mut margins) = (Vec::new(), Vec::new(), Vec::new());
    for (pair, cut) in pairs.iter().zip(cut) {
        // On a busy machine it may be at risk for a moment at any time.
        let risk = std::iter::from_fn(|| Some(next(&pair.leader, State::Leader)));
        let risk = risk.into_iter().find(|risk| risk.status.at_risk && risk.at > cut).unwrap();
        let loss = next_change(&pair.leader, State::Error);
        assert_eq!(loss.status.reason, Code::SessionExpired);
        let led = next(&pair.heir, State::Leader);
        risks.push(risk.at - cut);
        losses.push(loss.at - cut);
        margins.push(led.at - loss.at);
    }
    let ttl_s = i64::from(ttl_s);
    // Renewals are at most a third of the TTL apart, and each attempt has a sixth of it; the rest is a busy machine.
    assert!(risks.iter().all(|risk| *risk < ttl / 2 + 2 * SECOND), "{risks:?}");
    assert!(losses.iter().all(|loss| *loss < ttl + 2 * SECOND), "{losses:?}");
    assert!(margins.iter().all(|margin| *margin > 0), "another led before the loss was told: {margins:?}");
    report("at risk after its requests vanish", ttl_s, risks);
    report("lost after its requests vanish", ttl_s, losses);
    report("another leads after the loss", ttl_s, margins);
}

/// Fault 10.
#[test]
fn a_leader_is_at_risk_and_lost_in_time_with_a_ttl_of_2_s() {
    detection(2);
}

/// Fault 10.
#[test]
fn a_leader_is_at_risk_and_lost_in_time_with_a_ttl_of_5_s() {
    detection(5);
}

/// Fault 10.
#[test]
fn a_leader_is_at_risk_and_lost_in_time_with_a_ttl_of_10_s() {
    detection(10);
}

/// Faults 1 and 2: an administrator revokes the lease, or deletes the key, of the leader and of the one who waits.
#[test]
fn what_an_administrator_removes_is_told_at_once() {
    let server = Stage::solo();
    let (mut revoked, mut deleted) = (Vec::new(), Vec::new());
    for number in 0..times() {
        let pair = [0, 1].map(|_| stand(&server, &server.endpoint(), 10, number));
        next(&pair[0], State::Leader);
        let keys = crate::support::electorate::keys(&server, &format!("_ld/faults/pair-{number}/"));
        server.etcdctl(&["lease", "revoke", keys[1].rsplit('/').next().unwrap()]);
        let done = boottime_ns();
        revoked.push(loss(&pair[1], Code::LeaseRevoked) - done);
        server.etcdctl(&["del", &keys[0]]);
        let done = boottime_ns();
        deleted.push(loss(&pair[0], Code::KeyDeleted) - done);
    }
    // Most have been told before the administrator's program has ended; the rest is a busy machine.
    assert!(revoked.iter().chain(&deleted).all(|told| *told < 5 * SECOND), "{revoked:?} {deleted:?}");
    report("told after a lease is revoked", 10, revoked);
    report("told after a key is deleted", 10, deleted);
}

fn loss(events: &Receiver<Seen>, reason: Code) -> i64 {
    let loss = next_change(events, State::Error);
    assert_eq!(loss.status.reason, reason);
    loss.at
}
