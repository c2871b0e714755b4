//! One server behind a proxy: answers that are late, lost, or never were.
//!
//! What a test needs to see at the server it asks past the proxy.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tenure::{CampaignOptions, Code, State};

use crate::candidate::{
    Candidate, LIMIT, NOBODY, enter, eventually, next, options, queue, queue_of, renewed, revision,
};
use crate::stage::{Stage, record};
use crate::support::program::boottime_ns;
use crate::support::{Direction, Proxy, Server};

const SECOND: i64 = 1_000_000_000;

struct Site {
    server: Stage<Server>,
    proxy: Arc<Proxy>,
}

fn site() -> Site {
    let server = Stage::solo();
    let proxy = record().proxy(&server);
    Site { server, proxy }
}

/// Fault 4.
#[test]
fn a_resignation_during_the_join_waits_for_the_joins_answer_and_leaves_no_key() {
    let Site { server, proxy } = site();
    let first = Candidate::lead(&proxy.endpoint(), 10);
    proxy.hold(Direction::ToClient);
    let (campaign, events) = enter(&first.service, "other", &CampaignOptions::new());
    next(&events, State::Follower);
    eventually("the key", || queue_of(&server, "_ld/faults/other/").len() == 1);
    assert_eq!(campaign.resign(Duration::from_millis(100)).unwrap_err().code(), Code::Pending);
    proxy.heal();
    campaign.resign(LIMIT).unwrap();
    assert_eq!(queue_of(&server, "_ld/faults/other/"), NOBODY);
    next(&events, State::Follower);
    next(&events, State::Closed);
}

/// Fault 5.
#[test]
fn a_resignation_during_a_join_whose_answer_is_lost_leaves_no_key() {
    let Site { server, proxy } = site();
    let first = Candidate::lead(&proxy.endpoint(), 10);
    proxy.hold(Direction::ToClient);
    let (campaign, events) = enter(&first.service, "other", &CampaignOptions::new());
    eventually("the key", || queue_of(&server, "_ld/faults/other/").len() == 1);
    campaign.abandon();
    proxy.cut();
    proxy.heal();
    campaign.resign(LIMIT).unwrap();
    assert_eq!(queue_of(&server, "_ld/faults/other/"), NOBODY);
    for state in [State::Follower, State::Follower, State::Closed] {
        next(&events, state);
    }
    assert!(first.campaign.is_leader(), "the others on the session go on");
}

/// Fault 5.
#[test]
fn a_join_that_arrives_after_its_candidate_is_gone_leaves_no_key() {
    let Site { server, proxy } = site();
    let ways = [proxy, record().proxy(&server)];
    let mut options = options(&ways.each_ref().map(|way| way.endpoint()).join(","), 10);
    options.set("call_timeout", "1s").unwrap();
    let first = Candidate::stand_with(&options, &[]);
    first.next(State::Leader);
    let used = ways.iter().find(|way| way.connections() > 0).unwrap();
    used.hold(Direction::ToServer);
    let mut late = CampaignOptions::new();
    late.set("value", "the late one").unwrap();
    let (campaign, _events) = enter(&first.service, "other", &late);
    eventually("the join is under way", || used.is_holding("the late one"));
    // Nobody tells the server that the join isn't wanted any more.
    used.swallow(Direction::ToServer);
    campaign.resign(LIMIT).unwrap();
    let gone = revision(&server);
    used.release(Direction::ToServer);
    eventually("the late join", || revision(&server) > gone);
    eventually("its undoing", || revision(&server) >= gone + 2);
    assert_eq!(queue_of(&server, "_ld/faults/other/"), NOBODY);
    assert!(first.campaign.is_leader(), "the others on the session go on");
}

/// Fault 5.
#[test]
fn a_join_whose_answer_is_lost_is_found_to_be_done() {
    let Site { server, proxy } = site();
    let first = Candidate::lead(&proxy.endpoint(), 10);
    proxy.hold(Direction::ToClient);
    let (campaign, events) = enter(&first.service, "other", &CampaignOptions::new());
    next(&events, State::Follower);
    eventually("the key", || queue_of(&server, "_ld/faults/other/").len() == 1);
    proxy.cut();
    proxy.heal();
    let led = next(&events, State::Leader);
    assert_eq!(queue_of(&server, "_ld/faults/other/"), [led.status.token]);
    assert_eq!(campaign.token(), led.status.token);
}

/// Fault 6.
#[test]
fn a_quiet_follower_survives_compactions_and_a_lost_connection() {
    let Site { server, proxy } = site();
    let leader = Candidate::lead(&server.endpoint(), 10);
    let follower = Candidate::stand(&proxy.endpoint(), 10);
    eventually("two candidates", || queue(&server).len() == 2);
    let compact = || {
        for value in ["a", "b", "c"] {
            server.etcdctl(&["put", "elsewhere", value]);
        }
        server.etcdctl(&["compaction", "--physical", &revision(&server).to_string()]);
    };
    compact();
    proxy.refuse();
    proxy.cut();
    compact();
    proxy.heal();
    leader.campaign.resign(LIMIT).unwrap();
    let led = follower.next(State::Leader);
    assert_eq!(queue(&server), [led.status.token]);
}

/// Fault 7.
#[test]
fn resigning_without_etcd_ends_leadership_at_once_and_is_done_when_etcd_is_back() {
    let Site { server, proxy } = site();
    let leader = Candidate::lead(&proxy.endpoint(), 30);
    proxy.refuse();
    proxy.cut();
    let start = Instant::now();
    let refused = leader.campaign.resign(Duration::from_millis(300)).unwrap_err();
    assert_eq!(refused.code(), Code::Pending);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert!(!leader.campaign.is_leader());
    leader.next(State::Follower);
    leader.assert_silent();
    assert_eq!(queue(&server).len(), 1);
    proxy.heal();
    leader.campaign.resign(LIMIT).unwrap();
    assert_eq!(queue(&server), NOBODY);
    leader.assert_closed();
}

/// Fault 7.
#[test]
fn closing_without_etcd_ends_leadership_at_once_and_is_done_when_etcd_is_back() {
    let Site { server, proxy } = site();
    let leader = Candidate::lead(&proxy.endpoint(), 30);
    proxy.refuse();
    proxy.cut();
    assert_eq!(leader.service.close(Duration::from_millis(300)).unwrap_err().code(), Code::Pending);
    assert!(!leader.campaign.is_leader());
    leader.assert_closed();
    assert_eq!(queue(&server).len(), 1);
    proxy.heal();
    leader.service.close(LIMIT).unwrap();
    assert_eq!(queue(&server), NOBODY);
}

/// Fault 7.
#[test]
fn resigning_without_etcd_is_over_with_the_lease_at_the_latest() {
    let Site { server, proxy } = site();
    let leader = Candidate::lead(&proxy.endpoint(), 2);
    proxy.refuse();
    proxy.cut();
    leader.campaign.resign(LIMIT).unwrap();
    leader.next(State::Follower);
    leader.assert_closed();
    eventually("no candidate", || queue(&server).is_empty());
}

/// A leader whose requests or answers vanish is lost at its deadline, before another is elected, and stands behind that
/// one when the network is back.
fn steps_down_before_another_leads(direction: Direction) {
    let Site { server, proxy } = site();
    let cut_off = Candidate::stand_with(&options(&proxy.endpoint(), 2), &[("rejoin", "true")]);
    let first = cut_off.next(State::Leader).status.token;
    let other = Candidate::stand(&server.endpoint(), 2);
    renewed(&cut_off);
    let start = boottime_ns();
    proxy.swallow(direction);
    let loss = cut_off.next_loss(Code::SessionExpired);
    assert!(!cut_off.campaign.is_leader());
    assert!(loss.at > start + SECOND / 2, "lost after {} ns: not the deadline", loss.at - start);
    cut_off.next(State::Follower);
    let led = other.next(State::Leader);
    assert!(led.at > loss.at, "another led {} ns before the loss was told", loss.at - led.at);
    assert!(led.status.token > first);
    proxy.heal();
    proxy.cut();
    eventually("two candidates", || queue(&server).len() == 2);
    other.campaign.resign(LIMIT).unwrap();
    assert!(cut_off.next(State::Leader).status.token > led.status.token);
}

/// Fault 10.
#[test]
fn a_leader_whose_requests_vanish_steps_down_before_another_leads() {
    steps_down_before_another_leads(Direction::ToServer);
}

/// Fault 11.
#[test]
fn a_leader_whose_answers_vanish_steps_down_before_another_leads() {
    steps_down_before_another_leads(Direction::ToClient);
}

/// Fault 12.
#[test]
fn the_deadline_counts_from_the_sending_on_a_slow_network() {
    let Site { server: _server, proxy } = site();
    let candidate = {
        for direction in [Direction::ToServer, Direction::ToClient] {
            proxy.delay(direction, Duration::from_millis(300));
        }
        Candidate::stand(&proxy.endpoint(), 5)
    };
    let stood = boottime_ns();
    let led = candidate.next(State::Leader);
    assert!(led.at > stood + SECOND, "two round trips");
    // The grant was sent before `stood`.
    assert!(led.status.deadline_ns < stood + 5 * SECOND - 5 * SECOND / 100);
    renewed(&candidate);
    candidate.assert_silent();
    candidate.campaign.resign(LIMIT).unwrap();
}

/// Fault 12.
#[test]
fn a_leader_on_a_network_too_slow_to_renew_steps_down_before_another_leads() {
    let Site { server, proxy } = site();
    let slow = Candidate::lead(&proxy.endpoint(), 5);
    let other = Candidate::stand(&server.endpoint(), 5);
    for direction in [Direction::ToServer, Direction::ToClient] {
        proxy.delay(direction, Duration::from_millis(1250));
    }
    let loss = slow.next_loss(Code::SessionExpired);
    assert!(other.next(State::Leader).at > loss.at);
    slow.assert_closed();
}

/// Fault 13.
#[test]
fn a_leader_whose_first_renewal_is_never_answered_steps_down_at_the_end_of_its_lease() {
    let Site { server: _server, proxy } = site();
    let mut options = options(&proxy.endpoint(), 3);
    options.set("dial_timeout", "60s").unwrap();
    options.set("call_timeout", "60s").unwrap();
    let leader = Candidate::stand_with(&options, &[]);
    let led = leader.next(State::Leader);
    proxy.hold(Direction::ToClient);
    let loss = leader.next_loss(Code::SessionExpired);
    let late = loss.at - led.status.deadline_ns;
    assert!(late < 10 * SECOND, "{late} ns after the deadline");
    // A renewal may have been answered before the network failed.
    assert!(late > -SECOND / 10, "{late} ns: before the deadline");
}

#[test]
fn a_leader_without_connection_for_less_than_its_lease_leads_on() {
    let Site { server, proxy } = site();
    let leader = Candidate::stand_with(&options(&proxy.endpoint(), 5), &[("at_risk", "true")]);
    let token = leader.next(State::Leader).status.token;
    proxy.refuse();
    proxy.cut();
    leader.next_risk(true);
    assert!(leader.campaign.is_leader());
    proxy.heal();
    leader.next_risk(false);
    assert_eq!((leader.campaign.token(), queue(&server)), (token, vec![token]));
}
