//! The plain story: standing, waiting, leading, announcing, and what events say of it.

use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use tenure::{Code, State};

use crate::support::electorate::{Contender, Electorate, LIMIT};

on_each_version! {
    a_lone_candidate_leads_and_resigns
    five_candidates_lead_in_the_order_in_which_they_stood
    a_hand_over_tells_each_side_once
    tokens_grow_from_term_to_term
    whoever_leads_leads_alone
    events_name_the_cluster_the_revision_and_the_deadline
    the_deadline_moves_on_while_leading
    a_second_campaign_in_the_same_election_is_refused
    two_elections_of_one_service_share_a_lease_and_nothing_else
    a_proclaimed_value_is_seen_and_the_term_goes_on
    the_last_of_many_proclaimed_values_stays
    only_a_leader_proclaims
    a_candidate_withdraws_when_its_wait_limit_is_over
    a_wait_limit_is_over_once_elected
    a_leader_that_asked_for_at_risk_is_elected_without_it
    a_step_down_margin_comes_off_the_deadline
    a_step_down_margin_above_a_third_of_the_ttl_is_refused
}

fn a_lone_candidate_leads_and_resigns(e: &Electorate) {
    let service = e.open();
    let mut alone = Contender::lead(&service, "story");
    assert!(alone.campaign.is_leader() && alone.campaign.remaining() > Duration::from_secs(1));
    assert_eq!(alone.campaign.state(), State::Leader);
    assert_eq!(e.keys("story").len(), 1);
    alone.resign();
    assert_eq!((alone.campaign.state(), alone.campaign.token()), (State::Closed, 0));
    e.assert_no_keys();
}

fn five_candidates_lead_in_the_order_in_which_they_stood(e: &Electorate) {
    let services: Vec<_> = (0..5).map(|_| e.open()).collect();
    let mut queue: Vec<_> = services.iter().map(|service| Contender::queue(service, "fifo")).collect();
    for place in 0..5 {
        let won = queue[place].expect(State::Leader);
        assert_eq!(won.sequence, 2, "nothing between standing and leading");
        queue[place + 1..].iter().for_each(Contender::expect_nothing);
        let leading = queue.iter().filter(|contender| contender.campaign.is_leader()).count();
        assert_eq!(leading, 1);
        queue[place].resign();
    }
    e.assert_no_keys();
}

fn a_hand_over_tells_each_side_once(e: &Electorate) {
    let (one, other) = (e.open(), e.open());
    let mut first = Contender::lead(&one, "hand-over");
    let mut second = Contender::queue(&other, "hand-over");
    assert!(!second.campaign.is_leader());
    first.resign();
    assert_eq!(second.expect(State::Leader).sequence, 2);
    // Back to the end of the queue, and in turn again.
    let mut first = Contender::queue(&one, "hand-over");
    second.resign();
    first.expect(State::Leader);
}

fn tokens_grow_from_term_to_term(e: &Electorate) {
    let services = [e.open(), e.open()];
    let mut last = 0;
    for term in 0..6 {
        let mut leader = Contender::lead(&services[term % 2], "tokens");
        let token = leader.campaign.token();
        assert!(token > last, "term {term}: {token} after {last}");
        last = token;
        leader.resign();
    }
}

fn whoever_leads_leads_alone(e: &Electorate) {
    // The token of the last term, locked by whoever leads.
    let last = Mutex::new(0);
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let service = e.open();
                for _ in 0..10 {
                    let mut leader = Contender::lead(&service, "alone");
                    let mut last = last.try_lock().expect("nobody else leads");
                    assert!(leader.campaign.is_leader() && leader.campaign.token() > *last);
                    *last = leader.campaign.token();
                    drop(last);
                    leader.resign();
                }
            });
        }
    });
    e.assert_no_keys();
}

fn events_name_the_cluster_the_revision_and_the_deadline(e: &Electorate) {
    let service = e.open();
    let mut contender = Contender::stand_with(&service, "fields", &[("value", "me")]);
    let stood = contender.expect(State::Follower);
    assert_eq!((stood.sequence, stood.token, stood.revision, stood.reason), (1, 0, 0, Code::Ok));
    let won = contender.expect(State::Leader);
    assert_eq!((&*won.election, &*won.value, won.sequence), ("fields", &b"me"[..], 2));
    assert_eq!((won.reason, won.message.as_str(), won.at_risk), (Code::Ok, "", false));
    assert!(won.cluster_id != 0);
    // Alone: the join itself has proved it.
    assert_eq!(won.revision, won.token);
    assert_eq!(contender.campaign.token(), won.token);
    let leader = service.leader("fields", LIMIT).unwrap();
    assert_eq!((leader.token, &*leader.value), (won.token, &b"me"[..]));
    assert_eq!(String::from_utf8_lossy(&leader.key), e.keys("fields")[0]);
    assert_eq!(format!("{:x}", leader.lease), e.leases("fields")[0]);
}

fn the_deadline_moves_on_while_leading(e: &Electorate) {
    let service = e.open_with(&[("ttl", "4s")]);
    let mut leader = Contender::lead(&service, "renewals");
    let token = leader.campaign.token();
    thread::sleep(Duration::from_secs(5));
    assert!(leader.campaign.is_leader() && leader.campaign.remaining() <= Duration::from_secs(4));
    assert_eq!(leader.campaign.token(), token);
    leader.expect_nothing();
    leader.resign();
}

/// Fault 26.
fn a_second_campaign_in_the_same_election_is_refused(e: &Electorate) {
    let service = e.open();
    let mut first = Contender::lead(&service, "double");
    let options = tenure::CampaignOptions::new();
    let refused = Contender::try_stand(&service, "double", &options).err().unwrap();
    assert_eq!(refused.code(), Code::CampaignInProgress);
    assert!(first.campaign.is_leader());
    assert_eq!(e.keys("double").len(), 1);
    first.resign();
    Contender::lead(&service, "double").resign();
}

/// Fault 26.
fn two_elections_of_one_service_share_a_lease_and_nothing_else(e: &Electorate) {
    let service = e.open();
    let mut one = Contender::lead(&service, "one");
    let mut other = Contender::lead(&service, "other");
    assert_eq!(e.leases("one"), e.leases("other"));
    one.resign();
    other.expect_nothing();
    assert!(other.campaign.is_leader());
    assert_eq!(e.keys("other").len(), 1);
    other.resign();
}

fn a_proclaimed_value_is_seen_and_the_term_goes_on(e: &Electorate) {
    let service = e.open();
    let mut leader = Contender::lead(&service, "proclaim");
    let token = leader.campaign.token();
    leader.campaign.proclaim(b"a new address", LIMIT).unwrap();
    let seen = service.leader("proclaim", LIMIT).unwrap();
    assert_eq!((&*seen.value, seen.token), (&b"a new address"[..], token));
    assert_eq!(format!("{:x}", seen.lease), e.leases("proclaim")[0], "still under the lease");
    leader.expect_nothing();
    assert!(leader.campaign.is_leader());
    leader.resign();
}

fn the_last_of_many_proclaimed_values_stays(e: &Electorate) {
    let service = e.open();
    let mut leader = Contender::lead(&service, "proclaims");
    for value in 0..100 {
        leader.campaign.proclaim(format!("value {value}").as_bytes(), LIMIT).unwrap();
    }
    assert_eq!(&*service.leader("proclaims", LIMIT).unwrap().value, b"value 99");
    leader.campaign.resign(LIMIT).unwrap();
    assert_eq!(&*leader.expect(State::Follower).value, b"value 99", "events name the present value");
    leader.expect_closed();
}

fn only_a_leader_proclaims(e: &Electorate) {
    let (one, other) = (e.open(), e.open());
    let mut leader = Contender::lead(&one, "claims");
    let follower = Contender::queue(&other, "claims");
    assert_eq!(follower.campaign.proclaim(b"mine", LIMIT).unwrap_err().code(), Code::NotLeader);
    leader.resign();
    assert_eq!(leader.campaign.proclaim(b"mine", LIMIT).unwrap_err().code(), Code::NotLeader);
}

fn a_candidate_withdraws_when_its_wait_limit_is_over(e: &Electorate) {
    let (one, other) = (e.open(), e.open());
    let leader = Contender::lead(&one, "limit");
    let mut waiting = Contender::stand_with(&other, "limit", &[("wait_limit", "300ms"), ("rejoin", "true")]);
    waiting.expect(State::Follower);
    waiting.expect_loss(Code::WaitLimit);
    assert_eq!(waiting.expect_closed().reason, Code::WaitLimit);
    assert_eq!(e.keys("limit").len(), 1, "the leader's");
    assert_eq!(waiting.campaign.wait_leader(LIMIT).unwrap_err().code(), Code::WaitLimit);
    leader.expect_nothing();
}

fn a_wait_limit_is_over_once_elected(e: &Electorate) {
    let service = e.open();
    let mut leader = Contender::stand_with(&service, "limit", &[("wait_limit", "2s")]);
    leader.wait_elected();
    thread::sleep(Duration::from_millis(2500));
    leader.expect_nothing();
    assert!(leader.campaign.is_leader());
}

fn a_leader_that_asked_for_at_risk_is_elected_without_it(e: &Electorate) {
    let service = e.open();
    let mut leader = Contender::stand_with(&service, "risk", &[("at_risk", "true")]);
    assert!(!leader.wait_elected().at_risk);
    leader.resign();
}

fn a_step_down_margin_comes_off_the_deadline(e: &Electorate) {
    let service = e.open_with(&[("ttl", "6s")]);
    let mut early = Contender::stand_with(&service, "early", &[("step_down_margin", "2s")]);
    early.wait_elected();
    let mut late = Contender::lead(&service, "late");
    // One session, so the margin is what is between them.
    assert!(early.campaign.remaining() <= Duration::from_secs(4));
    let apart = late.campaign.remaining().saturating_sub(early.campaign.remaining());
    assert!(apart > Duration::from_millis(500), "{apart:?}");
    early.resign();
    late.resign();
}

fn a_step_down_margin_above_a_third_of_the_ttl_is_refused(e: &Electorate) {
    let service = e.open_with(&[("ttl", "6s")]);
    let options = crate::support::electorate::campaign_options(&[("step_down_margin", "2001ms")]);
    assert_eq!(Contender::try_stand(&service, "margin", &options).err().unwrap().code(), Code::InvalidValue);
    e.assert_no_keys();
}
